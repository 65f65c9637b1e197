package cloudinaryhook_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// An app supplies a Store and an ImageCreator, and mounts the handler.
func Example() {
	images := cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
		fmt.Println("album", img.Claims.AlbumID, "has", img.PublicID)
		return nil
	})
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}, Require: []string{"album_id"}},
		Processor: &cloudinaryhook.Processor{Store: new(cloudinaryhooktest.MemoryStore), Images: images},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("POST /api/v1/cloudinary", handler)

	// What Cloudinary does, for this example:
	claims := &cloudinaryhook.Claims{AlbumID: "7"}
	r := cloudinaryhooktest.NewRequest(nil, "/api/v1/cloudinary",
		[]byte(`{"notification_type":"upload","public_id":"beach","version":1700000000}`),
		cloudinaryhooktest.WithClaims(claims))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code)
	// Output:
	// album 7 has beach
	// 201
}

// An app tests its own creator with requests such as Cloudinary's. In a test,
// cloudinaryhooktest.TestImageCreator tests it against the whole contract.
func Example_testing() {
	album := make(map[string]string) // the app's images, unique by their key
	creator := cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
		album[img.Key] = img.PublicID
		return nil
	})
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
		Processor: &cloudinaryhook.Processor{Store: new(cloudinaryhooktest.MemoryStore), Images: creator},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"upload-simple.json", "upload-simple.json", "error.json", "upload-video.json"} {
		body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), name)
		if err != nil {
			fmt.Println(err)
			return
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, cloudinaryhooktest.NewRequest(nil, "/hook", body)) // in a test: NewRequest(t, …)
		fmt.Println(name, w.Code, len(album))
	}
	// Output:
	// upload-simple.json 201 1
	// upload-simple.json 201 1
	// error.json 201 1
	// upload-video.json 201 1
}

// A receiver only stores, and a worker elsewhere does the rest. It needs no
// secret: what it gets was verified before.
func Example_worker() {
	ctx := context.Background()
	store := new(cloudinaryhooktest.MemoryStore) // both use the same database
	receiver := &cloudinaryhook.Processor{Store: store, Deferred: true}
	worker := &cloudinaryhook.Processor{
		Store: store,
		Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
			fmt.Println("created", img.PublicID)
			return nil
		}),
	}
	d, err := cloudinaryhook.NewDelivery([]byte(`{"notification_type":"upload","public_id":"beach"}`), nil, time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receiver.Accept(ctx, d))
	fmt.Println(worker.Process(ctx, d), store.State(d.ID))
	// Output:
	// pending <nil>
	// created beach
	// <nil> done
}

// What a token says beyond the fields of Claims, an app decodes into its own type.
func ExampleClaims_Decode() {
	type appClaims struct {
		cloudinaryhook.Claims
		Plan string `json:"plan"`
	}
	key := []byte(cloudinaryhooktest.DefaultKey)
	token, err := cloudinaryhook.SignToken(key, &appClaims{cloudinaryhook.Claims{AlbumID: "7"}, "gold"})
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier := &cloudinaryhook.TokenVerifier{Keys: [][]byte{key}}
	claims, err := verifier.Verify(token) // as a Handler does; CreateImage gets them in Image.Claims
	if err != nil {
		fmt.Println(err)
		return
	}
	var mine appClaims
	err = claims.Decode(&mine)
	fmt.Println(mine.AlbumID, mine.Plan, err)
	// Output: 7 gold <nil>
}

// An app that has a pipeline of its own uses the checks alone.
func ExampleHandler_Authenticate() {
	checks, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
		Processor: &cloudinaryhook.Processor{Store: new(cloudinaryhooktest.MemoryStore), Deferred: true}, // not used
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	receive := func(w http.ResponseWriter, r *http.Request) {
		d, err := checks.Authenticate(r)
		if err != nil {
			w.WriteHeader(cloudinaryhook.StatusCode(err))
			return
		}
		fmt.Println(d.Type, "of", d.PublicID, "for album", d.Claims.AlbumID)
	}
	body := []byte(`{"notification_type":"rename","public_id":"beach"}`)
	for _, secret := range []string{cloudinaryhooktest.DefaultSecret, "another"} {
		w := httptest.NewRecorder()
		receive(w, cloudinaryhooktest.NewRequest(nil, "/hook", body, cloudinaryhooktest.WithSecret(secret)))
		fmt.Println(w.Code)
	}
	// Output:
	// rename of beach for album test-album
	// 200
	// 401
}

