package main

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

func TestDeliveryPage(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	p.post(t, []byte(`{"notification_type":"error","error":{"message":"<i>no</i>"},"n":1.50,"params":{"notification_url":"https://a.example/?token=SECRET.a-b_c&x=1"}}`))
	id := getJSON[[]database.Delivery](t, p, "/api/v1/deliveries")[0].ID
	status, page := p.get(t, "/deliveries/"+id)
	if status != http.StatusOK {
		t.Fatalf("status got %d, want 200", status)
	}
	for _, want := range []string{
		`<span class="key">&#34;album_id&#34;</span>: <span class="string">&#34;test-album&#34;</span>`,
		`?token=•••&amp;x=1&#34;</span>`,
		`&lt;i&gt;no&lt;/i&gt;`,
		"\n  <span class=\"key\">&#34;n&#34;</span>: 1.50,\n",
		`<code>` + id + `</code>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "SECRET") || t.Failed() {
		t.Errorf("the page is:\n%s", page)
	}
	if status, _ := p.get(t, "/deliveries/unknown"); status != http.StatusNotFound {
		t.Errorf("an unknown delivery got %d, want 404", status)
	}
}

// TestWhyNoImage: there is a reason if and only if the library finds no image.
func TestWhyNoImage(t *testing.T) {
	bodies := map[string]string{ // each with a part of the reason
		`{"notification_type":"upload","public_id":"a"}`:                                                   "",
		`{"public_id":"a","version":1,"format":"jpg"}`:                                                     "",
		`{"public_id":"mine","type":"upload"}`:                                                             "version and a format",
		`{"public_id":"a","version":1}`:                                                                    "version and a format",
		`{"public_id":"a","version":1,"format":"jpg","placeholder":true}`:                                  "placeholder",
		`{"notification_type":"delete","resources":[]}`:                                                    "notification_type upload",
		`{"version":1,"format":"jpg"}`:                                                                     "neither",
		`{"notification_type":"upload"}`:                                                                   "public_id",
		`{"notification_type":"upload","public_id":"a","resource_type":"video"}`:                           "resource_type is video",
		`{"notification_type":"upload","public_id":"a","error":{"message":"no"},"resource_type":"video"}`:  "error",
		`{"notification_type":"upload","public_id":"a","placeholder":true,"moderation_status":"rejected"}`: "placeholder",
	}
	files, err := fs.Glob(cloudinaryhooktest.Bodies(), "*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		bodies[string(golden(t, file))] = ""
	}
	for body, want := range bodies {
		d, err := cloudinaryhook.NewDelivery([]byte(body), nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		got := whyNoImage(d)
		if _, announces := d.Image(); announces != (got == "") || !strings.Contains(got, want) {
			t.Errorf("of %s got %q, want %q; it announces an image: %v", body, got, want, announces)
		}
	}
	p, _ := inProcess(t)
	p.post(t, []byte(`{"public_id":"mine","type":"upload"}`))
	id := getJSON[[]database.Delivery](t, p, "/api/v1/deliveries")[0].ID
	if _, page := p.get(t, "/deliveries/"+id); !strings.Contains(page, "<dt>Image</dt><dd>none: it has no notification_type") {
		t.Errorf("the page does not say why there is no image:\n%s", page)
	}
}

// TestTokensAreMasked: a token is masked in every spelling of its parameter's
// name. The text around it stays if that is safe.
func TestTokensAreMasked(t *testing.T) {
	tests := []struct{ body, want string }{
		{`{"a":"x?token=SECRET&b=1"}`, `{"a":"x?token=•••&b=1"}`},
		{`{"a":"x?token=SECRET","b":1}`, `{"a":"x?token=•••","b":1}`},
		{`{"a":"x?TOKEN=SECRET"}`, `{"a":"x?TOKEN=•••"}`},
		{`{"a":"x?token%3DSECRET%26b%3D1"}`, `{"a":"x?token%3D•••"}`},
		{`{"a":"x?token%3dSECRET"}`, `{"a":"x?token%3d•••"}`},
		{`{"a":"x?token%253DSECRET"}`, `{"a":"x?token%253D•••"}`},
		{`{"a":"x?token%25253DSECRET"}`, `{"a":"x?token%25253D•••"}`},
		{`{"a":"x?token\u003dSECRET\u0026b=1"}`, `{"a":"x?token\u003d•••"}`},
		{`{"a":"x?token\u003DSECRET"}`, `{"a":"x?token\u003D•••"}`},
		{`{"a":"{\"b\":\"token\\u003dSECRET\"}"}`, `{"a":"{\"b\":\"token\\u003d•••"}`},
		{`{"a":"{\"b\":\"token=SECRET\",\"c\":1}"}`, `{"a":"{\"b\":\"token=•••"}`},
		{`{"a":"\u0074oken=SECRET"}`, `{"a":"\u0074oken=•••"}`},
		{`{"a":"%74%6Fken=SECRET"}`, `{"a":"%74%6Fken=•••"}`},
		{`{"a":"%2574oken%253dSECRET"}`, `{"a":"%2574oken%253d•••"}`},
		{`{"a":"token&#61;SECRET token&#x3d;SECRET"}`, `{"a":"token&#61;••• token&#x3d;•••"}`},
		{`{"a":"token=SEC\"SECRET\u0022SECRET"}`, `{"a":"token=•••"}`},
		{`{"token=SECRET":1}`, `{"token=•••":1}`},
		{`{"token":"SECRET","delete_token" : "SECRET","x":"y"}`, `{"token":"•••","delete_token" : "•••","x":"y"}`},
		{`{"a":"Bearer eyJhbGciOiJIUzI1NiJ9.SECRET.SECRET b"}`, `{"a":"Bearer ••• b"}`},
		{`{"a":"eyJhbGciOiJIUzI1NiJ9%2ESECRET"}`, `{"a":"•••"}`},
		{`{"access_type":"token","key":"k","tokens":3}`, `{"access_type":"token","key":"k","tokens":3}`},
	}
	for _, tt := range tests {
		t.Run(tt.body, func(t *testing.T) {
			if got := mask(tt.body); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			var whole strings.Builder
			for _, p := range newListing("", []byte(tt.body)).Pieces {
				whole.WriteString(p.Text)
			}
			if got := whole.String(); strings.Contains(got, "SECRET") || !json.Valid([]byte(tt.body)) {
				t.Errorf("the listing holds a token, or the test is no JSON: %s", got)
			}
		})
	}
}

func TestListing(t *testing.T) {
	long := `{"a":"` + strings.Repeat("€", shownBody) + `"}`
	tests := []struct {
		name, body string
		want       listing
	}{
		{"kinds", `{"a":"b\"c","d":[1,null]}`, listing{Size: 25, Pieces: []piece{
			{"", "{\n  "}, {"key", `"a"`}, {"", ": "}, {"string", `"b\"c"`}, {"", ",\n  "}, {"key", `"d"`}, {"", ": [\n    1,\n    null\n  ]\n}"}}}},
		{"no JSON", "<b>\u202e", listing{Size: 6, Pieces: []piece{{"", `<b>\u{202e}`}}}},
		{"cut", long, listing{Size: int64(len(long)), Cut: true, Pieces: []piece{{"", "{\n  "}, {"key", `"a"`}, {"", `: "` + strings.Repeat("€", (shownBody-10)/3) + "…"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, newListing("", []byte(tt.body))); diff != "" {
				t.Errorf("differs (-want +got):\n%.2000s", diff)
			}
		})
	}
}

// TestListingOfDeepBodies: indentation must not turn megabytes into gigabytes.
func TestListingOfDeepBodies(t *testing.T) {
	const size = 4 << 20
	for name, body := range map[string]string{
		"many values, deep": strings.Repeat(`{"a":`, 5000) + "[" + strings.Repeat("1,", size/2) + "1]" + strings.Repeat("}", 5000),
		"many brackets":     strings.Repeat("["+strings.Repeat("[", 48)+strings.Repeat("]", 48)+"],", size/98)[:size/98*98],
		"too deep for JSON": strings.Repeat("[", size),
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasSuffix(body, ",") {
				body = "[" + body + "0]"
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			l := newListing("body", []byte(body))
			runtime.ReadMemStats(&after)
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 8*size {
				t.Errorf("a body of %d bytes allocated %d bytes, want at most eight times its size", len(body), allocated)
			}
			var shown int
			for _, p := range l.Pieces {
				shown += len(p.Text)
			}
			if !l.Cut || shown < shownBody || shown > 2*shownBody {
				t.Errorf("%d bytes are shown, cut: %v, want %d and true", shown, l.Cut, shownBody)
			}
		})
	}
}
