package database

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// uploads are new deliveries of a body with everything on it, 6 KB.
func uploads(tb testing.TB, n int) []*cloudinaryhook.Delivery {
	tb.Helper()
	body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), "upload-full.json")
	if err != nil {
		tb.Fatal(err)
	}
	all := make([]*cloudinaryhook.Delivery, n)
	for i := range all {
		all[i] = newDelivery(tb, string(bytes.Replace(body, []byte("{"), fmt.Appendf(nil, "{%q: true,", rand.Text()), 1)))
	}
	return all
}

// atOnce has clients do f with all of what there is, each with one after the
// other, and returns how many were done in a second.
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

// TestGroupCommit: what waits together shares a sync.
func TestGroupCommit(t *testing.T) {
	const clients, limit = 64, 0.2
	all := uploads(t, 50*clients)
	save := func(db DB) {
		atOnce(t, clients, all, func(ctx context.Context, d *cloudinaryhook.Delivery) error {
			_, err := db.Save(ctx, d)
			return err
		})
	}
	check := func(t *testing.T, syncs int64) {
		t.Helper()
		got := float64(syncs) / float64(len(all))
		t.Logf("%.3f syncs for each of %d saves", got, len(all))
		if syncs == 0 || got > limit {
			t.Errorf("got %d syncs of %d saves, want some and %v of one for each at most", syncs, len(all), limit)
		}
	}
	t.Run("SQLite", func(t *testing.T) {
		db := openSQLite(t, "gallery.db")
		save(db)
		check(t, db.committer.commits.Load())
	})
	t.Run("Postgres", func(t *testing.T) {
		name := postgres(t).Database(t)
		before := postgresSyncs(t, name)
		db, err := Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		save(db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		check(t, postgresSyncs(t, name)-before)
	})
}

// postgresSyncs is how often the server has synced its log. Connections tell
// when they end, so it waits until others to the database have.
func postgresSyncs(t *testing.T, name string) (syncs int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	query := func(statement string) (n int64) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), statement).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for query("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") > 1 {
		time.Sleep(10 * time.Millisecond)
	}
	if query("SELECT current_setting('server_version_num')::bigint") >= 180000 {
		return query("SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'")
	}
	return query("SELECT wal_sync FROM pg_stat_wal")
}

// BenchmarkSaves compares Save with a bare loop that inserts the same rows as
// durably, each by itself and each client over a connection of its own where the
// database can. Both have their turn in every round, and medians of the rounds
// are reported: go test -run '^$' -bench Saves -benchtime 9x
func BenchmarkSaves(b *testing.B) {
	for _, d := range databases {
		for _, clients := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/clients=%d", d.name, clients), func(b *testing.B) {
				name := d.newName(b)
				benchmarkSaves(b, name, clients, open(b, name))
			})
		}
	}
	b.Run("Postgres/clients=64/galleries=2", func(b *testing.B) {
		name := postgres(b).Database(b)
		benchmarkSaves(b, name, 64, open(b, name), open(b, name))
	})
}

func benchmarkSaves(b *testing.B, name string, clients int, galleries ...DB) {
	const perRound = 1280
	insert := bareInsert(b, galleries[0], name, clients)
	var turn atomic.Int64
	var saves, inserts, ratios []float64
	for b.Loop() {
		saved := atOnce(b, clients, uploads(b, perRound), func(ctx context.Context, d *cloudinaryhook.Delivery) error {
			_, err := galleries[int(turn.Add(1))%len(galleries)].Save(ctx, d)
			return err
		})
		inserted := atOnce(b, clients, rows(b, perRound), insert)
		saves, inserts, ratios = append(saves, saved), append(inserts, inserted), append(ratios, saved/inserted)
	}
	b.ReportMetric(median(saves), "saves/s")
	b.ReportMetric(median(inserts), "inserts/s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(0, "ns/op") // of a round, which nobody asked for
}

func rows(b *testing.B, n int) (rows [][]any) {
	for _, d := range uploads(b, n) {
		args, err := deliveryArgs(d)
		if err != nil {
			b.Fatal(err)
		}
		rows = append(rows, args)
	}
	return rows
}

func bareInsert(b *testing.B, db DB, name string, clients int) func(ctx context.Context, row []any) error {
	b.Helper()
	const insert = "INSERT INTO deliveries (id, delivery, notification_type, public_id, request_id, organization_id, album_id, received_at, signed_at, saves) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1)"
	if db, ok := db.(*SQLite); ok {
		statement, err := db.write.Prepare(insert)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = statement.Close() })
		return func(ctx context.Context, row []any) error {
			_, err := statement.ExecContext(ctx, row...)
			return err
		}
	}
	pool, err := pgxpool.New(b.Context(), fmt.Sprintf("%s&pool_max_conns=%d", name, clients))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return func(ctx context.Context, row []any) error {
		_, err := pool.Exec(ctx, insert, row...)
		return err
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
