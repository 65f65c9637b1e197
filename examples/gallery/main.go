// Gallery is an app as a user of cloudinaryhook would have one: albums of
// organizations, in which images appear as Cloudinary announces them.
//
//	go run ./examples/gallery [-addr 127.0.0.1:8080] [-db gallery.db] [-keep 720h] [-public]
//	go run ./examples/gallery -db postgres://gallery@db.internal/gallery
//
// With neither CLOUDINARY_API_SECRET nor GALLERY_TOKEN_KEY set it is a demo that
// notifies itself. With both it takes what comes from outside, as from
// "cloudinaryhook send" in another terminal with the same two set:
//
//	export CLOUDINARY_API_SECRET=test GALLERY_TOKEN_KEY=$(openssl rand -hex 32)
//	go run ./examples/gallery
//	go run ./cmd/cloudinaryhook send upload
//
// Cloudinary itself signs with the API secret of the product environment. The
// token key is yours: its bytes are used as they are, not decoded, and there must
// be 32 at least.
//
// Completed deliveries are forgotten after -keep; images stay. The page has no
// login, so an address that others can reach needs -public. Several galleries may
// share a Postgres database. Its password is better left to PGPASSWORD or a
// password file than to the URL, which other users of the machine can see.
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
	"strings"
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
	listener, err := net.Listen("tcp", cfg.addr) // first: if it fails, no database is made for nothing
	if err != nil {
		return err
	}
	defer listener.Close()
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
	url := "http://" + listener.Addr().String()
	announce(stdout, cfg, url)

	var background sync.WaitGroup
	defer background.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	background.Go(func() { resume(ctx, processor, db, started) })
	background.Go(func() { prune(ctx, db, cfg.keep, logger) })
	if cfg.demo {
		background.Go(func() { newDemo(url+hookPath, cfg.secrets[0], cfg.tokenKey).run(ctx, logger) })
	}
	background.Go(func() { sample(ctx, monitor, db) })
	return serve(ctx, listener, handler, monitor, logger)
}

// announce says where the gallery is and what to do next. It says none of the
// user's secrets, and of a Postgres URL nothing: there may be a password in it.
func announce(w io.Writer, cfg *config, url string) {
	hook := url + hookPath
	fmt.Fprintf(w, "gallery: %s/\n", url)
	if !cfg.demo {
		db := cfg.db
		if strings.Contains(db, "://") {
			db = "Postgres"
		}
		fmt.Fprintf(w, "gallery: takes notifications at %s, keeps them in %s\n", hook, db)
		fmt.Fprintf(w, "gallery: to send it one, in another terminal with the same %s and %s set:\n\n", secretVariable, keyVariable)
		fmt.Fprintf(w, "go run ./cmd/cloudinaryhook send -url '%s' upload\n\n", hook)
		return
	}
	fmt.Fprintln(w, "gallery: a demo, with secrets of its own: it notifies itself")
	fmt.Fprintf(w, "gallery: after every %d notifications it sends one with a wrong signature, on purpose; the log warns of each\n", strangerEvery)
	if cfg.temporary != "" {
		fmt.Fprintln(w, "gallery: its images are gone when it stops; with -db they stay")
	}
	curl := newDemo(hook, cfg.secrets[0], cfg.tokenKey).curl()
	fmt.Fprintf(w, "gallery: to add one more image yourself, paste this (once; the token lasts 2 h):\n\n%s\n\n", curl)
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
	newWeb(db, monitor, cfg.demo, logger).register(mux)
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
