package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

func TestAnswersInPlainWords(t *testing.T) {
	tests := []struct {
		name, stdin string
		args        []string
		want        string // in the output
		status      int
	}{
		{"a type", "", []string{"upload"}, "Accepted and saved.\n", 0},
		{"a sample", "", []string{"error-text"}, "\n201 after", 0},
		{"SHA-256", "", []string{"-sha256", "eager"}, "Accepted", 0},
		{"own claims", "", []string{"-claims", `{"album_id":12345678901234567890}`, "upload"}, "Accepted", 0},
		{"an hour old", "", []string{"-age", "1h", "upload"}, "Accepted", 0},
		{"another secret", "", []string{"-secret", "another", "upload"}, "refused: the receiver does not accept the signature or the token; the receiver's log says why.\n", 1},
		{"no token", "", []string{"-tokenless", "upload"}, "refused: it was sent without a token", 1},
		{"no album", "", []string{"-claims", `{}`, "upload"}, "does not accept the signature or the token; the receiver's log says why.\n", 1},
		{"an expired token", "", []string{"-claims", `{"album_id":"1","exp":1}`, "upload"}, "refused: its token has expired: exp in the claims is 1970-01-01T00:00:01Z.\nIf that is not why, the receiver's log says why.\n", 1},
		{"stale", "", []string{"-age", "3h", "upload"}, "refused: its timestamp is 3h0m0s old", 1},
		{"of the future", "", []string{"-age", "-10m", "upload"}, "refused: its timestamp is 10m0s in the future", 1},
		{"many without a token", "", []string{"-n", "2", "-tokenless", "upload"}, "\n401: refused: it was sent without a token", 1},
		{"expired, and nobody there", "", []string{"-claims", `{"album_id":"1","exp":1}`, "-url", "http://127.0.0.1:1/", "upload"}, "nothing answered", 1},
		{"not JSON", "hello", []string{"-"}, "not exactly one JSON", 1},
		{"large", `"` + strings.Repeat(" ", 64<<10), []string{"-"}, "MaxBody", 1},
	}
	endpoint, _ := newReceiver(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, status := testEnvironment().run(t, tt.stdin, append([]string{"send", "-url", endpoint}, tt.args...)...)
			if status != tt.status || !strings.Contains(got, tt.want) {
				t.Errorf("got %d and %q, want %d and %q", status, got, tt.status, tt.want)
			}
			if strings.Count(got, "\n") > 5 && status != 0 && tt.name != "many without a token" {
				t.Errorf("got %s, want five lines at most", got)
			}
			for _, secret := range []string{"eyJ", "another"} {
				if strings.Contains(got, secret) {
					t.Errorf("the output holds %q: %s", secret, got)
				}
			}
		})
	}
	other := testEnvironment()
	other[keyVariable] = strings.Repeat("k", 32)
	if got, status := other.run(t, "", "send", "-url", endpoint, "upload"); status != 1 || !strings.Contains(got, "cloudinaryhook explain") {
		t.Errorf("another key got %d and %q, want 1 and a pointer to explain", status, got)
	}
	if got, status := testEnvironment().run(t, "", "send", "-url", endpoint+"/elsewhere", "upload"); status != 1 || !strings.Contains(got, "nothing is mounted") {
		t.Errorf("another path got %d and %q, want 404 explained", status, got)
	}
}

// TestEveryAnswerIsExplained: each status that the library answers has its own
// explanation.
func TestEveryAnswerIsExplained(t *testing.T) {
	for _, err := range []error{
		cloudinaryhook.ErrMethodNotAllowed, cloudinaryhook.ErrInvalidToken, cloudinaryhook.ErrBodyTooLarge,
		cloudinaryhook.ErrMalformedBody, cloudinaryhook.ErrBodyTimeout, cloudinaryhook.ErrSave,
	} {
		if answers[cloudinaryhook.StatusCode(err)] == "" {
			t.Errorf("%v is answered %d, which has no explanation", err, cloudinaryhook.StatusCode(err))
		}
	}
	for status, want := range map[int]string{400: "Or it was cut off on the way, before its signature was checked", 201: `"cloudinaryhook listen"`, 202: "asks for 200", 418: "never gives this answer", 599: "again"} {
		a := attempt{}
		a.answer.Status = status
		if got := strings.Join(strings.Fields(explainAttempt(a)), " "); !strings.Contains(got, want) {
			t.Errorf("%d got %q, want %q", status, got, want)
		}
	}
}

