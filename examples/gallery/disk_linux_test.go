package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk can be filled, so that files have next to no room to grow, and freed.
type disk struct {
	folder string
	fill   func(t *testing.T, p *program)
	free   func(t *testing.T, p *program)
}

// newTmpfs mounts a disk of eight megabytes, which takes permission.
func newTmpfs(t *testing.T) (*disk, error) {
	const bytes, room = 8 << 20, 128 << 10
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=8m,mode=1777"); err != nil {
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
	for name, newDisk := range map[string]func(*testing.T) (*disk, error){"tmpfs": newTmpfs, "limited files": newLimited} {
		t.Run(name, func(t *testing.T) {
			d, err := newDisk(t)
			if errors.Is(err, fs.ErrPermission) {
				t.Skip("mounting is not permitted here; the other subtest needs none")
			}
			if err != nil {
				t.Fatal(err)
			}
			db := newSQLite(d.folder)
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
