package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// An event is the beginning or the end of a system call. strace stops a thread
// at both, so events are in their real order.
type event struct {
	thread string
	call   string // for example "pwrite64"
	ended  bool
	file   string // or socket
	data   string // the written bytes
	offset int64  // of pwrite64
	size   int64  // the number of written bytes, at the end of the call
}

func (e event) isSync() bool { return e.call == "fsync" || e.call == "fdatasync" }

// A tracer is an strace that is attached to programs.
type tracer struct {
	cmd  *exec.Cmd
	path string
	said chan string
}

// writesAndSyncs makes strace print all writes and syncs in full, with the
// names of files.
var writesAndSyncs = []string{"-y", "-x", "-s", "1000000", "-e", "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync"}

// failWrites makes strace fail writes to these files, as on a full disk.
func failWrites(paths ...string) (options []string) {
	options = []string{"-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC"}
	for _, path := range paths {
		options = append(options, "-P", path)
	}
	return options
}

// attach traces processes and their children. CI installs strace and lets it
// attach. Elsewhere the test is skipped if strace cannot.
func attach(t *testing.T, options []string, pids ...int) *tracer {
	t.Helper()
	tr := &tracer{path: filepath.Join(t.TempDir(), "trace"), said: make(chan string, 1000)}
	args := append([]string{"-f", "-e", "signal=none", "-o", tr.path}, options...)
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	tr.cmd = exec.Command("strace", args...)
	stderr, err := tr.cmd.StderrPipe()
	if err == nil {
		err = tr.cmd.Start()
	}
	if err != nil {
		skipOutsideCI(t, err)
	}
	t.Cleanup(func() { _ = tr.cmd.Process.Kill() })
	go func() {
		defer close(tr.said)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			tr.said <- lines.Text()
		}
	}()
	for _, pid := range pids {
		want := fmt.Sprintf("Process %d attached", pid)
		line := <-tr.said
		for strings.Contains(line, " attached") && !strings.Contains(line, want) { // another process, or a new child
			line = <-tr.said
		}
		if !strings.Contains(line, want) {
			skipOutsideCI(t, fmt.Errorf("strace does not attach: %s", line))
		}
	}
	return tr
}

func skipOutsideCI(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "" {
		t.Skipf("%v; CI has all that is needed", err)
	}
	t.Fatal(err)
}

func (tr *tracer) detach(t *testing.T) {
	t.Helper()
	if err := tr.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for range tr.said { // until strace ends
	}
	_ = tr.cmd.Wait() // its exit status is that of an interrupt
}

// events returns the events until detach.
func (tr *tracer) events(t *testing.T) []event {
	t.Helper()
	data, err := os.ReadFile(tr.path)
	if err != nil {
		t.Fatal(err)
	}
	p := traceParser{begun: make(map[string]event)}
	for line := range bytes.Lines(data) {
		if err := p.line(string(line)); err != nil {
			t.Fatal(err)
		}
	}
	return p.events
}

// A traceParser reads the output of strace. A call is one line if nothing else
// happens during it. Otherwise it is two lines, "unfinished" and "resumed".
type traceParser struct {
	events []event
	begun  map[string]event // by thread
}

func (p *traceParser) line(line string) error {
	thread, call, _ := strings.Cut(line, " ")
	call = strings.TrimSpace(call)
	if strings.HasPrefix(call, "+++") || strings.HasPrefix(call, "---") { // the end or a stop of a thread
		return nil
	}
	if !strings.HasPrefix(call, "<... ") {
		e, err := parseCall(call)
		if err != nil {
			return fmt.Errorf("strace wrote %.200q: %w", line, err)
		}
		e.thread = thread
		p.events = append(p.events, e)
		p.begun[thread] = e
	}
	if strings.HasSuffix(call, "<unfinished ...>") {
		return nil
	}
	e, known := p.begun[thread]
	delete(p.begun, thread)
	result, err := strconv.ParseInt(strings.Fields(call[strings.LastIndex(call, "= ")+2:])[0], 10, 64)
	if known && err == nil && result >= 0 { // otherwise the call began before the trace, or failed
		e.ended, e.size = true, result
		p.events = append(p.events, e)
	}
	return nil
}

// parseCall reads a line such as pwrite64(8<gallery.db-wal>, "\x00\x01", 2,
// 4096) = 2.
func parseCall(s string) (e event, err error) {
	call, rest, ok1 := strings.Cut(s, "(")
	_, rest, ok2 := strings.Cut(rest, "<")
	file, rest, ok3 := strings.Cut(rest, ">")
	if !ok1 || !ok2 || !ok3 {
		return e, strconv.ErrSyntax
	}
	e.call, e.file = call, file
	rest, ok := strings.CutPrefix(rest, ", ")
	if !ok || !strings.HasPrefix(rest, `"`) {
		return e, nil // the call has no data, or several pieces of it
	}
	data, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return e, err
	}
	if e.data, err = strconv.Unquote(data); err != nil {
		return e, err
	}
	args := strings.Split(strings.TrimPrefix(rest[len(data):], "..."), ", ")
	if call == "pwrite64" && len(args) > 2 {
		offset, _, _ := strings.Cut(args[2], ")")
		e.offset, err = strconv.ParseInt(strings.TrimSuffix(offset, " <unfinished ...>"), 10, 64)
	}
	return e, err
}
