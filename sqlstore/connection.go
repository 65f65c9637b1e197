package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	// commitTimeout is less than a request has. It ends the wait for a server
	// that no longer answers, and leaves time to one whose disk is slow.
	commitTimeout = 10 * time.Second
	// busyTimeout is how long a commit waits for another program that writes to
	// the file, unless the connection has a limit of its own.
	busyTimeout    = 4 * time.Second
	discardTimeout = time.Second
	// doTimeout is how long all runs of an app's function may take together, for
	// everybody's deliveries wait for it.
	doTimeout = 3 * time.Second
	// maxStale is how many connections in a row may turn out to be cut or
	// read-only. A pool keeps those of before a failover.
	maxStale = 10
)

// A connection is what a committer writes over.
type connection struct {
	*sql.Conn

	// writer names the row of totals that this connection adds to. No other one
	// does, not even this process's one before: a server may take hours to
	// notice that its other end is gone, and holds its locks until then.
	writer string

	path string      // of SQLite's file
	file os.FileInfo // what the path named at first
}

// connect opens and checks a connection. One that is cut or read-only is closed
// for good, and the next one is tried.
func (s *Store) connect(ctx context.Context) (*connection, error) {
	var last error
	for range maxStale {
		conn, err := s.db.Conn(ctx)
		if err != nil {
			return nil, fmt.Errorf("connecting: %w", err)
		}
		c := &connection{Conn: conn, writer: rand.Text()}
		err = c.check(ctx, s.dialect)
		if err == nil {
			return c, nil
		}
		c.discard(ctx)
		if err = fmt.Errorf("connecting: %w", withHint(err)); s.dialect == SQLite || errors.Is(err, ErrNotDurable) || ctx.Err() != nil {
			return nil, err
		}
		last = err
	}
	return nil, last
}

func (c *connection) check(ctx context.Context, d Dialect) (err error) {
	if d == Postgres {
		return checkPostgres(ctx, c.Conn)
	}
	if c.path, err = checkSQLite(ctx, c.Conn); err != nil {
		return err
	}
	c.file, err = fileOf(c.path)
	return err
}

// unmoved refuses to write to a file of SQLite that was deleted or replaced:
// what is written to it would be gone when the process ends.
func (c *connection) unmoved() error {
	if c.path == "" {
		return nil
	}
	now, err := fileOf(c.path)
	if err != nil {
		return err
	}
	if !os.SameFile(c.file, now) {
		return fmt.Errorf("%w: its file was replaced while it was open; restart the program", ErrNotDurable)
	}
	return nil
}

// discard closes the connection for good, so that neither its settings nor its
// state come back out of a pool. A pool behind database/sql, as pgxpool, closes
// a connection that is given back within a transaction.
func (c *connection) discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	_, _ = c.ExecContext(ctx, "BEGIN")
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.Close()
}
