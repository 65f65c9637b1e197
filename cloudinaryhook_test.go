package cloudinaryhook

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	untypedImage = `{"version":1507700000,"format":"jpg","public_id":"made1"}`
	folderStub   = `{"notification_type":"create_folder","resources":[]}`
	moderation   = `{"notification_type":"moderation","public_id":"made1","moderation_status":"approved"}`
)

func newDelivery(t testing.TB, body, claims string, signedAt int64) *Delivery {
	t.Helper()
	parsed, err := parseClaims([]byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDelivery([]byte(body), parsed, time.Unix(signedAt, 0))
	if err != nil {
		t.Fatalf("NewDelivery(%q): %v", body, err)
	}
	return d
}

// hashParts is the encoding in Delivery.ID's comment, written down once more.
func hashParts(parts ...string) string {
	var text strings.Builder
	for _, part := range parts {
		n := uint64(len(part))
		for shift := 56; shift >= 0; shift -= 8 {
			text.WriteByte(byte(n >> shift))
		}
		text.WriteString(part)
	}
	sum := sha256.Sum256([]byte(text.String()))
	return hex.EncodeToString(sum[:])
}

func TestDeliveryID(t *testing.T) {
	scope := `{"album_id":"7"}`
	tests := []struct {
		name, body string
		want       string
	}{
		{"nothing identifies the body", untypedImage, hashParts("delivery", scope, untypedImage, "1700000000")},
		{"request_id", `{"request_id":"a"}`, hashParts("delivery", scope, `{"request_id":"a"}`)},
		{"error.request_id", `{"error":{"request_id":"a"}}`, hashParts("delivery", scope, `{"error":{"request_id":"a"}}`)},
		{"timestamp", `{"timestamp":"2024-06-25T10:21:27+00:00"}`, hashParts("delivery", scope, `{"timestamp":"2024-06-25T10:21:27+00:00"}`)},
		{"triggered_at", `{"notification_context":{"triggered_at":"2024-06-25T10:21:27.2Z"}}`, hashParts("delivery", scope, `{"notification_context":{"triggered_at":"2024-06-25T10:21:27.2Z"}}`)},
		{"empty ones do not identify", `{"request_id":"","timestamp":null}`, hashParts("delivery", scope, `{"request_id":"","timestamp":null}`, "1700000000")},
		{"wrong kinds do not identify", `{"request_id":1,"timestamp":1}`, hashParts("delivery", scope, `{"request_id":1,"timestamp":1}`, "1700000000")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := newDelivery(t, tt.body, scope, 1700000000).ID; got != tt.want {
				t.Errorf("ID of %s got %s, want %s", tt.body, got, tt.want)
			}
		})
	}
}

