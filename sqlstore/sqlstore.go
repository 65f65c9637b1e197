// Package sqlstore is a [cloudinaryhook.Store] in a Postgres or SQLite database,
// over database/sql. It imports no driver: the app opens the database with its
// own, for example github.com/jackc/pgx/v5/stdlib or modernc.org/sqlite.
//
//	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL")) // for SQLite, see below
//	…
//	store, err := sqlstore.New(ctx, db, sqlstore.Postgres)
//	…
//	err = store.Migrate(ctx) // or use the files of Schema
//	processor := &cloudinaryhook.Processor{Store: store, Images: images}
//	go processor.ResumeEvery(ctx, time.Minute, store.Pending)
//
// # Database settings
//
// The store keeps one connection of db for itself and commits over it. So no
// notification waits for a connection, however much your app uses db. There is
// one exception: if the store loses its connection, for example in a failover,
// it needs another one of db, and waits until one is free. If your app may use
// all connections of db for seconds, open a [sql.DB] for the store alone, with
// SetMaxOpenConns(2).
//
// Set [sql.DB.SetMaxOpenConns] to at least 2. For SQLite, which runs inside your
// process, set it to at most runtime.NumCPU(), but not below 2.
//
// On SQLite, use a write-ahead log, and begin your own transactions with the
// write lock. With modernc.org/sqlite, write
//
//	import _ "modernc.org/sqlite" // the driver "sqlite"
//
//	db, err := sql.Open("sqlite", "file:app.db?_txlock=immediate&_pragma=journal_mode(WAL)"+
//		"&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
//	…
//	db.SetMaxOpenConns(max(2, runtime.NumCPU()))
//	store, err := sqlstore.New(ctx, db, sqlstore.SQLite)
//
// If a pooler stands in front of Postgres, use its session mode, not its
// transaction mode: the store needs its prepared statements and its settings in
// the same session.
//
// # What a nil error of Save means
//
// The delivery is committed, and the database says that it synced the commit to
// its disk. Whenever the store connects, it checks the database's settings, and
// refuses a database that would not sync. It cannot see three things: a disk
// that reports a sync too early, an administrator who turns a setting off on a
// running server, and a replica that is behind when it takes over. In Postgres,
// synchronous_commit and synchronous_standby_names decide whether a commit waits
// for a replica.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// DefaultTable is the table's name unless [Table] sets another one.
const DefaultTable = "cloudinary_deliveries"

// The methods of a Store, and [New], return errors that wrap these.
var (
	// ErrClosed is the error of every write after Close. Ping writes too, and so
	// does Pending on Postgres.
	ErrClosed = errors.New("sqlstore: the store is closed")

	// ErrNotFound means that there is no delivery with this ID.
	ErrNotFound = errors.New("sqlstore: no such delivery")

	// ErrNotDurable means that the database could lose a commit, or keeps nothing
	// on disk.
	ErrNotDurable = errors.New("sqlstore: the database is not durable")

	// ErrReadOnly means that the database, or a connection to it, accepts no
	// writes. A Postgres standby is an example.
	ErrReadOnly = errors.New("sqlstore: the database is read-only")

	// ErrNewerSchema means that a newer version of this package made the table.
	ErrNewerSchema = errors.New("sqlstore: the table is newer than this program")
)

// A Store keeps deliveries in a table. It is safe for concurrent use. On
// Postgres several processes may share the table.
type Store struct {
	db        *sql.DB
	dialect   Dialect
	table     string
	committer *committer
	conn      *connection // the committer's alone; nil: the next commit opens one
	leaseTime time.Duration
	doTimeout time.Duration
}

// An Option changes the Store that New returns.
type Option func(*Store)

// Table sets the name of the table. Without this option it is [DefaultTable].
// The name may have at most 40 ASCII letters, digits and underscores, and must
// not begin with a digit. The names of the store's other tables and of its
// indexes begin with it. On Postgres, the table is in the first schema of the
// connection's search_path.
func Table(name string) Option { return func(s *Store) { s.table = name } }

