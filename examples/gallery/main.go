// Gallery is an example of an app that uses cloudinaryhook. It has albums of
// organizations, and an image appears when Cloudinary announces it.
//
//	go run ./examples/gallery [-addr 127.0.0.1:8080] [-db gallery.db] [-keep 720h]
//	go run ./examples/gallery -addr :8080 -admin 127.0.0.1:9090 -db postgres://gallery@db.internal/gallery
//
// If neither CLOUDINARY_API_SECRET nor CLOUDINARYHOOK_TOKEN_KEY is set, it is a
// demo that notifies itself. If both are set, it receives notifications from
// outside, for example from "cloudinaryhook send" in another terminal with the
// same two set:
//
//	export CLOUDINARY_API_SECRET=test CLOUDINARYHOOK_TOKEN_KEY=$(openssl rand -hex 32)
//	go run ./examples/gallery
//	go run ./cmd/cloudinaryhook send upload
//
// Cloudinary itself signs with the API secret of the product environment. The
// token key is yours. The gallery does not decode it, and it must have at least
// 32 bytes.
//
// Completed deliveries are deleted after -keep; images stay. The pages have no
// login. With -admin they have an address of their own. Without -public they
// answer only requests from this machine. Several galleries may share a
// Postgres database. Give its password in PGPASSWORD or a password file,
// because other users of the machine can see the URL.
//
// docs/operations.md says how to run it: health checks, stopping, logs, alerts,
// backups.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
)

const (
	resumeEvery = time.Minute
	pruneEvery  = time.Hour
	sampleEvery = 5 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for current requests
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "gallery:", err)
		os.Exit(1)
	}
}

// run is the whole program. It returns when ctx has ended and the current
// requests are finished.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (err error) {
	cfg, err := parseConfig(args, getenv, stderr)
	if err != nil {
		return err
	}
	defer cfg.cleanUp()
	logger, stop := cfg.log.Open(ctx, stderr, causeOf)
	defer stop()
	listeners, err := service.Listen(cfg.addr, cfg.admin) // before the database, so that none is created if this fails
	if err != nil {
		return err
	}
	defer service.CloseAll(listeners)
	db, err := database.Open(ctx, cfg.db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	processor := &cloudinaryhook.Processor{Store: db, Images: db, GiveUpAfter: cfg.giveUp, Logger: logger}
	monitor := newMonitor()
	defer monitor.close()
	app, err := newApp(cfg, db, processor, monitor, logger)
	if err != nil {
		return err
	}
	hook, pages := listeners[0].Addr().String(), listeners[len(listeners)-1].Addr().String()
	announce(stdout, cfg, "http://"+hook, "http://"+pages)

	var background sync.WaitGroup
	defer background.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	background.Go(func() { resume(ctx, processor, db, monitor, logger) })
	background.Go(func() { prune(ctx, db, cfg.keep, monitor, logger) })
	background.Go(func() { sample(ctx, monitor, db) })
	if cfg.demo {
		background.Go(func() { newDemo("http://"+hook+hookPath, cfg.secrets[0], cfg.keys[0]).run(ctx, logger) })
	}
	if len(listeners) == 1 {
		return app.service.Serve(ctx, service.Site{Listener: listeners[0], Handler: app.handler(true, true)})
	}
	return app.service.Serve(ctx,
		service.Site{Listener: listeners[0], Handler: app.handler(true, false)},
		service.Site{Listener: listeners[1], Handler: app.handler(false, true)})
}

// announce prints the gallery's address and what to do next. It prints none of
// the user's secrets, and no part of a Postgres URL, because that may hold a
// password.
func announce(w io.Writer, cfg *config, url, pages string) {
	hook := url + hookPath
	fmt.Fprintf(w, "gallery: %s/\n", pages)
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
	fmt.Fprintln(w, "gallery: this is a demo with secrets of its own: it sends notifications to itself")
	fmt.Fprintf(w, "gallery: after every %d notifications it sends one with a wrong signature, on purpose; the log warns of each\n", strangerEvery)
	if cfg.temporary != "" {
		fmt.Fprintln(w, "gallery: its images are deleted when it stops; with -demo and -db they stay")
	}
	curl := newDemo(hook, cfg.secrets[0], cfg.keys[0]).curl()
	fmt.Fprintf(w, "gallery: to add one more image yourself, paste this (once; the token lasts 2 h):\n\n%s\n\n", curl)
}

// resume processes the deliveries that a crash or a failure left pending. It
// leaves those of the last minute, because a request may still work on them,
// here or in another gallery.
func resume(ctx context.Context, processor *cloudinaryhook.Processor, db *database.DB, monitor *monitor, logger *slog.Logger) {
	_ = processor.ResumeEvery(ctx, resumeEvery, func(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
		return func(yield func(*cloudinaryhook.Delivery, error) bool) {
			n := 0
			defer func() {
				if n > 0 {
					logger.InfoContext(ctx, "resumed pending deliveries", "deliveries", n)
				}
			}()
			for d, err := range db.Pending(ctx, before) {
				if err == nil {
					n++
					monitor.metrics.resumed.Inc()
				}
				if !yield(d, err) {
					return
				}
			}
		}
	})
}

// sample tells the pages about changes without a request, such as resumed work.
func sample(ctx context.Context, monitor *monitor, db *database.DB) {
	service.Every(ctx, sampleEvery, func() {
		if s, err := db.Stats(ctx); err == nil {
			monitor.sample(s)
		}
	})
}

func prune(ctx context.Context, db *database.DB, keep time.Duration, monitor *monitor, logger *slog.Logger) {
	once := func() {
		n, err := db.Prune(ctx, time.Now().Add(-keep))
		monitor.metrics.pruned.Add(float64(n))
		if err != nil && ctx.Err() == nil {
			logger.ErrorContext(ctx, "pruning failed", "error", err)
		}
		if n > 0 {
			logger.InfoContext(ctx, "pruned completed deliveries", "count", n)
		}
	}
	once()
	service.Every(ctx, pruneEvery, once)
}
