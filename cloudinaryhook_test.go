package cloudinaryhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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
		{"key: without any version, the delivery", key(`{"notification_type":"upload","public_id":"a"}`, "{}", 1), key(`{"notification_type":"upload","public_id":"a"}`, "{}", 2), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if (tt.a == tt.b) != tt.same {
				t.Errorf("got %s and %s, want the same: %v", tt.a, tt.b, tt.same)
			}
		})
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

func TestMalformedBodies(t *testing.T) {
	tests := []struct{ name, body string }{
		{"empty", ""},
		{"blank", " \n"},
		{"list", "[]"},
		{"string", `"a"`},
		{"null", "null"},
		{"bare names", `{public_id: "sample"}`},
		{"cut", `{"a":1`},
		{"cut name", `{"a`},
		{"no value", `{"a":}`},
		{"two values", `{}{}`},
		{"trailing digit", `{}1`},
		{"trailing brace", `{}}`},
		{"comma at the end", `{"a":1,}`},
		{"byte order mark", "\ufeff{}"},
		{"repeated known name", `{"public_id":"a","public_id":"a"}`},
		{"repeated unknown name", `{"x":1,"y":2,"x":1}`},
		{"repeated name in two spellings", `{"public_id":"a","public\u005fid":"a"}`},
		{"too deep", strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)},
		{"gzip", "\x1f\x8b\x08\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d, err := NewDelivery([]byte(tt.body), nil, time.Now()); !errors.Is(err, ErrMalformedBody) || d != nil {
				t.Errorf("NewDelivery(%.50q) got %v and %v, want %v", tt.body, d, err, ErrMalformedBody)
			}
			if p, err := ParsePayload([]byte(tt.body)); !errors.Is(err, ErrMalformedBody) || p != nil {
				t.Errorf("ParsePayload(%.50q) got %v and %v, want %v", tt.body, p, err, ErrMalformedBody)
			}
		})
	}
}

func TestWellFormedOddBodies(t *testing.T) {
	tests := []struct{ name, body string }{
		{"white space around", " \r\n{}\t\n"},
		{"repeated names further down", `{"image_metadata":{"a":"1","a":"2"}}`},
		{"invalid UTF-8", "{\"original_filename\":\"caf\xe9\"}"},
		{"lone surrogate", `{"original_filename":"\ud800"}`},
		{"huge number", `{"version":1` + strings.Repeat("0", 400) + `}`},
		{"deep", strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := NewDelivery([]byte(tt.body), nil, time.Now())
			if err != nil {
				t.Fatalf("NewDelivery(%.50q) got %v, want nil", tt.body, err)
			}
			if _, err := d.Payload(); err != nil {
				t.Errorf("Payload of %.50q got %v, want nil", tt.body, err)
			}
		})
	}
}

func TestDeliveryJSON(t *testing.T) {
	bodies := map[string]string{
		"image":         untypedImage,
		"folder":        folderStub,
		"invalid UTF-8": "{\"original_filename\":\"caf\xe9 \\u0000 \u2028 <&>\"}",
	}
	claims := `{"album_id":"<7>","organization_id":9007199254740993,"tenant":{"z":1.0,"a":"\u2028"},"exp":1800000000}`
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			d := newDelivery(t, body, claims, 1700000000)
			value, err := json.Marshal(*d)
			if err != nil {
				t.Fatal(err)
			}
			pointer, err := json.Marshal(d)
			if err != nil || !bytes.Equal(value, pointer) {
				t.Fatalf("a pointer marshals to %s (%v), want what the value does: %s", pointer, err, value)
			}
			var got Delivery
			if err := json.Unmarshal(value, &got); err != nil {
				t.Fatal(err)
			}
			// encoding/json escapes < > & in the claim set, which then has other
			// bytes and the same meaning.
			same := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".set" || p.Last().String() == ".members" }, cmp.Ignore())
			if diff := cmp.Diff(*d, got, cmp.AllowUnexported(Delivery{}, Claims{}), same); diff != "" {
				t.Errorf("delivery differs (-want +got):\n%s", diff)
			}
			var tenant struct {
				Tenant struct {
					Z json.Number `json:"z"`
					A string      `json:"a"`
				} `json:"tenant"`
			}
			if err := got.Claims.Decode(&tenant); err != nil || tenant.Tenant.Z != "1.0" || tenant.Tenant.A != "\u2028" {
				t.Errorf("custom claims got %+v and %v, want z 1.0 and U+2028", tenant, err)
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
	d := newDelivery(t, `{"public_id":"pub","tags":["in the body"]}`, `{"album_id":"in the claims"}`, 1)
	var none *Delivery
	logger.Info("m", "delivery", d, "none", none)
	if got := out.String(); !strings.Contains(got, d.ID) || !strings.Contains(got, "pub") || strings.Contains(got, "in the") {
		t.Errorf("log line got %s, want ID and public ID without body and claims", got)
	}
}

