package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A Dialect is a kind of database. The zero value is not valid: New refuses it.
type Dialect int

// The databases that a Store can be on.
const (
	Postgres Dialect = iota + 1
	SQLite
)

// String returns "postgres" or "sqlite". The folder with the migrations has the
// same name.
func (d Dialect) String() string {
	switch d {
	case Postgres:
		return "postgres"
	case SQLite:
		return "sqlite"
	}
	return fmt.Sprintf("Dialect(%d)", int(d))
}

// SQLSTATEs. The drivers for Postgres have a method SQLState on their errors.
const (
	pgReadOnly             = "25006"
	pgSerializationFailure = "40001"
	pgDeadlock             = "40P01"
	pgCompletionUnknown    = "40003"
	pgDuplicatePrepared    = "42P05"
	pgInvalidPrepared      = "26000"
)

func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// says looks for SQLite's own words in an error, because each driver has an
// error type of its own.
func says(err error, words ...string) bool {
	return err != nil && slices.ContainsFunc(words, func(w string) bool { return strings.Contains(err.Error(), w) })
}

func readOnly(err error) bool {
	return !ofApp(err) && (errors.Is(err, ErrReadOnly) || sqlState(err) == pgReadOnly || says(err, "attempt to write a readonly database"))
}

// busy reports whether another program holds SQLite's file. A second try would
// wait just as long.
func busy(err error) bool {
	return !ofApp(err) && sqlState(err) == "" && says(err, "database is locked")
}

// refused reports whether the error of a commit proves that nothing was
// committed. If the server stops or the connection is cut, nobody knows.
func refused(err error, d Dialect) bool {
	state := sqlState(err)
	switch {
	case d == SQLite || says(err, "commit unexpectedly resulted in rollback", "in a failed transaction"): // the words of pgx and pq
		return true
	case state == "" || state == pgCompletionUnknown:
		return false
	}
	return !strings.HasPrefix(state, "08") && !strings.HasPrefix(state, "57")
}

// conflict reports whether another transaction got in the way. The next try may
// succeed.
func conflict(err error) bool {
	return slices.Contains([]string{pgSerializationFailure, pgDeadlock}, sqlState(err))
}

