package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// between returns the part of a page from one text to the next other.
func between(t *testing.T, page, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, from)
	part, _, ended := strings.Cut(rest, to)
	if !ok || !ended {
		t.Fatalf("the page has no part from %q to %q:\n%s", from, to, page)
	}
	return part
}

func TestFilters(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	claims := cloudinaryhooktest.DefaultClaims()
	claims.AlbumID = "other album"
	p.post(t, golden(t, "upload-simple.json"))
	p.post(t, golden(t, "upload-untyped.json"), cloudinaryhooktest.WithClaims(claims))
	p.post(t, golden(t, "delete.json"))
	const hat, lobby, deleted = "<bdi>hat</bdi>", "<bdi>lobby1</bdi>", `"type">delete<`
	tests := []struct {
		path          string
		images, inLog []string
		selected      []string // the selected options of the form
	}{
		{"/", []string{hat, lobby}, []string{hat, lobby, deleted}, nil},
		{"/?album_id=other+album", []string{lobby}, []string{lobby}, []string{"other album"}},
		{"/?type=delete", []string{hat, lobby}, []string{deleted}, []string{"delete"}},
		{"/?type=-", []string{hat, lobby}, []string{lobby}, []string{"no type"}},
		{"/?album_id=other+album&type=delete", []string{lobby}, nil, []string{"other album", "delete"}},
		{"/?album_id=none&type=none", nil, nil, []string{"none", "none"}},
	}
	selected := regexp.MustCompile(`selected>([^<]*)<`)
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			_, page := p.get(t, tt.path)
			for _, part := range []struct {
				from, to string
				want     []string
			}{{"<main", "</main>", tt.images}, {"<ol", "</ol>", tt.inLog}} {
				shown := between(t, page, part.from, part.to)
				var got []string
				for _, text := range []string{hat, lobby, deleted} {
					if strings.Contains(shown, text) {
						got = append(got, text)
					}
				}
				if diff := cmp.Diff(part.want, got); diff != "" {
					t.Errorf("in %s> differs (-want +got):\n%s", part.from, diff)
				}
			}
			var got []string
			for _, match := range selected.FindAllStringSubmatch(page, -1) {
				got = append(got, match[1])
			}
			if diff := cmp.Diff(tt.selected, got); diff != "" {
				t.Errorf("the selected options differ (-want +got):\n%s", diff)
			}
			if got, want := strings.Contains(page, "Show all"), tt.path != "/"; got != want {
				t.Errorf("a link to show all got %v, want %v", got, want)
			}
		})
	}
}

// hostile lists texts with a special meaning in HTML, CSS, JavaScript or
// terminals, or that change the direction of text.
var hostile = map[string]string{
	"element":    `<script>hacked=1</script>`,
	"attribute":  `" onerror="hacked=1" x="`,
	"quote":      `' autofocus onfocus='hacked=1`,
	"end of tag": `--></title></style></script><img src=x onerror=hacked=1>`,
	"template":   `{{.}}${hacked=1}`,
	"entity":     `&lt;img src=x onerror=hacked=1&gt;`,
	"scheme":     `javascript:hacked=1`,
	"direction":  "gpj.\u202eexe\u2066",
	"control":    "a\x00b\x1b[31m\r\nc\u2028",
	"long":       strings.Repeat("w", 8000), // a Delivery cannot have a much longer one
	"marks":      "Z" + strings.Repeat("\u0335\u0489", 500),
}

// hostileBody has the same text in every place of a body that can have it.
func hostileBody(t *testing.T, notificationType, text string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"notification_type": notificationType, "public_id": text, "version": 1, "format": text, "request_id": text,
		"original_filename": text, "display_name": text, "asset_folder": text, "etag": text, "tags": []string{text},
		"secure_url": text, "url": "https://a.example/" + text, text: text,
		"notification_context": map[string]any{"triggered_by": map[string]any{"id": text}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestHostileText: every value of a body and a token is plain text on all
// pages, and a page has only http and https URLs. Another test checks this in a
// browser.
func TestHostileText(t *testing.T) {
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
			claim := cut(text, 900) // a longer album ID is rejected
			claims := &cloudinaryhook.Claims{OrganizationID: claim, AlbumID: claim, UserID: claim}
			errorBody, err := json.Marshal(map[string]any{"notification_type": "error", "error": map[string]any{"message": text, "request_id": text}})
			if err != nil {
				t.Fatal(err)
			}
			for _, body := range [][]byte{hostileBody(t, "upload", text), hostileBody(t, text, text), errorBody} {
				if status := p.post(t, body, cloudinaryhooktest.WithClaims(claims)); status != http.StatusCreated {
					t.Fatalf("answered %d, want 201", status)
				}
			}
			paths := []string{"/", "/?type=delete"}
			for _, d := range getJSON[[]database.Delivery](t, p, "/api/v1/deliveries") {
				paths = append(paths, "/deliveries/"+d.ID)
			}
			for _, path := range paths {
				_, page := p.get(t, path)
				checkHostile(t, path, page)
			}
		})
	}
}

