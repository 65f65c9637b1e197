package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// hold keeps the committer busy until release is called, so that the writes
// that are sent meanwhile make one batch.
func hold(t *testing.T, s *Store) (release func()) {
	t.Helper()
	begun, released := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.Do(context.Background(), func(context.Context, *sql.Tx) error {
			close(begun)
			<-released
			return nil
		})
	}()
	<-begun
	release = sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	return release
}

// waitFor returns when n writes are waiting.
func waitFor(t *testing.T, s *Store, n int) {
	t.Helper()
	for len(s.committer.writes) < n {
		if t.Context().Err() != nil {
			t.Fatal("the test ended")
		}
	}
}

// together runs f n times at once, in one batch.
func together(t *testing.T, s *Store, n int, f func(i int)) {
	t.Helper()
	release := hold(t, s)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	waitFor(t, s, n)
	release()
	wg.Wait()
}

func stats(t *testing.T, s *Store) totals {
	t.Helper()
	got, err := s.Stats(t.Context())
	if err != nil {
		t.Error(err)
	}
	return totals{got.Deliveries, got.Pending, got.Rejected}
}

func wantStats(t *testing.T, s *Store, want totals) {
	t.Helper()
	if diff := cmp.Diff(want, stats(t, s)); diff != "" {
		t.Errorf("stats differ (-want +got):\n%s", diff)
	}
}

func save(t *testing.T, s *Store, d *cloudinaryhook.Delivery, want cloudinaryhook.State) {
	t.Helper()
	if state, err := s.Save(t.Context(), d); state != want || err != nil {
		t.Fatalf("Save got %v and %v, want %v", state, err, want)
	}
}

// createRows creates a table of the app's own, for writes in Do.
func createRows(t *testing.T, s *Store) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), "CREATE TABLE app_rows (id BIGINT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
}

func insertRow(ctx context.Context, tx *sql.Tx, id int) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO app_rows (id) VALUES ($1)", id)
	return err
}

func rowIDs(t *testing.T, s *Store) []int {
	t.Helper()
	ids, err := query(t.Context(), s.db, func(rows *sql.Rows, id *int) error { return rows.Scan(id) }, "SELECT id FROM app_rows ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestOneTransaction: writes that wait together share a transaction, also if
// they are of different kinds.
func TestOneTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		createRows(t, s)
		completed := upload(t, 100)
		save(t, s, completed, cloudinaryhook.StateNew)
		txs := make([]*sql.Tx, 30)
		together(t, s, 30, func(i int) {
			var err error
			switch i % 3 {
			case 0:
				_, err = s.Save(t.Context(), upload(t, i))
			case 1:
				err = s.Complete(t.Context(), completed.ID, nil)
			default:
				err = s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
					txs[i] = tx
					return insertRow(ctx, tx, i)
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
		distinct := make(map[*sql.Tx]bool)
		for i := 2; i < len(txs); i += 3 {
			distinct[txs[i]] = true
		}
		if len(distinct) != 1 || distinct[nil] {
			t.Errorf("10 calls of Do that waited together got %d transactions, want 1", len(distinct))
		}
		if got := len(rowIDs(t, s)); got != 10 {
			t.Errorf("the app has %d rows, want 10", got)
		}
		wantStats(t, s, totals{Deliveries: 11, Pending: 10})
	})
}

// TestLargeBatch: large writes that wait together do not all go into one
// transaction.
func TestLargeBatch(t *testing.T) {
	c := &committer{maxBatch: maxBatch, writes: make(chan *write, maxBatch)}
	for range maxBatch {
		c.writes <- &write{size: maxBatchBytes/2 - 1}
	}
	close(c.writes)
	var sizes []int
	for w := range c.writes {
		sizes = append(sizes, len(c.gather(w)))
	}
	if len(sizes) != (maxBatch+2)/3 || slices.Max(sizes) != 3 {
		t.Errorf("batches got sizes %v, want 3 each", sizes)
	}
}

// TestBusy: if another program holds the file, a batch fails at the first try.
// Its writes are not tried again one by one.
func TestBusy(t *testing.T) {
	name := strings.Replace(databases[0].newName(t), "busy_timeout(5000)", "busy_timeout(100)", 1)
	s := open(t, SQLite, name)
	tx, err := openDB(t, SQLite, name).Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), upload(t, 1)); !busy(err) {
		t.Errorf("Save into a locked file got %v, want an error that says that it is locked", err)
	}
	var batch []*write
	for range 20 {
		batch = append(batch, &write{ctx: t.Context(), result: make(chan error, 1)})
	}
	s.committer.settle(batch) // the committer's goroutine is idle
	distinct := make(map[error]bool)
	for _, w := range batch {
		err := <-w.result
		if !busy(err) {
			t.Errorf("a write of the batch got %v, want an error that says that the file is locked", err)
		}
		distinct[err] = true
	}
	if len(distinct) != 1 {
		t.Errorf("%d writes got %d different errors, want one: there is only one try", len(batch), len(distinct))
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	save(t, s, upload(t, 1), cloudinaryhook.StateNew)
}

// TestDuplicatesInOneBatch: if one transaction saves a delivery many times,
// only one of the saves gets StateNew.
func TestDuplicatesInOneBatch(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		d := upload(t, 1)
		var mu sync.Mutex
		got := make(map[cloudinaryhook.State]int)
		together(t, s, 10, func(int) {
			state, err := s.Save(t.Context(), d)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[state]++
		})
		if diff := cmp.Diff(map[cloudinaryhook.State]int{cloudinaryhook.StateNew: 1, cloudinaryhook.StatePending: 9}, got); diff != "" {
			t.Errorf("states differ (-want +got):\n%s", diff)
		}
		together(t, s, 10, func(i int) {
			id, unknown := d.ID, i%2 == 1
			if unknown {
				id = "unknown"
			}
			if err := s.Complete(t.Context(), id, nil); errors.Is(err, ErrNotFound) != unknown || !unknown && err != nil {
				t.Errorf("Complete of %s got %v, want an error only for the unknown ID", id, err)
			}
		})
		wantStats(t, s, totals{Deliveries: 1})
	})
}

