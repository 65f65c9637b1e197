package cloudinaryhooktest

import (
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// A CreatorOption changes the images that TestImageCreator asks for.
type CreatorOption func(*creatorClaims)

type creatorClaims struct{ claims, other *cloudinaryhook.Claims }

// ForClaims replaces [DefaultClaims]. One image is for other, and the rest are
// for claims. The two must differ. Use it if your app has the albums of a token
// in its database: create two albums first.
func ForClaims(claims, other *cloudinaryhook.Claims) CreatorOption {
	return func(c *creatorClaims) { c.claims, c.other = claims, other }
}

// TestImageCreator tests an ImageCreator against its contract: if it is called
// again for the same image, even at the same time, there is one image and no
// error. It calls open once for each subtest. The function count returns the
// number of images, which need not be 0 at first. Public IDs are random. Without
// [ForClaims], the images have [DefaultClaims]. One of them has the AlbumID
// "another-album" instead, because one asset may go to two albums.
func TestImageCreator(t *testing.T, open func(t *testing.T) (c cloudinaryhook.ImageCreator, count func() int), opts ...CreatorOption) {
	c := creatorClaims{DefaultClaims(), DefaultClaims()}
	c.other.AlbumID = "another-album"
	for _, opt := range opts {
		opt(&c)
	}
	for _, clause := range []struct {
		name string
		test func(*testing.T, cloudinaryhook.ImageCreator, func() int, creatorClaims)
	}{
		{"TheSameAgainMakesOne", testAgain},
		{"TheSameAtTheSameTimeMakesOne", testAtTheSameTime},
		{"AnotherNotificationOfItMakesOne", testAnotherNotification},
		{"OthersAreOthers", testOthers},
	} {
		t.Run(clause.name, func(t *testing.T) {
			creator, count := open(t)
			clause.test(t, creator, count, c)
		})
	}
}

func newImage(t *testing.T, publicID string, version int, claims *cloudinaryhook.Claims) *cloudinaryhook.Image {
	t.Helper()
	body := fmt.Sprintf(`{"notification_type":"upload","request_id":%q,"public_id":%q,"version":%d,"format":"jpg",`+
		`"resource_type":"image","type":"upload","bytes":1024,"width":40,"height":30,`+
		`"secure_url":"https://res.cloudinary.com/example-cloud/image/upload/%[2]s.jpg"}`, rand.Text(), publicID, version)
	d, err := cloudinaryhook.NewDelivery([]byte(body), claims, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	img, ok := d.Image()
	if !ok {
		t.Fatalf("%s announces no image", body)
	}
	return img
}

func create(t *testing.T, c cloudinaryhook.ImageCreator, img *cloudinaryhook.Image) {
	t.Helper()
	if err := c.CreateImage(t.Context(), img); err != nil {
		t.Errorf("CreateImage of %s got %v, want nil", img.PublicID, err)
	}
}

// made checks that exactly want images were made since count returned before.
func made(t *testing.T, count func() int, before, want int, after string) {
	t.Helper()
	if got := count() - before; got != want {
		t.Errorf("%s made %d images, want %d", after, got, want)
	}
}

func testAgain(t *testing.T, c cloudinaryhook.ImageCreator, count func() int, of creatorClaims) {
	before, img := count(), newImage(t, rand.Text(), 1, of.claims)
	for range 3 {
		create(t, c, img)
	}
	made(t, count, before, 1, "the same image three times")
}

func testAtTheSameTime(t *testing.T, c cloudinaryhook.ImageCreator, count func() int, of creatorClaims) {
	for range 10 {
		before, img := count(), newImage(t, rand.Text(), 1, of.claims)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 32 {
			wg.Go(func() {
				<-start
				create(t, c, img)
			})
		}
		close(start)
		wg.Wait()
		made(t, count, before, 1, "the same image 32 times at once")
	}
}

func testAnotherNotification(t *testing.T, c cloudinaryhook.ImageCreator, count func() int, of creatorClaims) {
	before, publicID := count(), rand.Text()
	create(t, c, newImage(t, publicID, 1, of.claims))
	create(t, c, newImage(t, publicID, 1, of.claims))
	made(t, count, before, 1, "two notifications of one version of an asset")
}

func testOthers(t *testing.T, c cloudinaryhook.ImageCreator, count func() int, of creatorClaims) {
	before, publicID := count(), rand.Text()
	create(t, c, newImage(t, publicID, 1, of.claims))
	create(t, c, newImage(t, publicID, 2, of.claims))
	create(t, c, newImage(t, publicID, 1, of.other))
	create(t, c, newImage(t, rand.Text(), 1, of.claims))
	made(t, count, before, 4, "two versions, another album and another public ID")
}
