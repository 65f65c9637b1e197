package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
)

const (
	lookEvery   = 2 * time.Second
	lookTimeout = 3 * time.Second
)

// notReady is the answer of /readyz if the cluster is not ready. The log has
// the error.
const notReady = "the cluster cannot be used"

var errNotSeen = errors.New("the program has not asked the cluster yet")

// A watcher asks the cluster for its state every two seconds, and remembers the
// answer. It makes a deleted stream or consumer again. Health checks and
// metrics read the remembered state, so their requests do not reach the
// cluster.
type watcher struct {
	conn    *connection
	js      jetstream.JetStream
	cluster clusterConfig
	logger  *slog.Logger

	// openConsumer makes the workers' consumer if it is missing. Nil in a receiver.
	openConsumer func(context.Context) error

	failedSince time.Time            // or when it last changed the node for this reason; zero: the last look found no failure
	created     map[string]time.Time // when a stream was created, by its name

	mu   sync.Mutex
	seen clusterState
}

// A clusterState is the result of a look.
type clusterState struct {
	err         error // why the program cannot do its work; nil: it can
	queue, dead *jetstream.StreamInfo
}

func newWatcher(conn *connection, js jetstream.JetStream, cluster clusterConfig, logger *slog.Logger) *watcher {
	return &watcher{conn: conn, js: js, cluster: cluster, logger: logger,
		created: make(map[string]time.Time), seen: clusterState{err: errNotSeen}}
}

// start looks until stop is called, even after ctx has ended, because a
// receiver goes on answering for a while.
func (w *watcher) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var looking sync.WaitGroup
	looking.Go(func() {
		w.look(ctx)
		service.Every(ctx, lookEvery, func() { w.look(ctx) })
	})
	return func() { cancel(); looking.Wait() }
}

// look asks once. If the node is silent or cut off from the others, it changes
// to another node. Save does the same, but a receiver that is not ready gets no
// notifications to save.
func (w *watcher) look(ctx context.Context) {
	number := w.conn.number()
	askCtx, cancel := context.WithTimeout(ctx, lookTimeout)
	now := w.ask(askCtx)
	cancel()
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	w.seen = now
	w.mu.Unlock()
	switch {
	case now.err == nil && !w.failedSince.IsZero():
		w.failedSince = time.Time{}
		w.logger.InfoContext(ctx, "the cluster is ready again")
	case now.err != nil && w.failedSince.IsZero():
		w.failedSince = time.Now()
		w.logger.WarnContext(ctx, "the cluster is not ready", "error", now.err)
	case isAway(now.err) && time.Since(w.failedSince) > publishTry:
		w.failedSince = time.Now()
		w.conn.leave(number)
	}
	for _, stream := range []*jetstream.StreamInfo{now.queue, now.dead} {
		if stream == nil {
			continue
		}
		name := stream.Config.Name
		if created, known := w.created[name]; known && !created.Equal(stream.Created) {
			w.logger.ErrorContext(ctx, "the stream was deleted, with the notifications in it, and made again", "stream", name)
		}
		w.created[name] = stream.Created
	}
}

// isAway reports whether another node may work better.
func isAway(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.Code == http.StatusServiceUnavailable || errors.Is(err, errNoQuorum) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders)
}

func (w *watcher) ask(ctx context.Context) (now clusterState) {
	infos, err := w.cluster.open(ctx, w.js)
	if err != nil {
		return clusterState{err: err}
	}
	for _, info := range infos {
		if err := checkNodes(info); err != nil {
			return clusterState{err: err}
		}
	}
	now.queue, now.dead = infos[0], infos[1]
	if w.openConsumer != nil {
		now.err = w.openConsumer(ctx)
	} else {
		now.err = checkRoom(now.queue) // only a receiver needs room in the stream
	}
	return now
}

// state returns the result of the last look.
func (w *watcher) state() clusterState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// openConsumer creates the workers' consumer if it is missing. It changes an
// existing one only if its AckWait is too short, or if the server would give up
// a message after some tries. It never makes AckWait shorter, because other
// workers may need it.
func openConsumer(ctx context.Context, js jetstream.JetStream, want jetstream.ConsumerConfig) error {
	consumer, err := js.Consumer(ctx, streamName, workersName)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		consumer, err = js.CreateConsumer(ctx, streamName, want)
		if errors.Is(err, jetstream.ErrConsumerExists) { // another worker was faster
			consumer, err = js.Consumer(ctx, streamName, workersName)
		}
	}
	if err == nil {
		config := consumer.CachedInfo().Config
		if config.AckWait < want.AckWait || config.MaxDeliver != want.MaxDeliver {
			config.AckWait, config.MaxDeliver = max(config.AckWait, want.AckWait), want.MaxDeliver
			_, err = js.UpdateConsumer(ctx, streamName, config)
		}
	}
	if err != nil {
		return fmt.Errorf("consumer %s: %w", workersName, err)
	}
	return nil
}
