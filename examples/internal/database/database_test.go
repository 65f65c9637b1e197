package database

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/postgrestest"
	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

// databases lists the kinds of database for the tests. newName makes an empty
// one.
var databases = []struct {
	name    string
	newName func(testing.TB) string
}{
	{"SQLite", func(tb testing.TB) string { return filepath.Join(tb.TempDir(), "gallery.db") }},
	{"Postgres", func(tb testing.TB) string { return postgres(tb).Database(tb) }},
}

// One Postgres server serves all tests. Each test has its own database.
var server struct {
	once sync.Once
	*postgrestest.Server
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if server.Server != nil {
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func postgres(tb testing.TB) *postgrestest.Server {
	tb.Helper()
	server.once.Do(func() { server.Server, server.err = postgrestest.New() })
	if errors.Is(server.err, postgrestest.ErrMissing) && os.Getenv("CI") == "" {
		tb.Skip("postgres is not installed; CI installs it")
	}
	if server.err != nil {
		tb.Fatal(server.err)
	}
	return server.Server
}

// open opens a database until the test ends.
func open(tb testing.TB, name string) *DB {
	tb.Helper()
	db, err := Open(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// onEach runs a test on an empty database of each kind.
func onEach(t *testing.T, test func(t *testing.T, db *DB)) {
	t.Helper()
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) { test(t, open(t, d.newName(t))) })
	}
}

func TestImageCreator(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		cloudinaryhooktest.TestImageCreator(t, func(*testing.T) (cloudinaryhook.ImageCreator, func() int) {
			return db, func() int { return int(stats(t, db).Images) }
		})
	})
}

func stats(t *testing.T, db *DB) Stats {
	t.Helper()
	s, err := db.Stats(context.Background())
	if err != nil {
		t.Error(err)
	}
	return s
}

