package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// failedUpload is a small notification: an upload has failed.
const failedUpload = `{"notification_type":"error","error":{"message":"Invalid image file","status":400,"request_id":"1f0a2b3c4d5e6f708192a3b4c5d6e7f8"},` +
	`"timestamp":"2025-03-04T09:15:27+00:00","request_id":"1f0a2b3c4d5e6f708192a3b4c5d6e7f8","signature_key":"246813579024681",` +
	`"params":{"faces":"1","colors":"1","image_metadata":"1","phash":"1","type":"authenticated","tags":"pier,sea","public_id":"summer/pier",` +
	`"asset_folder":"summer","overwrite":"false","eager":"c_fill,h_300,w_300|c_limit,w_1600","eager_async":"1","quality_analysis":"1",` +
	`"upload_preset":"holidays","notification_url":"https://app.example/api/v1/cloudinary?lang=en"},` +
	`"notification_context":{"triggered_at":"2025-03-04T09:15:27.204161+00:00","triggered_by":{"source":"api","id":"246813579024681"}}}`

// body returns the body to send: a failed upload, a golden upload with all
// optional members, or that upload with a quarter of a megabyte of recognized
// text.
func body(name string) ([]byte, error) {
	full, err := fs.ReadFile(cloudinaryhooktest.Bodies(), "upload-full.json")
	switch {
	case err != nil:
		return nil, err
	case name == "small":
		return []byte(failedUpload), nil
	case name == "typical":
		return full, nil
	case name == "big":
		return withText(full, 256<<10), nil
	}
	return nil, fmt.Errorf("no body is called %q", name)
}

// withText adds annotations of Cloudinary's OCR add-on to an upload, each with
// a word and a box. They make the largest bodies.
func withText(upload []byte, size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"ocr":{"adv_ocr":{"status":"complete","data":[{"textAnnotations":[`)
	for i := 0; b.Len() < size-len(upload)-256; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		x, y := i%40*31, i/40*17
		fmt.Fprintf(&b, `{"locale":"en","description":"word%d","boundingPoly":{"vertices":[{"x":%d,"y":%d},{"x":%d,"y":%d},{"x":%d,"y":%d},{"x":%d,"y":%d}]}}`,
			i, x, y, x+29, y, x+29, y+14, x, y+14)
	}
	b.WriteString(`]}]}},`)
	b.Write(bytes.TrimPrefix(upload, []byte("{")))
	return b.Bytes()
}

// goodRequest has a token with the same claims as the tokens of the older receiver.
func goodRequest(url string, body []byte) *http.Request {
	now := time.Now()
	return cloudinaryhooktest.NewRequest(nil, url, body, cloudinaryhooktest.WithClaims(jwt.MapClaims{
		"iat": now.Unix(), "exp": now.Add(4 * time.Hour).Unix(),
		"organization_id": "7b1d", "album_id": "summer-2023", "user_id": "64f1c0a2",
	}))
}

// check tests that a server accepts a good request and refuses bad ones; the
// empty server accepts all. Without this check, a server that refuses nothing
// would look fast. The bad requests are small: if a server refuses a large body
// before all of it is sent, the client may see a reset and no answer.
func check(client *http.Client, server, url string, body []byte) error {
	small := []byte(failedUpload)
	changed := bytes.Replace(small, []byte("1"), []byte("2"), 1)
	stale := strconv.FormatInt(time.Now().Add(-3*time.Hour).Unix(), 10)
	signed := goodRequest(url, small)
	header := func(name string) cloudinaryhooktest.Option {
		return cloudinaryhooktest.WithHeader(name, signed.Header.Get(name))
	}
	withToken := signed.URL.String()
	cases := []struct {
		name    string
		request *http.Request
	}{
		{"good", goodRequest(url, body)},
		{"a changed body", cloudinaryhooktest.NewRequest(nil, withToken, changed, header(cloudinaryhook.SignatureHeader), header(cloudinaryhook.TimestampHeader))},
		{"another secret", cloudinaryhooktest.NewRequest(nil, withToken, small, cloudinaryhooktest.WithSecret("another"))},
		{"a stale signature", cloudinaryhooktest.NewRequest(nil, withToken, small, cloudinaryhooktest.WithTimestamp(stale))},
		{"another key", cloudinaryhooktest.NewRequest(nil, url, small, cloudinaryhooktest.WithKey(bytes.Repeat([]byte("k"), 32)))},
		{"no token", cloudinaryhooktest.NewRequest(nil, url, small, cloudinaryhooktest.WithoutToken())},
	}
	for i, c := range cases {
		c.request.RequestURI = ""
		response, err := client.Do(c.request)
		if err != nil {
			return fmt.Errorf("%s gave no answer to %s: %w", server, c.name, errors.Unwrap(err)) // without the URL, which has the token
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		want := http.StatusUnauthorized
		if i == 0 || server == "empty" {
			want = http.StatusCreated
		}
		if response.StatusCode != want {
			return fmt.Errorf("%s answered %d to %s, want %d", server, response.StatusCode, c.name, want)
		}
	}
	return nil
}

// result is the line that the script below prints.
const result = "RESULT %d %d %d %d %d"

// writeScript writes a script for wrk. The script posts one signed body again
// and again, and prints requests, microseconds, two percentiles of latency, and
// failures.
func writeScript(dir string, r *http.Request, body []byte) (path string, err error) {
	bodyPath := filepath.Join(dir, "body.json")
	if err := os.WriteFile(bodyPath, body, 0o600); err != nil { //nolint:gosec // in a directory of our own
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "local f = io.open(%q, 'rb')\nwrk.body = f:read('*a')\nf:close()\nwrk.method = 'POST'\n", bodyPath)
	for name, values := range r.Header {
		fmt.Fprintf(&b, "wrk.headers[%q] = %q\n", name, values[0])
	}
	fmt.Fprintf(&b, `function done(s, latency, requests)
	io.write(string.format("%s\n", s.requests, s.duration, latency:percentile(50), latency:percentile(99),
		s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout))
end
`, result)
	path = filepath.Join(dir, "post.lua")
	return path, os.WriteFile(path, []byte(b.String()), 0o600) //nolint:gosec // as above
}
