package cloudinaryhook

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func addGoldenBodies(f *testing.F) {
	for _, body := range goldenBodies(f) {
		f.Add(body)
	}
	f.Add([]byte(`{"public_id":"a","version":"1","version":"2"}`))
	f.Add([]byte(`{"context":{"custom":{"a":1}},"faces":[[1,2,3]],"colors":[[1]],"public_id":"p"}`))
}

// FuzzParsePayload: no panic, and the typed payload says what the envelope says.
func FuzzParsePayload(f *testing.F) {
	addGoldenBodies(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		env, envErr := parseEnvelope(body, new(Notification))
		p, err := ParsePayload(body)
		if (err == nil) != (envErr == nil) {
			t.Fatalf("ParsePayload got %v, the envelope %v", err, envErr)
		}
		if err != nil {
			return
		}
		if got := p.Common(); got.Type != env.Type || got.PublicID != env.PublicID {
			t.Errorf("the payload says %q, %q; the envelope %q, %q", got.Type, got.PublicID, env.Type, env.PublicID)
		}
		if want := decodePayload(body, env.Notification); !reflect.DeepEqual(p, want) {
			t.Errorf("in one pass the payload is %+v, in two %+v", p, want)
		}
		// What the typed decoding itself found must agree as well, where it
		// decoded these fields: it is only overwritten for safety.
		again := newDecodable(env.Notification)
		decode(body, again)
		got := again.payload().Common()
		if env.Type == TypeInvalid {
			got.Type = TypeInvalid // the envelope's word alone
		}
		if !reflect.DeepEqual(got, env.Notification) {
			t.Errorf("decoded alone the payload says %+v, the envelope %+v", got, env.Notification)
		}
		for _, path := range p.rest().Mismatched {
			if _, ok := p.rest().Extra[topName(path)]; !ok {
				t.Errorf("%q is mismatched and not in Extra", path)
			}
		}
	})
}

// FuzzNewDelivery: no panic, the same identity each time, and JSON that loses
// nothing, of body, claims and times.
func FuzzNewDelivery(f *testing.F) {
	for _, body := range goldenBodies(f) {
		f.Add(body, []byte(`{"album_id":"<7>","tenant":{"z":9007199254740993,"a":1.0}}`), int64(1700000000))
	}
	f.Add([]byte(untypedImage), []byte(`{"iat":1,"exp":1e9,"aud":"a","a":"\u2028\u003c"}`), int64(0))
	f.Add([]byte("{\"original_filename\":\"caf\xe9 \\u0000 \u2028 <&>\"}"), []byte(`{"organization_id":9007199254740993,"tenant":{"z":1.0,"a":"\u2028"},"exp":1800000000}`), int64(1700000000))
	f.Add([]byte("{\"a\":\"\xff\"}"), []byte(`{ "b":-0, "a":[1E2, {}] }`), int64(253402300799))
	f.Fuzz(func(t *testing.T, body, set []byte, signedAt int64) {
		claims, err := parseClaims(set)
		if err != nil || signedAt < 0 || signedAt > 253402300799 { // the year 9999: JSON has no later times
			return
		}
		d, err := NewDelivery(body, claims, time.Unix(signedAt, 0))
		if err != nil {
			return
		}
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if value, err := json.Marshal(*d); err != nil || !bytes.Equal(value, data) {
			t.Errorf("a value marshals to %s (%v), want what its pointer does: %s", value, err, data)
		}
		var again Delivery
		if err := json.Unmarshal(data, &again); err != nil {
			t.Fatal(err)
		}
		// Of the claim set the spelling may change, but neither its scope nor what it says.
		if diff := cmp.Diff(*d, again, cmp.AllowUnexported(Delivery{}), cmpopts.IgnoreUnexported(Claims{})); diff != "" {
			t.Errorf("through JSON the delivery changed (-want +got):\n%s", diff)
		}
		if !sameJSON(t, set, again.Claims.set) {
			t.Errorf("through JSON the claims %s became %s", set, again.Claims.set)
		}
		img, ok := d.Image()
		img2, ok2 := again.Image()
		if ok != ok2 || ok && (img.Key != img2.Key || img.PublicID == "") {
			t.Errorf("through JSON the image became %+v (%v), want %+v (%v)", img2, ok2, img, ok)
		}
	})
}