func TestIdentityTellsApart(t *testing.T) {
	id := func(body, claims string, signedAt int64) string { return newDelivery(t, body, claims, signedAt).ID }
	key := func(body, claims string, signedAt int64) string {
		img, ok := newDelivery(t, body, claims, signedAt).Image()
		if !ok {
			t.Fatalf("%s announces no image", body)
		}
		return img.Key
	}
	withRequest := `{"notification_type":"upload","public_id":"a","version":1,"request_id":"r"}`
	tests := []struct {
		name string
		a, b string
		same bool
	}{
		{"two folders signed at different seconds", id(folderStub, "{}", 1), id(folderStub, "{}", 2), false},
		{"one folder", id(folderStub, "{}", 1), id(folderStub, "{}", 1), true},
		{"a retry signed anew", id(withRequest, "{}", 1), id(withRequest, "{}", 2), true},
		{"another token of one tenant", id(withRequest, `{"iat":1,"tenant":"x"}`, 1), id(withRequest, `{"iat":2,"tenant":"x"}`, 1), true},
		{"a custom tenant claim", id(withRequest, `{"tenant":"x"}`, 1), id(withRequest, `{"tenant":"y"}`, 1), false},
		{"ids above 2^53", id(withRequest, `{"tenant":9007199254740992}`, 1), id(withRequest, `{"tenant":9007199254740993}`, 1), false},
		{"another body", id(withRequest, "{}", 1), id(withRequest+" ", "{}", 1), false},

		{"key: the same version, another body and time", key(withRequest, "{}", 1), key(`{"version":1,"format":"x","public_id":"a"}`, "{}", 9), true},
		{"key: absent resource type is image", key(withRequest, "{}", 1), key(`{"notification_type":"upload","public_id":"a","version":1,"resource_type":"image"}`, "{}", 1), true},
		{"key: tenant", key(withRequest, `{"tenant":"x"}`, 1), key(withRequest, `{"tenant":"y"}`, 1), false},
		{"key: delivery type", key(withRequest, "{}", 1), key(`{"notification_type":"upload","public_id":"a","version":1,"type":"private"}`, "{}", 1), false},
		{"key: version", key(withRequest, "{}", 1), key(`{"notification_type":"upload","public_id":"a","version":2}`, "{}", 1), false},
		{"key: public ID and version do not run together", key(`{"notification_type":"upload","public_id":"a1","version":1}`, "{}", 1), key(`{"notification_type":"upload","public_id":"a","version":11}`, "{}", 1), false},
		{"key: version_id is no etag", key(`{"notification_type":"upload","public_id":"a","version_id":"x"}`, "{}", 1), key(`{"notification_type":"upload","public_id":"a","etag":"x"}`, "{}", 1), false},
		{"key: version before version_id", key(`{"notification_type":"upload","public_id":"a","version":1,"version_id":"x"}`, "{}", 1), key(withRequest, "{}", 1), true},
		{"key: public IDs of other bytes that are not UTF-8", key("{\"notification_type\":\"upload\",\"public_id\":\"a\xe9\",\"version\":1}", "{}", 1), key("{\"notification_type\":\"upload\",\"public_id\":\"a\xe8\",\"version\":1}", "{}", 1), false},
		{"key: public IDs of other lone surrogates", key(`{"notification_type":"upload","public_id":"\ud800","version":1}`, "{}", 1), key(`{"notification_type":"upload","public_id":"\ud801","version":1}`, "{}", 1), false},
		{"key: bytes that are not UTF-8 in what does not go into it", key("{\"notification_type\":\"upload\",\"public_id\":\"a\",\"version\":1,\"etag\":\"\xe9\",\"format\":\"\xe9\"}", "{}", 1), key(withRequest, "{}", 1), true},
		{"key: U+FFFD in an etag", key(`{"notification_type":"upload","public_id":"a","etag":"\ufffd"}`, "{}", 1), key("{\"notification_type\":\"upload\",\"public_id\":\"a\",\"etag\":\"\ufffd\"}", "{}", 2), true},
		{"key: without any version, the delivery", key(`{"notification_type":"upload","public_id":"a"}`, "{}", 1), key(`{"notification_type":"upload","public_id":"a"}`, "{}", 2), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if (tt.a == tt.b) != tt.same {
				t.Errorf("got %s and %s, want the same: %v", tt.a, tt.b, tt.same)
			}
		})
	}
	// Values that look alike in their fields must be two images, in every member that goes into the key.
	long := strings.Repeat("9", 30)
	for name, pair := range map[string][2]string{
		"not UTF-8": {"\"\xe9\"", "\"\xe8\""}, "U+FFFD and not UTF-8": {"\"\ufffd\"", "\"\xe8\""}, "long and not UTF-8": {`"` + long + long + "\xe9\"", `"` + long + long + "\xe8\""},
		"half a surrogate pair": {`"\ud800"`, `"\ud801"`}, "lists": {`[1]`, `[2]`}, "a boolean and absent": {`true`, `null`}, "lengths": {long, long + "9"},
		"lengths in quotes": {`"` + long + `"`, `"` + long + `9"`}, "fractions": {`1.5`, `1.25`},
	} {
		for member, rest := range map[string]string{"public_id": `"version":1`, "type": `"public_id":"a","version":1`, "resource_type": `"public_id":"a","version":1`,
			"version": `"public_id":"a","version_id":"x"`, "version_id": `"public_id":"a","etag":"x"`, "etag": `"public_id":"a"`} {
			body := func(value string) string {
				return `{"notification_type":"upload","request_id":"r",` + rest + `,"` + member + `":` + value + `}`
			}
			a, okA := newDelivery(t, body(pair[0]), "{}", 1).Image()
			b, okB := newDelivery(t, body(pair[1]), "{}", 1).Image()
			if okA && okB && a.Key == b.Key {
				t.Errorf("%s in %s: %s and %s got one key", name, member, body(pair[0]), body(pair[1]))
			}
		}
	}
	want := hashParts("image", "{}", "image", "", "a", "version", "1")
	if got := key(withRequest, "{}", 1); got != want {
		t.Errorf("key got %s, want %s by the encoding in its comment", got, want)
	}
}