// A hostile error panics in each method that errors.Is and errors.As call.
type hostile struct{}

func (hostile) Error() string { panic("Error") }
func (hostile) Is(error) bool { panic("Is") }
func (hostile) As(any) bool   { panic("As") }
func (hostile) Unwrap() error { panic("Unwrap") }

// An endless error wraps itself.
type endless struct{}

func (e endless) Error() string { return "endless" }
func (e endless) Unwrap() error { return e }

// statement returns a function that runs an SQL statement.
func statement(text string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error { _, err := tx.ExecContext(ctx, text); return err }
}

// badFunctions fail in Do, each in another way.
var badFunctions = map[string]func(ctx context.Context, tx *sql.Tx) error{
	"an error of its own":  func(context.Context, *sql.Tx) error { return errors.New("the app's own") },
	"an error of SQL":      func(ctx context.Context, tx *sql.Tx) error { return insertRow(ctx, tx, 0) },
	"a syntax error":       statement("no SQL"),
	"a ROLLBACK":           statement("ROLLBACK"),
	"a new transaction":    statement("ROLLBACK; BEGIN"),
	"an error after that":  statement("ROLLBACK; BEGIN; no SQL"),
	"a panic":              func(context.Context, *sql.Tx) error { panic("a bug") },
	"its own rollback":     func(_ context.Context, tx *sql.Tx) error { return tx.Rollback() },
	"a panic with nothing": func(context.Context, *sql.Tx) error { panic(nil) },
	"the goroutine's end":  func(context.Context, *sql.Tx) error { runtime.Goexit(); return nil },
	"a store-like error":   func(context.Context, *sql.Tx) error { return fmt.Errorf("%w: database is locked", ErrReadOnly) },
	"a lost connection":    func(context.Context, *sql.Tx) error { return errDisconnected },
	"a hostile error":      func(context.Context, *sql.Tx) error { return hostile{} },
	"an endless error":     func(context.Context, *sql.Tx) error { return endless{} },
}

