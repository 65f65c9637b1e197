package cloudinaryhooktest_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

func newHandler(t testing.TB, store cloudinaryhook.Store) *cloudinaryhook.Handler {
	t.Helper()
	h, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
		Processor: &cloudinaryhook.Processor{
			Store:  store,
			Images: cloudinaryhook.ImageCreatorFunc(func(context.Context, *cloudinaryhook.Image) error { return nil }),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestNewRequest(t *testing.T) {
	otherKey := []byte(strings.Repeat("k", 32))
	tests := []struct {
		name string
		opts []cloudinaryhooktest.Option
		want int
	}{
		{"defaults", nil, 201},
		{"SHA-256", []cloudinaryhooktest.Option{cloudinaryhooktest.WithHash(crypto.SHA256)}, 201},
		{"an hour ago", []cloudinaryhooktest.Option{cloudinaryhooktest.WithTime(time.Now().Add(-time.Hour))}, 201},
		{"own claims", []cloudinaryhooktest.Option{cloudinaryhooktest.WithClaims(jwt.MapClaims{"tenant": 1})}, 201},
		{"JSON's content type", []cloudinaryhooktest.Option{cloudinaryhooktest.WithContentType("application/json")}, 201},
		{"another header", []cloudinaryhooktest.Option{cloudinaryhooktest.WithHeader("x-request-id", "1")}, 201},
		{"claims after no token", []cloudinaryhooktest.Option{cloudinaryhooktest.WithoutToken(), cloudinaryhooktest.WithClaims(cloudinaryhooktest.DefaultClaims())}, 201},
		{"key after a token", []cloudinaryhooktest.Option{cloudinaryhooktest.WithToken("x"), cloudinaryhooktest.WithKey([]byte(cloudinaryhooktest.DefaultKey))}, 201},
		{"other secret", []cloudinaryhooktest.Option{cloudinaryhooktest.WithSecret("x")}, 401},
		{"three hours ago", []cloudinaryhooktest.Option{cloudinaryhooktest.WithTime(time.Now().Add(-3 * time.Hour))}, 401},
		{"odd timestamp", []cloudinaryhooktest.Option{cloudinaryhooktest.WithTimestamp("soon")}, 401},
		{"other key", []cloudinaryhooktest.Option{cloudinaryhooktest.WithKey(otherKey)}, 401},
		{"empty token", []cloudinaryhooktest.Option{cloudinaryhooktest.WithToken("")}, 401},
		{"odd token", []cloudinaryhooktest.Option{cloudinaryhooktest.WithToken("x")}, 401},
		{"no token", []cloudinaryhooktest.Option{cloudinaryhooktest.WithToken("x"), cloudinaryhooktest.WithoutToken()}, 401},
		{"expired", []cloudinaryhooktest.Option{cloudinaryhooktest.WithClaims(jwt.MapClaims{"exp": 1})}, 401},
		{"no signature", []cloudinaryhooktest.Option{cloudinaryhooktest.WithHeader(cloudinaryhook.SignatureHeader)}, 401},
		{"two timestamps", []cloudinaryhooktest.Option{cloudinaryhooktest.WithHeader(cloudinaryhook.TimestampHeader, "1", "2")}, 401},
	}
	server := httptest.NewServer(newHandler(t, new(cloudinaryhooktest.MemoryStore)))
	defer server.Close()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(`{"request_id":"1"}`)
			w := httptest.NewRecorder()
			newHandler(t, new(cloudinaryhooktest.MemoryStore)).ServeHTTP(w, cloudinaryhooktest.NewRequest(t, "/hook?a=b", body, tt.opts...))
			if w.Code != tt.want {
				t.Errorf("called directly, status got %d, want %d", w.Code, tt.want)
			}
			resp, err := server.Client().Do(cloudinaryhooktest.NewRequest(t, server.URL+"/hook?a=b", body, tt.opts...))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("over HTTP, status got %d, want %d", resp.StatusCode, tt.want)
			}
		})
	}
}

