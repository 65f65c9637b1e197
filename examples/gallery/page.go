package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

const (
	pageImages = 200
	pageLog    = 60
	pageName   = 256 // the longest name in a filter, in bytes
)

// pageData is the data of templates/page.html.
type pageData struct {
	Now          time.Time
	Only         database.Filter
	AlbumChoices []choice
	TypeChoices  []choice
	Stats        database.Stats
	Albums       []album
	Newest       int // how many images are shown; 0 if these are all
	Deliveries   []logEntry
	Failures     []failure
	Hour         hourDrawing
	Since        string // when the hour's counts begin; "" if this gallery has run for an hour
}

// Images returns the number of images. From database.MaxImages on, it is that
// number and a plus sign.
func (p pageData) Images() string {
	if p.Stats.Images >= database.MaxImages {
		return fmt.Sprintf("%d+", database.MaxImages)
	}
	return fmt.Sprint(p.Stats.Images)
}

// Filtered reports whether a filter is set.
func (p pageData) Filtered() bool { return p.Only != database.Filter{} }

// Filtrable reports whether the filter has anything to choose from.
func (p pageData) Filtrable() bool {
	return len(p.AlbumChoices)+len(p.TypeChoices) > 0 || p.Filtered()
}

// A choice is one option of a filter.
type choice struct {
	Value, Label string
	Selected     bool
}

// choices makes options of names. It adds the current one, even if nothing has
// that name.
func choices(names []string, asked string) (all []choice) {
	if asked != "" && !slices.Contains(names, asked) {
		names = append(names, asked)
	}
	for _, name := range names {
		if len(name) <= pageName { // the page holds each name in full
			all = append(all, choice{Value: name, Label: name, Selected: name == asked})
		}
	}
	return all
}

// noType in a request means deliveries without a type, because an empty value
// means all deliveries.
const noType = "-"

func typeChoices(types []string, only database.Filter) []choice {
	asked := only.Type
	if only.Untyped {
		asked = noType
	}
	for i, name := range types {
		types[i] = cmp.Or(name, noType)
	}
	all := choices(types, asked)
	for i := range all {
		if all[i].Value == noType {
			all[i].Label = "no type"
		}
	}
	return all
}

func parseFilter(query url.Values) database.Filter {
	only := database.Filter{AlbumID: query.Get("album_id"), Type: query.Get("type")}
	if only.Type == noType {
		only.Type, only.Untyped = "", true
	}
	return only
}

// An album is a section of the page.
type album struct {
	OrganizationID, AlbumID string
	Images                  []database.Image
}

// Key tells albums apart: two organizations may have one of the same name.
func (a album) Key() string { return fmt.Sprintf("%q %q", a.OrganizationID, a.AlbumID) }

func (s *web) servePage(w http.ResponseWriter, r *http.Request) {
	data, err := s.pageData(r.Context(), parseFilter(r.URL.Query()))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, "page.html", data)
}

func (s *web) pageData(ctx context.Context, only database.Filter) (data pageData, err error) {
	data.Now, data.Only = time.Now().UTC(), only
	data.Failures, data.Hour = s.monitor.failures(), drawHour(s.monitor.lastHour())
	if since := s.monitor.since(); !since.IsZero() {
		data.Since = since.UTC().Format("15:04 UTC")
	}
	if data.Stats, err = s.db.Stats(ctx); err != nil {
		return data, err
	}
	albums, err := s.db.Albums(ctx)
	if err != nil {
		return data, err
	}
	types, err := s.db.Types(ctx)
	if err != nil {
		return data, err
	}
	data.AlbumChoices, data.TypeChoices = choices(albums, only.AlbumID), typeChoices(types, only)
	images, err := s.db.Images(ctx, only.AlbumID, database.Position{}, pageImages)
	if err != nil {
		return data, err
	}
	data.Albums = byAlbum(images)
	if len(images) == pageImages {
		data.Newest = pageImages
	}
	deliveries, err := s.db.Deliveries(ctx, only, database.Position{}, pageLog)
	for _, d := range deliveries {
		data.Deliveries = append(data.Deliveries, s.logEntry(d, data.Now))
	}
	return data, err
}

// byAlbum sorts albums by name. If it sorted them by their newest image, they
// would change places on the page while people look at it. Images keep their
// order.
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

// A logEntry is a delivery and the result of its request. For a request before
// the start of the program, the result is unknown.
type logEntry struct {
	database.Delivery
	Shown string // its state: done, pending or rejected
	Took  string // how long the request took, or how long the delivery has been waiting, or ""
	Why   string // why it is pending or was rejected, or ""
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
			entry.Why = "not done yet; if no request is working on it, it is resumed within two minutes"
		}
	case d.Cause != "":
		entry.Shown = "rejected"
	}
	return entry
}

// readable removes the prefix that every error of the library has.
func readable(err string) string { return strings.TrimPrefix(err, "cloudinaryhook: ") }
