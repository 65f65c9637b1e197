package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

const (
	pendingPage = 200 // how many IDs Pending reads at a time
	prunePage   = 200 // how many deliveries Prune deletes in one transaction

	// leaseTime is longer than the work on a delivery may take by default:
	// Processor.Timeout is 15 s, and Complete has another 3 s.
	leaseTime      = 30 * time.Second
	releaseTimeout = 3 * time.Second
)

// Pending lists the deliveries that are not completed and were received earlier
// than the given time, oldest first. Give it to
// [cloudinaryhook.Processor.Resume]. It reads page by page, and holds neither a
// lock nor a connection while it yields.
//
// If Pending cannot read a delivery, it yields an error that names the ID, and
// goes on with the others. If it cannot read the list, or cannot lease a
// delivery, it yields an error and ends.
//
// On Postgres, processes that resume at the same time share the work: Pending
// leases each delivery for the time of [Lease], and then yields it. The lease ends
// when the loop asks for the next delivery, or is left. If the process dies, the
// delivery is listed again when that time is over. Work that takes longer than
// the lease may be done twice.
func (s *Store) Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
	return func(yield func(*cloudinaryhook.Delivery, error) bool) {
		last := position{receivedAt: math.MinInt64}
		for {
			page, err := s.pendingPage(ctx, before, last)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, last = range page {
				if !s.yieldPending(ctx, last.id, yield) {
					return
				}
			}
			if len(page) < pendingPage {
				return
			}
		}
	}
}

// databaseNow is the database's clock, so that all processes agree on leases.
const databaseNow = "CAST(extract(epoch FROM clock_timestamp()) * 1e9 AS BIGINT)"

// A position is where a page ends. Many deliveries may share a time, so it needs
// the ID too.
type position struct {
	receivedAt int64
	id         string
}

// pendingPage returns the next deliveries that are pending and not leased.
func (s *Store) pendingPage(ctx context.Context, before time.Time, after position) ([]position, error) {
	return query(ctx, s.db, func(rows *sql.Rows, p *position) error { return rows.Scan(&p.receivedAt, &p.id) },
		s.pendingQuery(), unixNano(before), after.receivedAt, after.id, pendingPage)
}

// unixNano returns the nearest time that a column can hold. The columns hold
// the years 1677 to 2262.
func unixNano(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func (s *Store) pendingQuery() string {
	free := ""
	if s.dialect == Postgres {
		free = "AND (leased_until IS NULL OR leased_until <= " + databaseNow + ")"
	}
	return s.sql(`
		SELECT received_at, id FROM cloudinary_deliveries
		WHERE completed_at IS NULL AND received_at < $1 AND (received_at, id) > ($2, $3) ` + free + `
		ORDER BY received_at, id LIMIT $4`)
}

// yieldPending yields a delivery, unless somebody has completed or leased it
// meanwhile.
func (s *Store) yieldPending(ctx context.Context, id string, yield func(*cloudinaryhook.Delivery, error) bool) (more bool) {
	if s.dialect == Postgres {
		until, err := s.lease(ctx, id)
		if errors.Is(err, sql.ErrNoRows) {
			return true
		}
		if err != nil {
			yield(nil, fmt.Errorf("delivery %s: %w", id, err))
			return false
		}
		defer s.release(ctx, id, until)
	}
	var data []byte
	err := s.db.QueryRowContext(ctx, s.sql("SELECT delivery FROM cloudinary_deliveries WHERE id = $1 AND completed_at IS NULL"), id).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return true
	}
	d := new(cloudinaryhook.Delivery)
	if err == nil {
		err = json.Unmarshal(data, d)
	}
	if err != nil {
		return yield(nil, fmt.Errorf("delivery %s: %w", id, err)) && ctx.Err() == nil
	}
	return yield(d, nil)
}

// lease is one committed UPDATE, so no row is locked during the work. It treats
// a row that somebody has locked as leased.
func (s *Store) lease(ctx context.Context, id string) (int64, error) {
	var until int64
	err := s.do(ctx, func(ctx context.Context, tx *sql.Tx, _ *totals) error {
		return tx.QueryRowContext(ctx, s.sql(`
			UPDATE cloudinary_deliveries SET leased_until = `+databaseNow+` + $2
			WHERE id = (SELECT id FROM cloudinary_deliveries WHERE id = $1 AND completed_at IS NULL
				AND (leased_until IS NULL OR leased_until <= `+databaseNow+`) FOR UPDATE SKIP LOCKED)
			RETURNING leased_until`), id, s.leaseTime.Nanoseconds()).Scan(&until)
	})
	if err != nil {
		return 0, err // if ctx has ended, the committer may still write to until
	}
	return until, nil
}