func TestNewRequestKeepsTheQuery(t *testing.T) {
	tests := []struct{ url, want string }{
		{"/hook?z=1&a=%7E&flag&token=mine", "z=1&a=%7E&flag&token=mine"},
		{"/hook?token=mine&token=other", "token=mine&token=other"},
		{"/hook?z=1&a=%7E&flag", "z=1&a=%7E&flag&token=a%26b"},
		{"https://app.example/hook", "token=a%26b"},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			var opts []cloudinaryhooktest.Option
			if !strings.Contains(tt.url, "token") {
				opts = append(opts, cloudinaryhooktest.WithToken("a&b"))
			}
			if got := cloudinaryhooktest.NewRequest(t, tt.url, nil, opts...).URL.RawQuery; got != tt.want {
				t.Errorf("query of %s got %q, want %q", tt.url, got, tt.want)
			}
		})
	}
}

// An app's middleware may look at these parts of a request.
func TestNewRequestIsAsAServersOrAClients(t *testing.T) {
	type parts struct{ Host, RequestURI, RemoteAddr, ContentType, Body, BodyAgain string }
	tests := []struct {
		url  string
		want parts
	}{
		{"/hook?token=t", parts{"example.com", "/hook?token=t", "192.0.2.1:1234", "application/x-www-form-urlencoded", "{}", "{}"}},
		{"https://app.example/hook?token=t", parts{"app.example", "", "192.0.2.1:1234", "application/x-www-form-urlencoded", "{}", "{}"}},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			r := cloudinaryhooktest.NewRequest(t, tt.url, []byte("{}"))
			got := parts{Host: r.Host, RequestURI: r.RequestURI, RemoteAddr: r.RemoteAddr, ContentType: r.Header.Get("Content-Type")}
			again, err := r.GetBody()
			if err != nil {
				t.Fatal(err)
			}
			for body, text := range map[io.Reader]*string{r.Body: &got.Body, again: &got.BodyAgain} {
				read, err := io.ReadAll(body)
				if err != nil {
					t.Fatal(err)
				}
				*text = string(read)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.url, diff)
			}
		})
	}
}

// failing is a test that records its failure.
type failing struct {
	testing.TB
	text string
}

func (f *failing) Helper()                           {}
func (f *failing) Fatalf(format string, args ...any) { f.text = fmt.Sprintf(format, args...) }

func TestNewRequestFailsTheTest(t *testing.T) {
	tests := []struct {
		name, url string
		opt       cloudinaryhooktest.Option
		want      string
	}{
		{"hash", "/", cloudinaryhooktest.WithHash(crypto.MD5), "neither SHA-1 nor SHA-256"},
		{"key", "/", cloudinaryhooktest.WithKey([]byte("short")), "fewer than 32"},
		{"malformed", "http://a b/?token=s3cret", cloudinaryhooktest.WithSecret("x"), "malformed"},
		{"relative", "hook", cloudinaryhooktest.WithSecret("x"), "neither absolute nor a path"},
		{"empty", "", cloudinaryhooktest.WithSecret("x"), "neither absolute nor a path"},
		{"two tokens", "/?token=s3cret", cloudinaryhooktest.WithToken("x"), "has a token already"},
		{"a token and none", "/?token=s3cret", cloudinaryhooktest.WithoutToken(), "has a token already"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tb := new(failing)
			if r := cloudinaryhooktest.NewRequest(tb, tt.url, nil, tt.opt); r != nil {
				t.Errorf("NewRequest of %q got a request, want nil", tt.url)
			}
			if !strings.Contains(tb.text, tt.want) || strings.Contains(tb.text, "s3cret") {
				t.Errorf("NewRequest of %q failed with %q, want %q in it and no token", tt.url, tb.text, tt.want)
			}
		})
	}
}

