package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

func TestSave(t *testing.T) {
	q := openQueue(t)
	first := announced(t, "first")
	otherScope, err := cloudinaryhook.NewDelivery(first.Body, &cloudinaryhook.Claims{AlbumID: "another"}, first.SignedAt)
	if err != nil {
		t.Fatal(err)
	}
	largest := delivery(t, []byte(`{"request_id":"`+strings.Repeat("x", maxBody-20)+`"}`))
	tests := []struct {
		name string
		d    *cloudinaryhook.Delivery
		want cloudinaryhook.State
	}{
		{"new", first, cloudinaryhook.StateNew},
		{"again", first, cloudinaryhook.StatePending},
		{"again, and the signature is another", delivery(t, first.Body), cloudinaryhook.StatePending},
		{"the same body for another album", otherScope, cloudinaryhook.StateNew},
		{"as large as the handler lets in", largest, cloudinaryhook.StateNew},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := q.Save(t.Context(), tt.d); got != tt.want || err != nil {
				t.Errorf("Save got %v and %v, want %v", got, err, tt.want)
			}
		})
	}
	stream, err := q.js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{first.ID, otherScope.ID, largest.ID} {
		msg, err := stream.GetMsg(t.Context(), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		var d cloudinaryhook.Delivery
		if err := d.UnmarshalJSON(msg.Data); err != nil || d.ID != want {
			t.Errorf("message %d is delivery %s (%v), want %s", i+1, d.ID, err, want)
		}
	}
}

// TestDeferredStore: the queue keeps the contract of a Store behind a Deferred
// receiver.
func TestDeferredStore(t *testing.T) {
	cloudinaryhooktest.TestDeferredStore(t, func(t *testing.T) cloudinaryhook.Store { return openQueue(t) })
}

func TestComplete(t *testing.T) {
	q := openQueue(t)
	d := announced(t, "done")
	mustSave(t, q, d)
	if err := q.Complete(t.Context(), d.ID, nil); err == nil {
		t.Error("Complete got nil, want an error: a queue cannot know")
	}
}

// swallow answers no publish, like a node that is cut off from the others.
func swallow(t *testing.T, nc *connection) {
	t.Helper()
	if _, err := nc.Subscribe(subject, func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// openSmallQueue returns a queue with little room.
func openSmallQueue(t *testing.T) *queue {
	t.Helper()
	small := one
	small.maxBytes = 64 << 10
	q := mustQueue(t, dial(t, startAlone(t).url()), time.Second)
	if _, err := small.open(t.Context(), q.js); err != nil {
		t.Fatal(err)
	}
	return q
}

// refusals lists the ways in which a cluster may refuse a delivery.
var refusals = []struct {
	name string
	open func(t *testing.T) *queue
	body string // "": the usual one
	want error
}{
	{"the stream is full", func(t *testing.T) *queue {
		q := openSmallQueue(t)
		for {
			if _, err := q.Save(t.Context(), announced(t, "filling")); err != nil {
				return q
			}
		}
	}, "", &jetstream.APIError{ErrorCode: 10077}},
	{"the stream has no leader", func(t *testing.T) *queue {
		return mustQueue(t, dial(t, startAlone(t).url()), 100*time.Millisecond)
	}, "", context.DeadlineExceeded},
	{"nobody answers", func(t *testing.T) *queue {
		nc := dial(t, startAlone(t).url())
		swallow(t, nc)
		return mustQueue(t, nc, 100*time.Millisecond)
	}, "", context.DeadlineExceeded},
	{"the connection is closed", func(t *testing.T) *queue {
		q := openQueue(t)
		q.conn.Close()
		return q
	}, "", nats.ErrConnectionClosed},
	{"too many wait", func(t *testing.T) *queue {
		q := openQueue(t)
		q.slots = nil
		return q
	}, "", errBusy},
	{"larger than max_payload", func(t *testing.T) *queue {
		n := node{name: "small", dir: t.TempDir(), clientAddr: "127.0.0.1:-1", maxPayload: 1 << 20}
		q := mustQueue(t, dial(t, startNode(t, n).url()), time.Second)
		if _, err := one.open(t.Context(), q.js); err != nil {
			t.Fatal(err)
		}
		return q
	}, `{"request_id":"` + strings.Repeat("x", 1<<20) + `"}`, errTooLarge},
}

// TestSaveRefused: without the cluster's confirmation, Save returns no state,
// and the receiver does not answer 201.
func TestSaveRefused(t *testing.T) {
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := tt.open(t)
			d := announced(t, "refused")
			if tt.body != "" {
				d = delivery(t, []byte(tt.body))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if state, err := q.Save(ctx, d); state != 0 || !errors.Is(err, tt.want) {
				t.Errorf("Save got %v and %v, want no state and %v", state, err, tt.want)
			}
			if err := q.ready(); (err == nil) != errors.Is(tt.want, errTooLarge) {
				t.Errorf("afterwards ready got %v, want an error unless the fault was in the delivery", err)
			}
			w := httptest.NewRecorder()
			newTestHandler(t, q, 500*time.Millisecond).ServeHTTP(w, cloudinaryhooktest.NewRequest(t, hookPath, d.Body))
			if w.Code != http.StatusInternalServerError {
				t.Errorf("status got %d, want 500", w.Code)
			}
		})
	}
}

