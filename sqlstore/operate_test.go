package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cloudinaryhook/cloudinaryhook"
)

func complete(t *testing.T, s *Store, id string, cause error) {
	t.Helper()
	if err := s.Complete(t.Context(), id, cause); err != nil {
		t.Fatal(err)
	}
}

// yielded returns the IDs that Pending lists now.
func yielded(t *testing.T, s *Store) []string {
	t.Helper()
	return yieldedBefore(t, s, time.Now())
}

func yieldedBefore(t *testing.T, s *Store, before time.Time) (ids []string) {
	t.Helper()
	for d, err := range s.Pending(t.Context(), before) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	return ids
}

func TestPrune(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		for i := range 5 {
			save(t, s, upload(t, i), cloudinaryhook.StateNew)
		}
		complete(t, s, upload(t, 0).ID, nil)
		complete(t, s, upload(t, 1).ID, errors.New("bad"))
		for _, tt := range []struct {
			name   string
			before time.Time
			pruned int64
			want   totals
		}{
			{"nothing is as old", time.Now().Add(-time.Minute), 0, totals{Deliveries: 5, Pending: 3, Rejected: 1}},
			{"all but the pending ones", time.Now().Add(time.Minute), 2, totals{Deliveries: 3, Pending: 3}},
			{"nothing is left", time.Now().Add(time.Minute), 0, totals{Deliveries: 3, Pending: 3}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				pruned, err := s.Prune(t.Context(), tt.before)
				if err != nil || pruned != tt.pruned {
					t.Errorf("Prune got %d and %v, want %d", pruned, err, tt.pruned)
				}
				wantStats(t, s, tt.want)
			})
		}
		save(t, s, upload(t, 0), cloudinaryhook.StateNew)
		save(t, s, upload(t, 2), cloudinaryhook.StatePending)
	})
}

// TestPruneHasPages: Prune needs more than one transaction.
func TestPruneHasPages(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		const n = 2*prunePage + 1
		fill(t, s, n, "1", "NULL", "0")
		if pruned, err := s.Prune(t.Context(), time.Now()); err != nil || pruned != n {
			t.Errorf("Prune got %d and %v, want %d", pruned, err, n)
		}
		wantStats(t, s, totals{})
	})
}

// fill inserts n deliveries as another program would. Their numbers begin at 1.
// completedAt, cause and receivedAt are SQL expressions of the number n.
func fill(tb testing.TB, s *Store, n int, completedAt, cause, receivedAt string) {
	tb.Helper()
	data := "zeroblob(1000)"
	if s.dialect == Postgres {
		data = "convert_to(repeat('x', 1000), 'UTF8')"
	}
	if _, err := s.db.ExecContext(tb.Context(), s.sql(fmt.Sprintf(`
		WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %d)
		INSERT INTO cloudinary_deliveries (`+saveColumns+`, completed_at, cause)
		SELECT 'id' || n, %s, 'upload', '', '', '', '', %s, 0, %s, %s FROM numbers`, n, data, receivedAt, completedAt, cause))); err != nil {
		tb.Fatal(err)
	}
}

// TestPruneCorrectsTotals: Prune corrects the totals after somebody has changed
// rows by hand.
func TestPruneCorrectsTotals(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		save(t, s, upload(t, 0), cloudinaryhook.StateNew)
		other := open(t, s.dialect, nameOf(t, s))
		save(t, other, upload(t, 1), cloudinaryhook.StateNew)
		fill(t, s, 10, "CASE WHEN n > 4 THEN 9000000000000000000 END", "CASE WHEN n > 8 THEN 'bad' END", "n")
		wantStats(t, s, totals{Deliveries: 2, Pending: 2})
		for _, each := range []*Store{s, other, s} {
			if _, err := each.Prune(t.Context(), time.Unix(0, 0)); err != nil {
				t.Fatal(err)
			}
			wantStats(t, other, totals{Deliveries: 12, Pending: 6, Rejected: 2})
		}
		// The totals of closed connections are merged.
		var rows int
		if err := s.db.QueryRow(s.sql("SELECT count(*) FROM cloudinary_deliveries_totals")).Scan(&rows); err != nil || rows > 2 {
			t.Errorf("there are %d rows of totals (error: %v), want the store's own and the one that counts recounts", rows, err)
		}
	})
}

