package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/postgrestest"
)

// server is the Postgres server of all tests that do not stop it.
var server struct {
	*postgrestest.Server
	once sync.Once
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if server.Server != nil {
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func postgres(tb testing.TB) *postgrestest.Server {
	tb.Helper()
	server.once.Do(func() { server.Server, server.err = postgrestest.New() })
	if errors.Is(server.err, postgrestest.ErrMissing) && os.Getenv("CI") == "" {
		tb.Skip("postgres is not installed; CI installs it")
	}
	if server.err != nil {
		tb.Fatal(server.err)
	}
	return server.Server
}

// databases lists the kinds of database. newName creates an empty one and
// returns its name.
var databases = []struct {
	dialect Dialect
	newName func(testing.TB) string
}{
	{SQLite, func(tb testing.TB) string { return sqliteName(filepath.Join(tb.TempDir(), "store.db")) }},
	{Postgres, func(tb testing.TB) string { return postgres(tb).Database(tb) }},
}

func sqliteName(path string) string {
	return "file:" + filepath.ToSlash(path) + "?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)"
}

// openDB opens a database with the dialect's driver, and closes it when the
// test ends.
func openDB(tb testing.TB, d Dialect, name string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(map[Dialect]string{SQLite: "sqlite", Postgres: "pgx"}[d], name)
	if err != nil {
		tb.Fatal(err)
	}
	db.SetMaxOpenConns(8)
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// open opens a store, and closes it when the test ends.
func open(tb testing.TB, d Dialect, name string, options ...Option) *Store {
	tb.Helper()
	s, err := New(tb.Context(), openDB(tb, d, name), d, options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := s.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}

func onEach(t *testing.T, test func(t *testing.T, s *Store)) {
	for _, d := range databases {
		t.Run(d.dialect.String(), func(t *testing.T) { test(t, open(t, d.dialect, d.newName(t))) })
	}
}

// newDelivery returns a delivery with that body, for organization "o" and album
// "a".
func newDelivery(tb testing.TB, body string) *cloudinaryhook.Delivery {
	tb.Helper()
	d, err := cloudinaryhook.NewDelivery([]byte(body), &cloudinaryhook.Claims{OrganizationID: "o", AlbumID: "a"}, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// upload returns a delivery that differs from the others only in its number.
func upload(tb testing.TB, i int) *cloudinaryhook.Delivery {
	tb.Helper()
	return newDelivery(tb, fmt.Sprintf(`{"notification_type":"upload","public_id":"p%d","version":1,"request_id":"r%[1]d"}`, i))
}

// runFiles runs the files of Schema, as a migration tool would.
func runFiles(t *testing.T, db *sql.DB, d Dialect) {
	t.Helper()
	files, err := fs.Glob(Schema(d), "*")
	if err != nil || len(files) == 0 {
		t.Fatalf("Schema got %v and %v, want files", files, err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(Schema(d), file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), string(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// tables lists a database's columns and indexes.
func tables(t *testing.T, s *Store) []string {
	t.Helper()
	statement := "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1"
	if s.dialect == Postgres {
		statement = `SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
			FROM information_schema.columns WHERE table_schema = 'public'
			UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1`
	}
	all, err := query(t.Context(), s.db, func(rows *sql.Rows, one *string) error { return rows.Scan(one) }, statement)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
