package cloudinaryhook_test

import (
	"context"
	"crypto"
	"encoding/json"
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

// A receiver only stores, and a worker elsewhere does the rest. The worker
// needs no secret, because its deliveries were verified before.
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

// An app decodes other claims of the token into its own type.
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

// An app with a pipeline of its own uses only the checks.
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

// If no retry can help, reject the notification. It is answered 201, so that
// Cloudinary does not send it again, and the store knows why.
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

// For a notification that came without HTTP, such as a polled one, give the
// verifier its body, timestamp and signature.
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

// Verify a token yourself if no Handler does it. The error says what is wrong,
// and errors.Is finds golang-jwt's causes.
func ExampleTokenVerifier_Verify() {
	key := []byte(cloudinaryhooktest.DefaultKey)
	v := &cloudinaryhook.TokenVerifier{
		Keys:    [][]byte{key},
		Require: []string{"album_id"},
		Now:     func() time.Time { return time.Unix(1700000000, 0) }, // for this example
	}
	for _, claims := range []jwt.Claims{
		&cloudinaryhook.Claims{AlbumID: "7", RegisteredClaims: jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Unix(1700003600, 0))}},
		&cloudinaryhook.Claims{AlbumID: "7", RegisteredClaims: jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Unix(1699999999, 0))}},
		jwt.MapClaims{"album": 7},
	} {
		token, err := cloudinaryhook.SignToken(key, claims)
		if err != nil {
			fmt.Println(err)
			return
		}
		switch claims, err := v.Verify(token); {
		case errors.Is(err, jwt.ErrTokenExpired):
			fmt.Println("too late")
		case err != nil: // it wraps ErrInvalidToken, ErrMissingToken or ErrNoSecrets
			fmt.Println(err)
		default:
			fmt.Println("album", claims.AlbumID)
		}
	}
	// Output:
	// album 7
	// too late
	// cloudinaryhook: invalid token: token is missing required claim: album_id
}

// An upload has the URL to which Cloudinary sends its notification. The URL
// says who the notification is for.
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
	// Anybody who has the URL can use its token. Give it to Cloudinary, and do not
	// log it.
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
		default: // also of types that Cloudinary adds later
			fmt.Println("a", p.Common().Type, "of", p.Common().PublicID)
		}
	}
	// Output:
	// clip failed because: Unsupported video
	// deleted 2 assets
	// beach is #336699 and more: true [/width]
	// a later of beach
}

// Notify is called for every notification of any type. If this package does not
// know a type, decode the body into a type of your own. That still works when a
// later version of the package knows it.
func ExampleProcessor_notify() {
	p := &cloudinaryhook.Processor{
		Store: new(cloudinaryhooktest.MemoryStore),
		Notify: func(_ context.Context, d *cloudinaryhook.Delivery) error {
			switch d.Type {
			case cloudinaryhook.TypeRename:
				payload, err := d.Payload()
				if err != nil {
					return err
				}
				if p, ok := payload.(*cloudinaryhook.RenamePayload); ok {
					fmt.Println(p.FromPublicID, "is now", p.ToPublicID)
				}
			case "watermark":
				var mine struct {
					WatermarkID *int64 `json:"watermark_id"` // nil if absent or null
				}
				if err := json.Unmarshal(d.Body, &mine); err != nil {
					return cloudinaryhook.Permanent(err) // of another kind: no retry helps
				}
				if mine.WatermarkID != nil {
					fmt.Println(d.PublicID, "has watermark", *mine.WatermarkID)
				}
			default:
				fmt.Println("not wanted:", d.Type)
			}
			return nil
		},
	}
	for _, body := range []string{
		`{"notification_type":"rename","from_public_id":"sea","to_public_id":"beach"}`,
		`{"notification_type":"watermark","public_id":"beach","watermark_id":7}`,
		`{"notification_type":"explode","public_id":"paper"}`,
	} {
		d, err := cloudinaryhook.NewDelivery([]byte(body), nil, time.Now())
		if err == nil {
			_, err = p.Accept(context.Background(), d)
		}
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// sea is now beach
	// beach has watermark 7
	// not wanted: explode
}

// A store keeps a delivery as JSON. A later version of this package can read it
// too.
func ExampleDelivery_UnmarshalJSON() {
	const stored = `{"id":"c33d5558ff80bed16acaa28f179954431bff3097cae6e56ca25424d52d97ee9d",` +
		`"received_at":"2025-03-04T09:15:28.5Z","signed_at":"2025-03-04T09:15:27Z","claims":{"album_id":7},` +
		`"body":"eyJub3RpZmljYXRpb25fdHlwZSI6InVwbG9hZCIsInB1YmxpY19pZCI6ImJlYWNoIn0="}`
	var d cloudinaryhook.Delivery
	if err := json.Unmarshal([]byte(stored), &d); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.PublicID, "for album", d.Claims.AlbumID)
	fmt.Println("signed at", d.SignedAt, "and received at", d.ReceivedAt)
	// Output:
	// beach for album 7
	// signed at 2025-03-04 09:15:27 +0000 UTC and received at 2025-03-04 09:15:28.5 +0000 UTC
}

