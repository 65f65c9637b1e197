package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

// TestPasswordIsNotSaid: errors hold no password, because they are logged.
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
					t.Errorf("the error holds the password: %v", err)
				}
			}
		})
	}
}

// TestNotDurableIsRefused: with such a database, a crash could lose a
// notification that was answered 201.
func TestNotDurableIsRefused(t *testing.T) {
	address := postgres(t).Database(t)
	if db, err := Open(t.Context(), address+"&synchronous_commit=off"); !errors.Is(err, sqlstore.ErrNotDurable) {
		t.Errorf("opening a database with synchronous_commit=off got %v and %v, want an error", db, err)
	}
	for _, value := range []string{"on", "local", "remote_apply"} {
		open(t, address+"&synchronous_commit="+value)
	}
}

// TestPagesUseIndexes: no page may read or sort all rows.
func TestPagesUseIndexes(t *testing.T) {
	after := Position{1, "a"}
	type queryOf func() (statement string, args []any)
	images := func(albumID string, after Position) queryOf {
		return func() (string, []any) { return imagesQuery(albumID, after, 10) }
	}
	deliveries := func(only Filter, after Position) queryOf {
		return func() (string, []any) { return deliveriesQuery(only, after, 10) }
	}
	for _, tt := range []struct {
		name, index string
		query       queryOf
	}{
		{"images", "images_created", images("", Position{})},
		{"more images", "images_created", images("", after)},
		{"images of an album", "images_album", images("a", Position{})},
		{"more images of an album", "images_album", images("a", after)},
		{"deliveries", "deliveries_received", deliveries(Filter{}, Position{})},
		{"more deliveries", "deliveries_received", deliveries(Filter{}, after)},
		{"deliveries of an album", "deliveries_album", deliveries(Filter{AlbumID: "a"}, Position{})},
		{"more deliveries of an album", "deliveries_album", deliveries(Filter{AlbumID: "a"}, after)},
		{"deliveries of a type", "deliveries_type", deliveries(Filter{Type: "t"}, Position{})},
		{"more deliveries of a type", "deliveries_type", deliveries(Filter{Type: "t"}, after)},
		{"deliveries without a type", "deliveries_type", deliveries(Filter{Untyped: true}, Position{})},
		{"deliveries of an album and a type", "deliveries_album_type", deliveries(Filter{AlbumID: "a", Type: "t"}, Position{})},
		{"more deliveries of an album and a type", "deliveries_album_type", deliveries(Filter{AlbumID: "a", Type: "t"}, after)},
		{"albums", "images_created", func() (string, []any) { return latestAlbums, nil }},
		{"types", "deliveries_received", func() (string, []any) { return latestTypes, nil }},
		{"count of images", "images_", func() (string, []any) { return imagesCount, []any{MaxImages} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, db *DB) {
				statement, args := tt.query()
				plan := explain(t, db, statement, args)
				if !strings.Contains(plan, tt.index) || walks.MatchString(plan) {
					t.Errorf("the plan of %s is\n%s\nwant one that uses the index %s, without a sort", statement, plan, tt.index)
				}
			})
		})
	}
}

// walks matches plans that sort, read all rows of a table, or read rows that
// they do not need. It is fine if SQLite scans an index up to a LIMIT.
var walks = regexp.MustCompile(`Sort|B-TREE FOR ORDER|Seq Scan|SCAN (images|deliveries)\n|Filter:`)

// explain returns the database's plan for a query on large tables. Small tables
// are read as a whole, which is right.
func explain(t *testing.T, db *DB, statement string, args []any) string {
	t.Helper()
	tx, err := db.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	explain := "EXPLAIN QUERY PLAN "
	if db.pool != nil {
		explain = "EXPLAIN "
		if _, err := tx.ExecContext(t.Context(), "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off"); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := tx.QueryContext(t.Context(), explain+statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	for rows.Next() {
		step := make([]any, len(columns)) // the last one is text
		for i := range step {
			step[i] = new(sql.RawBytes)
		}
		if err := rows.Scan(step...); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&plan, "%s\n", *step[len(step)-1].(*sql.RawBytes))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

// TestOtherTablesAreRefused: the tables of an earlier version, or of another
// program, have other columns. Open then creates no tables beside them.
func TestOtherTablesAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name, table string
		want        error
	}{
		{"an earlier gallery's", "CREATE TABLE deliveries (id TEXT PRIMARY KEY)", errEarlier},
		{"another program's", "CREATE TABLE images (key TEXT PRIMARY KEY, album TEXT, url TEXT)", errOtherImages},
	} {
		for _, d := range databases {
			t.Run(tt.name+", "+d.name, func(t *testing.T) {
				name := d.newName(t)
				db := &DB{}
				dialect := sqlstore.SQLite
				var err error
				if d.name == "Postgres" {
					dialect = sqlstore.Postgres
					db.pool, db.db, err = openPostgres(t.Context(), name)
				} else {
					db.db, err = openSQLite(name)
				}
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				if _, err := db.db.Exec(tt.table); err != nil {
					t.Fatal(err)
				}
				if again, err := Open(t.Context(), name); !errors.Is(err, tt.want) {
					t.Errorf("Open got %v and %v, want %v", again, err, tt.want)
				}
				if made, err := db.has(t.Context(), dialect, "deliveries_migrations"); made || err != nil {
					t.Errorf("after it was refused, the database has the store's tables: got %v and %v, want false", made, err)
				}
			})
		}
	}
}

// TestHasReturnsErrors: if the database cannot say whether a table exists, that
// does not mean that it does not.
func TestHasReturnsErrors(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if has, err := db.has(ctx, sqlstore.SQLite, "images"); has || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v and %v, want an error", has, err)
		}
	})
}

// TestImagesAreCountedSoFar: the count of images stops at a limit, so that the
// page does not wait for it.
func TestImagesAreCountedSoFar(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		insert := func(n int) {
			t.Helper()
			if _, err := db.db.ExecContext(t.Context(), fmt.Sprintf(`
				WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %d)
				INSERT INTO images SELECT '%[1]d/' || n, '', '', '', '', '', 0, '', '', '', '', 0, 0, 0, '', '', n FROM numbers`, n)); err != nil {
				t.Fatal(err)
			}
		}
		insert(7)
		if got := stats(t, db).Images; got != 7 {
			t.Errorf("got %d images, want 7", got)
		}
		insert(MaxImages)
		if got := stats(t, db).Images; got != MaxImages {
			t.Errorf("got %d images, want it to stop at %d", got, MaxImages)
		}
	})
}

func TestUnusableFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd ?#%.db")
	if err := os.WriteFile(path, []byte("this is no database, and long enough to be told from an empty one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err := Open(t.Context(), path); err == nil {
		t.Errorf("opening a text file got %v, want an error", errors.Join(db.Close()))
	}
}

// TestFilesArePrivate: bodies name people, so other users of the machine must
// not read the files. An existing file keeps its mode.
func TestFilesArePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode on Windows")
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "gallery.db")
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	saved(t, db, `{}`)
	files, err := os.ReadDir(folder)
	if err != nil || len(files) != 3 { // the database, -wal and -shm
		t.Fatalf("got %v and %v, want three files", files, err)
	}
	for _, file := range files {
		if info, err := file.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s got mode %v and %v, want none for others", file.Name(), info.Mode(), err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("opened again, got mode %v and %v, want 0640 as it was", info.Mode(), err)
	}
}
