package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

// A bench measures the numbers of docs/scaling.md. Everything runs on this
// machine: nodes, receiver, workers and senders share its cores and its disk.
type bench struct {
	out      io.Writer
	dir      string
	messages int
	rounds   int
}

func runBench(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	b := &bench{out: stdout}
	flags := newFlags("bench")
	flags.IntVar(&b.messages, "messages", 2000, "notifications in each measurement")
	flags.IntVar(&b.rounds, "rounds", 5, "measurements of each kind; the result is their median")
	if err := parseFlags(flags, args, stderr); err != nil {
		return err
	}
	if b.messages < 100 || b.rounds < 1 {
		return errors.New("-messages must be at least 100, and -rounds at least 1")
	}
	if b.dir, err = os.MkdirTemp("", "jetstream"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	fmt.Fprintf(b.out, "%s/%s, %d CPUs; %d notifications a measurement, medians of %d\n\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), b.messages, b.rounds)
	for _, part := range []func(context.Context) error{b.disk, b.receiver, b.cluster, b.nodes} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func median[T int | int64 | float64 | time.Duration](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

// disk measures how long this machine's disk takes to sync a notification.
func (b *bench) disk(context.Context) error {
	f, err := os.Create(filepath.Join(b.dir, "sync"))
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 8<<10)
	var times []time.Duration
	for range 200 {
		started := time.Now()
		if _, err := f.Write(block); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		times = append(times, time.Since(started))
	}
	fmt.Fprintf(b.out, "disk: a write of 8 KiB is synced in %v\n\n", median(times).Round(time.Microsecond))
	return nil
}

// receiver measures the CPU time of a receiver process for each notification.
// It subtracts a short run from a long one, so that the cost of starting does
// not count.
func (b *bench) receiver(ctx context.Context) error {
	var each []time.Duration
	for range b.rounds {
		short, err := b.receive(ctx, b.messages/10)
		if err != nil {
			return err
		}
		long, err := b.receive(ctx, b.messages/10+b.messages)
		if err != nil {
			return err
		}
		each = append(each, (long-short)/time.Duration(b.messages))
	}
	m := median(each)
	fmt.Fprintf(b.out, "receiver: %v of CPU for each notification, so %.0f a second and core (computed)\n\n",
		m.Round(time.Microsecond), 1/m.Seconds())
	return nil
}

func (b *bench) receive(ctx context.Context, notifications int) (cpu time.Duration, err error) {
	dir, err := os.MkdirTemp(b.dir, "receiver")
	if err != nil {
		return 0, err
	}
	n := node{name: "alone", dir: dir, clientAddr: "127.0.0.1:-1", lazySync: true}
	s, err := n.start()
	if err != nil {
		return 0, err
	}
	defer s.Shutdown()
	secret, tokenKey := newSecrets()
	cmd, said, err := startSelf(ctx, []string{secrets.APISecret + "=" + secret, secrets.TokenKey + "=" + string(tokenKey)},
		"receive", "-addr", "127.0.0.1:0", "-nats", s.ClientURL(), "-replicas", "1", "-max-bytes", "1073741824")
	if err != nil {
		return 0, err
	}
	err = flood(ctx, newLoad(secret, tokenKey, time.Second, said), notifications)
	return stopSelf(cmd), err
}

// flood sends this number of notifications, as fast as they are answered.
func flood(ctx context.Context, l *load, notifications int) error {
	return parallel(16, notifications, func(int) error {
		body, err := sender.FreshBody("upload-full", "bench")
		if err != nil {
			return err
		}
		return l.deliver(ctx, body, cloudinaryTries)
	})
}

// parallel calls f n times with this number of workers, and joins the errors.
func parallel(workers, n int, f func(i int) error) error {
	var next atomic.Int64
	var running sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		running.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[w] = f(i)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// A benchCluster has three nodes, each in its own process, with both streams.
type benchCluster struct {
	*processes
	conn *connection
	q    *queue
}

func startBenchCluster(ctx context.Context, dir string, lazySync bool) (c *benchCluster, err error) {
	c = new(benchCluster)
	if c.processes, err = startProcesses(ctx, dir, lazySync); err != nil {
		return c, err
	}
	if c.conn, err = connect(clusterConfig{urls: urls(c.nodes)}, "bench", slog.New(slog.DiscardHandler)); err != nil {
		return c, err
	}
	if c.q, err = newQueue(c.conn, publishTry, inFlight); err != nil {
		return c, err
	}
	return c, until(ctx, func(ctx context.Context) error {
		_, err := clusterConfig{replicas: 3, maxBytes: 4 << 30}.open(ctx, c.q.js)
		return err
	})
}

// close returns the CPU time that the nodes have used.
func (c *benchCluster) close() (cpu time.Duration) {
	if c.conn != nil {
		c.conn.Close()
	}
	return c.stop()
}

// nodes measures the CPU time of all three nodes for each notification that is
// published and taken again.
func (b *bench) nodes(ctx context.Context) error {
	var each []time.Duration
	for round := range b.rounds {
		var used [2]time.Duration
		for i, times := range []int{1, 3} {
			c, err := startBenchCluster(ctx, filepath.Join(b.dir, fmt.Sprintf("nodes%d-%d", round, i)), false)
			for range times {
				if err == nil {
					_, err = b.through(ctx, c, 128)
				}
			}
			used[i] = c.close()
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
		}
		each = append(each, (used[1]-used[0])/time.Duration(2*b.messages))
	}
	fmt.Fprintf(b.out, "\nnodes: %v of CPU for each notification in and out, of all three together\n", median(each).Round(time.Microsecond))
	return nil
}

// cluster compares nodes that sync each write with nodes that do not, side by
// side: each round measures one and then the other.
func (b *bench) cluster(ctx context.Context) error {
	var clusters [2]*benchCluster
	for i, lazySync := range []bool{false, true} {
		c, err := startBenchCluster(ctx, filepath.Join(b.dir, fmt.Sprintf("cluster%d", i)), lazySync)
		defer func() { _ = c.close() }()
		if err != nil {
			return err
		}
		clusters[i] = c
	}
	fmt.Fprintf(b.out, "cluster: three nodes and three replicas on this machine, notifications a second\n%22s%16s%16s%12s\n",
		"in flight", "each synced", "every 2 min", "ratio")
	for _, inFlight := range []int{1, 16, 128, 1024} {
		if err := b.compare(ctx, fmt.Sprint(inFlight), clusters, func(c *benchCluster) (float64, error) {
			return b.publish(ctx, c.q, inFlight)
		}); err != nil {
			return err
		}
	}
	if err := b.storage(ctx, clusters[0]); err != nil {
		return err
	}
	return b.compare(ctx, "128, and out again", clusters, func(c *benchCluster) (float64, error) {
		return b.through(ctx, c, 128)
	})
}

func (b *bench) compare(ctx context.Context, name string, clusters [2]*benchCluster, measure func(*benchCluster) (float64, error)) error {
	var rates, ratios [2][]float64
	for range b.rounds {
		for i, c := range clusters {
			rate, err := measure(c)
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
		ratios[0] = append(ratios[0], rates[0][len(rates[0])-1]/rates[1][len(rates[1])-1])
	}
	fmt.Fprintf(b.out, "%22s%16.0f%16.0f%12.2f\n", name, median(rates[0]), median(rates[1]), median(ratios[0]))
	return nil
}

func (b *bench) deliveries() ([]*cloudinaryhook.Delivery, error) {
	all := make([]*cloudinaryhook.Delivery, b.messages)
	for i := range all {
		body, err := sender.FreshBody("upload-full", "bench")
		if err != nil {
			return nil, err
		}
		if all[i], err = cloudinaryhook.NewDelivery(body, cloudinaryhooktest.DefaultClaims(), time.Now()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (b *bench) publish(ctx context.Context, q *queue, inFlight int) (rate float64, err error) {
	deliveries, err := b.deliveries()
	if err != nil {
		return 0, err
	}
	started := time.Now()
	err = parallel(inFlight, len(deliveries), func(i int) error {
		_, err := q.Save(ctx, deliveries[i])
		return err
	})
	return float64(len(deliveries)) / time.Since(started).Seconds(), err
}

// through measures how many notifications a second are published and processed
// by a worker. The worker's store is in memory, because the database is
// measured separately.
func (b *bench) through(ctx context.Context, c *benchCluster, inFlight int) (rate float64, err error) {
	if err := c.empty(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var left sync.WaitGroup
	left.Add(b.messages)
	w := &worker{
		processor: &cloudinaryhook.Processor{
			Store: new(cloudinaryhooktest.MemoryStore),
			Images: cloudinaryhook.ImageCreatorFunc(func(context.Context, *cloudinaryhook.Image) error {
				left.Done()
				return nil
			}),
		},
		concurrency: inFlight, timeout: time.Minute, maxTries: maxTries, backoff: backoff, ackWait: ackWait,
		count: func(string) {}, logger: slog.New(slog.DiscardHandler),
	}
	working := make(chan error, 1)
	go func() { working <- w.run(ctx, c.conn) }()
	started := time.Now()
	if _, err := b.publish(ctx, c.q, inFlight); err != nil {
		return 0, err
	}
	left.Wait()
	rate = float64(b.messages) / time.Since(started).Seconds()
	cancel()
	return rate, <-working
}

func (c *benchCluster) empty(ctx context.Context) error {
	stream, err := c.q.js.Stream(ctx, streamName)
	if err != nil {
		return err
	}
	return stream.Purge(ctx)
}

// storage measures the space of a notification on a node's disk.
func (b *bench) storage(ctx context.Context, c *benchCluster) error {
	stream, err := c.q.js.Stream(ctx, streamName)
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	total, err := folderSize(c.nodes[0].dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\nstorage: %d bytes in the stream for each notification, and %d on each node's disk with its log\n\n",
		state.Bytes/state.Msgs, uint64(total)/state.Msgs) //nolint:gosec // sizes
	return nil
}

func folderSize(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the node has removed the file meanwhile
		}
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return nil
	})
	return total, err
}
