package database

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhyNot: an error names the problem with the file, because SQLite does
// not.
func TestWhyNot(t *testing.T) {
	asNobody(t)
	folder, err := os.MkdirTemp("/tmp", "permission") // the user nobody may have no access to other folders
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	closed, readOnly := filepath.Join(folder, "closed"), filepath.Join(folder, "read-only.db")
	err = errors.Join(os.WriteFile(readOnly, nil, 0o400), os.Mkdir(closed, 0o700),
		os.WriteFile(filepath.Join(closed, "gallery.db"), nil, 0o600), os.Chmod(closed, 0o500))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		want       error
	}{
		{"no such folder", filepath.Join(folder, "none", "gallery.db"), fs.ErrNotExist},
		{"a folder", folder, syscall.EISDIR},
		{"a file that may not be written", readOnly, fs.ErrPermission},
		{"a folder that may not be written", filepath.Join(closed, "gallery.db"), fs.ErrPermission},
		{"no file in a folder that may not be written", filepath.Join(closed, "other.db"), fs.ErrPermission},
	}
	for _, tt := range tests {
		db, err := Open(t.Context(), tt.path) // not a subtest: it would run on another thread
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Open got %v and %v, want an error that wraps %q", tt.name, db, err, tt.want)
		}
	}
}

// asNobody makes this thread open files as the user nobody, because root may
// open all files. The thread ends with the test.
func asNobody(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()
	const nobody = 65534
	if err := errors.Join(unix.Setfsgid(nobody), unix.Setfsuid(nobody)); err != nil {
		t.Fatal(err)
	}
}
