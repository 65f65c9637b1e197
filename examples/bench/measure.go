package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A process is a server in its own process, with the wrk script for it.
type process struct {
	server string
	url    string
	script string
	pid    int
	stdin  io.Closer // closing it ends the process
	cmd    *exec.Cmd
}

// start starts a server on these cores, checks it, and writes wrk's script for
// one body into dir. If profile is not "", the server writes a CPU profile to
// that file.
func start(ctx context.Context, server, cores, profile, dir string, body []byte) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", cores, self, "-serve", server, "-profile", profile) //nolint:gosec // itself
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{server: server, pid: cmd.Process.Pid, stdin: stdin, cmd: cmd} // taskset becomes the server
	url, err := bufio.NewReader(stdout).ReadString('\n')
	p.url = strings.TrimSpace(url)
	if err == nil {
		client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		err = check(client, server, p.url, body)
	}
	if err == nil {
		r := goodRequest(p.url, body)
		p.url = r.URL.String()
		p.script, err = writeScript(dir, r, body)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *process) stop() {
	_ = p.stdin.Close()
	_ = p.cmd.Wait()
}

// A sample is the result of one turn of one server.
type sample struct {
	rate     float64 // requests a second
	p50, p99 time.Duration
	cpu      time.Duration // of the server, per request
}

// drive runs wrk against the server for one turn.
func (p *process) drive(ctx context.Context, cores string, connections int, turn time.Duration) (sample, error) {
	before, err := cpuTime(p.pid)
	if err != nil {
		return sample{}, err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", cores, "wrk", "-t1", "-c"+strconv.Itoa(connections), //nolint:gosec // our own script
		"-d"+turn.String(), "--timeout=10s", "-s", p.script, p.url)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return sample{}, fmt.Errorf("wrk: %w: %s", err, stderr.String())
	}
	after, err := cpuTime(p.pid)
	if err != nil {
		return sample{}, err
	}
	return parseResult(string(out), after-before)
}

func parseResult(out string, cpu time.Duration) (sample, error) {
	at := strings.Index(out, "RESULT")
	if at < 0 {
		return sample{}, fmt.Errorf("wrk printed no result: %s", out)
	}
	var requests, micros, p50, p99, failures int64
	if _, err := fmt.Sscanf(out[at:], result, &requests, &micros, &p50, &p99, &failures); err != nil {
		return sample{}, fmt.Errorf("wrk's result: %w", err)
	}
	if failures > 0 || requests == 0 || micros == 0 {
		return sample{}, fmt.Errorf("of %d requests %d failed", requests, failures)
	}
	return sample{
		rate: float64(requests) / (float64(micros) / 1e6),
		p50:  time.Duration(p50) * time.Microsecond,
		p99:  time.Duration(p99) * time.Microsecond,
		cpu:  cpu / time.Duration(requests),
	}, nil
}

// cpuTime returns the processor time that a process has used so far. It reads
// schedstat, which counts nanoseconds; /proc/PID/stat only counts hundredths of
// a second.
func cpuTime(pid int) (total time.Duration, err error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(paths) == 0 {
		return 0, errors.Join(err, errors.New("/proc has no times of the server"))
	}
	for _, path := range paths {
		text, err := os.ReadFile(path) //nolint:gosec // in /proc
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n)
	}
	return total, nil
}

// peakMemory returns the largest physical memory that a process has had, in
// bytes.
func peakMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) //nolint:gosec // in /proc
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		return 0, fmt.Errorf("VmHWM: %w", err)
	}
	return kilobytes << 10, nil
}
