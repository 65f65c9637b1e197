package cloudinaryhooktest

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// A CreatorOption changes the images that TestImageCreator asks for.
type CreatorOption func(*creatorClaims)

type creatorClaims struct {
	claims *cloudinaryhook.Claims
	others []*cloudinaryhook.Claims
}

// ForClaims replaces [DefaultClaims]. One image is for other, and the rest are
// for claims. The two must differ. Use it if your app has the albums or the
// organizations of a token in its database: create two of them first.
func ForClaims(claims, other *cloudinaryhook.Claims) CreatorOption {
	return func(c *creatorClaims) { c.claims, c.others = claims, []*cloudinaryhook.Claims{other} }
}

// TestImageCreator tests an ImageCreator against its contract: if it is called
// again for the same image, even at the same time, there is one image and no
// error. Images with other keys are other images, also if they differ only in the
// version or the delivery type, and none is lost if many are made at the same
// time. If CreateImage returns nil, the image is there, even if its context has
// ended.
//
// TestImageCreator calls open once for each subtest. The function count returns
// the number of images, which need not be 0 at first. Public IDs are random.
// Without [ForClaims], the images have [DefaultClaims]. One of them has the
// AlbumID "another-album" instead, because one asset may go to two albums.
// Another has the OrganizationID "another-organization", because two
// organizations may use the same album ID.
func TestImageCreator(t *testing.T, open func(t *testing.T) (c cloudinaryhook.ImageCreator, count func() int), opts ...CreatorOption) {
	album, organization := DefaultClaims(), DefaultClaims()
	album.AlbumID, organization.OrganizationID = "another-album", "another-organization"
	c := creatorClaims{DefaultClaims(), []*cloudinaryhook.Claims{album, organization}}
	for _, opt := range opts {
		opt(&c)
	}
	for _, clause := range creatorClauses {
		t.Run(clause.name, func(t *testing.T) {
			creator, count := open(t)
			clause.test(t, creator, count, c)
		})
	}
}

var creatorClauses = []struct {
	name string
	test func(*testing.T, cloudinaryhook.ImageCreator, func() int, creatorClaims)
}{
	{"TheSameAgainMakesOne", testAgain},
	{"TheSameAtTheSameTimeMakesOne", testAtTheSameTime},
	{"AnotherNotificationOfItMakesOne", testAnotherNotification},
	{"OthersAreOthers", testOthers},
	{"OthersAtTheSameTimeAreMade", testOthersAtTheSameTime},
	{"NilMeansThatItIsThere", testCreateCanceled},
}

func newImage(t *testing.T, publicID string, version int, claims *cloudinaryhook.Claims) *cloudinaryhook.Image {
	t.Helper()
	return newImageOfType(t, "upload", publicID, version, claims)
}

func newImageOfType(t *testing.T, deliveryType, publicID string, version int, claims *cloudinaryhook.Claims) *cloudinaryhook.Image {
	t.Helper()
	body := fmt.Sprintf(`{"notification_type":"upload","request_id":%q,"public_id":%q,"version":%d,"format":"jpg",`+
		`"resource_type":"image","type":%q,"bytes":1024,"width":40,"height":30,`+
		`"secure_url":"https://res.cloudinary.com/example-cloud/image/%[4]s/%[2]s.jpg"}`, rand.Text(), publicID, version, deliveryType)
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
		atOnce(32, func(int) { create(t, c, img) })
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
	create(t, c, newImage(t, rand.Text(), 1, of.claims))
	create(t, c, newImageOfType(t, "private", publicID, 1, of.claims))
	for _, other := range of.others {
		create(t, c, newImage(t, publicID, 1, other))
	}
	made(t, count, before, 4+len(of.others), "two versions, another public ID, another delivery type, and other claims")
}

// A creator that locks each key and writes a file of all loses what another call
// makes at the same time.
func testOthersAtTheSameTime(t *testing.T, c cloudinaryhook.ImageCreator, count func() int, of creatorClaims) {
	before, images := count(), make([]*cloudinaryhook.Image, 32)
	for i := range images {
		images[i] = newImage(t, rand.Text(), 1, of.claims)
	}
	atOnce(len(images), func(i int) { create(t, c, images[i]) })
	made(t, count, before, len(images), "32 images at once")
}

// If CreateImage returns nil, the delivery is completed, and nobody tries again.
func testCreateCanceled(t *testing.T, c cloudinaryhook.ImageCreator, count func() int, of creatorClaims) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := count()
	if err := c.CreateImage(ctx, newImage(t, rand.Text(), 1, of.claims)); err == nil {
		made(t, count, before, 1, "CreateImage with a canceled context, which returned nil,")
	}
}
