package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// processes are the nodes of a cluster on this machine. Each is a process that
// can be killed, like a crash.
type processes struct {
	nodes   []node
	running []*exec.Cmd // nil: that node was killed
}

// startProcesses returns when the nodes accept clients. They may not be
// connected to each other yet. Even if it fails, the result has the nodes that
// it has started.
func startProcesses(ctx context.Context, dir string, lazySync bool) (*processes, error) {
	nodes, err := newNodes(dir)
	if err != nil {
		return nil, err
	}
	p := &processes{nodes: nodes, running: make([]*exec.Cmd, len(nodes))}
	for i := range nodes {
		nodes[i].lazySync = lazySync
		if err := p.start(ctx, i); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *processes) start(ctx context.Context, i int) (err error) {
	p.running[i], _, err = startSelf(ctx, nil, p.nodes[i].args()...)
	return err
}

// kill ends a node at once: it cannot hand over to another node or write
// anything.
func (p *processes) kill(i int) {
	_ = p.running[i].Process.Kill()
	_ = p.running[i].Wait()
	p.running[i] = nil
}

// stop returns the CPU time that the nodes have used.
func (p *processes) stop() (cpu time.Duration) {
	if p == nil {
		return 0
	}
	for i, cmd := range p.running {
		if cmd != nil {
			cpu += stopSelf(cmd)
			p.running[i] = nil
		}
	}
	return cpu
}

// startSelf runs this program once more. said is the text after the colon in
// its first line of output.
func startSelf(ctx context.Context, env []string, args ...string) (cmd *exec.Cmd, said string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd = exec.CommandContext(ctx, self, args...) //nolint:gosec // this program
	cmd.Env = append(os.Environ(), env...)
	var log bytes.Buffer
	cmd.Stderr = &log
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w: %s", args[0], errors.Join(err, cmd.Wait()), log.String())
	}
	_, said, _ = strings.Cut(line, ": ")
	return cmd, strings.TrimSpace(said), nil
}

// stopSelf ends a program of startSelf, and returns the CPU time that it has
// used.
func stopSelf(cmd *exec.Cmd) time.Duration {
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
