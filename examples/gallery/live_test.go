package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
)

// TestEvents: a watching page gets a message about a notification. When the
// program stops, the page's stream ends and does not delay the shutdown.
func TestEvents(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	resp, err := http.Get(p.url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type got %q, want text/event-stream", got)
	}
	lines := bufio.NewScanner(resp.Body)
	next := func() string {
		for lines.Scan() {
			if lines.Text() != "" {
				return lines.Text()
			}
		}
		return "the end"
	}
	if got := next(); got != "retry: 2000" {
		t.Errorf("first line got %q, want retry: 2000", got)
	}
	p.post(t, golden(t, "upload-simple.json"))
	if got := next(); got != "data: changed" {
		t.Errorf("after a notification got %q, want data: changed", got)
	}
	begun := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for range p.output { // until the program closes it: Wait must not run before that
	}
	if err := p.cmd.Wait(); err != nil || time.Since(begun) > service.ShutdownTimeout/2 {
		t.Errorf("the program ended with %v after %v, want nil and a short time", err, time.Since(begun))
	}
	for line := next(); line != "the end"; line = next() {
		if line != "data: changed" {
			t.Errorf("got %q before the end", line)
		}
	}
}

// TestWatchersAreLimited: there is a limit for all watchers and one for each
// client, so that one client cannot take all places.
func TestWatchersAreLimited(t *testing.T) {
	m := newMonitor()
	refused := func(remoteAddr string) bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // an accepted watcher leaves at once
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", nil)
		r.RemoteAddr = remoteAddr
		w := &flushRecorder{ResponseRecorder: httptest.NewRecorder()}
		(&web{monitor: m}).serveEvents(w, r)
		return w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") != ""
	}
	var stops []func()
	for i := range maxWatchers {
		_, stop, err := m.watch(fmt.Sprint("192.0.2.", i/maxWatching))
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
	}
	if !refused("198.51.100.1:1") {
		t.Error("one watcher too many was accepted, want 503 and Retry-After")
	}
	stops[maxWatchers-1]()
	if !refused("192.0.2.0:9") {
		t.Error("a client at its limit was accepted again, want 503 and Retry-After")
	}
	if refused("198.51.100.1:1") {
		t.Error("after one has stopped another client was refused")
	}
	m.close()
	if changes, _, err := m.watch("192.0.2.0"); err != nil {
		t.Errorf("after close got %v, want a closed channel", err)
	} else if _, open := <-changes; open {
		t.Error("after close a watcher got a value, want its channel closed")
	}
}

// TestSlowWatcher: a watcher that never reads does not delay observe.
func TestSlowWatcher(t *testing.T) {
	m := newMonitor()
	changes, stop, err := m.watch("192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for range 1000 { // if observe waited, it would block at the second call
		m.observe(t.Context(), cloudinaryhook.Outcome{Status: 201})
		m.sample(database.Stats{Images: 1})
	}
	if len(changes) != 1 {
		t.Errorf("%d changes wait, want one", len(changes))
	}
}

// stuckWriter is a client that reads nothing: a write to it ends at the deadline.
type stuckWriter struct {
	http.ResponseWriter
	deadline time.Time
}

func (w *stuckWriter) SetWriteDeadline(t time.Time) error {
	w.deadline = t
	return nil
}

func (w *stuckWriter) Write([]byte) (int, error) {
	time.Sleep(time.Until(w.deadline)) // for ever, if there is no deadline
	return 0, os.ErrDeadlineExceeded
}

// TestSlowReader: the server gives up a client that reads nothing, before a
// shutdown would have to wait for it.
func TestSlowReader(t *testing.T) {
	m := newMonitor()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		w := &stuckWriter{ResponseWriter: httptest.NewRecorder()}
		(&web{monitor: m}).serveEvents(w, httptest.NewRequest(http.MethodGet, "/events", nil))
		if took := time.Since(begun); took != liveWrite || took >= service.ShutdownTimeout {
			t.Errorf("the server gave it up after %v, want %v", took, liveWrite)
		}
		if len(m.watchers) != 0 {
			t.Errorf("%d watchers are left, want none", len(m.watchers))
		}
	})
}

// TestEventsPace: a hundred changes at once make two messages. Without changes
// there is a message every 15 s.
func TestEventsPace(t *testing.T) {
	m := newMonitor()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		w := &flushRecorder{ResponseRecorder: httptest.NewRecorder(), begun: time.Now()}
		time.AfterFunc(time.Second, func() {
			for range 100 {
				m.observe(ctx, cloudinaryhook.Outcome{Status: 201})
				time.Sleep(time.Millisecond)
			}
		})
		(&web{monitor: m}).serveEvents(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", nil))
		want := []time.Duration{0, time.Second, time.Second + livePace, liveTick, 2 * liveTick}
		if diff := cmp.Diff(want, w.flushed); diff != "" {
			t.Errorf("times of messages differ (-want +got):\n%s", diff)
		}
	})
}

// A flushRecorder records the times of messages.
type flushRecorder struct {
	*httptest.ResponseRecorder
	begun   time.Time
	flushed []time.Duration
}

func (w *flushRecorder) SetWriteDeadline(time.Time) error { return nil }
func (w *flushRecorder) FlushError() error {
	w.flushed = append(w.flushed, time.Since(w.begun))
	return nil
}
