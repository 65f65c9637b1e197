package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
)

func committerOf(db DB) *committer {
	if db, ok := db.(*SQLite); ok {
		return db.committer
	}
	return db.(*Postgres).committer
}

// hold has the committer at work until release is called, so that what is sent
// meanwhile waits for one batch.
func hold(t *testing.T, c *committer) (release func()) {
	t.Helper()
	begun, released := make(chan struct{}), make(chan struct{})
	commit, first := c.commit, true
	c.commit = func(batch []*write) error {
		if first {
			first = false
			close(begun)
			<-released
		}
		return commit(batch)
	}
	go func() {
		_ = c.do(context.Background(), &write{statement: "DELETE FROM images WHERE key = $1", args: []any{"none"}})
	}()
	<-begun
	release = sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	return release
}

// waitFor returns when n writes wait.
func waitFor(t *testing.T, c *committer, n int) {
	t.Helper()
	for len(c.writes) < n {
		if t.Context().Err() != nil {
			t.Fatal("the test ended")
		}
	}
}

// TestOneCommit: what waits together shares a commit.
func TestOneCommit(t *testing.T) {
	onEach(t, func(t *testing.T, db DB) {
		c := committerOf(db)
		release := hold(t, c)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if state, err := db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d"}`, i))); state != cloudinaryhook.StateNew || err != nil {
					t.Errorf("Save got %v and %v, want new", state, err)
				}
			})
		}
		waitFor(t, c, 50)
		before := c.commits.Load()
		release()
		wg.Wait()
		if commits := c.commits.Load() - before; commits != 1 {
			t.Errorf("50 Saves that waited together took %d commits, want 1", commits)
		}
	})
}

// TestLargeBatch: what waits together is not made one transaction whatever its
// size.
func TestLargeBatch(t *testing.T) {
	c := &committer{writes: make(chan *write, maxBatch)}
	large := &write{args: []any{"id", make([]byte, maxBatchBytes/2-1)}}
	for range maxBatch {
		c.writes <- large
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

// TestBusy: a file that another program holds fails all that waits in the time
// that it fails one.
func TestBusy(t *testing.T) {
	name := databases[0].newName(t)
	db, other := open(t, name).(*SQLite), open(t, name).(*SQLite)
	if _, err := db.write.Exec("PRAGMA busy_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	tx, err := other.write.Begin()
	if err != nil {
		t.Fatal(err)
	}
	release := hold(t, db.committer)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if state, err := db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d"}`, i))); err == nil {
				t.Errorf("Save into a locked file got %v, want an error", state)
			}
		})
	}
	waitFor(t, db.committer, 10)
	before := db.committer.commits.Load()
	release()
	wg.Wait()
	if tried := db.committer.commits.Load() - before; tried != 1 {
		t.Errorf("10 Saves that waited together were tried %d times, want once", tried)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	saved(t, db, `{"request_id":"1"}`)
}

// TestDuplicatesInOneCommit: of the same delivery twice in one transaction one
// is new.
func TestDuplicatesInOneCommit(t *testing.T) {
	onEach(t, func(t *testing.T, db DB) {
		c := committerOf(db)
		release := hold(t, c)
		d := newDelivery(t, `{"request_id":"1"}`)
		var mu sync.Mutex
		got := make(map[cloudinaryhook.State]int)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				state, err := db.Save(t.Context(), d)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got[state]++
			})
		}
		waitFor(t, c, 10)
		release()
		wg.Wait()
		if diff := cmp.Diff(map[cloudinaryhook.State]int{cloudinaryhook.StateNew: 1, cloudinaryhook.StatePending: 9}, got); diff != "" {
			t.Errorf("states differ (-want +got):\n%s", diff)
		}
	})
}

// TestBadWrite: one that fails takes none of its batch with it.
func TestBadWrite(t *testing.T) {
	onEach(t, func(t *testing.T, db DB) {
		c := committerOf(db)
		release := hold(t, c)
		errs := make([]error, 9)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				if i%3 == 1 {
					errs[i] = c.do(t.Context(), &write{statement: "INSERT INTO deliveries (id) VALUES ($1)", args: []any{"bad"}})
				} else {
					_, errs[i] = db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d"}`, i)))
				}
			})
		}
		waitFor(t, c, len(errs))
		release()
		wg.Wait()
		for i, err := range errs {
			if (err != nil) != (i%3 == 1) {
				t.Errorf("write %d got %v, want an error of the bad ones alone", i, err)
			}
		}
		if diff := cmp.Diff(Stats{Deliveries: 6, Pending: 6}, stats(t, db)); diff != "" {
			t.Errorf("stats differ (-want +got):\n%s", diff)
		}
	})
}