// withHint adds the likely cause to an error.
func withHint(err error) error {
	switch state := sqlState(err); {
	case err == nil:
		return nil
	case state == pgDuplicatePrepared || state == pgInvalidPrepared:
		return fmt.Errorf("%w (a pooler in transaction mode? The store needs session mode)", err)
	case readOnly(err) && !errors.Is(err, ErrReadOnly):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// tableExists is a query that asks whether a table exists. Reading from a
// missing table would write an error to the server's log at each first start.
func (d Dialect) tableExists() string {
	if d == Postgres {
		return "SELECT to_regclass($1) IS NOT NULL"
	}
	return "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1 COLLATE NOCASE)"
}

// settings is a query for the settings of a connection that could lose or fail
// all later writes.
func (d Dialect) settings() string {
	if d == Postgres {
		return `SELECT concat_ws(' ', current_user, current_setting('search_path'), current_setting('synchronous_commit', true),
			current_setting('statement_timeout', true), current_setting('transaction_read_only', true))`
	}
	return "SELECT s.synchronous || ' ' || j.journal_mode || ' ' || q.query_only || ' ' || b.timeout || ' ' || l.locking_mode " +
		"FROM pragma_synchronous s, pragma_journal_mode j, pragma_query_only q, pragma_busy_timeout b, pragma_locking_mode l"
}

// skipLocked ends a query that skips the rows that others have locked, instead
// of waiting for them.
func (d Dialect) skipLocked() string {
	if d == Postgres {
		return "FOR UPDATE SKIP LOCKED"
	}
	return "" // SQLite has one writer, and no locks on rows
}

// txOptions returns the options of the store's transactions. Its statements are
// written for READ COMMITTED, and the database may have another default.
func (d Dialect) txOptions() *sql.TxOptions {
	if d == Postgres {
		return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	return nil
}

// lockTimeout is how long a statement waits for a locked row, unless the
// connection has a limit of its own.
const lockTimeout = "1s"

// hurry sets a shorter limit for locks when the writes of a failed batch are
// tried one by one: the batch may hold many writes, and may have waited for
// lockTimeout already.
func (d Dialect) hurry(ctx context.Context, tx *sql.Tx) error {
	if d != Postgres {
		return nil
	}
	_, err := tx.ExecContext(ctx, "SET LOCAL lock_timeout = '100ms'")
	return err
}

// checkPostgres returns an error if the server is read-only, or could lose
// commits in a crash. It also limits how long a statement waits for a lock.
func checkPostgres(ctx context.Context, conn *sql.Conn) error {
	setting := func(name string) (value string, err error) {
		// Other databases that speak the protocol may lack a setting; true makes that
		// NULL.
		err = conn.QueryRowContext(ctx, "SELECT coalesce(current_setting($1, true), '')", name).Scan(&value)
		return value, err
	}
	for _, name := range []string{"fsync", "synchronous_commit"} {
		if value, err := setting(name); err != nil {
			return err
		} else if value == "off" {
			return fmt.Errorf("%w: its setting %s is off", ErrNotDurable, name)
		}
	}
	if value, err := setting("transaction_read_only"); err != nil {
		return err
	} else if value == "on" {
		return fmt.Errorf("%w: a standby, or default_transaction_read_only is on", ErrReadOnly)
	}
	value, err := setting("lock_timeout")
	if err == nil && value == "0" {
		_, err = conn.ExecContext(ctx, "SET lock_timeout = '"+lockTimeout+"'")
	}
	return err
}

// checkSQLite returns the name of the file, or an error if the database is in
// memory, does not sync its commits, or is read-only.
func checkSQLite(ctx context.Context, conn *sql.Conn) (path string, err error) {
	pragma := func(name string) (value string, err error) {
		err = conn.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
		return value, err
	}
	var number, name string
	if err := conn.QueryRowContext(ctx, "PRAGMA database_list").Scan(&number, &name, &path); err != nil {
		return "", err
	}
	if path == "" {
		return "", fmt.Errorf("%w: it is in memory", ErrNotDurable)
	}
	if value, err := pragma("synchronous"); err != nil {
		return "", err
	} else if value != "2" && value != "3" {
		return "", fmt.Errorf("%w: its synchronous is %s; it must be 2 (FULL) or 3 (EXTRA)", ErrNotDurable, value)
	}
	if value, err := pragma("journal_mode"); err != nil {
		return "", err
	} else if value == "off" || value == "memory" {
		return "", fmt.Errorf("%w: its journal_mode is %s; wal is best", ErrNotDurable, value)
	}
	if value, err := pragma("query_only"); err != nil {
		return "", err
	} else if value != "0" {
		return "", fmt.Errorf("%w: query_only is on", ErrReadOnly)
	}
	if value, err := pragma("busy_timeout"); err != nil {
		return "", err
	} else if value == "0" {
		if _, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", busyTimeout.Milliseconds())); err != nil {
			return "", err
		}
	}
	return path, checkWritable(ctx, conn)
}

// checkWritable creates a table and rolls it back. BEGIN IMMEDIATE alone proves
// nothing: it succeeds on a read-only file too.
func checkWritable(ctx context.Context, conn *sql.Conn) error {
	err := execAll(ctx, conn, []string{"BEGIN IMMEDIATE", "CREATE TABLE cloudinary_probe (x)"})
	if busy(err) {
		return nil // somebody else is writing to it
	}
	if _, rollback := conn.ExecContext(ctx, "ROLLBACK"); err == nil {
		err = rollback
	}
	return err
}

// fileOf returns what os.SameFile needs to tell this file from a later one of
// the same name.
func fileOf(path string) (os.FileInfo, error) {
	file, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	return file, nil
}
