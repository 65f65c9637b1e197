package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// pendingPage is how many IDs Pending reads at a time.
const pendingPage = 200

// text is what a text column of any database takes. A payload's strings may hold
// NUL, and bytes that are no UTF-8; the delivery itself is kept as bytes.
func text(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\ufffd"), "\ufffd")
}

// queries are what SQLite and Postgres are asked in the same words.
type queries struct{ db *sql.DB }

// pendingIDs pages through what was received before and is not completed, as far
// as a further condition holds, oldest first. It holds nothing while it yields.
func (q queries) pendingIDs(ctx context.Context, before time.Time, condition string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		// Where a page ends. Many deliveries may share a time.
		type position struct {
			receivedAt int64
			id         string
		}
		var last position
		for {
			page, err := query(ctx, q.db, func(rows *sql.Rows, p *position) error { return rows.Scan(&p.receivedAt, &p.id) }, `
				SELECT received_at, id FROM deliveries
				WHERE completed_at IS NULL AND received_at < $1 AND (received_at, id) > ($2, $3) `+condition+`
				ORDER BY received_at, id LIMIT $4`,
				before.UnixNano(), last.receivedAt, last.id, pendingPage)
			if err != nil {
				yield("", err)
				return
			}
			for _, p := range page {
				if !yield(p.id, nil) {
					return
				}
			}
			if len(page) < pendingPage {
				return
			}
			last = page[len(page)-1]
		}
	}
}

// parseDelivery reads the column delivery.
func parseDelivery(id string, data []byte) (*cloudinaryhook.Delivery, error) {
	d := new(cloudinaryhook.Delivery)
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("delivery %s: %w", id, err)
	}
	return d, nil
}

// Images implements DB.
func (q queries) Images(ctx context.Context, albumID string, limit int) ([]Image, error) {
	statement, args := imagesQuery(albumID, limit)
	return query(ctx, q.db, func(rows *sql.Rows, i *Image) error {
		return rows.Scan(&i.Key, &i.DeliveryID, &i.OrganizationID, &i.AlbumID, &i.AssetID, &i.PublicID, &i.Version,
			&i.Format, &i.ResourceType, &i.DeliveryType, &i.OriginalFilename, &i.Width, &i.Height, &i.Bytes, &i.URL, &i.SecureURL)
	}, statement, args...)
}

// imagesQuery makes two queries, since one for both would use no album's index.
func imagesQuery(albumID string, limit int) (statement string, args []any) {
	statement, args = `
		SELECT key, delivery_id, organization_id, album_id, asset_id, public_id, version,
			format, resource_type, type, original_filename, width, height, bytes, url, secure_url
		FROM images `, []any{limit}
	if albumID != "" {
		statement, args = statement+"WHERE album_id = $2 ", append(args, text(albumID))
	}
	return statement + "ORDER BY created_at DESC, key DESC LIMIT $1", args
}

const deliveryColumns = `id, notification_type, public_id, request_id, CASE WHEN completed_at IS NULL THEN 'pending' ELSE 'done' END,
	coalesce(cause, ''), received_at, signed_at, organization_id, album_id, saves`

// scanInto returns where to scan deliveryColumns, and what sets the times then.
func (d *Delivery) scanInto() (fields []any, setTimes func()) {
	var receivedAt, signedAt int64
	fields = []any{&d.ID, &d.Type, &d.PublicID, &d.RequestID, &d.State, &d.Cause, &receivedAt, &signedAt, &d.OrganizationID, &d.AlbumID, &d.Saves}
	return fields, func() {
		d.ReceivedAt, d.SignedAt = time.Unix(0, receivedAt).UTC(), time.Unix(0, signedAt).UTC()
	}
}

// Deliveries implements DB.
func (q queries) Deliveries(ctx context.Context, only Filter, limit int) ([]Delivery, error) {
	return query(ctx, q.db, func(rows *sql.Rows, d *Delivery) error {
		fields, setTimes := d.scanInto()
		defer setTimes()
		return rows.Scan(fields...)
	}, "SELECT "+deliveryColumns+` FROM deliveries
		WHERE ($1 = '' OR album_id = $1) AND ($2 = '' OR notification_type = $2) AND (NOT $3 OR notification_type = '')
		ORDER BY received_at DESC, id DESC LIMIT $4`, text(only.AlbumID), text(only.Type), only.Untyped, limit)
}

// Delivery implements DB.
func (q queries) Delivery(ctx context.Context, id string) (row Delivery, whole *cloudinaryhook.Delivery, err error) {
	fields, setTimes := row.scanInto()
	var data []byte
	err = q.db.QueryRowContext(ctx, "SELECT "+deliveryColumns+", delivery FROM deliveries WHERE id = $1", text(id)).Scan(append(fields, &data)...)
	if errors.Is(err, sql.ErrNoRows) {
		return row, nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return row, nil, err
	}
	setTimes()
	whole, err = parseDelivery(id, data)
	return row, whole, err
}

// Albums implements DB.
func (q queries) Albums(ctx context.Context) ([]string, error) {
	return query(ctx, q.db, func(rows *sql.Rows, name *string) error { return rows.Scan(name) }, `
		SELECT DISTINCT album_id FROM (SELECT album_id FROM images ORDER BY created_at DESC LIMIT 1000) AS latest ORDER BY 1`)
}

// Types implements DB.
func (q queries) Types(ctx context.Context) ([]string, error) {
	return query(ctx, q.db, func(rows *sql.Rows, name *string) error { return rows.Scan(name) }, `
		SELECT DISTINCT notification_type FROM (SELECT notification_type FROM deliveries ORDER BY received_at DESC LIMIT 1000) AS latest ORDER BY 1`)
}

// Stats implements DB.
func (q queries) Stats(ctx context.Context) (s Stats, err error) {
	err = q.db.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM deliveries),
			(SELECT count(*) FROM deliveries WHERE completed_at IS NULL),
			(SELECT count(*) FROM deliveries WHERE completed_at IS NOT NULL AND cause IS NOT NULL),
			(SELECT count(*) FROM images)`).Scan(&s.Deliveries, &s.Pending, &s.Rejected, &s.Images)
	return s, err
}

// query collects rows, never nil, so that JSON says [] and not null.
func query[T any](ctx context.Context, db *sql.DB, scan func(*sql.Rows, *T) error, statement string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		var row T
		if err := scan(rows, &row); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}
