package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// savePending saves n deliveries, oldest first, and returns their IDs.
func savePending(t *testing.T, s *Store, n int) (ids []string) {
	t.Helper()
	for i := range n {
		d := upload(t, i)
		d.ReceivedAt = time.Now().Add(time.Duration(i-n) * time.Second)
		save(t, s, d, cloudinaryhook.StateNew)
		ids = append(ids, d.ID)
	}
	return ids
}

// TestResumeTogether: two instances resume the same deliveries at the same
// time, and each delivery is processed by one of them only.
func TestResumeTogether(t *testing.T) {
	name := postgres(t).Database(t)
	ids := savePending(t, open(t, Postgres, name), 100)
	var mu sync.Mutex
	created := make(map[string]int)
	byInstance := make([]int, 2)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range byInstance {
		db := open(t, Postgres, name)
		processor := &cloudinaryhook.Processor{Store: db, Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
			mu.Lock()
			created[img.Delivery.ID]++
			byInstance[i]++
			mu.Unlock()
			return nil
		})}
		wg.Go(func() {
			<-start
			if err := processor.Resume(t.Context(), db.Pending(t.Context(), time.Now())); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	want := make(map[string]int)
	for _, id := range ids {
		want[id] = 1
	}
	if diff := cmp.Diff(want, created); diff != "" {
		t.Errorf("how often each was created differs (-want +got):\n%s", diff)
	}
	if byInstance[0] == 0 || byInstance[1] == 0 {
		t.Errorf("the instances created %v images, want both to have a share", byInstance)
	}
	wantStats(t, open(t, Postgres, name), totals{Deliveries: 100})
}

// atStart calls a function when an SQL statement begins.
type atStart func(statement string)

func (f atStart) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	f(data.SQL)
	return ctx
}

func (atStart) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestLeaseWhoseContextEnds: a caller that stops waiting must not read a
// variable that the committer may still write. The race detector would report
// it.
func TestLeaseWhoseContextEnds(t *testing.T) {
	name := postgres(t).Database(t)
	ids := savePending(t, open(t, Postgres, name), 1)
	config, err := pgx.ParseConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	config.Tracer = atStart(func(statement string) {
		if strings.Contains(statement, "SET leased_until") {
			cancel()
		}
	})
	db := stdlib.OpenDB(*config)
	defer db.Close()
	s, err := New(t.Context(), db, Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if until, err := s.lease(ctx, ids[0]); until != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("lease got %d and %v, want 0 and %v", until, err, context.Canceled)
	}
}

