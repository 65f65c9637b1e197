package cloudinaryhook

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
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
	f.Add([]byte(`{"error":5,"notification_context":"","public_id":"p"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		env, envErr := parseEnvelope(body, new(Notification))
		p, err := ParsePayload(body)
		if (err == nil) != (envErr == nil) {
			t.Fatalf("ParsePayload got %v, the envelope %v", err, envErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(env.Notification, p.Common()); diff != "" && len(env.Tags) <= 1000 { // more may count as one mismatch
			t.Errorf("%q: the payload differs from the envelope (-envelope +payload):\n%s", body, diff)
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
		if canonical(set) != canonical(again.Claims.set) {
			t.Errorf("through JSON the claims %s became %s", set, again.Claims.set)
		}
		img, ok := d.Image()
		img2, ok2 := again.Image()
		if ok != ok2 || ok && (img.Key != img2.Key || img.PublicID == "") {
			t.Errorf("through JSON the image became %+v (%v), want %+v (%v)", img2, ok2, img, ok)
		}
	})
}

// canonical has one form for all that says the same, the text of numbers apart.
func canonical(data []byte) string {
	value := jsontext.Value(bytes.Clone(data))
	_ = value.Format(jsontext.ReorderRawObjects(true))
	return string(value)
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
