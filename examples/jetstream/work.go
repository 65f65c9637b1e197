package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
)

const (
	maxTries   = 20 // the pauses between them take an hour and three quarters
	maxBackoff = 10 * time.Minute

	// Failed messages are not acknowledged while they wait for their next try. Up
	// to this number they do not delay other messages. With more of them, the
	// fault is not in single messages, and workers pause.
	maxUnacknowledged = 10_000

	// If no worker reports on a message for this long, the cluster gives it to
	// another worker. A busy worker reports three times in this period, so workers
	// may have different -timeouts.
	ackWait = 30 * time.Second

	// A dead letter is the original message with these headers.
	causeHeader = "Cloudinary-Dead-Cause"
	triesHeader = "Cloudinary-Dead-Tries"
)

var errNoWord = errors.New("workers took the message and none reported a result: it may crash their process")

// backoff returns the pause after the nth try: 1 s, 2 s, 4 s, up to maxBackoff.
func backoff(tries uint64) time.Duration {
	return min(time.Second<<min(tries-1, 20), maxBackoff)
}

// A worker takes deliveries from the stream and gives them to its processor. It
// needs no secret: only receivers publish to the stream, and they have
// authenticated the deliveries.
type worker struct {
	processor   *cloudinaryhook.Processor
	concurrency int
	timeout     time.Duration              // of one delivery's work
	maxTries    uint64                     // of one delivery
	backoff     func(uint64) time.Duration // after this number of tries
	ackWait     time.Duration              // must be the same in all workers
	count       func(result string)        // of each try
	logger      *slog.Logger

	js jetstream.JetStream
}

// consumer returns the configuration of the consumer that all workers share. If
// no worker reports on a message within AckWait, another worker gets it. The
// server counts tries, but has no limit: after a limit it would leave the
// message in the stream for ever.
func (w *worker) consumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: workersName, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: w.ackWait, MaxDeliver: -1, MaxAckPending: maxUnacknowledged,
	}
}

// run works until ctx ends, and then finishes its current messages.
func (w *worker) run(ctx context.Context, c *connection) (err error) {
	if w.js, err = jetstream.New(c.Conn); err != nil {
		return err
	}
	if err := openConsumer(ctx, w.js, w.consumer()); err != nil {
		return err
	}
	consumer, err := w.js.Consumer(ctx, streamName, workersName) // still works after somebody has deleted it and it was made again
	if err != nil {
		return fmt.Errorf("consumer %s: %w", workersName, err)
	}
	var working sync.WaitGroup
	for range w.concurrency {
		working.Go(func() {
			for ctx.Err() == nil {
				if msg := w.next(ctx, c, consumer); msg != nil {
					w.handle(context.WithoutCancel(ctx), msg)
				}
			}
		})
	}
	working.Wait()
	return c.FlushTimeout(5 * time.Second) // sends the last acknowledgements
}

// next returns a message, or nil if there was none. A worker asks for a message
// only when it can work on it: if the message waited here, the cluster could
// give it to another worker too. Each request is short, because the cluster may
// send its answer to a dead connection and count that as a try.
func (w *worker) next(ctx context.Context, c *connection, consumer jetstream.Consumer) jetstream.Msg {
	pull, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	number := c.number()
	msg, err := consumer.Next(jetstream.FetchContext(pull), jetstream.FetchHeartbeat(2*time.Second))
	switch {
	case err == nil:
		return msg
	case pull.Err() != nil || errors.Is(err, nats.ErrTimeout):
		return nil
	case errors.Is(err, jetstream.ErrNoHeartbeat):
		c.leave(number)
	}
	w.logger.WarnContext(ctx, "taking a message failed", "error", err)
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	return nil
}

// handle processes one message. Then it acknowledges the message, asks for a
// later try, or moves it to the dead letters. If that fails, the message comes
// again and is a duplicate.
func (w *worker) handle(ctx context.Context, msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		w.logger.ErrorContext(ctx, "not a message of a stream", "error", err)
		return
	}
	tries, result := meta.NumDelivered, "done"
	if err = w.process(ctx, msg, tries); err == nil {
		err = msg.Ack()
	} else if errors.Is(err, cloudinaryhook.ErrInvalidDelivery) || tries >= w.maxTries {
		result = "dead"
		w.logger.ErrorContext(ctx, "a delivery goes to the dead letters", "tries", tries, "error", err)
		err = w.bury(ctx, msg, meta, err)
	} else {
		result = "later"
		err = msg.NakWithDelay(w.backoff(tries))
	}
	if err != nil {
		result = "lost"
		w.logger.WarnContext(ctx, "answering for a message failed", "error", err)
	}
	w.count(result)
}

// hold tells the cluster at intervals that the worker is busy with the message.
// It stops after the worker's -timeout, so that endless work does not keep the
// message for ever.
func (w *worker) hold(ctx context.Context, msg jetstream.Msg) (release func()) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	var holding sync.WaitGroup
	holding.Go(func() {
		service.Every(ctx, w.ackWait/3, func() { _ = msg.InProgress() }) // if one report fails, the next may succeed
	})
	return func() { cancel(); holding.Wait() }
}

