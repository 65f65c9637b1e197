package database

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
)

// maxBatch bounds how much one transaction may hold; bodies may be large.
const maxBatch = 128

var errClosed = errors.New("the database is closed")

// A committer has writes that wait at the same time share a transaction, and so
// the sync that makes them durable, which is what costs time.
type committer struct {
	db      *sql.DB
	commits atomic.Int64 // each is a sync

	mu     sync.RWMutex // held for reading while sending to jobs
	closed bool
	jobs   chan job
	done   chan struct{} // closed when all jobs are done, after Close
}

type job struct {
	work   func(*sql.Tx) error
	result chan error // has room for one: nobody may be waiting any more
}

func newCommitter(db *sql.DB) *committer {
	c := &committer{db: db, jobs: make(chan job, maxBatch), done: make(chan struct{})}
	go c.run()
	return c
}

// do returns once work is committed. Whoever stops waiting for it, since ctx
// ended, gets an error, and work may be done all the same: it must write to no
// variable that is read then.
func (c *committer) do(ctx context.Context, work func(*sql.Tx) error) error {
	j := job{work, make(chan error, 1)}
	if err := c.send(ctx, j); err != nil {
		return err
	}
	select {
	case err := <-j.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *committer) send(ctx context.Context, j job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return errClosed
	}
	select {
	case c.jobs <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close returns when all that was begun is done.
func (c *committer) Close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.jobs)
	}
	c.mu.Unlock()
	<-c.done
}

func (c *committer) run() {
	defer close(c.done)
	for j := range c.jobs {
		batch := []job{j}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case j, more = <-c.jobs:
				if more {
					batch = append(batch, j)
				}
			default:
				more = false
			}
		}
		c.commit(batch)
	}
}

// commit does a batch in one transaction. If that fails, each job is done by
// itself: one that is bad must not fail the others, and those that are too much
// for the disk together may fit one by one.
func (c *committer) commit(batch []job) {
	// No caller's context ends the transaction, since it is others' too.
	err := inTx(context.Background(), c.db, func(tx *sql.Tx) error {
		for _, j := range batch {
			if err := j.work(tx); err != nil {
				return err
			}
		}
		c.commits.Add(1)
		return nil
	})
	if err != nil && len(batch) > 1 {
		for _, j := range batch {
			c.commit([]job{j})
		}
		return
	}
	for _, j := range batch {
		j.result <- err
	}
}

// inTx runs f in one transaction of a database that has one connection: all of
// it is durable, or none.
func inTx(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		// SQLite may leave the transaction open, and database/sql believes it
		// to be over.
		_, _ = db.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return err
	}
	return nil
}
