// Package service helps the example programs to run as services: it has a log
// that sums up repeated failures, health checks, and a graceful shutdown.
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

// ShutdownTimeout is how long Serve waits for current requests. They take at
// most 18 s.
const ShutdownTimeout = 20 * time.Second

var errAddress = errors.New("this machine cannot listen on the address: it needs a host and a port, such as 127.0.0.1:8080")

// A Service answers HTTP behind a load balancer.
type Service struct {
	Logger *slog.Logger

	// Ready returns a nil error if the program can do its work now. Otherwise it
	// returns a fixed text for the answer, and an error for the log. Its ctx ends
	// after a second.
	Ready func(context.Context) (problem string, err error)

	// Drain is how long the program goes on answering after its ctx has ended,
	// while /readyz already answers 503. 0: not at all.
	Drain time.Duration

	// OnShutdown, if it is set, is called when the servers stop taking new
	// connections.
	OnShutdown func()

	stopping atomic.Bool
}

// A Site is an address and the handler for it.
type Site struct {
	Listener net.Listener
	Handler  http.Handler
}

// Listen listens on each address that is not empty. If one fails, it closes the
// others.
func Listen(addrs ...string) (listeners []net.Listener, err error) {
	for _, addr := range addrs {
		if addr == "" {
			continue
		}
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			CloseAll(listeners)
			if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr == nil { // err quotes addr, which may be a database's URL
				err = errAddress
			}
			return nil, err
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// CloseAll closes the listeners of Listen.
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

// serveAlive does not ask a database or a cluster: if these are down,
// restarting the program does not help.
func (s *Service) serveAlive(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("ok\n"))
}

// serveReady answers whether a load balancer should send requests here.
func (s *Service) serveReady(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if s.stopping.Load() {
		http.Error(w, "the program is about to end", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if problem, err := s.Ready(ctx); err != nil {
		if r.Context().Err() == nil { // otherwise the balancer has hung up, and err may be about that
			s.Logger.WarnContext(ctx, "not ready: "+problem, "error", err)
		}
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// Serve answers until ctx ends, and then shuts down in the way that a load
// balancer needs: /readyz answers 503, everything else goes on for the time
// Drain, and only then Serve stops taking new connections. It returns when the
// current requests are finished.
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

// shutDown lets current requests finish: if they were cut off, Cloudinary would
// send the notifications again.
func shutDown(ctx context.Context, servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, ShutdownTimeout)
	defer cancel()
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.Shutdown(ctx))
	}
	return errors.Join(errs...)
}