func TestAnnouncedImages(t *testing.T) {
	tests := []struct {
		name, body string
		want       bool
	}{
		{"upload", `{"notification_type":"upload","public_id":"a"}`, true},
		{"upload of an image", `{"notification_type":"upload","public_id":"a","resource_type":"image"}`, true},
		{"no type", untypedImage, true},
		{"empty type", `{"notification_type":"","version":1,"format":"jpg","public_id":"a"}`, true},
		{"no type, version of a wrong kind", `{"version":{},"format":"jpg","public_id":"a"}`, true},
		{"no type, format of a wrong kind", `{"version":1,"format":1,"public_id":"a"}`, true},
		{"resource type of a wrong kind", `{"notification_type":"upload","public_id":"a","resource_type":1}`, true},
		{"null error", `{"notification_type":"upload","public_id":"a","error":null}`, true},
		{"no placeholder", `{"notification_type":"upload","public_id":"a","placeholder":false}`, true},
		{"escaped names", `{"notification\u005ftype":"upload","public\u005fid":"a"}`, true},

		{"no public ID", `{"notification_type":"upload"}`, false},
		{"empty public ID", `{"notification_type":"upload","public_id":""}`, false},
		{"no type and no version", `{"format":"jpg","public_id":"a"}`, false},
		{"no type and no format", `{"version":1,"public_id":"a"}`, false},
		{"no type and a null version", `{"version":null,"format":"jpg","public_id":"a"}`, false},
		{"type of a wrong kind", `{"notification_type":1,"version":1,"format":"jpg","public_id":"a"}`, false},
		{"null type", `{"notification_type":null,"version":1,"format":"jpg","public_id":"a"}`, false},
		{"type in another case", `{"notification_type":"Upload","public_id":"a"}`, false},
		{"type under a name in another case", `{"Notification_Type":"upload","public_id":"a"}`, false},
		{"another type", moderation, false},
		{"unknown type", `{"notification_type":"later","public_id":"a"}`, false},
		{"video", `{"notification_type":"upload","public_id":"a","resource_type":"video"}`, false},
		{"raw", `{"notification_type":"upload","public_id":"a","resource_type":"raw"}`, false},
		{"placeholder", `{"notification_type":"upload","public_id":"a","placeholder":true}`, false},
		{"error object", `{"notification_type":"upload","public_id":"a","error":{"message":"m"}}`, false},
		{"error string", `{"notification_type":"upload","public_id":"a","error":"m"}`, false},
		{"error false", `{"notification_type":"upload","public_id":"a","error":false}`, false},
		{"error list", `{"notification_type":"upload","public_id":"a","error":[]}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDelivery(t, tt.body, `{"album_id":"7"}`, 1)
			img, ok := d.Image()
			if ok != tt.want {
				t.Fatalf("Image of %s got %v, want %v", tt.body, ok, tt.want)
			}
			if ok && (img.PublicID == "" || img.Claims.AlbumID != "7" || img.Delivery != d || len(img.Key) != 64) {
				t.Errorf("Image of %s got %+v, want it filled", tt.body, img)
			}
		})
	}
}

func TestDeliveryJSONRefuses(t *testing.T) {
	d := newDelivery(t, untypedImage, `{"album_id":"7"}`, 1700000000)
	good, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	other := newDelivery(t, folderStub, `{"album_id":"7"}`, 1700000000)
	replace := func(old, new string) string { return strings.Replace(string(good), old, new, 1) }
	tests := []struct{ name, data string }{
		{"another ID", replace(d.ID, other.ID)},
		{"other claims", replace(`{"album_id":"7"}`, `{"album_id":"8"}`)},
		{"another time", replace(`"signed_at":"2023`, `"signed_at":"2022`)},
		{"claims no object", replace(`{"album_id":"7"}`, `7`)},
		{"claims missing", replace(`"claims":{"album_id":"7"},`, ``)},
		{"body no base64", replace(`"body":"`, `"body":"!`)},
		{"body no object", `{"id":"","received_at":"2023-01-01T00:00:00Z","signed_at":"2023-01-01T00:00:00Z","claims":{},"body":"W10="}`},
		{"list", `[]`},
		{"empty", `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.data == string(good) {
				t.Fatal("the test changed nothing")
			}
			var got Delivery
			if err := json.Unmarshal([]byte(tt.data), &got); !errors.Is(err, ErrInvalidDelivery) {
				t.Errorf("Unmarshal(%s) got %v, want %v", tt.data, err, ErrInvalidDelivery)
			}
		})
	}
	if _, err := json.Marshal(Delivery{}); !errors.Is(err, ErrInvalidDelivery) {
		t.Errorf("Marshal of a zero Delivery got %v, want %v", err, ErrInvalidDelivery)
	}
	bad := *d
	bad.Claims = &Claims{AlbumID: "\xff"}
	if _, err := json.Marshal(bad); err == nil {
		t.Error("Marshal with claims that are no UTF-8 got nil, want an error")
	}
}

