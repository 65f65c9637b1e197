// Jetstream receives notifications into a NATS JetStream cluster, from which
// workers create images.
//
//	go run ./examples/jetstream demo      a cluster, a receiver and two workers in one process
//	go run ./examples/jetstream receive   authenticate and queue
//	go run ./examples/jetstream work      create images; holds no secret
//	go run ./examples/jetstream dead      list what no worker could process, or put it back
//	go run ./examples/jetstream bench     measure what docs/scaling.md computes with
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: jetstream demo | receive | work | dead | bench [flags]; -h after a command lists its flags`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for what is in flight
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "jetstream:", err)
		os.Exit(1)
	}
}

// run is the whole program. It returns when ctx is done and what was in flight
// has ended.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	switch command, args := args[0], args[1:]; command {
	case "receive":
		r, err := parseReceiver(args, getenv, stderr)
		if err != nil {
			return err
		}
		return r.run(ctx, stdout, logger)
	case "work":
		c, err := parseWorker(args, stderr)
		if err != nil {
			return err
		}
		return c.run(ctx, logger)
	case "dead":
		return runDead(ctx, args, stdout, stderr, logger)
	case "demo":
		return runDemo(ctx, stdout)
	case "bench":
		return runBench(ctx, args, stdout, stderr)
	case "node":
		return runNode(ctx, args, stdout, stderr)
	}
	return errors.New(usage)
}

// clusterConfig is how receivers and workers find the cluster, and what they
// want of it.
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
	flags.StringVar(&c.rootCAs, "ca", "", "`file` of certificates that the nodes' are signed with, for tls:// URLs")
	flags.IntVar(&c.replicas, "replicas", 3, "copies of each notification; fewer than 3 do not survive the loss of a node")
	flags.Int64Var(&c.maxBytes, "max-bytes", 16<<30, "`size` of the stream; when it is full, notifications are answered 500")
}

func newFlags(command string, stderr io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet("jetstream "+command, flag.ContinueOnError)
	flags.SetOutput(stderr)
	return flags
}

func parseFlags(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return nil
}
