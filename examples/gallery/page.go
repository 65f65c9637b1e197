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
	pageName   = 256 // bytes of a name that can be filtered by
)

// pageData is what templates/page.html shows.
type pageData struct {
	Now          time.Time
	Only         database.Filter
	AlbumChoices []choice
	TypeChoices  []choice
	Stats        database.Stats
	Albums       []album
	Newest       int // how many images are shown, if there may be more; else 0
	Deliveries   []logEntry
	Failures     []failure
	Hour         hourDrawing
	Since        string // when the hour's counts begin, if this gallery is younger than an hour; else ""
}

// Images is how many there are, as far as they are counted.
func (p pageData) Images() string {
	if p.Stats.Images >= database.MaxImages {
		return fmt.Sprintf("%d+", database.MaxImages)
	}
	return fmt.Sprint(p.Stats.Images)
}

// Filtered says whether anything is left out.
func (p pageData) Filtered() bool { return p.Only != database.Filter{} }

// Filtrable says whether there is anything to choose between.
func (p pageData) Filtrable() bool {
	return len(p.AlbumChoices)+len(p.TypeChoices) > 0 || p.Filtered()
}

// A choice is one of what a filter offers.
type choice struct {
	Value, Label string
	Selected     bool
}

// choices offers names, and what was asked for even if nothing has that name.
func choices(names []string, asked string) (all []choice) {
	if asked != "" && !slices.Contains(names, asked) {
		names = append(names, asked)
	}
	for _, name := range names {
		if len(name) <= pageName { // each is in the page whole
			all = append(all, choice{Value: name, Label: name, Selected: name == asked})
		}
	}
	return all
}

// noType is how the page asks for deliveries without a type: an empty value asks
// for all.
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

// A logEntry is a delivery and what is known of the request that brought it. Of
// what came before the start of the program nothing is.
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
