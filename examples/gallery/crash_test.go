package main

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/internal/postgrestest"
)

// A testDatabase is a database for galleries.
type testDatabase struct {
	url    string               // for -db
	server *postgrestest.Server // nil: SQLite, which has no server
	check  func(t *testing.T)   // checks the database with its own tools
}

var testDatabases = map[string]func(*testing.T) *testDatabase{
	"SQLite":   func(t *testing.T) *testDatabase { return newSQLite(t.TempDir()) },
	"Postgres": newPostgres,
}

func newSQLite(folder string) *testDatabase {
	path := filepath.Join(folder, "gallery.db")
	return &testDatabase{url: path, check: func(t *testing.T) { checkSQLite(t, path) }}
}

func checkSQLite(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var got string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&got); err != nil || got != "ok" {
		t.Errorf("PRAGMA integrity_check got %q and %v, want ok", got, err)
	}
}

func newPostgres(t *testing.T) *testDatabase {
	t.Helper()
	server := postgrestest.Start(t)
	url := server.Database(t)
	return &testDatabase{url: url, server: server, check: func(t *testing.T) {
		t.Helper()
		cmd, err := server.Command("pg_amcheck", "--install-missing", "--heapallindexed", "--parent-check", "--rootdescend", url)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("pg_amcheck got %v and %q, want nothing", err, out)
		}
	}}
}

// crash kills the server and starts it again.
func (db *testDatabase) crash(t *testing.T) {
	t.Helper()
	db.server.Kill()
	if err := db.server.Start(); err != nil {
		t.Fatal(err)
	}
}

// connect connects for statements that no gallery sends.
func (db *testDatabase) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// makeOld makes the pending deliveries of killed galleries two minutes older and
// ends their leases, so that the test need not wait until they are resumed.
func (db *testDatabase) makeOld(t *testing.T) {
	t.Helper()
	if db.server == nil {
		change(t, db.url, makePendingOld)
	} else if _, err := db.connect(t).Exec(t.Context(), makePendingOld+"; UPDATE deliveries SET leased_until = NULL"); err != nil {
		t.Fatal(err)
	}
}

const makePendingOld = "UPDATE deliveries SET received_at = received_at - 120000000000 WHERE completed_at IS NULL"

// TestCrashes: every notification that was answered 201 is there exactly once,
// although the programs crash. In the larger size each of them crashes ten
// times.
func TestCrashes(t *testing.T) {
	rounds := size(15, 3)
	for name, newDatabase := range testDatabases {
		t.Run(name, func(t *testing.T) {
			db := newDatabase(t)
			rng := newRNG(t)
			p := start(t, testEnv(), "-db", db.url)
			load := startLoad(t, 16, 0, p.hook())
			for round := range rounds {
				load.acknowledge(100 + rng.IntN(100))
				gallery, server := db.server == nil || round%3 != 1, db.server != nil && round%3 != 0
				if gallery {
					p.kill()
				}
				if server {
					db.crash(t)
				}
				if gallery {
					p = start(t, testEnv(), "-db", db.url)
					load.moveTo(p.hook())
				}
			}
			load.acknowledge(1)
			load.stop()
			p.kill()
			finish(t, db, load, 100*rounds)
		})
	}
}

// TestTwoGalleries: one of two galleries dies. The other one and a new one
// finish its work.
func TestTwoGalleries(t *testing.T) {
	db := newPostgres(t)
	rng := newRNG(t)
	one, other := start(t, testEnv(), "-db", db.url), start(t, testEnv(), "-db", db.url)
	load := startLoad(t, 16, 0, one.hook(), other.hook())
	rounds := size(4, 1)
	for range rounds {
		load.acknowledge(200 + rng.IntN(100))
		one.kill()
		load.acknowledge(100) // the dead gallery is still in the load's list
		one, other = other, start(t, testEnv(), "-db", db.url)
		load.moveTo(one.hook(), other.hook())
	}
	load.acknowledge(100)
	load.stop()
	one.kill()
	other.kill()
	finish(t, db, load, 300*rounds)
}

func newRNG(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("the seed is %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// finish starts a gallery again, waits until it has processed the pending
// deliveries, and checks everything.
func finish(t *testing.T, db *testDatabase, load *load, atLeast int) {
	t.Helper()
	db.makeOld(t)
	p := start(t, testEnv(), "-db", db.url)
	p.waitFor(t, "nothing to be pending", func(s database.Stats) bool { return s.Pending == 0 })
	p.kill()
	opened, err := database.Open(t.Context(), db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if got := load.check(opened); got.acknowledged < atLeast {
		t.Errorf("%d were acknowledged, want at least %d", got.acknowledged, atLeast)
	}
	db.check(t)
}
