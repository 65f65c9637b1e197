package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

const (
	pageImages = 200
	pageLog    = 60
	pageName   = 256 // bytes of a name that can be filtered by
)

// pageData is what templates/page.html shows.
type pageData struct {
	Now        time.Time
	Only       database.Filter
	AlbumNames []string
	TypeNames  []string
	Stats      database.Stats
	Albums     []album
	Newest     int // how many images are shown, if there may be more; else 0
	Deliveries []logEntry
	Failures   []failure
	Hour       hourDrawing
}

// Filtrable says whether there is anything to choose between.
func (p pageData) Filtrable() bool {
	return len(p.AlbumNames)+len(p.TypeNames) > 0 || p.Only != database.Filter{}
}

// An album is a section of the page.
type album struct {
	OrganizationID, AlbumID string
	Images                  []database.Image
}

// Key tells albums apart: two organizations may have one of the same name.
func (a album) Key() string { return fmt.Sprintf("%q %q", a.OrganizationID, a.AlbumID) }

func (s *web) servePage(w http.ResponseWriter, r *http.Request) {
	data, err := s.pageData(r.Context(), database.Filter{AlbumID: r.URL.Query().Get("album_id"), Type: r.URL.Query().Get("type")})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, "page.html", data)
}

func (s *web) pageData(ctx context.Context, only database.Filter) (data pageData, err error) {
	data.Now, data.Only = time.Now().UTC(), only
	data.Failures, data.Hour = s.monitor.failures(), drawHour(s.monitor.lastHour())
	if data.Stats, err = s.db.Stats(ctx); err != nil {
		return data, err
	}
	if data.AlbumNames, err = s.db.Albums(ctx); err != nil {
		return data, err
	}
	if data.TypeNames, err = s.db.Types(ctx); err != nil {
		return data, err
	}
	tooLong := func(name string) bool { return len(name) > pageName } // each would be in the page whole
	data.AlbumNames = slices.DeleteFunc(data.AlbumNames, tooLong)
	data.TypeNames = slices.DeleteFunc(data.TypeNames, tooLong)
	images, err := s.db.Images(ctx, only.AlbumID, pageImages)
	if err != nil {
		return data, err
	}
	data.Albums = byAlbum(images)
	if len(images) == pageImages {
		data.Newest = pageImages
	}
	deliveries, err := s.db.Deliveries(ctx, only, pageLog)
	for _, d := range deliveries {
		data.Deliveries = append(data.Deliveries, s.logEntry(d, data.Now))
	}
	return data, err
}

// byAlbum sorts albums by name, and not by their newest image: they would change
// places under the eyes of who looks at them. Images keep their order.
func byAlbum(images []database.Image) []album {
	index := make(map[string]int)
	var albums []album
	for _, img := range images {
		a := album{OrganizationID: img.OrganizationID, AlbumID: img.AlbumID}
		i, ok := index[a.Key()]
		if !ok {
			i = len(albums)
			index[a.Key()] = i
			albums = append(albums, a)
		}
		albums[i].Images = append(albums[i].Images, img)
	}
	slices.SortFunc(albums, func(a, b album) int {
		return cmp.Or(cmp.Compare(a.OrganizationID, b.OrganizationID), cmp.Compare(a.AlbumID, b.AlbumID))
	})
	return albums
}

// A logEntry is a delivery and what is known of its last request.
type logEntry struct {
	database.Delivery
	Shown string // its state: done, pending or rejected
	Took  string // how long the request was at work, or how long the delivery has been waiting; or ""
	Why   string // it is pending, or was rejected; or ""
}

func (s *web) logEntry(d database.Delivery, now time.Time) logEntry {
	entry := logEntry{Delivery: d, Shown: d.State, Why: readable(d.Cause)}
	last, known := s.monitor.outcome(d.ID)
	if known {
		entry.Took = duration(last.Duration)
	}
	switch {
	case d.State == "pending":
		entry.Took = duration(now.Sub(d.ReceivedAt))
		entry.Why = readable(last.Err)
		if !known {
			entry.Why = "not done yet; if nobody is at it, it is resumed within a minute or two"
		}
	case d.Cause != "":
		entry.Shown = "rejected"
	}
	return entry
}

// readable drops what every error of the library begins with.
func readable(err string) string { return strings.TrimPrefix(err, "cloudinaryhook: ") }
