package cloudinaryhook

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"
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
		// What the typed decoding itself found must agree as well, where it
		// decoded these fields: it is only overwritten for safety.
		again := newPayload(env.Notification)
		decode(body, again)
		if got := again.Common(); got.PublicID != env.PublicID || got.Version != env.Version || !reflect.DeepEqual(got.Tags, env.Tags) {
			t.Errorf("decoded alone the payload says %+v, the envelope %+v", got.Asset, env.Asset)
		}
		for _, path := range p.rest().Mismatched {
			if _, ok := p.rest().Extra[topName(path)]; !ok && topName(path) == path {
				t.Errorf("%q is mismatched and not in Extra", path)
			}
		}
	})
}

// FuzzNewDelivery: no panic, the same identity each time, and JSON that loses
// nothing.
func FuzzNewDelivery(f *testing.F) {
	addGoldenBodies(f)
	claims, err := parseClaims([]byte(`{"album_id":"7","tenant":9007199254740993}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := NewDelivery(body, claims, time.Unix(1700000000, 0))
		if err != nil {
			return
		}
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var again Delivery
		if err := json.Unmarshal(data, &again); err != nil {
			t.Fatal(err)
		}
		if again.ID != d.ID || string(again.Body) != string(body) || !reflect.DeepEqual(again.Notification, d.Notification) {
			t.Errorf("through JSON the delivery became %+v, want %+v", again, d)
		}
		img, ok := d.Image()
		img2, ok2 := again.Image()
		if ok != ok2 || ok && (img.Key != img2.Key || img.PublicID == "") {
			t.Errorf("through JSON the image became %+v (%v), want %+v (%v)", img2, ok2, img, ok)
		}
	})
}

// FuzzEnvelope: the envelope's fields agree with encoding/json, an independent
// reader, on every body that is accepted.
func FuzzEnvelope(f *testing.F) {
	addGoldenBodies(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		env, err := parseEnvelope(body, new(Notification))
		if err != nil {
			return
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatalf("accepted, and encoding/json says %v", err)
		}
		text := func(name string) (s string) {
			if json.Unmarshal(members[name], &s) != nil {
				return ""
			}
			return s
		}
		got := []string{env.RequestID, env.PublicID, env.AssetID, env.Format, env.ResourceType, env.DeliveryType, env.ETag, env.SecureURL}
		want := []string{text("request_id"), text("public_id"), text("asset_id"), text("format"), text("resource_type"), text("type"), text("etag"), text("secure_url")}
		if utf8.Valid(body) && !reflect.DeepEqual(got, want) { // readers may replace invalid bytes one by one or together
			t.Errorf("texts got %q, want %q", got, want)
		}
		var version int64
		if json.Unmarshal(members["version"], &version) == nil && env.Version != version {
			t.Errorf("version got %d, want %d", env.Version, version)
		}
		if isNull := string(members["error"]) == "null" || members["error"] == nil; (env.Error == nil) != isNull {
			t.Errorf("error got %+v, want nil: %v", env.Error, isNull)
		}
	})
}
