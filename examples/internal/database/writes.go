package database

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// maxAlbumID is in bytes; an index of Postgres holds no more than 2,700.
const maxAlbumID = 1000

var errAlbum = fmt.Errorf("the token names no album, or one of more than %d bytes", maxAlbumID)

// writes are what SQLite and Postgres are told in the same words, each in one
// statement.
type writes struct{ committer *committer }

// Save implements cloudinaryhook.Store. Of concurrent inserts one makes the row;
// the others wait for it, count themselves in it and see its state. So nobody
// can miss a row that another has just committed, as with DO NOTHING and a
// SELECT in Postgres, or one that Prune is about to delete.
func (w writes) Save(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	args, err := deliveryArgs(d)
	if err != nil {
		return 0, err
	}
	var saves int64
	var done bool
	err = w.committer.do(ctx, &write{statement: `
		INSERT INTO deliveries (id, delivery, notification_type, public_id, request_id, organization_id, album_id, received_at, signed_at, saves)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1)
		ON CONFLICT (id) DO UPDATE SET saves = deliveries.saves + 1
		RETURNING saves, completed_at IS NOT NULL`, args: args, dest: []any{&saves, &done}})
	switch {
	case err != nil:
		return 0, err // whatever was read, it is not durable
	case saves == 1:
		return cloudinaryhook.StateNew, nil
	case done:
		return cloudinaryhook.StateDone, nil
	}
	return cloudinaryhook.StatePending, nil
}

func deliveryArgs(d *cloudinaryhook.Delivery) ([]any, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	requestID := d.RequestID // what support at Cloudinary would ask for
	if requestID == "" && d.Error != nil {
		requestID = d.Error.RequestID
	}
	return []any{d.ID, data, text(string(d.Type)), text(d.PublicID), text(requestID), text(d.Claims.OrganizationID),
		text(d.Claims.AlbumID), d.ReceivedAt.UnixNano(), d.SignedAt.UnixNano()}, nil
}

// Complete implements cloudinaryhook.Store. Of two causes the first is kept.
func (w writes) Complete(ctx context.Context, id string, cause error) error {
	var because *string
	if cause != nil {
		s := text(cause.Error())
		because = &s
	}
	completed, err := w.exec(ctx, `
		UPDATE deliveries SET completed_at = coalesce(completed_at, $2), cause = CASE WHEN completed_at IS NULL THEN $3 ELSE cause END
		WHERE id = $1`, id, time.Now().UnixNano(), because)
	if err == nil && completed == 0 {
		err = fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return err
}

// CreateImage implements cloudinaryhook.ImageCreator. An image without an album
// that can be looked for has no place here, and trying again would not give it one.
func (w writes) CreateImage(ctx context.Context, announced *cloudinaryhook.Image) error {
	if n := len(announced.Claims.AlbumID); n == 0 || n > maxAlbumID {
		return cloudinaryhook.Permanent(errAlbum)
	}
	i := newImage(announced)
	_, err := w.exec(ctx, `
		INSERT INTO images (key, delivery_id, organization_id, album_id, asset_id, public_id, version, format,
			resource_type, type, original_filename, width, height, bytes, url, secure_url, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) ON CONFLICT (key) DO NOTHING`,
		i.Key, i.DeliveryID, i.OrganizationID, i.AlbumID, i.AssetID, i.PublicID, i.Version, i.Format,
		i.ResourceType, i.DeliveryType, i.OriginalFilename, i.Width, i.Height, i.Bytes, i.URL, i.SecureURL, time.Now().UnixNano())
	return err
}

// Prune implements DB. It deletes a little at a time, so that no notification
// waits long.
func (w writes) Prune(ctx context.Context, before time.Time) (pruned int64, err error) {
	for {
		n, err := w.exec(ctx, `
			DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE completed_at < $1 LIMIT 500)`, before.UnixNano())
		if err != nil || n == 0 {
			return pruned, err
		}
		pruned += n
	}
}

func (w writes) exec(ctx context.Context, statement string, args ...any) (affected int64, err error) {
	one := &write{statement: statement, args: args}
	if err := w.committer.do(ctx, one); err != nil {
		return 0, err
	}
	return one.affected, nil
}
