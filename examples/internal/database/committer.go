package database

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// One transaction holds no more than maxBatch writes, and takes none after
// maxBatchBytes of deliveries; bodies may be large.
const (
	maxBatch      = 128
	maxBatchBytes = 4 << 20
)

var errClosed = errors.New("the database is closed")

// A write is one statement. Whoever stops waiting for it must not read what it
// sets, for it may be done all the same.
type write struct {
	statement string
	args      []any // the first is the key of the row, if there is one
	dest      []any // what the row it returns is scanned into; nil: it returns none
	affected  int64 // how many rows it changed, if it returns none

	result chan error // has room for one: nobody may be waiting any more
}

func (w *write) size() (n int) {
	for _, arg := range w.args {
		if data, ok := arg.([]byte); ok {
			n += len(data)
		}
	}
	return n
}

// A committer has writes that wait at the same time share a transaction, and so
// the sync that makes them durable, which is what costs time. One that waits
// alone is not made to wait for others.
type committer struct {
	// commit does a batch in one transaction: all of it is durable, or none.
	commit func([]*write) error
	// separable says whether an error may be that of one write alone.
	separable func(error) bool
	commits   atomic.Int64

	mu     sync.RWMutex // held for reading while sending to writes
	closed bool
	writes chan *write
	done   chan struct{} // closed when all is done, after close
}

func newCommitter(commit func([]*write) error, separable func(error) bool) *committer {
	c := &committer{commit: commit, separable: separable, writes: make(chan *write, maxBatch), done: make(chan struct{})}
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
		return errClosed
	}
	select {
	case c.writes <- w:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close returns when all that was begun is done. It may be called again.
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
}

// gather adds what waits by now.
func (c *committer) gather(first *write) []*write {
	batch := []*write{first}
	for size := first.size(); len(batch) < maxBatch && size < maxBatchBytes; {
		select {
		case w, more := <-c.writes:
			if !more {
				return batch
			}
			batch = append(batch, w)
			size += w.size()
		default:
			return batch
		}
	}
	return batch
}

// settle commits a batch and tells all who wait. One bad write must not fail the
// others, nor what is too much for the disk only together: if need be, each is
// committed by itself.
func (c *committer) settle(batch []*write) {
	c.commits.Add(1)
	err := c.commit(batch)
	if err != nil && len(batch) > 1 && c.separable(err) {
		for _, w := range batch {
			c.settle([]*write{w})
		}
		return
	}
	for _, w := range batch {
		w.result <- err
	}
}