func TestDeliveryLogValue(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	d := newDelivery(t, `{"notification_type":"upload","public_id":"pub","tags":["in the body"]}`, `{"album_id":"in the claims"}`, 1)
	img, _ := d.Image()
	var none *Delivery
	logger.Info("m", "delivery", d, "none", none, "image", img, "value", *img)
	if got := out.String(); strings.Count(got, d.ID) != 1 || strings.Count(got, img.Key) != 2 || strings.Count(got, "=pub") != 3 || strings.Contains(got, "in the") || strings.Contains(got, "panic") {
		t.Errorf("log line got %s, want ID and public ID without body and claims", got)
	}
}

func TestStateString(t *testing.T) {
	got := fmt.Sprint(State(0), StateNew, StatePending, StateDone)
	if want := "none new pending done"; got != want {
		t.Errorf("states got %q, want %q", got, want)
	}
}

func TestDeliveryPayload(t *testing.T) {
	for name, body := range goldenBodies(t) {
		t.Run(name, func(t *testing.T) {
			d := newDelivery(t, string(body), "{}", 1700000000)
			want, err := ParsePayload(body)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range []*Delivery{d, {Body: body}} { // the second one was made by hand
				got, err := d.Payload()
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Fatalf("Payload got %v, want nil; it differs from ParsePayload's (-want +got):\n%s", err, diff)
				}
				// Whoever changes a payload changes nothing else.
				common := got.Common()
				if common.NotificationContext != nil {
					common.NotificationContext.TriggeredBy.ID = "changed"
				}
				if common.Error != nil {
					common.Error.Message = "changed"
				}
				for i := range common.Tags {
					common.Tags[i] = "changed"
				}
			}
			if diff := cmp.Diff(*want.Common(), d.Notification); diff != "" {
				t.Errorf("the delivery changed with its payload (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := (&Delivery{Body: []byte(`{"etag":1,"etag":2}`)}).Payload(); !errors.Is(err, ErrMalformedBody) {
		t.Errorf("Payload of a body that nobody has looked at got %v, want %v", err, ErrMalformedBody)
	}
}
