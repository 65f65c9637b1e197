package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook"
)

var (
	errTooLarge   = errors.New("the delivery is larger than the cluster's max_payload")
	errBusy       = errors.New("too many deliveries wait for the cluster")
	errNotCounted = errors.New("a queue does not know what workers have completed")
	errNotSaved   = errors.New("the last notification was not saved")
)

// failureCounts is how long a failed Save makes a receiver not ready. After that it
// gets notifications again, and the first of them shows how the cluster is.
const failureCounts = 10 * time.Second

// publishTry is how long one node may take to acknowledge; then another is
// asked. Nobody leads the stream for 4 to 9 s after its leader was lost.
const publishTry = 4 * time.Second

// A queue is the Store of a Deferred receiver: to save is to publish, and to
// have the cluster's word that most of its nodes have it on disk. Workers take
// it from there.
type queue struct {
	conn  *connection
	js    jetstream.JetStream
	try   time.Duration // for one node
	slots chan struct{} // one for each publish in flight

	saved, failed atomic.Int64 // when the last Save did, in Unix nanoseconds
}

// newQueue allows so many publishes in flight. While nobody leads the stream
// they all wait, and each holds its notification in memory.
func newQueue(conn *connection, try time.Duration, inFlight int) (*queue, error) {
	js, err := jetstream.New(conn.Conn)
	if err != nil {
		return nil, err
	}
	return &queue{conn: conn, js: js, try: try, slots: make(chan struct{}, inFlight)}, nil
}

// Save implements cloudinaryhook.Store. Within the stream's dedupe window a
// delivery that was published before is StatePending: whether a worker has
// completed it is the workers' to know. A publish without an answer is tried
// again, until ctx is done: the delivery ID is the message's, so a first try
// that did arrive is not doubled.
func (q *queue) Save(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	state, err := q.save(ctx, d)
	if now := time.Now().UnixNano(); err == nil {
		q.saved.Store(now)
	} else if !errors.Is(err, errTooLarge) { // which is that delivery's own fault
		q.failed.Store(now)
	}
	return state, err
}

// ready refuses while notifications are not saved, whatever the cluster says of
// itself: nodes whose disks are full answer all questions as before.
func (q *queue) ready() error {
	failed := q.failed.Load()
	if failed > q.saved.Load() && time.Since(time.Unix(0, failed)) < failureCounts {
		return errNotSaved
	}
	return nil
}

func (q *queue) save(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	data, err := d.MarshalJSON()
	if err != nil {
		return 0, err
	}
	select {
	case q.slots <- struct{}{}:
		defer func() { <-q.slots }()
	default:
		return 0, fmt.Errorf("%w: %d", errBusy, cap(q.slots))
	}
	for {
		ack, err := q.publish(ctx, d.ID, data)
		switch {
		case err == nil && ack.Duplicate:
			return cloudinaryhook.StatePending, nil
		case err == nil:
			return cloudinaryhook.StateNew, nil
		case errors.Is(err, nats.ErrMaxPayload):
			return 0, fmt.Errorf("%w: it has %d bytes as JSON, %d are allowed", errTooLarge, len(data), q.conn.MaxPayload())
		case !transient(err):
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w, after: %w", ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// publish asks one node.
func (q *queue) publish(ctx context.Context, id string, data []byte) (*jetstream.PubAck, error) {
	number := q.conn.number()
	tryCtx, cancel := context.WithTimeout(ctx, q.try)
	defer cancel()
	ack, err := q.js.PublishMsg(tryCtx, &nats.Msg{Subject: subject, Data: data},
		jetstream.WithMsgID(id), jetstream.WithExpectStream(streamName),
		jetstream.WithRetryAttempts(math.MaxInt)) // while nobody leads the stream, until tryCtx is done
	if tryCtx.Err() != nil && ctx.Err() == nil { // else the caller was in a hurry, and the node not slow
		q.conn.leave(number)
	}
	return ack, err
}

// transient says which errors are the cluster's state and not its answer. All
// others are answers: a full stream does not get emptier by asking again.
func transient(err error) bool {
	const sameIDInFlight = 10158 // another publish of this ID is not yet on disk
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode == sameIDInFlight
	}
	return errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, nats.ErrConnectionClosed) || // it was left for another node meanwhile
		errors.Is(err, nats.ErrDisconnected) ||
		errors.Is(err, nats.ErrReconnectBufExceeded)
}

// Complete implements cloudinaryhook.Store. A Deferred receiver never calls it,
// and a queue that said nil would say that something is known done.
func (q *queue) Complete(context.Context, string, error) error { return errNotCounted }
