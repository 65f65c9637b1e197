package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/cloudinaryhook/cloudinaryhook/internal/guard"
)

// One transaction holds at most maxBatch writes. It takes no further write once
// it has maxBatchBytes of deliveries, because bodies may be large.
const (
	maxBatch      = 128
	maxBatchBytes = 4 << 20
	maxConflicts  = 5
)

// A write is one of save, complete, do and app. If a caller stops waiting, it must
// not read the values that the write sets: the committer may still do the
// write.
type write struct {
	ctx      context.Context // the caller's: if it has ended, do and app do not run
	save     *saving
	complete *completion
	do       func(context.Context, *sql.Tx, *totals) error // the store's own
	app      func(*sql.Tx) error                           // the app's; its errors are appErrors

	size   int        // of the delivery, in bytes
	err    error      // set before the commit if this write is not part of it
	result chan error // buffered, because the caller may have stopped waiting
}

// A committer puts the writes that wait at the same time into one transaction.
// They share the sync that makes them durable, because the sync takes most of
// the time. A write that waits alone is not delayed.
type committer struct {
	store    *Store
	maxBatch int

	mu     sync.RWMutex // held for reading while sending to writes
	closed bool
	writes chan *write
	done   chan struct{} // closed after close, when all writes are done
}

func newCommitter(s *Store) *committer {
	c := &committer{store: s, maxBatch: maxBatch, writes: make(chan *write, maxBatch), done: make(chan struct{})}
	go c.run()
	return c
}

// do returns once w is committed, or with an error when ctx ends.
func (c *committer) do(ctx context.Context, w *write) error {
	w.result = make(chan error, 1)
	if err := c.send(ctx, w); err != nil {
		return err
	}
	select {
	case err := <-w.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *committer) send(ctx context.Context, w *write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return ErrClosed
	}
	select {
	case c.writes <- w:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close returns when all writes that were sent are done. It may be called
// again.
func (c *committer) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.writes)
	}
	c.mu.Unlock()
	<-c.done
}

func (c *committer) run() {
	defer close(c.done)
	for w := range c.writes {
		c.settle(c.gather(w))
	}
	c.store.disconnect(context.Background())
}

// gather adds the writes that are waiting.
func (c *committer) gather(first *write) []*write {
	batch := []*write{first}
	for size := first.size; len(batch) < c.maxBatch && size < maxBatchBytes; {
		select {
		case w, more := <-c.writes:
			if !more {
				return batch
			}
			batch = append(batch, w)
			size += w.size
		default:
			return batch
		}
	}
	return batch
}

// settle commits a batch and sends the results. One bad write must not fail the
// others. If the batch fails, settle tries its writes again in one transaction
// with a savepoint for each. That may fail too, if the commit fails or the disk
// has room for some of the writes only. Then each write has a transaction of
// its own.
func (c *committer) settle(batch []*write) {
	err := c.store.commit(batch, false)
	if err != nil && len(batch) > 1 && separable(err) {
		err = c.store.commit(batch, true)
		if err != nil && separable(err) {
			for _, w := range batch {
				c.settle([]*write{w})
			}
			return
		}
	}
	for _, w := range batch {
		if err != nil {
			w.err = err
		}
		w.result <- withHint(w.err)
	}
}

// separable reports whether one write alone may have caused the error. It is
// false if the batch may have been committed despite the error.
func separable(err error) bool {
	return ofApp(err) || !busy(err) && !readOnly(err) && !errors.Is(err, errDisconnected) && !errors.Is(err, errUncertain) && !errors.Is(err, ErrNotDurable)
}

var (
	// errDisconnected is wrapped by the error of a batch that could not begin.
	errDisconnected = errors.New("no connection to the database")
	// errUncertain is wrapped by the error of a batch that began. Its connection is
	// then closed, because it may be cut, or inside a transaction, or have other
	// settings than before.
	errUncertain = errors.New("the connection cannot be used any more")
)

// commit does a batch in one transaction: all of it is durable, or nothing.
// With apart, a write that fails is left out and gets its error. If the
// connection turns out to be cut or read-only before the commit began, commit
// tries a new connection. A batch holds several callers' writes, so no caller's
// context ends it.
func (s *Store) commit(batch []*write, apart bool) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	lost, conflicts := 0, 0
	for {
		var safe bool
		safe, err = s.attempt(ctx, batch, apart)
		switch {
		case err == nil || !safe || ctx.Err() != nil:
			return err
		case s.conn == nil && lost == 0: // a new connection may work
			lost++
		case len(batch) == 1 && conflict(err) && conflicts < maxConflicts:
			conflicts++
		default:
			return err
		}
	}
}

// attempt tries the batch once. safe means that it may be repeated, because the
// error came before the commit began. If the connection is no longer usable,
// attempt sets s.conn to nil.
func (s *Store) attempt(ctx context.Context, batch []*write, apart bool) (safe bool, err error) {
	if s.conn == nil {
		if s.conn, err = s.connect(ctx); err != nil {
			return false, fmt.Errorf("%w: %w", errDisconnected, err) // connect has tried several
		}
	}
	if err := s.conn.unmoved(); err != nil {
		return false, err
	}
	tx, err := s.conn.BeginTx(ctx, s.dialect.txOptions())
	if busy(err) {
		return false, err
	}
	if err != nil {
		s.disconnect(ctx)
		return true, fmt.Errorf("%w: %w", errDisconnected, err)
	}
	if err := s.perform(ctx, tx, batch, apart); err != nil {
		if rollback := tx.Rollback(); (rollback != nil || ctx.Err() != nil) && !errors.Is(err, errUncertain) {
			err = fmt.Errorf("%w: %w", errUncertain, err)
		}
		if errors.Is(err, errUncertain) || readOnly(err) {
			s.disconnect(ctx)
		}
		return true, err
	}
	if err := tx.Commit(); err != nil {
		s.disconnect(ctx) // SQLite may have left the transaction open
		if !refused(err, s.dialect) {
			err = fmt.Errorf("%w: the commit was not answered: %w", errUncertain, err)
		}
		return false, err
	}
	return true, nil
}