// nameOf returns the name that opens the store's database again.
func nameOf(t *testing.T, s *Store) (name string) {
	t.Helper()
	if s.dialect == SQLite {
		return sqliteName(s.conn.path)
	}
	if err := s.db.QueryRow("SELECT current_database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return postgres(t).URL(name)
}

func TestRejectedAndReopen(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		before := time.Now()
		for i := range 4 {
			save(t, s, upload(t, i), cloudinaryhook.StateNew)
		}
		complete(t, s, upload(t, 0).ID, errors.New("no \xff album\x00"))
		complete(t, s, upload(t, 1).ID, nil)
		complete(t, s, upload(t, 2).ID, errors.New(strings.Repeat("long ", 1000)))
		complete(t, s, upload(t, 2).ID, errors.New("second")) // the first cause is kept
		complete(t, s, upload(t, 1).ID, errors.New("late"))
		got, err := s.Rejected(t.Context(), 10)
		rejection := func(i int, cause string) Rejection {
			return Rejection{ID: upload(t, i).ID, Type: "upload", PublicID: fmt.Sprint("p", i), RequestID: fmt.Sprint("r", i), OrganizationID: "o", AlbumID: "a", Cause: cause}
		}
		want := []Rejection{rejection(2, strings.Repeat("long ", 1000)), rejection(0, "no \ufffd album\ufffd")}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(time.Time{})); err != nil || diff != "" {
			t.Fatalf("Rejected got %v and differs (-want +got):\n%s", err, diff)
		}
		for _, r := range got {
			if r.ReceivedAt.Before(before) || r.RejectedAt.Before(r.ReceivedAt) || r.RejectedAt.After(time.Now()) {
				t.Errorf("received at %v and rejected at %v, want both since %v", r.ReceivedAt, r.RejectedAt, before)
			}
		}
		if got, err := s.Rejected(t.Context(), 1); err != nil || len(got) != 1 || got[0].ID != want[0].ID {
			t.Errorf("Rejected of one got %v and %v, want the newest", got, err)
		}

		for _, id := range []string{upload(t, 1).ID, upload(t, 3).ID, "unknown"} {
			if err := s.Reopen(t.Context(), id); !errors.Is(err, ErrNotFound) {
				t.Errorf("Reopen of a delivery that is not rejected got %v, want %v", err, ErrNotFound)
			}
		}
		if err := s.Reopen(t.Context(), upload(t, 0).ID); err != nil {
			t.Fatal(err)
		}
		wantStats(t, s, totals{Deliveries: 4, Pending: 2, Rejected: 1})
		if diff := cmp.Diff([]string{upload(t, 0).ID, upload(t, 3).ID}, yielded(t, s), cmpopts.SortSlices(strings.Compare)); diff != "" {
			t.Errorf("pending differ (-want +got):\n%s", diff)
		}
		complete(t, s, upload(t, 0).ID, nil)
		wantStats(t, s, totals{Deliveries: 4, Pending: 1, Rejected: 1})
	})
}

func TestOldestPending(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		if got, err := s.Stats(t.Context()); err != nil || got != (Stats{}) {
			t.Errorf("Stats of an empty table got %+v and %v, want zero", got, err)
		}
		for i := range 3 {
			d := upload(t, i)
			d.ReceivedAt = time.Unix(int64(100+i), 7)
			save(t, s, d, cloudinaryhook.StateNew)
		}
		complete(t, s, upload(t, 0).ID, nil)
		want := Stats{Deliveries: 3, Pending: 2, OldestPending: time.Unix(101, 7).UTC()}
		if got, err := s.Stats(t.Context()); err != nil || !cmp.Equal(got, want) {
			t.Errorf("Stats got %+v and %v, want %+v", got, err, want)
		}
	})
}

// TestPendingOfAllTimes: Pending finds every delivery, even if the clock was
// wrong when it was received, or if the time before does not fit into
// nanoseconds.
func TestPendingOfAllTimes(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		var want []string
		for i, at := range []time.Time{time.Unix(-100, 0), time.Unix(0, 0), time.Now()} {
			d := upload(t, i)
			d.ReceivedAt = at
			save(t, s, d, cloudinaryhook.StateNew)
			want = append(want, d.ID)
		}
		for _, tt := range []struct {
			before time.Time
			want   []string
		}{
			{time.Now(), want},
			{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), want},
			{time.Unix(0, 0), want[:1]},
			{time.Time{}, nil},
		} {
			if diff := cmp.Diff(tt.want, yieldedBefore(t, s, tt.before)); diff != "" {
				t.Errorf("Pending before %v differs (-want +got):\n%s", tt.before, diff)
			}
		}
		for _, id := range want {
			complete(t, s, id, nil)
		}
		for before, want := range map[time.Time]int64{{}: 0, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): 3} {
			if got, err := s.Prune(t.Context(), before); err != nil || got != want {
				t.Errorf("Prune before %v got %d and %v, want %d", before, got, err, want)
			}
		}
	})
}

// TestReopenAtOnce: if a delivery is rejected while it is resumed, and then
// reopened, Pending lists it at once.
func TestReopenAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		save(t, s, upload(t, 1), cloudinaryhook.StateNew)
		for d, err := range s.Pending(t.Context(), time.Now()) {
			if err != nil {
				t.Fatal(err)
			}
			complete(t, s, d.ID, errors.New("bad"))
		}
		if err := s.Reopen(t.Context(), upload(t, 1).ID); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{upload(t, 1).ID}, yielded(t, s)); diff != "" {
			t.Errorf("Pending differs (-want +got):\n%s", diff)
		}
	})
}

