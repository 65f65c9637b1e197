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
	// commitTimeout is the limit for a commit. It is shorter than the time of a
	// request, so that a server that no longer answers does not use up all of
	// that. It is long enough for a server whose disk is slow.
	commitTimeout = 10 * time.Second
	// busyTimeout is how long a commit waits for another program that writes to
	// the file, unless the connection has a limit of its own.
	busyTimeout    = 4 * time.Second
	discardTimeout = time.Second
	// doTimeout is how long all runs of an app's function may take together. All
	// other writes wait for that function.
	doTimeout = 3 * time.Second
	// maxStale is how many connections in a row may turn out to be cut or
	// read-only. After a failover a pool still holds the old ones.
	maxStale = 10
)

// A connection is the one that the committer uses for all its writes.
type connection struct {
	*sql.Conn

	// writer names the row of totals that this connection adds to. Each connection
	// has a row of its own, even if this process had another connection before: a
	// server may need hours to notice that the old one is dead, and holds that
	// connection's locks until then.
	writer string

	settings string // when the connection was opened

	path string      // the name of SQLite's file
	file os.FileInfo // the file of that name when the connection was opened
	wal  os.FileInfo // its write-ahead log; nil until there is one
}

// connect opens a connection and checks it. If the pool gives it a connection
// that is cut or read-only, it closes that one for good and tries the next.
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
		err = checkPostgres(ctx, c.Conn)
	} else if c.path, err = checkSQLite(ctx, c.Conn); err == nil {
		c.file, err = fileOf(c.path)
	}
	if err != nil {
		return err
	}
	return c.QueryRowContext(ctx, d.settings()).Scan(&c.settings)
}

// unmoved returns an error if SQLite's file or its write-ahead log was deleted
// or replaced: writes to the old ones are lost if the process crashes.
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
	wal, _ := os.Stat(c.path + "-wal") // another journal mode has none
	if c.wal == nil {
		c.wal = wal
	} else if wal == nil || !os.SameFile(c.wal, wal) {
		return fmt.Errorf("%w: its -wal file was deleted while it was open; restart the program", ErrNotDurable)
	}
	return nil
}

// discard closes the connection for good, so that a pool cannot give its
// settings and its state to somebody else. A pool behind database/sql, such as
// pgxpool, closes a connection that is returned inside a transaction: hence the
// BEGIN.
func (c *connection) discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	_, _ = c.ExecContext(ctx, "BEGIN")
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.Close()
}
