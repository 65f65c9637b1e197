// Package database keeps the deliveries and images of the example apps.
package database

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// ErrNotFound is wrapped by the error about a delivery that is not there.
var ErrNotFound = errors.New("no such delivery")

// A DB keeps deliveries and images. Lists are newest first.
type DB interface {
	cloudinaryhook.Store
	cloudinaryhook.ImageCreator

	// Pending lists what was received before and is not completed, oldest
	// first. It holds neither lock nor cursor while it yields.
	Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error]

	// Images lists those of an album, or of all if albumID is empty.
	Images(ctx context.Context, albumID string, limit int) ([]Image, error)

	// Deliveries lists those that a filter leaves.
	Deliveries(ctx context.Context, only Filter, limit int) ([]Delivery, error)

	// Delivery is one of them, whole; ErrNotFound if there is none.
	Delivery(ctx context.Context, id string) (Delivery, *cloudinaryhook.Delivery, error)

	// Albums lists those of the last thousand images, to filter by.
	Albums(ctx context.Context) ([]string, error)

	// Types lists those of the last thousand deliveries, to filter by; "" if there
	// is one without.
	Types(ctx context.Context) ([]string, error)

	// Stats counts what there is.
	Stats(ctx context.Context) (Stats, error)

	// Prune forgets deliveries that were completed before, and says how many.
	Prune(ctx context.Context, before time.Time) (int64, error)

	// Close ends the connections; nothing works afterwards.
	Close() error
}

// Open opens the Postgres database of a URL that begins with postgres:// or
// postgresql://, or else the SQLite database in a file. No error holds the URL.
func Open(ctx context.Context, name string) (DB, error) {
	scheme, _, isURL := strings.Cut(name, "://")
	switch {
	case isURL && (scheme == "postgres" || scheme == "postgresql"):
		db, err := OpenPostgres(ctx, name)
		if err != nil {
			return nil, err
		}
		return db, nil
	case isURL:
		return nil, errors.New("opening the database: a URL begins with postgres:// or postgresql://")
	}
	db, err := OpenSQLite(ctx, name)
	if err != nil {
		return nil, err
	}
	return db, nil
}

// An Image is a row of an album. Fields are named as in Cloudinary's bodies.
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
}

// newImage is the row of an image that Cloudinary announced.
func newImage(img *cloudinaryhook.Image) Image {
	return Image{
		Key: img.Key, DeliveryID: img.Delivery.ID,
		OrganizationID: text(img.Claims.OrganizationID), AlbumID: text(img.Claims.AlbumID),
		AssetID: text(img.AssetID), PublicID: text(img.PublicID), Version: img.Version, Format: text(img.Format),
		ResourceType: text(img.ResourceType), DeliveryType: text(img.DeliveryType), OriginalFilename: text(img.OriginalFilename),
		Width: img.Width, Height: img.Height, Bytes: img.Bytes, URL: text(img.URL), SecureURL: text(img.SecureURL),
	}
}

// maxSource is the longest URL, in bytes, that a page may have to hold.
const maxSource = 2000

// Source is where a browser may load the image from, or "". The URL is a
// payload's, so nothing but another host over http or https is let through. It
// is not rewritten to ask for a smaller image: an account may refuse that.
func (i Image) Source() string {
	for _, source := range []string{i.SecureURL, i.URL} {
		u, err := url.Parse(source)
		if err == nil && len(source) <= maxSource && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
			return source
		}
	}
	return ""
}

// A Filter leaves out what is not of an album or a type; empty: any.
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
	Saves          int64     `json:"saves"` // how often it was received and saved
}

// Stats are counts of rows. Rejected deliveries are completed ones.
type Stats struct {
	Deliveries int64 `json:"deliveries"`
	Pending    int64 `json:"pending"`
	Rejected   int64 `json:"rejected"`
	Images     int64 `json:"images"`
}