func TestStateString(t *testing.T) {
	got := fmt.Sprint(State(0), StateNew, StatePending, StateDone)
	if want := "none new pending done"; got != want {
		t.Errorf("states got %q, want %q", got, want)
	}
}

func TestPermanent(t *testing.T) {
	plain, other := errors.New("plain"), errors.New("other")
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"nil", Permanent(nil), false},
		{"plain", plain, false},
		{"permanent", Permanent(plain), true},
		{"wrapped", fmt.Errorf("while: %w", Permanent(plain)), true},
		{"twice", Permanent(Permanent(plain)), true},
		{"of a joined one", Permanent(errors.Join(plain, other)), true},
		{"joined with a transient one", errors.Join(Permanent(plain), other), false},
		{"transient first", errors.Join(other, Permanent(plain)), false},
		{"two joined", errors.Join(Permanent(plain), Permanent(other)), true},
		{"joined deep down", fmt.Errorf("a: %w", errors.Join(Permanent(plain), fmt.Errorf("b: %w", other))), false},
		{"panicked with", &panicError{value: Permanent(plain)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := isPermanent(tt.err); got != tt.want {
				t.Errorf("isPermanent(%v) got %v, want %v", tt.err, got, tt.want)
			}
		})
	}
	if err := Permanent(plain); !errors.Is(err, plain) || err.Error() != "plain" {
		t.Errorf("Permanent(plain) got %v, want it to be plain", err)
	}
}

// calls records what a Processor does to an app, in order.
type calls struct {
	list      []string
	createErr error
	notifyErr error
	onCreate  func(context.Context)
}

func (c *calls) CreateImage(ctx context.Context, img *Image) error {
	c.list = append(c.list, "create "+img.PublicID)
	if c.onCreate != nil {
		c.onCreate(ctx)
	}
	return c.createErr
}

func (c *calls) notify(_ context.Context, d *Delivery) error {
	c.list = append(c.list, "notify "+string(d.Type))
	return c.notifyErr
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
	if _, err := (&Delivery{Body: []byte(`{"a":1,"a":2}`)}).Payload(); !errors.Is(err, ErrMalformedBody) {
		t.Errorf("Payload of a body that nobody has looked at got %v, want %v", err, ErrMalformedBody)
	}
}

