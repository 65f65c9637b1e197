package cloudinaryhook

import (
	"bytes"
	stdjson "encoding/json"
	"hash/maphash"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A NotificationType is the event a notification is about, from its
// notification_type. Cloudinary may extend the list at any time; a type that
// has no constant here is delivered like any other.
type NotificationType string

// A Notification is what a body says about itself, decoded on arrival. Members
// that are absent, null or of the wrong JSON kind leave their field zero; which
// were of the wrong kind, a payload's Mismatched says.
//
// In a [Delivery] so do texts of more than 8 KiB, times of more than 256 bytes,
// and all tags if they are more than 2,000 or take more than 256 KiB: no body
// costs much before anybody asks for its payload, and [Delivery.Payload] has
// them. Cloudinary allows 255 characters for a public ID and 1,000 tags.
type Notification struct {
	// Type is empty if the body has no notification_type, as uploads of 2019
	// and bodies rendered from a payload_template; it is [TypeInvalid] if that
	// is no string, or one of more than 8 KiB.
	Type NotificationType `json:"notification_type"`

	RequestID string    `json:"request_id"`
	Timestamp time.Time `json:"timestamp"`

	// NotificationContext is nil in bodies from before about 2022.
	NotificationContext *NotificationContext `json:"notification_context"`

	// SignatureKey is the API key whose secret signed, in bodies from about
	// 2024 on; APIKey the one that uploaded. They may differ.
	SignatureKey string `json:"signature_key"`
	APIKey       string `json:"api_key"`

	// Asset is the zero Asset in types that name no single asset: delete, move,
	// folder events, error.
	Asset

	// Error is not nil if the body has an error that is not null, of any kind.
	Error *NotificationError `json:"error"`
}

// NotificationContext says what caused a notification.
type NotificationContext struct {
	TriggeredAt time.Time   `json:"triggered_at"`
	TriggeredBy TriggeredBy `json:"triggered_by"`
}

// TriggeredBy is who caused a notification. Source is "api" or "ui"; ID is an
// API key or, from the ui, a person's e-mail address.
type TriggeredBy struct {
	Source string `json:"source"`
	ID     string `json:"id"`
}

// NotificationError is what went wrong at Cloudinary. Some bodies have a plain
// string for an error: it becomes the Message. Status is an HTTP status code,
// 0 if not given.
type NotificationError struct {
	Message   string `json:"message"`
	Status    int64  `json:"status"`
	RequestID string `json:"request_id"`
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
	AssetFolder      string    `json:"asset_folder"`
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

// Rest is what no field of a payload took.
type Rest struct {
	// Extra holds top-level members as raw JSON, byte for byte: those that have
	// no field, and those of which something is in Mismatched. Members that are
	// unknown deeper down are in the body only. Nil if there are none. A member
	// leaves Extra when a later version has a field for it: what must survive
	// that is decoded from the body.
	Extra map[string]stdjson.RawMessage `json:",embed,inline"`

	// Mismatched holds the paths of members whose JSON kind does not fit their
	// field, as "version" or "eager[1].bytes", in the order of the body. Such a
	// field is zero, and all others are decoded. A top-level member with more
	// than 1,000 of them counts as one, and is zero as a whole.
	Mismatched []string `json:"-"`
}

// A Payload is a whole notification, decoded: one of the payload types of this
// package, such as *[UploadPayload] or *[UnknownPayload]. Use a type switch.
type Payload interface {
	// Common returns what all notifications have, as a pointer into the payload.
	Common() *Notification

	rest() *Rest
}

// ParsePayload decodes a body into the type that its notification_type names.
// A body without one is an [UploadPayload] if it has a public_id, else an
// [UnknownPayload], and so is one of a type that this package does not know.
//
// Members of the wrong kind cost only themselves, see [Rest]. Numbers may be
// quoted. The error is [ErrMalformedBody] if the body is not exactly one JSON
// object or repeats a name at its top level, which two readers could
// understand in two ways. Below the top level names may repeat, as in EXIF
// metadata, and invalid UTF-8 is replaced, as in file names.
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
	if start, err := dec.ReadToken(); err != nil || start.Kind() != '{' {
		return nil
	}
	if name, err := dec.ReadToken(); err != nil || name.Kind() != '"' || name.String() != "notification_type" {
		return nil
	}
	value, err := dec.ReadValue()
	if err != nil || value.Kind() != '"' || len(value) == len(`""`) || len(value) > maxText {
		return nil
	}
	p := newPayload(&Notification{Type: NotificationType(unquote(value))})
	if json.Unmarshal(body, p, decodeOptions, jsontext.AllowDuplicateNames(false)) != nil {
		return nil
	}
	return p
}

// decodePayload decodes a body of which parseEnvelope has made n.
func decodePayload(body []byte, n *Notification) Payload {
	p := newPayload(n)
	p.rest().Mismatched = decode(body, p)
	p.Common().Type = n.Type // which may be TypeInvalid
	return p
}

// jsonOptions relax what json/v2 is strict about: authentic mail repeats names
// in EXIF metadata and has Latin-1 file names. Names that repeat at the top
// level are refused by parseEnvelope.
var (
	jsonOptions   = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	decodeOptions = json.JoinOptions(jsonOptions, json.WithUnmarshalers(shapes))
)

// What an envelope takes of a body, so that one of an odd shape costs no more
// memory than others.
const (
	maxText     = 8 << 10 // bytes of JSON; longer names are compared as they are spelled
	maxTags     = 2000
	maxTagBytes = 256 << 10 // bytes of JSON, of all tags
	maxNumber   = 256       // bytes of JSON, of a number or a time in quotes
)

// An envelope is a Notification and what Delivery.Image must know beside it.
type envelope struct {
	*Notification
	hasVersion, hasFormat bool // present and not null, whatever their kind

	members  int             // at the top level
	texts    strings.Builder // one allocation for all strings of the Notification
	unquoted []byte          // reused for the names and texts that have escapes
}

// parseEnvelope walks once over the top level of a body, decodes the members
// that a Notification has into n and skips the others. It is the only decoding
// on the request path, and decides what a well-formed body is.
func parseEnvelope(body []byte, n *Notification) (*envelope, error) {
	env := &envelope{Notification: n}
	env.texts.Grow(min(len(body), 512)) // as much as most need
	if json.Unmarshal(body, env, jsonOptions) != nil {
		return nil, ErrMalformedBody // without the JSON error, which quotes the body
	}
	if env.members > maxTableNames && manyRepeat(body, env.members) {
		return nil, ErrMalformedBody
	}
	return env, nil
}

// UnmarshalJSONFrom reads an object.
func (env *envelope) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	var names nameTable
	return readObject(dec, func(quoted jsontext.Value) error {
		name := env.name(quoted)
		if env.members++; env.members <= maxTableNames && names.repeats(name) {
			return ErrMalformedBody
		}
		switch string(name) {
		case "notification_context":
			return env.readContext(dec)
		case "error":
			return env.readError(dec)
		case "tags":
			return env.readTags(dec)
		}
		value, err := dec.ReadValue()
		env.take(name, value)
		return err
	})
}

