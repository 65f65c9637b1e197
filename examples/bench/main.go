// Bench measures the cost of a notification for a server. It compares five
// handlers: an empty one that only reads the body, one with only the steps that
// every handler needs, this package's, one with cloudinary-go, and a naive one.
//
//	go run ./examples/bench            the table of docs/performance.md, in about three minutes
//	go run ./examples/bench -awake     the same, but servers do not pay for waking the client
//	go run ./examples/bench -scale     1 to 4,096 connections, on one core and on two
//
// Each server runs in its own process on one core. On another core wrk sends
// requests, to each server in turn for a second, so that other work on the
// machine affects all servers equally. Before that, each server must accept a
// good request and refuse five bad ones. The empty one accepts all.
//
// It needs Linux, taskset (util-linux) and wrk. Compare the shares: an absolute
// number depends mostly on the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"
)

// config holds the settings from flags.
type config struct {
	serve       string
	profile     string
	scale       bool
	servers     []string
	bodies      []string
	rounds      int
	slice       time.Duration
	connections int
	serverCores string
	clientCores string
	awake       bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseConfig(args, stderr)
	switch {
	case err != nil:
		return err
	case c.serve != "":
		return serve(c.serve, c.profile, os.Stdin, stdout)
	case c.scale:
		return measureScale(ctx, c, stdout, stderr)
	}
	return compare(ctx, c, stdout, stderr)
}

func parseConfig(args []string, stderr io.Writer) (*config, error) {
	c := new(config)
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.serve, "serve", "", "run only this server (`name`) until standard input ends, and measure nothing")
	flags.StringVar(&c.profile, "profile", "", "write a CPU profile for each server and body into this `directory`; with -serve, into this file")
	flags.BoolVar(&c.scale, "scale", false, "measure this package's handler with 1, 16, 256 and 4,096 connections on one and two cores")
	servers := flags.String("servers", strings.Join(serverNames, ","), "`names` of the servers to measure, separated by commas; the first must be empty")
	bodies := flags.String("bodies", "small,typical,big", "`names` of the bodies to send, separated by commas")
	flags.IntVar(&c.rounds, "rounds", 9, "`number` of turns of each server with each body, after one to warm up")
	flags.DurationVar(&c.slice, "slice", time.Second, "`duration` of a turn, in whole seconds")
	flags.IntVar(&c.connections, "connections", 16, "`number` of connections that wrk keeps busy")
	flags.StringVar(&c.serverCores, "server-cores", "0", "the `cores` of the server, in the form of taskset")
	flags.StringVar(&c.clientCores, "client-cores", "1", "the `cores` of wrk")
	flags.BoolVar(&c.awake, "awake", false, "keep the client's core awake; on a virtual machine the server would pay for waking it")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	c.servers, c.bodies = strings.Split(*servers, ","), strings.Split(*bodies, ",")
	if c.servers[0] != "empty" && c.serve == "" {
		return nil, errors.New("-servers must begin with empty, because the others are compared with it")
	}
	if c.rounds < 1 || c.slice < time.Second || c.slice%time.Second != 0 || c.connections < 1 {
		return nil, errors.New("-rounds and -connections must be positive, and -slice must be whole seconds")
	}
	return c, nil
}
