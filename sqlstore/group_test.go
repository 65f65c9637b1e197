package sqlstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// uploadBody returns a new body of 6 KB with all optional members.
func uploadBody(tb testing.TB) []byte {
	tb.Helper()
	body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), "upload-full.json")
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Replace(body, []byte("{"), fmt.Appendf(nil, "{%q: true,", rand.Text()), 1)
}

func several[T any](n int, one func() T) (all []T) {
	for range n {
		all = append(all, one())
	}
	return all
}

// atOnce calls f for each item. The items are shared among clients that work at
// the same time. It returns the number of calls per second.
func atOnce[T any](tb testing.TB, clients int, all []T, f func(context.Context, T) error) float64 {
	tb.Helper()
	var wg sync.WaitGroup
	start := time.Now()
	for share := range slices.Chunk(all, len(all)/clients) {
		wg.Go(func() {
			for _, one := range share {
				if err := f(tb.Context(), one); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return float64(len(all)) / time.Since(start).Seconds()
}

// TestGroupCommit: writes that wait together share a sync.
func TestGroupCommit(t *testing.T) {
	const clients, limit = 64, 0.2
	for _, d := range databases {
		t.Run(d.dialect.String(), func(t *testing.T) {
			name := d.newName(t)
			if d.dialect == SQLite {
				name += "&_pragma=wal_autocheckpoint(0)" // so that the log keeps every commit
			}
			var all []*cloudinaryhook.Delivery
			for i := range 20 * clients {
				all = append(all, upload(t, i))
			}
			s := open(t, d.dialect, name)
			before := syncs(t, s)
			atOnce(t, clients, all, func(ctx context.Context, d *cloudinaryhook.Delivery) error {
				_, err := s.Save(ctx, d)
				return err
			})
			n := syncs(t, s) - before
			got := float64(n) / float64(len(all))
			t.Logf("%.3f syncs for each of %d saves", got, len(all))
			if n == 0 || got > limit {
				t.Errorf("got %d syncs for %d saves, want at least one, and at most %v for each save", n, len(all), limit)
			}
		})
	}
}

// syncs returns how often the database has synced its log. SQLite syncs at each
// commit, and marks the last page of a commit in the log.
func syncs(t *testing.T, s *Store) (n int64) {
	t.Helper()
	if s.dialect == Postgres {
		return postgresSyncs(t, s)
	}
	log, err := os.ReadFile(s.conn.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	const header, frameHeader = 32, 24
	frame := frameHeader + int(binary.BigEndian.Uint32(log[8:]))
	for at := header; at+frame <= len(log); at += frame {
		if pages := binary.BigEndian.Uint32(log[at+4:]); pages > 0 {
			n++
		}
	}
	return n
}

// postgresSyncs closes the store's connection first, because Postgres counts a
// connection's syncs when it ends.
func postgresSyncs(t *testing.T, s *Store) (n int64) {
	t.Helper()
	if err := s.Do(t.Context(), func(context.Context, *sql.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	s.disconnect(t.Context()) // the committer waits, so nobody else uses its connection
	ask := func(statement string) (n int64) {
		t.Helper()
		if err := s.db.QueryRow(statement).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if ask("SELECT current_setting('server_version_num')::bigint") >= 180000 {
		return ask("SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'")
	}
	return ask("SELECT wal_sync FROM pg_stat_wal")
}

// BenchmarkNotifications measures how many notifications are answered 201 per
// second, with group commit and without. Each notification is a Save, a row of
// the app's own, and a Complete. For comparison, a bare loop inserts a row of
// the same size and commits; on Postgres each client has a connection of its
// own. Every round measures all three. The result is the median of the rounds:
//
//	go test -run '^$' -bench Notifications -benchtime 5x ./sqlstore
func BenchmarkNotifications(b *testing.B) {
	for _, d := range databases {
		for _, clients := range []int{1, 16, 64, 256} {
			b.Run(fmt.Sprintf("%s/clients=%d", d.dialect, clients), func(b *testing.B) {
				benchmarkNotifications(b, d.dialect, d.newName(b), clients)
			})
		}
	}
}

func benchmarkNotifications(b *testing.B, d Dialect, name string, clients int) {
	perRound := max(64, 4*clients)
	grouped := open(b, d, name)
	single := open(b, d, name)
	single.committer.maxBatch = 1
	createImages(b, grouped)
	bare := openDB(b, d, name)
	bare.SetMaxOpenConns(min(clients, 80)) // the server allows 100
	if d == SQLite {
		bare.SetMaxOpenConns(1) // SQLite has one writer; more connections would only wait for each other
	}
	var with, without, inserts []float64
	for b.Loop() {
		for store, rates := range map[*Store]*[]float64{grouped: &with, single: &without} {
			handler := newHandler(b, store)
			requests := several(perRound, func() *http.Request { return cloudinaryhooktest.NewRequest(b, "/hook", uploadBody(b)) })
			*rates = append(*rates, atOnce(b, clients, requests, func(_ context.Context, r *http.Request) error {
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, r)
				return nil
			}))
		}
		rows := several(perRound, func() []any { return []any{rand.Text(), uploadBody(b)} })
		inserts = append(inserts, atOnce(b, clients, rows, func(ctx context.Context, row []any) error {
			_, err := bare.ExecContext(ctx, "INSERT INTO bare (id, data) VALUES ($1, $2)", row...)
			return err
		}))
	}
	b.ReportMetric(median(with), "201s/s")
	b.ReportMetric(median(without), "ungrouped/s")
	b.ReportMetric(median(inserts), "inserts/s")
	b.ReportMetric(0, "ns/op") // the time of a round means nothing
}

func createImages(b *testing.B, s *Store) {
	b.Helper()
	data := map[Dialect]string{SQLite: "BLOB", Postgres: "BYTEA"}[s.dialect]
	if _, err := s.db.Exec("CREATE TABLE images (key TEXT PRIMARY KEY, url TEXT NOT NULL); CREATE TABLE bare (id TEXT PRIMARY KEY, data " + data + " NOT NULL)"); err != nil {
		b.Fatal(err)
	}
}

func newHandler(b *testing.B, s *Store) *cloudinaryhook.Handler {
	b.Helper()
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Observe: func(_ context.Context, o cloudinaryhook.Outcome) {
			if o.Err != nil {
				b.Error(o.Err)
			}
		},
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
		Processor: &cloudinaryhook.Processor{Store: s, Images: cloudinaryhook.ImageCreatorFunc(func(ctx context.Context, img *cloudinaryhook.Image) error {
			return s.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, "INSERT INTO images (key, url) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING", img.Delivery.ID, img.SecureURL)
				return err
			})
		})},
	})
	if err != nil {
		b.Fatal(err)
	}
	return handler
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
