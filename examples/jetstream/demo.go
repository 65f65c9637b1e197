package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
)

const (
	demoClients  = 4
	demoInterval = 100 * time.Millisecond // of each client
)

// A demo has a cluster of three processes. This process runs a receiver, two
// workers and the senders that play Cloudinary.
type demo struct {
	out     io.Writer
	started time.Time
	cluster *processes
	db      *database.DB
	conn    *connection
	js      jetstream.JetStream
	load    *load

	killed string             // the last node that was killed
	stop   context.CancelFunc // stops receiver and workers
	tasks  sync.WaitGroup
	errs   chan error
}

// runDemo ends by itself after about half a minute. It needs only a temporary
// folder, which it removes.
func runDemo(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "jetstream")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{out: out, started: time.Now(), errs: make(chan error, 16)}
	defer d.close()
	if err := d.startCluster(ctx, dir); err != nil {
		return err
	}
	if err := d.startPrograms(ctx, dir); err != nil {
		return err
	}
	return d.script(ctx)
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%5.1fs  %s\n", time.Since(d.started).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) startCluster(ctx context.Context, dir string) (err error) {
	if d.cluster, err = startProcesses(ctx, dir, false); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	if d.conn, err = connect(clusterConfig{urls: urls(d.cluster.nodes)}, "demo", quiet); err != nil {
		return err
	}
	if d.js, err = jetstream.New(d.conn.Conn); err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) error {
		_, err := clusterConfig{replicas: 3, maxBytes: 256 << 20}.open(ctx, d.js)
		return err
	})
}

// startPrograms starts a receiver and two workers that share a database, and
// prepares the senders. Receiver and workers each have their own connection to
// the cluster.
func (d *demo) startPrograms(ctx context.Context, dir string) (err error) {
	quiet := slog.New(slog.DiscardHandler)
	if d.db, err = database.Open(ctx, filepath.Join(dir, "images.db")); err != nil {
		return err
	}
	ctx, d.stop = context.WithCancel(ctx)
	for i := range 2 {
		nc, err := connect(clusterConfig{urls: urls(d.cluster.nodes)}, fmt.Sprintf("worker %d", i), quiet)
		if err != nil {
			return err
		}
		w := &worker{
			processor: &cloudinaryhook.Processor{Store: d.db, Images: d.db}, concurrency: 8,
			timeout: 5 * time.Second, maxTries: maxTries, backoff: backoff, ackWait: ackWait,
			count: func(string) {}, logger: quiet,
		}
		d.task(func() error { defer nc.Close(); return w.run(ctx, nc) })
	}
	nc, err := connect(clusterConfig{urls: urls(d.cluster.nodes)}, "receiver", quiet)
	if err != nil {
		return err
	}
	secret, tokenKey := newSecrets()
	q, err := newQueue(nc, publishTry, inFlight)
	if err != nil {
		return err
	}
	r := receiver{secrets: []string{secret}, keys: [][]byte{tokenKey}}
	handler, err := r.handler(q, 0, nil, quiet)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.load = newLoad(secret, tokenKey, time.Second, "http://"+listener.Addr().String()+hookPath)
	mux := http.NewServeMux()
	mux.Handle(hookPath, handler)
	program := &service.Service{Logger: quiet}
	d.task(func() error {
		defer nc.Close()
		return program.Serve(ctx, service.Site{Listener: listener, Handler: mux})
	})
	return nil
}

func (d *demo) task(f func() error) {
	d.tasks.Go(func() {
		if err := f(); err != nil {
			d.errs <- err
		}
	})
}

func (d *demo) close() {
	if d.stop != nil {
		d.stop()
	}
	d.tasks.Wait()
	if d.conn != nil {
		d.conn.Close()
	}
	d.cluster.stop()
	if d.db != nil {
		_ = d.db.Close()
	}
}

// script kills the node that leads the stream and starts it again, and then
// does the same with another node.
func (d *demo) script(ctx context.Context) error {
	d.say("three nodes, each with its own files; a receiver; two workers; %d senders", demoClients)
	sending, stop := context.WithCancel(ctx)
	defer stop()
	var senders sync.WaitGroup
	for range demoClients {
		senders.Go(func() {
			if err := d.load.run(sending, demoInterval); err != nil {
				d.errs <- err
			}
		})
	}
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return d.watch(ctx, 4) },
		func(ctx context.Context) error { return d.crash(ctx, true) },
		func(ctx context.Context) error { return d.crash(ctx, false) },
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	stop()
	senders.Wait()
	d.say("the senders have stopped; the workers finish")
	return d.finish(ctx)
}

// watch prints a line a second.
func (d *demo) watch(ctx context.Context, seconds int) error {
	for range seconds {
		before := d.load.acknowledged()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-d.errs:
			return err
		case <-time.After(time.Second):
		}
		stats, err := d.db.Stats(ctx)
		if err != nil {
			return err
		}
		after := d.load.acknowledged()
		d.say("acknowledged %4d (+%d), images %4d", after, after-before, stats.Images)
	}
	return nil
}

// crash kills the node that leads the stream, or one that does not and was not
// killed before, and starts it again.
func (d *demo) crash(ctx context.Context, leads bool) error {
	i, err := d.find(ctx, leads)
	if err != nil {
		return err
	}
	role := map[bool]string{true: "the leader of the stream", false: "a follower"}[leads]
	d.say("-- node %s, %s, is killed", d.cluster.nodes[i].name, role)
	d.cluster.kill(i)
	if err := d.watch(ctx, 6); err != nil {
		return err
	}
	d.say("-- node %s is started again", d.cluster.nodes[i].name)
	if err := d.cluster.start(ctx, i); err != nil {
		return err
	}
	if err := d.watch(ctx, 2); err != nil {
		return err
	}
	if err := until(ctx, func(ctx context.Context) error { return allCurrent(ctx, d.js) }); err != nil {
		return err
	}
	d.say("-- node %s has caught up", d.cluster.nodes[i].name)
	return nil
}

func (d *demo) find(ctx context.Context, leads bool) (int, error) {
	var leader string
	err := until(ctx, func(ctx context.Context) (err error) {
		leader, err = streamLeader(ctx, d.js)
		return err
	})
	for i, n := range d.cluster.nodes {
		if (n.name == leader) == leads && n.name != d.killed {
			d.killed = n.name
			return i, err
		}
	}
	return 0, errors.Join(err, fmt.Errorf("no node is named %s", leader))
}

// finish waits until all work is done, and counts.
func (d *demo) finish(ctx context.Context) error {
	if err := until(ctx, func(ctx context.Context) error { return isEmpty(ctx, d.js) }); err != nil {
		return err
	}
	r, err := d.load.compare(ctx, d.db)
	if err != nil {
		return err
	}
	d.say("%v", r)
	if r.acknowledged == 0 || r.lost > 0 || r.doubled > 0 {
		return errors.New("notifications were lost or doubled, or none was acknowledged")
	}
	return nil
}
