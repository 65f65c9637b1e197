package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// measureScale drives this package's handler, and the empty one beside it, with
// more and more connections, on one core and on two.
func measureScale(ctx context.Context, c *config, stdout, stderr io.Writer) error {
	dir, err := prepare()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := raiseFileLimit(); err != nil {
		return err
	}
	content, err := body("typical")
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s; the typical body, medians of %d turns of %v\n\n", machine(), c.rounds, c.slice)
	fmt.Fprint(stdout, "| cores | connections | requests/s | share of the empty handler by CPU | p50 | p99 | CPU per request | peak memory |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, cores := range []string{c.serverCores, c.serverCores + "," + c.clientCores} {
		for _, connections := range []int{1, 16, 256, 4096} {
			fmt.Fprintf(stderr, "\rcores %s, %d connections ", cores, connections)
			scripts := filepath.Join(dir, fmt.Sprintf("%s-%d", cores, connections))
			hook, empty, memory, err := c.scaleOnce(ctx, scripts, cores, connections, content)
			if err != nil {
				return fmt.Errorf("cores %s, %d connections: %w", cores, connections, err)
			}
			fmt.Fprintf(stdout, "| %s | %d | %.0f | %.2f | %v | %v | %.1f µs | %.0f MiB |\n", cores, connections, hook.rate,
				float64(empty.cpu)/float64(hook.cpu), hook.p50, hook.p99, float64(hook.cpu)/float64(time.Microsecond), float64(memory)/(1<<20))
		}
	}
	fmt.Fprintln(stderr)
	return nil
}

func (c *config) scaleOnce(ctx context.Context, dir, cores string, connections int, content []byte) (hook, empty sample, memory int64, err error) {
	var all [2][]sample
	var processes [2]*process
	for i, server := range []string{"empty", "cloudinaryhook"} {
		scripts := dir + server
		if err := os.Mkdir(scripts, 0o700); err != nil { //nolint:gosec // the name is our own
			return hook, empty, 0, err
		}
		if processes[i], err = start(ctx, server, cores, "", scripts, content); err != nil {
			return hook, empty, 0, err
		}
		defer processes[i].stop()
	}
	for range c.rounds {
		for i, p := range processes {
			s, err := p.drive(ctx, c.clientCores, connections, c.slice)
			if err != nil {
				return hook, empty, 0, err
			}
			all[i] = append(all[i], s)
		}
	}
	memory, err = peakMemory(processes[1].pid)
	return medians(all[1]), medians(all[0]), memory, err
}