// TestAFailureIsExplained: an answer 500 says that the notification is genuine
// only if the receiver has authenticated it.
func TestAFailureIsExplained(t *testing.T) {
	failed := errors.New("the database is down")
	tests := []struct {
		name    string
		change  func(*cloudinaryhook.Config)
		around  func(http.Handler) http.Handler
		genuine bool
	}{
		{"Save fails", func(c *cloudinaryhook.Config) {
			c.Processor.Store = failingStore{failed}
		}, nil, true},
		{"Notify fails", func(c *cloudinaryhook.Config) {
			c.Processor.Notify = func(context.Context, *cloudinaryhook.Delivery) error { return failed }
		}, nil, true},
		{"SecretsFor fails", func(c *cloudinaryhook.Config) {
			c.Signature.Secrets = nil
			c.SecretsFor = func(context.Context, *cloudinaryhook.Claims) ([]string, error) { return nil, failed }
		}, nil, false},
		{"the body is read before", nil, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				next.ServeHTTP(w, r)
			})
		}, false},
		{"another server fails", nil, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := receiverConfig(new(cloudinaryhooktest.MemoryStore))
			if tt.change != nil {
				tt.change(&config)
			}
			var handler http.Handler
			handler, err := cloudinaryhook.NewHandler(config)
			if err != nil {
				t.Fatal(err)
			}
			if tt.around != nil {
				handler = tt.around(handler)
			}
			server := httptest.NewServer(handler)
			defer server.Close()
			got, status := testEnvironment().run(t, "", "send", "-url", server.URL, "upload")
			if status != 1 || !strings.HasPrefix(got, "500 after") {
				t.Fatalf("got %d and %q, want 1 and the status 500", status, got)
			}
			if says := strings.Contains(got, ": genuine"); says != tt.genuine {
				t.Errorf("got %q, which says genuine: %t, want %t", got, says, tt.genuine)
			}
			if says := strings.Contains(got, "SecretsFor"); says == tt.genuine {
				t.Errorf("got %q, which names SecretsFor: %t, want %t", got, says, !tt.genuine)
			}
		})
	}
}

// A failingStore cannot save.
type failingStore struct{ err error }

func (s failingStore) Save(context.Context, *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	return 0, s.err
}
func (s failingStore) Complete(context.Context, string, error) error { return s.err }

// TestAcceptedMeansSaved: a receiver that does nothing with a type accepts it
// too. So "accepted" must not say that anything was processed.
func TestAcceptedMeansSaved(t *testing.T) {
	endpoint, _ := newReceiver(t)
	got, _ := testEnvironment().run(t, "", "send", "-url", endpoint, "moderation")
	if !strings.Contains(got, "Accepted and saved.\n") || strings.Contains(got, "processed") {
		t.Errorf("got %q, want that it is saved, and nothing about processing", got)
	}
}

// TestSendUsesTheTokenOfAURL: the URL that a server has made is tested as it
// is, without the token key.
func TestSendUsesTheTokenOfAURL(t *testing.T) {
	endpoint, store := newReceiver(t)
	tests := []struct {
		name, claims string
		status       int
		says         string
	}{
		{"good", `{"album_id":"42"}`, 0, "Accepted and saved."},
		{"expired", `{"album_id":"42","exp":1}`, 1, "its token has expired"},
		{"without an album", `{"organization_id":"a"}`, 1, "refused: the receiver does not accept"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url, status := testEnvironment().run(t, "", "token", "-claims", tt.claims, "-endpoint", endpoint+"?a=1")
			if status != 0 {
				t.Fatalf("token got %d: %s", status, url)
			}
			keyless := testEnvironment()
			delete(keyless, keyVariable)
			got, status := keyless.run(t, "", "send", "-url", strings.TrimSpace(url), "upload")
			if status != tt.status || !strings.Contains(got, tt.says) {
				t.Errorf("got %d and %q, want %d and %q", status, got, tt.status, tt.says)
			}
		})
	}
	if all := store.Deliveries(); len(all) != 1 || all[0].Claims.AlbumID != "42" {
		t.Errorf("got deliveries %v, want one, for the album of the URL's token", all)
	}
}

