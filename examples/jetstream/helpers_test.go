package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

// binary is the real program, built once.
var binary string

func TestMain(m *testing.M) {
	if url := os.Getenv(hangVariable); url != "" {
		hang(url)
	}
	folder, err := os.MkdirTemp("", "jetstream")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(folder, "jetstream")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	// The long tests run at the same time, because most of the time they wait for
	// elections.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

var quiet = slog.New(slog.DiscardHandler)

// one is the configuration for a cluster of one node.
var one = clusterConfig{replicas: 1, maxBytes: 64 << 20}

// startAlone runs a single node. It is ready at once.
func startAlone(t *testing.T) node {
	t.Helper()
	n := node{name: "alone", dir: t.TempDir(), clientAddr: "127.0.0.1:-1", lazySync: true}
	return startNode(t, n)
}

func startNode(t *testing.T, n node) node {
	t.Helper()
	s, err := n.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	n.clientAddr = s.Addr().String()
	return n
}

func dial(t *testing.T, urls string, options ...nats.Option) *connection {
	t.Helper()
	nc, err := nats.Connect(urls, append(options, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return &connection{Conn: nc}
}

func mustQueue(t *testing.T, nc *connection, try time.Duration) *queue {
	t.Helper()
	q, err := newQueue(nc, try, inFlight)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// openQueue returns a queue on a single node, with both streams.
func openQueue(t *testing.T) *queue {
	t.Helper()
	q := mustQueue(t, dial(t, startAlone(t).url()), publishTry)
	if _, err := one.open(t.Context(), q.js); err != nil {
		t.Fatal(err)
	}
	return q
}

// announced returns a new delivery that announces an image.
func announced(t *testing.T, publicID string) *cloudinaryhook.Delivery {
	t.Helper()
	body, err := sender.FreshBody("upload-simple", publicID)
	if err != nil {
		t.Fatal(err)
	}
	return delivery(t, body)
}

func delivery(t *testing.T, body []byte) *cloudinaryhook.Delivery {
	t.Helper()
	d, err := cloudinaryhook.NewDelivery(body, cloudinaryhooktest.DefaultClaims(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustSave(t *testing.T, q *queue, d *cloudinaryhook.Delivery) {
	t.Helper()
	if _, err := q.Save(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func openDB(t *testing.T) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "images.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// newTestHandler returns a receiver's handler for requests of
// cloudinaryhooktest.
func newTestHandler(t *testing.T, store cloudinaryhook.Store, timeout time.Duration) http.Handler {
	t.Helper()
	r := receiver{secrets: []string{cloudinaryhooktest.DefaultSecret}, keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}}
	handler, err := r.handler(store, timeout, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

// wait is until for tests.
func wait(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	if err := until(t.Context(), f); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

// deadLetters waits until there are n dead letters, and returns them, oldest
// first.
func deadLetters(t *testing.T, js jetstream.JetStream, n uint64) []*jetstream.RawStreamMsg {
	t.Helper()
	stream, err := js.Stream(t.Context(), deadName)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "dead letters", func(ctx context.Context) error {
		info, err := stream.Info(ctx)
		if err == nil && info.State.Msgs < n {
			err = fmt.Errorf("there are %d dead letters, want %d", info.State.Msgs, n)
		}
		return err
	})
	var all []*jetstream.RawStreamMsg
	for i := range stream.CachedInfo().State.Msgs {
		msg, err := stream.GetMsg(t.Context(), i+1)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, msg)
	}
	return all
}

// A program is the real program in its own process.
type program struct {
	cmd *exec.Cmd
	log *lines
}

// start runs the program until the test stops it or ends.
func start(t *testing.T, name string, env []string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(name, args...), log: &lines{seen: make(chan string, 1000)}}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.WaitDelay = 10 * time.Second // its child processes may keep its output open
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill kills the process, as the system does if memory is short. It returns
// when the process is gone.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// expect waits for a line with this text, and returns the rest of the line.
func (p *program) expect(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(time.Minute)
	var log strings.Builder
	for {
		select {
		case line := <-p.log.seen:
			if _, rest, ok := strings.Cut(line, text); ok {
				return rest
			}
			log.WriteString(line + "\n")
		case <-timeout:
			t.Fatalf("the program did not say %q within a minute, but:\n%s", text, log.String())
		}
	}
}

// lines is a writer that passes its input on line by line.
type lines struct {
	seen chan string
	rest []byte
	all  bytes.Buffer
}

// Write implements io.Writer. One goroutine of os/exec calls it.
func (l *lines) Write(p []byte) (int, error) {
	l.all.Write(p)
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		select {
		case l.seen <- string(line):
		default: // nobody reads
		}
	}
}