func (s *Store) disconnect(ctx context.Context) {
	if s.conn != nil {
		s.conn.discard(ctx)
		s.conn = nil
	}
}

// perform does a batch, except its commit.
func (s *Store) perform(ctx context.Context, tx *sql.Tx, batch []*write, apart bool) (err error) {
	var changed totals
	for _, w := range batch {
		w.err = nil
	}
	if apart {
		if err := s.dialect.hurry(ctx, tx); err != nil {
			return err
		}
		for _, w := range batch {
			if err := s.performApart(ctx, tx, w, &changed); err != nil {
				return err
			}
		}
	} else if changed, err = s.performAll(ctx, tx, batch); err != nil {
		return err
	}
	if changed == (totals{}) {
		return nil
	}
	return s.keep(ctx, tx, changed)
}

// performApart rolls back to a savepoint if the write fails.
func (s *Store) performApart(ctx context.Context, tx *sql.Tx, w *write, changed *totals) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT one_write"); err != nil {
		return err
	}
	change, err := s.performAll(ctx, tx, []*write{w})
	if err == nil {
		_, err = tx.ExecContext(ctx, "RELEASE one_write")
	}
	if err == nil {
		changed.add(change)
		return nil
	}
	w.err = err
	if errors.Is(err, errUncertain) {
		return err
	}
	if _, rollback := tx.ExecContext(ctx, "ROLLBACK TO one_write"); rollback != nil {
		return errors.Join(err, rollback)
	}
	return nil
}

// performAll does the writes of a batch. Saves share a statement where they
// can, and so do completions.
func (s *Store) performAll(ctx context.Context, tx *sql.Tx, batch []*write) (changed totals, err error) {
	var saves []*saving
	var completions []*completion
	var apps []*write
	for _, w := range batch {
		switch {
		case w.save != nil:
			saves = append(saves, w.save)
		case w.complete != nil:
			completions = append(completions, w.complete)
		case w.app != nil:
			apps = append(apps, w)
		}
	}
	if err := s.saveAll(ctx, tx, saves, &changed); err != nil {
		return changed, err
	}
	if err := s.completeAll(ctx, tx, completions, &changed); err != nil {
		return changed, err
	}
	for _, w := range batch {
		if w.do == nil {
			continue
		}
		if w.err = w.ctx.Err(); w.err != nil {
			continue // nobody waits for it
		}
		if err := w.do(ctx, tx, &changed); err != nil {
			return changed, err
		}
	}
	return changed, s.runAll(ctx, tx, apps)
}

// runAll calls the app's functions. A function can end the transaction with a
// statement, such as ROLLBACK. Then the other writes would be lost, although
// their callers get no error. So each function runs after a savepoint. The
// RELEASE fails if the transaction ended, and on Postgres also if the function
// hid an SQL error.
func (s *Store) runAll(ctx context.Context, tx *sql.Tx, all []*write) error {
	if len(all) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, "SAVEPOINT of_the_app"); err != nil {
		return err
	}
	for _, w := range all {
		if w.err = w.ctx.Err(); w.err != nil {
			continue // nobody waits for it
		}
		err := w.app(tx)
		if err == nil {
			_, release := tx.ExecContext(ctx, "RELEASE of_the_app; SAVEPOINT of_the_app") // one round trip
			if release == nil {
				continue
			}
			err = &appError{error: fmt.Errorf("sqlstore: the function ended the transaction, or hid an SQL error: %w", release)}
		}
		if _, rollback := tx.ExecContext(ctx, "ROLLBACK TO of_the_app"); rollback != nil {
			err = fmt.Errorf("%w: %w", errUncertain, err)
		}
		return err
	}
	return s.unchanged(ctx, tx)
}

// unchanged returns an error if an app's function has changed a setting that
// other writes depend on. The setting may also have changed in the server's
// configuration: then the next try, with a new connection, succeeds.
func (s *Store) unchanged(ctx context.Context, tx *sql.Tx) error {
	var now string
	if err := tx.QueryRowContext(ctx, s.dialect.settings()).Scan(&now); err != nil {
		return err
	}
	if now != s.conn.settings {
		return fmt.Errorf("%w: %w", errUncertain, &appError{error: errors.New("sqlstore: the function changed a setting of the connection")})
	}
	return nil
}

// An appError is an error of the app's own function. It has no Unwrap: the
// errors that it wraps say nothing about the store's database, and their methods
// may panic, which would end the process.
type appError struct {
	error
	state string
}

// SQLState lets the store repeat a function that was in a deadlock.
func (e *appError) SQLState() string { return e.state }

func ofApp(err error) bool {
	_, ok := errors.AsType[*appError](err)
	return ok
}

var errNoReturn = errors.New("sqlstore: the function did not return")

// contain returns an error if the app's function panics or ends its goroutine
// (runtime.Goexit): the transaction holds other callers' writes too.
func contain(f func() error) error {
	var err, noReturn error
	done := make(chan struct{})
	go func() {
		defer close(done)
		guard.Run(&noReturn, errNoReturn, func() error { err = f(); return nil })
	}()
	<-done
	if noReturn != nil {
		err = noReturn
	}
	if err == nil {
		return nil
	}
	return &appError{err, sqlState(guard.Seal(errNoReturn, err))}
}