// TestResumesAreNotReceipts: Resume saves each delivery again. An operator must
// be able to tell that from a notification that was received again.
func TestResumesAreNotReceipts(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		save(t, s, upload(t, 1), cloudinaryhook.StateNew)
		save(t, s, upload(t, 1), cloudinaryhook.StatePending) // received later
		for d, err := range s.Pending(t.Context(), time.Now()) {
			if err != nil {
				t.Fatal(err)
			}
			save(t, s, d, cloudinaryhook.StatePending)
		}
		var saves, resumes int
		if err := s.db.QueryRow("SELECT saves, resumes FROM cloudinary_deliveries").Scan(&saves, &resumes); err != nil || saves != 3 || resumes != 1 {
			t.Errorf("got %d saves, %d resumes and %v, want 3 and 1", saves, resumes, err)
		}
	})
}

// TestUnreadableRow: for a damaged row, Pending yields an error with its ID. It
// lists the other rows.
func TestUnreadableRow(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		for i := range 3 {
			d := upload(t, i)
			d.ReceivedAt = time.Unix(int64(i), 0)
			save(t, s, d, cloudinaryhook.StateNew)
		}
		bad := upload(t, 1).ID
		damages := []string{"delivery || 'x'", `'{"body":"e30=","secret"'`}
		for _, damage := range damages {
			if s.dialect == SQLite {
				damage = "CAST(" + damage + " AS BLOB)"
			}
			if _, err := s.db.Exec("UPDATE cloudinary_deliveries SET delivery = "+damage+" WHERE id = $1", bad); err != nil {
				t.Fatal(err)
			}
			var ids []string
			for d, err := range s.Pending(t.Context(), time.Now()) {
				if err == nil {
					ids = append(ids, d.ID)
				} else if !strings.Contains(err.Error(), bad) || strings.Contains(err.Error(), "secret") {
					t.Errorf("the error is %v, want one that names %s and quotes nothing", err, bad)
				} else {
					ids = append(ids, "an error")
				}
			}
			if diff := cmp.Diff([]string{upload(t, 0).ID, "an error", upload(t, 2).ID}, ids); diff != "" {
				t.Errorf("Pending differs (-want +got):\n%s", diff)
			}
		}
	})
}

// TestOperatorsReadIndexes: frequent queries, and queries while much is
// pending, must not read the whole table.
func TestOperatorsReadIndexes(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		fill(t, s, 20_000, "CASE WHEN n % 10 > 0 THEN n END", "CASE WHEN n % 20 = 1 THEN 'bad' END", "n")
		if _, err := s.db.Exec("ANALYZE"); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name, index, statement string
			args                   []any
		}{
			{"Pending", "cloudinary_deliveries_pending", s.pendingQuery(), []any{int64(1 << 60), 0, "", pendingPage}},
			{"Pending, another page", "cloudinary_deliveries_pending", s.pendingQuery(), []any{int64(1 << 60), 7000, "id7000", pendingPage}},
			{"Rejected", "cloudinary_deliveries_rejected", s.rejectedQuery(), []any{100}},
			{"Stats", "cloudinary_deliveries_pending", s.statsQuery(), nil},
			{"Prune", "cloudinary_deliveries_completed", s.pruneQuery(), []any{1000, prunePage}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				plan := explain(t, s, tt.statement, tt.args)
				if !strings.Contains(plan, tt.index) || walksAll(plan) || strings.Contains(plan, "Sort") || strings.Contains(plan, "B-TREE") {
					t.Errorf("the plan is\n%s\nwant one that uses the index %s, without a scan of the whole table and without a sort", plan, tt.index)
				}
			})
		}
	})
}

// walksAll reports whether a plan reads the whole table of deliveries.
func walksAll(plan string) bool {
	for step := range strings.Lines(plan) {
		if strings.Contains(step, "Seq Scan on cloudinary_deliveries ") || strings.HasPrefix(step, "SCAN cloudinary_deliveries") &&
			!strings.HasPrefix(step, "SCAN cloudinary_deliveries_totals") && !strings.Contains(step, "USING") {
			return true
		}
	}
	return false
}

// explain returns the database's plan for a statement.
func explain(t *testing.T, s *Store, statement string, args []any) string {
	t.Helper()
	prefix, columns := "EXPLAIN ", 1
	if s.dialect == SQLite {
		prefix, columns = "EXPLAIN QUERY PLAN ", 4
	}
	steps, err := query(t.Context(), s.db, func(rows *sql.Rows, step *string) error {
		return rows.Scan([]any{new(any), new(any), new(any), step}[4-columns:]...)
	}, prefix+statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "\n")
}
