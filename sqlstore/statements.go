package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// A saving is a delivery to save. Its state is set by saveAll.
type saving struct {
	id      string
	columns []any
	state   cloudinaryhook.State
}

// A completion is a delivery to be completed.
type completion struct {
	id       string
	at       time.Time
	rejected bool
	cause    string
	unknown  bool // set if there is no such delivery
}

const saveColumns = "id, delivery, notification_type, public_id, request_id, organization_id, album_id, received_at, signed_at"

// saveAll saves deliveries in one statement, sorted by ID. Without the order,
// two processes that save the same deliveries could wait for each other in a
// circle. The completions that follow may still cause such a deadlock: then
// Postgres fails one of the batches, and its writes are tried again one by one.
// A statement cannot touch a row twice, so a delivery that is in the batch
// twice needs a second statement.
//
// If several transactions insert the same delivery at once, one of them makes
// the row. The others wait for it, add to its count and read its state. With DO
// NOTHING and a SELECT, Postgres would not show them a row that another
// transaction has just committed, or they could read a row that Prune is about
// to delete.
func (s *Store) saveAll(ctx context.Context, tx *sql.Tx, all []*saving, changed *totals) error {
	for len(all) > 0 {
		byID := make(map[string]*saving, len(all))
		var repeated []*saving
		for _, one := range all {
			if byID[one.id] != nil {
				repeated = append(repeated, one)
			} else {
				byID[one.id] = one
			}
		}
		if err := s.saveOnce(ctx, tx, byID, changed); err != nil {
			return err
		}
		all = repeated
	}
	return nil
}

func (s *Store) saveOnce(ctx context.Context, tx *sql.Tx, byID map[string]*saving, changed *totals) error {
	ids := slices.Sorted(maps.Keys(byID))
	var args []any
	for _, id := range ids {
		args = append(args, byID[id].columns...)
	}
	width := len(args) / len(ids)
	rows, err := tx.QueryContext(ctx, s.sql(`
		INSERT INTO cloudinary_deliveries (`+saveColumns+`)
		VALUES `+placeholders(1, len(ids), width)+`
		ON CONFLICT (id) DO UPDATE SET saves = cloudinary_deliveries.saves + 1,
			resumes = cloudinary_deliveries.resumes + CASE WHEN cloudinary_deliveries.received_at = excluded.received_at THEN 1 ELSE 0 END
		RETURNING id, saves, completed_at IS NOT NULL`), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	returned := 0
	for rows.Next() {
		var id string
		var saves int64
		var done bool
		if err := rows.Scan(&id, &saves, &done); err != nil {
			return err
		}
		one := byID[id]
		if one == nil {
			return errors.New("sqlstore: the database returned an ID that was not saved")
		}
		one.learn(saves, done, changed)
		returned++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if returned != len(ids) {
		return fmt.Errorf("sqlstore: the database saved %d of %d deliveries", returned, len(ids))
	}
	return nil
}

// learn sets the state. saves counts how often the delivery was saved, this
// time included.
func (one *saving) learn(saves int64, done bool, changed *totals) {
	switch {
	case saves == 1:
		one.state = cloudinaryhook.StateNew
		changed.Deliveries++
		changed.Pending++
	case done:
		one.state = cloudinaryhook.StateDone
	default:
		one.state = cloudinaryhook.StatePending
	}
}

// placeholders returns "($3, $4), ($5, $6)" for first 3, two rows and two
// columns.
func placeholders(first, rows, columns int) string {
	var b strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(first + i))
	}
	b.WriteString(")")
	return b.String()
}

// completeAll completes deliveries. Those without a cause share one statement.
func (s *Store) completeAll(ctx context.Context, tx *sql.Tx, all []*completion, changed *totals) error {
	var accepted []*completion
	for _, one := range all {
		if !one.rejected {
			accepted = append(accepted, one)
			continue
		}
		n, err := s.completeSame(ctx, tx, []*completion{one})
		if err != nil {
			return err
		}
		changed.Pending -= n
		changed.Rejected += n
	}
	n, err := s.completeSame(ctx, tx, accepted)
	changed.Pending -= n
	return err
}

// completeSame gives all deliveries the cause of the first one. It returns how
// many of them were pending.
func (s *Store) completeSame(ctx context.Context, tx *sql.Tx, all []*completion) (n int64, err error) {
	if len(all) == 0 {
		return 0, nil
	}
	byID := make(map[string][]*completion, len(all))
	var ids []any
	for _, one := range all {
		if byID[one.id] == nil {
			ids = append(ids, one.id)
		}
		byID[one.id] = append(byID[one.id], one)
		one.unknown = false // an earlier attempt may have set it
	}
	var cause *string
	if all[0].rejected {
		cause = &all[0].cause
	}
	result, err := tx.ExecContext(ctx, s.sql(`
		UPDATE cloudinary_deliveries SET completed_at = $1, cause = $2
		WHERE completed_at IS NULL AND id IN `+placeholders(3, 1, len(ids))), append([]any{all[0].at.UnixNano(), cause}, ids...)...)
	if err != nil {
		return 0, err
	}
	if n, err = result.RowsAffected(); err != nil || n == int64(len(ids)) {
		return n, err
	}
	return n, s.markUnknown(ctx, tx, ids, byID)
}

// markUnknown marks the completions whose delivery does not exist. The others'
// deliveries were completed earlier.
func (s *Store) markUnknown(ctx context.Context, tx *sql.Tx, ids []any, byID map[string][]*completion) error {
	known, err := query(ctx, tx, func(rows *sql.Rows, id *string) error { return rows.Scan(id) },
		s.sql("SELECT id FROM cloudinary_deliveries WHERE id IN "+placeholders(1, 1, len(ids))), ids...)
	if err != nil {
		return err
	}
	for _, id := range ids {
		for _, one := range byID[id.(string)] {
			one.unknown = !slices.Contains(known, one.id)
		}
	}
	return nil
}
