// Package postgrestest runs Postgres servers for tests. Each has its data in a
// temporary folder and a port of the loopback address, and is as durable as a
// real server.
package postgrestest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// ErrMissing means that Postgres is not installed.
var ErrMissing = errors.New("postgres is not installed")

const superuser = "postgres"

// startTimeout is long enough for a server that recovers from a crash on a busy
// machine.
const startTimeout = time.Minute

// stopTimeout is how long a server may take to end by itself. A server that
// recovers from a crash may not end.
const stopTimeout = 20 * time.Second

// A Server is one Postgres server. Its methods are for one goroutine at a time.
type Server struct {
	// Password is the password in every URL. A test can look for it in a program's
	// output.
	Password string

	bin, folder string
	port        int
	log         *buffer
	cmd         *exec.Cmd // nil: the server does not run
	exited      chan struct{}
}

// Start starts a server that ends with the test. If Postgres is not installed,
// it skips the test, or fails it if the environment variable CI is set.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s, err := New()
	if errors.Is(err, ErrMissing) && os.Getenv("CI") == "" {
		tb.Skip("postgres is not installed; CI installs it")
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("log of the server:\n%s", s.log)
		}
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// New starts a server for several tests to share. Close ends it. If Postgres is
// not installed, the error wraps ErrMissing.
func New() (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "postgres")
	if err != nil {
		return nil, err
	}
	s := &Server{Password: rand.Text(), bin: bin, folder: folder, log: new(buffer)}
	if err := errors.Join(s.init(), s.choosePort()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Standby starts a read-only server that follows this one. It ends with the
// test.
func (s *Server) Standby(tb testing.TB) *Server {
	tb.Helper()
	folder, err := os.MkdirTemp("", "postgres")
	if err != nil {
		tb.Fatal(err)
	}
	standby := &Server{Password: s.Password, bin: s.bin, folder: folder, log: new(buffer)}
	tb.Cleanup(func() {
		if err := standby.Close(); err != nil {
			tb.Error(err)
		}
	})
	cmd := exec.Command(filepath.Join(s.bin, "pg_basebackup"), "--write-recovery-conf", "--checkpoint=fast", "--no-sync", //nolint:gosec // a program for tests
		"--pgdata", standby.Data(), "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", superuser)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+s.Password, "PGSSLMODE=disable")
	if err := asServerUser(cmd, folder); err != nil {
		tb.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	if err := errors.Join(standby.choosePort(), standby.Start()); err != nil {
		tb.Fatal(err)
	}
	return standby
}

// Promote makes a standby the primary. It returns when the server accepts
// writes.
func (s *Server) Promote() error {
	return s.query(context.Background(), "postgres", "SELECT 1 / pg_promote()::int")
}

// Addr returns the address on which the server listens.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// findBinaries also looks in Debian's folder, which is not in PATH.
func findBinaries() (folder string, err error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		path, err = filepath.EvalSymlinks(path) // the other programs may have no link
		return filepath.Dir(path), err
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", ErrMissing
	}
	newest := 0
	for _, path := range found {
		if version, err := strconv.Atoi(strings.Split(path, "/")[4]); err == nil && version > newest {
			newest, folder = version, filepath.Dir(path)
		}
	}
	if newest == 0 {
		return "", ErrMissing
	}
	return folder, nil
}

// init makes the data folder. It need not be synced: no test turns the machine
// off.
func (s *Server) init() error {
	passwordFile := filepath.Join(s.folder, "password")
	if err := os.WriteFile(passwordFile, []byte(s.Password), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, "initdb"), "--no-sync", "--pgdata", s.Data(), "--username", superuser, //nolint:gosec // a program for tests
		"--pwfile", passwordFile, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C")
	if err := asServerUser(cmd, s.folder, passwordFile); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// choosePort lets the system choose a port. The server keeps it for all starts,
// so that its URLs stay the same.
func (s *Server) choosePort() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = listener.Addr().(*net.TCPAddr).Port
	return listener.Close()
}

// Start starts the server again, with the same data and the same port. After
// Kill it first recovers.
func (s *Server) Start() error {
	for deadline := time.Now().Add(startTimeout); ; {
		err := s.start()
		if err == nil {
			return nil
		}
		// The other processes of a killed server live a moment longer, and a new
		// server refuses to start beside them.
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *Server) start() error {
	s.log.reset()
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.Data(), "-p", strconv.Itoa(s.port), //nolint:gosec // a program for tests
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on")
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := asServerUser(cmd); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	s.cmd, s.exited = cmd, exited
	return s.waitUntilReady()
}

func (s *Server) waitUntilReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := s.query(ctx, "postgres", "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			s.cmd = nil
			return fmt.Errorf("postgres ended:\n%s", s.log)
		case <-ctx.Done():
			return fmt.Errorf("postgres is not ready: %w\n%s", err, s.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server in the usual way.
func (s *Server) Stop() { s.end(os.Interrupt) }

// Kill kills the server's first process with SIGKILL. The processes of its
// connections notice that and end by themselves.
func (s *Server) Kill() { s.end(os.Kill) }

func (s *Server) end(signal os.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	s.cmd = nil
}

// Close stops the server and deletes its data.
func (s *Server) Close() error {
	s.Stop()
	return os.RemoveAll(s.folder)
}

// PID returns the process ID of the server's first process, or 0 if it does not
// run.
func (s *Server) PID() int {
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Data returns the server's data folder.
func (s *Server) Data() string { return filepath.Join(s.folder, "data") }

// Command returns a command for one of Postgres's own programs, such as
// "pg_amcheck". It runs as the server's user.
func (s *Server) Command(name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(filepath.Join(s.bin, name), args...) //nolint:gosec // a program for tests
	return cmd, asServerUser(cmd)
}

// Log returns the server's output since it started.
func (s *Server) Log() string { return s.log.String() }

// Database makes an empty database and returns its URL, password included.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	name := "test" + strings.ToLower(rand.Text())
	if err := s.query(tb.Context(), "postgres", "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	return s.URL(name)
}

// URL returns the URL of a database, password included.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", superuser, s.Password, s.port, database)
}

// query uses psql, because this module has no driver.
func (s *Server) query(ctx context.Context, database, statement string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", //nolint:gosec // a program for tests
		"-p", strconv.Itoa(s.port), "-U", superuser, "-d", database, "-c", statement)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+s.Password, "PGSSLMODE=disable")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("psql: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// A buffer may be read while a program writes to it.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

func (b *buffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data.Reset()
}
