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

	"golang.org/x/sys/unix"
)

// A disk can be filled, so that files have almost no room to grow, and freed
// again.
type disk struct {
	folder string
	fill   func(t *testing.T, p *program, db *testDatabase)
	free   func(t *testing.T, p *program)
}

// newTmpfs mounts a disk of 128 megabytes. It needs permission to mount.
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
		fill: func(t *testing.T, _ *program, _ *testDatabase) {
			t.Helper()
			err := os.WriteFile(ballast, make([]byte, bytes), 0o600)
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("filling the disk got %v, want ENOSPC", err)
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

// newLimited limits the size of the gallery's files. It needs no permission.
// Writing fails too, but with another error.
func newLimited(t *testing.T) (*disk, error) {
	limit := func(t *testing.T, p *program, bytes uint64) {
		t.Helper()
		err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil)
		if err != nil && !errors.Is(err, syscall.ESRCH) { // the program may have ended
			t.Fatal(err)
		}
	}
	return &disk{
		folder: t.TempDir(),
		fill:   func(t *testing.T, p *program, _ *testDatabase) { limit(t, p, 256<<10) },
		free:   func(t *testing.T, p *program) { limit(t, p, unix.RLIM_INFINITY) },
	}, nil
}

// newFailing makes a server's writes to its tables fail, by strace.
func newFailing(*testing.T) (*disk, error) {
	var tr *tracer
	return &disk{
		folder: os.TempDir(),
		fill: func(t *testing.T, _ *program, db *testDatabase) {
			t.Helper()
			var deliveries, images string
			err := db.connect(t).QueryRow(t.Context(), "SELECT pg_relation_filepath('deliveries'), pg_relation_filepath('images')").
				Scan(&deliveries, &images)
			if err != nil {
				t.Fatal(err)
			}
			data := db.server.Data()
			tr = attach(t, failWrites(filepath.Join(data, deliveries), filepath.Join(data, images)), serverPIDs(t, db)...)
		},
		free: func(t *testing.T, _ *program) { tr.detach(t) },
	}, nil
}

// TestFullDisk: while the disk is full, senders get 500. Every 201 before and
// after is kept. Nobody has to restart anything.
func TestFullDisk(t *testing.T) {
	tests := []struct {
		name        string
		newDisk     func(*testing.T) (*disk, error)
		newDatabase func(t *testing.T, folder string) *testDatabase
	}{
		{"SQLite on tmpfs", newTmpfs, newSQLiteIn},
		{"SQLite with limited files", newLimited, newSQLiteIn},
		{"Postgres on tmpfs", newTmpfs, newPostgresIn},
		{"Postgres with failing writes", newFailing, newPostgresIn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := tt.newDisk(t)
			if errors.Is(err, fs.ErrPermission) {
				t.Skip("mounting is not permitted here; the other subtests run all the same")
			}
			if err != nil {
				t.Fatal(err)
			}
			db := tt.newDatabase(t, d.folder)
			p := start(t, testEnv(), "-db", db.url)
			load := startLoad(t, 32, 0, p.hook())
			load.acknowledge(100)
			d.fill(t, p, db)
			load.fail(100)
			d.free(t, p)
			load.acknowledge(100)
			d.fill(t, p, db)
			load.fail(100)
			p.kill() // also a crash: only acknowledged and pending deliveries are on the disk
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

func newSQLiteIn(_ *testing.T, folder string) *testDatabase { return newSQLite(folder) }

func newPostgresIn(t *testing.T, folder string) *testDatabase {
	t.Helper()
	t.Setenv("TMPDIR", folder)
	return newPostgres(t)
}

// TestFullLog: Postgres ends if there is no room for its log. An operator must
// restart the server, but not the gallery.
func TestFullLog(t *testing.T) {
	db := newPostgres(t)
	p := start(t, testEnv(), "-db", db.url)
	load := startLoad(t, 32, 0, p.hook())
	load.acknowledge(100)
	var segment string
	if err := db.connect(t).QueryRow(t.Context(), "SELECT pg_walfile_name(pg_current_wal_lsn())").Scan(&segment); err != nil {
		t.Fatal(err)
	}
	tr := attach(t, failWrites(filepath.Join(db.server.Data(), "pg_wal", segment)), serverPIDs(t, db)...)
	load.fail(100)
	if log := db.server.Log(); !strings.Contains(log, "PANIC") {
		t.Errorf("without room for its log Postgres still runs:\n%s", log)
	}
	tr.detach(t)
	db.crash(t)
	load.acknowledge(100)
	load.stop()
	p.kill()
	finish(t, db, load, 200)
}
