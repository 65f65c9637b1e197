package database

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func openSQLite(t testing.TB, file string) *SQLite {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), file)).(*SQLite)
}

// TestAlbumHasAnIndex: an album's page must not cost a walk through all others.
func TestAlbumHasAnIndex(t *testing.T) {
	db := openSQLite(t, "gallery.db")
	for albumID, want := range map[string]string{"a": "SEARCH images USING INDEX images_album", "": "SCAN images USING INDEX images_created"} {
		statement, args := imagesQuery(albumID, 10)
		steps, err := query(t.Context(), db.db, func(rows *sql.Rows, step *string) error {
			var ignored int
			return rows.Scan(&ignored, &ignored, &ignored, step)
		}, "EXPLAIN QUERY PLAN "+statement, args...)
		if err != nil || len(steps) != 1 || !strings.HasPrefix(steps[0], want) {
			t.Errorf("album %q is read by %q and %v, want %q alone, without a sort", albumID, steps, err, want)
		}
	}
}

func TestUnusableFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd ?#%.db")
	if err := os.WriteFile(path, []byte("this is no database, and long enough to be told from an empty one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err := OpenSQLite(t.Context(), path); err == nil {
		t.Errorf("opening a text file got %v, want an error", errors.Join(db.Close()))
	}
}

// TestSettings: without them a 201 is not durable.
func TestSettings(t *testing.T) {
	db := openSQLite(t, "odd ?#%.db")
	var journal string
	var synchronous int
	if err := db.write.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&journal); err != nil {
		t.Fatal(err)
	}
	if err := db.write.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&synchronous); err != nil {
		t.Fatal(err)
	}
	if journal != "wal" || synchronous != 2 {
		t.Errorf("journal_mode got %s and synchronous %d, want wal and 2 (FULL)", journal, synchronous)
	}
}

// TestFilesArePrivate: bodies name people, and other users of the machine need
// not read them. A file that is there keeps its mode.
func TestFilesArePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode on Windows")
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "gallery.db")
	db, err := OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	saved(t, db, `{}`)
	files, err := os.ReadDir(folder)
	if err != nil || len(files) != 3 { // with -wal and -shm
		t.Fatalf("got %v and %v, want three files", files, err)
	}
	for _, file := range files {
		if info, err := file.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s got mode %v and %v, want none for others", file.Name(), info.Mode(), err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	again, err := OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("opened again, got mode %v and %v, want 0640 as it was", info.Mode(), err)
	}
}
