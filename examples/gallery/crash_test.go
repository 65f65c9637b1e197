package main

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// A testDatabase is one that a gallery is started on.
type testDatabase struct {
	name  string
	url   string                      // for -db
	crash func(t *testing.T)          // kills its server and starts it again; nil: it has none
	open  func() (database.DB, error) // to look into it
	check func(t *testing.T)          // whether it is sound, by its own means
}

func newSQLite(t *testing.T, folder string) *testDatabase {
	path := filepath.Join(folder, "gallery.db")
	return &testDatabase{
		name: "SQLite",
		url:  path,
		open: func() (database.DB, error) { return database.OpenSQLite(context.Background(), path) },
		check: func(t *testing.T) {
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
		},
	}
}

// TestCrashes: what was answered 201 is there, once, whenever the programs died.
func TestCrashes(t *testing.T) {
	rounds := size(10, 3)
	for _, newDatabase := range []func(*testing.T, string) *testDatabase{newSQLite} {
		db := newDatabase(t, t.TempDir())
		t.Run(db.name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("the seed is %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			p := start(t, testEnv(), "-db", db.url)
			load := startLoad(t, 16, 0, p.hook())
			for round := range rounds {
				load.acknowledge(100 + rng.IntN(100))
				if db.crash != nil && round%2 == 1 {
					db.crash(t)
				}
				if db.crash == nil || round%3 != 2 {
					p.kill()
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

// finish starts a gallery once more, which does what is pending, and checks the
// whole.
func finish(t *testing.T, db *testDatabase, load *load, atLeast int) {
	t.Helper()
	p := start(t, testEnv(), "-db", db.url)
	p.waitFor(t, "nothing to be pending", func(s database.Stats) bool { return s.Pending == 0 })
	p.kill()
	opened, err := db.open()
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if got := load.check(opened); got.acknowledged < atLeast {
		t.Errorf("%d were acknowledged, want %d at least", got.acknowledged, atLeast)
	}
	db.check(t)
}
