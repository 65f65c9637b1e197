// Package cloudinaryhook receives Cloudinary's webhook notifications inside an
// existing app.
//
// Cloudinary tells an app what happened to its images and videos: it POSTs
// signed JSON. A [Handler] checks two things: that a notification is from
// Cloudinary, and who it is for. Then the app's [Store] keeps it, and the app's
// [ImageCreator] creates the image that the notification announces.
//
// # Where to start
//
//   - Upload with a URL that says who the notification is for:
//     [NotificationURL].
//   - Receive: the package's first example. Package sqlstore has a Store.
//   - Test your side: the example "Testing", and package cloudinaryhooktest.
//   - Try again after a crash or an error: [Processor.ResumeEvery].
//   - Reject a notification if no retry can help: [Permanent].
//   - Get notifications of every type: the example "Notify" of [Processor].
//   - Read the rest of a body: [ParsePayload]. Read the rest of a token: [Claims.Decode].
//   - Serve many product environments: the example "SecretsFor" of [Config].
//   - Check without HTTP: [SignatureVerifier.Verify] and [TokenVerifier.Verify].
//   - Poll, if Cloudinary cannot reach the app: package poll.
//   - Receive in one place and work in another: the example "Worker".
//
// # What it checks
//
// The body is from Cloudinary. [SignatureHeader] holds a digest over the exact
// bytes of the body, the text of [TimestampHeader] and an API secret of the
// product environment. The timestamp may be neither too old nor too far in the
// future. See [SignatureVerifier].
//
// The notification is for a tenant of the app. The URL's query has a token, a
// JWT that the app signed when it started the upload. Its [Claims] name the
// organization and the album. See [TokenVerifier].
//
// The checks run in this order: method, token, signature headers, size,
// signature, JSON. Cheap ones come first, and nothing in the body is trusted
// before the signature is right. After the checks, the handler calls
// [Store].Save, CreateImage if the notification announces an image,
// [Processor].Notify and [Store].Complete. Then it answers. [StatusCode] lists
// the answers.
//
// # What it promises
//
// A 201 means that the notification passed the checks, that the Store has it,
// and that it was processed. There are two exceptions to the last point. If the
// Processor is Deferred, a worker processes the notification later. If the app
// rejected it with a [Permanent] error, the Store has that error as the cause.
// A notification that fails the checks never reaches the app's code.
//
// # What it does not promise
//
// Work is done at least once: CreateImage may run again, even at the same time.
// Make [Image].Key unique in your table. Notifications may come in any order.
// The token is not tied to the body: a valid token is accepted with any body
// that Cloudinary signed. If that matters, compare the asset's folder or public
// ID with the claims. Nothing is encrypted: tokens are in URLs, so use TLS and
// keep the query out of logs. Package hidetoken helps with the logs.
//
// # Zero values and concurrency
//
// If a part is missing or empty, the package refuses to work. Examples are a
// verifier without secrets and a Processor without work to do. [NewHandler]
// reports it before the first request. Handlers, verifiers and processors are
// safe for concurrent use once they are set up. No goroutine outlives the call
// that started it.
package cloudinaryhook

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Errors are sentinels, wrapped with context. This package's own errors hold no
// secret, correct digest, token, URL or body.
//
// [ErrSignatureMismatch] is the same for a wrong secret and for a changed body.
// The command "cloudinaryhook explain" tells them apart in most cases. For each
// error,
// https://github.com/cloudinaryhook/cloudinaryhook/blob/main/docs/troubleshooting.md
// says what to do.
var (
	ErrMethodNotAllowed     = errors.New("cloudinaryhook: method is not POST")
	ErrMissingToken         = errors.New("cloudinaryhook: no token in the URL's query")
	ErrInvalidToken         = errors.New("cloudinaryhook: invalid token") // joined with golang-jwt's cause
	ErrMissingSignature     = errors.New("cloudinaryhook: no " + SignatureHeader + " header")
	ErrUnsupportedSignature = errors.New("cloudinaryhook: unsupported signature")
	ErrInvalidTimestamp     = errors.New("cloudinaryhook: invalid " + TimestampHeader)
	ErrStaleTimestamp       = errors.New("cloudinaryhook: " + TimestampHeader + " is outside the replay window")
	ErrSignatureMismatch    = errors.New("cloudinaryhook: signature does not match; usual causes: the body was changed or re-encoded before the check; the secret is that of another product environment, or of another API key (the oldest active one signs, unless one is dedicated to webhooks)")
	ErrNoSecrets            = errors.New("cloudinaryhook: no usable secret or key")
	ErrBodyTooLarge         = errors.New("cloudinaryhook: body is too large")
	ErrBodyConsumed         = errors.New("cloudinaryhook: body was read before the handler; mount it before middleware that parses forms or reads bodies, or let that middleware put the bytes back")
	ErrBodyTimeout          = errors.New("cloudinaryhook: body did not arrive in time")
	ErrBodyRead             = errors.New("cloudinaryhook: body could not be read")
	ErrMalformedBody        = errors.New("cloudinaryhook: body is not exactly one JSON object with unique names")
	ErrUnknownTenant        = errors.New("cloudinaryhook: Config.SecretsFor knows no secrets for the token's claims")

	// These wrap an error or panic of the app's code, and say which stage failed.
	ErrReceive     = errors.New("cloudinaryhook: receiving the notification failed")
	ErrSecretsFor  = errors.New("cloudinaryhook: looking up the secrets failed")
	ErrSave        = errors.New("cloudinaryhook: saving the delivery failed")
	ErrCreateImage = errors.New("cloudinaryhook: creating the image failed")
	ErrNotify      = errors.New("cloudinaryhook: notifying the app failed")
	ErrComplete    = errors.New("cloudinaryhook: completing the delivery failed")
	ErrPending     = errors.New("cloudinaryhook: listing the pending deliveries failed")

	ErrGaveUp          = errors.New("cloudinaryhook: gave up on a delivery that was pending too long")
	ErrInvalidDelivery = errors.New("cloudinaryhook: not a delivery that NewDelivery made or MarshalJSON wrote")
	ErrMisconfigured   = errors.New("cloudinaryhook: misconfigured")
	ErrInvalidURL      = errors.New("cloudinaryhook: cannot make a notification URL")
)