// TestARedirectIsNamed: the output names the redirect without the token, and
// nothing in it moves the cursor.
func TestARedirectIsNamed(t *testing.T) {
	tests := []struct{ name, location, says string }{
		{"a path", "/api/hook?", `redirected to "URL/api/hook"`},
		{"another host", "https://user:password@app.example/hook?", `redirected to "https://app.example/hook"`},
		{"malformed", "https://user:password@app.example/\x1b/hook?", "does not speak HTTP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Location"] = []string{tt.location + r.URL.RawQuery}
				w.WriteHeader(http.StatusTemporaryRedirect)
			}))
			defer server.Close()
			got, status := testEnvironment().run(t, "", "send", "-url", server.URL, "upload")
			if says := strings.ReplaceAll(tt.says, "URL", server.URL); status != 1 || !strings.Contains(got, says) {
				t.Errorf("got %d and %q, want 1 and %q", status, got, says)
			}
			for _, text := range []string{"\x1b", "eyJ", "password"} {
				if strings.Contains(got, text) {
					t.Errorf("got %q, want it without %q", got, text)
				}
			}
		})
	}
}

func TestBodiesAreSentAsTheyAre(t *testing.T) {
	const odd = "{\"b\" : 1,\r\n \"a\":\"\\u00e9\xff\"}\n"
	for _, arg := range []string{"-", writeFile(t, odd)} {
		endpoint, store := newReceiver(t)
		if got, status := testEnvironment().run(t, odd, "send", "-url", endpoint, arg); status != 0 {
			t.Fatalf("%s got %d: %s", arg, status, got)
		}
		if diff := cmp.Diff(odd, string(store.Deliveries()[0].Body)); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", arg, diff)
		}
	}
}

// TestHelpListsWhatCanBeSent: -h lists the samples, and each of them can be
// sent.
func TestHelpListsWhatCanBeSent(t *testing.T) {
	help, _ := testEnvironment().run(t, "", "send", "-h")
	endpoint, store := newReceiver(t)
	types, others := samples()
	for _, name := range append(types, others...) {
		if !regexp.MustCompile(`[ :]` + name + `( \(the sample [a-z-]+\))?[,.]`).MatchString(help) {
			t.Errorf("-h does not list %s", name)
		}
	}
	if says := "upload (the sample upload-simple)"; !strings.Contains(help, says) {
		t.Errorf("-h got %s, want %q in it", help, says)
	}
	for _, name := range []string{"upload", "eager", "error", "delete", "upload-latin1", "unknown"} {
		if got, status := testEnvironment().run(t, "", "send", "-url", endpoint, name); status != 0 {
			t.Errorf("%s got %d: %s", name, status, got)
		}
	}
	if got := len(store.Deliveries()); got != 6 {
		t.Errorf("got %d deliveries, want 6", got)
	}
}

