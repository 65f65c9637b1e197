package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudinaryhook/cloudinaryhook"
)

const (
	hookPath        = "/api/v1/cloudinary"
	secretVariable  = "CLOUDINARY_API_SECRET" //nolint:gosec // a variable's name
	keyVariable     = "CLOUDINARY_TOKEN_KEY"
	maxBody         = 4 << 20
	inFlight        = 4096
	shutdownTimeout = 20 * time.Second // a request in flight has 18 s at most
)

// A receiver authenticates notifications and queues them. It keeps nothing, so
// any number of them run side by side.
type receiver struct {
	addr     string
	secrets  []string
	tokenKey []byte
	cluster  clusterConfig
}

func parseReceiver(args []string, getenv func(string) string, stderr io.Writer) (*receiver, error) {
	r := new(receiver)
	flags := newFlags("receive", stderr)
	flags.StringVar(&r.addr, "addr", "127.0.0.1:8080", "`address` to listen on")
	r.cluster.register(flags)
	if err := parseFlags(flags, args); err != nil {
		return nil, err
	}
	for secret := range strings.SplitSeq(getenv(secretVariable), ",") {
		r.secrets = append(r.secrets, strings.TrimSpace(secret))
	}
	if slices.Contains(r.secrets, "") {
		return nil, fmt.Errorf("%s is not set, or has an empty secret between its commas", secretVariable)
	}
	if r.tokenKey = []byte(getenv(keyVariable)); len(r.tokenKey) < 32 {
		return nil, fmt.Errorf("%s has %d bytes, fewer than 32", keyVariable, len(r.tokenKey))
	}
	return r, nil
}

func (r *receiver) run(ctx context.Context, stdout io.Writer, logger *slog.Logger) error {
	nc, err := connect(r.cluster, "receiver", logger)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := checkPayload(nc.MaxPayload()); err != nil {
		return err
	}
	q, err := newQueue(nc, publishTry, inFlight)
	if err != nil {
		return err
	}
	if err := openStreams(ctx, q.js, r.cluster); err != nil {
		return err
	}
	handler, err := r.handler(q, 0, logger)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "receive: http://%s%s\n", listener.Addr(), hookPath)
	return serve(ctx, listener, newMux(handler, nc.Conn), logger)
}

// handler waits for the queue, within timeout; 0 is the library's own.
func (r *receiver) handler(q cloudinaryhook.Store, timeout time.Duration, logger *slog.Logger) (*cloudinaryhook.Handler, error) {
	return cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: r.secrets},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{r.tokenKey}, Require: []string{"album_id"}},
		Processor: &cloudinaryhook.Processor{Store: q, Deferred: true},
		MaxBody:   maxBody,
		Timeout:   timeout,
		Logger:    logger,
	})
}

// newMux tells a load balancer on /healthz whether this receiver has a node to
// publish to.
func newMux(hook http.Handler, nc *nats.Conn) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("POST "+hookPath, hook)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !nc.IsConnected() {
			http.Error(w, "not connected to the cluster", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// checkPayload refuses a cluster that could not take every body that the handler
// lets in. NATS allows 1 MB unless told otherwise, and as JSON a body is a third
// longer, in base64; the rest is for claims and headers.
func checkPayload(maxPayload int64) error {
	const need = maxBody/3*4 + 256<<10
	if maxPayload < need {
		return fmt.Errorf("%w: max_payload is %d, and a body of %d bytes needs %d; set max_payload: 8MB on every node",
			errTooLarge, maxPayload, maxBody, need)
	}
	return nil
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return fmt.Errorf("requests were cut off: %w", errors.Join(err, server.Close()))
	}
	return nil
}
