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
	errNotCounted = errors.New("a queue does not know which deliveries workers have completed")
	errNotSaved   = errors.New("the last notification was not saved")
)

// failureCounts is how long a failed Save makes a receiver not ready. After
// that it gets notifications again, and the first one tests the cluster.
const failureCounts = 10 * time.Second

// publishTry is how long one node may take to acknowledge. After that, Save
// asks another node. When a stream loses its leader, it has none for 4 to 9 s.
const publishTry = 4 * time.Second

// A queue is the Store of a Deferred receiver. Save publishes a delivery, and
// returns when the cluster has confirmed that most of its nodes have it on
// disk. Workers take it from there.
type queue struct {
	conn  *connection
	js    jetstream.JetStream
	try   time.Duration // for one node
	slots chan struct{} // one for each publish in flight

	saved, failed atomic.Int64 // when a Save last succeeded or failed, in Unix nanoseconds
}

// newQueue limits the publishes in flight. While the stream has no leader, all
// of them wait, and each keeps its notification in memory.
func newQueue(conn *connection, try time.Duration, inFlight int) (*queue, error) {
	js, err := jetstream.New(conn.Conn)
	if err != nil {
		return nil, err
	}
	return &queue{conn: conn, js: js, try: try, slots: make(chan struct{}, inFlight)}, nil
}

// Save implements cloudinaryhook.Store. Within the stream's dedupe window, a
// delivery that was published before is StatePending: only the workers know
// whether it is completed. If a publish gets no answer, Save tries again until
// ctx ends. The message has the delivery's ID, so the stream drops a second
// copy.
func (q *queue) Save(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	state, err := q.save(ctx, d)
	if now := time.Now().UnixNano(); err == nil {
		q.saved.Store(now)
	} else if !errors.Is(err, errTooLarge) { // that is a fault of this delivery only
		q.failed.Store(now)
	}
	return state, err
}

// ready returns an error if the last Save failed a short time ago. The
// cluster's own state is not enough: nodes with full disks still answer all
// questions.
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
		jetstream.WithRetryAttempts(math.MaxInt)) // while the stream has no leader, until tryCtx ends
	if tryCtx.Err() != nil && ctx.Err() == nil { // otherwise the caller's time was over, and the node is not to blame
		q.conn.leave(number)
	}
	return ack, err
}

// transient reports whether an error is temporary, so that a second try makes
// sense. All other errors are the cluster's answers: a full stream, for
// example, stays full.
func transient(err error) bool {
	const sameIDInFlight = 10158 // another publish of this ID is not yet on disk
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode == sameIDInFlight
	}
	return errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, nats.ErrConnectionClosed) || // another caller has changed to another node
		errors.Is(err, nats.ErrDisconnected) ||
		errors.Is(err, nats.ErrReconnectBufExceeded)
}

// Complete implements cloudinaryhook.Store. A Deferred receiver never calls it.
// It returns an error, because nil would mean that the queue knows that the
// delivery is done.
func (q *queue) Complete(context.Context, string, error) error { return errNotCounted }
