package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

//go:embed templates static
var assets embed.FS

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// policy lets nothing run that is not in static/, should escaping ever fail.
// Images may come from anywhere: Cloudinary serves them under its customers' names.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: http:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// web is what people see. All of it is other people's data, and hostile.
type web struct {
	db        *database.DB
	processor *cloudinaryhook.Processor
	monitor   *monitor
	logger    *slog.Logger
	templates *template.Template
}

// newWeb makes the pages. In a demo they load no image: the URLs of what it
// sends lead nowhere, and visitors should not need another host for them.
func newWeb(db *database.DB, processor *cloudinaryhook.Processor, monitor *monitor, demo bool, logger *slog.Logger) *web {
	templates := template.Must(template.New("").Funcs(template.FuncMap{
		"text":     func(s string) string { return visible(cut(s, shortText)) },
		"long":     func(s string) string { return visible(cut(s, longText)) },
		"short":    func(id string) string { return id[:min(len(id), 8)] },
		"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock":    clock,
		"size":     fileSize,
		"draw":     drawPlaceholder,
		"readable": readable,
		"source": func(img database.Image) string {
			if demo {
				return ""
			}
			return img.Source()
		},
	}).ParseFS(assets, "templates/*.html"))
	return &web{db, processor, monitor, logger, templates}
}

func (s *web) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /deliveries/{id}", s.serveDelivery)
	mux.HandleFunc("GET /events", s.serveEvents)
	mux.HandleFunc("GET /static/{file}", serveStatic)
	mux.HandleFunc("GET /rejected", s.serveRejected)
	mux.HandleFunc("POST /deliveries/{id}/reopen", s.reopen)
	mux.HandleFunc("GET /api/v1/images", list(s, func(r *http.Request, after database.Position, limit int) ([]database.Image, error) {
		return s.db.Images(r.Context(), r.URL.Query().Get("album_id"), after, limit)
	}))
	mux.HandleFunc("GET /api/v1/deliveries", list(s, func(r *http.Request, after database.Position, limit int) ([]database.Delivery, error) {
		return s.db.Deliveries(r.Context(), parseFilter(r.URL.Query()), after, limit)
	}))
	mux.HandleFunc("GET /api/v1/stats", func(w http.ResponseWriter, r *http.Request) {
		stats, err := s.db.Stats(r.Context())
		s.answer(w, r, stats, err)
	})
}

// serveStatic knows the folder static alone: "..%2f" in a path is one more
// character of a file's name to the mux, and a way out to whoever opens it.
func serveStatic(w http.ResponseWriter, r *http.Request) {
	static, err := fs.Sub(assets, "static")
	if err != nil {
		panic(err) // it was compiled in
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeFileFS(w, r, static, r.PathValue("file")) //nolint:gosec // an fs.FS has no way out
}

// list answers with JSON, the newest first. The parameter limit is a number from 1
// to 1,000; 100 unless given. If there may be more, the header Link has the URL of
// what follows, as RFC 8288 has it: rows that come meanwhile shift nothing.
func list[T interface{ Position() database.Position }](s *web, rows func(r *http.Request, after database.Position, limit int) ([]T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		limit, err := parseLimit(query.Get("limit"))
		after, err2 := database.ParsePosition(query.Get("after"))
		if err := errors.Join(err, err2); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		all, err := rows(r, after, limit)
		if len(all) == limit {
			query.Set("after", all[limit-1].Position().String())
			w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, query.Encode()))
		}
		s.answer(w, r, all, err)
	}
}

func (s *web) answer(w http.ResponseWriter, r *http.Request, v any, err error) {
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.logger.WarnContext(r.Context(), "writing an answer failed", "error", err)
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
	if r.Context().Err() != nil {
		return // nobody waits for the answer any more
	}
	s.logger.ErrorContext(r.Context(), "reading the database failed", "path", r.URL.Path, "error", err)
	http.Error(w, "reading the database failed", http.StatusInternalServerError)
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
	header.Set("Content-Security-Policy", policy)
	if _, err := page.WriteTo(w); err != nil {
		s.logger.WarnContext(r.Context(), "writing a page failed", "error", err)
	}
}