// TestAStoredDeliveryIsUnwrapped: send sends the body of a stored delivery, for
// the same album.
func TestAStoredDeliveryIsUnwrapped(t *testing.T) {
	endpoint, store := newReceiver(t)
	args := []string{"send", "-url", endpoint, "-claims", `{"album_id":18446744073709551615,"exp":4102444800}`}
	if got, status := testEnvironment().run(t, "", append(args, "upload")...); status != 0 {
		t.Fatalf("got %d: %s", status, got)
	}
	stored, err := json.Marshal(store.Deliveries()[0])
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, string(stored))
	tests := []struct {
		name       string
		args       []string
		deliveries int // afterwards
		album      string
	}{
		{"a duplicate", []string{file}, 1, "18446744073709551615"},
		{"fresh", []string{"-fresh", file}, 2, "18446744073709551615"},
		{"other claims", []string{"-claims", `{"album_id":"7"}`, file}, 3, "7"},
		{"fresh, several times", []string{"-fresh", "-n", "3", file}, 6, "18446744073709551615"},
		{"fresh, one several times", []string{"-fresh", "-same", "-n", "3", file}, 7, "18446744073709551615"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, status := testEnvironment().run(t, "", append([]string{"send", "-url", endpoint}, tt.args...)...); status != 0 {
				t.Fatalf("got %d: %s", status, got)
			}
			all := store.Deliveries()
			if len(all) != tt.deliveries {
				t.Fatalf("got %d deliveries, want %d", len(all), tt.deliveries)
			}
			last := all[len(all)-1]
			if last.Claims.AlbumID != tt.album || last.PublicID != all[0].PublicID {
				t.Errorf("got album %q and %q, want %q and %q", last.Claims.AlbumID, last.PublicID, tt.album, all[0].PublicID)
			}
		})
	}
}

func TestRenew(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"replaced", `{"a":"old", "request_id" : "old","b":[1]}`, `{"a":"old", "request_id" : ID,"b":[1]}`},
		{"escaped", `{"request\u005fid":"o\"ld"}`, `{"request\u005fid":ID}`},
		{"a number", "{\n\"request_id\":7\n}\n", "{\n\"request_id\":ID\n}\n"},
		{"empty", `{"request_id":"","a":""}`, `{"request_id":ID,"a":""}`},
		{"added", ` {"a":{"request_id":"old"}}`, ` {"request_id":ID,"a":{"request_id":"old"}}`},
		{"nothing in it", `{ }`, `{"request_id":ID }`},
		{"other bytes stay", "{\"a\":\"\xff\\u00e9\"}", "{\"request_id\":ID,\"a\":\"\xff\\u00e9\"}"},
		{"no object", `["request_id"]`, ""},
		{"cut off", `{"a":1`, ""},
		{"no JSON", `hello`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := renew([]byte(tt.body))
			if (err != nil) != (tt.want == "") {
				t.Fatalf("got %v", err)
			}
			id := regexp.MustCompile(`"[a-z0-9]{26}"`)
			if got := id.ReplaceAllString(string(got), "ID"); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
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
			got, status := testEnvironment().run(t, "", append([]string{"send", "-url", endpoint}, tt.args...)...)
			if status != 0 {
				t.Fatalf("got %d: %s", status, got)
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

// TestRetry: the pauses are Cloudinary's, and each retry is the same request.
func TestRetry(t *testing.T) {
	tests := []struct {
		name    string
		retry   bool
		answers []int
		waits   []string
		status  int
	}{
		{"accepted at once", true, []int{201}, nil, 0},
		{"accepted late", true, []int{500, 204, 200}, []string{"3ms", "6ms"}, 0},
		{"never accepted", true, []int{401, 401, 401, 401}, []string{"3ms", "6ms", "9ms"}, 1},
		{"not followed", true, []int{302, 201}, []string{"3ms"}, 0},
		{"without -retry", false, []int{500}, nil, 1},
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
				w.WriteHeader(tt.answers[min(len(seen), len(tt.answers)-1)])
				seen = append(seen, r.URL.String()+r.Header.Get(cloudinaryhook.SignatureHeader)+string(body))
			}))
			defer server.Close()
			args := []string{"send", "-url", server.URL, "-minute", "1ms", "upload"}
			if tt.retry {
				args = append([]string{"send", "-retry"}, args[1:]...)
			}
			got, status := testEnvironment().run(t, "", args...)
			if status != tt.status {
				t.Errorf("got %d and %q, want %d", status, got, tt.status)
			}
			var waits []string
			for _, match := range regexp.MustCompile(`again in (\S+)`).FindAllStringSubmatch(got, -1) {
				waits = append(waits, match[1])
			}
			if diff := cmp.Diff(tt.waits, waits); diff != "" {
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

// TestAnInterruptEndsARetry: Ctrl-C ends the pause before a retry.
func TestAnInterruptEndsARetry(t *testing.T) {
	received := make(chan struct{}, 4)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		received <- struct{}{}
	}))
	defer server.Close()
	cmd := testEnvironment().command(t.Context(), "send", "-retry", "-url", server.URL, "upload")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-received
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 1 {
		t.Errorf("got status %d (%v), want 1", got, cmd.ProcessState.Sys().(syscall.WaitStatus))
	}
}

