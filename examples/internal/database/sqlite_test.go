package database

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

func openTestDB(t testing.TB, path string) *SQLite {
	t.Helper()
	db, err := OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestSQLiteStore(t *testing.T) {
	cloudinaryhooktest.TestStore(t, func(t *testing.T) cloudinaryhook.Store {
		return openTestDB(t, filepath.Join(t.TempDir(), "gallery.db"))
	})
}

func TestSQLiteImageCreator(t *testing.T) {
	cloudinaryhooktest.TestImageCreator(t, func(t *testing.T) (cloudinaryhook.ImageCreator, func() int) {
		db := openTestDB(t, filepath.Join(t.TempDir(), "gallery.db"))
		return db, func() int {
			s, err := db.Stats(context.Background())
			if err != nil {
				t.Error(err)
			}
			return int(s.Images)
		}
	})
}

func saved(t *testing.T, db DB, body string) *cloudinaryhook.Delivery {
	t.Helper()
	d, err := cloudinaryhook.NewDelivery([]byte(body), cloudinaryhooktest.DefaultClaims(), time.Now())
	if err == nil {
		_, err = db.Save(t.Context(), d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestNoAlbum: the verifier refuses such tokens, but a delivery may come another
// way, and no retry would give it an album.
func TestNoAlbum(t *testing.T) {
	db := openTestDB(t, filepath.Join(t.TempDir(), "gallery.db"))
	d, err := cloudinaryhook.NewDelivery([]byte(`{"notification_type":"upload","public_id":"a","version":1}`),
		&cloudinaryhook.Claims{OrganizationID: "o"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	processor := &cloudinaryhook.Processor{Store: db, Images: db}
	if state, err := processor.Accept(t.Context(), d); state != cloudinaryhook.StateDone || err != nil {
		t.Errorf("Accept got %v and %v, want done", state, err)
	}
	got, err := db.Stats(t.Context())
	if diff := cmp.Diff(Stats{Deliveries: 1, Rejected: 1}, got); err != nil || diff != "" {
		t.Errorf("stats differ (-want +got), error %v:\n%s", err, diff)
	}
}

// TestAlbumHasAnIndex: an album's page must not cost a walk through all others.
func TestAlbumHasAnIndex(t *testing.T) {
	db := openTestDB(t, filepath.Join(t.TempDir(), "gallery.db"))
	for albumID, want := range map[string]string{"a": "SEARCH images USING INDEX images_album", "": "SCAN images USING INDEX images_created"} {
		text, args := imagesQuery(albumID, 10)
		steps, err := query(t.Context(), db.read, func(rows *sql.Rows, step *string) error {
			var ignored int
			return rows.Scan(&ignored, &ignored, &ignored, step)
		}, "EXPLAIN QUERY PLAN "+text, args...)
		if err != nil || len(steps) != 1 || !strings.HasPrefix(steps[0], want) {
			t.Errorf("album %q is read by %q and %v, want %q alone, without a sort", albumID, steps, err, want)
		}
	}
}

func TestPrune(t *testing.T) {
	db := openTestDB(t, filepath.Join(t.TempDir(), "gallery.db"))
	done, rejected, pending := saved(t, db, `{"request_id":"1"}`), saved(t, db, `{"request_id":"2"}`), saved(t, db, `{"request_id":"3"}`)
	if err := errors.Join(db.Complete(t.Context(), done.ID, nil), db.Complete(t.Context(), rejected.ID, errors.New("bad"))); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		before time.Time
		pruned int64
		want   Stats
	}{
		{"nothing is as old", time.Now().Add(-time.Minute), 0, Stats{Deliveries: 3, Pending: 1, Rejected: 1}},
		{"all but the pending one", time.Now().Add(time.Minute), 2, Stats{Deliveries: 1, Pending: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pruned, err := db.Prune(t.Context(), tt.before)
			if err != nil || pruned != tt.pruned {
				t.Errorf("Prune got %d and %v, want %d", pruned, err, tt.pruned)
			}
			got, err := db.Stats(t.Context())
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("stats differ (-want +got), error %v:\n%s", err, diff)
			}
		})
	}
	if state, err := db.Save(t.Context(), pending); state != cloudinaryhook.StatePending || err != nil {
		t.Errorf("Save of the pending one got %v and %v, want pending", state, err)
	}
}

func TestCauseIsKept(t *testing.T) {
	db := openTestDB(t, filepath.Join(t.TempDir(), "gallery.db"))
	d := saved(t, db, `{"error":{"request_id":"r1"}}`)
	for _, cause := range []error{errors.New("first"), errors.New("second"), nil} {
		if err := db.Complete(t.Context(), d.ID, cause); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := db.Deliveries(t.Context(), Filter{}, 10)
	if err != nil || len(rows) != 1 || rows[0].Cause != "first" || rows[0].State != "done" || rows[0].RequestID != "r1" {
		t.Errorf("deliveries got %+v and %v, want one with the first cause and the error's request ID", rows, err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gallery.db")
	db := openTestDB(t, path)
	if _, err := db.write.ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if other, err := OpenSQLite(t.Context(), path); err == nil {
		t.Errorf("opening a database of version 99 got %v, want an error", errors.Join(other.Close()))
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
	db := openTestDB(t, filepath.Join(t.TempDir(), "odd ?#%.db"))
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