// release ends a lease early, so that a delivery whose work failed, or which is
// reopened, can be listed at once. If the lease ran out and another process has
// leased the delivery, release changes nothing. If release fails, the lease
// runs out by itself.
func (s *Store) release(ctx context.Context, id string, until int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_ = s.do(ctx, func(ctx context.Context, tx *sql.Tx, _ *totals) error {
		_, err := tx.ExecContext(ctx, s.sql(`
			UPDATE cloudinary_deliveries SET leased_until = NULL
			WHERE id = (SELECT id FROM cloudinary_deliveries WHERE id = $1 AND leased_until = $2 FOR UPDATE SKIP LOCKED)`),
			id, until)
		return err
	})
}

// Prune deletes the deliveries that were completed earlier than the given time,
// also the rejected ones, and returns their number. It deletes a few at a time,
// so that no notification waits long. If it fails, pruned is the number that it
// deleted before.
//
// If a notification comes again after its delivery was pruned, it is a new
// delivery. So let before be at least MaxAge plus MaxSkew ago: a copy of the
// notification is then too old to be accepted. By default that is 2 hours and 5
// minutes for a webhook, and 7 days and 5 minutes if you poll.
func (s *Store) Prune(ctx context.Context, before time.Time) (pruned int64, err error) {
	for {
		var n int64
		err := s.do(ctx, func(ctx context.Context, tx *sql.Tx, changed *totals) (err error) {
			n, err = s.prunePage(ctx, tx, before, changed)
			return err
		})
		if err != nil {
			return pruned, err
		}
		pruned += n
		if n < prunePage {
			return pruned, s.recount(ctx)
		}
	}
}

func (s *Store) prunePage(ctx context.Context, tx *sql.Tx, before time.Time, changed *totals) (int64, error) {
	rejected, err := query(ctx, tx, func(rows *sql.Rows, rejected *bool) error { return rows.Scan(rejected) },
		s.pruneQuery(), unixNano(before), prunePage)
	for _, one := range rejected {
		if one {
			changed.Rejected--
		}
	}
	changed.Deliveries -= int64(len(rejected))
	return int64(len(rejected)), err
}

func (s *Store) pruneQuery() string {
	return s.sql(`
		DELETE FROM cloudinary_deliveries WHERE id IN (
			SELECT id FROM cloudinary_deliveries WHERE completed_at < $1 ORDER BY completed_at LIMIT $2 ` + s.dialect.skipLocked() + `)
		RETURNING cause IS NOT NULL`)
}

// A Rejection is a delivery that was completed with a cause.
type Rejection struct {
	ID             string
	Type           cloudinaryhook.NotificationType
	PublicID       string
	RequestID      string // Cloudinary's support asks for it
	OrganizationID string
	AlbumID        string
	Cause          string
	ReceivedAt     time.Time
	RejectedAt     time.Time
}

// Rejected lists the deliveries that were rejected last, newest first, at most
// limit. The texts of a Rejection have at most 1,000 bytes, except Cause.
func (s *Store) Rejected(ctx context.Context, limit int) ([]Rejection, error) {
	return query(ctx, s.db, func(rows *sql.Rows, r *Rejection) error {
		var received, rejected int64
		err := rows.Scan(&r.ID, &r.Type, &r.PublicID, &r.RequestID, &r.OrganizationID, &r.AlbumID, &r.Cause, &received, &rejected)
		r.ReceivedAt, r.RejectedAt = time.Unix(0, received).UTC(), time.Unix(0, rejected).UTC()
		return err
	}, s.rejectedQuery(), limit)
}

func (s *Store) rejectedQuery() string {
	return s.sql(`
		SELECT id, notification_type, public_id, request_id, organization_id, album_id, cause, received_at, completed_at
		FROM cloudinary_deliveries WHERE cause IS NOT NULL ORDER BY completed_at DESC, id DESC LIMIT $1`)
}

// Reopen makes a rejected delivery pending again, so that it is resumed. If no
// rejected delivery has that ID, the error wraps [ErrNotFound]. If the delivery
// is older than the Processor's GiveUpAfter, it gets one more try: if that
// fails, it is rejected again.
func (s *Store) Reopen(ctx context.Context, id string) error {
	return s.do(ctx, func(ctx context.Context, tx *sql.Tx, changed *totals) error {
		result, err := tx.ExecContext(ctx, s.sql("UPDATE cloudinary_deliveries SET completed_at = NULL, cause = NULL WHERE id = $1 AND cause IS NOT NULL"), id)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err == nil && n == 0 {
			err = fmt.Errorf("%w that was rejected: %s", ErrNotFound, id)
		}
		changed.add(totals{Pending: n, Rejected: -n})
		return err
	})
}

// A querier is a pool, a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// query runs a statement and collects its rows.
func query[T any](ctx context.Context, db querier, scan func(*sql.Rows, *T) error, statement string, args ...any) (all []T, err error) {
	rows, err := db.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var row T
		if err := scan(rows, &row); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}
