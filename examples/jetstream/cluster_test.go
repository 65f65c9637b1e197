package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

// A link is the only way from one node to another.
type link struct {
	from, to int
	listener net.Listener
	target   string
	gate     sync.RWMutex // held for writing while the link is cut
}

// newLink listens until the test ends.
func newLink(t *testing.T, from, to int, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	l := &link{from: from, to: to, listener: listener, target: target}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.carry(conn)
		}
	}()
	return l
}

func (l *link) carry(near net.Conn) {
	defer near.Close()
	l.pass()
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		return // the node is down
	}
	defer far.Close()
	go l.copy(far, near)
	l.copy(near, far)
}

// pass waits while the link is cut.
func (l *link) pass() {
	l.gate.RLock()
	defer l.gate.RUnlock()
}

// copy holds back data while the link is cut. It does not close the connection,
// so neither end notices, as with a broken cable.
func (l *link) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		l.pass()
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// A testCluster has three nodes. Each is a process with files on disk.
type testCluster struct {
	t         *testing.T
	nodes     []node
	processes []*program
	links     []*link
	clients   []jetstream.JetStream // one for each node
	conns     []*connection
}

func startTestCluster(t *testing.T) *testCluster {
	t.Helper()
	nodes, err := newNodes(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := &testCluster{t: t, nodes: nodes, processes: make([]*program, len(nodes))}
	for i := range nodes {
		nodes[i].routes = nil
		nodes[i].advertise = "127.0.0.1:1" // nobody listens there, so all traffic must go through the links
		for j := range nodes {
			if i != j {
				l := newLink(t, i, j, nodes[j].routeAddr)
				c.links = append(c.links, l)
				nodes[i].routes = append(nodes[i].routes, l.listener.Addr().String())
			}
		}
	}
	for i := range nodes {
		c.start(i)
	}
	for _, n := range nodes {
		nc := dial(t, n.url(), nats.IgnoreDiscoveredServers())
		js, err := jetstream.New(nc.Conn)
		if err != nil {
			t.Fatal(err)
		}
		c.conns, c.clients = append(c.conns, nc), append(c.clients, js)
	}
	return c
}

// open creates the streams, and returns when each node has them.
func (c *testCluster) open(config clusterConfig) {
	c.t.Helper()
	c.ask("the streams", func(ctx context.Context, js jetstream.JetStream) error {
		_, err := config.open(ctx, js)
		return err
	})
	c.ask("three replicas", allCurrent)
}

func (c *testCluster) start(i int) {
	c.t.Helper()
	c.processes[i] = start(c.t, binary, nil, c.nodes[i].args()...)
	c.processes[i].expect(c.t, "nats://")
}

// ask asks one node after the other until one answers.
func (c *testCluster) ask(what string, f func(context.Context, jetstream.JetStream) error) {
	c.t.Helper()
	next := 0
	wait(c.t, what, func(ctx context.Context) error {
		next = (next + 1) % len(c.clients)
		return f(ctx, c.clients[next])
	})
}

func (c *testCluster) leader() int {
	c.t.Helper()
	leader := -1
	c.ask("a leader", func(ctx context.Context, js jetstream.JetStream) error {
		name, err := streamLeader(ctx, js)
		for i, n := range c.nodes {
			if n.name == name {
				leader = i
			}
		}
		return err
	})
	return leader
}

// cut separates a node from the other nodes. It stays connected to its clients.
func (c *testCluster) cut(i int) (heal func()) {
	var cut []*link
	for _, l := range c.links {
		if l.from == i || l.to == i {
			l.gate.Lock()
			cut = append(cut, l)
		}
	}
	heal = sync.OnceFunc(func() {
		for _, l := range cut {
			l.gate.Unlock()
		}
	})
	c.t.Cleanup(heal)
	return heal
}

// startReceiver runs a receiver with a short timeout, so that the test sees it
// refuse, and returns its URL.
func startReceiver(t *testing.T, nc *connection, secret string, tokenKey []byte) string {
	t.Helper()
	q := mustQueue(t, nc, time.Second)
	handler, err := (&receiver{secrets: []string{secret}, keys: [][]byte{tokenKey}}).handler(q, 2500*time.Millisecond, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(newMux(&service.Service{Logger: quiet}, handler))
	t.Cleanup(s.Close)
	return s.URL + hookPath
}

// TestCluster tests the promise: every notification that was answered 201 has
// its image, although one node after the other is killed or cut off.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startTestCluster(t)
	c.open(clusterConfig{replicas: 3, maxBytes: 1 << 30})

	db := openDB(t)
	all := urls(c.nodes)
	for range 2 {
		w := newTestWorker(db, db)
		w.maxTries = 1000 // the machine may be slow, and no message here is bad
		startWorker(t, w, dial(t, all))
	}
	secret, tokenKey := newSecrets()
	var hooks []string
	for range 3 {
		hooks = append(hooks, startReceiver(t, dial(t, all), secret, tokenKey))
	}
	l := newLoad(secret, tokenKey, 500*time.Millisecond, hooks...)
	sending, stop := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for range 6 {
		senders.Go(func() {
			if err := l.run(sending, 50*time.Millisecond); err != nil {
				t.Error(err)
			}
		})
	}
	defer senders.Wait()
	defer stop()
	c.trouble(l, secret, tokenKey)
	stop()
	senders.Wait()
	c.ask("an empty stream", isEmpty)
	checkResult(t, l, db)
}

// trouble lists faults of a cluster. After each of them, receivers must go on
// answering 201.
func (c *testCluster) trouble(l *load, secret string, tokenKey []byte) {
	started := time.Now()
	more := func(after string) {
		c.t.Helper()
		before := l.acknowledged()
		wait(c.t, "acknowledgements "+after, func(context.Context) error {
			if now := l.acknowledged(); now < before+100 {
				return fmt.Errorf("only %d were acknowledged", now-before)
			}
			return nil
		})
		c.t.Logf("%3.0f s: %4d acknowledged %s", time.Since(started).Seconds(), l.acknowledged(), after)
	}
	more("with three nodes")

	leader := c.leader()
	c.processes[leader].kill()
	more("after the leader was killed")
	c.start(leader)
	c.ask("the killed leader's return", allCurrent)

	other := (leader + 1) % 3
	c.processes[other].kill()
	more("after another was killed")
	c.start(other)
	c.ask("the other's return", allCurrent)

	leader = c.leader()
	heal := c.cut(leader)
	c.refuse(l, leader, secret, tokenKey)
	more("while the leader is cut off")
	heal()
	more("after it was joined again")
	c.ask("its return", allCurrent)
}

// refuse sends to a receiver that reaches only the cut-off node. It must not
// acknowledge anything. Later the same notifications are sent to other
// receivers.
func (c *testCluster) refuse(l *load, cut int, secret string, tokenKey []byte) {
	c.t.Helper()
	hook := startReceiver(c.t, c.conns[cut], secret, tokenKey)
	alone := newLoad(secret, tokenKey, 0, hook)
	const count = 5
	var sending sync.WaitGroup
	for range count {
		sending.Go(func() {
			body, err := sender.FreshBody("upload-full", "cut-off")
			if err == nil {
				err = errors.Join(alone.deliver(c.t.Context(), body, 1), l.deliver(c.t.Context(), body, cloudinaryTries))
			}
			if err != nil {
				c.t.Error(err)
			}
		})
	}
	sending.Wait()
	if got := alone.statuses[http.StatusInternalServerError]; got != count {
		c.t.Errorf("the node that was cut off had statuses %v, want 500 %d times", alone.statuses, count)
	}
}

func checkResult(t *testing.T, l *load, db *database.DB) {
	t.Helper()
	r, err := l.compare(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	if r.lost != 0 || r.doubled != 0 {
		t.Errorf("lost %d and doubled %d, want 0 and 0", r.lost, r.doubled)
	}
	if got := l.unexpected(); got != "" {
		t.Errorf("%s, want nothing but 201 and 500", got)
	}
	if r.acknowledged < 500 || r.images < r.acknowledged || r.refusals == 0 {
		t.Errorf("acknowledged %d, %d images, %d refusals: too few for the test to prove anything", r.acknowledged, r.images, r.refusals)
	}
}

// TestAcknowledgedMeansSynced watches a node's system calls: if messages are
// sent one by one, the node syncs each of them to disk. Without SyncAlways it
// would sync only every two minutes. The two other nodes would not help,
// because all three may lose power at the same time.
func TestAcknowledgedMeansSynced(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is not installed")
		}
		t.Skip("strace is not installed")
	}
	nodes, err := newNodes(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	for i, n := range nodes {
		command := append([]string{binary}, n.args()...)
		if i == 0 {
			// With -D, strace is a child of the node, so the process to kill is the
			// node.
			command = append([]string{strace, "-D", "-f", "-e", "trace=fsync,fdatasync", "-o", trace}, command...)
		}
		start(t, command[0], nil, command[1:]...).expect(t, "nats://")
	}
	q := mustQueue(t, dial(t, urls(nodes)), publishTry)
	wait(t, "the streams", func(ctx context.Context) error {
		_, err := clusterConfig{replicas: 3, maxBytes: 1 << 30}.open(ctx, q.js)
		return err
	})
	syncs := func() int {
		data, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(data, []byte("sync(")) // each call has this once, even if strace prints it in two parts
	}
	before := syncs()
	const count = 100
	for range count {
		mustSave(t, q, announced(t, "synced"))
	}
	wait(t, "each one to be synced", func(ctx context.Context) error {
		if got := syncs() - before; got < count {
			return fmt.Errorf("only %d of %d were synced", got, count)
		}
		return nil
	})
}