// A Delivery is one authenticated notification. Make it with [NewDelivery] or
// from JSON. It is safe to read concurrently, as long as nobody changes it.
type Delivery struct {
	// ID is the same for duplicates. It is the lower-case hex SHA-256 over these
	// parts, each preceded by its length in bytes as 64 bits, big endian:
	//
	//	"delivery"
	//	the scope: the token's claim set without iat, nbf, exp and jti, as JSON
	//	    with sorted names, no white space, and the text of numbers as it came
	//	the body
	//	SignedAt in decimal Unix seconds, only if the body has none of request_id,
	//	    error.request_id, timestamp and notification_context.triggered_at
	//
	// Two equal bodies without any of the four may be two events. It is better to
	// process one event twice than to lose one.
	ID string

	ReceivedAt time.Time // by this machine's clock, UTC
	SignedAt   time.Time // from X-Cld-Timestamp, whole seconds, UTC
	Claims     *Claims   // never nil; zero if the handler is Tokenless
	Body       []byte    // the signed bytes, exactly

	// Notification has the members that bodies of any type may have. If a member
	// is of the wrong kind, its field is zero, and Mismatched in the
	// [Delivery.Payload] names it.
	Notification

	scope     string // of the claims
	announces bool   // an image
	unsure    bool   // another image could look like this one
}

// NewDelivery makes a delivery of a body and claims. It checks neither: verify
// both before, with the verifiers of this package or otherwise. It is for
// notifications that do not come through a [Handler]. Nil claims mean no
// claims. The delivery keeps the body itself, not a copy. The error is
// [ErrMalformedBody] if the body is not exactly one JSON object, or has a
// top-level member of a [Notification] twice. It wraps [ErrInvalidDelivery] if
// the claims cannot be encoded, or if verified claims got another id.
func NewDelivery(body []byte, claims *Claims, signedAt time.Time) (*Delivery, error) {
	d := &Delivery{
		ReceivedAt: time.Now().UTC().Round(0), // without the monotonic reading, which no store keeps
		SignedAt:   signedAt.Truncate(time.Second).UTC(),
		Claims:     claims,
		Body:       body,
	}
	env, err := parseEnvelope(body, &d.Notification)
	if err != nil {
		return nil, err
	}
	d.announces = env.announcesImage()
	d.unsure = d.announces && env.imageIsUnsure()
	if d.Claims == nil {
		d.Claims = new(Claims)
	}
	claims, err = d.Claims.whole()
	if err != nil {
		return nil, err
	}
	d.scope = claims.scope()
	d.ID = deliveryID(d, env.identifiesItself())
	return d, nil
}

// deliveryID hashes the body without a copy, because it may be large.
func deliveryID(d *Delivery, identifiesItself bool) string {
	h := sha256.New()
	buf := appendParts(make([]byte, 0, 64+len(d.scope)), "delivery", d.scope)
	h.Write(binary.BigEndian.AppendUint64(buf, uint64(len(d.Body))))
	h.Write(d.Body)
	if !identifiesItself {
		h.Write(appendParts(buf[:0], strconv.FormatInt(d.SignedAt.Unix(), 10)))
	}
	return encodeHex(h.Sum(buf[:0]))
}