// TestDeadInstance: if an instance dies at work, the others skip its one
// delivery until the lease has run out. They get all other deliveries.
func TestDeadInstance(t *testing.T) {
	name := postgres(t).Database(t)
	other := open(t, Postgres, name)
	ids := savePending(t, other, 3)
	for _, tt := range []struct {
		name  string
		lease time.Duration
		want  []string // what the other instance gets while the first one works on ids[0]
	}{
		{"its lease holds", time.Hour, ids[1:]},
		{"its lease has run out", time.Nanosecond, ids},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := open(t, Postgres, name, Lease(tt.lease))
			for d, err := range db.Pending(t.Context(), time.Now()) {
				if err != nil || d.ID != ids[0] {
					t.Fatalf("the first got %v and %v, want the oldest", d, err)
				}
				if diff := cmp.Diff(tt.want, yielded(t, other)); diff != "" {
					t.Errorf("during the lease the other instance got (-want +got):\n%s", diff)
				}
				break
			}
			// The loop has ended its lease.
			if diff := cmp.Diff(ids, yielded(t, other)); diff != "" {
				t.Errorf("after the lease the other instance got (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLateRelease: an instance whose lease ran out must not end another
// instance's lease.
func TestLateRelease(t *testing.T) {
	name := postgres(t).Database(t)
	late, next := open(t, Postgres, name), open(t, Postgres, name)
	ids := savePending(t, late, 1)
	late.leaseTime, next.leaseTime = time.Nanosecond, time.Hour
	var stops []func()
	for _, db := range []*Store{late, next} {
		pull, stop := iter.Pull2(db.Pending(t.Context(), time.Now()))
		defer stop()
		stops = append(stops, stop)
		if d, err, ok := pull(); !ok || err != nil || d.ID != ids[0] {
			t.Fatalf("Pending got %v and %v, want the delivery", d, err)
		}
	}
	stops[0]()
	if got := yielded(t, late); len(got) > 0 {
		t.Errorf("during the other instance's lease got %v, want nothing", got)
	}
	stops[1]()
	if diff := cmp.Diff(ids, yielded(t, late)); diff != "" {
		t.Errorf("after the other instance's release got (-want +got):\n%s", diff)
	}
}

// TestLockedRow: somebody else has an open transaction, for example in psql or
// on a dead host. Only writes to the row that it has locked fail.
func TestLockedRow(t *testing.T) {
	name := postgres(t).Database(t)
	s := open(t, Postgres, name)
	ids := savePending(t, s, 2)
	tx, err := s.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec("UPDATE cloudinary_deliveries SET cause = cause WHERE id = $1", ids[0]); err != nil {
		t.Fatal(err)
	}
	var timeout string // lock_timeout when the writes are tried one by one
	together(t, s, 65, func(i int) {
		d := upload(t, i)
		if i == 64 {
			if err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
				return tx.QueryRowContext(ctx, "SHOW lock_timeout").Scan(&timeout)
			}); err != nil {
				t.Errorf("Do got %v, want nil", err)
			}
			return
		}
		if _, err := s.Save(t.Context(), d); (err != nil) != (d.ID == ids[0]) {
			t.Errorf("Save %d got %v, want an error only for the locked row", i, err)
		}
	})
	if timeout != "100ms" {
		t.Errorf("after the batch had waited, each write had a lock_timeout of %s, want 100ms", timeout)
	}
	// Pending skips a locked row, as if it were leased. If it waited, the commit's
	// timeout would end it with an error.
	patient := open(t, Postgres, name+"&lock_timeout=1h")
	if got := yielded(t, patient); len(got) != 63 || got[0] != ids[1] {
		t.Errorf("Pending got %d deliveries, want the 63 that are not locked", len(got))
	}
}

// TestLockedTotals: somebody holds a lock on the totals of the store's
// connection, for example a dead host. The store goes on with other totals.
func TestLockedTotals(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, s *Store){
		"a batch": func(t *testing.T, s *Store) {
			together(t, s, 2, func(i int) { save(t, s, upload(t, i), cloudinaryhook.StateNew) })
		},
		"one after another": func(t *testing.T, s *Store) {
			if _, err := s.Save(t.Context(), upload(t, 0)); err == nil {
				t.Error("the first Save got nil, want an error that says that the row is locked")
			}
			save(t, s, upload(t, 0), cloudinaryhook.StateNew)
			save(t, s, upload(t, 1), cloudinaryhook.StateNew)
		},
		"Ping": func(t *testing.T, s *Store) {
			if err := s.Ping(t.Context()); err == nil {
				t.Error("the first Ping got nil, want an error that says that the row is locked")
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Errorf("the second Ping got %v, want nil", err)
			}
			together(t, s, 2, func(i int) { save(t, s, upload(t, i), cloudinaryhook.StateNew) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Postgres, postgres(t).Database(t)+"&lock_timeout=100ms")
			save(t, s, upload(t, 100), cloudinaryhook.StateNew)
			tx, err := s.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.Exec("SELECT FROM cloudinary_deliveries_totals FOR UPDATE"); err != nil {
				t.Fatal(err)
			}
			f(t, s)
			wantStats(t, s, totals{Deliveries: 3, Pending: 3})
		})
	}
}

// TestReloadedSettings: if the server's configuration changes a setting, that is
// not the fault of the app's function.
func TestReloadedSettings(t *testing.T) {
	s := open(t, Postgres, postgres(t).Database(t))
	for _, value := range []string{"1h", "0"} {
		for _, statement := range []string{"ALTER SYSTEM SET statement_timeout = '" + value + "'", "SELECT pg_reload_conf()"} {
			if _, err := s.db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		for got := ""; got != value; {
			if err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
				return tx.QueryRowContext(ctx, "SHOW statement_timeout").Scan(&got)
			}); err != nil {
				t.Fatalf("Do after a change of the configuration got %v, want nil", err)
			}
		}
	}
}

// TestOwnLockTimeout: the store sets lock_timeout only if the connection has no
// limit of its own.
func TestOwnLockTimeout(t *testing.T) {
	for option, want := range map[string]string{"": "1s", "&lock_timeout=70ms": "70ms"} {
		s := open(t, Postgres, postgres(t).Database(t)+option)
		var got string
		if err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
			return tx.QueryRowContext(ctx, "SHOW lock_timeout").Scan(&got)
		}); err != nil || got != want {
			t.Errorf("with %q lock_timeout got %s and %v, want %s", option, got, err, want)
		}
	}
}

// TestPgxpool: the app's pool never hands out a connection that still has the
// store's settings.
func TestPgxpool(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), postgres(t).Database(t)+"&pool_max_conns=2")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	s, err := New(t.Context(), db, Postgres)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	save(t, s, upload(t, 1), cloudinaryhook.StateNew)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		var got string
		if err := conn.QueryRow(t.Context(), "SHOW lock_timeout").Scan(&got); err != nil || got != "0" {
			t.Errorf("a connection of the pool has lock_timeout %s and %v, want 0", got, err)
		}
	}
}

// failures collects the errors that the server sends. The server writes each of
// them to its log.
type failures []error

func (*failures) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (f *failures) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	if data.Err != nil {
		*f = append(*f, data.Err)
	}
}

// TestFirstStartLogsNoError: a first start must not write errors to the
// server's log.
func TestFirstStartLogsNoError(t *testing.T) {
	config, err := pgx.ParseConfig(postgres(t).Database(t))
	if err != nil {
		t.Fatal(err)
	}
	var got failures
	config.Tracer = &got
	db := stdlib.OpenDB(*config)
	defer db.Close()
	s, err := New(t.Context(), db, Postgres)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Migrate(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	if len(got) > 0 {
		t.Errorf("the server logs %v, want no error", got)
	}
}