func TestMemoryStoreTakesRealDeliveriesOnly(t *testing.T) {
	store := new(cloudinaryhooktest.MemoryStore)
	byHand := &cloudinaryhook.Delivery{ID: "a", Claims: new(cloudinaryhook.Claims), Body: []byte("{}")}
	if state, err := store.Save(t.Context(), byHand); !errors.Is(err, cloudinaryhook.ErrInvalidDelivery) {
		t.Errorf("Save of a delivery made by hand got %v and %v, want ErrInvalidDelivery", state, err)
	}
	if got := store.Deliveries(); len(got) != 0 {
		t.Errorf("Deliveries got %v, want none", got)
	}
}

// Deliveries returns the order of the Saves, Pending the order of receipt. Both
// return copies that the caller may change.
func TestMemoryStoreOrder(t *testing.T) {
	store, now := new(cloudinaryhooktest.MemoryStore), time.Now()
	for i, publicID := range []string{"young", "old", "done"} {
		d, err := cloudinaryhook.NewDelivery([]byte(`{"public_id":"`+publicID+`"}`), nil, now)
		if err != nil {
			t.Fatal(err)
		}
		d.ReceivedAt = now.Add(-time.Duration(i+1) * time.Hour)
		if _, err := store.Save(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		d.Body[0], d.PublicID = '[', "changed by the caller"
	}
	all := store.Deliveries()
	all[0].Body[0] = '['
	cause := errors.New("no")
	var pending []string
	for d, err := range store.Pending(t.Context(), now) {
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, d.PublicID)
		if d.PublicID == "done" { // completes the next one too
			if err := store.Complete(t.Context(), all[1].ID, cause); err != nil {
				t.Fatal(err)
			}
		}
	}
	var saved []string
	for _, d := range store.Deliveries() {
		saved = append(saved, d.PublicID+" "+store.State(d.ID).String())
	}
	if diff := cmp.Diff([]string{"young pending", "old done", "done pending"}, saved); diff != "" {
		t.Errorf("Deliveries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"done", "young"}, pending); diff != "" {
		t.Errorf("Pending (-want +got):\n%s", diff)
	}
	if got := store.Rejected(all[1].ID); !errors.Is(got, cause) {
		t.Errorf("Rejected got %v, want %v", got, cause)
	}
	if got := store.State("unknown"); got != 0 || store.Rejected("unknown") != nil {
		t.Errorf("an unknown ID got state %v and cause %v, want none", got, store.Rejected("unknown"))
	}
}

func TestNewRequestWithoutTest(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("NewRequest(nil, …) with a key that is too short did not panic")
		}
	}()
	cloudinaryhooktest.NewRequest(nil, "/", nil, cloudinaryhooktest.WithKey(nil))
}

func TestBodiesAreAccepted(t *testing.T) {
	names, err := fs.Glob(cloudinaryhooktest.Bodies(), "*.json")
	if err != nil || len(names) < 40 {
		t.Fatalf("got %d bodies (%v), want 40 at least", len(names), err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), name)
			if err != nil {
				t.Fatal(err)
			}
			store := new(cloudinaryhooktest.MemoryStore)
			w := httptest.NewRecorder()
			newHandler(t, store).ServeHTTP(w, cloudinaryhooktest.NewRequest(t, "/", body))
			deliveries := store.Deliveries()
			if w.Code != http.StatusCreated || len(deliveries) != 1 || string(deliveries[0].Body) != string(body) {
				t.Errorf("status got %d with %d deliveries, want 201 and the body", w.Code, len(deliveries))
			}
		})
	}
}

// An app tests its own handler with a request as Cloudinary would send it.
func ExampleNewRequest() {
	store := new(cloudinaryhooktest.MemoryStore)
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
		Processor: &cloudinaryhook.Processor{
			Store: store,
			Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
				return cloudinaryhook.Permanent(fmt.Errorf("album %s is closed", img.Claims.AlbumID))
			}),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), "upload-simple.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, cloudinaryhooktest.NewRequest(nil, "/hook", body)) // in a test: NewRequest(t, …)
	fmt.Println(w.Code)
	for _, d := range store.Deliveries() {
		fmt.Println(d.PublicID, store.State(d.ID), store.Rejected(d.ID))
	}
	// Output:
	// 201
	// hat done cloudinaryhook: creating the image failed: album test-album is closed
}
