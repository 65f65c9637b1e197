package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

// An Image is an image in an album. The fields have the same names as in
// Cloudinary's bodies.
type Image struct {
	Key              string `json:"key"`
	DeliveryID       string `json:"delivery_id"`
	OrganizationID   string `json:"organization_id"`
	AlbumID          string `json:"album_id"`
	AssetID          string `json:"asset_id"`
	PublicID         string `json:"public_id"`
	Version          int64  `json:"version"`
	Format           string `json:"format"`
	ResourceType     string `json:"resource_type"`
	DeliveryType     string `json:"type"`
	OriginalFilename string `json:"original_filename"`
	Width            int64  `json:"width"`
	Height           int64  `json:"height"`
	Bytes            int64  `json:"bytes"`
	URL              string `json:"url"`
	SecureURL        string `json:"secure_url"`

	CreatedAt time.Time `json:"created_at"`
}

// Position returns the place in the list of images after this one.
func (i Image) Position() Position { return Position{i.CreatedAt.UnixNano(), i.Key} }

// newImage makes a row of an image that Cloudinary announced.
func newImage(img *cloudinaryhook.Image) Image {
	return Image{
		Key: img.Key, DeliveryID: img.Delivery.ID,
		OrganizationID: text(img.Claims.OrganizationID), AlbumID: text(img.Claims.AlbumID),
		AssetID: text(img.AssetID), PublicID: text(img.PublicID), Version: img.Version, Format: text(img.Format),
		ResourceType: text(img.ResourceType), DeliveryType: text(img.DeliveryType), OriginalFilename: text(img.OriginalFilename),
		Width: img.Width, Height: img.Height, Bytes: img.Bytes, URL: text(img.URL), SecureURL: text(img.SecureURL),
	}
}

// maxSource is the longest URL on a page, in bytes.
const maxSource = 2000

// Source returns the URL from which a browser may load the image, or "". The
// URL is from a payload, so Source accepts only http and https URLs with a
// host. It does not ask for a smaller image, because an account may refuse
// that.
func (i Image) Source() string {
	for _, source := range []string{i.SecureURL, i.URL} {
		u, err := url.Parse(source)
		if err == nil && len(source) <= maxSource && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
			return source
		}
	}
	return ""
}

// A Filter selects rows by album and type. An empty field selects all.
type Filter struct {
	AlbumID string
	Type    string
	Untyped bool // only deliveries without a type
}

// A Delivery is a row of the log.
type Delivery struct {
	ID             string    `json:"id"`
	Type           string    `json:"notification_type"`
	PublicID       string    `json:"public_id"`
	RequestID      string    `json:"request_id"`
	State          string    `json:"state"` // "pending" or "done"
	Cause          string    `json:"cause"` // why the app rejected it, if it did
	ReceivedAt     time.Time `json:"received_at"`
	SignedAt       time.Time `json:"signed_at"`
	OrganizationID string    `json:"organization_id"`
	AlbumID        string    `json:"album_id"`
	Saves          int64     `json:"saves"` // how often the delivery was received
}

// Position returns the place in the list of deliveries after this one.
func (d Delivery) Position() Position { return Position{d.ReceivedAt.UnixNano(), d.ID} }

// A Position is a place in a list that is newest first: after the row with this
// time and key. The zero value is before the first row. New rows do not change
// the rows after a position.
type Position struct {
	Time int64 // Unix nanoseconds
	Key  string
}

// String returns a text for ParsePosition.
func (p Position) String() string { return fmt.Sprintf("%d.%s", p.Time, p.Key) }

// ParsePosition reads the text of String. An empty text is the zero value.
func ParsePosition(text string) (Position, error) {
	if text == "" {
		return Position{}, nil
	}
	number, key, ok := strings.Cut(text, ".")
	nanoseconds, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || nanoseconds <= 0 {
		return Position{}, errors.New("the text is not a position in a list")
	}
	return Position{nanoseconds, key}, nil
}

// args returns the arguments for a condition (time, key) < ($1, $2).
func (p Position) args() []any {
	if p == (Position{}) {
		p.Time = math.MaxInt64
	}
	return []any{p.Time, text(p.Key)}
}

// MaxImages is how far Stats counts images. Without a limit, counting would
// take longer with each image.
const MaxImages = 10_000

// Stats are counts of rows. A rejected delivery is a completed one.
type Stats struct {
	Deliveries int64 `json:"deliveries"`
	Pending    int64 `json:"pending"`
	Rejected   int64 `json:"rejected"`
	Images     int64 `json:"images"` // at most MaxImages

	// OldestPending is when the oldest pending delivery was received. It is zero
	// if there is none.
	OldestPending time.Time `json:"-"`
}

// text replaces NUL and invalid UTF-8, which a payload's strings may hold and a
// text column refuses. The delivery itself is kept as bytes.
func text(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\ufffd"), "\ufffd")
}

// Images lists the images of an album, or of all albums if albumID is empty.
func (db *DB) Images(ctx context.Context, albumID string, after Position, limit int) ([]Image, error) {
	statement, args := imagesQuery(albumID, after, limit)
	return query(ctx, db.db, func(rows *sql.Rows, i *Image) error {
		var createdAt int64
		err := rows.Scan(&i.Key, &i.DeliveryID, &i.OrganizationID, &i.AlbumID, &i.AssetID, &i.PublicID, &i.Version,
			&i.Format, &i.ResourceType, &i.DeliveryType, &i.OriginalFilename, &i.Width, &i.Height, &i.Bytes, &i.URL, &i.SecureURL, &createdAt)
		i.CreatedAt = time.Unix(0, createdAt).UTC()
		return err
	}, statement, args...)
}

