package main

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// A moody creator takes up to 200 ms. It fails in a fifth of its calls and
// panics in some, in half of these after it has made the image. This depends
// only on the public ID and the number of the call, so each run is the same.
type moody struct {
	cloudinaryhook.ImageCreator

	mu     sync.Mutex
	calls  map[string]uint64 // by public ID
	failed int
	panics int
}

var errMood = errors.New("not in the mood")

func (m *moody) CreateImage(ctx context.Context, img *cloudinaryhook.Image) error {
	rng := m.rng(img.PublicID)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(rng.IntN(200)) * time.Millisecond):
	}
	mood := rng.IntN(100)
	fails, panics := mood < 20, mood >= 20 && mood < 22
	if mood%2 == 0 || !fails && !panics {
		if err := m.ImageCreator.CreateImage(ctx, img); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case panics:
		m.panics++
		panic(errMood)
	case fails:
		m.failed++
		return errMood
	}
	return nil
}

func (m *moody) rng(publicID string) *rand.Rand {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[publicID]++
	h := fnv.New64a()
	h.Write([]byte(publicID))
	return rand.New(rand.NewPCG(h.Sum64(), m.calls[publicID]))
}

// TestMoodyCreator: if a creator fails, Cloudinary's retries succeed for most
// images, and Resume does the rest.
func TestMoodyCreator(t *testing.T) {
	notifications := size(10_000, 1000)
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "gallery.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	creator := &moody{ImageCreator: db, calls: make(map[string]uint64)}
	processor := &cloudinaryhook.Processor{Store: db, Images: creator}
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
		Processor: processor,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()

	load := startLoad(t, 128, notifications, server.URL)
	load.wait()
	stats, err := db.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rounds := 0
	for ; stats.Pending > 0; rounds++ {
		_ = processor.Resume(t.Context(), db.Pending(t.Context(), time.Now())) // a delivery that fails again stays pending
		if stats, err = db.Stats(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the creator failed %d times and panicked %d times; Resume ran %d times", creator.failed, creator.panics, rounds)
	load.check(db)
	if rounds == 0 {
		t.Error("no delivery was left for Resume")
	}
	if stats.Images != int64(notifications) || stats.Rejected > 0 {
		t.Errorf("after %d notifications the stats are %+v, want an image for each", notifications, stats)
	}
}