// readObject calls member after each name; member reads the value. Names, which
// are in quotes, and values alias what is decoded.
func readObject(dec *jsontext.Decoder, member func(quoted jsontext.Value) error) error {
	if start, err := dec.ReadToken(); err != nil || start.Kind() != '{' {
		return ErrMalformedBody
	}
	for dec.PeekKind() != '}' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := member(quoted); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

func (env *envelope) readContext(dec *jsontext.Decoder) error {
	if dec.PeekKind() == 'n' {
		return dec.SkipValue()
	}
	env.NotificationContext = new(NotificationContext)
	if dec.PeekKind() != '{' {
		return dec.SkipValue()
	}
	// Names may repeat here: the last one counts, and no other costs anything.
	var at, source, id jsontext.Value
	err := readObject(dec, func(quoted jsontext.Value) (err error) {
		switch string(env.name(quoted)) {
		case "triggered_by":
			return env.readTriggeredBy(dec, &source, &id)
		case "triggered_at":
			at, err = dec.ReadValue()
			return err
		}
		return dec.SkipValue()
	})
	env.NotificationContext.TriggeredAt, _ = parseTime(at)
	env.NotificationContext.TriggeredBy = TriggeredBy{Source: env.text(source), ID: env.text(id)}
	return err
}

func (env *envelope) readTriggeredBy(dec *jsontext.Decoder, source, id *jsontext.Value) error {
	if dec.PeekKind() != '{' {
		*source, *id = nil, nil
		return dec.SkipValue()
	}
	return readObject(dec, func(quoted jsontext.Value) (err error) {
		switch string(env.name(quoted)) {
		case "source":
			*source, err = dec.ReadValue()
			return err
		case "id":
			*id, err = dec.ReadValue()
			return err
		}
		return dec.SkipValue()
	})
}

func (env *envelope) readError(dec *jsontext.Decoder) error {
	kind := dec.PeekKind()
	if kind == 'n' {
		return dec.SkipValue()
	}
	e := new(NotificationError)
	env.Error = e
	if kind != '{' {
		value, err := dec.ReadValue()
		e.Message = env.text(value)
		return err
	}
	var message, status, requestID jsontext.Value // the last of each
	err := readObject(dec, func(quoted jsontext.Value) (err error) {
		switch string(env.name(quoted)) {
		case "message":
			message, err = dec.ReadValue()
		case "status":
			status, err = dec.ReadValue()
		case "request_id":
			requestID, err = dec.ReadValue()
		default:
			err = dec.SkipValue()
		}
		return err
	})
	e.Message, e.RequestID = env.text(message), env.text(requestID)
	e.Status, _ = parseInt(status)
	return err
}

func (env *envelope) readTags(dec *jsontext.Decoder) error {
	if dec.PeekKind() != '[' {
		return dec.SkipValue()
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	env.Tags = []string{}
	for size := 0; dec.PeekKind() != ']'; {
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if size += len(value); len(env.Tags) == maxTags || size > maxTagBytes || len(value) > maxText {
			env.Tags = nil
		}
		if env.Tags != nil {
			env.Tags = append(env.Tags, env.text(value))
		}
	}
	_, err := dec.ReadToken()
	return err
}

// text returns the text of a JSON string, and nothing of any other value.
func (env *envelope) text(value jsontext.Value) string {
	if value.Kind() != '"' || len(value) > maxText {
		return ""
	}
	text, start := env.unquote(value), env.texts.Len()
	env.texts.Grow(len(text)) // which doubles; Write grows by a quarter
	env.texts.Write(text)
	return env.texts.String()[start:] // stays as it is when the builder grows
}

// name returns the text of a name until the next name or text is asked for.
func (env *envelope) name(quoted jsontext.Value) []byte {
	if len(quoted) > maxText {
		return quoted[1 : len(quoted)-1]
	}
	return env.unquote(quoted)
}

func (env *envelope) unquote(quoted jsontext.Value) []byte {
	if isPlain(quoted) {
		return quoted[1 : len(quoted)-1]
	}
	env.unquoted, _ = jsontext.AppendUnquote(env.unquoted[:0], quoted)
	return env.unquoted
}

// unquote returns the text of a JSON string. It aliases the input if it can,
// and copies if there are escapes or bytes that are not UTF-8.
func unquote(quoted jsontext.Value) []byte {
	if isPlain(quoted) {
		return quoted[1 : len(quoted)-1]
	}
	text, _ := jsontext.AppendUnquote(nil, quoted) // the error reports invalid UTF-8, which is replaced
	return text
}

// isPlain reports whether a JSON string is spelled as it reads.
func isPlain(quoted jsontext.Value) bool {
	if len(quoted) < 32 { // as names are: a loop is faster than two calls
		for _, c := range quoted {
			if c == '\\' || c >= utf8.RuneSelf {
				return false
			}
		}
		return true
	}
	return bytes.IndexByte(quoted, '\\') < 0 && utf8.Valid(quoted)
}

var nameSeed = maphash.MakeSeed()

const maxTableNames = 96 // bodies have some 60

// A nameTable holds hashes of names, which are as good as the names: of a
// hundred, two that differ have one hash in 10¹⁵ bodies. Sorting the names would
// cost seven times as much, and a map or the decoder's own check, which looks at
// every level, more than that.
type nameTable [128]uint64

func (t *nameTable) repeats(name []byte) bool {
	hash := maphash.Bytes(nameSeed, name) | 1 // 0 is an empty slot
	slot := hash >> 57
	for ; t[slot] != 0; slot = (slot + 1) % uint64(len(t)) {
		if t[slot] == hash {
			return true
		}
	}
	t[slot] = hash
	return false
}

// manyRepeat looks for repeated names in a body that was found well-formed and
// has more members than a table holds. It walks over it four times more, each
// time for a quarter of the hashes, so that a body which is nothing but names
// takes no more memory than others. It misses no name that repeats, and takes
// two names for one in one of thirty million bodies of a million names.
func manyRepeat(body []byte, members int) bool {
	var env envelope
	hashes := make([]uint64, 0, members/4+members/16+64)
	for quarter := range uint64(4) {
		hashes = hashes[:0]
		dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsonOptions)
		err := readObject(dec, func(quoted jsontext.Value) error {
			if hash := maphash.Bytes(nameSeed, env.name(quoted)); hash%4 == quarter {
				if len(hashes) == cap(hashes) {
					return ErrMalformedBody // chance does not fill one quarter so far
				}
				hashes = append(hashes, hash)
			}
			return dec.SkipValue()
		})
		slices.Sort(hashes)
		if err != nil || len(slices.Compact(hashes)) < len(hashes) {
			return true
		}
	}
	return false
}

// take decodes one top-level member into its field, if there is one for it.
func (env *envelope) take(name []byte, value jsontext.Value) {
	kind := value.Kind()
	switch string(name) {
	case "notification_type":
		// Of another kind, it makes the type unknown, not absent: absent would
		// let a body without a type be taken for an upload.
		if kind != '"' || len(value) > maxText {
			env.Type = TypeInvalid
			return
		}
	case "version":
		env.hasVersion = kind != 'n'
	case "format":
		env.hasFormat = kind != 'n'
	}
	if kind == 'n' {
		return
	}
	// A mismatch is found again, and named, by whoever asks for the payload.
	switch field := env.field(name).(type) {
	case *string:
		*field = env.text(value)
	case *NotificationType:
		*field = NotificationType(env.text(value))
	case *int64:
		*field, _ = parseInt(value)
	case *time.Time:
		*field, _ = parseTime(value)
	case *bool:
		*field = kind == 't'
	}
}

// field returns a pointer to the field of a top-level name, or nil.
func (env *envelope) field(name []byte) any {
	switch string(name) {
	case "notification_type":
		return &env.Type
	case "request_id":
		return &env.RequestID
	case "timestamp":
		return &env.Timestamp
	case "signature_key":
		return &env.SignatureKey
	case "api_key":
		return &env.APIKey
	}
	return env.Asset.field(name)
}

func (a *Asset) field(name []byte) any {
	switch string(name) {
	case "asset_id":
		return &a.AssetID
	case "public_id":
		return &a.PublicID
	case "version":
		return &a.Version
	case "version_id":
		return &a.VersionID
	case "format":
		return &a.Format
	case "resource_type":
		return &a.ResourceType
	case "type":
		return &a.DeliveryType
	case "original_filename":
		return &a.OriginalFilename
	case "display_name":
		return &a.DisplayName
	case "asset_folder":
		return &a.AssetFolder
	case "etag":
		return &a.ETag
	case "url":
		return &a.URL
	case "secure_url":
		return &a.SecureURL
	case "bytes":
		return &a.Bytes
	case "width":
		return &a.Width
	case "height":
		return &a.Height
	case "pages":
		return &a.Pages
	case "created_at":
		return &a.CreatedAt
	case "placeholder":
		return &a.Placeholder
	}
	return nil
}

// parseInt takes an integer, bare or in quotes.
func parseInt(value jsontext.Value) (int64, bool) {
	text := []byte(value)
	switch kind := value.Kind(); {
	case len(value) > maxNumber:
		return 0, false
	case kind == '"':
		text = unquote(value)
	case kind != '0':
		return 0, false
	}
	if len(text) == 0 || text[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, false // ParseInt saturates, and a wrong number is worse than none
	}
	return n, true
}

// parseTime takes RFC 3339, of which all of Cloudinary's times are.
func parseTime(value jsontext.Value) (t time.Time, ok bool) {
	if value.Kind() != '"' || len(value) > maxNumber {
		return t, false
	}
	text := unquote(value)
	if t.UnmarshalText(text) != nil || !isRFC3339(text) {
		return time.Time{}, false
	}
	return t, true
}

// isRFC3339 refuses what package time takes beside RFC 3339 (go.dev/issue/54580)
// and json/v2, which decodes the times further down, does not: an hour of one
// digit, a comma before the fraction, an offset beyond a day or an hour.
func isRFC3339(text []byte) bool {
	if len(text) < len("2006-01-02T15:04:05Z") || text[len("2006-01-02T15")] != ':' || text[len("2006-01-02T15:04:05")] == ',' {
		return false
	}
	offset := text[len(text)-len("07:00"):]
	return text[len(text)-1] == 'Z' || string(offset[:2]) < "24" && offset[3] < '6'
}

// decode stores valid JSON in v, a pointer to one of this package's types.
// Where a value does not fit, it leaves that one zero, goes on, and returns its
// path. Almost every body fits, so one pass of json/v2, which stops at the
// first value that does not, is tried first.
func decode(data jsontext.Value, v any) (mismatched []string) {
	if json.Unmarshal(data, v, decodeOptions) == nil {
		return nil
	}
	target := reflect.ValueOf(v).Elem()
	target.SetZero()
	var l lenient
	l.value(data, target, "")
	if l.tooMany() { // not in a payload, whose members are counted each by itself
		target.SetZero()
	}
	return l.mismatched
}

// maxMismatched is of one top-level member. A body has room for millions, and
// each takes a microsecond and a path.
const maxMismatched = 1000

// lenient decodes value by value.
type lenient struct {
	mismatched []string // paths
	before     int      // how many of them were found before this top-level member
}

func (l *lenient) tooMany() bool { return len(l.mismatched)-l.before > maxMismatched }

func (l *lenient) value(data jsontext.Value, target reflect.Value, path string) {
	kind := data.Kind()
	switch {
	case kind == 'n':
		target.SetZero()
	case isWhole(target.Type()):
		l.whole(data, target, path)
	case target.Kind() == reflect.Pointer:
		target.Set(reflect.New(target.Type().Elem()))
		l.value(data, target.Elem(), path)
	case target.Kind() == reflect.Struct && kind == '{':
		l.object(data, target, path)
	case target.Kind() == reflect.Map && kind == '{':
		l.mapping(data, target, path)
	case target.Kind() == reflect.Slice && kind == '[':
		l.array(data, target, path)
	case target.Kind() == reflect.Slice && kind == '{' && isKeyed(target.Type().Elem()):
		l.keyed(data, target, path)
	default:
		l.whole(data, target, path)
	}
}

// whole decodes what fits as a whole or not at all.
func (l *lenient) whole(data jsontext.Value, target reflect.Value, path string) {
	if json.Unmarshal(data, target.Addr().Interface(), decodeOptions) != nil {
		target.SetZero()
		l.mismatched = append(l.mismatched, path)
	}
}

// isWhole tells the composite types that are no objects or lists of their own.
func isWhole(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[NamedShare](), reflect.TypeFor[Rectangle](), reflect.TypeFor[stdjson.RawMessage]():
		return true
	}
	return false
}

