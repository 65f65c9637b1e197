package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// inProcess is the app in this process, with a creator that fails as a test
// needs it: images whose public IDs begin with "stuck" or "refused".
func inProcess(t *testing.T) *program {
	t.Helper()
	db, err := database.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "gallery.db"))
	if err != nil {
		t.Fatal(err)
	}
	create := func(ctx context.Context, img *cloudinaryhook.Image) error {
		switch {
		case strings.HasPrefix(img.PublicID, "stuck"):
			return errors.New("the thumbnail service does not answer")
		case strings.HasPrefix(img.PublicID, "refused"):
			return cloudinaryhook.Permanent(errors.New("the album is closed"))
		}
		return db.CreateImage(ctx, img)
	}
	logger := slog.New(slog.DiscardHandler)
	monitor := newMonitor(prometheus.NewRegistry(), db)
	cfg := &config{secrets: []string{cloudinaryhooktest.DefaultSecret}, tokenKey: []byte(cloudinaryhooktest.DefaultKey)}
	processor := &cloudinaryhook.Processor{Store: db, Images: cloudinaryhook.ImageCreatorFunc(create)}
	handler, err := newHandler(cfg, db, processor, monitor, logger)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		monitor.close()
		server.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &program{url: server.URL}
}

// pictures serves small drawings, as a stand-in for Cloudinary's image host.
func pictures(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var seed uint8
		for _, c := range []byte(r.URL.Path) {
			seed = seed*31 + c
		}
		const width, height = 320, 240
		img := image.NewNRGBA(image.Rect(0, 0, width, height))
		for y := range height {
			for x := range width {
				horizon := 120 + int(seed%40) - (x-160)*(x-160)/1200
				c := color.NRGBA{uint8(90 + y/2), uint8(130 + y/4), uint8(170 + int(seed%60) - y/4), 255}
				if y > horizon {
					c = color.NRGBA{uint8(40 + seed%80), uint8(70 + (y-horizon)/3), uint8(60 + seed%50), 255}
				}
				img.SetNRGBA(x, y, c)
			}
		}
		w.Header().Set("Content-Type", "image/png")
		if err := png.Encode(w, img); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

var shownAlbums = []cloudinaryhook.Claims{
	{OrganizationID: "harbour-museum", AlbumID: "Summer exhibition", UserID: "17"},
	{OrganizationID: "harbour-museum", AlbumID: "Archive"},
	{OrganizationID: "north-cycles", AlbumID: "Catalogue"},
}

// fill posts what a day may bring: images, other types, failures.
func fill(t *testing.T, p *program, host string) {
	t.Helper()
	names := []string{"pier-at-dusk", "lantern", "ropes/coil-2", "gull", "tide", "crane", "dune", "mast", "buoy", "shell", "net", "cliff", "boathouse", "oars", "anchor"}
	for i, name := range names {
		url := fmt.Sprintf("%s/v1/%s.jpg", host, name)
		body := fmt.Sprintf(`{"notification_type":"upload","request_id":"%032x","public_id":%q,"version":1,"format":"jpg","width":%d,"height":1200,"bytes":%d,"resource_type":"image","url":%q,"secure_url":%q,"notification_context":{"triggered_at":"2026-03-04T09:15:27Z"}}`,
			i*7919, name, 1600+i*16, 318204+i*77777, url, url)
		claims := shownAlbums[i*i%len(shownAlbums)]
		p.post(t, []byte(body), cloudinaryhooktest.WithClaims(&claims))
		p.post(t, []byte(body), cloudinaryhooktest.WithClaims(&claims))
	}
	all, err := fs.Glob(cloudinaryhooktest.Bodies(), "*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if !strings.HasPrefix(name, "upload") {
			p.post(t, golden(t, name), cloudinaryhooktest.WithClaims(&shownAlbums[0]))
		}
	}
	for i := range 7 {
		p.post(t, golden(t, "delete.json"), cloudinaryhooktest.WithSecret(fmt.Sprint("another", i)))
	}
	p.post(t, golden(t, "delete.json"), cloudinaryhooktest.WithTimestamp("1700000000"))
	p.post(t, golden(t, "delete.json"), cloudinaryhooktest.WithoutToken())
	p.post(t, bytes.Replace(golden(t, "upload-simple.json"), []byte(`"hat"`), []byte(`"stuck/hat"`), 1), cloudinaryhooktest.WithClaims(&shownAlbums[2]))
	p.post(t, bytes.Replace(golden(t, "upload-simple.json"), []byte(`"hat"`), []byte(`"refused/hat"`), 1), cloudinaryhooktest.WithClaims(&shownAlbums[2]))
	p.post(t, golden(t, "upload-full.json"), cloudinaryhooktest.WithClaims(&shownAlbums[0]))
}

func TestScreenshots(t *testing.T) {
	b := newTab(t)
	p := inProcess(t)
	b.open(p.url)
	b.keep("empty")
	fill(t, p, "http://127.0.0.1:1")
	b.wait(`document.querySelectorAll(".log li").length > 20`)
	b.open(p.url)
	b.keep("full")
	host := pictures(t)
	q := inProcess(t)
	fill(t, q, host.URL)
	b.open(q.url)
	b.wait(`document.querySelectorAll(".loaded").length > 10`)
	b.keep("pictures")
	b.feature("prefers-color-scheme", "dark")
	b.keep("pictures-dark")
	b.open(p.url)
	b.keep("dark")
	b.size(390, 844)
	b.keep("phone-dark")
	b.feature("prefers-color-scheme", "light")
	b.keep("phone")
	id := getJSON[[]database.Delivery](t, p, "/api/v1/deliveries")
	b.open(p.url + "/deliveries/" + id[0].ID)
	b.keep("delivery-phone")
	b.size(1300, 900)
	b.keep("delivery")
	b.open(p.url + "/deliveries/" + id[2].ID)
	b.keep("delivery-pending")
	b.open(p.url + "/?type=delete")
	b.keep("filtered")
}
