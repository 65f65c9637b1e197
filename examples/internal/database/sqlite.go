package database

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"time"

	_ "modernc.org/sqlite"

	"github.com/cloudinaryhook/cloudinaryhook"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// SQLite is a DB in one file.
type SQLite struct {
	// SQLite has one writer at a time. One connection writes, for the committer,
	// so that no write finds the database locked; readers have others.
	queries
	write     *sql.DB
	committer *committer
}

// OpenSQLite opens the file, or creates it, and brings its schema up to date.
func OpenSQLite(ctx context.Context, path string) (*SQLite, error) {
	// synchronous=FULL syncs the write-ahead log at each commit: what was
	// answered 201 survives the loss of power.
	const pragmas = "?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
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
	db := &SQLite{queries{read}, write, newCommitter(write)} //nolint:contextcheck // the committer outlives this call
	if err := db.migrate(ctx); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

// Close implements DB. What was begun is done first.
func (db *SQLite) Close() error {
	db.committer.Close()
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

// Save implements cloudinaryhook.Store. The insert decides who is told that the
// delivery is new; the state of one that is not is read in the same transaction,
// before Prune could delete it.
func (db *SQLite) Save(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	args, err := deliveryArgs(d)
	if err != nil {
		return 0, err
	}
	var state cloudinaryhook.State
	err = db.committer.do(ctx, func(tx *sql.Tx) (err error) {
		state, err = save(tx, d.ID, args)
		return err
	})
	if err != nil {
		return 0, err // whatever was read, it is not durable
	}
	return state, nil
}

func save(tx *sql.Tx, id string, args []any) (cloudinaryhook.State, error) {
	result, err := tx.Exec(`
		INSERT INTO deliveries (id, delivery, notification_type, public_id, request_id, organization_id, album_id, received_at, signed_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING`, args...)
	if err != nil {
		return 0, err
	}
	if inserted, err := result.RowsAffected(); err != nil || inserted == 1 {
		return cloudinaryhook.StateNew, err
	}
	var done bool
	err = tx.QueryRow("SELECT completed_at IS NOT NULL FROM deliveries WHERE id = $1", id).Scan(&done)
	switch {
	case err != nil:
		return 0, err
	case done:
		return cloudinaryhook.StateDone, nil
	}
	return cloudinaryhook.StatePending, nil
}

// Complete implements cloudinaryhook.Store. Of two causes the first is kept.
func (db *SQLite) Complete(ctx context.Context, id string, cause error) error {
	updated, err := db.exec(ctx, completeDelivery, completeArgs(id, cause)...)
	if err == nil && updated == 0 {
		err = fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return err
}

// CreateImage implements cloudinaryhook.ImageCreator.
func (db *SQLite) CreateImage(ctx context.Context, announced *cloudinaryhook.Image) error {
	args, err := imageArgs(announced)
	if err == nil {
		_, err = db.exec(ctx, insertImage, args...)
	}
	return err
}

// Prune implements DB.
func (db *SQLite) Prune(ctx context.Context, before time.Time) (pruned int64, err error) {
	return prune(before, func(statement string, args ...any) (int64, error) { return db.exec(ctx, statement, args...) })
}

func (db *SQLite) exec(ctx context.Context, statement string, args ...any) (int64, error) {
	var affected int64
	err := db.committer.do(ctx, func(tx *sql.Tx) error {
		result, err := tx.Exec(statement, args...)
		if err != nil {
			return err
		}
		affected, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return 0, err
	}
	return affected, nil
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