// What no retry can mend is rejected: it is answered 201, so that Cloudinary does
// not send it again, and the store knows why.
func ExamplePermanent() {
	store := new(cloudinaryhooktest.MemoryStore)
	p := &cloudinaryhook.Processor{
		Store: store,
		Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
			if img.AssetFolder != img.Claims.OrganizationID {
				return cloudinaryhook.Permanent(errors.New("the asset is in another organization's folder"))
			}
			return nil
		}),
	}
	d, err := cloudinaryhook.NewDelivery([]byte(`{"notification_type":"upload","public_id":"beach","asset_folder":"acme"}`),
		&cloudinaryhook.Claims{OrganizationID: "others"}, time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Accept(context.Background(), d))
	fmt.Println(store.Rejected(d.ID))
	// Output:
	// done <nil>
	// cloudinaryhook: creating the image failed: the asset is in another organization's folder
}

// Without HTTP, as for polled notifications, the verifier takes the three
// texts that were signed.
func ExampleSignatureVerifier_Verify() {
	v := &cloudinaryhook.SignatureVerifier{Secrets: []string{"new secret", "old secret"}}
	body := []byte(`{"notification_type":"upload","public_id":"beach"}`)
	timestamp := fmt.Sprint(time.Now().Unix())
	signature := cloudinaryhook.Sign(crypto.SHA256, body, timestamp, "a secret of another environment")

	switch err := v.Verify(body, timestamp, signature); {
	case err == nil:
		fmt.Println("it is Cloudinary's")
	case errors.Is(err, cloudinaryhook.ErrStaleTimestamp):
		fmt.Println("too old, or this machine's clock is wrong")
	case errors.Is(err, cloudinaryhook.ErrSignatureMismatch):
		fmt.Println("not signed with one of our secrets, or changed on the way")
	case errors.Is(err, cloudinaryhook.ErrNoSecrets):
		fmt.Println("no secrets are configured")
	default:
		fmt.Println("headers are missing or malformed:", cloudinaryhook.StatusCode(err))
	}
	// Output: not signed with one of our secrets, or changed on the way
}

// An upload carries the URL at which its notification is to arrive, and in it
// whom the notification is for.
func ExampleNotificationURL() {
	key := []byte("a key of its own, 32 bytes at least")
	token, err := cloudinaryhook.SignToken(key, &cloudinaryhook.Claims{
		RegisteredClaims: jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Unix(1700007200, 0))},
		OrganizationID:   "acme",
		AlbumID:          "7",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	url, err := cloudinaryhook.NotificationURL("https://app.example/api/v1/cloudinary", token)
	if err != nil {
		fmt.Println(err)
		return
	}
	// A bearer credential: give it to Cloudinary, and do not log it.
	fmt.Println(len(url) > len(token))
	// Output: true
}

// A type switch finds the notifications an app cares about.
func ExampleParsePayload() {
	bodies := []string{
		`{"notification_type":"eager","public_id":"clip","eager":[{"transformation":"sp_hd/m3u8","status":"failed","reason":"Unsupported video"}]}`,
		`{"notification_type":"delete","resources":[{"public_id":"beach"},{"public_id":"sea"}]}`,
		`{"notification_type":"upload","public_id":"beach","colors":[["#336699",61.5]],"width":"wide","novelty":true}`,
		`{"notification_type":"later","public_id":"beach"}`,
	}
	for _, body := range bodies {
		payload, err := cloudinaryhook.ParsePayload([]byte(body))
		if err != nil {
			fmt.Println(err)
			continue
		}
		switch p := payload.(type) {
		case *cloudinaryhook.EagerPayload:
			fmt.Println(p.PublicID, p.Eager[0].Status, "because:", p.Eager[0].Reason)
		case *cloudinaryhook.DeletePayload:
			fmt.Println("deleted", len(p.Resources), "assets")
		case *cloudinaryhook.UploadPayload:
			fmt.Println(p.PublicID, "is", p.Colors[0].Name, "and more:", string(p.Extra["novelty"]), p.Mismatched)
		default:
			fmt.Println("ignored:", p.Common().Type)
		}
	}
	// Output:
	// clip failed because: Unsupported video
	// deleted 2 assets
	// beach is #336699 and more: true [width]
	// ignored: later
}

// What is pending after a crash or a failure is processed later: at the app's
// start, and then now and then.
func ExampleProcessor_Resume() {
	ctx := context.Background()
	store := new(cloudinaryhooktest.MemoryStore)
	down := true
	p := &cloudinaryhook.Processor{
		Store: store,
		Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
			if down {
				return errors.New("the image service is down")
			}
			fmt.Println("created", img.PublicID)
			return nil
		}),
	}
	d, err := cloudinaryhook.NewDelivery([]byte(`{"notification_type":"upload","public_id":"beach"}`), nil, time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	state, err := p.Accept(ctx, d)
	fmt.Println(state, err)

	down = false
	err = p.Resume(ctx, store.Pending(ctx, time.Now().Add(time.Minute)))
	fmt.Println(store.State(d.ID), err)
	// Output:
	// pending cloudinaryhook: creating the image failed: the image service is down
	// created beach
	// done <nil>
}
