package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

//go:embed migrations
var migrations embed.FS

// migrateTimeout is how long Migrate waits, on SQLite, for another process that
// migrates at the same time.
const migrateTimeout = 30 * time.Second

// Schema returns the SQL files that Migrate runs, for apps with migrations of
// their own. Run them in the order of their names. Each file records its
// version, so [New] knows which ones were run. The files use the name
// [DefaultTable]: for another table name, replace that text in them. If d is not
// valid, there are no files.
func Schema(d Dialect) fs.FS {
	sub, err := fs.Sub(migrations, "migrations/"+d.String())
	if err != nil {
		panic(err) // cannot happen: this path is valid for every d
	}
	return sub
}

// migrations returns the texts of the files. The first one makes version 1.
func (s *Store) migrations() (texts []string) {
	files, _ := fs.Glob(Schema(s.dialect), "*.sql") // sorted; the pattern is valid
	for _, file := range files {
		text, _ := fs.ReadFile(Schema(s.dialect), file) // embedded
		texts = append(texts, s.sql(string(text)))
	}
	return texts
}

// Migrate creates the store's tables or brings them up to date, in one
// transaction. Several processes may call it at the same time. The database
// user needs the right to create tables only if there is something to do. If a
// newer version of this package made the table, Migrate changes nothing and
// returns an error that wraps [ErrNewerSchema].
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("migrating: %w", withHint(err))
	}
	return nil
}

func (s *Store) migrate(ctx context.Context) (err error) {
	if version, err := s.version(ctx, s.db); err != nil || version == len(s.migrations()) {
		return err
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	// If a step fails, the connection is left with an open transaction.
	defer (&connection{Conn: conn}).discard(ctx)
	// Processes wait for each other here. The ones that waited must see the tables
	// that the first one made; a stricter isolation would show them the database
	// as it was before they waited.
	begin := []string{"BEGIN ISOLATION LEVEL READ COMMITTED", s.sql("SELECT pg_advisory_xact_lock(hashtext('cloudinary_deliveries'))")}
	if s.dialect == SQLite {
		begin = []string{fmt.Sprintf("PRAGMA busy_timeout = %d", migrateTimeout.Milliseconds()), "BEGIN IMMEDIATE"}
	}
	begin = append(begin, s.sql("CREATE TABLE IF NOT EXISTS cloudinary_deliveries_migrations (version BIGINT PRIMARY KEY)"))
	if err := execAll(ctx, conn, begin); err != nil {
		return err
	}
	version, err := s.version(ctx, conn)
	if err != nil {
		return err
	}
	return execAll(ctx, conn, append(s.migrations()[version:], "COMMIT"))
}

func execAll(ctx context.Context, conn *sql.Conn, statements []string) error {
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%w in %q", err, strings.SplitN(statement, "\n", 2)[0])
		}
	}
	return nil
}

// version returns the version of the table, 0 if there is no table. If the
// table is newer than this package, it returns an error.
func (s *Store) version(ctx context.Context, db querier) (version int, err error) {
	var exists bool
	err = db.QueryRowContext(ctx, s.dialect.tableExists(), s.table+"_migrations").Scan(&exists)
	if err != nil || !exists {
		return 0, err
	}
	err = db.QueryRowContext(ctx, s.sql("SELECT coalesce(max(version), 0) FROM cloudinary_deliveries_migrations")).Scan(&version)
	if newest := len(s.migrations()); err == nil && version > newest {
		err = fmt.Errorf("%w: its version is %d, and this package knows %d", ErrNewerSchema, version, newest)
	}
	return version, err
}
