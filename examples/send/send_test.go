package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// newReceiver is the real handler behind a real socket.
func newReceiver(t *testing.T) (endpoint string, store *cloudinaryhooktest.MemoryStore) {
	t.Helper()
	store = new(cloudinaryhooktest.MemoryStore)
	handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}, Require: []string{"album_id"}},
		Processor: &cloudinaryhook.Processor{Store: store, Notify: func(context.Context, *cloudinaryhook.Delivery) error { return nil }},
		MaxBody:   64 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/hook", handler)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/hook", store
}

func environment(name string) string {
	return map[string]string{
		secretVariable: cloudinaryhooktest.DefaultSecret + ", an older one",
		keyVariable:    cloudinaryhooktest.DefaultKey,
	}[name]
}

// send runs the program and returns what it wrote.
func send(t *testing.T, stdin string, args ...string) (output string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err = run(t.Context(), args, environment, strings.NewReader(stdin), &stdout, &stderr)
	return stdout.String() + stderr.String(), err
}

func TestAnswersInPlainWords(t *testing.T) {
	tests := []struct {
		name, stdin string
		args        []string
		want        string // in the output
		err         error
	}{
		{"a type", "", []string{"upload"}, "Accepted and saved.\n", nil},
		{"a golden body", "", []string{"error-text"}, "\n201 after", nil},
		{"SHA-256", "", []string{"-sha256", "eager"}, "Accepted", nil},
		{"own claims", "", []string{"-claims", `{"album_id":12345678901234567890}`, "upload"}, "Accepted", nil},
		{"an hour old", "", []string{"-age", "1h", "upload"}, "Accepted", nil},
		{"another secret", "", []string{"-secret", "another", "upload"}, "1. The API secret", errNotAccepted},
		{"another key", "", []string{"-key", strings.Repeat("k", 32), "upload"}, "2. The token", errNotAccepted},
		{"no token", "", []string{"-tokenless", "upload"}, "refused: it was sent without a token", errNotAccepted},
		{"no album", "", []string{"-claims", `{}`, "upload"}, "does not believe it; check three things", errNotAccepted},
		{"an expired token", "", []string{"-claims", `{"album_id":"1","exp":1}`, "upload"}, "refused: its token has expired: exp in the claims is 1970-01-01T00:00:01Z.\nIf that is not why, check", errNotAccepted},
		{"stale", "", []string{"-age", "3h", "upload"}, "refused: it says that it was signed 3h0m0s ago", errNotAccepted},
		{"of the future", "", []string{"-age", "-10m", "upload"}, "refused: it says that it is signed in 10m0s", errNotAccepted},
		{"many without a token", "", []string{"-n", "2", "-tokenless", "upload"}, "\n401: refused: it was sent without a token", errNotAccepted},
		{"expired, and not JSON", "", []string{"-claims", `{"album_id":"1","exp":1}`, "-url", "http://127.0.0.1:1/", "upload"}, "nothing answered", errNotAccepted},
		{"not JSON", "hello", []string{"-"}, "not exactly one JSON", errNotAccepted},
		{"large", `"` + strings.Repeat(" ", 64<<10), []string{"-"}, "MaxBody", errNotAccepted},
	}
	endpoint, _ := newReceiver(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := send(t, tt.stdin, append([]string{"-url", endpoint}, tt.args...)...)
			if !errors.Is(err, tt.err) || !strings.Contains(got, tt.want) {
				t.Errorf("got %v and %q, want %v and %q", err, got, tt.err, tt.want)
			}
			for _, secret := range []string{cloudinaryhooktest.DefaultSecret, cloudinaryhooktest.DefaultKey, "another", "eyJ"} {
				if strings.Contains(got, secret) {
					t.Errorf("the output holds %q: %s", secret, got)
				}
			}
		})
	}
	got, err := send(t, "", "-url", endpoint+"/elsewhere", "upload")
	if !errors.Is(err, errNotAccepted) || !strings.Contains(got, "nothing is mounted") {
		t.Errorf("another path got %v and %q, want 404 explained", err, got)
	}
	got, err = send(t, "", "-url", "http://127.0.0.1:1/", "upload")
	if !errors.Is(err, errNotAccepted) || !strings.Contains(got, "Is the receiver up") || strings.Contains(got, "eyJ") {
		t.Errorf("a closed port got %v and %q, want that nothing answered, and no token", err, got)
	}
}

