package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// shortMinute is one of Cloudinary's minutes, much shorter.
const shortMinute = 50 * time.Millisecond

// retries are the pauses before Cloudinary's retries. After the last one, it
// gives the notification up.
var retries = []time.Duration{3 * shortMinute, 6 * shortMinute, 9 * shortMinute}

// size returns the size of a test: the larger one in CI, and the smaller one
// elsewhere.
func size(ci, elsewhere int) int {
	if os.Getenv("CI") != "" {
		return ci
	}
	return elsewhere
}

// A load plays Cloudinary: several clients post notifications, each about a new
// image, and record the ones that were answered 201.
type load struct {
	t      *testing.T
	limit  int // how many notifications; 0: until stop
	client http.Client

	clients sync.WaitGroup
	stopped chan struct{}

	mu           sync.Mutex
	hooks        []string // URLs to post to, in turn
	posts        int
	sent         int
	acknowledged []string    // public IDs
	answers      map[int]int // by status; 0: no answer
	failures     int         // answers 500 since the last 201
	waiter       func() bool // the condition of until, checked after each answer
	reached      chan struct{}
}

func startLoad(t *testing.T, clients, limit int, hooks ...string) *load {
	l := &load{
		t: t, limit: limit, hooks: hooks,
		client:  http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clients}},
		stopped: make(chan struct{}), answers: make(map[int]int),
	}
	for range clients {
		l.clients.Go(func() {
			for publicID, ok := l.next(); ok; publicID, ok = l.next() {
				l.send(publicID)
			}
		})
	}
	return l
}

// moveTo gives the load new URLs, because galleries start and stop.
func (l *load) moveTo(hooks ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hooks = hooks
}

func (l *load) hook() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts++
	return l.hooks[l.posts%len(l.hooks)]
}

// stop lets each client finish its notification, with its retries.
func (l *load) stop() {
	close(l.stopped)
	l.wait()
}

func (l *load) wait() {
	l.clients.Wait()
	l.client.CloseIdleConnections()
}

func (l *load) next() (publicID string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.stopped:
		return "", false
	default:
	}
	if l.limit > 0 && l.sent == l.limit {
		return "", false
	}
	l.sent++
	return fmt.Sprintf("image-%06d", l.sent), true
}

func (l *load) send(publicID string) {
	body := uploadBody(publicID)
	for attempt := 0; !l.post(publicID, body) && attempt < len(retries); attempt++ {
		time.Sleep(retries[attempt])
	}
}

func uploadBody(publicID string) []byte {
	return fmt.Appendf(nil, `{"notification_type":"upload","timestamp":"2026-03-04T05:06:07+00:00","request_id":"request-%[1]s",
		"public_id":%[1]q,"version":1741079726,"width":1600,"height":1200,"format":"png","resource_type":"image","type":"upload",
		"bytes":318204,"url":"http://res.example.com/%[1]s.png","secure_url":"https://res.example.com/%[1]s.png"}`, publicID)
}

// post reports whether the answer was 201. While a program is down, there is no
// answer. While its database is down, the answer is 500. Any other answer is
// wrong.
func (l *load) post(publicID string, body []byte) bool {
	status := 0
	if resp, err := l.client.Do(cloudinaryhooktest.NewRequest(l.t, l.hook(), body)); err == nil {
		status = resp.StatusCode
		_ = resp.Body.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[status]++
	switch status {
	case http.StatusCreated:
		l.acknowledged = append(l.acknowledged, publicID)
		l.failures = 0
	case http.StatusInternalServerError:
		l.failures++
	case 0:
	default:
		l.t.Errorf("%s was answered %d, want 201 or 500", publicID, status)
	}
	if l.waiter != nil && l.waiter() {
		l.waiter = nil
		close(l.reached)
	}
	return status == http.StatusCreated
}

// acknowledge returns when n more notifications were answered 201.
func (l *load) acknowledge(n int) {
	l.t.Helper()
	l.mu.Lock()
	n += len(l.acknowledged)
	l.mu.Unlock()
	l.until(func() bool { return len(l.acknowledged) >= n })
}

// fail returns when n answers in a row were 500.
func (l *load) fail(n int) {
	l.t.Helper()
	l.until(func() bool { return l.failures >= n })
}

func (l *load) until(reached func() bool) {
	l.t.Helper()
	l.mu.Lock()
	l.waiter, l.reached = reached, make(chan struct{})
	l.mu.Unlock()
	select {
	case <-l.reached:
	case <-time.After(patience):
		l.mu.Lock()
		defer l.mu.Unlock()
		l.t.Fatalf("waited %v, but the answers are %v", patience, l.answers)
	}
}

// A tally counts the results of the notifications.
type tally struct {
	sent, acknowledged int
	lost               int // acknowledged, but without an image
	doubled            int // with two images or two deliveries
	pending            int
}

// check counts, logs and checks the results. The galleries must have finished
// their work.
func (l *load) check(db *database.DB) tally {
	l.t.Helper()
	ctx, all := context.Background(), 10*l.sent+1
	images, err1 := db.Images(ctx, "", database.Position{}, all)
	deliveries, err2 := db.Deliveries(ctx, database.Filter{}, database.Position{}, all)
	stats, err3 := db.Stats(ctx)
	if err := errors.Join(err1, err2, err3); err != nil {
		l.t.Fatal(err)
	}
	got := tally{sent: l.sent, acknowledged: len(l.acknowledged), pending: int(stats.Pending)}
	imagesOf, deliveriesOf := make(map[string]int), make(map[string]int)
	for _, image := range images {
		imagesOf[image.PublicID]++
	}
	for _, delivery := range deliveries {
		deliveriesOf[delivery.PublicID]++
	}
	for _, publicID := range l.acknowledged {
		if imagesOf[publicID] == 0 {
			got.lost++
		}
	}
	for publicID, n := range deliveriesOf {
		if cmp.Or(imagesOf[publicID], n) > 1 || n > 1 {
			got.doubled++
		}
	}
	l.t.Logf("sent %d, acknowledged %d, lost %d, doubled %d, pending %d; answers by status: %v",
		got.sent, got.acknowledged, got.lost, got.doubled, got.pending, l.answers)
	if got.lost > 0 || got.doubled > 0 || got.pending > 0 || len(images) != len(imagesOf) || len(images) != len(deliveries) {
		l.t.Errorf("there are %d images and %d deliveries; want one of each for every saved notification, and none lost, doubled or pending",
			len(images), len(deliveries))
	}
	return got
}
