package database

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
)

func openPostgres(t testing.TB, name string) *Postgres {
	t.Helper()
	return open(t, name).(*Postgres)
}

// TestPasswordIsNotSaid: errors end up in logs.
func TestPasswordIsNotSaid(t *testing.T) {
	right, err := url.Parse(postgres(t).Database(t))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(u *url.URL)) string {
		u := *right
		change(&u)
		return u.String()
	}
	const secret = "hunter2"
	for name, address := range map[string]string{
		"wrong password":       with(func(u *url.URL) { u.User = url.UserPassword("postgres", secret) }),
		"no such database":     with(func(u *url.URL) { u.Path = "/nowhere" }),
		"nobody listens":       with(func(u *url.URL) { u.Host, u.User = "127.0.0.1:1", url.UserPassword("u", secret) }),
		"no such host":         "postgres://u:" + secret + "@host.invalid/d",
		"password in a query":  "postgres://127.0.0.1:1/d?password=" + secret,
		"odd escape":           "postgres://u:" + secret + "%zz@127.0.0.1/d",
		"slash in it":          "postgres://u:" + secret + "/x@127.0.0.1/d",
		"at in it":             "postgres://u:x@" + secret + "@127.0.0.1:port/d",
		"odd port":             "postgresql://u:" + secret + "@127.0.0.1:port/d",
		"space":                "postgres://u:" + secret + " x@127.0.0.1/d",
		"odd setting":          "postgres://u:" + secret + "@127.0.0.1/d?sslmode=maybe",
		"odd pool":             "postgres://u:" + secret + "@127.0.0.1/d?pool_max_conns=many",
		"another kind of URL":  "mysql://u:" + secret + "@127.0.0.1/d",
		"a scheme misspelt":    "postgress://u:" + secret + "@127.0.0.1/d",
		"scheme in upper case": "POSTGRES://u:" + secret + "@127.0.0.1/d",
	} {
		t.Run(name, func(t *testing.T) {
			db, err := Open(t.Context(), address)
			if err == nil {
				t.Fatalf("Open got %v, want an error", errors.Join(db.Close()))
			}
			for _, password := range []string{secret, postgres(t).Password} {
				if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), password) {
					t.Errorf("the error says the password: %v", err)
				}
			}
		})
	}
}

// TestNotDurableIsRefused: a 201 would promise what a crash undoes.
func TestNotDurableIsRefused(t *testing.T) {
	address := postgres(t).Database(t)
	if db, err := Open(t.Context(), address+"&synchronous_commit=off"); err == nil || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Errorf("opening a database with synchronous_commit=off got %v and %v, want an error", db, err)
	}
	for _, value := range []string{"on", "local", "remote_apply"} {
		open(t, address+"&synchronous_commit="+value)
	}
}

// TestPostgresUsesIndexes: neither an album's page nor the search for pending
// deliveries may cost a walk through all rows.
func TestPostgresUsesIndexes(t *testing.T) {
	db := openPostgres(t, postgres(t).Database(t))
	ofAlbum, albumArgs := imagesQuery("a", 10)
	all, allArgs := imagesQuery("", 10)
	conn, err := db.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// Small tables are read whole, rightly.
	if _, err := conn.Exec(t.Context(), "SET enable_seqscan = off; SET enable_sort = off"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		index, statement string
		args             []any
	}{
		{"images_album", ofAlbum, albumArgs},
		{"images_created", all, allArgs},
		{"deliveries_pending", "SELECT received_at, id FROM deliveries WHERE completed_at IS NULL AND received_at < $1 AND (received_at, id) > ($2, $3) ORDER BY received_at, id LIMIT 10", []any{9, 0, ""}},
	} {
		var plan string
		if err := conn.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) "+tt.statement, tt.args...).Scan(&plan); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(plan, `"`+tt.index+`"`) || strings.Contains(plan, "Sort") {
			t.Errorf("the plan is %s, want one by the index %s, without a sort", plan, tt.index)
		}
	}
}

