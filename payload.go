package cloudinaryhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A NotificationType is the event a notification is about, from its
// notification_type. Cloudinary may extend the list at any time; a type that
// has no constant here is delivered like any other.
type NotificationType string

// A Notification has the members that bodies of any type may have. It is
// decoded on arrival. Members that are absent, null or of the wrong JSON kind
// leave their field zero. A payload's Mismatched says which of them were of the
// wrong kind.
type Notification struct {
	// Type is empty if the body has no notification_type, such as uploads of 2019
	// and bodies rendered from a payload_template. It is [TypeInvalid] if the
	// body's is not a string.
	Type NotificationType `json:"notification_type"`

	RequestID string    `json:"request_id"`
	Timestamp time.Time `json:"timestamp"`

	// NotificationContext is nil in bodies from before about 2022.
	NotificationContext *NotificationContext `json:"notification_context"`

	// SignatureKey is the API key whose secret signed, in bodies from about
	// 2024 on; APIKey the one that uploaded. They may differ.
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
	// repeats, Extra has the last. Unknown members at deeper levels are only in
	// the body. Nil if there are none. If a later version has a field for a
	// member, it is no longer in Extra. To be safe from that, decode it from the
	// body.
	Extra map[string]json.RawMessage

	// Mismatched holds JSON pointers (RFC 6901) to values whose JSON kind does not
	// fit their field, such as "/version" or "/eager/1/bytes", in the order of the
	// body. Such a field is zero, and all others are decoded. If there are more
	// than 1,000 of them, a list or an object counts as one, and is zero.
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
// the test of somebody's integration has such a body. From a field list: members
// were described, and no body was shown. A type without any of these decodes to
// *[UnknownPayload].
//
// A payload is safe to read concurrently. All versions of Go write the same
// JSON for it with encoding/json. Only encoding/json can read that back,
// because it is not a body. To keep a notification, keep its [Delivery].
type Payload interface {
	// Common returns the members of all notifications, as a pointer into the
	// payload.
	Common() *Notification

	rest() *Rest
}

// ParsePayload decodes a body into the type that its notification_type names. A
// body without one is an [UploadPayload] if it has a public_id, else an
// [UnknownPayload]. A type that this package does not know is an UnknownPayload
// too.
//
// A member of the wrong kind leaves only its own field zero, see [Rest].
// Numbers may be quoted. The error is [ErrMalformedBody] if the body is not
// exactly one JSON object, or has a top-level member of a [Notification] twice,
// which two readers could understand in two ways. All other names may repeat,
// as in EXIF metadata, and invalid UTF-8 is replaced, as in file names.
func ParsePayload(body []byte) (Payload, error) {
	if p := decodeUsual(body); p != nil {
		return p, nil
	}
	n := new(Notification)
	if _, err := parseEnvelope(body, n); err != nil {
		return nil, err
	}
	return decodePayload(body, n), nil
}

// decodeUsual decodes in one pass what almost every body is: its type comes
// first, every member fits, and no name repeats on any level. Of any other it
// returns nil, and two passes are needed.
func decodeUsual(body []byte) Payload {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsonOptions)
	_, _ = dec.ReadToken()
	first, _ := dec.ReadToken()
	name := first.String()
	value, err := dec.ReadValue() // fails too if one before has failed
	if err != nil || name != "notification_type" || value.Kind() != '"' || len(value) == len(`""`) {
		return nil
	}
	w := newDecodable(&Notification{Type: NotificationType(unquote(value))})
	if jsonv2.Unmarshal(body, w, decodeOptions, jsontext.AllowDuplicateNames(false)) != nil {
		return nil
	}
	return w.payload()
}

// decodePayload decodes a body of which parseEnvelope has made n.
func decodePayload(body []byte, n *Notification) Payload {
	w := newDecodable(n)
	mismatched := decode(body, w)
	p := w.payload()
	p.Common().Type = n.Type // which may be TypeInvalid
	if mismatched == nil {
		return p
	}
	var all map[string]json.RawMessage
	_ = jsonv2.Unmarshal(body, &all, jsonOptions) // parseEnvelope has read it before
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
	if mismatched[0] == "" { // nothing was decoded, since too much does not fit
		rest.Extra = all
		_, _ = parseEnvelope(body, p.Common())
	}
	return p
}