func (l *lenient) object(data jsontext.Value, target reflect.Value, path string) {
	if path == "" {
		l.topLevel(data, target)
		return
	}
	fields := jsonFields(target.Type())
	for name, value := range l.members(data) {
		if index, known := fields[name]; known {
			l.value(value, target.FieldByIndex(index), join(path, name))
		}
	}
}

func (l *lenient) topLevel(data jsontext.Value, target reflect.Value) {
	fields := jsonFields(target.Type())
	extra := target.FieldByName("Extra") // of Rest, in payload types alone
	for name, value := range members(data) {
		l.before = len(l.mismatched)
		index, known := fields[name]
		if known {
			l.value(value, target.FieldByIndex(index), name)
		}
		if l.tooMany() {
			l.mismatched = append(l.mismatched[:l.before], name)
			target.FieldByIndex(index).SetZero()
		}
		if extra.IsValid() && (!known || len(l.mismatched) > l.before) {
			if extra.IsNil() {
				extra.Set(reflect.MakeMap(extra.Type()))
			}
			extra.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(stdjson.RawMessage(bytes.Clone(value))))
		}
	}
}

func (l *lenient) mapping(data jsontext.Value, target reflect.Value, path string) {
	if target.IsNil() {
		target.Set(reflect.MakeMap(target.Type()))
	}
	for name, value := range l.members(data) {
		if name == "custom" && value.Kind() == '{' && target.Type() == reflect.TypeFor[Context]() {
			l.mapping(value, target, join(path, name)) // flat, like Context.add
			continue
		}
		element := reflect.New(target.Type().Elem()).Elem()
		l.value(value, element, join(path, name))
		target.SetMapIndex(reflect.ValueOf(name), element)
	}
}

