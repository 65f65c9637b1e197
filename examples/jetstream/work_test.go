package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// images counts the CreateImage calls for each public ID. Its fields name the
// ones that fail.
type images struct {
	fail func(img *cloudinaryhook.Image, times int) error

	mu    sync.Mutex
	times map[string]int // calls
	made  map[string]int // calls that returned nil
}

func newImages(fail func(*cloudinaryhook.Image, int) error) *images {
	return &images{fail: fail, times: make(map[string]int), made: make(map[string]int)}
}

func (i *images) CreateImage(_ context.Context, img *cloudinaryhook.Image) error {
	i.mu.Lock()
	i.times[img.PublicID]++
	times := i.times[img.PublicID]
	i.mu.Unlock()
	if i.fail != nil {
		if err := i.fail(img, times); err != nil {
			return err
		}
	}
	i.mu.Lock()
	i.made[img.PublicID]++
	i.mu.Unlock()
	return nil
}

func (i *images) count() (made int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.made)
}

// newTestWorker returns a worker with short pauses.
func newTestWorker(store cloudinaryhook.Store, creator cloudinaryhook.ImageCreator) *worker {
	return &worker{
		processor:   &cloudinaryhook.Processor{Store: store, Images: creator},
		concurrency: 4,
		timeout:     3 * time.Second,
		maxTries:    3,
		backoff:     func(uint64) time.Duration { return 50 * time.Millisecond },
		ackWait:     2 * time.Second,
		count:       func(string) {},
		logger:      quiet,
	}
}

