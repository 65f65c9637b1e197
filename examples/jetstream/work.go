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
	maxTries   = 20 // which takes an hour and three quarters
	maxBackoff = 10 * time.Minute

	// Messages that failed wait for their next try among those that are not
	// acknowledged. So many may, and hold up no other; where more do, it is no
	// longer about single messages, and workers pause.
	maxUnacknowledged = 10_000

	// The cluster gives a message to another worker when it has heard nothing of it
	// for this long. A busy worker reports three times as often, so workers may have
	// different -timeouts.
	ackWait = 30 * time.Second

	// A dead letter is the message as it came, and these headers.
	causeHeader = "Cloudinary-Dead-Cause"
	triesHeader = "Cloudinary-Dead-Tries"
)

var errNoWord = errors.New("workers took it and none reported a result: it may crash their process")

// backoff is the pause after the nth try: 1 s, 2 s, 4 s, up to maxBackoff.
func backoff(tries uint64) time.Duration {
	return min(time.Second<<min(tries-1, 20), maxBackoff)
}

// A worker takes deliveries from the stream and has its processor do what they
// announce. It holds no secret: only receivers publish to the stream, and what
// they publish was authenticated.
type worker struct {
	processor   *cloudinaryhook.Processor
	concurrency int
	timeout     time.Duration              // of one delivery's work
	maxTries    uint64                     // of one delivery
	backoff     func(uint64) time.Duration // after so many tries
	ackWait     time.Duration              // the same in all workers
	count       func(result string)        // of each try
	logger      *slog.Logger

	js jetstream.JetStream
}

// consumer is the workers' common place in the stream. A message that no worker
// speaks of within AckWait goes to another one. The server counts tries but never
// stops, since what it stops to deliver would lie in the stream for ever.
func (w *worker) consumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: workersName, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: w.ackWait, MaxDeliver: -1, MaxAckPending: maxUnacknowledged,
	}
}

// run works until ctx is done, and then finishes what it has taken.
func (w *worker) run(ctx context.Context, c *connection) (err error) {
	if w.js, err = jetstream.New(c.Conn); err != nil {
		return err
	}
	if err := openConsumer(ctx, w.js, w.consumer()); err != nil {
		return err
	}
	consumer, err := w.js.Consumer(ctx, streamName, workersName) // the same one after it was deleted and made again
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
	return c.FlushTimeout(5 * time.Second) // of acknowledgements
}

// next is a message, or nil if there was none. Each is asked for when there is
// time for it: one that waited here would be another worker's before its turn.
// A question is not open for long, since the cluster may answer it into a
// connection that is dead, and count that as a try.
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

// handle answers for one message: acknowledged, put off, or among the dead
// letters. Where the answer fails the message comes again, and is a duplicate.
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

// hold tells the cluster at intervals that a worker is busy with the message. It
// stops after the worker's -timeout: work that never ends would keep the message
// for ever.
func (w *worker) hold(ctx context.Context, msg jetstream.Msg) (release func()) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	var holding sync.WaitGroup
	holding.Go(func() {
		service.Every(ctx, w.ackWait/3, func() { _ = msg.InProgress() }) // if it fails, the next may not
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

// bury puts a message among the dead letters, and takes it from the stream once
// the dead letter is as durable as it was. The dead letter's ID names the message
// and not the delivery, which may be put back and die again.
func (w *worker) bury(ctx context.Context, msg jetstream.Msg, meta *jetstream.MsgMetadata, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	letter := nats.NewMsg(deadSubject)
	letter.Data = msg.Data()
	letter.Header.Set(causeHeader, headerText(cause))
	letter.Header.Set(triesHeader, strconv.FormatUint(meta.NumDelivered, 10))
	id := fmt.Sprintf("%s/%d", meta.Stream, meta.Sequence.Stream)
	if _, err := w.js.PublishMsg(ctx, letter, jetstream.WithMsgID(id), jetstream.WithExpectStream(deadName)); err != nil {
		return fmt.Errorf("it stays in the stream: %w", errors.Join(err, msg.NakWithDelay(w.backoff(meta.NumDelivered))))
	}
	return msg.TermWithReason("it is among the dead letters")
}

// headerText is an error on one line, and not so long that the message would
// exceed what the cluster takes.
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
	flags.StringVar(&c.db, "db", "images.db", "`database` of all workers: a postgres:// URL, or an SQLite file that those on one machine share")
	flags.StringVar(&c.admin, "admin", "127.0.0.1:0", "`address` for /metrics and health checks; port 0 is any that is free")
	flags.IntVar(&c.worker.concurrency, "concurrency", 16, "deliveries at work at a time")
	flags.DurationVar(&c.worker.timeout, "timeout", 30*time.Second, "how long the work of one may take; workers may differ")
	c.log.Register(flags)
	c.cluster.register(flags)
	if err := parseFlags(flags, args, stderr); err != nil {
		return nil, err
	}
	if c.admin == "" {
		return nil, errors.New("-admin needs an address, as 127.0.0.1:0")
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
	listener, err := net.Listen("tcp", c.admin)
	if err != nil {
		return err
	}
	defer listener.Close()
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
	if err := openStreams(ctx, js, c.cluster); err != nil {
		return err
	}
	return c.serve(ctx, nc, js, db, listener, stdout)
}

// serve works, and answers health checks meanwhile.
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

	both, ctx := errgroup.WithContext(ctx) // one that fails ends the other
	both.Go(func() error { return c.worker.run(ctx, nc) })
	both.Go(func() error { return program.Serve(ctx, service.Site{Listener: listener, Handler: mux}) })
	return both.Wait()
}
