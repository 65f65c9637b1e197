// Gallery is an app as a user of cloudinaryhook would have one: albums of
// organizations, in which images appear as Cloudinary announces them.
//
//	go run ./examples/gallery [-addr 127.0.0.1:8080] [-db gallery.db]
//	go run ./examples/gallery -db postgres://gallery@db.internal/gallery
//
// Several galleries may share a Postgres database. Its password is better left to
// PGPASSWORD or a password file than to the URL, which other users of the machine
// can see.
//
// With CLOUDINARY_API_SECRET and GALLERY_TOKEN_KEY set it receives real
// notifications; with neither it runs a demo that notifies itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

const (
	hookPath        = "/api/v1/cloudinary"
	resumeEvery     = time.Minute
	pruneEvery      = time.Hour
	sampleEvery     = 5 * time.Second
	shutdownTimeout = 20 * time.Second // a request in flight has 18 s at most
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for what is in flight
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "gallery:", err)
		os.Exit(1)
	}
}

// run is the whole program. It returns when ctx is done and what was in flight
// has ended.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (err error) {
	cfg, err := parseConfig(args, getenv, stderr)
	if err != nil {
		return err
	}
	defer cfg.cleanUp()
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	db, err := database.Open(ctx, cfg.db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	processor := &cloudinaryhook.Processor{Store: db, Images: db, Logger: logger}
	monitor := newMonitor()
	defer monitor.close()
	handler, err := newHandler(cfg, db, processor, monitor, logger)
	if err != nil {
		return err
	}
	started := time.Now() // what comes later is a request's, and not left over
	listener, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	fmt.Fprintf(stdout, "gallery: %s/\n", url)

	var background sync.WaitGroup
	defer background.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	background.Go(func() { resume(ctx, processor, db, started) })
	background.Go(func() { prune(ctx, db, cfg.keep, logger) })
	if cfg.demo {
		d := newDemo(url+hookPath, cfg.secrets[0], cfg.tokenKey)
		fmt.Fprintf(stdout, "gallery: a demo, with secrets of its own; one more image:\n\n%s\n\n", d.curl())
		background.Go(func() { d.run(ctx, logger) })
	}
	background.Go(func() { sample(ctx, monitor, db) })
	return serve(ctx, listener, handler, monitor, logger)
}

// newHandler mounts the hook beside the app's own pages. The three parts of
// cloudinaryhook are two verifiers and a processor.
func newHandler(cfg *config, db database.DB, processor *cloudinaryhook.Processor, monitor *monitor, logger *slog.Logger) (*http.ServeMux, error) {
	hook, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: cfg.secrets},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{cfg.tokenKey}, Require: []string{"album_id"}},
		Processor: processor,
		Logger:    logger,
		Observe:   monitor.observe,
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST "+hookPath, hook)
	mux.Handle("GET /metrics", monitor.metrics.handler(db))
	newWeb(db, monitor, logger).register(mux)
	return mux, nil
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler, monitor *monitor, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(monitor.close) // pages that watch would never end
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Cloudinary would try again what is cut off; better to let it end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return server.Shutdown(ctx)
}

// resume does what a crash or a failure left undone: at once all that came
// before this start, and then every minute what is older than one, which no
// request can still be at work on. The processor logs what fails.
func resume(ctx context.Context, processor *cloudinaryhook.Processor, db database.DB, started time.Time) {
	_ = processor.Resume(ctx, db.Pending(ctx, started))
	every(ctx, resumeEvery, func() {
		_ = processor.Resume(ctx, db.Pending(ctx, time.Now().Add(-resumeEvery)))
	})
}

// sample has the page notice what came of no request: work that was resumed.
func sample(ctx context.Context, monitor *monitor, db database.DB) {
	every(ctx, sampleEvery, func() {
		if s, err := db.Stats(ctx); err == nil {
			monitor.sample(s)
		}
	})
}

func prune(ctx context.Context, db database.DB, keep time.Duration, logger *slog.Logger) {
	once := func() {
		if n, err := db.Prune(ctx, time.Now().Add(-keep)); err != nil && ctx.Err() == nil {
			logger.ErrorContext(ctx, "pruning failed", "error", err)
		} else if n > 0 {
			logger.InfoContext(ctx, "pruned completed deliveries", "count", n)
		}
	}
	once()
	every(ctx, pruneEvery, once)
}

func every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}