// refuseLate has a database refuse the delivery of the request "bad", but only
// when it is asked to commit.
func refuseLate(t *testing.T, db DB) {
	t.Helper()
	var err error
	switch db := db.(type) {
	case *SQLite: // which leaves the transaction open then
		_, err = db.write.Exec(`
			CREATE TABLE late (image TEXT REFERENCES images (key) DEFERRABLE INITIALLY DEFERRED);
			CREATE TRIGGER refuse AFTER INSERT ON deliveries WHEN NEW.request_id = 'bad'
				BEGIN INSERT INTO late VALUES ('no such image'); END`)
	case *Postgres:
		_, err = db.pool.Exec(t.Context(), `
			CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
			CREATE CONSTRAINT TRIGGER late AFTER INSERT ON deliveries DEFERRABLE INITIALLY DEFERRED
				FOR EACH ROW WHEN (NEW.request_id = 'bad') EXECUTE FUNCTION refuse()`)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCommitFails: what a database refuses only at the end of a transaction was
// not saved, though each statement was answered as if it were.
func TestCommitFails(t *testing.T) {
	onEach(t, func(t *testing.T, db DB) {
		refuseLate(t, db)
		c := committerOf(db)
		release := hold(t, c)
		var wg sync.WaitGroup
		for _, requestID := range []string{"good", "bad", "better"} {
			wg.Go(func() {
				state, err := db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":%q}`, requestID)))
				if (err != nil) != (requestID == "bad") || (state == 0) != (err != nil) {
					t.Errorf("Save of the %s one got %v and %v, want an error of the bad one alone", requestID, state, err)
				}
			})
		}
		waitFor(t, c, 3)
		release()
		wg.Wait()
		saved(t, db, `{"request_id":"best"}`)
		if got := stats(t, db).Deliveries; got != 3 {
			t.Errorf("%d deliveries are there, want 3", got)
		}
	})
}

// TestStopWaiting: a caller whose context ends does not wait for the batch, and
// is told so; what it asked for may be done.
func TestStopWaiting(t *testing.T) {
	onEach(t, func(t *testing.T, db DB) {
		c := committerOf(db)
		release := hold(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		d := newDelivery(t, `{"request_id":"1"}`)
		go func() {
			state, err := db.Save(ctx, d)
			if state != 0 {
				t.Errorf("Save whose context ended got %v, want no state", state)
			}
			result <- err
		}()
		waitFor(t, c, 1)
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("Save whose context ended got %v, want that", err)
		}
		release()
		if state, err := db.Save(t.Context(), d); state != cloudinaryhook.StatePending || err != nil {
			t.Errorf("Save again got %v and %v, want pending", state, err)
		}
	})
}

// TestCloseDrains: Close waits for what was begun, and what comes later fails.
func TestCloseDrains(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			name := d.newName(t)
			db := open(t, name)
			c := committerOf(db)
			release := hold(t, c)
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() {
					if _, err := db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d"}`, i))); err != nil {
						t.Errorf("Save before Close got %v, want nil", err)
					}
				})
			}
			waitFor(t, c, 10)
			closed := make(chan error)
			go func() { closed <- db.Close() }()
			release()
			if err := <-closed; err != nil {
				t.Errorf("Close got %v, want nil", err)
			}
			wg.Wait()
			if _, err := db.Save(t.Context(), newDelivery(t, `{}`)); !errors.Is(err, errClosed) {
				t.Errorf("Save after Close got %v, want %v", err, errClosed)
			}
			if got := stats(t, open(t, name)).Deliveries; got != 10 {
				t.Errorf("after Close there are %d deliveries, want the 10 that waited", got)
			}
		})
	}
}

// TestRoomAgain: a database that is full takes no write and says so, and takes
// them again as soon as there is room.
func TestRoomAgain(t *testing.T) {
	db := openSQLite(t, "gallery.db")
	var pages int
	if err := db.write.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(pages int) {
		t.Helper()
		if _, err := db.write.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	saveAll := func() (failed int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				if _, err := db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d","x":"%0999d"}`, i, 1))); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed++
				}
			})
		}
		wg.Wait()
		return failed
	}
	limit(pages + 10)
	failed := saveAll()
	if got := stats(t, db).Deliveries; failed == 0 || failed == 64 || got != int64(64-failed) {
		t.Errorf("with little room %d of 64 Saves failed and %d deliveries are there, want some to fail, and none that is there", failed, got)
	}
	limit(pages + 1000)
	if failed := saveAll(); failed > 0 {
		t.Errorf("with room again %d of 64 Saves failed, want none", failed)
	}
	if diff := cmp.Diff(Stats{Deliveries: 64, Pending: 64}, stats(t, db)); diff != "" {
		t.Errorf("stats differ (-want +got):\n%s", diff)
	}
}