// jsonOptions relax what json/v2 is strict about: authentic mail repeats names
// in EXIF metadata and has Latin-1 file names. Names of a Notification that
// repeat are refused by parseEnvelope.
var (
	jsonOptions   = jsonv2.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	decodeOptions = jsonv2.JoinOptions(jsonOptions, jsonv2.WithUnmarshalers(shapes))
)

// maxMismatched is of one list or object. A body has room for millions, and each
// takes microseconds and a path.
const maxMismatched = 1000

// decode stores valid JSON in v, a pointer to one of this package's types.
// Where a value does not fit, it leaves that one zero, goes on, and returns its
// path. Almost every body fits, so one pass of json/v2, which stops at the
// first value that does not, is tried first; then each value within by itself.
func decode(data jsontext.Value, v any) (mismatched []jsontext.Pointer) {
	if jsonv2.Unmarshal(data, v, decodeOptions) == nil {
		return nil
	}
	target := reflect.ValueOf(v).Elem()
	target.SetZero()
	if kind := data.Kind(); kind == '{' || kind == '[' {
		if mismatched, err := decodeWithin(data, v); err == nil {
			return mismatched
		}
		target.SetZero()
	}
	return []jsontext.Pointer{""}
}

// decodeWithin fails if v is for another kind of value, or if too many of those
// within do not fit.
func decodeWithin(data jsontext.Value, v any) (mismatched []jsontext.Pointer, err error) {
	odd := 0
	each := jsonv2.UnmarshalFromFunc(func(dec *jsontext.Decoder, v any) error {
		if dec.StackDepth() == 0 {
			return errSkip // this is data itself
		}
		value, _ := dec.ReadValue() // data is valid
		paths := decode(value, v)
		if len(paths) == 0 {
			return nil
		}
		if len(mismatched)+len(paths) > maxMismatched {
			reflect.ValueOf(v).Elem().SetZero()
			paths = []jsontext.Pointer{""}
		}
		for _, path := range paths {
			mismatched = append(mismatched, dec.StackPointer()+path)
		}
		if odd++; odd > maxMismatched {
			return errShape
		}
		return nil
	})
	err = jsonv2.Unmarshal(data, v, jsonOptions, jsonv2.WithUnmarshalers(jsonv2.JoinUnmarshalers(each, shapes)))
	return mismatched, err
}

// errSkip leaves a value to what json/v2 would do without the function.
var errSkip = errors.ErrUnsupported

// An envelope is a Notification, and what a Delivery must know beside it.
type envelope struct {
	*Notification

	seen  fieldSet // the members that the body has
	given fieldSet // those that are not null
	odd   fieldSet // those of which the field does not say all

	texts    strings.Builder // one allocation for all strings of the Notification
	unquoted []byte          // reused for the names and texts that have escapes
}

// parseEnvelope walks once over the top level of a body, decodes the members
// that a Notification has into n and skips the others. It is the only decoding
// on the request path, and decides what a well-formed body is.
func parseEnvelope(body []byte, n *Notification) (*envelope, error) {
	env := &envelope{Notification: n}
	env.texts.Grow(min(len(body), 512)) // as much as most need
	if jsonv2.Unmarshal(body, env, jsonOptions) != nil {
		return nil, ErrMalformedBody // without the JSON error, which quotes the body
	}
	if name := "notification_type"; env.Type == "" && env.seen.has(name) && (env.odd.has(name) || !env.given.has(name)) {
		env.Type = TypeInvalid // not absent: absent would let it be taken for an upload
	}
	return env, nil
}

// UnmarshalJSONFrom reads the whole body.
func (env *envelope) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return env.readStruct(dec, reflect.ValueOf(env.Notification).Elem(), notificationFields)
}

// A fieldSet has a bit for each field of a struct.
type fieldSet uint64

// has reports whether the field of a Notification with this JSON name is in s.
func (s fieldSet) has(name string) bool { return s&notificationFields.find([]byte(name)).bit != 0 }