// TestEveryAnswerIsExplained: what the library answers has words of its own.
func TestEveryAnswerIsExplained(t *testing.T) {
	for _, err := range []error{
		cloudinaryhook.ErrMethodNotAllowed, cloudinaryhook.ErrInvalidToken, cloudinaryhook.ErrBodyTooLarge,
		cloudinaryhook.ErrMalformedBody, cloudinaryhook.ErrBodyTimeout, cloudinaryhook.ErrSave,
	} {
		if answers[cloudinaryhook.StatusCode(err)] == "" {
			t.Errorf("%v is answered %d, which has no explanation", err, cloudinaryhook.StatusCode(err))
		}
	}
	for status, want := range map[int]string{202: "asks for 200", 302: "redirected", 418: "no such answer", 599: "again"} {
		a := attempt{}
		a.answer.Status = status
		if got := explain(a); !strings.Contains(got, want) {
			t.Errorf("%d got %q, want %q", status, got, want)
		}
	}
}

func TestBodies(t *testing.T) {
	const odd = "{\"b\" : 1,\r\n \"a\":\"\\u00e9\xff\"}\n"
	file := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(file, []byte(odd), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, arg := range []string{"-", file} {
		endpoint, store := newReceiver(t)
		if got, err := send(t, odd, "-url", endpoint, arg); err != nil {
			t.Fatalf("%s got %v: %s", arg, err, got)
		}
		if diff := cmp.Diff(odd, string(store.Deliveries()[0].Body)); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", arg, diff)
		}
	}
	endpoint, store := newReceiver(t)
	for _, name := range names() {
		if got, err := send(t, "", "-url", endpoint, name); err != nil {
			t.Errorf("%s got %v: %s", name, err, got)
		}
	}
	if got := len(store.Deliveries()); got != len(names()) {
		t.Errorf("got %d deliveries of %d golden bodies, want one each", got, len(names()))
	}
}

func TestMany(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want int // deliveries
	}{
		{"many notifications", []string{"-n", "200", "-c", "16", "upload"}, 200},
		{"one, many times", []string{"-n", "50", "-c", "8", "-same", "upload"}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			endpoint, store := newReceiver(t)
			got, err := send(t, "", append([]string{"-url", endpoint}, tt.args...)...)
			if err != nil {
				t.Fatalf("got %v: %s", err, got)
			}
			if n := len(store.Deliveries()); n != tt.want {
				t.Errorf("got %d deliveries, want %d", n, tt.want)
			}
			count := tt.args[1]
			want := regexp.MustCompile(`(?s)^ *answer .* median .*\n +201 +` + count + ` .*\n` + count + ` of ` + count + ` accepted`)
			if !want.MatchString(got) {
				t.Errorf("the output does not match %v:\n%s", want, got)
			}
		})
	}
}