func (l *lenient) array(data jsontext.Value, target reflect.Value, path string) {
	target.Set(reflect.MakeSlice(target.Type(), 0, 0))
	for i, value := range l.elements(data) {
		element := reflect.New(target.Type().Elem()).Elem()
		l.value(value, element, path+"["+strconv.Itoa(i)+"]")
		target.Set(reflect.Append(target, element))
	}
}

func (l *lenient) keyed(data jsontext.Value, target reflect.Value, path string) {
	target.Set(reflect.MakeSlice(target.Type(), 0, 0))
	for name, value := range l.members(data) {
		element := reflect.New(target.Type().Elem())
		l.value(value, element.Elem(), join(path, name))
		element.Interface().(keyed).setKey(name)
		target.Set(reflect.Append(target, element.Elem()))
	}
}

func isKeyed(t reflect.Type) bool { return reflect.PointerTo(t).Implements(reflect.TypeFor[keyed]()) }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// jsonFields maps the JSON names of a struct's fields to their index, those of
// embedded structs included.
func jsonFields(t reflect.Type) map[string][]int {
	fields := make(map[string][]int)
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = f.Index
		}
	}
	return fields
}

// members and elements stop when there are too many mismatches already.
func (l *lenient) members(object jsontext.Value) iter.Seq2[string, jsontext.Value] {
	return func(yield func(string, jsontext.Value) bool) {
		for name, value := range members(object) {
			if l.tooMany() || !yield(name, value) {
				return
			}
		}
	}
}