// sameJSON compares two valid values by what they say, the text of numbers
// included.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var values [2]any
	for i, data := range [][]byte{a, b} {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		if err := dec.Decode(&values[i]); err != nil {
			t.Fatal(err)
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// FuzzDeliveryJSON: whatever is in a queue, reading it does not panic, and what
// is accepted is whole: it has the ID of its parts, and is written as it was read.
func FuzzDeliveryJSON(f *testing.F) {
	for _, body := range []string{untypedImage, folderStub, "{\"a\":\"\xff\"}"} {
		data, err := json.Marshal(newDelivery(f, body, `{"album_id":"7","tenant":9007199254740993}`, 1700000000))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"id":"","received_at":"2023-01-01T00:00:00Z","signed_at":"2023-01-01T00:00:00+23:59","claims":{},"body":"e30="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Delivery
		if err := json.Unmarshal(data, &d); err != nil {
			return
		}
		made, err := NewDelivery(d.Body, d.Claims, d.SignedAt)
		if err != nil || made.ID != d.ID {
			t.Fatalf("accepted with ID %s; its parts have %+v and %v", d.ID, made, err)
		}
		written, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var again Delivery
		if err := json.Unmarshal(written, &again); err != nil || again.ID != d.ID || !again.ReceivedAt.Equal(d.ReceivedAt) {
			t.Errorf("read again it became %+v and %v, want %+v", again, err, d)
		}
	})
}

// FuzzEnvelope: a body is accepted exactly if encoding/json, an independent
// reader, finds one object which has no member of a Notification twice, and then
// every field agrees with what it finds.
func FuzzEnvelope(f *testing.F) {
	addGoldenBodies(f)
	for _, body := range []string{
		`{"notification_type":null,"version":"12","format":1,"tags":["a",1,null,"b"],"error":[]}`,
		`{"notification_context":1,"error":{"message":1,"status":"404","request_id":"r"},"timestamp":"2024-06-25T10:21:27+00:00"}`,
		`{"version":1.0,"bytes":-0,"width":9223372036854775808,"pages":"+1","placeholder":"true","created_at":1}`,
		`{"timestamp":"0000-01-01T0:00:00Z","created_at":"2024-06-25T10:21:27,5Z","notification_context":{"triggered_at":"0000-01-01T0:00:00Z"}}`,
		`{"timestamp":"2024-06-25T10:21:27+24:00","created_at":"2024-06-25T10:21:27-23:59","notification_context":{"triggered_at":"2024-06-25T10:21:27+00:60"}}`,
		`{"notification_context":{"triggered_at":"2024-06-25T10:21:27Z","triggered_by":{"source":"api","id":7}}}`,
		`{"public\u005fid":"\ud800","a":1,"\u0061":2}`, "", " {} \n", "{}x", "[]", "null", "{\"a\xff\":1,\"a\xfe\":1}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var n Notification
		env, err := parseEnvelope(body, &n)
		members, ok := independentMembers(body)
		if (err == nil) != ok && utf8.Valid(body) { // readers may replace invalid bytes one by one or together
			t.Fatalf("parseEnvelope(%q) got %v, want accepted: %v", body, err, ok)
		}
		if err != nil || !utf8.Valid(body) {
			return
		}
		if diff := cmp.Diff(members.notification(), n, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("fields of %q differ (-want +got):\n%s", body, diff)
		}
		for name := range topLevel(new(UnknownPayload)) {
			if got, want := env.given.has(name), members.has(name); got != want {
				t.Errorf("%q: has %s got %v, want %v", body, name, got, want)
			}
		}
	})
}

// jsonMembers is an object as encoding/json reads it.
type jsonMembers map[string]json.RawMessage

func independentMembers(body []byte) (jsonMembers, bool) {
	var members jsonMembers
	if json.Unmarshal(body, &members) != nil || members == nil {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	_, _ = dec.Token()
	known, seen := topLevel(new(UnknownPayload)), make(map[json.Token]bool)
	for dec.More() {
		var value json.RawMessage
		name, err := dec.Token()
		if err != nil || dec.Decode(&value) != nil {
			return nil, false
		}
		if _, ok := known[name.(string)]; ok && seen[name] {
			return nil, false
		}
		seen[name] = true
	}
	return members, true
}

func (m jsonMembers) has(name string) bool { return m[name] != nil && string(m[name]) != "null" }

func (m jsonMembers) text(name string) (s string) {
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

func (m jsonMembers) integer(name string) int64 {
	text := string(m[name])
	if json.Unmarshal(m[name], new(string)) == nil {
		text = m.text(name)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && text[0] != '+' {
		return n
	}
	return 0
}

var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func (m jsonMembers) time(name string) (at time.Time) {
	if text := m.text(name); !rfc3339.MatchString(text) || at.UnmarshalText([]byte(text)) != nil {
		return time.Time{}
	}
	return at
}

func (m jsonMembers) object(name string) (members jsonMembers) {
	if json.Unmarshal(m[name], &members) != nil {
		return nil
	}
	return members
}

func (m jsonMembers) notification() Notification {
	n := Notification{
		Type: NotificationType(m.text("notification_type")), RequestID: m.text("request_id"), Timestamp: m.time("timestamp"),
		SignatureKey: m.text("signature_key"), APIKey: m.text("api_key"),
		Asset: Asset{
			AssetID: m.text("asset_id"), PublicID: m.text("public_id"), VersionID: m.text("version_id"), Format: m.text("format"),
			ResourceType: m.text("resource_type"), DeliveryType: m.text("type"), OriginalFilename: m.text("original_filename"),
			DisplayName: m.text("display_name"), AssetFolder: m.text("asset_folder"), Folder: m.text("folder"), ETag: m.text("etag"), URL: m.text("url"),
			SecureURL: m.text("secure_url"), Version: m.integer("version"), Bytes: m.integer("bytes"), Width: m.integer("width"),
			Height: m.integer("height"), Pages: m.integer("pages"), CreatedAt: m.time("created_at"), Placeholder: string(m["placeholder"]) == "true",
		},
	}
	if _, ok := m["notification_type"]; ok && (!m.has("notification_type") || m["notification_type"][0] != '"') {
		n.Type = TypeInvalid
	}
	if m.has("notification_context") {
		c := m.object("notification_context")
		by := c.object("triggered_by")
		n.NotificationContext = &NotificationContext{TriggeredAt: c.time("triggered_at"), TriggeredBy: TriggeredBy{Source: by.text("source"), ID: by.text("id")}}
	}
	if m.has("error") {
		e := m.object("error")
		n.Error = &NotificationError{Message: m.text("error") + e.text("message"), Status: e.integer("status"), RequestID: e.text("request_id")}
	}
	var tags []json.RawMessage
	if json.Unmarshal(m["tags"], &tags) == nil {
		for _, tag := range tags {
			n.Tags = append(n.Tags, jsonMembers{"": tag}.text(""))
		}
	}
	return n
}