// The structs that an envelope fills.
var (
	notificationFields = fieldsOf[Notification]()
	innerFields        = map[reflect.Type]*fields{
		reflect.TypeFor[NotificationContext](): fieldsOf[NotificationContext](),
		reflect.TypeFor[TriggeredBy]():         fieldsOf[TriggeredBy](),
		reflect.TypeFor[NotificationError]():   fieldsOf[NotificationError](),
	}
)

// fields are found by the length of their JSON names: faster than in a map.
type fields [32][]*field

type field struct {
	name  string
	bit   fieldSet
	index []int
}

func fieldsOf[T any]() *fields {
	all := new(fields)
	for i, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		if name := f.Tag.Get("json"); name != "" {
			all[len(name)] = append(all[len(name)], &field{name, 1 << i, f.Index})
		}
	}
	return all
}

func (all *fields) find(name []byte) *field {
	if len(name) < len(all) {
		for _, f := range all[len(name)] {
			if f.name[0] == name[0] && f.name == string(name) {
				return f
			}
		}
	}
	return nil
}

// readStruct reads an object. At the top level a name that has a field must not
// repeat.
func (env *envelope) readStruct(dec *jsontext.Decoder, v reflect.Value, all *fields) error {
	top := dec.StackDepth() == 0
	return readObject(dec, func(quoted jsontext.Value) error {
		name, _ := unquoteInto(&env.unquoted, quoted)
		f := all.find(name)
		if f == nil {
			_, err := dec.ReadValue() // SkipValue takes longer
			return err
		}
		if top && env.seen&f.bit != 0 {
			return ErrMalformedBody
		}
		given, fits, err := env.read(dec, v.FieldByIndex(f.index))
		if top {
			env.seen |= f.bit
			if given {
				env.given |= f.bit
			}
			if !fits {
				env.odd |= f.bit
			}
		}
		return err
	})
}

// read reads a value into its field. It reports whether the value is given,
// which null is not, and whether the field says all that it does. A value of
// the wrong kind leaves the field zero: ParsePayload finds it again.
func (env *envelope) read(dec *jsontext.Decoder, v reflect.Value) (given, fits bool, err error) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Struct, reflect.Slice:
		return env.readOther(dec, v)
	}
	value, err := dec.ReadValue()
	kind := value.Kind()
	switch v.Kind() {
	case reflect.String:
		var text string
		text, fits = env.text(value)
		v.SetString(text)
	case reflect.Int64:
		var n int64
		n, fits = parseInt(value)
		v.SetInt(n)
	case reflect.Bool:
		v.SetBool(kind == 't')
		fits = kind == 't' || kind == 'f'
	}
	return kind != 'n', fits || kind == 'n', err
}

func (env *envelope) readOther(dec *jsontext.Decoder, v reflect.Value) (given, fits bool, err error) {
	kind := dec.PeekKind()
	if v.Kind() == reflect.Pointer && kind != 'n' {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if all := innerFields[v.Type()]; all != nil && kind == '{' {
		return true, true, env.readStruct(dec, v, all)
	}
	v.SetZero()
	switch field := v.Addr().Interface().(type) {
	case *NotificationError:
		if kind == '"' {
			return env.read(dec, reflect.ValueOf(&field.Message).Elem())
		}
	case *time.Time:
		err := jsonv2.UnmarshalDecode(dec, field)
		return kind != 'n', err == nil, nil // an error of syntax comes again
	case *[]string:
		if kind == '[' {
			*field = []string{}
			return true, true, readEach(dec, func(value jsontext.Value) error {
				text, _ := env.text(value)
				*field = append(*field, text)
				return nil
			})
		}
	}
	return kind != 'n', kind == 'n', dec.SkipValue()
}

// text returns the text of a JSON string, and nothing of any other value.
func (env *envelope) text(value jsontext.Value) (text string, fits bool) {
	if value.Kind() != '"' {
		return "", false
	}
	b, err := unquoteInto(&env.unquoted, value)
	start := env.texts.Len()
	env.texts.Grow(len(b)) // which doubles; Write grows by a quarter
	env.texts.Write(b)
	return env.texts.String()[start:], err == nil // the text stays when the builder grows
}