func TestAccept(t *testing.T) {
	boom, bad := errors.New("boom"), errors.New("bad")
	upload := `{"notification_type":"upload","public_id":"a"}`
	tests := []struct {
		name      string
		body      string
		app       calls
		store     *memory
		wantCalls []string
		wantState State
		wantErr   []error
		wantCause error
	}{
		{"image", upload, calls{}, &memory{}, []string{"create a", "notify upload"}, StateDone, nil, nil},
		{"no image", moderation, calls{}, &memory{}, []string{"notify moderation"}, StateDone, nil, nil},
		{"create fails", upload, calls{createErr: boom}, &memory{}, []string{"create a"}, StatePending, []error{ErrCreateImage, boom}, nil},
		{"notify fails", upload, calls{notifyErr: boom}, &memory{}, []string{"create a", "notify upload"}, StatePending, []error{ErrNotify, boom}, nil},
		{"create rejects", upload, calls{createErr: Permanent(bad)}, &memory{}, []string{"create a", "notify upload"}, StateDone, nil, bad},
		{"notify rejects", moderation, calls{notifyErr: Permanent(bad)}, &memory{}, []string{"notify moderation"}, StateDone, nil, bad},
		{"create rejects, notify fails", upload, calls{createErr: Permanent(bad), notifyErr: boom}, &memory{}, []string{"create a", "notify upload"}, StatePending, []error{ErrNotify, boom}, nil},
		{"permanent joined with transient", upload, calls{createErr: errors.Join(Permanent(bad), boom)}, &memory{}, []string{"create a"}, StatePending, []error{ErrCreateImage, boom}, nil},
		{"save fails", upload, calls{}, &memory{saveErr: boom}, nil, 0, []error{ErrSave, boom}, nil},
		{"save fails for good", upload, calls{}, &memory{saveErr: Permanent(boom)}, nil, 0, []error{ErrSave, boom}, nil},
		{"complete fails", upload, calls{}, &memory{doneErr: Permanent(boom)}, []string{"create a", "notify upload"}, StatePending, []error{ErrComplete, boom}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Processor{Store: tt.store, Images: &tt.app, Notify: tt.app.notify}
			d := newDelivery(t, tt.body, "{}", 1)
			state, err := p.Accept(t.Context(), d)
			if state != tt.wantState || (err == nil) != (tt.wantErr == nil) {
				t.Errorf("Accept got %v and %v, want %v and %v", state, err, tt.wantState, tt.wantErr)
			}
			for _, want := range tt.wantErr {
				if !errors.Is(err, want) {
					t.Errorf("Accept got %v, want it to wrap %v", err, want)
				}
			}
			if diff := cmp.Diff(tt.wantCalls, tt.app.list); diff != "" {
				t.Errorf("calls differ (-want +got):\n%s", diff)
			}
			if got := tt.store.cause(d.ID); !errors.Is(got, tt.wantCause) {
				t.Errorf("cause got %v, want %v", got, tt.wantCause)
			}
		})
	}
}

func TestAcceptAgain(t *testing.T) {
	app := &calls{createErr: errors.New("not yet")}
	p := Processor{Store: &memory{}, Images: app}
	d := newDelivery(t, untypedImage, "{}", 1)
	for i, want := range []State{StatePending, StatePending, StateDone, StateDone} {
		if i == 2 {
			app.createErr = nil
		}
		if got, err := p.Accept(t.Context(), d); got != want || (err == nil) != (want == StateDone) {
			t.Errorf("attempt %d got %v and %v, want %v", i+1, got, err, want)
		}
	}
	if got := len(app.list); got != 3 {
		t.Errorf("CreateImage ran %d times, want 3: not again once done", got)
	}
}

func TestDeferred(t *testing.T) {
	store := &memory{}
	p := Processor{Store: store, Deferred: true}
	d := newDelivery(t, untypedImage, "{}", 1)
	if got, err := p.Accept(t.Context(), d); got != StatePending || err != nil {
		t.Errorf("Accept got %v and %v, want %v", got, err, StatePending)
	}
	if err := p.Process(t.Context(), d); !errors.Is(err, ErrMisconfigured) {
		t.Errorf("Process got %v, want %v", err, ErrMisconfigured)
	}
	worker := Processor{Store: store, Images: &calls{}}
	if err := worker.Process(t.Context(), d); err != nil || store.state(d.ID) != StateDone {
		t.Errorf("a worker's Process got %v and state %v, want %v", err, store.state(d.ID), StateDone)
	}
	if got, err := p.Accept(t.Context(), d); got != StateDone || err != nil {
		t.Errorf("Accept of what is done got %v and %v, want %v", got, err, StateDone)
	}
}