func TestPrint(t *testing.T) {
	endpoint, store := newReceiver(t)
	got, status := testEnvironment().run(t, "", "send", "-url", endpoint, "-print", "curl", "upload")
	if status != 0 || !strings.HasPrefix(got, "curl ") || !strings.Contains(got, cloudinaryhook.SignatureHeader) {
		t.Errorf("got %d and %q, want a curl command", status, got)
	}
	if len(store.Deliveries()) != 0 {
		t.Error("it was sent, too")
	}
	if _, err := exec.LookPath("curl"); err != nil && os.Getenv("CI") == "" {
		t.Skip("curl is not installed; CI installs it")
	}
	if out, err := exec.Command("sh", "-c", got).CombinedOutput(); err != nil || len(store.Deliveries()) != 1 {
		t.Errorf("the command got %v: %s, want it accepted", err, out)
	}
}

func TestSendRefuses(t *testing.T) {
	checkRefusals(t, "send", []refusal{
		{"nothing to send", nil, 2, "give one of"},
		{"two things", []string{"upload", "error"}, 2, "give one of"},
		{"no such body", []string{"uplo\x1bad"}, 2, `"uplo\x1bad" is neither a type`},
		{"a folder", []string{os.TempDir()}, 1, "directory"},
		{"no claims", []string{"-claims", "null", "upload"}, 2, "JSON object"},
		{"claims and more", []string{"-claims", "{}{}", "upload"}, 2, "JSON object"},
		{"a URL with a token, and claims", []string{"-url", "http://127.0.0.1/?token=x", "-claims", "{}", "upload"}, 2, "-url has a token"},
		{"a URL with a token, and no token", []string{"-url", "http://127.0.0.1/?token=x", "-tokenless", "upload"}, 2, "-url has a token"},
		{"a URL that servers redirect", []string{"-url", "http://127.0.0.1//hook", "upload"}, 1, "-url: "},
		{"no URL", []string{"-url", "localhost:8080/?token=secret", "-tokenless", "upload"}, 2, "-url: not an absolute"},
		{"none", []string{"-n", "0", "upload"}, 2, "at least"},
		{"another language", []string{"-print", "wget", "upload"}, 2, "curl"},
		{"many commands", []string{"-print", "curl", "-n", "2", "upload"}, 2, "one request"},
		{"fresh, and not JSON", []string{"-fresh", "-"}, 1, "not a JSON object"},
	})
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

// TestAllSamplesCanBeSent checks every sample that the command lists.
func TestAllSamplesCanBeSent(t *testing.T) {
	types, others := samples()
	if len(types) < 20 || len(others) < 5 {
		t.Fatalf("got %d types and %d other samples, want more", len(types), len(others))
	}
	for _, name := range append(types, others...) {
		s, err := openSource(name, false, false, nil)
		if err != nil {
			t.Errorf("%s got %v", name, err)
			continue
		}
		one, err1 := s.next()
		two, err2 := s.next()
		if err1 != nil || err2 != nil || string(one) == string(two) {
			t.Errorf("%s got %v, %v, and two equal bodies: %t", name, err1, err2, string(one) == string(two))
		}
	}
}

// TestTableSortsLongTimes: nanoseconds of more than 2 s do not fit into an int of
// 32 bits.
func TestTableSortsLongTimes(t *testing.T) {
	var attempts []attempt
	for _, seconds := range []time.Duration{5, 1, 8, 3} {
		attempts = append(attempts, attempt{took: seconds * time.Second})
	}
	var out strings.Builder
	writeTable(&out, map[string][]attempt{"201": attempts})
	want := []string{"201", "4", "3s", "8s", "8s", "8s"}
	if diff := cmp.Diff(want, strings.Fields(strings.Split(out.String(), "\n")[1])); diff != "" {
		t.Errorf("the row differs (-want +got):\n%s", diff)
	}
}
