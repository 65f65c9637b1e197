package cloudinaryhook

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files")

// goldenRequest is testdata/requests/NAME/request.json; the body, byte for
// byte, is body.json beside it, and what the request must give is want.json.
// With -update, Sign and Claims fill in the signature header and the token.
type goldenRequest struct {
	About  string
	Method string
	Clock  int64 // Unix seconds
	Secret string
	Key    string
	Sign   string        `json:",omitempty"` // "sha1", "sha256" or not at all
	Claims jwt.MapClaims `json:",omitempty"`
	Query  string
	Header http.Header
}

type goldenAnswer struct {
	Status   int
	Header   http.Header
	Body     string
	Error    string          `json:",omitempty"`
	Delivery *goldenDelivery `json:",omitempty"`
	Image    *goldenImage    `json:",omitempty"`
}

type goldenDelivery struct {
	ID           string
	SignedAt     time.Time
	Claims       json.RawMessage
	Notification Notification
}

type goldenImage struct {
	Key string
	Asset
}

func TestGoldenRequests(t *testing.T) {
	requests, err := filepath.Glob("testdata/requests/*/request.json")
	if err != nil || len(requests) < 10 {
		t.Fatalf("got %d golden requests (%v), want 10 at least", len(requests), err)
	}
	for _, path := range requests {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			body := readFile(t, filepath.Join(dir, "body.json"))
			var request goldenRequest
			readJSON(t, path, &request)
			if *update {
				request.sign(t, body)
				checkGolden(t, path, indented(t, request))
			}
			checkGolden(t, filepath.Join(dir, "want.json"), indented(t, request.send(t, body)))
		})
	}
}

func (r *goldenRequest) sign(t *testing.T, body []byte) {
	hashes := map[string]crypto.Hash{"sha1": crypto.SHA1, "sha256": crypto.SHA256}
	if hash, ok := hashes[r.Sign]; ok {
		r.Header.Set(SignatureHeader, Sign(hash, body, r.Header.Get(TimestampHeader), r.Secret))
	}
	if r.Claims != nil {
		token, err := SignToken([]byte(r.Key), r.Claims)
		if err != nil {
			t.Fatal(err)
		}
		r.Query = url.Values{"token": {token}}.Encode()
	}
}

// handler is one whose clock, secret and key are those of the request.
func (r *goldenRequest) handler(t *testing.T, change func(*Config)) *Handler {
	t.Helper()
	return newHandler(t, func(c *Config) {
		c.Signature = &SignatureVerifier{Secrets: []string{r.Secret}, Now: at(r.Clock)}
		c.Token = &TokenVerifier{Keys: [][]byte{[]byte(r.Key)}, Now: at(r.Clock)}
		change(c)
	})
}

func (r *goldenRequest) send(t *testing.T, body []byte) (got goldenAnswer) {
	h := r.handler(t, func(c *Config) {
		c.Processor.Images = ImageCreatorFunc(func(_ context.Context, img *Image) error {
			got.Image = &goldenImage{img.Key, img.Asset}
			return nil
		})
		c.Observe = func(_ context.Context, o Outcome) {
			if o.Err != nil {
				got.Error = o.Err.Error()
			}
			if d := o.Delivery; d != nil {
				got.Delivery = &goldenDelivery{d.ID, d.SignedAt, json.RawMessage(d.Claims.set), d.Notification}
			}
		}
	})
	req := httptest.NewRequest(r.Method, "/api/v1/cloudinary?"+r.Query, bytes.NewReader(body))
	req.Header = r.Header.Clone()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	got.Status, got.Header, got.Body = w.Code, w.Header(), w.Body.String()
	return got
}

// checkGolden compares with a golden file. With -update it writes the file first.
func checkGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(readFile(t, path)), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

func indented(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	if err := json.Unmarshal(readFile(t, path), v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