func TestMisconfiguredProcessors(t *testing.T) {
	app := &calls{}
	tests := []struct {
		name string
		p    *Processor
	}{
		{"nil", nil},
		{"zero", &Processor{}},
		{"no store", &Processor{Images: app}},
		{"no work", &Processor{Store: &memory{}}},
		{"deferred and images", &Processor{Store: &memory{}, Deferred: true, Images: app}},
		{"deferred and notify", &Processor{Store: &memory{}, Deferred: true, Notify: app.notify}},
		{"negative GiveUpAfter", &Processor{Store: &memory{}, Images: app, GiveUpAfter: -1}},
		{"negative Timeout", &Processor{Store: &memory{}, Images: app, Timeout: -1}},
	}
	d := newDelivery(t, untypedImage, "{}", 1)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if state, err := tt.p.Accept(t.Context(), d); !errors.Is(err, ErrMisconfigured) || state != 0 {
				t.Errorf("Accept got %v and %v, want %v", state, err, ErrMisconfigured)
			}
			if err := tt.p.Process(t.Context(), d); !errors.Is(err, ErrMisconfigured) {
				t.Errorf("Process got %v, want %v", err, ErrMisconfigured)
			}
			if err := tt.p.Resume(t.Context(), seq()); !errors.Is(err, ErrMisconfigured) {
				t.Errorf("Resume got %v, want %v", err, ErrMisconfigured)
			}
			if err := tt.p.ResumeEvery(t.Context(), time.Minute, pendingFunc(seq())); !errors.Is(err, ErrMisconfigured) {
				t.Errorf("ResumeEvery got %v, want %v", err, ErrMisconfigured)
			}
			if _, err := NewHandler(Config{
				Signature: &SignatureVerifier{Secrets: []string{"s"}}, Tokenless: true, Processor: tt.p,
			}); !errors.Is(err, ErrMisconfigured) {
				t.Errorf("NewHandler got %v, want %v", err, ErrMisconfigured)
			}
		})
	}
}

func TestStoreAnswersNoState(t *testing.T) {
	p := Processor{Store: stateless{}, Images: &calls{}}
	if got, err := p.Accept(t.Context(), newDelivery(t, untypedImage, "{}", 1)); got != 0 || !errors.Is(err, ErrSave) {
		t.Errorf("Accept got %v and %v, want %v", got, err, ErrSave)
	}
}

type stateless struct{ Store }

func (stateless) Save(context.Context, *Delivery) (State, error) { return 0, nil }

func TestPanicsAreContained(t *testing.T) {
	cause := errors.New("cause")
	tests := []struct {
		name  string
		p     Processor
		stage error
	}{
		{"save", Processor{Store: &memory{onSave: func(context.Context) { panic(cause) }}, Images: &calls{}}, ErrSave},
		{"create", Processor{Store: &memory{}, Images: &calls{onCreate: func(context.Context) { panic(cause) }}}, ErrCreateImage},
		{"create, permanent", Processor{Store: &memory{}, Images: &calls{onCreate: func(context.Context) { panic(Permanent(cause)) }}}, ErrCreateImage},
		{"notify", Processor{Store: &memory{}, Notify: func(context.Context, *Delivery) error { panic(cause) }}, ErrNotify},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			tt.p.Logger = slog.New(slog.NewTextHandler(&log, nil))
			state, err := tt.p.Accept(t.Context(), newDelivery(t, untypedImage, "{}", 1))
			if !errors.Is(err, tt.stage) || !errors.Is(err, cause) || state == StateDone {
				t.Errorf("Accept got %v and %v, want %v and %v", state, err, tt.stage, cause)
			}
			if !strings.Contains(log.String(), "stack=") || strings.Contains(err.Error(), "goroutine") {
				t.Errorf("the stack must be in the log and not in the error; log %s, error %v", log.String(), err)
			}
		})
	}
	p := Processor{Store: &memory{}, Notify: func(context.Context, *Delivery) error { panic("text") }}
	if _, err := p.Accept(t.Context(), newDelivery(t, untypedImage, "{}", 1)); !errors.Is(err, ErrNotify) {
		t.Errorf("Accept got %v, want %v", err, ErrNotify)
	}
}