// TestReadyAgain: a receiver is ready again after the next saved notification,
// or after a while, because a receiver that is not ready gets no notifications.
func TestReadyAgain(t *testing.T) {
	q := openQueue(t)
	q.failed.Store(time.Now().Add(-failureCounts).UnixNano())
	if err := q.ready(); err != nil {
		t.Errorf("after a while got %v, want nil", err)
	}
	q.failed.Store(time.Now().UnixNano())
	if err := q.ready(); !errors.Is(err, errNotSaved) {
		t.Errorf("after a failure got %v, want errNotSaved", err)
	}
	mustSave(t, q, announced(t, "next"))
	if err := q.ready(); err != nil {
		t.Errorf("after the next notification got %v, want nil", err)
	}
}

// TestFullStreamKeepsTheOld: a full stream must not delete notifications that
// were answered 201.
func TestFullStreamKeepsTheOld(t *testing.T) {
	q := openSmallQueue(t)
	saved := uint64(0)
	for {
		if _, err := q.Save(t.Context(), announced(t, "filling")); err != nil {
			break
		}
		saved++
	}
	info, err := streamInfo(t.Context(), q.js)
	if err != nil || info.State.Msgs != saved || saved == 0 {
		t.Errorf("the full stream holds %+v (%v), want the %d that were saved", info.State, err, saved)
	}
}

// TestLeave: if a node does not answer, Save changes to another node in time.
func TestLeave(t *testing.T) {
	silent, good := startAlone(t), startAlone(t)
	swallow(t, dial(t, silent.url()))
	js, err := jetstream.New(dial(t, good.url()).Conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.open(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	q := mustQueue(t, dial(t, silent.url()+","+good.url(), nats.DontRandomize()), 200*time.Millisecond)
	var saving sync.WaitGroup
	for range 20 {
		d := announced(t, "left")
		saving.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if state, err := q.Save(ctx, d); state != cloudinaryhook.StateNew || err != nil {
				t.Errorf("Save got %v and %v, want new", state, err)
			}
		})
	}
	saving.Wait()
	if got := q.conn.Stats().Reconnects; got != 1 {
		t.Errorf("20 Saves left the silent node %d times, want once", got)
	}
}

func TestCheckStream(t *testing.T) {
	c := clusterConfig{replicas: 3, maxBytes: 1 << 30}
	tests := []struct {
		name   string
		change func(*jetstream.StreamConfig)
		safe   bool
	}{
		{"as it is created", func(*jetstream.StreamConfig) {}, true},
		{"larger", func(s *jetstream.StreamConfig) { s.MaxBytes = 1 << 40 }, true},
		{"more replicas", func(s *jetstream.StreamConfig) { s.Replicas = 5 }, true},
		{"a longer window", func(s *jetstream.StreamConfig) { s.Duplicates = time.Hour }, true},
		{"in memory", func(s *jetstream.StreamConfig) { s.Storage = jetstream.MemoryStorage }, false},
		{"one replica", func(s *jetstream.StreamConfig) { s.Replicas = 1 }, false},
		{"other retention", func(s *jetstream.StreamConfig) { s.Retention = jetstream.InterestPolicy }, false},
		{"old ones make room", func(s *jetstream.StreamConfig) { s.Discard = jetstream.DiscardOld }, false},
		{"an age limit", func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour }, false},
		{"a limit per subject", func(s *jetstream.StreamConfig) { s.MaxMsgsPerSubject = 1 }, false},
		{"no acknowledgements", func(s *jetstream.StreamConfig) { s.NoAck = true }, false},
		{"asynchronous writes", func(s *jetstream.StreamConfig) { s.PersistMode = jetstream.AsyncPersistMode }, false},
		{"a window of two minutes", func(s *jetstream.StreamConfig) { s.Duplicates = 2 * time.Minute }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, want := range c.streams() {
				got := want
				tt.change(&got)
				if err := checkStream(got, want); (err == nil) != tt.safe || err != nil && !errors.Is(err, errUnsafeStream) {
					t.Errorf("%s got %v, want safe: %v", want.Name, err, tt.safe)
				}
			}
		})
	}
}

// TestOpenStreams: open does not change a stream that an operator has
// tuned, and refuses one that could lose notifications.
func TestOpenStreams(t *testing.T) {
	js, err := jetstream.New(dial(t, startAlone(t).url()).Conn)
	if err != nil {
		t.Fatal(err)
	}
	var opening sync.WaitGroup
	for range 4 { // several receivers may start at the same time
		opening.Go(func() {
			if _, err := one.open(t.Context(), js); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	stream, err := js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes = 32 << 20
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := one.open(t.Context(), js); err != nil {
		t.Errorf("with another size got %v, want nil", err)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.Config.MaxBytes != 32<<20 {
		t.Errorf("the size is now %d (%v), want the operator's", info.Config.MaxBytes, err)
	}
	config.Discard = jetstream.DiscardOld
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := one.open(t.Context(), js); !errors.Is(err, errUnsafeStream) {
		t.Errorf("with a stream that drops the old got %v, want errUnsafeStream", err)
	}
}

func TestCheckPayload(t *testing.T) {
	tests := []struct {
		maxPayload int64
		want       error
	}{{1 << 20, errTooLarge}, {maxBody, errTooLarge}, {maxPayload, nil}}
	for _, tt := range tests {
		if err := checkPayload(tt.maxPayload); !errors.Is(err, tt.want) {
			t.Errorf("max_payload %d got %v, want %v", tt.maxPayload, err, tt.want)
		}
	}
}
