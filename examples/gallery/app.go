package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
)

const hookPath = "/api/v1/cloudinary"

// An app has the hook and the app's own pages.
type app struct {
	hook, pages http.Handler
	service     *service.Service
}

// newApp makes the app. cloudinaryhook has three parts: two verifiers and a
// processor.
func newApp(cfg *config, db *database.DB, processor *cloudinaryhook.Processor, monitor *monitor, logger *slog.Logger) (*app, error) {
	hook, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: cfg.secrets},
		Token:     &cloudinaryhook.TokenVerifier{Keys: cfg.keys, Require: []string{"album_id"}},
		Processor: processor,
		Logger:    logger,
		Observe:   monitor.observe,
	})
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", secretVariable, keyVariable, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", monitor.metrics.handler(db))
	newWeb(db, processor, monitor, cfg.demo, logger).register(mux)
	pages := http.NewCrossOriginProtection().Handler(mux)
	if !cfg.public {
		pages = localOnly(pages)
	}
	return &app{hook: hook, pages: pages, service: &service.Service{
		Logger: logger,
		Ready: func(ctx context.Context) (problem string, err error) {
			return "the database takes no writes", db.Ping(ctx)
		},
		Drain:      cfg.drain,
		OnShutdown: monitor.close, // the requests of pages that watch would never end
	}}, nil
}

// localOnly answers only if the request's Host is a name of this machine. A web
// site can make its own name point to 127.0.0.1 (DNS rebinding). If somebody
// visits that site on this machine, the browser would let the site read these
// pages.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) {
			http.Error(w, "These pages answer only at localhost and 127.0.0.1. With the flag -public they answer at any name.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// handler returns the handler for one address. Each address has the health
// checks, because each may be behind a load balancer.
func (a *app) handler(hook, pages bool) http.Handler {
	mux := http.NewServeMux()
	a.service.RegisterHealth(mux)
	if hook {
		mux.Handle(hookPath, a.hook) // every method: the hook answers 405 to wrong ones
	}
	if pages {
		mux.Handle("/", a.pages)
	}
	return mux
}
