package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// maxPayload is the nodes' limit. It is large enough for bodies of maxBody.
const maxPayload = 8 << 20

// A node is one server of a cluster on this machine, for the demo, the tests and
// measurements. In production run nats-server itself; the README has its
// configuration.
type node struct {
	name       string
	dir        string
	clientAddr string
	routeAddr  string
	routes     []string // addresses of the other nodes; none: the node is alone
	advertise  string   // the address that the other nodes get; "": routeAddr
	lazySync   bool     // sync to disk every two minutes only, nats-server's default
	maxPayload int32    // 0: maxPayload
	maxStore   int64    // limit of the stored bytes; 0: the disk's free space
	password   string   // for all clients; "": none
}

func (n node) url() string { return "nats://" + n.clientAddr }

// start returns before the node is connected to the others.
func (n node) start() (*server.Server, error) {
	options, err := n.options()
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.name, err)
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		s.Shutdown()
		return nil, fmt.Errorf("node %s is not ready after 30 s", n.name)
	}
	return s, nil
}

func (n node) options() (o *server.Options, err error) {
	o = &server.Options{
		ServerName: n.name,
		JetStream:  true,
		StoreDir:   n.dir,

		JetStreamMaxStore: n.maxStore,
		Authorization:     n.password,
		SyncAlways:        !n.lazySync,
		MaxPayload:        cmp.Or(n.maxPayload, maxPayload),
		NoLog:             true,
		NoSigs:            true,
	}
	if o.Host, o.Port, err = splitAddr(n.clientAddr); err != nil || len(n.routes) == 0 {
		return o, err
	}
	o.Cluster = server.ClusterOpts{Name: "cloudinaryhook", Advertise: n.advertise}
	o.Routes = server.RoutesFromStr("nats://" + strings.Join(n.routes, ",nats://"))
	o.Cluster.Host, o.Cluster.Port, err = splitAddr(n.routeAddr)
	return o, err
}

// args returns the arguments of the command that runs the node in its own
// process.
func (n node) args() []string {
	args := []string{"node", "-name", n.name, "-dir", n.dir, "-addr", n.clientAddr, "-cluster", n.routeAddr,
		"-advertise", n.advertise, "-routes", strings.Join(n.routes, ",")}
	if n.lazySync {
		args = append(args, "-lazy-sync")
	}
	return args
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	return host, port, err
}

// newNodes plans a cluster of three. Nodes must know each other's addresses
// before they start, and keep them when they start again.
func newNodes(dir string) ([]node, error) {
	addrs, err := freeAddrs(6)
	if err != nil {
		return nil, err
	}
	nodes := make([]node, 3)
	for i := range nodes {
		name := string(rune('a' + i))
		nodes[i] = node{name: name, dir: filepath.Join(dir, name), clientAddr: addrs[i], routeAddr: addrs[3+i]}
	}
	for i := range nodes {
		for j := range nodes {
			if i != j {
				nodes[i].routes = append(nodes[i].routes, nodes[j].routeAddr)
			}
		}
	}
	return nodes, nil
}

// freeAddrs returns loopback addresses that nobody listens on.
func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() // after all are chosen, so that they differ
		addrs[i] = listener.Addr().String()
	}
	return addrs, nil
}

func urls(nodes []node) string {
	all := make([]string, len(nodes))
	for i, n := range nodes {
		all[i] = n.url()
	}
	return strings.Join(all, ",")
}

// runNode runs one node in this process. Tests kill it, and you can run a
// cluster in three terminals.
func runNode(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var n node
	var routes string
	flags := newFlags("node")
	flags.StringVar(&n.name, "name", "", "the node's `name` in the cluster")
	flags.StringVar(&n.dir, "dir", "", "`folder` to keep messages in")
	flags.StringVar(&n.clientAddr, "addr", "127.0.0.1:4222", "`address` for clients")
	flags.StringVar(&n.routeAddr, "cluster", "127.0.0.1:6222", "`address` for other nodes")
	flags.StringVar(&n.advertise, "advertise", "", "`address` at which other nodes reach this one, if it is not that of -cluster")
	flags.StringVar(&routes, "routes", "", "comma-separated `addresses` of the other nodes")
	flags.BoolVar(&n.lazySync, "lazy-sync", false, "sync only every two minutes: a power failure may lose acknowledged messages")
	if err := parseFlags(flags, args, stderr); err != nil {
		return err
	}
	if n.name == "" || n.dir == "" || routes == "" {
		return errors.New("-name, -dir and -routes are required")
	}
	n.routes = strings.Split(routes, ",")
	s, err := n.start()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "node %s: %s\n", n.name, n.url())
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// until calls f until it returns nil, and gives up after a minute. Each call
// has three seconds, because a cluster without a leader does not answer.
func until(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		callCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := f(callCtx)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, after: %w", ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func streamInfo(ctx context.Context, js jetstream.JetStream) (*jetstream.StreamInfo, error) {
	stream, err := js.Stream(ctx, streamName) // asks for the information
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// streamLeader returns the name of the node that leads the stream.
func streamLeader(ctx context.Context, js jetstream.JetStream) (string, error) {
	info, err := streamInfo(ctx, js)
	if err != nil {
		return "", err
	}
	if info.Cluster == nil || info.Cluster.Leader == "" {
		return "", errors.New("the stream has no leader")
	}
	return info.Cluster.Leader, nil
}

// allCurrent returns nil if each node has the same messages as the leader.
func allCurrent(ctx context.Context, js jetstream.JetStream) error {
	info, err := streamInfo(ctx, js)
	if err != nil {
		return err
	}
	if info.Cluster == nil || len(info.Cluster.Replicas) != info.Config.Replicas-1 {
		return errors.New("the stream lacks a replica")
	}
	for _, replica := range info.Cluster.Replicas {
		if !replica.Current || replica.Offline {
			return fmt.Errorf("node %s is not current", replica.Name)
		}
	}
	return nil
}

// isEmpty returns nil if no notification waits for a worker.
func isEmpty(ctx context.Context, js jetstream.JetStream) error {
	info, err := streamInfo(ctx, js)
	if err == nil && info.State.Msgs > 0 {
		err = fmt.Errorf("%d notifications wait", info.State.Msgs)
	}
	return err
}
