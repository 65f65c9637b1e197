package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// hold has the committer at work until release is called, so that what is sent
// meanwhile waits for one batch.
func hold(t *testing.T, c *committer) (release func()) {
	t.Helper()
	begun, released := make(chan struct{}), make(chan struct{})
	go func() {
		_ = c.do(context.Background(), func(*sql.Tx) error {
			close(begun)
			<-released
			return nil
		})
	}()
	<-begun
	return sync.OnceFunc(func() { close(released) })
}

// waitFor returns when n jobs wait.
func waitFor(t *testing.T, c *committer, n int) {
	t.Helper()
	for len(c.jobs) < n {
		if t.Context().Err() != nil {
			t.Fatal("the test ended")
		}
	}
}

// TestOneCommit: what waits together shares a commit.
func TestOneCommit(t *testing.T) {
	db := openSQLite(t, "gallery.db")
	release := hold(t, db.committer)
	defer release()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if state, err := db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d"}`, i))); state != cloudinaryhook.StateNew || err != nil {
				t.Errorf("Save got %v and %v, want new", state, err)
			}
		})
	}
	waitFor(t, db.committer, 50)
	before := db.committer.commits.Load()
	release()
	wg.Wait()
	if commits := db.committer.commits.Load() - before; commits != 2 {
		t.Errorf("what they waited for and 50 Saves that waited took %d commits, want 2", commits)
	}
}

// TestBadWrite: one that fails takes none of its batch with it.
func TestBadWrite(t *testing.T) {
	db := openSQLite(t, "gallery.db")
	release := hold(t, db.committer)
	defer release()
	errs := make([]error, 9)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			if i%3 == 1 {
				_, errs[i] = db.exec(t.Context(), "INSERT INTO deliveries (id) VALUES ('bad')")
			} else {
				_, errs[i] = db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d"}`, i)))
			}
		})
	}
	waitFor(t, db.committer, len(errs))
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
}

// TestStopWaiting: a caller whose context ends does not wait for the batch, and
// is told so; what it asked for may be done.
func TestStopWaiting(t *testing.T) {
	db := openSQLite(t, "gallery.db")
	release := hold(t, db.committer)
	defer release()
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
	waitFor(t, db.committer, 1)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Save whose context ended got %v, want that", err)
	}
	release()
	if state, err := db.Save(t.Context(), d); state != cloudinaryhook.StatePending || err != nil {
		t.Errorf("Save again got %v and %v, want pending", state, err)
	}
}

// TestCloseDrains: Close waits for what was begun, and what comes later fails.
func TestCloseDrains(t *testing.T) {
	name := databases[0].newName(t)
	db, err := OpenSQLite(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	release := hold(t, db.committer)
	defer release()
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := db.Save(t.Context(), newDelivery(t, fmt.Sprintf(`{"request_id":"%d"}`, i))); err != nil {
				t.Errorf("Save before Close got %v, want nil", err)
			}
		})
	}
	waitFor(t, db.committer, 10)
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
	if err := db.Close(); err != nil {
		t.Errorf("Close again got %v, want nil", err)
	}
	if got := stats(t, open(t, name)).Deliveries; got != 10 {
		t.Errorf("after Close there are %d deliveries, want the 10 that waited", got)
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
