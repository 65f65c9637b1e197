package cloudinaryhook

import (
	"encoding/json"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/cloudinaryhook/cloudinaryhook/internal/lenient"
)

// A Notification has the members that bodies of any type may have. It is
// decoded on arrival. Members that are absent, null or of the wrong JSON kind
// leave their field zero. A payload's Mismatched says which of them were of the
// wrong kind.
type Notification struct {
	// Type is empty if the body has no notification_type, as in uploads of 2019
	// and bodies rendered from a payload_template. It is [TypeInvalid] if the
	// body's notification_type is not a string.
	Type NotificationType `json:"notification_type"`

	RequestID string    `json:"request_id"`
	Timestamp time.Time `json:"timestamp"`

	// NotificationContext is nil in bodies from before about 2022.
	NotificationContext *NotificationContext `json:"notification_context"`

	// SignatureKey (since about 2024) is the API key whose secret signed the
	// body. APIKey is the API key that uploaded. The two may differ.
	SignatureKey string `json:"signature_key"`
	APIKey       string `json:"api_key"`

	// Asset is zero in types that do not name a single asset: delete, move, folder
	// events, error.
	Asset

	// Error is not nil if the body has an error that is not null, of any kind.
	Error *NotificationError `json:"error"`
}

// An Asset is the image, video or file that a notification is about.
type Asset struct {
	AssetID          string    `json:"asset_id"`
	PublicID         string    `json:"public_id"`
	Version          int64     `json:"version"` // Unix seconds of the upload
	VersionID        string    `json:"version_id"`
	Format           string    `json:"format"`
	ResourceType     string    `json:"resource_type"` // "image", "video" or "raw"
	DeliveryType     string    `json:"type"`          // "upload", "private", "authenticated", …
	OriginalFilename string    `json:"original_filename"`
	DisplayName      string    `json:"display_name"`
	AssetFolder      string    `json:"asset_folder"` // in dynamic folder mode; may be ""
	Folder           string    `json:"folder"`       // in fixed folder mode
	ETag             string    `json:"etag"`
	URL              string    `json:"url"`
	SecureURL        string    `json:"secure_url"`
	Bytes            int64     `json:"bytes"`
	Width            int64     `json:"width"`  // pixels
	Height           int64     `json:"height"` // pixels
	Pages            int64     `json:"pages"`  // 4294967295 has been seen where there are none
	CreatedAt        time.Time `json:"created_at"`
	Tags             []string  `json:"tags"`
	Placeholder      bool      `json:"placeholder"` // there is no asset: its moderation was rejected
}

// Rest has the members that have no field in a payload.
type Rest struct {
	// Extra holds top-level members as raw JSON, byte for byte: those that have no
	// field, and those that Mismatched names, in whole or in part. If a name
	// repeats, Extra has the last one. Extra is nil if there are no such members.
	// Unknown members at deeper levels are only in the body. A later version may
	// have a field for a member, and then Extra does not have it. If you need such
	// a member, decode it from the body.
	Extra map[string]json.RawMessage

	// Mismatched holds JSON pointers (RFC 6901) to values whose JSON kind does not
	// fit their field, such as "/version" or "/eager/1/bytes", in the order of the
	// body. Such a field is zero, and all others are decoded. Beyond about 1,000
	// entries, one entry stands for a whole list or object, and its field is zero.
	Mismatched []string
}

// Common returns n.
func (n *Notification) Common() *Notification { return n }

func (r *Rest) rest() *Rest { return r }

// A Payload is a whole notification, decoded: one of the payload types of this
// package, such as *[UploadPayload] or *[UnknownPayload]. Use a type switch.
//
// Each type's comment says how sure its shape is. Recorded: a whole body was
// published, by somebody who received it or by Cloudinary. From a fixture: only
// the test of somebody's integration has such a body. From a field list: the
// members were described, but no body was published. A type without any of these
// decodes to *[UnknownPayload].
//
// A payload is safe to read concurrently. With encoding/json, all versions of
// Go write the same JSON for it, and can read it back. [ParsePayload] cannot,
// because it is not a body. To keep a notification, keep its [Delivery].
type Payload interface {
	// Common returns the members of all notifications, as a pointer into the
	// payload.
	Common() *Notification

	rest() *Rest
}

// ParsePayload decodes a body into the type that its notification_type names,
// or into an [UnknownPayload]. A body without a notification_type is an
// [UploadPayload] if it has a public_id.
//
// If a member is of the wrong kind, only its own field is zero; see [Rest].
// Numbers may be quoted. The error is [ErrMalformedBody] if the body is not
// exactly one JSON object, or has a top-level member of a [Notification] twice,
// because two programs could take different ones. All other names may repeat,
// as in EXIF metadata. Bytes that are not UTF-8, as in some file names, are
// replaced.
func ParsePayload(body []byte) (Payload, error) {
	n := new(Notification)
	if _, err := parseEnvelope(body, n); err != nil {
		return nil, err
	}
	return decodePayload(body, n), nil
}

// decodePayload decodes a body from which parseEnvelope has made n.
func decodePayload(body []byte, n *Notification) Payload {
	w := newDecodable(n)
	mismatched := lenient.Decode(body, w, shapes)
	p := w.payload()
	p.Common().Type = n.Type // which may be TypeInvalid
	if mismatched == nil {
		return p
	}
	var all map[string]json.RawMessage
	_ = jsonv2.Unmarshal(body, &all, lenient.Options) // it is valid: parseEnvelope has read it
	rest := p.rest()
	if rest.Extra == nil {
		rest.Extra = make(map[string]json.RawMessage)
	}
	for _, path := range mismatched {
		rest.Mismatched = append(rest.Mismatched, string(path))
		for name := range path.Tokens() {
			rest.Extra[name] = all[name]
			break
		}
	}
	if mismatched[0] == "" { // too much does not fit, so nothing was decoded
		rest.Extra = all
		_, _ = parseEnvelope(body, p.Common())
	}
	if n.Error != nil && p.Common().Error == nil {
		p.Common().Error = new(NotificationError) // of the wrong kind, and still an error
	}
	return p
}

// An envelope is a Notification, and says which members the body has.
type envelope struct {
	*Notification
	members lenient.Members
}

var notificationFields = lenient.FieldsOf[Notification]()

// parseEnvelope decodes into n the members that a Notification has, and decides
// what a well-formed body is.
func parseEnvelope(body []byte, n *Notification) (*envelope, error) {
	env := &envelope{Notification: n}
	if env.members.Read(body, notificationFields, n) != nil {
		return nil, ErrMalformedBody // without the JSON error, which quotes the body
	}
	if n.Error == nil && env.members.Given("error") {
		n.Error = new(NotificationError) // of the wrong kind, and still an error
	}
	if m, name := &env.members, "notification_type"; env.Type == "" && m.Seen(name) && (m.Odd(name) || !m.Given(name)) {
		env.Type = TypeInvalid // with no type at all it could be taken for an upload
	}
	return env, nil
}