func newDelivery(t testing.TB, body string) *cloudinaryhook.Delivery {
	t.Helper()
	d, err := cloudinaryhook.NewDelivery([]byte(body), cloudinaryhooktest.DefaultClaims(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func saved(t *testing.T, db *DB, body string) *cloudinaryhook.Delivery {
	t.Helper()
	d := newDelivery(t, body)
	if state, err := db.Save(t.Context(), d); state != cloudinaryhook.StateNew || err != nil {
		t.Fatalf("Save got %v and %v, want new", state, err)
	}
	return d
}

// TestAlbumIDs: the verifier refuses tokens without an album, but a delivery
// may come another way. A retry does not help then, so it is rejected. The
// longest ID has letters that do not compress.
func TestAlbumIDs(t *testing.T) {
	var long strings.Builder
	for long.Len() < maxAlbumID {
		long.WriteString(rand.Text())
	}
	longest := long.String()[:maxAlbumID]
	for _, tt := range []struct {
		name, albumID string
		want          Stats
	}{
		{"none", "", Stats{Deliveries: 1, Rejected: 1}},
		{"the longest", longest, Stats{Deliveries: 1, Images: 1}},
		{"too long", longest + "x", Stats{Deliveries: 1, Rejected: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, db *DB) {
				d, err := cloudinaryhook.NewDelivery([]byte(`{"notification_type":"upload","public_id":"a","version":1}`),
					&cloudinaryhook.Claims{OrganizationID: "o", AlbumID: tt.albumID}, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				processor := &cloudinaryhook.Processor{Store: db, Images: db}
				if state, err := processor.Accept(t.Context(), d); state != cloudinaryhook.StateDone || err != nil {
					t.Errorf("Accept got %v and %v, want done", state, err)
				}
				if diff := cmp.Diff(tt.want, stats(t, db)); diff != "" {
					t.Errorf("stats differ (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestCauseIsKept(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		done := saved(t, db, `{"request_id":"r0"}`)
		for _, cause := range []error{nil, errors.New("second")} {
			if err := db.Complete(t.Context(), done.ID, cause); err != nil {
				t.Fatal(err)
			}
		}
		if row, _, err := db.Delivery(t.Context(), done.ID); err != nil || row.Cause != "" || row.State != "done" {
			t.Errorf("a delivery that was completed before it was rejected got %+v and %v, want no cause", row, err)
		}
		d := saved(t, db, `{"error":{"request_id":"r1"}}`)
		for _, cause := range []error{errors.New("first"), errors.New("second"), nil} {
			if err := db.Complete(t.Context(), d.ID, cause); err != nil {
				t.Fatal(err)
			}
		}
		rows, err := db.Deliveries(t.Context(), Filter{}, Position{}, 10)
		if err != nil || len(rows) != 2 || rows[0].Cause != "first" || rows[0].State != "done" || rows[0].RequestID != "r1" {
			t.Errorf("deliveries got %+v and %v, want one with the first cause and the error's request ID", rows, err)
		}
	})
}

// TestLists: newest first, filtered, and whole.
func TestLists(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		processor := &cloudinaryhook.Processor{Store: db, Images: db}
		for i := range 3 {
			claims := cloudinaryhooktest.DefaultClaims()
			claims.AlbumID = fmt.Sprint("album ", i%2)
			d, err := cloudinaryhook.NewDelivery(fmt.Appendf(nil, `{"notification_type":"upload","public_id":"p%d","version":1}`, i), claims, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			d.ReceivedAt = time.Date(2026, 1, 1, 0, 0, i, 7000, time.UTC)
			if _, err := processor.Accept(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		saved(t, db, `{"notification_type":"delete"}`)
		saved(t, db, `{"public_id":"untyped"}`)
		for _, tt := range []struct {
			only         Filter
			limit        int
			images, rows []string
		}{
			{Filter{}, 10, []string{"p2", "p1", "p0"}, []string{"untyped", "", "p2", "p1", "p0"}},
			{Filter{}, 2, []string{"p2", "p1"}, []string{"untyped", ""}},
			{Filter{AlbumID: "album 0"}, 10, []string{"p2", "p0"}, []string{"p2", "p0"}},
			{Filter{AlbumID: "album 0", Type: "delete"}, 10, []string{"p2", "p0"}, nil},
			{Filter{Type: "delete"}, 10, []string{"p2", "p1", "p0"}, []string{""}},
			{Filter{Untyped: true}, 10, []string{"p2", "p1", "p0"}, []string{"untyped"}},
			{Filter{AlbumID: "album 0", Untyped: true}, 10, []string{"p2", "p0"}, nil},
			{Filter{AlbumID: "al\x00bum\xff"}, 10, nil, nil},
		} {
			images, err := db.Images(t.Context(), tt.only.AlbumID, Position{}, tt.limit)
			var got []string
			for _, img := range images {
				got = append(got, img.PublicID)
			}
			if diff := cmp.Diff(tt.images, got); err != nil || images == nil || diff != "" {
				t.Errorf("images of %+v differ, error %v (-want +got):\n%s", tt.only, err, diff)
			}
			rows, err := db.Deliveries(t.Context(), tt.only, Position{}, tt.limit)
			got = nil
			for _, row := range rows {
				got = append(got, row.PublicID)
			}
			if diff := cmp.Diff(tt.rows, got); err != nil || rows == nil || diff != "" {
				t.Errorf("deliveries of %+v differ, error %v (-want +got):\n%s", tt.only, err, diff)
			}
		}
		albums, err := db.Albums(t.Context())
		if diff := cmp.Diff([]string{"album 0", "album 1"}, albums); err != nil || diff != "" {
			t.Errorf("albums differ, error %v (-want +got):\n%s", err, diff)
		}
		types, err := db.Types(t.Context())
		if diff := cmp.Diff([]string{"", "delete", "upload"}, types); err != nil || diff != "" {
			t.Errorf("types differ, error %v (-want +got):\n%s", err, diff)
		}
	})
}

// TestOddText: a text that a column cannot hold must not lose a notification.
// The delivery itself is kept byte for byte.
func TestOddText(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		body := "{\"notification_type\":\"upload\",\"request_id\":\"r\\u0000\",\"public_id\":\"a\\u0000b\",\"version\":1,\"original_filename\":\"caf\xe9\"," +
			"\"secure_url\":\"https://a.example/\\u0000\xff\",\"format\":\"\\ud800\"}"
		claims := cloudinaryhooktest.DefaultClaims()
		claims.AlbumID, claims.OrganizationID = "album\x00", "organization\x00"
		d, err := cloudinaryhook.NewDelivery([]byte(body), claims, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		processor := &cloudinaryhook.Processor{Store: db, Images: db}
		if state, err := processor.Accept(t.Context(), d); state != cloudinaryhook.StateDone || err != nil {
			t.Fatalf("Accept got %v and %v, want done", state, err)
		}
		row, whole, err := db.Delivery(t.Context(), d.ID)
		if err != nil || string(whole.Body) != body || row.PublicID != "a\ufffdb" || row.RequestID != "r\ufffd" {
			t.Errorf("the delivery got %+v, body %q and %v, want the original body", row, whole.Body, err)
		}
		images, err := db.Images(t.Context(), claims.AlbumID, Position{}, 10)
		if err != nil || len(images) != 1 || images[0].PublicID != "a\ufffdb" || images[0].OriginalFilename != "caf\ufffd" {
			t.Errorf("images got %+v and %v, want one", images, err)
		}
		if _, _, err := db.Delivery(t.Context(), "\x00\xff"); !errors.Is(err, sqlstore.ErrNotFound) {
			t.Errorf("a delivery of an odd ID got %v, want ErrNotFound", err)
		}
	})
}

// TestOpenAtOnce: several instances start on an empty database at the same
// time.
func TestOpenAtOnce(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			name := d.newName(t)
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i := range 8 {
				wg.Go(func() {
					<-start
					db, err := Open(t.Context(), name)
					if err != nil {
						t.Errorf("opening it got %v, want nil", err)
						return
					}
					if _, err := db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d"}`, i))); err != nil {
						t.Error(err)
					}
					if err := db.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			wg.Wait()
			if got := stats(t, open(t, name)).Deliveries; got != 8 {
				t.Errorf("8 instances saved %d deliveries, want one each", got)
			}
		})
	}
}
