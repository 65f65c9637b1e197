package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// TestRefused: New refuses a database that is not durable, is read-only, or
// does not fit the options.
func TestRefused(t *testing.T) {
	sqlite := func(option string) *sql.DB {
		path := filepath.Join(t.TempDir(), "store.db")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return openDB(t, SQLite, "file:"+path+"?"+option)
	}
	postgresDB := func(option string) *sql.DB { return openDB(t, Postgres, postgres(t).Database(t)+option) }
	single := sqlite("")
	single.SetMaxOpenConns(1)
	for _, tt := range []struct {
		name    string
		db      *sql.DB
		dialect Dialect
		options []Option
		is      error // or
		says    string
	}{
		{"no database", nil, SQLite, nil, nil, "nil"},
		{"no dialect", sqlite(""), 0, nil, nil, "Dialect(0)"},
		{"unknown dialect", sqlite(""), 7, nil, nil, "Dialect(7)"},
		{"Postgres on SQLite", sqlite(""), Postgres, nil, nil, "sqlstore: the database is not Postgres, but probably SQLite: "},
		{"SQLite on Postgres", postgresDB(""), SQLite, nil, nil, "sqlstore: the database is not SQLite, but probably Postgres: "},
		{"empty table name", sqlite(""), SQLite, []Option{Table("")}, nil, "letters"},
		{"a statement as table name", sqlite(""), SQLite, []Option{Table("x; DROP TABLE y")}, nil, "letters"},
		{"a long table name", sqlite(""), SQLite, []Option{Table(strings.Repeat("x", 41))}, nil, "letters"},
		{"no lease", sqlite(""), SQLite, []Option{Lease(0)}, nil, "the lease of 0s is not positive"},
		{"a negative lease", sqlite(""), SQLite, []Option{Lease(-time.Second)}, nil, "the lease of -1s is not positive"},
		{"one connection", single, SQLite, nil, nil, "SetMaxOpenConns(2)"},
		{"in memory", openDB(t, SQLite, ":memory:"), SQLite, nil, ErrNotDurable, "memory"},
		{"in shared memory", openDB(t, SQLite, "file:x?mode=memory&cache=shared"), SQLite, nil, ErrNotDurable, "memory"},
		{"not synced", sqlite("_pragma=synchronous(NORMAL)"), SQLite, nil, ErrNotDurable, "synchronous"},
		{"never synced", sqlite("_pragma=synchronous(OFF)"), SQLite, nil, ErrNotDurable, "synchronous"},
		{"no journal", sqlite("_pragma=journal_mode(OFF)"), SQLite, nil, ErrNotDurable, "journal_mode"},
		{"journal in memory", sqlite("_pragma=journal_mode(MEMORY)"), SQLite, nil, ErrNotDurable, "journal_mode"},
		{"read-only file", sqlite("mode=ro"), SQLite, nil, ErrReadOnly, ""},
		{"queries only", sqlite("_pragma=query_only(1)"), SQLite, nil, ErrReadOnly, ""},
		{"commits not synced", postgresDB("&synchronous_commit=off"), Postgres, nil, ErrNotDurable, "synchronous_commit"},
		{"read-only Postgres", postgresDB("&default_transaction_read_only=on"), Postgres, nil, ErrReadOnly, ""},
		{"no server", openDB(t, Postgres, "postgres://u:hunter2@127.0.0.1:1/d"), Postgres, nil, nil, "connect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(t.Context(), tt.db, tt.dialect, tt.options...)
			if err == nil {
				t.Fatalf("New got %v, want an error", s.Close())
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("New got %v, want an error that is %v and says %q", err, tt.is, tt.says)
			}
			if strings.Count(err.Error(), "sqlstore: ") > 1 {
				t.Errorf("New got %v, want the package's name at most once", err)
			}
			if tt.db != nil && tt.db.Stats().InUse > 0 {
				t.Errorf("%d connections are still in use, want none", tt.db.Stats().InUse)
			}
		})
	}
}

// TestDurableSettings: New accepts all durable settings.
func TestDurableSettings(t *testing.T) {
	for _, setting := range []string{"on", "local", "remote_apply"} {
		open(t, Postgres, postgres(t).Database(t)+"&synchronous_commit="+setting)
	}
	for _, options := range []string{"", "?_pragma=synchronous(EXTRA)", "?_pragma=journal_mode(TRUNCATE)"} {
		s := open(t, SQLite, "file:"+filepath.Join(t.TempDir(), "store.db")+options)
		save(t, s, upload(t, 1), cloudinaryhook.StateNew)
	}
}

// TestNewerTable: New and Migrate refuse a table that a newer version made.
func TestNewerTable(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		late := open(t, s.dialect, nameOf(t, s))
		if _, err := s.db.Exec("INSERT INTO cloudinary_deliveries_migrations (version) VALUES (99)"); err != nil {
			t.Fatal(err)
		}
		if err := late.Migrate(t.Context()); !errors.Is(err, ErrNewerSchema) || strings.Count(err.Error(), "sqlstore: ") > 1 {
			t.Errorf("Migrate got %v, want %v", err, ErrNewerSchema)
		}
		if again, err := New(t.Context(), s.db, s.dialect); !errors.Is(err, ErrNewerSchema) {
			t.Errorf("New got %v and %v, want %v", again, err, ErrNewerSchema)
		}
	})
}

