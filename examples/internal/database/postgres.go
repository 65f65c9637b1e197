package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cloudinaryhook/cloudinaryhook"
)

const (
	// leaseTime is more than a delivery takes: a request has 18 s at most, and
	// resumed work is the same. What outlasts it may be done twice.
	leaseTime      = 30 * time.Second
	releaseTimeout = 3 * time.Second
	commitTimeout  = 10 * time.Second // less than a request has
	connectTimeout = 5 * time.Second
	maxAttempts    = 10
)

// SQLSTATEs of statements that others' got in the way of.
var (
	conflicts          = []string{pgSerializationFailure, pgDeadlock}
	migrationConflicts = append(conflicts, pgUniqueViolation, pgDuplicateTable, pgDuplicateObject)
)

const (
	pgSerializationFailure = "40001"
	pgDeadlock             = "40P01"
	pgUniqueViolation      = "23505"
	pgDuplicateTable       = "42P07"
	pgDuplicateObject      = "42710"
	pgUndefinedTable       = "42P01"
)

// Postgres is a DB that several galleries can share.
type Postgres struct {
	queries
	writes
	pool      *pgxpool.Pool
	leaseTime time.Duration
}

// OpenPostgres connects to the database of a URL, as
// postgres://user@host/database, and brings its schema up to date. Errors hold
// no password; the URL's is better left to PGPASSWORD or a password file, which
// are read too.
func OpenPostgres(ctx context.Context, url string) (*Postgres, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The error quotes what it could not understand, a password maybe.
		return nil, errors.New("opening the database: its URL or the environment's PG variables cannot be read; a password's special characters are written as %XX")
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	db := &Postgres{queries: queries{stdlib.OpenDBFromPool(pool)}, pool: pool, leaseTime: leaseTime}
	db.committer = newCommitter(db.commit, func(err error) bool { return sqlState(err) != "" })
	err = db.checkDurable(ctx)
	if err == nil {
		err = retry(ctx, migrationConflicts, func() error { return db.migrate(ctx) })
	}
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", errors.Join(err, db.Close()))
	}
	return db, nil
}

// Close implements DB. What was begun is done first.
func (db *Postgres) Close() error {
	db.committer.close()
	defer db.pool.Close()
	return db.db.Close()
}

// checkDurable refuses a database that forgets in a crash what it had committed.
func (db *Postgres) checkDurable(ctx context.Context) error {
	for _, setting := range []string{"fsync", "synchronous_commit"} {
		var value string // of other databases that speak the protocol, maybe none
		if err := db.pool.QueryRow(ctx, "SELECT coalesce(current_setting($1, true), '')", setting).Scan(&value); err != nil {
			return err
		}
		if value == "off" {
			return fmt.Errorf("its setting %s is off, and what is answered 201 would not survive a crash", setting)
		}
	}
	return nil
}

// migrate runs the migrations that the database has not seen, in one
// transaction. The key of schema_versions is what instances that start at the
// same time wait at: all but the first to insert a version fail, and find it
// done when they try again.
func (db *Postgres) migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/postgres/*.sql") // sorted
	if err != nil {
		return err
	}
	var version int
	err = db.pool.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM schema_versions").Scan(&version)
	switch {
	case err != nil && sqlState(err) != pgUndefinedTable:
		return err
	case version > len(files):
		return newerSchema(version)
	case version == len(files):
		return nil // and the user needs no right to create tables
	}
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY)")
		for i := version; i < len(files) && err == nil; i++ {
			err = runMigration(ctx, tx, i+1, files[i])
		}
		return err
	})
}

func runMigration(ctx context.Context, tx pgx.Tx, version int, file string) error {
	statements, err := fs.ReadFile(migrations, file)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO schema_versions (version) VALUES ($1)", version); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, string(statements)); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// commit sends a batch at once, as one transaction. No caller's context ends it,
// since it is others' too.
func (db *Postgres) commit(batch []*write) error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	// Galleries that lock rows in the same order never wait for each other in a circle.
	slices.SortStableFunc(batch, func(a, b *write) int { return strings.Compare(fmt.Sprint(a.args[0]), fmt.Sprint(b.args[0])) })
	send := func() error { return db.pool.SendBatch(ctx, pgxBatch(batch)).Close() }
	if len(batch) > 1 {
		return send() // the committer tries each by itself
	}
	return retry(ctx, conflicts, send)
}

func pgxBatch(batch []*write) *pgx.Batch {
	b := new(pgx.Batch)
	for _, w := range batch {
		queued := b.Queue(w.statement, w.args...)
		if w.dest != nil {
			queued.QueryRow(func(row pgx.Row) error { return row.Scan(w.dest...) })
			continue
		}
		queued.Exec(func(tag pgconn.CommandTag) error {
			w.affected = tag.RowsAffected()
			return nil
		})
	}
	return b
}

// Pending implements DB. Each delivery is leased just before it is yielded, so
// that instances that resume at the same time share the work; one that dies
// keeps the others from a single delivery, and not for long.
func (db *Postgres) Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
	return func(yield func(*cloudinaryhook.Delivery, error) bool) {
		for id, err := range db.pendingIDs(ctx, before, "AND (leased_until IS NULL OR leased_until <= now())") {
			if err != nil {
				yield(nil, err)
				return
			}
			if !db.yieldLeased(ctx, id, yield) {
				return
			}
		}
	}
}

// yieldLeased yields a delivery unless it was completed or leased since. The
// lease is one committed UPDATE by the database's clock, which is the same for
// all; nothing is locked while the work is done.
func (db *Postgres) yieldLeased(ctx context.Context, id string, yield func(*cloudinaryhook.Delivery, error) bool) bool {
	var data []byte
	var until time.Time
	err := retry(ctx, conflicts, func() error {
		return db.pool.QueryRow(ctx, `
			UPDATE deliveries SET leased_until = now() + $2::interval
			WHERE id = $1 AND completed_at IS NULL AND (leased_until IS NULL OR leased_until <= now())
			RETURNING delivery, leased_until`, id, db.leaseTime).Scan(&data, &until)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return true
	case err != nil:
		yield(nil, err)
		return false
	}
	defer db.release(ctx, id, until)
	return yield(parseDelivery(id, data))
}

// release ends a lease, so that work that failed need not wait for its end. It
// leaves alone a lease that ran out and is another's now, and a completed row.
func (db *Postgres) release(ctx context.Context, id string, until time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	// Should it fail, the lease runs out.
	_, _ = db.pool.Exec(ctx, "UPDATE deliveries SET leased_until = NULL WHERE id = $1 AND leased_until = $2 AND completed_at IS NULL", id, until)
}

// retry runs f again while it fails for what others did at the same time.
func retry(ctx context.Context, states []string, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if attempt == maxAttempts || !slices.Contains(states, sqlState(err)) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(time.Duration(attempt) * 10 * time.Millisecond)): //nolint:gosec // no secret: instances must not retry in step
		}
	}
}

func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}