// TestDeadline: what a creator achieves after the deadline counts, what it
// fails at is not held against the notification.
func TestDeadline(t *testing.T) {
	late := func(ctx context.Context) { <-ctx.Done() }
	tests := []struct {
		name      string
		createErr error
		want      State
	}{
		{"late success", nil, StateDone},
		{"late failure", context.DeadlineExceeded, StatePending},
		{"late permanent error", Permanent(errors.New("bad")), StatePending},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				p := Processor{Store: &memory{}, Images: &calls{onCreate: late, createErr: tt.createErr}}
				state, err := p.Accept(ctx, newDelivery(t, untypedImage, "{}", 1))
				if state != tt.want || (err == nil) != (tt.want == StateDone) {
					t.Errorf("Accept got %v and %v, want %v", state, err, tt.want)
				}
			})
		})
	}
}

func seq(items ...any) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		for _, item := range items {
			d, _ := item.(*Delivery)
			err, _ := item.(error)
			if !yield(d, err) {
				return
			}
		}
	}
}

func TestResume(t *testing.T) {
	store, boom := &memory{}, errors.New("boom")
	app := &calls{}
	var log bytes.Buffer
	p := Processor{Store: store, Images: app, GiveUpAfter: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	save := func(publicID string, age time.Duration) *Delivery {
		d := newDelivery(t, `{"notification_type":"upload","public_id":"`+publicID+`"}`, "{}", 1)
		d.ReceivedAt = d.ReceivedAt.Add(-age)
		if _, err := store.Save(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	first, done, old, oldDone, last := save("first", 0), save("done", 0), save("old", 2*time.Hour), save("oldDone", 2*time.Hour), save("last", 0)
	for _, d := range []*Delivery{done, oldDone} {
		if err := store.Complete(t.Context(), d.ID, nil); err != nil {
			t.Fatal(err)
		}
	}
	app.onCreate = func(context.Context) {
		if app.list[len(app.list)-1] == "create first" {
			panic("one odd image")
		}
	}
	err := p.Resume(t.Context(), seq(first, boom, nil, done, old, oldDone, last))
	for _, want := range []error{ErrCreateImage, boom, ErrInvalidDelivery} {
		if !errors.Is(err, want) {
			t.Errorf("Resume got %v, want it to wrap %v", err, want)
		}
	}
	if diff := cmp.Diff([]string{"create first", "create last"}, app.list); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
	got := []State{store.state(first.ID), store.state(old.ID), store.state(last.ID)}
	if diff := cmp.Diff([]State{StatePending, StateDone, StateDone}, got); diff != "" {
		t.Errorf("states differ (-want +got):\n%s", diff)
	}
	if got := store.cause(old.ID); !errors.Is(got, ErrGaveUp) {
		t.Errorf("cause of the old one got %v, want %v", got, ErrGaveUp)
	}
	if got := store.cause(oldDone.ID); got != nil {
		t.Errorf("cause of the old and done one got %v, want nil", got)
	}
	if got := log.String(); strings.Count(got, "delivery rejected") != 1 || strings.Count(got, "delivery failed") != 1 || strings.Count(got, "resuming failed") != 2 {
		t.Errorf("log got %s, want one line for each: the rejection, the failure, and the two that were no delivery", got)
	}
}

func TestResumeGivesUpOnlyIfItCanSay(t *testing.T) {
	boom := errors.New("boom")
	d := newDelivery(t, untypedImage, "{}", 1)
	d.ReceivedAt = d.ReceivedAt.Add(-time.Hour)
	for _, store := range []*memory{{saveErr: boom}, {doneErr: boom}} {
		p := Processor{Store: store, Images: &calls{}, GiveUpAfter: time.Minute}
		if err := p.Resume(t.Context(), seq(d)); !errors.Is(err, boom) {
			t.Errorf("Resume got %v, want %v", err, boom)
		}
	}
}

func TestResumeStopsWhenDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	app := &calls{onCreate: func(context.Context) { cancel() }}
	p := Processor{Store: &memory{}, Images: app}
	a, b := newDelivery(t, untypedImage, "{}", 1), newDelivery(t, untypedImage, "{}", 2)
	if err := p.Resume(ctx, seq(a, b)); !errors.Is(err, context.Canceled) || len(app.list) != 1 {
		t.Errorf("Resume got %v after %v, want %v after one image", err, app.list, context.Canceled)
	}
}

// TestOneHungCreator: each delivery has a time of its own, so that one whose
// creator hangs keeps neither the others nor the caller waiting.
func TestOneHungCreator(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: 15 * time.Second, time.Minute: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			store := &memory{}
			p := Processor{Store: store, Timeout: timeout, Images: ImageCreatorFunc(func(ctx context.Context, img *Image) error {
				if img.PublicID == "hung" {
					<-ctx.Done()
				}
				return ctx.Err()
			})}
			hung := newDelivery(t, `{"notification_type":"upload","public_id":"hung"}`, "{}", 1)
			start := time.Now()
			if err := p.Process(t.Context(), hung); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != want {
				t.Errorf("Process got %v after %v, want %v after %v", err, time.Since(start), context.DeadlineExceeded, want)
			}
			after := newDelivery(t, untypedImage, "{}", 1)
			if err := p.Resume(t.Context(), seq(hung, after)); !errors.Is(err, ErrCreateImage) || time.Since(start) != 2*want {
				t.Errorf("Resume got %v after %v, want %v after %v", err, time.Since(start)-want, ErrCreateImage, want)
			}
			if got := []State{store.state(hung.ID), store.state(after.ID)}; !slices.Equal(got, []State{StatePending, StateDone}) {
				t.Errorf("states got %v, want pending and done", got)
			}
		})
	}
}