// TestBadWrites: a write that fails, in any way, does not affect the rest of
// its batch, and nothing of it is kept.
func TestBadWrites(t *testing.T) {
	for name, f := range badFunctions {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *Store) {
				createRows(t, s)
				if err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error { return insertRow(ctx, tx, 0) }); err != nil {
					t.Fatal(err)
				}
				together(t, s, 30, func(i int) {
					switch {
					case i == 14:
						err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
							return errors.Join(insertRow(ctx, tx, i), f(ctx, tx))
						})
						if err == nil {
							t.Error("the bad write got nil, want an error")
						}
					case i%2 == 0:
						if _, err := s.Save(t.Context(), upload(t, i)); err != nil {
							t.Errorf("Save beside it got %v, want nil", err)
						}
					default:
						if err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error { return insertRow(ctx, tx, i) }); err != nil {
							t.Errorf("Do beside it got %v, want nil", err)
						}
					}
				})
				wantStats(t, s, totals{Deliveries: 14, Pending: 14})
				if diff := cmp.Diff([]int{0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29}, rowIDs(t, s)); diff != "" {
					t.Errorf("the app's rows differ (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestCommitInDo: a COMMIT in an app's function cannot be undone. But the other
// writes are still saved.
func TestCommitInDo(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		together(t, s, 10, func(i int) {
			if i == 4 {
				if err := s.Do(t.Context(), statement("COMMIT")); err == nil {
					t.Error("Do with a COMMIT got nil, want an error")
				}
			} else if _, err := s.Save(t.Context(), upload(t, i)); err != nil {
				t.Errorf("Save beside it got %v, want nil", err)
			}
		})
		if got := yielded(t, s); len(got) != 9 {
			t.Errorf("%d deliveries are in the table, want the 9 that were saved", len(got))
		}
	})
}

// settingChanges are statements that change a setting of the connection.
var settingChanges = map[Dialect][]string{
	SQLite: {"PRAGMA query_only = 1", "PRAGMA busy_timeout = 1", "PRAGMA locking_mode = EXCLUSIVE", "PRAGMA synchronous = OFF", "COMMIT; PRAGMA synchronous = OFF"},
	Postgres: {
		"SET synchronous_commit = off", "SET LOCAL synchronous_commit = off", "SET search_path = elsewhere",
		"SET ROLE pg_monitor", "SET SESSION AUTHORIZATION pg_monitor", "SET statement_timeout = '1ms'",
		"SET synchronous_commit = off; COMMIT", "SET synchronous_commit = off; COMMIT; BEGIN", "SET search_path = elsewhere; COMMIT; no SQL",
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; COMMIT",
	},
}

// TestSettingsOfDo: an app's function cannot change a setting that other writes
// depend on. Do returns an error, and the committer's connection is as before.
func TestSettingsOfDo(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		settings := func() (got string) {
			t.Helper()
			if err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
				return tx.QueryRowContext(ctx, s.dialect.settings()).Scan(&got)
			}); err != nil {
				t.Error(err)
			}
			return got
		}
		want, number := settings(), 0
		for _, change := range settingChanges[s.dialect] {
			for _, beside := range []int{0, 4} {
				t.Run(fmt.Sprintf("%s, beside %d saves", change, beside), func(t *testing.T) {
					first := number
					number += beside + 1
					together(t, s, beside+1, func(i int) {
						if i == 0 {
							if err := s.Do(t.Context(), statement(change)); err == nil {
								t.Error("Do got nil, want an error")
							}
						} else if _, err := s.Save(t.Context(), upload(t, first+i)); err != nil {
							t.Errorf("Save beside it got %v, want nil", err)
						}
					})
					save(t, s, upload(t, first), cloudinaryhook.StateNew)
					if got := settings(); got != want {
						t.Errorf("afterwards the settings are %q, want %q", got, want)
					}
				})
			}
		}
		if got := len(yielded(t, s)); got != number {
			t.Errorf("%d deliveries are in the table, want the %d that were saved", got, number)
		}
	})
}

// TestSwallowedError: after an SQL error Postgres rolls the transaction back.
// Do must return an error then, even if the function hides it.
func TestSwallowedError(t *testing.T) {
	s := open(t, Postgres, postgres(t).Database(t))
	createRows(t, s)
	together(t, s, 9, func(i int) {
		err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
			err := insertRow(ctx, tx, i)
			if i == 4 {
				_, _ = tx.ExecContext(ctx, "no SQL")
			}
			return err
		})
		if (err != nil) != (i == 4) {
			t.Errorf("Do %d got %v, want an error only for number 4", i, err)
		}
	})
	if diff := cmp.Diff([]int{0, 1, 2, 3, 5, 6, 7, 8}, rowIDs(t, s)); diff != "" {
		t.Errorf("the app's rows differ (-want +got):\n%s", diff)
	}
}

