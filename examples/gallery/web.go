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

// policy allows only scripts from static/, in case escaping ever fails. Images
// may come from any host: Cloudinary serves them under its customers' names
// too.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: http:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// web serves the pages. All data on them comes from others, so it may be
// hostile.
type web struct {
	db        *database.DB
	processor *cloudinaryhook.Processor
	monitor   *monitor
	logger    *slog.Logger
	templates *template.Template
}

// newWeb makes the pages. In a demo they load no images, because the demo's
// URLs do not exist.
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

// serveStatic serves only the folder static. The mux does not clean "..%2f" in
// a path, so the file system must be limited to this folder.
func serveStatic(w http.ResponseWriter, r *http.Request) {
	static, err := fs.Sub(assets, "static")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeFileFS(w, r, static, r.PathValue("file")) //nolint:gosec // an fs.FS refuses paths outside of it
}

// list answers with JSON, newest first. The parameter limit is a number from 1
// to 1,000; the default is 100. If there may be more, the header Link (RFC
// 8288) has the URL of the next part. New rows do not change that part.
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
		return 0, errors.New("limit must be a number from 1 to 1000")
	}
	return limit, nil
}

func (s *web) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the client is gone
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
	header.Set("Referrer-Policy", "no-referrer") // image hosts need not know the page
	header.Set("Content-Security-Policy", policy)
	if _, err := page.WriteTo(w); err != nil {
		s.logger.WarnContext(r.Context(), "writing a page failed", "error", err)
	}
}