// identifiesItself reports whether the body has something that no other event has.
func (env *envelope) identifiesItself() bool {
	return env.RequestID != "" ||
		env.Error != nil && env.Error.RequestID != "" ||
		!env.Timestamp.IsZero() ||
		env.NotificationContext != nil && !env.NotificationContext.TriggeredAt.IsZero()
}

func (env *envelope) announcesImage() bool {
	isUpload := env.Type == TypeUpload || env.Type == "" && env.members.Given("version") && env.members.Given("format")
	isImage := env.ResourceType == "" || env.ResourceType == "image"
	return isUpload && isImage && env.PublicID != "" && env.Error == nil && !env.Placeholder
}

// imageIsUnsure reports whether two images could look like one. That happens if a
// part of Image.Key is of the wrong kind, is too large for its field, or has bytes
// that are not UTF-8, which are replaced.
func (env *envelope) imageIsUnsure() bool {
	odd := env.members.Odd
	return strings.ContainsRune(env.PublicID, utf8.RuneError) ||
		odd("public_id") || odd("type") || odd("resource_type") || odd("version") ||
		env.Version == 0 && (odd("version_id") || env.VersionID == "" && odd("etag"))
}

// appendParts writes the length of each part before it, so that no byte can move
// from one part to the next.
func appendParts(b []byte, parts ...string) []byte {
	for _, part := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

func encodeHex(sum []byte) string {
	return string(hex.AppendEncode(make([]byte, 0, 2*sha256.Size), sum))
}

// Payload decodes the whole body at each call; see [ParsePayload]. The result
// shares nothing with d.
func (d *Delivery) Payload() (Payload, error) {
	if d.scope == "" { // it was made by hand, so nobody has checked its body
		return ParsePayload(d.Body)
	}
	return decodePayload(d.Body, &d.Notification), nil
}

// Image returns the image that a notification announces, and false if it
// announces none. A notification announces an image if all of this holds:
//
//   - its type is "upload", or it has no type but a version and a format;
//   - it has a public_id, and resource_type "image" or none;
//   - its error is absent or null, and its placeholder is not true.
func (d *Delivery) Image() (*Image, bool) {
	if !d.announces {
		return nil, false
	}
	kind, version := "delivery", d.ID
	switch {
	case d.unsure: // a second image is better than a lost one
	case d.Version != 0:
		kind, version = "version", strconv.FormatInt(d.Version, 10)
	case d.VersionID != "":
		kind, version = "version_id", d.VersionID
	case d.ETag != "":
		kind, version = "etag", d.ETag
	}
	key := sha256.Sum256(appendParts(make([]byte, 0, 512), "image", d.scope, "image", d.DeliveryType, d.PublicID, kind, version))
	return &Image{Key: encodeHex(key[:]), Claims: d.Claims, Asset: d.Asset, Delivery: d}, true
}

// deliveryJSON is a Delivery for queues and stores. It has no Notification:
// UnmarshalJSON decodes that from the body again.
type deliveryJSON struct {
	ID         string         `json:"id"`
	ReceivedAt time.Time      `json:"received_at"`
	SignedAt   time.Time      `json:"signed_at"`
	Claims     jsontext.Value `json:"claims"`
	Body       []byte         `json:"body"` // base64, since not every body is UTF-8
}

// MarshalJSON writes all of a delivery, with the whole claim set and the exact
// bytes of the body. Later versions of this package can read it, so stores may
// keep it. The error wraps [ErrInvalidDelivery] if d was made by hand and has
// no claims.
func (d Delivery) MarshalJSON() ([]byte, error) {
	if d.Claims == nil {
		return nil, fmt.Errorf("%w: it has no claims", ErrInvalidDelivery)
	}
	claims, err := d.Claims.whole()
	if err != nil {
		return nil, err
	}
	return jsonv2.Marshal(deliveryJSON{d.ID, d.ReceivedAt, d.SignedAt, claims.set, d.Body})
}

// UnmarshalJSON reads what MarshalJSON wrote. It does not check a signature, so
// read only from places to which only the app itself writes. The error wraps
// [ErrInvalidDelivery] if data has another form, or if the ID does not fit the
// body, the claims and the time.
func (d *Delivery) UnmarshalJSON(data []byte) error {
	var wire deliveryJSON
	if jsonv2.Unmarshal(data, &wire) != nil {
		return ErrInvalidDelivery // without the JSON error, which may quote
	}
	claims, err := parseClaims(wire.Claims)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidDelivery, err)
	}
	read, err := NewDelivery(wire.Body, claims, wire.SignedAt)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidDelivery, err)
	}
	if read.ID != wire.ID {
		return fmt.Errorf("%w: its ID does not fit its body, claims and time", ErrInvalidDelivery)
	}
	read.ReceivedAt = wire.ReceivedAt.UTC()
	*d = *read
	return nil
}