// Lease sets how long [Store.Pending] leases a delivery on Postgres. Without this
// option it is 30 s. Let it be at least Processor.Timeout plus 5 s: if the work
// takes longer than the lease, another process may do it too. If a process dies
// during the work, the delivery is listed again after the lease. New refuses a d
// that is not positive.
func Lease(d time.Duration) Option { return func(s *Store) { s.leaseTime = d } }

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,39}$`)

// New returns a Store on db, and opens the store's own connection. It refuses a
// database that is read-only ([ErrReadOnly]), that could lose a commit
// ([ErrNotDurable]), or whose table was made by a newer version of this package
// ([ErrNewerSchema]). It changes nothing in the database: call [Store.Migrate]
// next, unless your own migrations run the files of [Schema]. Close the Store
// before db.
func New(ctx context.Context, db *sql.DB, d Dialect, options ...Option) (*Store, error) {
	s := &Store{db: db, dialect: d, table: DefaultTable, leaseTime: leaseTime, doTimeout: doTimeout}
	for _, option := range options {
		option(s)
	}
	switch {
	case db == nil:
		return nil, errors.New("sqlstore: the *sql.DB is nil")
	case d != Postgres && d != SQLite:
		return nil, fmt.Errorf("sqlstore: %v is neither Postgres nor SQLite", d)
	case !tableName.MatchString(s.table):
		return nil, fmt.Errorf("sqlstore: the table's name %q must be letters, digits and underscores, 40 at most", s.table)
	case s.leaseTime <= 0:
		return nil, fmt.Errorf("sqlstore: the lease of %v is not positive", s.leaseTime)
	case db.Stats().MaxOpenConnections == 1:
		return nil, errors.New("sqlstore: db allows one open connection, but the store keeps one for itself: SetMaxOpenConns(2) at least")
	}
	_, err := s.version(ctx, db)
	switch {
	case d == Postgres && says(err, "no such function: to_regclass"):
		return nil, fmt.Errorf("sqlstore: the database is not Postgres, but probably SQLite: %w", err)
	case d == SQLite && sqlState(err) != "": // an error of SQLite has none
		return nil, fmt.Errorf("sqlstore: the database is not SQLite, but probably Postgres: %w", err)
	case err != nil:
		return nil, fmt.Errorf("reading the table's version: %w", withHint(err))
	}
	if s.conn, err = s.connect(ctx); err != nil {
		return nil, err
	}
	s.committer = newCommitter(s) //nolint:contextcheck // the committer outlives New
	return s, nil
}

// Close finishes the writes that have begun, and closes the store's own
// connection. It leaves db open. Later calls that write fail with [ErrClosed].
// Close may be called again.
func (s *Store) Close() error {
	s.committer.close()
	return nil
}

// Do runs f in a transaction. Use it if your CreateImage writes to the same
// database. The transaction also holds the saves that other callers make at the
// same time, so that all of them share one commit and its sync. Do returns nil
// once the transaction is committed.
//
//   - f must use the ctx and the tx that it gets. It must not call methods of
//     the Store.
//   - f must not end the transaction or change settings, also not with a
//     statement such as COMMIT, SET or PRAGMA. Do returns an error if f ended
//     the transaction, or changed a setting that could lose other writes or let
//     them fail. But a COMMIT cannot be undone.
//   - f must return soon: no delivery is saved until it returns. Its ctx ends
//     3 s after f began, and f must return then. That ctx has the values of the
//     caller's ctx, but is not canceled with it.
//   - If another caller's write in the transaction fails, f may run again. Only
//     the writes of its last run are kept. The 3 s are for all runs together.
//   - If f returns an error or panics, its writes are rolled back, and Do
//     returns the error of f, or an error that describes the panic. A Processor
//     logs the panic's stack. The writes of other callers are not affected.
//
// If ctx ends first, Do returns ctx.Err(). If f has not begun by then, it never
// runs. If it has begun, its writes may still be committed.
func (s *Store) Do(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	var deadline time.Time // set by the first run
	err := s.committer.do(ctx, &write{ctx: ctx, app: func(tx *sql.Tx) error {
		if deadline.IsZero() {
			deadline = time.Now().Add(s.doTimeout)
		}
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
		defer cancel()
		return contain(func() error {
			if err := ctx.Err(); err != nil {
				return err // earlier runs took all the time
			}
			return f(ctx, tx)
		})
	}})
	if own, ok := errors.AsType[*appError](err); ok {
		return own.error
	}
	return err
}

// Ping returns nil if the store can save a delivery now. It commits a write
// that changes nothing. Use it for a readiness check, and give ctx a deadline
// of about a second.
func (s *Store) Ping(ctx context.Context) error {
	return s.do(ctx, func(ctx context.Context, tx *sql.Tx, _ *totals) error { return s.keep(ctx, tx, totals{}) })
}

// Save implements [cloudinaryhook.Store]. Saves that wait at the same time
// share a commit. A single Save does not wait for others. If d has no ID or no
// claims, the error wraps [cloudinaryhook.ErrInvalidDelivery].
func (s *Store) Save(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	if d.ID == "" { // else all such deliveries would share a row
		return 0, fmt.Errorf("%w: it has no ID", cloudinaryhook.ErrInvalidDelivery)
	}
	data, err := d.MarshalJSON() // json.Marshal would check and copy it once more
	if err != nil {
		return 0, err
	}
	requestID := d.RequestID // Cloudinary's support asks for it
	if requestID == "" && d.Error != nil {
		requestID = d.Error.RequestID
	}
	row := &saving{id: d.ID, columns: []any{d.ID, data, text(string(d.Type)), text(d.PublicID), text(requestID),
		text(d.Claims.OrganizationID), text(d.Claims.AlbumID), d.ReceivedAt.UnixNano(), d.SignedAt.UnixNano()}}
	if err := s.committer.do(ctx, &write{ctx: ctx, save: row, size: len(data)}); err != nil {
		return 0, err // nothing is durable, even if row has a state
	}
	return row.state, nil
}

// Complete implements [cloudinaryhook.Store]. If it is called twice, the first
// cause is kept. The error about an unknown ID wraps [ErrNotFound].
func (s *Store) Complete(ctx context.Context, id string, cause error) error {
	row := &completion{id: id, at: time.Now()}
	if cause != nil {
		row.rejected, row.cause = true, clean(cause.Error())
	}
	if err := s.committer.do(ctx, &write{ctx: ctx, complete: row}); err != nil {
		return err
	}
	if row.unknown {
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return nil
}

func (s *Store) do(ctx context.Context, f func(context.Context, *sql.Tx, *totals) error) error {
	return s.committer.do(ctx, &write{ctx: ctx, do: f})
}

// maxText is the limit for a text column, in bytes. Apps may want indexes on
// these columns, and an index entry of Postgres holds at most 2,700 bytes.
const maxText = 1000

// text cleans s and cuts it after maxText bytes. It cleans first, because
// cleaning may make s longer. If the cut falls inside a character, text drops
// all of that character.
func text(s string) string {
	s = clean(s)
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "")
}

// clean replaces NUL and invalid UTF-8, which a payload's strings may hold and
// a text column refuses. Only these columns are cleaned: the delivery itself is
// kept as bytes.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\ufffd"), "\ufffd")
}

// sql puts the names of the store's tables into a statement.
func (s *Store) sql(statement string) string {
	return strings.ReplaceAll(statement, DefaultTable, s.table)
}
