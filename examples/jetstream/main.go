// Jetstream receives notifications into a NATS JetStream cluster, from which
// workers create images.
//
//	go run ./examples/jetstream demo      a cluster, a receiver and two workers on this machine
//	go run ./examples/jetstream receive   authenticate and queue
//	go run ./examples/jetstream work      create images; holds no secret
//	go run ./examples/jetstream dead      list, put back or discard notifications that no worker could process
//	go run ./examples/jetstream bench     measure the numbers of docs/scaling.md
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloudinaryhook/cloudinaryhook/internal/flagset"
)

const usage = `usage: jetstream demo | receive | work | dead | bench [flags]; -h after a command lists its flags`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for current work
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "jetstream:", err)
		os.Exit(1)
	}
}

// run is the whole program. It returns when ctx has ended and the current work
// is finished.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	switch command, args := args[0], args[1:]; command {
	case "receive":
		r, err := parseReceiver(args, getenv, stderr)
		if err != nil {
			return err
		}
		return r.run(ctx, stdout, stderr)
	case "work":
		c, err := parseWorker(args, stderr)
		if err != nil {
			return err
		}
		return c.run(ctx, stdout, stderr)
	case "dead":
		return runDead(ctx, args, stdout, stderr)
	case "demo":
		return runDemo(ctx, stdout)
	case "bench":
		return runBench(ctx, args, stdout, stderr)
	case "node":
		return runNode(ctx, args, stdout, stderr)
	}
	return errors.New(usage)
}

// clusterConfig has the address of the cluster, and the settings of its
// streams.
type clusterConfig struct {
	urls        string
	credentials string
	rootCAs     string
	replicas    int
	maxBytes    int64
}

func (c *clusterConfig) register(flags *flag.FlagSet) {
	flags.StringVar(&c.urls, "nats", "nats://127.0.0.1:4222", "comma-separated `URLs` of the cluster's nodes")
	flags.StringVar(&c.credentials, "creds", "", "NATS credentials `file`")
	flags.StringVar(&c.rootCAs, "ca", "", "`file` with the CA certificates of the nodes, for tls:// URLs")
	flags.IntVar(&c.replicas, "replicas", 3, "copies of each notification; fewer than 3 do not survive the loss of a node")
	flags.Int64Var(&c.maxBytes, "max-bytes", 16<<30, "`size` of the stream. Each node must have it free, and an eighth more for dead letters. When the stream is full, notifications are answered 500")
}

// check refuses settings with which a stream cannot keep notifications safely.
func (c *clusterConfig) check() error {
	if c.replicas < 1 || c.maxBytes < 2*largestMessage {
		return fmt.Errorf("-replicas must be at least 1, and -max-bytes at least %d, enough for two of the largest notifications", 2*largestMessage)
	}
	return nil
}

func newFlags(command string) *flag.FlagSet {
	return flag.NewFlagSet("jetstream "+command, flag.ContinueOnError)
}

// parseFlags is flagset.Parse for commands without arguments.
func parseFlags(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	if err := flagset.Parse(flags, args, stderr); err != nil {
		return err
	}
	if flags.NArg() > 0 { // not quoted: it may be a URL whose flag was forgotten
		return errors.New("there are arguments without a flag; -h lists the flags")
	}
	return nil
}
