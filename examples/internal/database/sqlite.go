package database

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"time"

	_ "modernc.org/sqlite"

	"github.com/cloudinaryhook/cloudinaryhook"
)

//go:embed migrations/sqlite/*.sql
var migrations embed.FS

// pendingPage is how many IDs Pending reads at a time.
const pendingPage = 200

var errNoAlbum = errors.New("the token names no album")

// SQLite is a DB in one file.
type SQLite struct {
	// SQLite has one writer at a time. One connection queues writers here, in
	// order and without "database is locked"; readers have others.
	write, read *sql.DB
}

// OpenSQLite opens the file, or creates it, and brings its schema up to date.
func OpenSQLite(ctx context.Context, path string) (*SQLite, error) {
	// synchronous=FULL syncs the write-ahead log at each commit: what was
	// answered 201 survives the loss of power.
	const pragmas = "?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
	name := "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path) + pragmas
	write, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, err
	}
	read, err := sql.Open("sqlite", name+"&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	write.SetMaxOpenConns(1)
	read.SetMaxOpenConns(8)
	db := &SQLite{write, read}
	if err := db.migrate(ctx); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

// Close implements DB.
func (db *SQLite) Close() error { return errors.Join(db.read.Close(), db.write.Close()) }

// migrate runs the migrations that the file has not seen, in one transaction;
// user_version counts them.
func (db *SQLite) migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/sqlite/*.sql") // sorted
	if err != nil {
		return err
	}
	return db.inTx(ctx, func(tx *sql.Tx) error { return runMigrations(ctx, tx, files) })
}

func runMigrations(ctx context.Context, tx *sql.Tx, files []string) error {
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(files) {
		return fmt.Errorf("its schema, version %d, is newer than this program", version)
	}
	for _, file := range files[version:] {
		statements, err := fs.ReadFile(migrations, file)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(statements)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(files)))
	return err
}

// inTx runs f in one transaction of the writer: all of it is durable, or none.
func (db *SQLite) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit, nothing
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Save implements cloudinaryhook.Store. The insert decides who is told that the
// delivery is new; the state of one that is not is read in the same transaction,
// before Prune could delete it.
func (db *SQLite) Save(ctx context.Context, d *cloudinaryhook.Delivery) (state cloudinaryhook.State, err error) {
	data, err := json.Marshal(d)
	if err != nil {
		return 0, err
	}
	err = db.inTx(ctx, func(tx *sql.Tx) (err error) {
		state, err = save(ctx, tx, d, data)
		return err
	})
	if err != nil {
		return 0, err // whatever was read, it is not durable
	}
	return state, nil
}

func save(ctx context.Context, tx *sql.Tx, d *cloudinaryhook.Delivery, data []byte) (cloudinaryhook.State, error) {
	result, err := tx.ExecContext(ctx, `
		INSERT INTO deliveries (id, delivery, notification_type, public_id, request_id, organization_id, album_id, received_at, signed_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		d.ID, data, string(d.Type), d.PublicID, requestID(d), d.Claims.OrganizationID, d.Claims.AlbumID,
		d.ReceivedAt.UnixNano(), d.SignedAt.UnixNano())
	if err != nil {
		return 0, err
	}
	if inserted, err := result.RowsAffected(); err != nil || inserted == 1 {
		return cloudinaryhook.StateNew, err
	}
	var done bool
	err = tx.QueryRowContext(ctx, "SELECT completed_at IS NOT NULL FROM deliveries WHERE id = ?", d.ID).Scan(&done)
	switch {
	case err != nil:
		return 0, err
	case done:
		return cloudinaryhook.StateDone, nil
	}
	return cloudinaryhook.StatePending, nil
}

// requestID is what support at Cloudinary would ask for.
func requestID(d *cloudinaryhook.Delivery) string {
	if d.RequestID == "" && d.Error != nil {
		return d.Error.RequestID
	}
	return d.RequestID
}

// Complete implements cloudinaryhook.Store. Of two causes the first is kept.
func (db *SQLite) Complete(ctx context.Context, id string, cause error) error {
	var text sql.NullString
	if cause != nil {
		text = sql.NullString{String: cause.Error(), Valid: true}
	}
	result, err := db.write.ExecContext(ctx,
		"UPDATE deliveries SET completed_at = ?, cause = ? WHERE id = ? AND completed_at IS NULL",
		time.Now().UnixNano(), text, id)
	if err != nil {
		return err
	}
	if updated, err := result.RowsAffected(); err != nil || updated == 1 {
		return err
	}
	var known int
	err = db.read.QueryRowContext(ctx, "SELECT 1 FROM deliveries WHERE id = ?", id).Scan(&known)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return err
}

// CreateImage implements cloudinaryhook.ImageCreator. An image without an album
// has no place here, and trying again would not give it one.
func (db *SQLite) CreateImage(ctx context.Context, announced *cloudinaryhook.Image) error {
	if announced.Claims.AlbumID == "" {
		return cloudinaryhook.Permanent(errNoAlbum)
	}
	img := newImage(announced)
	_, err := db.write.ExecContext(ctx, `
		INSERT INTO images (key, delivery_id, organization_id, album_id, asset_id, public_id, version, format,
			resource_type, type, original_filename, width, height, bytes, url, secure_url, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING`,
		img.Key, img.DeliveryID, img.OrganizationID, img.AlbumID, img.AssetID, img.PublicID, img.Version, img.Format,
		img.ResourceType, img.DeliveryType, img.OriginalFilename, img.Width, img.Height, img.Bytes, img.URL, img.SecureURL,
		time.Now().UnixNano())
	return err
}

// Pending implements DB. It reads a page of IDs at a time, and then each
// delivery by itself: bodies may be large.
func (db *SQLite) Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
	return func(yield func(*cloudinaryhook.Delivery, error) bool) {
		var last position
		for {
			page, err := db.pendingAfter(ctx, last, before)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, p := range page {
				d, err := db.pendingDelivery(ctx, p.id)
				if errors.Is(err, sql.ErrNoRows) {
					continue // completed since
				}
				if !yield(d, err) {
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

// A position is where a page ends. Many deliveries may share a time.
type position struct {
	receivedAt int64
	id         string
}

func (db *SQLite) pendingAfter(ctx context.Context, last position, before time.Time) ([]position, error) {
	return query(ctx, db.read, func(rows *sql.Rows, p *position) error { return rows.Scan(&p.receivedAt, &p.id) }, `
		SELECT received_at, id FROM deliveries
		WHERE completed_at IS NULL AND received_at < ? AND (received_at, id) > (?, ?)
		ORDER BY received_at, id LIMIT ?`,
		before.UnixNano(), last.receivedAt, last.id, pendingPage)
}

func (db *SQLite) pendingDelivery(ctx context.Context, id string) (*cloudinaryhook.Delivery, error) {
	var data []byte
	err := db.read.QueryRowContext(ctx, "SELECT delivery FROM deliveries WHERE id = ? AND completed_at IS NULL", id).Scan(&data)
	if err != nil {
		return nil, err
	}
	d := new(cloudinaryhook.Delivery)
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("delivery %s: %w", id, err)
	}
	return d, nil
}

// Images implements DB.
func (db *SQLite) Images(ctx context.Context, albumID string, limit int) ([]Image, error) {
	text, args := imagesQuery(albumID, limit)
	return query(ctx, db.read, func(rows *sql.Rows, i *Image) error {
		return rows.Scan(&i.Key, &i.DeliveryID, &i.OrganizationID, &i.AlbumID, &i.AssetID, &i.PublicID, &i.Version,
			&i.Format, &i.ResourceType, &i.DeliveryType, &i.OriginalFilename, &i.Width, &i.Height, &i.Bytes, &i.URL, &i.SecureURL)
	}, text, args...)
}

// imagesQuery makes two queries, since one for both would use no album's index.
func imagesQuery(albumID string, limit int) (text string, args []any) {
	text = `
		SELECT key, delivery_id, organization_id, album_id, asset_id, public_id, version,
			format, resource_type, type, original_filename, width, height, bytes, url, secure_url
		FROM images `
	if albumID != "" {
		text, args = text+"WHERE album_id = ? ", append(args, albumID)
	}
	return text + "ORDER BY created_at DESC, key DESC LIMIT ?", append(args, limit)
}

const deliveryColumns = `id, notification_type, public_id, request_id, iif(completed_at IS NULL, 'pending', 'done'),
	ifnull(cause, ''), received_at, signed_at, organization_id, album_id`

// scanInto returns where to scan deliveryColumns, and what sets the times then.
func (d *Delivery) scanInto() (fields []any, setTimes func()) {
	var receivedAt, signedAt int64
	fields = []any{&d.ID, &d.Type, &d.PublicID, &d.RequestID, &d.State, &d.Cause, &receivedAt, &signedAt, &d.OrganizationID, &d.AlbumID}
	return fields, func() {
		d.ReceivedAt, d.SignedAt = time.Unix(0, receivedAt).UTC(), time.Unix(0, signedAt).UTC()
	}
}

// Deliveries implements DB.
func (db *SQLite) Deliveries(ctx context.Context, only Filter, limit int) ([]Delivery, error) {
	return query(ctx, db.read, func(rows *sql.Rows, d *Delivery) error {
		fields, setTimes := d.scanInto()
		defer setTimes()
		return rows.Scan(fields...)
	}, "SELECT "+deliveryColumns+` FROM deliveries
		WHERE (? = '' OR album_id = ?) AND (? = '' OR notification_type = ?)
		ORDER BY received_at DESC, id DESC LIMIT ?`, only.AlbumID, only.AlbumID, only.Type, only.Type, limit)
}

// Delivery implements DB.
func (db *SQLite) Delivery(ctx context.Context, id string) (row Delivery, whole *cloudinaryhook.Delivery, err error) {
	fields, setTimes := row.scanInto()
	var data []byte
	err = db.read.QueryRowContext(ctx, "SELECT "+deliveryColumns+", delivery FROM deliveries WHERE id = ?", id).Scan(append(fields, &data)...)
	if errors.Is(err, sql.ErrNoRows) {
		return row, nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return row, nil, err
	}
	setTimes()
	whole = new(cloudinaryhook.Delivery)
	return row, whole, json.Unmarshal(data, whole)
}

// Albums implements DB.
func (db *SQLite) Albums(ctx context.Context) ([]string, error) {
	return query(ctx, db.read, func(rows *sql.Rows, name *string) error { return rows.Scan(name) },
		"SELECT DISTINCT album_id FROM (SELECT album_id FROM images ORDER BY created_at DESC LIMIT 1000) ORDER BY 1")
}

// Types implements DB.
func (db *SQLite) Types(ctx context.Context) ([]string, error) {
	return query(ctx, db.read, func(rows *sql.Rows, name *string) error { return rows.Scan(name) },
		"SELECT DISTINCT notification_type FROM (SELECT notification_type FROM deliveries ORDER BY received_at DESC LIMIT 1000) WHERE notification_type <> '' ORDER BY 1")
}

// Stats implements DB.
func (db *SQLite) Stats(ctx context.Context) (s Stats, err error) {
	err = db.read.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM deliveries),
			(SELECT count(*) FROM deliveries WHERE completed_at IS NULL),
			(SELECT count(*) FROM deliveries WHERE completed_at IS NOT NULL AND cause IS NOT NULL),
			(SELECT count(*) FROM images)`).Scan(&s.Deliveries, &s.Pending, &s.Rejected, &s.Images)
	return s, err
}

// Prune implements DB. It deletes a little at a time, so that no
// notification waits long for the writer.
func (db *SQLite) Prune(ctx context.Context, before time.Time) (pruned int64, err error) {
	for {
		result, err := db.write.ExecContext(ctx, `
			DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE completed_at < ? LIMIT 500)`, before.UnixNano())
		if err != nil {
			return pruned, err
		}
		n, err := result.RowsAffected()
		if err != nil || n == 0 {
			return pruned, err
		}
		pruned += n
	}
}

// query collects rows, never nil, so that JSON says [] and not null.
func query[T any](ctx context.Context, db *sql.DB, scan func(*sql.Rows, *T) error, text string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, text, args...)
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