// refuseLate makes the database refuse the delivery of request r7 when it
// commits, not before.
func refuseLate(t *testing.T, s *Store) {
	t.Helper()
	statement := `
		CREATE TABLE app_parent (id TEXT PRIMARY KEY);
		CREATE TABLE late (parent TEXT REFERENCES app_parent (id) DEFERRABLE INITIALLY DEFERRED);
		CREATE TRIGGER refuse AFTER INSERT ON cloudinary_deliveries WHEN NEW.request_id = 'r7'
			BEGIN INSERT INTO late VALUES ('no such parent'); END`
	if s.dialect == Postgres {
		statement = `
			CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
			CREATE CONSTRAINT TRIGGER late AFTER INSERT ON cloudinary_deliveries DEFERRABLE INITIALLY DEFERRED
				FOR EACH ROW WHEN (NEW.request_id = 'r7') EXECUTE FUNCTION refuse()`
	}
	if _, err := s.db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// TestCommitFails: if the database refuses a delivery only at the commit, Save
// returns an error, although the INSERT succeeded.
func TestCommitFails(t *testing.T) {
	for _, d := range databases {
		t.Run(d.dialect.String(), func(t *testing.T) {
			name := d.newName(t)
			if d.dialect == SQLite {
				name += "&_pragma=foreign_keys(1)"
			}
			s := open(t, d.dialect, name)
			refuseLate(t, s)
			together(t, s, 10, func(i int) {
				state, err := s.Save(t.Context(), upload(t, i))
				if (err != nil) != (i == 7) || (state == 0) != (err != nil) {
					t.Errorf("Save %d got %v and %v, want an error only for number 7", i, state, err)
				}
			})
			save(t, s, upload(t, 11), cloudinaryhook.StateNew)
			wantStats(t, s, totals{Deliveries: 10, Pending: 10})
		})
	}
}

// TestStopWaiting: if the caller's context ends, Save returns its error and
// does not wait for the batch. The delivery may still be saved.
func TestStopWaiting(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		release := hold(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		d := upload(t, 1)
		go func() {
			state, err := s.Save(ctx, d)
			if state != 0 {
				t.Errorf("Save got state %v after its context had ended, want none", state)
			}
			result <- err
		}()
		waitFor(t, s, 1)
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("Save got %v after its context had ended, want context.Canceled", err)
		}
		release()
		save(t, s, d, cloudinaryhook.StatePending)
	})
}