// startWorker runs a worker until the test ends or stop is called.
func startWorker(t *testing.T, w *worker, nc *connection) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.run(ctx, nc) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !nc.IsClosed() {
			t.Errorf("the worker returned %v, want nil", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func waitEmpty(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	wait(t, "an empty stream", func(ctx context.Context) error { return isEmpty(ctx, js) })
}

// TestOneBadImage: a delivery that fails, for any reason, does not delay the
// others, and becomes a dead letter with its cause.
func TestOneBadImage(t *testing.T) {
	tests := []struct {
		name  string
		fail  error // nil: a panic
		cause string
	}{
		{"an error", errors.New("no colour\nprofile"), "cloudinaryhook: creating the image failed: no colour profile"},
		{"a panic", nil, "cloudinaryhook: creating the image failed: panic: bad image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := openQueue(t)
			bad := announced(t, "bad")
			mustSave(t, q, bad)
			for range 30 {
				mustSave(t, q, announced(t, "good"))
			}
			creator := newImages(func(img *cloudinaryhook.Image, _ int) error {
				if img.PublicID != bad.PublicID {
					return nil
				}
				if tt.fail == nil {
					panic("bad image")
				}
				return tt.fail
			})
			w := newTestWorker(new(cloudinaryhooktest.MemoryStore), creator)
			startWorker(t, w, q.conn)
			waitEmpty(t, q.js)
			letters := deadLetters(t, q.js, 1)
			if got := creator.count(); got != 30 || len(letters) != 1 {
				t.Fatalf("%d images and %d dead letters, want 30 and 1", got, len(letters))
			}
			data, err := bad.MarshalJSON()
			if diff := cmp.Diff(string(data), string(letters[0].Data)); err != nil || diff != "" {
				t.Errorf("the dead letter differs from the message (-want +got), %v:\n%s", err, diff)
			}
			header := letters[0].Header
			if got := header.Get(causeHeader); got != tt.cause {
				t.Errorf("cause got %q, want %q", got, tt.cause)
			}
			if got, want := header.Get(triesHeader), strconv.FormatUint(w.maxTries, 10); got != want || creator.times[bad.PublicID] != 3 {
				t.Errorf("tries got %s, and %d calls, want %s", got, creator.times[bad.PublicID], want)
			}
		})
	}
}

func TestRetry(t *testing.T) {
	q := openQueue(t)
	mustSave(t, q, announced(t, "late"))
	creator := newImages(func(_ *cloudinaryhook.Image, times int) error {
		if times < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	startWorker(t, newTestWorker(new(cloudinaryhooktest.MemoryStore), creator), q.conn)
	waitEmpty(t, q.js)
	if letters := deadLetters(t, q.js, 0); creator.count() != 1 || len(letters) != 0 {
		t.Errorf("%d images and %d dead letters, want an image at the third try", creator.count(), len(letters))
	}
}

// TestUndecodable: messages that are not deliveries become dead letters at
// once, because a retry does not help.
func TestUndecodable(t *testing.T) {
	q := openQueue(t)
	forged, err := announced(t, "forged").MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	messages := map[string][]byte{
		"empty":       nil,
		"no JSON":     []byte("hello"),
		"no delivery": []byte(`{"public_id":"a"}`),
		"another ID":  []byte(strings.Replace(string(forged), `"id":"`, `"id":"0`, 1)),
	}
	for _, data := range messages {
		if _, err := q.js.Publish(t.Context(), subject, data); err != nil {
			t.Fatal(err)
		}
	}
	mustSave(t, q, announced(t, "good"))
	creator := newImages(nil)
	startWorker(t, newTestWorker(new(cloudinaryhooktest.MemoryStore), creator), q.conn)
	waitEmpty(t, q.js)
	letters := deadLetters(t, q.js, uint64(len(messages)))
	if len(letters) != len(messages) || creator.count() != 1 {
		t.Errorf("%d dead letters and %d images, want %d and 1", len(letters), creator.count(), len(messages))
	}
	for _, letter := range letters {
		cause := letter.Header.Get(causeHeader)
		if !strings.HasPrefix(cause, cloudinaryhook.ErrInvalidDelivery.Error()) || letter.Header.Get(triesHeader) != "1" {
			t.Errorf("a dead letter has cause %q after %s tries, want an invalid delivery after 1", cause, letter.Header.Get(triesHeader))
		}
	}
}

// TestPoison: a message that crashes every worker is not tried for ever.
func TestPoison(t *testing.T) {
	q := openQueue(t)
	mustSave(t, q, announced(t, "poison"))
	creator := newImages(nil)
	w := newTestWorker(new(cloudinaryhooktest.MemoryStore), creator)
	consumer, err := q.js.CreateConsumer(t.Context(), streamName, w.consumer())
	if err != nil {
		t.Fatal(err)
	}
	for range w.maxTries {
		msg, err := consumer.Next(jetstream.FetchMaxWait(time.Minute))
		if err == nil {
			err = msg.Nak() // as if AckWait had passed
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	startWorker(t, w, q.conn)
	waitEmpty(t, q.js)
	letters := deadLetters(t, q.js, 1)
	if cause := letters[0].Header.Get(causeHeader); cause != errNoWord.Error() || len(creator.times) != 0 {
		t.Errorf("cause got %q after %v more calls, want %q and none", cause, creator.times, errNoWord)
	}
}

// TestNoPlaceForTheDead: if the dead letter cannot be published, the message
// stays in the stream.
func TestNoPlaceForTheDead(t *testing.T) {
	q := openQueue(t)
	if err := q.js.DeleteStream(t.Context(), deadName); err != nil {
		t.Fatal(err)
	}
	if _, err := q.js.Publish(t.Context(), subject, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	startWorker(t, newTestWorker(new(cloudinaryhooktest.MemoryStore), newImages(nil)), q.conn)
	wait(t, "a second try", func(ctx context.Context) error {
		consumer, err := q.js.Consumer(ctx, streamName, workersName)
		if err == nil && consumer.CachedInfo().NumRedelivered == 0 {
			err = errors.New("there was none")
		}
		return err
	})
	if info, err := streamInfo(t.Context(), q.js); err != nil || info.State.Msgs != 1 {
		t.Errorf("the stream holds %+v (%v), want the message", info.State, err)
	}
	if _, err := one.open(t.Context(), q.js); err != nil {
		t.Fatal(err)
	}
	waitEmpty(t, q.js)
	deadLetters(t, q.js, 1)
}

// TestBeyondTheWindow: after the dedupe window a duplicate is a new message,
// but the worker's store recognizes it.
func TestBeyondTheWindow(t *testing.T) {
	q := openQueue(t)
	short := one.streams()[0]
	short.Duplicates = 100 * time.Millisecond
	if _, err := q.js.UpdateStream(t.Context(), short); err != nil {
		t.Fatal(err)
	}
	db := openDB(t)
	creator := newImages(nil)
	startWorker(t, newTestWorker(db, creator), q.conn)
	d := announced(t, "twice")
	mustSave(t, q, d)
	waitEmpty(t, q.js)
	wait(t, "the end of the window", func(ctx context.Context) error {
		state, err := q.Save(ctx, d)
		if err == nil && state != cloudinaryhook.StateNew {
			err = fmt.Errorf("Save got %v, want new", state)
		}
		return err
	})
	waitEmpty(t, q.js)
	if diff := cmp.Diff(map[string]int{d.PublicID: 1}, creator.times); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}

// hangVariable makes the test binary a worker that takes messages and never
// acknowledges them. Its value is the URL of the cluster.
const hangVariable = "JETSTREAM_TEST_HANG"

func hang(url string) {
	nc, err := nats.Connect(url)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	w := newTestWorker(new(cloudinaryhooktest.MemoryStore), cloudinaryhook.ImageCreatorFunc(func(context.Context, *cloudinaryhook.Image) error {
		fmt.Println("working")
		select {}
	}))
	fmt.Println(w.run(context.Background(), &connection{Conn: nc}))
	os.Exit(1)
}

// TestKilledWorker: if a worker dies during its work, another worker gets its
// messages.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	n := startAlone(t)
	q := mustQueue(t, dial(t, n.url()), publishTry)
	if _, err := one.open(t.Context(), q.js); err != nil {
		t.Fatal(err)
	}
	const count = 20
	for range count {
		mustSave(t, q, announced(t, "image"))
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	victim := start(t, self, []string{hangVariable + "=" + n.url()})
	for range 4 { // its concurrency
		victim.expect(t, "working")
	}
	victim.kill()

	creator := newImages(nil)
	startWorker(t, newTestWorker(openDB(t), creator), q.conn)
	waitEmpty(t, q.js)
	if got := creator.count(); got != count {
		t.Errorf("%d images, want %d", got, count)
	}
}

// TestWorkerLeaves: if a node no longer answers, the worker changes to another
// node.
func TestWorkerLeaves(t *testing.T) {
	t.Parallel()
	n := startAlone(t)
	first, second := newLink(t, 0, 0, n.clientAddr), newLink(t, 0, 0, n.clientAddr)
	ways := "nats://" + first.listener.Addr().String() + ",nats://" + second.listener.Addr().String()
	q := mustQueue(t, dial(t, n.url()), publishTry)
	if _, err := one.open(t.Context(), q.js); err != nil {
		t.Fatal(err)
	}
	creator := newImages(nil)
	nc := dial(t, ways, nats.DontRandomize(), nats.IgnoreDiscoveredServers())
	w := newTestWorker(new(cloudinaryhooktest.MemoryStore), creator)
	w.maxTries = 100 // deliveries into the dead connection count as tries
	startWorker(t, w, nc)
	mustSave(t, q, announced(t, "before"))
	waitEmpty(t, q.js)

	first.gate.Lock()
	defer first.gate.Unlock()
	mustSave(t, q, announced(t, "after"))
	waitEmpty(t, q.js)
	if creator.count() != 2 || nc.number() == 0 {
		t.Errorf("%d images after %d reconnects, want 2 after at least 1", creator.count(), nc.number())
	}
}

// TestStop: a worker that is stopped finishes its current work.
func TestStop(t *testing.T) {
	q := openQueue(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	creator := newImages(func(*cloudinaryhook.Image, int) error {
		close(begun)
		<-finish
		return nil
	})
	stop := startWorker(t, newTestWorker(new(cloudinaryhooktest.MemoryStore), creator), q.conn)
	mustSave(t, q, announced(t, "last"))
	<-begun
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	select {
	case <-stopped:
		t.Error("the worker stopped during its work")
	case <-time.After(50 * time.Millisecond):
	}
	close(finish)
	<-stopped
	waitEmpty(t, q.js)
	if creator.count() != 1 {
		t.Error("the last image was not created")
	}
}

func TestBackoff(t *testing.T) {
	for tries, want := range map[uint64]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 12: maxBackoff, 1000: maxBackoff} {
		if got := backoff(tries); got != want {
			t.Errorf("backoff(%d) got %v, want %v", tries, got, want)
		}
	}
}

func TestHeaderText(t *testing.T) {
	tests := map[string]string{
		"plain":                           "plain",
		"two\r\nlines\there":              "two lines here",
		strings.Repeat("é", 2000) + "end": strings.Repeat("é", 500),
		"a" + strings.Repeat("é", 2000):   "a" + strings.Repeat("é", 499),
	}
	for in, want := range tests {
		if got := headerText(errors.New(in)); got != want {
			t.Errorf("headerText(%.30q) got %q, want %q", in, got, want)
		}
	}
}
