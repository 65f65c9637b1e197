package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

//go:embed templates static
var assets embed.FS

const (
	defaultLimit = 100
	maxLimit     = 1000
	pageImages   = 200
	pageLog      = 60
)

// web is what people see. All of it is other people's data, and hostile.
type web struct {
	db        database.DB
	monitor   *monitor
	logger    *slog.Logger
	templates *template.Template
}

func newWeb(db database.DB, monitor *monitor, logger *slog.Logger) *web {
	templates := template.Must(template.New("").Funcs(template.FuncMap{
		"clock": func(t time.Time) string { return t.Format(time.TimeOnly) },
		"iso":   func(t time.Time) string { return t.Format(time.RFC3339) },
		"short": func(id string) string { return id[:min(len(id), 8)] },
	}).ParseFS(assets, "templates/*.html"))
	return &web{db, monitor, logger, templates}
}

func (s *web) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /deliveries/{id}", s.serveDelivery)
	mux.HandleFunc("GET /events", s.serveEvents)
	mux.Handle("GET /static/", http.FileServerFS(assets))
	mux.HandleFunc("GET /api/v1/images", s.list(func(r *http.Request, limit int) (any, error) {
		return s.db.Images(r.Context(), r.URL.Query().Get("album_id"), limit)
	}))
	mux.HandleFunc("GET /api/v1/deliveries", s.list(func(r *http.Request, limit int) (any, error) {
		return s.db.Deliveries(r.Context(), database.Filter{}, limit)
	}))
	mux.HandleFunc("GET /api/v1/stats", s.list(func(r *http.Request, _ int) (any, error) {
		return s.db.Stats(r.Context())
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.db.Stats(r.Context()); err != nil {
			s.fail(w, r, err)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
}

// list answers with JSON. The parameter limit is a number from 1 to 1,000; 100
// unless given.
func (s *web) list(rows func(r *http.Request, limit int) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		limit, err := parseLimit(r.URL.Query().Get("limit"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		all, err := rows(r, limit)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := json.NewEncoder(w).Encode(all); err != nil {
			s.logger.WarnContext(r.Context(), "writing an answer failed", "error", err)
		}
	}
}

func parseLimit(text string) (int, error) {
	if text == "" {
		return defaultLimit, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxLimit {
		return 0, errors.New("limit is a number from 1 to 1000")
	}
	return limit, nil
}

func (s *web) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.logger.ErrorContext(r.Context(), "reading the database failed", "path", r.URL.Path, "error", err)
	http.Error(w, "reading the database failed", http.StatusInternalServerError)
}

// pageData is what templates/page.html shows.
type pageData struct {
	Only       database.Filter
	AlbumNames []string
	TypeNames  []string
	Stats      database.Stats
	Albums     []album
	Deliveries []logEntry
	Failures   []failure
	Hour       drawing
}

// An album is a section of the page.
type album struct {
	OrganizationID, AlbumID string
	Images                  []database.Image
}

// A logEntry is a delivery and what is known of its last request.
type logEntry struct {
	database.Delivery
	Took string // how long, or ""
	Why  string // it is pending, or was rejected
}

func (s *web) servePage(w http.ResponseWriter, r *http.Request) {
	data, err := s.pageData(r.Context(), database.Filter{AlbumID: r.URL.Query().Get("album_id"), Type: r.URL.Query().Get("type")})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, "page.html", data)
}

func (s *web) pageData(ctx context.Context, only database.Filter) (data pageData, err error) {
	data.Only, data.Failures, data.Hour = only, s.monitor.failures(), draw(s.monitor.lastHour())
	if data.Stats, err = s.db.Stats(ctx); err != nil {
		return data, err
	}
	if data.AlbumNames, err = s.db.Albums(ctx); err != nil {
		return data, err
	}
	if data.TypeNames, err = s.db.Types(ctx); err != nil {
		return data, err
	}
	images, err := s.db.Images(ctx, only.AlbumID, pageImages)
	if err != nil {
		return data, err
	}
	data.Albums = byAlbum(images)
	deliveries, err := s.db.Deliveries(ctx, only, pageLog)
	for _, d := range deliveries {
		data.Deliveries = append(data.Deliveries, s.logEntry(d))
	}
	return data, err
}

func (s *web) logEntry(d database.Delivery) logEntry {
	entry := logEntry{Delivery: d, Why: d.Cause}
	if last, ok := s.monitor.outcome(d.ID); ok {
		entry.Took = last.Duration.Round(100 * time.Microsecond).String()
		if d.State == "pending" {
			entry.Why = last.Err
		}
	}
	return entry
}

// serveDelivery shows one delivery with its claims and its body.
func (s *web) serveDelivery(w http.ResponseWriter, r *http.Request) {
	row, whole, err := s.db.Delivery(r.Context(), r.PathValue("id"))
	if errors.Is(err, database.ErrNotFound) {
		http.NotFound(w, r)
		return
	}
	var claims json.RawMessage
	if err == nil {
		err = whole.Claims.Decode(&claims)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, "delivery.html", struct {
		logEntry
		Claims, Body string
	}{s.logEntry(row), readable(claims), readable(whole.Body)})
}

var tokens = regexp.MustCompile(`(?i)(token(?:=|%3d|\\u003d))[^"&\s\\]*`)

// readable indents JSON, and masks the tokens in it: a notification_url is a
// credential, and whoever sees this page must not get it.
func readable(data []byte) string {
	var indented bytes.Buffer
	if err := json.Indent(&indented, data, "", "  "); err != nil {
		indented.Reset()
		indented.Write(data)
	}
	return tokens.ReplaceAllString(indented.String(), "${1}•••")
}

func (s *web) render(w http.ResponseWriter, r *http.Request, name string, data any) {
	var page bytes.Buffer
	if err := s.templates.ExecuteTemplate(&page, name, data); err != nil {
		s.fail(w, r, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer") // image hosts need not know who looks
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src https: http:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	if _, err := page.WriteTo(w); err != nil {
		s.logger.WarnContext(r.Context(), "writing a page failed", "error", err)
	}
}

// A drawing is the last hour as an SVG of 240 by 48, a bar a minute.
type drawing struct {
	Bars                       []bar
	Accepted, Refused, Pending int64 // sums; of pending, the most
}

type bar struct {
	X, AcceptedY, AcceptedHeight, RefusedY, RefusedHeight, PendingY float64
	Pending                                                         bool
}

func draw(hour []minute) (d drawing) {
	const height, step = 48.0, 4.0
	most := int64(1)
	for _, m := range hour {
		most = max(most, m.Accepted+m.Refused, m.Pending)
		d.Accepted, d.Refused, d.Pending = d.Accepted+m.Accepted, d.Refused+m.Refused, max(d.Pending, m.Pending)
	}
	scale := height / float64(most)
	for i, m := range hour {
		accepted, refused := float64(m.Accepted)*scale, float64(m.Refused)*scale
		d.Bars = append(d.Bars, bar{
			X: float64(i) * step, AcceptedY: height - accepted, AcceptedHeight: accepted,
			RefusedY: height - accepted - refused, RefusedHeight: refused,
			PendingY: height - float64(m.Pending)*scale, Pending: m.Pending > 0,
		})
	}
	return d
}

// byAlbum keeps the order: the album with the newest image comes first.
func byAlbum(images []database.Image) []album {
	type name struct{ organization, album string }
	index := make(map[name]int)
	var albums []album
	for _, img := range images {
		n := name{img.OrganizationID, img.AlbumID}
		i, ok := index[n]
		if !ok {
			i = len(albums)
			index[n] = i
			albums = append(albums, album{OrganizationID: n.organization, AlbumID: n.album})
		}
		albums[i].Images = append(albums[i].Images, img)
	}
	return albums
}