// TestDoHasItsCallersValues: the function's context has the caller's values,
// but not its cancellation, because others share the transaction.
func TestDoHasItsCallersValues(t *testing.T) {
	type key struct{}
	onEach(t, func(t *testing.T, s *Store) {
		ctx := context.WithValue(t.Context(), key{}, "value")
		if err := s.Do(ctx, func(ctx context.Context, _ *sql.Tx) error {
			if got := ctx.Value(key{}); got != "value" {
				t.Errorf("the context has %v, want its caller's value", got)
			}
			if at, ok := ctx.Deadline(); !ok || time.Until(at) > doTimeout {
				t.Errorf("the context has the deadline %v, want one within %v", at, doTimeout)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestPanicOfDoHasAStack: the log says where an app's function panicked.
func TestPanicOfDoHasAStack(t *testing.T) {
	s := open(t, SQLite, databases[0].newName(t))
	var log bytes.Buffer
	p := &cloudinaryhook.Processor{Store: s, Logger: slog.New(slog.NewTextHandler(&log, nil)), Images: cloudinaryhook.ImageCreatorFunc(func(ctx context.Context, _ *cloudinaryhook.Image) error {
		return fmt.Errorf("inserting: %w", s.Do(ctx, func(context.Context, *sql.Tx) error { panic("a bug") }))
	})}
	if state, err := p.Accept(t.Context(), newDelivery(t, string(uploadBody(t)))); state != cloudinaryhook.StatePending || err == nil {
		t.Errorf("Accept got %v and %v, want a pending delivery and an error", state, err)
	}
	for _, want := range []string{"inserting: sqlstore: the function did not return: panic: a bug", "stack=", "committer_test.go:"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log is\n%s\nwant it to have %q", log.String(), want)
		}
	}
}

// TestDoThatTakesTooLong: a slow function fails alone. When the other writes
// are tried again, they do not wait for it a second time.
func TestDoThatTakesTooLong(t *testing.T) {
	for name, f := range map[string]func(context.Context, *sql.Tx) error{
		"waits": func(ctx context.Context, _ *sql.Tx) error { <-ctx.Done(); return ctx.Err() },
		"queries": func(ctx context.Context, tx *sql.Tx) error {
			var n int
			return tx.QueryRowContext(ctx, "WITH RECURSIVE endless (n) AS (SELECT 1 UNION ALL SELECT 1 FROM endless) SELECT count(*) FROM endless").Scan(&n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *Store) {
				s.doTimeout = 50 * time.Millisecond
				runs := 0
				together(t, s, 10, func(i int) {
					if i > 0 {
						if _, err := s.Save(t.Context(), upload(t, i)); err != nil {
							t.Errorf("Save beside it got %v, want nil", err)
						}
						return
					}
					if err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error { runs++; return f(ctx, tx) }); err == nil {
						t.Error("Do got nil, want an error")
					}
				})
				if runs != 1 {
					t.Errorf("the function ran %d times, want once", runs)
				}
				wantStats(t, s, totals{Deliveries: 9, Pending: 9})
			})
		})
	}
}

// TestDoDoesNotBeginLate: the function does not run after its caller has
// stopped waiting. It may use things that the caller has closed by then.
func TestDoDoesNotBeginLate(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		release := hold(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() {
			result <- s.Do(ctx, func(context.Context, *sql.Tx) error {
				t.Error("the function ran, want that it does not")
				return nil
			})
		}()
		waitFor(t, s, 1)
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("Do got %v, want %v", err, context.Canceled)
		}
		release()
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestCloseDrains: Close waits for the writes that were sent. Later calls fail.
func TestCloseDrains(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		release := hold(t, s)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if _, err := s.Save(t.Context(), upload(t, i)); err != nil {
					t.Errorf("Save before Close got %v, want nil", err)
				}
			})
		}
		waitFor(t, s, 10)
		closed := make(chan error)
		go func() { closed <- s.Close() }()
		release()
		if err := <-closed; err != nil {
			t.Errorf("Close got %v, want nil", err)
		}
		wg.Wait()
		for name, err := range map[string]error{
			"Save":     func() error { _, err := s.Save(t.Context(), upload(t, 11)); return err }(),
			"Complete": s.Complete(t.Context(), upload(t, 1).ID, nil),
			"Ping":     s.Ping(t.Context()),
			"Close":    s.Close(),
		} {
			if want := map[bool]error{true: nil, false: ErrClosed}[name == "Close"]; !errors.Is(err, want) {
				t.Errorf("%s after Close got %v, want %v", name, err, want)
			}
		}
		wantStats(t, s, totals{Deliveries: 10, Pending: 10})
		if got := s.db.Stats().InUse; got != 0 {
			t.Errorf("after Close %d connections are in use, want none", got)
		}
	})
}

// TestRoomAgain: a full database fails writes with an error. Writes succeed
// again as soon as there is room.
func TestRoomAgain(t *testing.T) {
	s := open(t, SQLite, databases[0].newName(t))
	limit := func(pages int) {
		t.Helper()
		if err := s.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	saveAll := func() (failed int) {
		var mu sync.Mutex
		together(t, s, 64, func(i int) {
			if _, err := s.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d","x":"%0999d"}`, i, 1))); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
			}
		})
		return failed
	}
	var pages int
	if err := s.db.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit(pages + 10)
	failed := saveAll()
	if got := stats(t, s).Deliveries; failed == 0 || failed == 64 || got != int64(64-failed) {
		t.Errorf("with little room %d of 64 Saves failed, and the table has %d deliveries; want some failures, and exactly the saved deliveries in the table", failed, got)
	}
	limit(1 << 20)
	if failed := saveAll(); failed > 0 {
		t.Errorf("with room again %d of 64 Saves failed, want none", failed)
	}
	wantStats(t, s, totals{Deliveries: 64, Pending: 64})
}