// imagesQuery returns one of two queries: a single query for both cases would
// not use the index on album_id.
func imagesQuery(albumID string, after Position, limit int) (statement string, args []any) {
	statement, args = `
		SELECT key, delivery_id, organization_id, album_id, asset_id, public_id, version,
			format, resource_type, type, original_filename, width, height, bytes, url, secure_url, created_at
		FROM images WHERE (created_at, key) < ($1, $2) `, append(after.args(), limit)
	if albumID != "" {
		statement, args = statement+"AND album_id = $4 ", append(args, text(albumID))
	}
	return statement + "ORDER BY created_at DESC, key DESC LIMIT $3", args
}

const deliveryColumns = `id, notification_type, public_id, request_id, CASE WHEN completed_at IS NULL THEN 'pending' ELSE 'done' END,
	coalesce(cause, ''), received_at, signed_at, organization_id, album_id, saves - resumes`

// scanInto returns the variables for deliveryColumns, and a function that sets
// the times after the scan.
func (d *Delivery) scanInto() (fields []any, setTimes func()) {
	var receivedAt, signedAt int64
	fields = []any{&d.ID, &d.Type, &d.PublicID, &d.RequestID, &d.State, &d.Cause, &receivedAt, &signedAt, &d.OrganizationID, &d.AlbumID, &d.Saves}
	return fields, func() {
		d.ReceivedAt, d.SignedAt = time.Unix(0, receivedAt).UTC(), time.Unix(0, signedAt).UTC()
	}
}

// Deliveries lists the deliveries that a filter selects.
func (db *DB) Deliveries(ctx context.Context, only Filter, after Position, limit int) ([]Delivery, error) {
	statement, args := deliveriesQuery(only, after, limit)
	return query(ctx, db.db, func(rows *sql.Rows, d *Delivery) error {
		fields, setTimes := d.scanInto()
		defer setTimes()
		return rows.Scan(fields...)
	}, statement, args...)
}

// deliveriesQuery has conditions only for the fields that are set, so that the
// database can use an index.
func deliveriesQuery(only Filter, after Position, limit int) (statement string, args []any) {
	statement, args = "SELECT "+deliveryColumns+" FROM deliveries WHERE (received_at, id) < ($1, $2)", append(after.args(), limit)
	equal := func(column, value string) {
		args = append(args, text(value))
		statement += fmt.Sprintf(" AND %s = $%d", column, len(args))
	}
	if only.AlbumID != "" {
		equal("album_id", only.AlbumID)
	}
	if only.Type != "" || only.Untyped {
		equal("notification_type", only.Type)
	}
	return statement + " ORDER BY received_at DESC, id DESC LIMIT $3", args
}

// Delivery returns one delivery, as a row and as a whole. If it does not exist,
// the error wraps [sqlstore.ErrNotFound].
func (db *DB) Delivery(ctx context.Context, id string) (row Delivery, whole *cloudinaryhook.Delivery, err error) {
	fields, setTimes := row.scanInto()
	var data []byte
	err = db.db.QueryRowContext(ctx, "SELECT "+deliveryColumns+", delivery FROM deliveries WHERE id = $1", text(id)).Scan(append(fields, &data)...)
	if errors.Is(err, sql.ErrNoRows) {
		return row, nil, fmt.Errorf("%w: %s", sqlstore.ErrNotFound, id)
	}
	if err != nil {
		return row, nil, err
	}
	setTimes()
	whole = new(cloudinaryhook.Delivery)
	return row, whole, json.Unmarshal(data, whole)
}

// The database answers each of these from an index alone.
const (
	latestAlbums = "SELECT album_id FROM images ORDER BY created_at DESC, key DESC LIMIT 1000"
	latestTypes  = "SELECT notification_type FROM deliveries ORDER BY received_at DESC, id DESC LIMIT 1000"
	imagesCount  = "SELECT count(*) FROM (SELECT 1 FROM images LIMIT $1) AS counted"
)

// Albums lists the album IDs of the last thousand images, for the filter.
func (db *DB) Albums(ctx context.Context) ([]string, error) {
	return query(ctx, db.db, func(rows *sql.Rows, name *string) error { return rows.Scan(name) },
		"SELECT DISTINCT album_id FROM ("+latestAlbums+") AS latest ORDER BY 1")
}

// Types lists the types of the last thousand deliveries, for the filter. It
// includes "" if one of them has no type.
func (db *DB) Types(ctx context.Context) ([]string, error) {
	return query(ctx, db.db, func(rows *sql.Rows, name *string) error { return rows.Scan(name) },
		"SELECT DISTINCT notification_type FROM ("+latestTypes+") AS latest ORDER BY 1")
}

// Stats returns the counts. It takes the same time however many rows there are.
func (db *DB) Stats(ctx context.Context) (Stats, error) {
	s, err := db.Store.Stats(ctx)
	if err != nil {
		return Stats{}, err
	}
	all := Stats{Deliveries: s.Deliveries, Pending: s.Pending, Rejected: s.Rejected, OldestPending: s.OldestPending}
	err = db.db.QueryRowContext(ctx, imagesCount, MaxImages).Scan(&all.Images)
	return all, err
}

// query collects rows. The result is never nil, so that its JSON is [] and not
// null.
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
