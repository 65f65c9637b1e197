package database

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/cloudinaryhook/cloudinaryhook"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// SQLite is a DB in one file.
type SQLite struct {
	// SQLite has one writer at a time. One connection writes, for the committer,
	// so that no write finds the database locked; readers have others.
	queries
	writes
	write    *sql.DB
	prepared map[string]*sql.Stmt // for the committer alone
}

// OpenSQLite opens the file, or creates it, and brings its schema up to date.
func OpenSQLite(ctx context.Context, path string) (*SQLite, error) {
	// synchronous=FULL syncs the write-ahead log at each commit: what was
	// answered 201 survives the loss of power.
	const pragmas = "?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	name := "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path) + pragmas
	write, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, err
	}
	read, err := sql.Open("sqlite", name+"&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	write.SetMaxOpenConns(1)
	read.SetMaxOpenConns(8)
	db := &SQLite{queries: queries{read}, write: write, prepared: make(map[string]*sql.Stmt)}
	db.committer = newCommitter(db.commit, notBusy)
	if err := db.migrate(ctx); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

// createPrivate creates the file, if it is not there, so that nobody else can read
// it: bodies name people. SQLite gives the files beside it the same mode. It does
// not touch one that is there: closing it would end SQLite's locks on it, if this
// process has it open.
func createPrivate(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // whoever runs the program names the file
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// Close implements DB. What was begun is done first.
func (db *SQLite) Close() error {
	db.committer.close()
	return errors.Join(db.db.Close(), db.write.Close())
}

// migrate runs the migrations that the file has not seen, in one transaction;
// user_version counts them.
func (db *SQLite) migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/sqlite/*.sql") // sorted
	if err != nil {
		return err
	}
	return inTx(ctx, db.write, func(tx *sql.Tx) error { return runMigrations(ctx, tx, files) })
}

func runMigrations(ctx context.Context, tx *sql.Tx, files []string) error {
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(files) {
		return newerSchema(version)
	}
	for _, file := range files[version:] {
		statements, err := fs.ReadFile(migrations, file)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(statements)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(files)))
	return err
}

func newerSchema(version int) error {
	return fmt.Errorf("its schema, version %d, is newer than this program", version)
}

// commit does a batch in one transaction. No caller's context ends it, since it
// is others' too.
func (db *SQLite) commit(batch []*write) error {
	for _, w := range batch {
		if err := db.prepare(w.statement); err != nil {
			return err
		}
	}
	return inTx(context.Background(), db.write, func(tx *sql.Tx) error {
		for _, w := range batch {
			if err := do(tx.Stmt(db.prepared[w.statement]), w); err != nil {
				return err
			}
		}
		return nil
	})
}

// notBusy: each write by itself would wait as long for another program to let go
// of the file.
func notBusy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return !ok || e.Code()&0xff != sqlite3.SQLITE_BUSY
}

// prepare has a statement parsed once and for all: there are few, and in a batch
// parsing would cost more than the sync.
func (db *SQLite) prepare(statement string) error {
	if db.prepared[statement] != nil {
		return nil
	}
	prepared, err := db.write.Prepare(statement)
	if err == nil {
		db.prepared[statement] = prepared
	}
	return err
}

func do(statement *sql.Stmt, w *write) error {
	if w.dest != nil {
		return statement.QueryRow(w.args...).Scan(w.dest...)
	}
	result, err := statement.Exec(w.args...)
	if err != nil {
		return err
	}
	w.affected, err = result.RowsAffected()
	return err
}

// inTx runs f in one transaction: all of it is durable, or none.
func inTx(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // SQLite may have done so itself
		return err
	}
	return tx.Commit()
}

// Pending implements DB. Bodies may be large: each delivery is read by itself.
func (db *SQLite) Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
	return func(yield func(*cloudinaryhook.Delivery, error) bool) {
		for id, err := range db.pendingIDs(ctx, before, "") {
			if err != nil {
				yield(nil, err)
				return
			}
			d, err := db.pendingDelivery(ctx, id)
			if errors.Is(err, sql.ErrNoRows) {
				continue // completed since
			}
			if !yield(d, err) {
				return
			}
		}
	}
}

func (db *SQLite) pendingDelivery(ctx context.Context, id string) (*cloudinaryhook.Delivery, error) {
	var data []byte
	err := db.db.QueryRowContext(ctx, "SELECT delivery FROM deliveries WHERE id = $1 AND completed_at IS NULL", id).Scan(&data)
	if err != nil {
		return nil, err
	}
	return parseDelivery(id, data)
}
