package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

const (
	secret    = "the API secret"
	timestamp = "1700000000"
	body      = `{"notification_type":"upload","public_id":"beach>?","request_id":"1"}` // - and _ in base64url
)

func newPoller(t *testing.T, store cloudinaryhook.Store, secret string, now int64, create func() error) *poller {
	t.Helper()
	return &poller{
		signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{secret}, Now: func() time.Time { return time.Unix(now, 0) }},
		processor: &cloudinaryhook.Processor{
			Store:  store,
			Images: cloudinaryhook.ImageCreatorFunc(func(context.Context, *cloudinaryhook.Image) error { return create() }),
		},
	}
}

func signed(body string) message {
	return message{
		ReceiptHandle: "handle",
		SignedPayload: base64.RawURLEncoding.EncodeToString([]byte(body)),
		Signature:     cloudinaryhook.Sign(crypto.SHA1, []byte(body), timestamp, secret),
		Timestamp:     timestamp,
	}
}

func TestAccept(t *testing.T) {
	down := errors.New("the image service is down")
	tests := []struct {
		name     string
		change   func(*message)
		create   error
		want     error
		hopeless bool
		images   int
	}{
		{"genuine", func(*message) {}, nil, nil, false, 1},
		{"SHA-256", func(m *message) { m.Signature = cloudinaryhook.Sign(crypto.SHA256, []byte(body), timestamp, secret) }, nil, nil, false, 1},
		{"the app fails", func(*message) {}, down, down, false, 1},
		{"the app rejects it", func(*message) {}, cloudinaryhook.Permanent(down), nil, false, 1},
		{"another body", func(m *message) { m.SignedPayload = signed("{}").SignedPayload }, nil, cloudinaryhook.ErrSignatureMismatch, true, 0},
		{"padded", func(m *message) { m.SignedPayload += "=" }, nil, errEncoding, true, 0},
		{"the other alphabet", func(m *message) { m.SignedPayload = base64.RawStdEncoding.EncodeToString([]byte(body + "?>?>")) }, nil, errEncoding, true, 0},
		{"no signature", func(m *message) { m.Signature = "" }, nil, cloudinaryhook.ErrMissingSignature, true, 0},
		{"no timestamp", func(m *message) { m.Timestamp = "" }, nil, cloudinaryhook.ErrInvalidTimestamp, true, 0},
		{"stale", func(m *message) { m.Timestamp = "1600000000" }, nil, cloudinaryhook.ErrStaleTimestamp, true, 0},
		{"not JSON", func(m *message) { *m = signed("hello") }, nil, cloudinaryhook.ErrMalformedBody, true, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			images := 0
			p := newPoller(t, new(cloudinaryhooktest.MemoryStore), secret, 1700000060, func() error {
				images++
				return tt.create
			})
			m := signed(body)
			tt.change(&m)
			state, err := p.accept(t.Context(), m)
			if !errors.Is(err, tt.want) || hopeless(err) != tt.hopeless || images != tt.images {
				t.Errorf("got %v, %v, hopeless %t and %d images; want %v, %t and %d", state, err, hopeless(err), images, tt.want, tt.hopeless, tt.images)
			}
			if done := state == cloudinaryhook.StateDone; done != (tt.want == nil) {
				t.Errorf("state got %v with %v", state, err)
			}
		})
	}
}

// TestAcceptAll: the same message twice is one image, a bad one stops nothing,
// and the output holds neither body nor signature.
func TestAcceptAll(t *testing.T) {
	store, images := new(cloudinaryhooktest.MemoryStore), 0
	p := newPoller(t, store, secret, 1700000060, func() error {
		images++
		return nil
	})
	forged := signed(body)
	forged.Signature = strings.Repeat("0", 40)
	var in, out bytes.Buffer
	for _, m := range []message{forged, signed(body), signed(body), signed(`{"notification_type":"delete","request_id":"2"}`)} {
		if err := json.NewEncoder(&in).Encode(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.acceptAll(t.Context(), &in, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "handle: refused, acknowledge: ") {
		t.Fatalf("got %q, want a refusal and three more lines", lines)
	}
	want := []string{"handle: done, acknowledge", "handle: done, acknowledge", "handle: done, acknowledge"}
	if diff := cmp.Diff(want, lines[1:]); diff != "" {
		t.Errorf("output differs (-want +got):\n%s", diff)
	}
	if images != 1 || len(store.Deliveries()) != 2 {
		t.Errorf("got %d images and %d deliveries, want 1 and 2", images, len(store.Deliveries()))
	}
	if err := p.acceptAll(t.Context(), strings.NewReader(`{"timestamp":1700000000}`), &out); err == nil || strings.Contains(err.Error(), "17") {
		t.Errorf("a number for a timestamp got %v, want an error that quotes nothing", err)
	}
}

// TestPublishedMessage takes a message of the shape that an official SDK's tests
// have. It is not part of this project: CI says where it is.
func TestPublishedMessage(t *testing.T) {
	corpus := os.Getenv("CLOUDINARYHOOK_CORPUS")
	if corpus == "" {
		t.Skip("CLOUDINARYHOOK_CORPUS does not name a folder with published bodies")
	}
	var m message
	readJSON(t, filepath.Join(corpus, "payloads", "poll-message-1.json"), &m)
	var vectors []struct {
		Signature string `json:"expected_signature"`
		Secret    string `json:"api_secret"`
	}
	readJSON(t, filepath.Join(corpus, "vectors.json"), &vectors)
	for _, v := range vectors {
		if v.Signature != m.Signature {
			continue
		}
		store := new(cloudinaryhooktest.MemoryStore)
		p := newPoller(t, store, v.Secret, 1549533514, func() error { return nil })
		if state, err := p.accept(t.Context(), m); err != nil || state != cloudinaryhook.StateDone {
			t.Fatalf("got %v and %v, want done", state, err)
		}
		if d := store.Deliveries()[0]; d.PublicID != "sample" || d.RequestID != "req_1" {
			t.Errorf("got %q of %q, want sample of req_1", d.PublicID, d.RequestID)
		}
		return
	}
	t.Error("no vector has the message's signature")
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestUsage(t *testing.T) {
	var said strings.Builder
	if err := run([]string{"-h"}, strings.NewReader(""), &said, &said); !errors.Is(err, flag.ErrHelp) || !strings.Contains(said.String(), "usage: poll < ") {
		t.Errorf("-h got %v and %q, want the usage", err, &said)
	}
	if err := run([]string{"messages.json"}, strings.NewReader(""), &said, &said); err == nil || !strings.Contains(err.Error(), "standard input") {
		t.Errorf("with a file got %v, want that it reads standard input", err)
	}
}