func (w *worker) process(ctx context.Context, msg jetstream.Msg, tries uint64) error {
	if tries > w.maxTries {
		return errNoWord
	}
	d := new(cloudinaryhook.Delivery)
	if err := d.UnmarshalJSON(msg.Data()); err != nil {
		return err
	}
	defer w.hold(ctx, msg)()
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	_, err := w.processor.Accept(ctx, d)
	return err
}

// bury publishes a message as a dead letter, and removes it from the stream
// when the dead letter is durable. The dead letter's ID is the message's and
// not the delivery's, because the delivery may be put back and fail again. It
// has the message's time, because the numbers begin at 1 again if the stream is
// deleted and made again.
func (w *worker) bury(ctx context.Context, msg jetstream.Msg, meta *jetstream.MsgMetadata, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	letter := nats.NewMsg(deadSubject)
	letter.Data = msg.Data()
	letter.Header.Set(causeHeader, headerText(cause))
	letter.Header.Set(triesHeader, strconv.FormatUint(meta.NumDelivered, 10))
	id := fmt.Sprintf("%s/%d/%d", meta.Stream, meta.Sequence.Stream, meta.Timestamp.UnixNano())
	if _, err := w.js.PublishMsg(ctx, letter, jetstream.WithMsgID(id), jetstream.WithExpectStream(deadName)); err != nil {
		return fmt.Errorf("the message stays in the stream: %w", errors.Join(err, msg.NakWithDelay(w.backoff(meta.NumDelivered))))
	}
	return msg.TermWithReason("it is among the dead letters")
}

// headerText returns an error's text on one line, short enough for the
// cluster's max_payload.
func headerText(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return strings.ToValidUTF8(text[:min(len(text), 1000)], "")
}

// A workCommand is a worker with a database.
type workCommand struct {
	worker  worker
	db      string
	admin   string
	cluster clusterConfig
	log     service.Log
}

func parseWorker(args []string, stderr io.Writer) (*workCommand, error) {
	c := &workCommand{worker: worker{maxTries: maxTries, backoff: backoff, ackWait: ackWait}}
	flags := newFlags("work")
	flags.StringVar(&c.db, "db", "images.db", "`database` of all workers: a postgres:// URL, or an SQLite file if all workers run on one machine")
	flags.StringVar(&c.admin, "admin", "127.0.0.1:0", "`address` for /metrics and health checks; port 0 means any free port")
	flags.IntVar(&c.worker.concurrency, "concurrency", 16, "how many deliveries to work on at the same time")
	flags.DurationVar(&c.worker.timeout, "timeout", 30*time.Second, "how long the work on one delivery may take; workers may have different values")
	c.log.Register(flags)
	c.cluster.register(flags)
	if err := parseFlags(flags, args, stderr); err != nil {
		return nil, err
	}
	if c.admin == "" {
		return nil, errors.New("-admin needs an address, such as 127.0.0.1:0")
	}
	if c.worker.concurrency < 1 || c.worker.timeout <= 0 {
		return nil, errors.New("-concurrency and -timeout must be positive")
	}
	return c, c.cluster.check()
}

func (c *workCommand) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	logger, stop := c.log.Open(ctx, stderr, causeOf)
	defer stop()
	c.worker.logger = logger
	listeners, err := service.Listen(c.admin)
	if err != nil {
		return err
	}
	defer service.CloseAll(listeners)
	db, err := database.Open(ctx, c.db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	nc, err := connect(c.cluster, "worker", logger)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc.Conn)
	if err != nil {
		return err
	}
	if _, err := c.cluster.open(ctx, js); err != nil {
		return err
	}
	return c.serve(ctx, nc, js, db, listeners[0], stdout)
}

// serve runs the worker and answers health checks.
func (c *workCommand) serve(ctx context.Context, nc *connection, js jetstream.JetStream, db *database.DB, listener net.Listener, stdout io.Writer) error {
	logger := c.worker.logger
	watch := newWatcher(nc, js, c.cluster, logger)
	watch.openConsumer = func(ctx context.Context) error { return openConsumer(ctx, js, c.worker.consumer()) }
	numbers := newMetrics(watch)
	c.worker.count = numbers.worker()
	c.worker.processor = &cloudinaryhook.Processor{Store: db, Images: db, Logger: logger}
	defer watch.start(ctx)()

	program := &service.Service{Logger: logger, Ready: func(ctx context.Context) (problem string, err error) {
		if err := watch.state().err; err != nil {
			return notReady, err
		}
		return "the database takes no writes", db.Ping(ctx)
	}}
	mux := newMux(program, nil)
	mux.Handle("GET /metrics", numbers.handler())
	fmt.Fprintf(stdout, "work: http://%s/metrics\n", listener.Addr())

	both, ctx := errgroup.WithContext(ctx) // if one fails, the other ends
	both.Go(func() error { return c.worker.run(ctx, nc) })
	both.Go(func() error { return program.Serve(ctx, service.Site{Listener: listener, Handler: mux}) })
	return both.Wait()
}