// Process pending deliveries after a crash or a failure. When the app starts,
// resume all that were received before. Then resume every minute those that are
// older than a minute.
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
	started := time.Now().Add(time.Second) // the app starts again, a second later in this example
	err = p.Resume(ctx, store.Pending(ctx, started))
	fmt.Println(store.State(d.ID), err)
	err = p.Resume(ctx, store.Pending(ctx, time.Now().Add(-time.Minute))) // and so every minute
	fmt.Println(err)
	// Output:
	// pending cloudinaryhook: creating the image failed: the image service is down
	// created beach
	// done <nil>
	// <nil>
}

// One handler serves many product environments. SecretsFor finds the secrets
// for the token's claims. A secret is rotated in the app's database, without a
// restart.
func ExampleConfig_secretsFor() {
	secrets := map[string][]string{ // in an app, a table with a cache before it
		"acme":   {"secret of acme"},
		"globex": {"new secret of globex", "old secret of globex"},
	}
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: new(cloudinaryhook.SignatureVerifier),
		SecretsFor: func(_ context.Context, claims *cloudinaryhook.Claims) ([]string, error) {
			return secrets[claims.OrganizationID], nil // none: the answer is 401
		},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}, Require: []string{"organization_id"}},
		Processor: &cloudinaryhook.Processor{Store: new(cloudinaryhooktest.MemoryStore), Deferred: true},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, secret := range []string{"old secret of globex", "secret of acme"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, cloudinaryhooktest.NewRequest(nil, "/", []byte(`{"notification_type":"delete"}`),
			cloudinaryhooktest.WithClaims(&cloudinaryhook.Claims{OrganizationID: "globex"}), cloudinaryhooktest.WithSecret(secret)))
		fmt.Println(w.Code)
	}
	// Output:
	// 201
	// 401
}

// A delivery says whether it announces an image. The same version of an asset
// has the same key in every notification about it.
func ExampleDelivery_Image() {
	claims := &cloudinaryhook.Claims{AlbumID: "7"}
	for _, body := range []string{
		`{"notification_type":"upload","resource_type":"image","public_id":"beach","version":1700000000,"request_id":"1"}`,
		`{"notification_type":"upload","resource_type":"image","public_id":"beach","version":1700000000,"request_id":"2"}`,
		`{"notification_type":"upload","resource_type":"video","public_id":"waves","version":1700000000,"request_id":"3"}`,
	} {
		d, err := cloudinaryhook.NewDelivery([]byte(body), claims, time.Now())
		if err != nil {
			fmt.Println(err)
			return
		}
		if img, ok := d.Image(); ok {
			fmt.Println(img.PublicID, "for album", img.Claims.AlbumID, "with key", img.Key[:8])
		} else {
			fmt.Println(d.PublicID, "is no image")
		}
	}
	// Output:
	// beach for album 7 with key 81d25da1
	// beach for album 7 with key 81d25da1
	// waves is no image
}

// Verify a notification that came another way, here from a file. Then accept it
// like any other.
func ExampleProcessor_Accept() {
	body := []byte(`{"notification_type":"upload","public_id":"beach","version":1700000000}`)
	timestamp := "1700000000"
	signature := cloudinaryhook.Sign(crypto.SHA256, body, timestamp, cloudinaryhooktest.DefaultSecret) // Cloudinary does this
	verifier := &cloudinaryhook.SignatureVerifier{
		Secrets: []string{cloudinaryhooktest.DefaultSecret},
		Now:     func() time.Time { return time.Unix(1700000060, 0) },
	}
	if err := verifier.Verify(body, timestamp, signature); err != nil {
		fmt.Println(err)
		return
	}
	d, err := cloudinaryhook.NewDelivery(body, nil, time.Unix(1700000000, 0))
	if err != nil {
		fmt.Println(err)
		return
	}
	p := &cloudinaryhook.Processor{
		Store: new(cloudinaryhooktest.MemoryStore),
		Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
			fmt.Println("created", img.PublicID)
			return nil
		}),
	}
	for range 2 {
		state, err := p.Accept(context.Background(), d) // the second time it is done already
		fmt.Println(state, err)
	}
	// Output:
	// created beach
	// done <nil>
	// done <nil>
}