// TestMigrateAtOnce: several processes start on an empty database at the same
// time. It works with every default isolation of the database.
func TestMigrateAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name     string
		database int // index in databases
		option   string
	}{
		{"SQLite", 0, ""},
		{"Postgres", 1, ""},
		{"Postgres, repeatable read", 1, "&default_transaction_isolation=repeatable%20read"},
		{"Postgres, serializable", 1, "&default_transaction_isolation=serializable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := databases[tt.database]
			name := d.newName(t) + tt.option
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i := range 8 {
				db := openDB(t, d.dialect, name)
				wg.Go(func() {
					<-start
					s, err := New(t.Context(), db, d.dialect)
					if err != nil {
						t.Errorf("New got %v, want nil", err)
						return
					}
					defer s.Close()
					for range 2 {
						if err := s.Migrate(t.Context()); err != nil {
							t.Errorf("Migrate got %v, want nil", err)
						}
					}
					if _, err := s.Save(t.Context(), upload(t, i)); err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			wg.Wait()
			wantStats(t, open(t, d.dialect, name), totals{Deliveries: 8, Pending: 8})
		})
	}
}

// TestSchemaIsWhatMigrateMakes: an app that runs the files with its own tool
// gets the same tables, and Migrate has nothing left to do.
func TestSchemaIsWhatMigrateMakes(t *testing.T) {
	for _, d := range databases {
		t.Run(d.dialect.String(), func(t *testing.T) {
			name := d.newName(t)
			db := openDB(t, d.dialect, name)
			s, err := New(t.Context(), db, d.dialect)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			runFiles(t, db, d.dialect)
			migrated := open(t, d.dialect, d.newName(t))
			if diff := cmp.Diff(tables(t, migrated), tables(t, s)); diff != "" {
				t.Errorf("the files' tables differ (-want +got):\n%s", diff)
			}
			if err := s.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate after the files got %v, want nil", err)
			}
			save(t, s, upload(t, 1), cloudinaryhook.StateNew)
			wantStats(t, s, totals{Deliveries: 1, Pending: 1})
		})
	}
}

// TestTwoTables: stores with different tables can share a database.
func TestTwoTables(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		other := open(t, s.dialect, nameOf(t, s), Table("Other_1"))
		save(t, s, upload(t, 1), cloudinaryhook.StateNew)
		save(t, other, upload(t, 1), cloudinaryhook.StateNew)
		complete(t, other, upload(t, 1).ID, nil)
		if _, err := other.Prune(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		wantStats(t, other, totals{})
		wantStats(t, s, totals{Deliveries: 1, Pending: 1})
	})
}

// TestPing: Ping returns an error while no delivery can be saved.
func TestPing(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStats(t, s, totals{})
		release := hold(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := s.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ping while the committer hangs got %v, want context.DeadlineExceeded", err)
		}
		release()
		if _, err := s.db.Exec("DROP TABLE cloudinary_deliveries_totals"); err != nil {
			t.Fatal(err)
		}
		if err := s.Ping(t.Context()); err == nil {
			t.Error("Ping without the table of totals got nil, want an error")
		}
	})
}

// TestFileIsGone: writes to a deleted file are lost when the process ends, so
// the store refuses them. It works again if the file is put back.
func TestFileIsGone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not rename an open file")
	}
	name := databases[0].newName(t)
	s := open(t, SQLite, name)
	save(t, s, upload(t, 0), cloudinaryhook.StateNew)
	path := s.conn.path
	refused := func(when string) {
		t.Helper()
		if state, err := s.Save(t.Context(), upload(t, 1)); !errors.Is(err, ErrNotDurable) {
			t.Errorf("Save %s got %v and %v, want %v", when, state, err, ErrNotDurable)
		}
		if err := s.Ping(t.Context()); !errors.Is(err, ErrNotDurable) {
			t.Errorf("Ping %s got %v, want %v", when, err, ErrNotDurable)
		}
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	refused("after the file was moved")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("after another file took its place")
	if err := os.Rename(path+".moved", path); err != nil {
		t.Fatal(err)
	}
	save(t, s, upload(t, 1), cloudinaryhook.StateNew)
}

// TestLogIsGone: commits in a deleted write-ahead log are lost in a crash, so
// the store refuses further writes. If the program then ends cleanly, SQLite
// writes the log into the file.
func TestLogIsGone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not delete an open file")
	}
	for name, replace := range map[string]bool{"deleted": false, "replaced": true} {
		t.Run(name, func(t *testing.T) {
			file := databases[0].newName(t)
			db := openDB(t, SQLite, file)
			s, err := New(t.Context(), db, SQLite)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			save(t, s, upload(t, 0), cloudinaryhook.StateNew)
			if err := os.Remove(s.conn.path + "-wal"); err != nil {
				t.Fatal(err)
			}
			if replace {
				if err := os.WriteFile(s.conn.path+"-wal", nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if state, err := s.Save(t.Context(), upload(t, 1)); !errors.Is(err, ErrNotDurable) {
					t.Errorf("Save got %v and %v, want %v", state, err, ErrNotDurable)
				}
			}
			if err := errors.Join(s.Close(), db.Close()); err != nil {
				t.Error(err)
			}
			wantStats(t, open(t, SQLite, file), totals{Deliveries: 1, Pending: 1})
		})
	}
}

// TestNoID: deliveries without an ID would share a row. Only the first one would
// be kept.
func TestNoID(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		d := upload(t, 1)
		d.ID = ""
		if state, err := s.Save(t.Context(), d); state != 0 || !errors.Is(err, cloudinaryhook.ErrInvalidDelivery) {
			t.Errorf("Save got %v and %v, want %v", state, err, cloudinaryhook.ErrInvalidDelivery)
		}
		wantStats(t, s, totals{})
	})
}