func (l *lenient) elements(array jsontext.Value) iter.Seq2[int, jsontext.Value] {
	return func(yield func(int, jsontext.Value) bool) {
		for i, value := range elements(array) {
			if l.tooMany() || !yield(i, value) {
				return
			}
		}
	}
}

// members yields the members of an object that was read as one valid value.
func members(object jsontext.Value) iter.Seq2[string, jsontext.Value] {
	return func(yield func(string, jsontext.Value) bool) {
		dec := jsontext.NewDecoder(bytes.NewBuffer(object), jsonOptions)
		dec.ReadToken()
		for dec.PeekKind() == '"' {
			quoted, _ := dec.ReadValue()
			name := string(unquote(quoted))
			if value, err := dec.ReadValue(); err != nil || !yield(name, value) {
				return
			}
		}
	}
}

// elements yields the elements of an array that was read as one valid value.
func elements(array jsontext.Value) iter.Seq2[int, jsontext.Value] {
	return func(yield func(int, jsontext.Value) bool) {
		dec := jsontext.NewDecoder(bytes.NewBuffer(array), jsonOptions)
		dec.ReadToken()
		for i := 0; dec.PeekKind() != ']'; i++ {
			if value, err := dec.ReadValue(); err != nil || !yield(i, value) {
				return
			}
		}
	}
}
