package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudinary/cloudinary-go/v2"
	"github.com/cloudinary/cloudinary-go/v2/api"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

const (
	secret = "the API secret"
	key    = "a token key of its own, 32 bytes at least"
)

// A fakeCloudinary accepts uploads like Cloudinary, and keeps their parameters.
type fakeCloudinary struct {
	*httptest.Server
	params url.Values
	file   string
}

func newFakeCloudinary(t *testing.T) *fakeCloudinary {
	t.Helper()
	f := new(fakeCloudinary)
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeCloudinary) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseMultipartForm(1 << 20); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.params, f.file = r.PostForm, r.MultipartForm.File["file"][0].Filename
	signature := f.params.Get("signature")
	for _, unsigned := range []string{"signature", "api_key", "file", "resource_type", "cloud_name"} {
		f.params.Del(unsigned)
	}
	if want, err := api.SignParameters(f.params, secret); err != nil || signature != want {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"message":"Invalid Signature"}}`)
		return
	}
	fmt.Fprint(w, `{"public_id":"beach","version":1741079726}`)
}

// notify sends a notification, as Cloudinary does when an upload is finished.
func (f *fakeCloudinary) notify(t *testing.T) int {
	t.Helper()
	body := []byte(`{"notification_type":"upload","request_id":"1","public_id":"beach","version":1741079726,` +
		`"format":"jpg","resource_type":"image","type":"upload","original_filename":"` + f.file + `"}`)
	r, err := http.NewRequest(http.MethodPost, f.params.Get("notification_url"), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set(cloudinaryhook.TimestampHeader, timestamp)
	r.Header.Set(cloudinaryhook.SignatureHeader, cloudinaryhook.Sign(crypto.SHA1, body, timestamp, secret))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// newApp starts the receiver. It writes each image to images.
func newApp(t *testing.T, images *[]cloudinaryhook.Image) *httptest.Server {
	t.Helper()
	hook, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{secret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(key)}, Require: []string{"album_id"}, RequireExpiry: true},
		Processor: &cloudinaryhook.Processor{
			Store: new(cloudinaryhooktest.MemoryStore),
			Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
				*images = append(*images, *img)
				return nil
			}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	app := httptest.NewServer(hook)
	t.Cleanup(app.Close)
	return app
}

func photo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "beach.jpg")
	if err := os.WriteFile(path, []byte("\xff\xd8 a photo"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newSDK(t *testing.T, f *fakeCloudinary, secret string) *cloudinary.Cloudinary {
	t.Helper()
	cld, err := cloudinary.NewFromParams("example-cloud", "key", secret)
	if err != nil {
		t.Fatal(err)
	}
	cld.Config.API.UploadPrefix = f.URL
	cld.Upload.Config.API.UploadPrefix = f.URL
	return cld
}

// TestFromUploadToImage: the SDK passes on the URL with its token, and the
// notification to this URL creates an image in the album of the upload.
func TestFromUploadToImage(t *testing.T) {
	for _, query := range []string{"", "?region=eu"} {
		t.Run("endpoint"+query, func(t *testing.T) {
			var images []cloudinaryhook.Image
			app, fake := newApp(t, &images), newFakeCloudinary(t)
			claims := cloudinaryhook.Claims{OrganizationID: "acme & sons", AlbumID: "7"}
			publicID, err := upload(t.Context(), newSDK(t, fake, secret), photo(t), app.URL+"/hook"+query, []byte(key), claims)
			if err != nil || publicID != "beach" {
				t.Fatalf("upload got %q and %v, want beach", publicID, err)
			}
			if len(images) != 0 {
				t.Error("there is an image before the notification")
			}
			for range 2 { // the second is a retry
				if got := fake.notify(t); got != http.StatusCreated {
					t.Errorf("the notification was answered %d, want 201", got)
				}
			}
			if len(images) != 1 {
				t.Fatalf("got %d images, want 1", len(images))
			}
			if img := images[0]; img.PublicID != "beach" || img.OriginalFilename != "beach.jpg" || img.Claims.AlbumID != "7" || img.Claims.OrganizationID != "acme & sons" {
				t.Errorf("image got %+v for %+v, want beach.jpg in album 7", img.Asset, img.Claims)
			}
		})
	}
}

func TestUploadFails(t *testing.T) {
	fake := newFakeCloudinary(t)
	claims := cloudinaryhook.Claims{AlbumID: "7"}
	_, err := upload(t.Context(), newSDK(t, fake, "another"), photo(t), "https://app.example/hook", []byte(key), claims)
	if err == nil || !strings.Contains(err.Error(), "Invalid Signature") {
		t.Errorf("a wrong secret got %v, want Cloudinary's message", err)
	}
	if _, err := upload(t.Context(), newSDK(t, fake, secret), photo(t), "https://app.example/hook", nil, claims); !errors.Is(err, cloudinaryhook.ErrNoSecrets) {
		t.Errorf("no key got %v, want %v", err, cloudinaryhook.ErrNoSecrets)
	}
	if err := run(t.Context(), []string{"photo.jpg"}); err == nil {
		t.Error("without -url got nil, want an error")
	}
}
