package sender

import (
	"context"
	"crypto"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// newReceiver starts the real handler on a real socket.
func newReceiver(t *testing.T) (endpoint string, store *cloudinaryhooktest.MemoryStore) {
	t.Helper()
	store = new(cloudinaryhooktest.MemoryStore)
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}, Require: []string{"album_id"}},
		Processor: &cloudinaryhook.Processor{Store: store, Notify: func(context.Context, *cloudinaryhook.Delivery) error { return nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL + "/hook", store
}

func TestPost(t *testing.T) {
	const secret, key = cloudinaryhooktest.DefaultSecret, cloudinaryhooktest.DefaultKey
	endpoint, store := newReceiver(t)
	tests := []struct {
		name   string
		sender Sender
		want   int
	}{
		{"SHA-1", Sender{Endpoint: endpoint, Secret: secret, Key: []byte(key)}, 201},
		{"SHA-256", Sender{Endpoint: endpoint, Secret: secret, Key: []byte(key), Hash: crypto.SHA256}, 201},
		{"another secret", Sender{Endpoint: endpoint, Secret: "another", Key: []byte(key)}, 401},
		{"another key", Sender{Endpoint: endpoint, Secret: secret, Key: []byte(strings.Repeat("k", 32))}, 401},
		{"no token", Sender{Endpoint: endpoint, Secret: secret}, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(`{"request_id":"` + tt.name + `"}`)
			n, err := tt.sender.Sign(body, cloudinaryhooktest.DefaultClaims())
			if err != nil {
				t.Fatal(err)
			}
			got, err := n.Post(t.Context(), http.DefaultClient)
			if err != nil || got.Status != tt.want {
				t.Fatalf("got %+v and %v, want %d", got, err, tt.want)
			}
			if saved := store.State(got.DeliveryID) == cloudinaryhook.StateDone; saved != (tt.want == 201) {
				t.Errorf("saved under %q got %t, want %t", got.DeliveryID, saved, !saved)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	tests := []struct {
		name   string
		sender Sender
		want   error
	}{
		{"a short key", Sender{Endpoint: "http://127.0.0.1/", Key: []byte("short")}, cloudinaryhook.ErrNoSecrets},
		{"an empty key", Sender{Endpoint: "http://127.0.0.1/", Key: []byte{}}, cloudinaryhook.ErrNoSecrets},
		{"a path for a URL", Sender{Endpoint: "/hook", Key: []byte(cloudinaryhooktest.DefaultKey)}, cloudinaryhook.ErrInvalidURL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.sender.Sign([]byte("{}"), cloudinaryhooktest.DefaultClaims()); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestErrorsHoldNoURL: errors are printed and logged, and the URL is a bearer
// credential.
func TestErrorsHoldNoURL(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, endpoint := range []string{closed.URL, "http://127.0.0.1:0/\x7f"} {
		n := &Notification{url: endpoint + "/?token=secret"}
		if _, err := n.Post(t.Context(), http.DefaultClient); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want an error without the token", err)
		}
	}
}

// TestCurl runs the command in a shell: quotes and line breaks arrive
// unchanged.
func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil && os.Getenv("CI") == "" {
		t.Skip("curl is not installed; CI installs it")
	}
	endpoint, store := newReceiver(t)
	body := "{\"public_id\":\"it's $HOME `id` \\\"\\\\\",\r\n\t\"percent\":\"%s\"}\n"
	s := Sender{Endpoint: endpoint, Secret: cloudinaryhooktest.DefaultSecret, Key: []byte(cloudinaryhooktest.DefaultKey)}
	n, err := s.Sign([]byte(body), cloudinaryhooktest.DefaultClaims())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", n.Curl()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "201 Created") {
		t.Fatalf("got %v and %s, want 201", err, out)
	}
	if diff := cmp.Diff(body, string(store.Deliveries()[0].Body)); diff != "" {
		t.Errorf("the body differs (-want +got):\n%s", diff)
	}
}

// TestFreshBody makes each golden body twice: the two are different events of
// the same shape.
func TestFreshBody(t *testing.T) {
	files, err := fs.Glob(cloudinaryhooktest.Bodies(), "*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("got %d golden bodies and %v, want more", len(files), err)
	}
	signedAt := time.Unix(1700000000, 0)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			golden, err := fs.ReadFile(cloudinaryhooktest.Bodies(), file)
			if err != nil {
				t.Fatal(err)
			}
			seen := make(map[string]bool)
			var shapes []string
			for _, body := range [][]byte{golden, fresh(t, file), fresh(t, file)} {
				d, err := cloudinaryhook.NewDelivery(body, nil, signedAt)
				if err != nil {
					t.Fatal(err)
				}
				img, announced := d.Image()
				if seen[d.ID] || announced && seen[img.Key] {
					t.Errorf("the delivery or its image is the same as another's")
				}
				seen[d.ID] = true
				shape := string(d.Type) + " " + d.Format + " " + d.ResourceType
				if announced {
					seen[img.Key] = true
					shape += " image"
				}
				shapes = append(shapes, shape)
			}
			if shapes[1] != shapes[0] || shapes[2] != shapes[0] {
				t.Errorf("shapes got %q, want them the same", shapes)
			}
		})
	}
	if _, err := FreshBody("no-such-type", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown name got %v, want %v", err, fs.ErrNotExist)
	}
}

func fresh(t *testing.T, file string) []byte {
	t.Helper()
	body, err := FreshBody(strings.TrimSuffix(file, ".json"), "")
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestFreshBodyTakesAPublicID(t *testing.T) {
	body, err := FreshBody("upload-simple", "pier")
	if err != nil {
		t.Fatal(err)
	}
	payload, err := cloudinaryhook.ParsePayload(body)
	if err != nil {
		t.Fatal(err)
	}
	n := payload.Common()
	if !strings.HasPrefix(n.PublicID, "pier-") || !strings.Contains(n.SecureURL, n.PublicID) {
		t.Errorf("public ID got %q and the URL %q, want both to have pier-", n.PublicID, n.SecureURL)
	}
}
