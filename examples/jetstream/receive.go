package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

const (
	hookPath = "/api/v1/cloudinary"
	maxBody  = 4 << 20
	inFlight = 4096

	// In JSON a body is base64, a third longer. The rest is for claims and
	// headers.
	largestMessage = maxBody/3*4 + 256<<10
)

// A receiver authenticates notifications and queues them. It keeps nothing, so
// any number of receivers can run at the same time.
type receiver struct {
	addr    string
	admin   string // address of /metrics; "": it is at addr
	drain   time.Duration
	secrets []string
	keys    [][]byte
	cluster clusterConfig
	log     service.Log
}

func parseReceiver(args []string, getenv func(string) string, stderr io.Writer) (*receiver, error) {
	r := new(receiver)
	flags := newFlags("receive")
	flags.StringVar(&r.addr, "addr", "127.0.0.1:8080", "`address` to listen on")
	flags.StringVar(&r.admin, "admin", "", "`address` for /metrics; -addr then has only the hook and the health checks")
	flags.DurationVar(&r.drain, "drain", 0, "how long to go on answering after SIGTERM, while /readyz already answers 503; give a load balancer time to notice")
	r.log.Register(flags)
	r.cluster.register(flags)
	if err := parseFlags(flags, args, stderr); err != nil {
		return nil, err
	}
	if r.drain < 0 {
		return nil, errors.New("-drain cannot be negative")
	}
	if err := r.cluster.check(); err != nil {
		return nil, err
	}
	return r, r.readSecrets(getenv)
}

func (r *receiver) readSecrets(getenv func(string) string) (err error) {
	if r.secrets, err = secrets.Required(getenv, secrets.APISecret); err != nil {
		return err
	}
	if r.keys, err = secrets.Keys(getenv); err != nil {
		return err
	}
	_, err = r.handler(new(queue), 0, nil, nil) // refuses invalid secrets and keys
	return err
}

func (r *receiver) run(ctx context.Context, stdout, stderr io.Writer) error {
	logger, stop := r.log.Open(ctx, stderr, causeOf)
	defer stop()
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
	if _, err := r.cluster.open(ctx, q.js); err != nil {
		return err
	}
	listeners, err := service.Listen(r.addr, r.admin)
	if err != nil {
		return err
	}
	defer service.CloseAll(listeners)
	w := newWatcher(nc, q.js, r.cluster, logger)
	numbers := newMetrics(w)
	handler, err := r.handler(q, 0, numbers.receiver(), logger)
	if err != nil {
		return err
	}
	program := &service.Service{Logger: logger, Drain: r.drain, Ready: func(context.Context) (problem string, err error) {
		return notReady, cmp.Or(w.state().err, q.ready())
	}}
	fmt.Fprintf(stdout, "receive: http://%s%s\n", listeners[0].Addr(), hookPath)
	defer w.start(ctx)()
	public := newMux(program, handler)
	sites := []service.Site{{Listener: listeners[0], Handler: public}}
	admin := public
	if r.admin != "" {
		admin = newMux(program, nil)
		sites = append(sites, service.Site{Listener: listeners[1], Handler: admin})
		fmt.Fprintf(stdout, "receive: http://%s/metrics\n", listeners[1].Addr())
	}
	admin.Handle("GET /metrics", numbers.handler())
	return program.Serve(ctx, sites...)
}

// handler returns the hook. timeout is Config.Timeout; 0 means the library's
// default.
func (r *receiver) handler(q cloudinaryhook.Store, timeout time.Duration, count func(context.Context, cloudinaryhook.Outcome), logger *slog.Logger) (*cloudinaryhook.Handler, error) {
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: r.secrets},
		Token:     &cloudinaryhook.TokenVerifier{Keys: r.keys, Require: []string{"album_id"}},
		Processor: &cloudinaryhook.Processor{Store: q, Deferred: true},
		MaxBody:   maxBody,
		Timeout:   timeout,
		Logger:    logger,
		Observe:   count,
	})
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", secrets.APISecret, secrets.TokenKey, err)
	}
	return handler, nil
}

// newMux returns a mux with the health checks, and with the hook if it is not
// nil.
func newMux(program *service.Service, hook http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	program.RegisterHealth(mux)
	if hook != nil {
		mux.Handle(hookPath, hook) // every method: the hook answers 405 to wrong ones
	}
	return mux
}

// checkPayload refuses a cluster whose max_payload is too small for the bodies
// that the handler accepts. NATS's default is 1 MB.
func checkPayload(maxPayload int64) error {
	if maxPayload < largestMessage {
		return fmt.Errorf("%w: max_payload is %d, and a body of %d bytes needs %d; set max_payload: 8MB on every node",
			errTooLarge, maxPayload, maxBody, largestMessage)
	}
	return nil
}
