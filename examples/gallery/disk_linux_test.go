package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// A disk can be filled, so that files have next to no room to grow, and freed.
type disk struct {
	folder string
	fill   func(t *testing.T, p *program)
	free   func(t *testing.T, p *program)
}

// newTmpfs mounts a disk of 128 megabytes, which takes permission.
func newTmpfs(t *testing.T) (*disk, error) {
	const bytes, room = 128 << 20, 128 << 10
	folder, err := os.MkdirTemp("", "disk")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = os.Remove(folder) })
	if err := os.Chmod(folder, 0o755); err != nil { // Postgres runs as another user
		return nil, err
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=1777", bytes)); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(folder, "ballast")
	return &disk{
		folder: folder,
		fill: func(t *testing.T, _ *program) {
			t.Helper()
			err := os.WriteFile(ballast, make([]byte, bytes), 0o600)
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("filling the disk got %v, want that no space is left", err)
			}
			info, err := os.Stat(ballast)
			if err == nil {
				err = os.Truncate(ballast, info.Size()-room)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		free: func(t *testing.T, _ *program) {
			t.Helper()
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		},
	}, nil
}

// newLimited limits the size of the gallery's files, which needs no permission
// and is an error of writing too, though not the same.
func newLimited(t *testing.T) (*disk, error) {
	limit := func(bytes uint64) func(*testing.T, *program) {
		return func(t *testing.T, p *program) {
			t.Helper()
			err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil)
			if err != nil && !errors.Is(err, syscall.ESRCH) { // a program that has ended has no limit
				t.Fatal(err)
			}
		}
	}
	return &disk{t.TempDir(), limit(256 << 10), limit(unix.RLIM_INFINITY)}, nil
}

// TestFullDisk: while a disk is full, senders are told to try again; what they
// were told before and after is true; and nobody has to start anything again.
func TestFullDisk(t *testing.T) {
	tests := []struct {
		name        string
		newDisk     func(*testing.T) (*disk, error)
		newDatabase func(t *testing.T, folder string) *testDatabase
	}{
		{"SQLite on tmpfs", newTmpfs, func(_ *testing.T, folder string) *testDatabase { return newSQLite(folder) }},
		{"SQLite with limited files", newLimited, func(_ *testing.T, folder string) *testDatabase { return newSQLite(folder) }},
		{"Postgres on tmpfs", newTmpfs, newPostgresIn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := tt.newDisk(t)
			if errors.Is(err, fs.ErrPermission) {
				t.Skip("mounting is not permitted here; the subtest with limited files needs none")
			}
			if err != nil {
				t.Fatal(err)
			}
			db := tt.newDatabase(t, d.folder)
			p := start(t, testEnv(), "-db", db.url)
			load := startLoad(t, 32, 0, p.hook())
			load.acknowledge(100)
			d.fill(t, p)
			load.fail(100)
			d.free(t, p)
			load.acknowledge(100)
			d.fill(t, p)
			load.fail(100)
			p.kill() // a crash on top: nothing is on the disk but what was acknowledged, and what is pending
			d.free(t, p)
			p = start(t, testEnv(), "-db", db.url)
			load.moveTo(p.hook())
			load.acknowledge(100)
			load.stop()
			p.kill()
			finish(t, db, load, 300)
		})
	}
}

func newPostgresIn(t *testing.T, folder string) *testDatabase {
	t.Helper()
	t.Setenv("TMPDIR", folder)
	return newPostgres(t)
}

// TestFullWAL: Postgres ends when its log finds no room. Whoever looks after the
// server starts it again; the gallery needs nobody.
func TestFullWAL(t *testing.T) {
	d, err := newTmpfs(t)
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("mounting is not permitted here")
	}
	if err != nil {
		t.Fatal(err)
	}
	db := newPostgresIn(t, d.folder)
	p := start(t, testEnv(), "-db", db.url)
	load := startLoad(t, 32, 0, p.hook())
	load.acknowledge(100)
	d.fill(t, p)
	for tries := 0; !strings.Contains(db.server.Log(), "PANIC"); tries++ {
		if tries == 1000 {
			t.Fatal("Postgres goes on without room for its log")
		}
		conn, err := pgx.Connect(t.Context(), db.url)
		if err != nil {
			continue
		}
		_, _ = conn.Exec(t.Context(), "SELECT pg_switch_wal()") // to a new file, which there is no room for
		_ = conn.Close(t.Context())
	}
	load.fail(100)
	d.free(t, p)
	db.crash(t)
	load.acknowledge(100)
	load.stop()
	p.kill()
	finish(t, db, load, 200)
}
