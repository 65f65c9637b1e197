package docs

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// TestHandRolled holds what docs/migrate.md says of receivers that are written
// by hand: what each does with a notification, and what the handler does.
func TestHandRolled(t *testing.T) {
	const (
		spaced, large = `{ "notification_type": "upload", "request_id": "1" }`, 5 << 20
		secret        = "made-up-api-secret"
	)
	now := strconv.FormatInt(time.Now().Unix(), 10)
	digest := func(body []byte, timestamp string) string {
		sum := sha1.Sum([]byte(string(body) + timestamp + secret))
		return hex.EncodeToString(sum[:])
	}
	// A receiver says whether it takes a request for genuine, mostly by the digest
	// over what it reads.
	type receiver func(r *http.Request) bool
	digests := func(read func(io.Reader) []byte) receiver {
		return func(r *http.Request) bool {
			return digest(read(r.Body), r.Header.Get(cloudinaryhook.TimestampHeader)) == r.Header.Get(cloudinaryhook.SignatureHeader)
		}
	}
	whole := func(r io.Reader) []byte {
		body, _ := io.ReadAll(r)
		return body
	}
	ageless := digests(whole)
	emptySlice := digests(func(r io.Reader) (body []byte) { _, _ = r.Read(body); return body })
	cut := digests(func(r io.Reader) []byte { return whole(io.LimitReader(r, large)) })
	compacted := digests(func(r io.Reader) []byte {
		var buf bytes.Buffer
		_ = json.Compact(&buf, whole(r))
		return buf.Bytes()
	})
	withHMAC := func(r *http.Request) bool {
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write(whole(r.Body))
		return hex.EncodeToString(mac.Sum(nil)) == r.Header.Get(cloudinaryhook.SignatureHeader)
	}
	careless := func(r *http.Request) bool {
		seconds, _ := strconv.ParseInt(r.Header.Get(cloudinaryhook.TimestampHeader), 10, 64)
		if seconds != 0 && time.Now().Unix()-seconds > 7200 {
			return false
		}
		return ageless(r)
	}
	tests := []struct {
		name      string
		receiver  receiver
		body      string
		hash      crypto.Hash
		timestamp string
		accepts   bool
		status    int // of the handler
	}{
		{"1 an empty slice refuses the genuine", emptySlice, spaced, crypto.SHA1, now, false, 201},
		{"2 HMAC refuses the genuine", withHMAC, spaced, crypto.SHA1, now, false, 201},
		{"3 compact JSON refuses white space", compacted, spaced, crypto.SHA1, now, false, 201},
		{"3 compact JSON accepts what has none", compacted, `{"request_id":"1"}`, crypto.SHA1, now, true, 201},
		{"4 no window accepts what is old", ageless, spaced, crypto.SHA1, "1500000000", true, 401},
		{"4 SHA-1 alone refuses SHA-256", ageless, spaced, crypto.SHA256, now, false, 201},
		{"5 a limit that cuts refuses the genuine", cut, `{"a":"` + strings.Repeat("x", large) + `"}`, crypto.SHA1, now, false, 413},
		{"6 no number is never old", careless, spaced, crypto.SHA1, "soon", true, 401},
		{"6 the future is accepted", careless, spaced, crypto.SHA1, "11700000000", true, 401},
	}
	h, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{secret}},
		Tokenless: true,
		Processor: &cloudinaryhook.Processor{Store: new(cloudinaryhooktest.MemoryStore), Deferred: true},
		MaxBody:   large,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := func() *http.Request {
				r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(tt.body))
				r.Header.Set(cloudinaryhook.TimestampHeader, tt.timestamp)
				r.Header.Set(cloudinaryhook.SignatureHeader, cloudinaryhook.Sign(tt.hash, []byte(tt.body), tt.timestamp, secret))
				return r
			}
			if got := tt.receiver(request()); got != tt.accepts {
				t.Errorf("the hand-written receiver accepts: got %t, want %t", got, tt.accepts)
			}
			if _, err := h.Authenticate(request()); cloudinaryhook.StatusCode(err) != tt.status {
				t.Errorf("the handler answers %d (%v), want %d", cloudinaryhook.StatusCode(err), err, tt.status)
			}
		})
	}
	t.Run("7 a retry that is signed anew is the same delivery", func(t *testing.T) {
		var ids, keys []string
		for _, signedAt := range []int64{1700000000, 1700000180} {
			timestamp := strconv.FormatInt(signedAt, 10)
			keys = append(keys, timestamp+":"+digest([]byte(spaced), timestamp))
			d, err := cloudinaryhook.NewDelivery([]byte(spaced), nil, time.Unix(signedAt, 0))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, d.ID)
		}
		if keys[0] == keys[1] || ids[0] != ids[1] {
			t.Errorf("keys got %q and IDs %q, want two and one", keys, ids)
		}
	})
}