// TestRetry: the schedule is Cloudinary's, and each retry is the same request.
func TestRetry(t *testing.T) {
	tests := []struct {
		name    string
		retry   bool
		answers []int
		want    []time.Duration
		last    int
	}{
		{"accepted at once", true, []int{201}, nil, 201},
		{"accepted late", true, []int{500, 204, 200}, []time.Duration{3 * time.Minute, 6 * time.Minute}, 200},
		{"never accepted", true, []int{401, 401, 401, 401}, []time.Duration{3 * time.Minute, 6 * time.Minute, 9 * time.Minute}, 401},
		{"not followed", true, []int{302, 201}, []time.Duration{3 * time.Minute}, 201},
		{"without -retry", false, []int{500}, nil, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var seen []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				defer mu.Unlock()
				w.Header().Set("Location", "/")
				w.WriteHeader(tt.answers[len(seen)])
				seen = append(seen, r.URL.String()+r.Header.Get(cloudinaryhook.SignatureHeader)+string(body))
			}))
			defer server.Close()
			args := []string{"-url", server.URL, "upload"}
			if tt.retry {
				args = append([]string{"-retry"}, args...)
			}
			cfg, err := parseConfig(args, environment, nil, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			var waited []time.Duration
			cfg.wait = func(_ context.Context, d time.Duration) error {
				waited = append(waited, d)
				return nil
			}
			n, err := cfg.notification()
			if err != nil {
				t.Fatal(err)
			}
			last := deliver(t.Context(), cfg, n, func(attempt, time.Duration) {})
			if last.err != nil || last.answer.Status != tt.last {
				t.Errorf("the last answer got %+v, want %d", last, tt.last)
			}
			if diff := cmp.Diff(tt.want, waited); diff != "" {
				t.Errorf("waits differ (-want +got):\n%s", diff)
			}
			if len(seen) != len(tt.answers) {
				t.Errorf("got %d requests, want %d", len(seen), len(tt.answers))
			}
			for _, s := range seen {
				if s != seen[0] {
					t.Error("a retry differs from the first attempt")
				}
			}
		})
	}
}

func TestRetryIsCompressedAndInterrupted(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer server.Close()
	got, err := send(t, "", "-url", server.URL, "-retry", "-minute", "1ms", "upload")
	if !errors.Is(err, errNotAccepted) || requests != 4 || !strings.Contains(got, "again in 9ms") {
		t.Errorf("compressed, got %v, %d requests and %q; want four", err, requests, got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, got %v, want %v", err, context.Canceled)
	}
}

func TestPrint(t *testing.T) {
	endpoint, store := newReceiver(t)
	got, err := send(t, "", "-url", endpoint, "-print", "curl", "upload")
	if err != nil || !strings.HasPrefix(got, "curl ") || !strings.Contains(got, cloudinaryhook.SignatureHeader) {
		t.Errorf("got %v and %q, want a curl command", err, got)
	}
	if len(store.Deliveries()) != 0 {
		t.Error("it was sent, too")
	}
}

func TestRefuses(t *testing.T) {
	none := func(string) string { return "" }
	tests := []struct {
		name   string
		args   []string
		getenv func(string) string
		want   string
	}{
		{"nothing to send", nil, environment, "give one of"},
		{"two things", []string{"upload", "error"}, environment, "give one of"},
		{"no such body", []string{"uplaod"}, environment, "neither a golden body nor a file"},
		{"a folder", []string{os.TempDir()}, environment, "directory"},
		{"no secret", []string{"upload"}, none, secretVariable},
		{"no key", []string{"-secret", "s", "upload"}, none, keyVariable},
		{"a short key", []string{"-key", "short", "upload"}, environment, "fewer than 32"},
		{"no claims", []string{"-claims", "null", "upload"}, environment, "JSON object"},
		{"claims and more", []string{"-claims", "{}{}", "upload"}, environment, "JSON object"},
		{"a URL with a token", []string{"-url", "http://127.0.0.1/?token=x", "upload"}, environment, "token already"},
		{"none", []string{"-n", "0", "upload"}, environment, "at least"},
		{"another language", []string{"-print", "wget", "upload"}, environment, "curl"},
		{"many commands", []string{"-print", "curl", "-n", "2", "upload"}, environment, "one request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), tt.args, tt.getenv, strings.NewReader(""), io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	var sorted []attempt
	for i := range 200 {
		sorted = append(sorted, attempt{took: time.Duration(i+1) * time.Millisecond})
	}
	for percent, want := range map[int]time.Duration{50: 100, 90: 180, 99: 198, 100: 200} {
		if got := percentile(sorted, percent); got != want*time.Millisecond {
			t.Errorf("%d %% got %v, want %v ms", percent, got, int(want))
		}
	}
	if got := percentile(sorted[:1], 50); got != time.Millisecond {
		t.Errorf("of one got %v, want itself", got)
	}
}
