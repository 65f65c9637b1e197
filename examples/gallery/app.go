package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

const (
	hookPath        = "/api/v1/cloudinary"
	readyTimeout    = time.Second
	shutdownTimeout = 20 * time.Second // a request in flight has 18 s at most
)

// An app is the hook beside the app's own pages.
type app struct {
	hook, pages http.Handler
	db          *database.DB
	monitor     *monitor
	logger      *slog.Logger
	stopping    atomic.Bool
}

// newApp puts it together. The three parts of cloudinaryhook are two verifiers
// and a processor.
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
	return &app{hook: hook, pages: pages, db: db, monitor: monitor, logger: logger}, nil
}

// localOnly answers under the names that only this machine has. Any web site can
// have its own name lead to 127.0.0.1 (DNS rebinding), and to the browser of
// someone who visits it on this machine the pages would then be that site's own.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) {
			http.Error(w, "These pages answer at localhost and 127.0.0.1 only. With the flag -public they answer at any name.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// handler is what one address serves. The health checks are at each: whoever
// sends notifications, or has the pages, must be able to ask.
func (a *app) handler(hook, pages bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.serveAlive)
	mux.HandleFunc("GET /readyz", a.serveReady)
	if hook {
		mux.Handle(hookPath, a.hook) // every method: the hook says which is right
	}
	if pages {
		mux.Handle("/", a.pages)
	}
	return mux
}

// serveAlive asks nobody: a database that is away is no reason to start the
// program anew.
func (a *app) serveAlive(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("ok\n"))
}

// serveReady says whether notifications should be sent here: the database takes
// writes, and the program is not about to end.
func (a *app) serveReady(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if a.stopping.Load() {
		http.Error(w, "the program is about to end", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := a.db.Ping(ctx); err != nil {
		a.logger.WarnContext(ctx, "not ready: the database takes no writes", "error", err)
		http.Error(w, "the database takes no writes", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// A site is an address and what is served there.
type site struct {
	listener net.Listener
	handler  http.Handler
}

// serve answers until ctx ends, and then does as a load balancer needs it: it is
// not ready, goes on for the time that the balancer takes to notice, and only then
// takes no new connections. It returns when what is in flight has ended.
func (a *app) serve(ctx context.Context, drain time.Duration, sites ...site) error {
	servers := make([]*http.Server, len(sites))
	failed := make(chan error, len(sites))
	for i, s := range sites {
		servers[i] = &http.Server{
			Handler:           s.handler,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      60 * time.Second,
			IdleTimeout:       2 * time.Minute,
			ErrorLog:          slog.NewLogLogger(a.logger.Handler(), slog.LevelWarn),
		}
		servers[i].RegisterOnShutdown(a.monitor.close) // pages that watch would never end
		go func() { failed <- servers[i].Serve(s.listener) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	a.stopping.Store(true)
	a.logger.Info("stopping: not ready any more", "drain", drain)
	select {
	case err := <-failed:
		return err
	case <-time.After(drain):
	}
	return shutDown(servers)
}

// shutDown lets what is in flight end: Cloudinary would try again what is cut off.
func shutDown(servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.Shutdown(ctx))
	}
	return errors.Join(errs...)
}
