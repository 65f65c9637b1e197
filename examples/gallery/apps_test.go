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
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// inProcess runs the app in this process. Its creator fails for images whose
// public IDs begin with "stuck" or "refused", and at the first attempt for
// "again".
func inProcess(t *testing.T) (*program, *monitor) {
	t.Helper()
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "gallery.db"))
	if err != nil {
		t.Fatal(err)
	}
	var tried sync.Map
	create := func(ctx context.Context, img *cloudinaryhook.Image) error {
		_, before := tried.LoadOrStore(img.Key, true)
		switch {
		case strings.HasPrefix(img.PublicID, "again") && !before:
			return errors.New("not yet")
		case strings.HasPrefix(img.PublicID, "stuck"):
			return errors.New("the thumbnail service does not answer")
		case strings.HasPrefix(img.PublicID, "refused then stuck") && before:
			return errors.New("the thumbnail service does not answer")
		case strings.HasPrefix(img.PublicID, "refused once") && before: // the fault was fixed meanwhile
		case strings.HasPrefix(img.PublicID, "refused"):
			return cloudinaryhook.Permanent(errors.New("the album is closed"))
		}
		return db.CreateImage(ctx, img)
	}
	logger := slog.New(slog.DiscardHandler)
	monitor := newMonitor()
	cfg := &config{secrets: []string{cloudinaryhooktest.DefaultSecret}, keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}}
	processor := &cloudinaryhook.Processor{Store: db, Images: cloudinaryhook.ImageCreatorFunc(create)}
	app, err := newApp(cfg, db, processor, monitor, logger)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(app.handler(true, true))
	t.Cleanup(func() {
		monitor.close()
		server.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &program{url: server.URL}, monitor
}

// An imageHost plays Cloudinary's image server, and counts requests.
type imageHost struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
	heads []http.Header
}

func newImageHost(t *testing.T) *imageHost {
	h := &imageHost{asked: make(map[string]int)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.asked[r.URL.Path]++
		h.heads = append(h.heads, r.Header)
		h.mu.Unlock()
		w.Header().Set("Content-Type", "image/png")
		if err := png.Encode(w, landscape(r.URL.Path)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

// landscape draws hills under a sky. Each name has another drawing.
func landscape(name string) image.Image {
	seed := 7.0
	for _, c := range []byte(name) {
		seed = math.Mod(seed*31+float64(c), 9973)
	}
	const width, height = 320, 240
	hue := math.Mod(seed, 97) / 97
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := shade(0.97-float64(y)/700, 0.18, hue+float64(y)/700)
			if dx, dy := float64(x)-60-math.Mod(seed, 200), float64(y)-50-math.Mod(seed, 40); dx*dx+dy*dy < 500 {
				c = color.NRGBA{252, 243, 220, 255}
			}
			for ridge := range 4 {
				r := float64(ridge)
				top := 110 + 28*r + 16*math.Sin(float64(x)/(30+9*r)+seed*(r+1)) + 6*math.Sin(float64(x)/11+seed+r)
				if float64(y) > top {
					c = shade(0.78-0.15*r, 0.3+0.05*r, hue+0.05*r)
				}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

// shade is a colour of a brightness, saturation and hue, all from 0 to 1.
func shade(brightness, saturation, hue float64) color.NRGBA {
	part := func(shift float64) uint8 {
		return uint8(255 * brightness * (1 - saturation*(0.5+0.5*math.Cos(2*math.Pi*(hue+shift)))))
	}
	return color.NRGBA{part(0), part(1. / 3), part(2. / 3), 255}
}

// uploaded returns a body that announces an image.
func uploaded(publicID, url string, width int) []byte {
	return fmt.Appendf(nil, `{"notification_type":"upload","request_id":%[1]q,"public_id":%[1]q,"version":1,"format":"jpg",`+
		`"width":%[2]d,"height":1200,"bytes":%[3]d,"resource_type":"image","secure_url":%[4]q}`, publicID, width, width*271, url)
}

// fill sends the notifications of a typical day: images, other types, failures,
// and an hour of them for the drawing.
func fill(t *testing.T, p *program, m *monitor, host string) {
	t.Helper()
	albums := []cloudinaryhook.Claims{
		{OrganizationID: "harbour-museum", AlbumID: "Summer exhibition", UserID: "17"},
		{OrganizationID: "harbour-museum", AlbumID: "Archive"},
		{OrganizationID: "north-cycles", AlbumID: "Catalogue"},
	}
	files, err := fs.Glob(cloudinaryhooktest.Bodies(), "*.json")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range files {
		if i%4 == 0 && !strings.HasPrefix(name, "upload") {
			p.post(t, golden(t, name), cloudinaryhooktest.WithClaims(&albums[0]))
		}
	}
	names := strings.Fields("boathouse cliff mast net shell buoy dune crane tide gull ropes/coil-2 lantern oars pier-at-dusk anchor saddle-tan front-light")
	for i, name := range names {
		url := fmt.Sprintf("%s/v1/%s.jpg", host, name)
		if name == "front-light" {
			url = "http://127.0.0.1:1/gone.jpg" // no server is there
		}
		p.post(t, uploaded(name, url, 1600+i*16), cloudinaryhooktest.WithClaims(&albums[i*5/2%3]))
	}
	for i := range 7 {
		p.post(t, golden(t, "delete.json"), cloudinaryhooktest.WithSecret(fmt.Sprint("another", i)))
	}
	p.post(t, golden(t, "delete.json"), cloudinaryhooktest.WithTimestamp("1700000000"))
	for _, name := range []string{"stuck/quay", "refused/poster"} {
		body := bytes.Replace(golden(t, "upload-simple.json"), []byte(`"hat"`), []byte(`"`+name+`"`), 1)
		p.post(t, body, cloudinaryhooktest.WithClaims(&albums[2]))
	}
	p.post(t, uploaded("harbour-wall", host+"/v1/harbour-wall.jpg", 2048), cloudinaryhooktest.WithClaims(&albums[0]))
	rememberAnHour(m)
}

// rememberAnHour makes the monitor look as if it had started an hour ago.
func rememberAnHour(m *monitor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.started = now.Add(-time.Hour)
	for i := int64(1); i < drawnMinutes; i++ {
		past := m.minute(now.Add(-time.Duration(i) * time.Minute))
		past.Accepted = 6 + (i*i*7)%13 + i%5
		if i > 17 && i < 24 {
			past.Pending, past.Refused = 22-3*(i-18), 4
		}
		past.Refused += i % 11 / 9
	}
}