func pendingFunc(pending iter.Seq2[*Delivery, error]) func(context.Context, time.Time) iter.Seq2[*Delivery, error] {
	return func(context.Context, time.Time) iter.Seq2[*Delivery, error] { return pending }
}

// TestResumeEvery: at once, then every interval, whatever the listing does, until
// ctx ends. Nobody but the log is told of what fails.
func TestResumeEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 20 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 3*interval+time.Second)
		defer cancel()
		var log bytes.Buffer
		store := &memory{}
		p := Processor{Store: store, Images: &calls{}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		d := newDelivery(t, untypedImage, "{}", 1)
		start, passes := time.Now(), 0
		err := p.ResumeEvery(ctx, interval, func(got context.Context, before time.Time) iter.Seq2[*Delivery, error] {
			if want := start.Add(time.Duration(passes)*interval - time.Minute); got != ctx || !before.Equal(want) {
				t.Errorf("pass %d asks for what came before %v, want %v", passes, before, want)
			}
			passes++
			switch passes {
			case 1:
				panic("cannot list")
			case 2:
				return nil
			case 3:
				return seq(errors.New("one row is broken"))
			}
			return seq(d)
		})
		if !errors.Is(err, context.DeadlineExceeded) || passes != 4 || store.state(d.ID) != StateDone {
			t.Errorf("ResumeEvery got %v after %d passes and state %v, want %v, 4 and done", err, passes, store.state(d.ID), context.DeadlineExceeded)
		}
		if got := log.String(); strings.Count(got, "\n") != 3 || strings.Count(got, "resuming failed") != 3 || !strings.Contains(got, "one row is broken") {
			t.Errorf("log got %s, want a line for each of the three listings that failed", got)
		}
	})
	p := Processor{Store: &memory{}, Images: &calls{}}
	if err := p.ResumeEvery(t.Context(), 0, pendingFunc(seq())); !errors.Is(err, ErrMisconfigured) {
		t.Errorf("ResumeEvery without an interval got %v, want %v", err, ErrMisconfigured)
	}
	if err := p.ResumeEvery(t.Context(), time.Minute, nil); !errors.Is(err, ErrMisconfigured) {
		t.Errorf("ResumeEvery without a listing got %v, want %v", err, ErrMisconfigured)
	}
}

func TestProcessorLogs(t *testing.T) {
	tests := []struct {
		name, want string
		err        error
	}{
		{"failed", "cloudinary delivery failed", errors.New("boom")},
		{"rejected", "cloudinary delivery rejected", Permanent(errors.New("bad"))},
		{"well", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			p := Processor{Store: &memory{}, Images: &calls{createErr: tt.err}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			d := newDelivery(t, untypedImage, "{}", 1)
			if _, err := p.Store.Save(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			_ = p.Process(t.Context(), d)
			if got := log.String(); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("log got %q, want %q", got, tt.want)
			}
		})
	}
}
