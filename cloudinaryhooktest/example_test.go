package cloudinaryhooktest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// An app's test sends its handler genuine notifications and wrong ones.
func Example() {
	store := new(cloudinaryhooktest.MemoryStore)
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
		Processor: &cloudinaryhook.Processor{
			Store: store,
			Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
				if img.Claims.AlbumID == "closed" {
					return cloudinaryhook.Permanent(errors.New("the album is closed"))
				}
				return nil
			}),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	body := []byte(`{"notification_type":"upload","public_id":"beach","version":1700000000}`)
	for _, tt := range []struct {
		name    string
		options []cloudinaryhooktest.Option
	}{
		{"good", nil},
		{"to a closed album", []cloudinaryhooktest.Option{cloudinaryhooktest.WithClaims(&cloudinaryhook.Claims{AlbumID: "closed"})}},
		{"by another secret", []cloudinaryhooktest.Option{cloudinaryhooktest.WithSecret("another")}},
		{"a day old", []cloudinaryhooktest.Option{cloudinaryhooktest.WithTime(time.Now().AddDate(0, 0, -1))}},
		{"without a token", []cloudinaryhooktest.Option{cloudinaryhooktest.WithoutToken()}},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, cloudinaryhooktest.NewRequest(nil, "/hook", body, tt.options...)) // in a test: NewRequest(t, …)
		fmt.Println(tt.name, w.Code)
	}
	for _, d := range store.Deliveries() {
		fmt.Println("album", d.Claims.AlbumID, store.State(d.ID), store.Rejected(d.ID))
	}
	// Output:
	// good 201
	// to a closed album 201
	// by another secret 401
	// a day old 401
	// without a token 401
	// album test-album done <nil>
	// album closed done cloudinaryhook: creating the image failed: the album is closed
}

// TestStore tests a Store against its contract. Each clause is a subtest.
func ExampleTestStore() {
	var t *testing.T // of the app's own test
	cloudinaryhooktest.TestStore(t, func(*testing.T) cloudinaryhook.Store {
		return new(cloudinaryhooktest.MemoryStore) // yours instead; all subtests may use the same table or file
	})
}
