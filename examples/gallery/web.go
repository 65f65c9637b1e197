package main

import (
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

//go:embed templates/page.html static/style.css
var assets embed.FS

const (
	defaultLimit = 100
	maxLimit     = 1000
	pageImages   = 200
	pageLog      = 60
)

// web is what people see. All of it is other people's data, and hostile.
type web struct {
	db     database
	logger *slog.Logger
	page   *template.Template
}

func newWeb(db database, logger *slog.Logger) *web {
	page := template.Must(template.New("page.html").Funcs(template.FuncMap{
		"clock": func(t time.Time) string { return t.Format(time.TimeOnly) },
		"short": func(id string) string { return id[:min(len(id), 8)] },
	}).ParseFS(assets, "templates/page.html"))
	return &web{db, logger, page}
}

func (s *web) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /static/style.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, assets, "static/style.css")
	})
	mux.HandleFunc("GET /api/v1/images", s.list(func(r *http.Request, limit int) (any, error) {
		return s.db.Images(r.Context(), r.URL.Query().Get("album_id"), limit)
	}))
	mux.HandleFunc("GET /api/v1/deliveries", s.list(func(r *http.Request, limit int) (any, error) {
		return s.db.Deliveries(r.Context(), limit)
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

// An album is a section of the page.
type album struct {
	OrganizationID, AlbumID string
	Images                  []image
}

func (s *web) servePage(w http.ResponseWriter, r *http.Request) {
	images, err := s.db.Images(r.Context(), "", pageImages)
	var data struct {
		Stats      stats
		Albums     []album
		Deliveries []delivery
	}
	if err == nil {
		data.Albums = byAlbum(images)
		data.Deliveries, err = s.db.Deliveries(r.Context(), pageLog)
	}
	if err == nil {
		data.Stats, err = s.db.Stats(r.Context())
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer") // image hosts need not know who looks
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src https: http:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	if err := s.page.Execute(w, data); err != nil {
		s.logger.WarnContext(r.Context(), "writing the page failed", "error", err)
	}
}

// byAlbum keeps the order: the album with the newest image comes first.
func byAlbum(images []image) []album {
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
