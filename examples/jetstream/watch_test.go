package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

// waitState waits until the watcher has this state. nil means that the cluster
// can be used.
func waitState(t *testing.T, w *watcher, want error) {
	t.Helper()
	wait(t, fmt.Sprintf("the watcher to see %v", want), func(context.Context) error {
		got := w.state().err
		if errors.Is(got, want) {
			return nil
		}
		return cmp.Or(got, errors.New("it sees no trouble"))
	})
}

func startWatcher(t *testing.T, conn *connection, js jetstream.JetStream, c clusterConfig) *watcher {
	t.Helper()
	w := newWatcher(conn, js, c, quiet)
	t.Cleanup(w.start(t.Context()))
	return w
}

// TestFullIsNotReady: a receiver is not ready before the stream would refuse
// the largest notification. It is ready again when workers have made room.
func TestFullIsNotReady(t *testing.T) {
	small := clusterConfig{replicas: 1, maxBytes: 2 * largestMessage}
	q := mustQueue(t, dial(t, startAlone(t).url()), publishTry)
	w := startWatcher(t, q.conn, q.js, small)
	waitState(t, w, nil)
	for _, filling := range []string{"x", "y"} {
		mustSave(t, q, delivery(t, []byte(`{"request_id":"`+strings.Repeat(filling, maxBody-20)+`"}`)))
	}
	waitState(t, w, errFull)
	stream, err := q.js.Stream(t.Context(), streamName)
	if err == nil {
		err = stream.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	waitState(t, w, nil)
}

// TestNoQuorumIsNotReady: a receiver is not ready if only one of three nodes is
// left, or if its node is a leader that is cut off but still answers clients.
func TestNoQuorumIsNotReady(t *testing.T) {
	t.Parallel()
	c := startTestCluster(t)
	config := clusterConfig{replicas: 3, maxBytes: 1 << 30}
	c.open(config)
	leader := c.leader()
	w := startWatcher(t, c.conns[leader], c.clients[leader], config)
	waitState(t, w, nil)

	heal := c.cut(leader)
	waitTrouble(t, w)
	heal()
	waitState(t, w, nil)

	c.processes[(leader+1)%3].kill()
	c.processes[(leader+2)%3].kill()
	waitTrouble(t, w)
	c.start((leader + 1) % 3)
	waitState(t, w, nil)
}

func waitTrouble(t *testing.T, w *watcher) {
	t.Helper()
	wait(t, "the watcher to see trouble", func(context.Context) error {
		if w.state().err == nil {
			return errors.New("it says ready")
		}
		return nil
	})
}

// TestDeleted: if somebody deletes the stream or the consumer, running
// receivers and workers make it again. While they cannot, they are not ready,
// and log the reason in a few lines.
func TestDeleted(t *testing.T) {
	t.Parallel()
	n := startAlone(t)
	js, err := jetstream.New(dial(t, n.url()).Conn)
	if err != nil {
		t.Fatal(err)
	}
	secret, tokenKey := newSecrets()
	cluster := []string{"-nats", n.url(), "-replicas", "1", "-max-bytes", "67108864"}
	receiver := start(t, binary, []string{secrets.APISecret + "=" + secret, secrets.TokenKey + "=" + string(tokenKey)},
		append([]string{"receive", "-addr", "127.0.0.1:0", "-admin", "127.0.0.1:0"}, cluster...)...)
	hook := receiver.expect(t, "receive: ")
	metrics := receiver.expect(t, "receive: ")
	if code, _ := get(t, strings.TrimSuffix(hook, hookPath)+"/metrics"); code != http.StatusNotFound {
		t.Errorf("/metrics beside the hook got %d, want 404: there is -admin", code)
	}
	worker := start(t, binary, nil, append([]string{"work", "-db", filepath.Join(t.TempDir(), "db")}, cluster...)...)
	work := worker.expect(t, "work: ")
	ready := []string{strings.TrimSuffix(hook, hookPath) + "/readyz", strings.Replace(metrics, "/metrics", "/readyz", 1), strings.Replace(work, "/metrics", "/readyz", 1)}
	through := func(want int) {
		t.Helper()
		for _, url := range ready {
			status(t, url, http.StatusOK)
		}
		if err := flood(t.Context(), newLoad(secret, tokenKey, time.Second, hook), 10); err != nil {
			t.Fatal(err)
		}
		waitFor(t, work, fmt.Sprintf(`cloudinary_deliveries_total{result="done"} %d`, want))
	}
	through(10)

	if err := js.DeleteConsumer(t.Context(), streamName, workersName); err != nil {
		t.Fatal(err)
	}
	through(20)

	if err := js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	worker.expect(t, "the stream was deleted")
	through(30)

	// Another stream takes the subject, so that the programs cannot make this one.
	if err := js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	wait(t, "a stream in the way", func(ctx context.Context) error {
		_ = js.DeleteStream(ctx, streamName) // the programs may have made it already
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{subject}})
		return err
	})
	for _, url := range ready {
		status(t, url, http.StatusServiceUnavailable)
		status(t, strings.Replace(url, "/readyz", "/healthz", 1), http.StatusOK)
	}
	waitFor(t, metrics, "cloudinary_cluster_ready 0")
	waitFor(t, metrics, "cloudinary_queue_messages NaN")
	worker.expect(t, "the cluster is not ready")
	worker.expect(t, "and more of the same")
	if err := js.DeleteStream(t.Context(), "OTHER"); err != nil {
		t.Fatal(err)
	}
	through(40)
	if lines := strings.Count(worker.stop(t), "taking a message failed"); lines > 100 {
		t.Errorf("the worker says %d times that it cannot take messages, want a few lines", lines)
	}
}