// LogValue returns the parts of a delivery that may be logged. It leaves out
// the claims, and the body, which may name people and hold tokens. Log the
// pointer, which may be nil: a Delivery by value is logged with all its parts.
func (d *Delivery) LogValue() slog.Value {
	if d == nil {
		return slog.Value{}
	}
	return slog.GroupValue(
		slog.String("id", d.ID),
		slog.String("type", string(d.Type)),
		slog.String("public_id", d.PublicID),
		slog.Int("bytes", len(d.Body)),
	)
}

// An Image is an image for an [ImageCreator] to create.
type Image struct {
	// Key is the same for every notification about the same version of an asset in
	// the same scope. It is the lower-case hex SHA-256 over these parts, with
	// lengths as in [Delivery].ID: "image"; the scope; the resource type, "image";
	// the delivery type; the public ID; and two that name the version. These two
	// are "version" and the version in decimal; or else "version_id" and the
	// version ID; or else "etag" and the ETag; or else "delivery" and the
	// delivery's ID. The last two are also used if two images might otherwise have
	// the same parts:
	//
	//   - if one of the parts is of the wrong kind, or too large for its field;
	//   - if one of the parts has bytes that are not UTF-8;
	//   - if the public ID has U+FFFD.
	Key string

	Claims   *Claims // who it is for
	Asset            // what it is
	Delivery *Delivery
}

// LogValue returns the parts of an image that may be logged.
func (i Image) LogValue() slog.Value {
	return slog.GroupValue(slog.String("key", i.Key), slog.String("public_id", i.PublicID))
}

// A State says how much of the work on a delivery is done.
type State int

// The states of a delivery. The zero State is none of them.
const (
	StateNew     State = iota + 1 // not seen before
	StatePending                  // saved, and not completed
	StateDone                     // completed: processed, or rejected with a cause
)

// String returns "new", "pending", "done", or "none" for the zero State.
func (s State) String() string {
	if s < StateNew || s > StateDone {
		return "none"
	}
	return [...]string{StateNew: "new", StatePending: "pending", StateDone: "done"}[s]
}

// A Store keeps deliveries. A saved delivery that is not completed survives a
// crash, a failing ImageCreator and Cloudinary's last retry, so the app can
// resume it. Keep a Delivery with json.Marshal, which writes all of it. Its ID
// is 64 hexadecimal digits.
//
// Methods are called concurrently. If ctx ends before the work is done, return
// an error. If ctx ends after the write is durable, return nil.
//
// Never drop a pending delivery. Remember a completed one as long as a
// recording of it can be replayed: for [SignatureVerifier].MaxAge plus MaxSkew
// after its receipt, by default 2 hours and 5 minutes.
//
// cloudinaryhooktest.TestStore tests a Store, and the method Pending that
// [Processor.Resume] needs. TestDeferredStore tests a queue.
type Store interface {
	// Save makes d durable, and returns the state that d.ID had before: unknown
	// (StateNew), saved (StatePending) or completed (StateDone). It never
	// overwrites a delivery and never changes d. If several calls save one ID at
	// the same time, exactly one returns StateNew. If Save returns a nil error,
	// with any state, the handler may answer 201. So the saved delivery must
	// survive a power failure, even if another call saved it. Save may refuse a
	// Delivery that was made by hand and has no ID.
	Save(ctx context.Context, d *Delivery) (State, error)

	// Complete records that a delivery needs no more work. The cause is nil, the
	// app's error for a rejected delivery, or an error that wraps [ErrGaveUp].
	// Keep only its text. It may have any bytes; you may replace NUL and bytes
	// that are not UTF-8. Complete may be called twice, if two processes worked
	// at the same time: the first cause counts, even if it is nil. For an unknown
	// ID return any error.
	Complete(ctx context.Context, id string, cause error) error
}

// An ImageCreator makes the app's own image when Cloudinary announces one. It
// is called concurrently, and may be called again for an image that it has made
// already, even at the same time. So make Image.Key unique, and return nil if
// the image is there. If it returns an error that is not [Permanent],
// Cloudinary and [Processor.Resume] try again later.
type ImageCreator interface {
	// CreateImage creates img, or returns nil if it is there already. If ctx ends
	// before img is there, return an error. In a Handler, ctx ends with
	// [Config].Timeout, and not when the caller hangs up.
	CreateImage(ctx context.Context, img *Image) error
}

// ImageCreatorFunc makes a function an [ImageCreator].
type ImageCreatorFunc func(ctx context.Context, img *Image) error

// CreateImage calls f.
func (f ImageCreatorFunc) CreateImage(ctx context.Context, img *Image) error { return f(ctx, img) }
