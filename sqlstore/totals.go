package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"time"
)

// Stats are counts of deliveries. A rejected delivery is a completed one with a
// cause.
type Stats struct {
	Deliveries int64
	Pending    int64
	Rejected   int64

	// OldestPending is when the oldest pending delivery was received. It is zero
	// if there is none.
	OldestPending time.Time
}

// Stats returns the store's totals. It does not count rows, so it takes the
// same time however many deliveries there are. If you change rows by hand, the
// totals are wrong until Prune has run.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var all Stats
	var oldest sql.NullInt64
	err := s.db.QueryRowContext(ctx, s.statsQuery()).Scan(&all.Deliveries, &all.Pending, &all.Rejected, &oldest)
	if oldest.Valid {
		all.OldestPending = time.Unix(0, oldest.Int64).UTC()
	}
	return all, err
}

func (s *Store) statsQuery() string {
	return s.sql(`
		SELECT ` + sums + `, (SELECT received_at FROM cloudinary_deliveries WHERE completed_at IS NULL ORDER BY received_at, id LIMIT 1)
		FROM cloudinary_deliveries_totals`)
}

const sums = "CAST(coalesce(sum(deliveries), 0) AS BIGINT), CAST(coalesce(sum(pending), 0) AS BIGINT), CAST(coalesce(sum(rejected), 0) AS BIGINT)"

// totals are changes to the numbers of Stats.
type totals struct{ Deliveries, Pending, Rejected int64 }

func (t *totals) add(u totals) {
	t.Deliveries += u.Deliveries
	t.Pending += u.Pending
	t.Rejected += u.Rejected
}

// keep adds a change to the totals of this connection. If it fails, somebody may
// have locked the connection's row, for example a dead host. So the next try
// takes another row.
func (s *Store) keep(ctx context.Context, tx *sql.Tx, changed totals) error {
	_, err := tx.ExecContext(ctx, s.sql(`
		INSERT INTO cloudinary_deliveries_totals (writer, deliveries, pending, rejected) VALUES ($1, $2, $3, $4)
		ON CONFLICT (writer) DO UPDATE SET deliveries = cloudinary_deliveries_totals.deliveries + excluded.deliveries,
			pending = cloudinary_deliveries_totals.pending + excluded.pending,
			rejected = cloudinary_deliveries_totals.rejected + excluded.rejected`),
		s.conn.writer, changed.Deliveries, changed.Pending, changed.Rejected)
	if err != nil {
		s.conn.writer = rand.Text()
	}
	return err
}

// recount corrects the totals, in case another program has changed rows, and
// merges the rows of past connections into one. Counting takes a while, so it
// runs without a lock. If another process counted at the same time and changed
// recounts first, it has corrected the totals already, and this one does
// nothing.
func (s *Store) recount(ctx context.Context) error {
	var missing totals
	var recounts int64
	err := s.db.QueryRowContext(ctx, s.sql(`
		SELECT (SELECT count(*) FROM cloudinary_deliveries) - CAST(sum(deliveries) AS BIGINT),
			(SELECT count(*) FROM cloudinary_deliveries WHERE completed_at IS NULL) - CAST(sum(pending) AS BIGINT),
			(SELECT count(*) FROM cloudinary_deliveries WHERE cause IS NOT NULL) - CAST(sum(rejected) AS BIGINT),
			max(recounts)
		FROM cloudinary_deliveries_totals`)).Scan(&missing.Deliveries, &missing.Pending, &missing.Rejected, &recounts)
	if err != nil {
		return err
	}
	return s.do(ctx, func(ctx context.Context, tx *sql.Tx, changed *totals) error {
		result, err := tx.ExecContext(ctx, s.sql("UPDATE cloudinary_deliveries_totals SET recounts = recounts + 1 WHERE writer = '' AND recounts = $1"), recounts)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		changed.add(missing)
		return s.foldTotals(ctx, tx, changed)
	})
}

// foldTotals moves the totals of other connections into this one's row. Most of
// those connections are gone. A connection that is still in use makes a new
// row.
func (s *Store) foldTotals(ctx context.Context, tx *sql.Tx, changed *totals) error {
	rows, err := query(ctx, tx, func(rows *sql.Rows, t *totals) error { return rows.Scan(&t.Deliveries, &t.Pending, &t.Rejected) }, s.sql(`
		DELETE FROM cloudinary_deliveries_totals WHERE writer IN (
			SELECT writer FROM cloudinary_deliveries_totals WHERE writer <> $1 AND writer <> '' `+s.dialect.skipLocked()+`)
		RETURNING deliveries, pending, rejected`), s.conn.writer)
	for _, row := range rows {
		changed.add(row)
	}
	return err
}