// TestDeletedIsLogged: the log names each stream that was deleted and made again,
// because the messages in it are lost.
func TestDeletedIsLogged(t *testing.T) {
	for _, name := range []string{streamName, deadName} {
		t.Run(name, func(t *testing.T) {
			q := openQueue(t)
			var log bytes.Buffer
			w := newWatcher(q.conn, q.js, one, slog.New(slog.NewTextHandler(&log, nil)))
			w.look(t.Context())
			w.look(t.Context())
			if log.Len() > 0 {
				t.Errorf("before it is deleted, got the log %q, want none", &log)
			}
			if err := q.js.DeleteStream(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			w.look(t.Context())
			w.look(t.Context())
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "the stream was deleted") || !strings.HasSuffix(got, "stream="+name+"\n") {
				t.Errorf("got the log %q, want one line that names %s", got, name)
			}
		})
	}
}

// TestConsumerIsNotLowered: a worker must not make AckWait shorter, because
// workers with another configuration share the consumer.
func TestConsumerIsNotLowered(t *testing.T) {
	tests := []struct {
		name          string
		ackWait, want time.Duration
		maxDeliver    int
	}{
		{"it waits longer", time.Hour, time.Hour, -1},
		{"it waits as long", 2 * time.Second, 2 * time.Second, -1},
		{"it waits not so long", time.Second, 2 * time.Second, -1},
		{"it gives up", time.Hour, time.Hour, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := openQueue(t)
			w := newTestWorker(new(cloudinaryhooktest.MemoryStore), newImages(nil))
			config := w.consumer()
			config.AckWait, config.MaxDeliver = tt.ackWait, tt.maxDeliver
			if _, err := q.js.CreateConsumer(t.Context(), streamName, config); err != nil {
				t.Fatal(err)
			}
			startWorker(t, w, q.conn)
			wait(t, "the consumer", func(ctx context.Context) error {
				consumer, err := q.js.Consumer(ctx, streamName, workersName)
				if err != nil {
					return err
				}
				info := consumer.CachedInfo()
				if info.Config.AckWait != tt.want || info.Config.MaxDeliver != -1 || info.NumWaiting == 0 {
					return fmt.Errorf("got AckWait %v, MaxDeliver %d and %d that wait", info.Config.AckWait, info.Config.MaxDeliver, info.NumWaiting)
				}
				return nil
			})
		})
	}
}

// TestLongWork: if work takes longer than AckWait, no other worker gets the
// message, even one with another -timeout. If the work never ends, another
// worker gets it.
func TestLongWork(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration // of the worker that takes the message first
		want    int           // calls
	}{
		{"within its timeout", time.Minute, 1},
		{"after its timeout", 100 * time.Millisecond, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := openQueue(t)
			begun, end, again := make(chan struct{}), make(chan struct{}), make(chan struct{})
			creator := newImages(func(_ *cloudinaryhook.Image, times int) error {
				if times == 1 {
					close(begun)
					<-end
				} else {
					close(again)
				}
				return nil
			})
			store := new(cloudinaryhooktest.MemoryStore)
			first := newTestWorker(store, creator)
			first.timeout = tt.timeout
			startWorker(t, first, q.conn)
			mustSave(t, q, announced(t, "long"))
			<-begun
			startWorker(t, newTestWorker(store, creator), dial(t, q.conn.ConnectedUrl())) // with another timeout
			select {
			case <-again:
			case <-time.After(3 * first.ackWait):
			}
			close(end)
			waitEmpty(t, q.js)
			creator.mu.Lock()
			defer creator.mu.Unlock()
			for _, got := range creator.times {
				if got != tt.want {
					t.Errorf("CreateImage was called %d times, want %d", got, tt.want)
				}
			}
		})
	}
}
