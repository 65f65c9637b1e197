package cloudinaryhooktest_test

import (
	"context"
	"crypto"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

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
		{"a token again", []cloudinaryhooktest.Option{cloudinaryhooktest.WithoutToken(), cloudinaryhooktest.WithToken("")}, 201},
		{"other secret", []cloudinaryhooktest.Option{cloudinaryhooktest.WithSecret("x")}, 401},
		{"three hours ago", []cloudinaryhooktest.Option{cloudinaryhooktest.WithTime(time.Now().Add(-3 * time.Hour))}, 401},
		{"odd timestamp", []cloudinaryhooktest.Option{cloudinaryhooktest.WithTimestamp("soon")}, 401},
		{"other key", []cloudinaryhooktest.Option{cloudinaryhooktest.WithKey(otherKey)}, 401},
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

// A test of an app's own handler sends what Cloudinary would.
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