func checkHostile(t *testing.T, path, page string) {
	t.Helper()
	page = regexp.MustCompile(`<option [^>]*>`).ReplaceAllString(page, "") // the value of a filter must be the exact name
	for _, markup := range []string{"<script>", `onerror="`, "onfocus='", "<img src=x", `src="javascript:`, `href="javascript:`, "\u202e", "\u2066", "\x00", "\x1b", "\u2028"} {
		if strings.Contains(page, markup) {
			t.Errorf("%s holds %q", path, markup)
		}
	}
	if !strings.HasPrefix(path, "/deliveries/") && len(page) > 30_000 {
		t.Errorf("%s has %d bytes, want long names cut", path, len(page))
	}
}

// TestPageHeaders: these headers protect the page if escaping ever fails.
func TestPageHeaders(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	p.post(t, golden(t, "upload-simple.json"))
	id := getJSON[[]database.Delivery](t, p, "/api/v1/deliveries")[0].ID
	for _, path := range []string{"/", "/deliveries/" + id} {
		resp, err := http.Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: http:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
			"Content-Type":            "text/html; charset=utf-8",
			"Cache-Control":           "no-store",
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s of %s got %q, want %q", name, path, got, want)
			}
		}
	}
}

// TestWhyPending: the log on the page has the error of the last attempt. For an
// attempt before the start of the program, it says that the delivery is not
// done yet.
func TestWhyPending(t *testing.T) {
	p, _ := inProcess(t)
	p.post(t, []byte(`{"notification_type":"upload","public_id":"stuck","version":1}`))
	p.waitForText(t, "/", `"why">creating the image failed: the thumbnail service does not answer<`)
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	web := &web{monitor: newMonitor()}
	tests := []struct {
		d    database.Delivery
		want logEntry // without the delivery
	}{
		{database.Delivery{State: "done"}, logEntry{Shown: "done"}},
		{database.Delivery{State: "done", Cause: "cloudinaryhook: no"}, logEntry{Shown: "rejected", Why: "no"}},
		{database.Delivery{State: "pending", ReceivedAt: now.Add(-90 * time.Second)},
			logEntry{Shown: "pending", Took: "1 min", Why: "not done yet; if no request is working on it, it is resumed within two minutes"}},
	}
	for _, tt := range tests {
		tt.want.Delivery = tt.d
		if diff := cmp.Diff(tt.want, web.logEntry(tt.d, now)); diff != "" {
			t.Errorf("logEntry(%+v) differs (-want +got):\n%s", tt.d, diff)
		}
	}
}

// TestRepeats: the page shows that a notification was repeated. The time of the
// answer is that of the first one.
func TestRepeats(t *testing.T) {
	p, _ := inProcess(t)
	for range 3 {
		p.post(t, golden(t, "upload-simple.json"))
	}
	id := getJSON[[]database.Delivery](t, p, "/api/v1/deliveries")[0].ID
	for path, want := range map[string]string{"/": "received 3×", "/deliveries/" + id: "3 times in all"} {
		if _, page := p.get(t, path); !strings.Contains(page, want) {
			t.Errorf("%s does not say %q:\n%s", path, want, page)
		}
	}
	p.post(t, golden(t, "upload-untyped.json"))
	if _, page := p.get(t, "/"); strings.Count(page, "received ") != 1 {
		t.Errorf("the page shows a repeat of a notification that came once:\n%s", page)
	}
	m := newMonitor()
	d := &cloudinaryhook.Delivery{ID: "d"}
	failed := errors.New("not yet")
	m.observe(t.Context(), cloudinaryhook.Outcome{Delivery: d, Known: cloudinaryhook.StateNew, Err: failed, Duration: time.Second})
	m.observe(t.Context(), cloudinaryhook.Outcome{Delivery: d, Known: cloudinaryhook.StatePending, Duration: 2 * time.Second})
	m.observe(t.Context(), cloudinaryhook.Outcome{Delivery: d, Known: cloudinaryhook.StateDone, Duration: 3 * time.Second})
	if got, _ := m.outcome("d"); got != (outcome{Duration: 2 * time.Second}) {
		t.Errorf("after a failure, its retry and a repeat got %+v, want the result of the retry", got)
	}
}

func TestByAlbum(t *testing.T) {
	images := []database.Image{
		{PublicID: "4", OrganizationID: "b", AlbumID: "x"},
		{PublicID: "3", OrganizationID: "a", AlbumID: "x"},
		{PublicID: "2", OrganizationID: "a", AlbumID: "w"},
		{PublicID: "1", OrganizationID: "b", AlbumID: "x"},
	}
	want := []album{
		{"a", "w", images[2:3]},
		{"a", "x", images[1:2]},
		{"b", "x", []database.Image{images[0], images[3]}},
	}
	if diff := cmp.Diff(want, byAlbum(images)); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
	if a, b := (album{OrganizationID: `a" "b`, AlbumID: "c"}).Key(), (album{OrganizationID: "a", AlbumID: `b" "c`}).Key(); a == b {
		t.Errorf("two albums share the key %s", a)
	}
}