// savePending saves n deliveries, oldest first, and returns their IDs.
func savePending(t *testing.T, db DB, n int) (ids []string) {
	t.Helper()
	for i := range n {
		d := newDelivery(t, fmt.Sprintf(`{"notification_type":"upload","public_id":"p%d","version":1,"request_id":"r%[1]d"}`, i))
		d.ReceivedAt = time.Now().Add(time.Duration(i-n) * time.Second)
		if _, err := db.Save(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	return ids
}

// TestResumeTogether: of two instances that resume the same deliveries at the
// same time one does the work of each.
func TestResumeTogether(t *testing.T) {
	name := postgres(t).Database(t)
	ids := savePending(t, openPostgres(t, name), 100)
	var mu sync.Mutex
	created := make(map[string]int)
	byInstance := make([]int, 2)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range byInstance {
		db := openPostgres(t, name)
		processor := &cloudinaryhook.Processor{Store: db, Images: cloudinaryhook.ImageCreatorFunc(func(ctx context.Context, img *cloudinaryhook.Image) error {
			mu.Lock()
			created[img.Delivery.ID]++
			byInstance[i]++
			mu.Unlock()
			return db.CreateImage(ctx, img)
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
	if diff := cmp.Diff(Stats{Deliveries: 100, Images: 100}, stats(t, openPostgres(t, name))); diff != "" {
		t.Errorf("stats differ (-want +got):\n%s", diff)
	}
}

// TestDeadInstance: one that dies at work keeps the others from that delivery
// until its lease has run out, and from no other one.
func TestDeadInstance(t *testing.T) {
	name := postgres(t).Database(t)
	db, other := openPostgres(t, name), openPostgres(t, name)
	ids := savePending(t, db, 3)
	lease := func(d time.Duration) { db.leaseTime = d }
	for _, tt := range []struct {
		name  string
		lease time.Duration
		want  []string // what the other instance is given while the first is at its first
	}{
		{"its lease holds", time.Hour, ids[1:]},
		{"its lease has run out", time.Nanosecond, ids},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lease(tt.lease)
			for d, err := range db.Pending(t.Context(), time.Now()) {
				if err != nil || d.ID != ids[0] {
					t.Fatalf("the first got %v and %v, want the oldest", d, err)
				}
				if diff := cmp.Diff(tt.want, yielded(t, other)); diff != "" {
					t.Errorf("beside it the other got (-want +got):\n%s", diff)
				}
				break
			}
			// The loop is left as it should be: nothing is leased.
			if diff := cmp.Diff(ids, yielded(t, other)); diff != "" {
				t.Errorf("afterwards the other got (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLateRelease: an instance whose lease ran out ends no lease but its own.
func TestLateRelease(t *testing.T) {
	name := postgres(t).Database(t)
	late, next := openPostgres(t, name), openPostgres(t, name)
	ids := savePending(t, late, 1)
	late.leaseTime, next.leaseTime = time.Nanosecond, time.Hour
	var stops []func()
	for _, db := range []*Postgres{late, next} {
		pull, stop := iter.Pull2(db.Pending(t.Context(), time.Now()))
		defer stop()
		stops = append(stops, stop)
		if d, err, ok := pull(); !ok || err != nil || d.ID != ids[0] {
			t.Fatalf("Pending got %v and %v, want the delivery", d, err)
		}
	}
	stops[0]()
	if got := yielded(t, late); len(got) > 0 {
		t.Errorf("beside the lease of another got %v, want nothing", got)
	}
	stops[1]()
	if diff := cmp.Diff(ids, yielded(t, late)); diff != "" {
		t.Errorf("after the other's release differs (-want +got):\n%s", diff)
	}
}

func yielded(t *testing.T, db DB) (ids []string) {
	t.Helper()
	for d, err := range db.Pending(t.Context(), time.Now()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	return ids
}
