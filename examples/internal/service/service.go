// Package service has what the example programs need to run as services: a log
// that sums up repeated failures, health checks, and an end in steps.
package service

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const readyTimeout = time.Second

// ShutdownTimeout is how long Serve waits for requests in flight; they have 18 s
// at most.
const ShutdownTimeout = 20 * time.Second

// A Service answers HTTP behind a load balancer.
type Service struct {
	Logger *slog.Logger

	// Ready says in a fixed text what keeps the program from its work now, and
	// the error behind it, which is logged. It has a second.
	Ready func(context.Context) (problem string, err error)

	// Drain is how long the program answers as before after it was told to end,
	// while it already says that it is not ready.
	Drain time.Duration

	// OnShutdown is called when no new connections are taken. Nil: nothing is.
	OnShutdown func()

	stopping atomic.Bool
}

// A Site is an address and what is served there.
type Site struct {
	Listener net.Listener
	Handler  http.Handler
}

// Listen listens on each address that is not empty.
func Listen(addrs ...string) (listeners []net.Listener, err error) {
	for _, addr := range addrs {
		if addr == "" {
			continue
		}
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			CloseAll(listeners)
			return nil, err
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// CloseAll closes what Listen has opened.
func CloseAll(listeners []net.Listener) {
	for _, listener := range listeners {
		_ = listener.Close()
	}
}

// RegisterHealth adds the health checks, /healthz and /readyz.
func (s *Service) RegisterHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", s.serveAlive)
	mux.HandleFunc("GET /readyz", s.serveReady)
}

// serveAlive asks nobody: a database or a cluster that is away is no reason to
// start the program again.
func (s *Service) serveAlive(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("ok\n"))
}

// serveReady says whether work should be sent here.
func (s *Service) serveReady(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if s.stopping.Load() {
		http.Error(w, "the program is about to end", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if problem, err := s.Ready(ctx); err != nil {
		s.Logger.WarnContext(ctx, "not ready: "+problem, "error", err)
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// Serve answers until ctx ends, and then does as a load balancer needs it: it is
// not ready, goes on for the time that the balancer takes to notice, and only then
// takes no new connections. It returns when what is in flight has ended.
func (s *Service) Serve(ctx context.Context, sites ...Site) error {
	servers := make([]*http.Server, len(sites))
	failed := make(chan error, len(sites))
	for i, site := range sites {
		servers[i] = &http.Server{
			Handler:           site.Handler,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      60 * time.Second,
			IdleTimeout:       2 * time.Minute,
			ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn),
		}
		if s.OnShutdown != nil {
			servers[i].RegisterOnShutdown(s.OnShutdown)
		}
		go func() { failed <- servers[i].Serve(site.Listener) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	s.Logger.Info("stopping: not ready any more", "drain", s.Drain)
	select {
	case err := <-failed:
		return err
	case <-time.After(s.Drain):
	}
	return shutDown(context.WithoutCancel(ctx), servers)
}

// shutDown lets what is in flight end: Cloudinary would try again what is cut off.
func shutDown(ctx context.Context, servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, ShutdownTimeout)
	defer cancel()
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.Shutdown(ctx))
	}
	return errors.Join(errs...)
}
