package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
	"github.com/cloudinaryhook/cloudinaryhook/poll"
)

// A listener is the running program.
type listener struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *bufio.Reader // both streams
	read strings.Builder
}

func (e environment) listen(t *testing.T, args ...string) *listener {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{t: t, cmd: e.command(t.Context(), append([]string{"listen"}, args...)...), out: bufio.NewReader(reader)}
	l.cmd.Stdout, l.cmd.Stderr = writer, writer
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	t.Cleanup(func() {
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
		_ = reader.Close()
	})
	return l
}

// until reads lines until one matches, and returns the groups of the match.
func (l *listener) until(pattern string) []string {
	l.t.Helper()
	want := regexp.MustCompile(pattern)
	for {
		line, err := l.out.ReadString('\n')
		l.read.WriteString(line)
		if match := want.FindStringSubmatch(line); match != nil {
			return match
		}
		if err != nil {
			l.t.Fatalf("no line matches %s (%v):\n%s", pattern, err, &l.read)
		}
	}
}

// interrupt sends Ctrl-C. It returns the rest of the output and the exit
// status.
func (l *listener) interrupt() (output string, status int) {
	l.t.Helper()
	if err := l.cmd.Process.Signal(os.Interrupt); err != nil {
		l.t.Fatal(err)
	}
	_, _ = io.Copy(&l.read, l.out)
	_ = l.cmd.Wait()
	for _, secret := range []string{"eyJ", testSecret, testKey} {
		if strings.Contains(l.read.String(), secret) {
			l.t.Errorf("the output holds %q:\n%s", secret, &l.read)
		}
	}
	return l.read.String(), l.cmd.ProcessState.ExitCode()
}

func pollEnvironment() environment {
	e := testEnvironment()
	e[cloudVariable], e[apiKeyVariable] = cloudinaryhooktest.DefaultCloudName, cloudinaryhooktest.DefaultAPIKey
	return e
}

// TestListenUsesTheTokenOfAURL, and needs neither -claims nor the token key.
func TestListenUsesTheTokenOfAURL(t *testing.T) {
	endpoint, store := newReceiver(t)
	api := cloudinaryhooktest.NewPollServer(t)
	api.Send("dev", "", []byte(oddBody))
	url, _ := testEnvironment().run(t, "", "token", "-claims", `{"album_id":"42"}`, "-endpoint", endpoint)
	keyless := pollEnvironment()
	delete(keyless, keyVariable)
	l := keyless.listen(t, "-api", api.URL, "-channel", "dev", "-forward-to", strings.TrimSpace(url))
	l.until(`  201  `)
	if got, status := l.interrupt(); status != 0 || strings.Contains(got, "eyJ") {
		t.Errorf("got %d and %s, want 0 and no token", status, got)
	}
	if got := store.Deliveries()[0].Claims.AlbumID; got != "42" {
		t.Errorf("album got %q, want that of the URL's token", got)
	}
}

const oddBody = "{\"notification_type\" : \"upload\",\r\n\"public_id\":\"caf\xe9\\u001b[2J\",\"format\":\"jpg\",\"version\":1}\n"

// TestListenForwards: listen posts a channel's notifications byte for byte,
// with a token, and acknowledges them.
func TestListenForwards(t *testing.T) {
	endpoint, store := newReceiver(t)
	api := cloudinaryhooktest.NewPollServer(t)
	api.Send("dev", "", []byte(oddBody))
	api.Send("other", "", []byte(`{"request_id":"of another channel"}`))
	api.Send("", "batch", []byte(`{"request_id":"of a batch"}`))
	folder := filepath.Join(t.TempDir(), "recordings")
	l := pollEnvironment().listen(t, "-api", api.URL, "-channel", "dev", "-forward-to", endpoint, "-claims", `{"album_id":18446744073709551615}`, "-record", folder)
	l.until(`^\d\d:\d\d:\d\d  upload  "caf\x{FFFD}\\x1b\[2J"  201  \d`)
	got, status := l.interrupt()
	if status != 0 {
		t.Errorf("Ctrl-C got %d, want 0:\n%s", status, got)
	}
	if got := api.Acknowledged(); got != 1 {
		t.Errorf("acknowledged got %d, want 1", got)
	}
	if diff := cmp.Diff(oddBody, string(store.Deliveries()[0].Body)); diff != "" {
		t.Errorf("the body differs (-want +got):\n%s", diff)
	}
	if got := store.Deliveries()[0].Claims.AlbumID; got != "18446744073709551615" {
		t.Errorf("album got %q, want that of -claims", got)
	}
	recordings, _ := filepath.Glob(filepath.Join(folder, "*.http"))
	if len(recordings) != 1 {
		t.Fatalf("got recordings %v, want one", recordings)
	}
	if info, err := os.Stat(recordings[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the recording got %v and %v, want that only its owner reads it", info.Mode(), err)
	}
	if got, status := testEnvironment().run(t, "", "explain", "-request", recordings[0], "-require", "album_id"); status != 0 {
		t.Errorf("the recording got %d: %s, want it accepted", status, got)
	}
	if got, status := testEnvironment().run(t, "", "send", "-url", endpoint, recordings[0]); status != 0 || string(store.Deliveries()[1].Body) != oddBody {
		t.Errorf("the recording, sent, got %d: %s, want its body to arrive", status, got)
	}
}

// TestListenAcknowledges: listen acknowledges only notifications that the app
// answered with 2xx.
func TestListenAcknowledges(t *testing.T) {
	tests := []struct {
		name   string
		status int
		shows  string
		acked  int
	}{
		{"201", 201, `  201  `, 1},
		{"204", 204, `  204  `, 1},
		{"redirected", 302, `  302, left  `, 0},
		{"refused", 401, `  401, left \(the signature is right for this environment\)  `, 0},
		{"failed", 500, `  500, left  `, 0},
		{"hung up", 0, `  no answer \(EOF\), left  `, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tt.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(tt.status)
			}))
			defer app.Close()
			api := cloudinaryhooktest.NewPollServer(t)
			api.Send("", "batch", []byte(`{"notification_type":"delete"}`))
			l := pollEnvironment().listen(t, "-api", api.URL, "-batch", "batch", "-forward-to", app.URL, "-tokenless")
			l.until(`delete  ""` + tt.shows)
			if got, status := l.interrupt(); status != 0 {
				t.Errorf("Ctrl-C got %d, want 0:\n%s", status, got)
			}
			if got := api.Acknowledged(); got != tt.acked {
				t.Errorf("acknowledged got %d, want %d", got, tt.acked)
			}
		})
	}
}

// TestListenFinishesWhatItHasInHand: after Ctrl-C, listen still waits for the
// app's answers.
func TestListenFinishesWhatItHasInHand(t *testing.T) {
	received, interrupted := make(chan struct{}), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(received)
		<-interrupted
		w.WriteHeader(http.StatusCreated)
	}))
	defer app.Close()
	api := cloudinaryhooktest.NewPollServer(t)
	api.Send("dev", "", []byte(`{"notification_type":"delete"}`))
	l := pollEnvironment().listen(t, "-api", api.URL, "-channel", "dev", "-forward-to", app.URL, "-tokenless")
	<-received
	if err := l.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	l.until(`^interrupted`) // the signal has arrived
	close(interrupted)
	_, _ = io.Copy(&l.read, l.out)
	_ = l.cmd.Wait()
	if got := l.cmd.ProcessState.ExitCode(); got != 0 || api.Acknowledged() != 1 {
		t.Errorf("got %d and %d acknowledged, want 0 and 1:\n%s", got, api.Acknowledged(), &l.read)
	}
}

// TestListenComesBack: listen posts a notification again if the app did not
// accept it.
func TestListenComesBack(t *testing.T) {
	answers := make(chan int, 2)
	answers <- 500
	answers <- 201
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(<-answers) }))
	defer app.Close()
	api := cloudinaryhooktest.NewPollServer(t)
	api.FailReceive(cloudinaryhooktest.FaultStatus(503, ""), cloudinaryhooktest.FaultHTML)
	api.Send("dev", "", []byte(`{"notification_type":"delete"}`))
	l := pollEnvironment().listen(t, "-api", api.URL, "-channel", "dev", "-forward-to", app.URL, "-tokenless")
	l.until(`  500, left  `)
	api.Redeliver()
	l.until(`  201  `)
	if got, status := l.interrupt(); status != 0 || api.Remaining() != 0 {
		t.Errorf("got %d and %d messages left, want 0 and 0:\n%s", status, api.Remaining(), got)
	}
}

// TestListenSaysWhyItIsRefused: if the app answers 401, listen names the cause.
func TestListenSaysWhyItIsRefused(t *testing.T) {
	endpoint, _ := newReceiver(t)
	api := cloudinaryhooktest.NewPollServer(t)
	api.Send("dev", "", []byte(`{"notification_type":"delete"}`), cloudinaryhooktest.WithTimestamp("1507784418"))
	l := pollEnvironment().listen(t, "-api", api.URL, "-channel", "dev", "-forward-to", endpoint, "-claims", `{"album_id":"7"}`)
	l.until(`  401, left \(stale\)  `)
	_, _ = l.interrupt()
}

// TestListenShows: -print shows notifications and acknowledges none.
func TestListenShows(t *testing.T) {
	api := cloudinaryhooktest.NewPollServer(t)
	api.Send("dev", "", []byte(oddBody))
	l := pollEnvironment().listen(t, "-api", api.URL, "-channel", "dev", "-print")
	l.until(`upload  .*  left  `)
	l.until(`"format": "jpg"`)
	api.Send("dev", "", []byte(`{"params":{"notification_url":"https://app.example/hook?token=eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl&a=1"}}`))
	l.until(`hook\?token=TOKEN&a=1"`)
	api.Send("dev", "", []byte(`hello`))
	api.Redeliver()
	l.until(`-  no JSON object  left  `)
	got, status := l.interrupt()
	if status != 0 || api.Acknowledged() != 0 {
		t.Errorf("got %d and %d acknowledged, want 0 and none", status, api.Acknowledged())
	}
	if n := strings.Count(got, "upload  "); n != 1 {
		t.Errorf("got %d lines about one message, want one:\n%s", n, got)
	}
	if strings.ContainsAny(got, "\x1b\u009b") {
		t.Errorf("got %q, want nothing that moves the cursor", got)
	}
}

// roundTripper answers without a network, so that a test's clock can be synctest's.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestListenOutlastsASlowAcknowledgement: listen ends only if a retry of the
// acknowledgement cannot help.
func TestListenOutlastsASlowAcknowledgement(t *testing.T) {
	tests := []struct {
		name   string
		status int // 0: no answer in time
		want   error
	}{
		{"slow", 0, nil},
		{"unavailable", http.StatusBadGateway, nil},
		{"without results", http.StatusOK, nil},
		{"unauthorized", http.StatusUnauthorized, poll.ErrUnauthorized},
		{"not found", http.StatusNotFound, poll.ErrNotFound},
		{"refused", http.StatusBadRequest, poll.ErrRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := func(status int) (*http.Response, error) {
					return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("{}"))}, nil
				}
				api := roundTripper(func(r *http.Request) (*http.Response, error) {
					if tt.status == 0 {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}
					return answer(tt.status)
				})
				app := roundTripper(func(*http.Request) (*http.Response, error) { return answer(http.StatusCreated) })
				var out strings.Builder
				p := &poller{
					listenCommand: &listenCommand{process: &process{stdout: &out}, forwardTo: "http://app.example/hook"},
					client:        &poll.Client{CloudName: "demo", APIKey: "key", APISecret: "secret", Channel: "dev", HTTPClient: &http.Client{Transport: api}},
					http:          &http.Client{Transport: app},
				}
				_, err := p.handleAll(t.Context(), []poll.Message{{ReceiptHandle: "1", Body: []byte(`{}`)}})
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if says := strings.Contains(out.String(), "Not acknowledged"); says != (tt.want == nil) {
					t.Errorf("got %s, want that it says what comes again", &out)
				}
			})
		})
	}
}

// TestListenShowsWhatItCouldNotRecord: a notification that could not be
// recorded is shown when it comes again, and after that no more.
func TestListenShowsWhatItCouldNotRecord(t *testing.T) {
	var out strings.Builder
	folder := filepath.Join(t.TempDir(), "recordings")
	p := &poller{
		listenCommand: &listenCommand{process: &process{stdout: &out}, folder: folder},
		client:        &poll.Client{CloudName: "demo", APIKey: "key", APISecret: "secret", Channel: "dev"},
	}
	for i, want := range []string{"Not recorded, and left", "  left  ", ""} {
		out.Reset()
		if _, err := p.handleAll(t.Context(), []poll.Message{{ReceiptHandle: fmt.Sprint(i), Body: []byte(`{}`), Signature: "same"}}); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("time %d got %q, want %q", i+1, got, want)
		}
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// TestListenShowsTheStatusItAnswers, even if it could not record the request.
func TestListenShowsTheStatusItAnswers(t *testing.T) {
	var out strings.Builder
	c := &listenCommand{process: &process{stdout: &out}, folder: filepath.Join(t.TempDir(), "missing")}
	w := httptest.NewRecorder()
	c.serve(w, cloudinaryhooktest.NewRequest(t, "/hook", []byte(oddBody)))
	if got := out.String(); w.Code != http.StatusInternalServerError || !strings.Contains(got, "  500  ") || !strings.Contains(got, "Not recorded") {
		t.Errorf("answered %d and got %s, want 500 in both, and why", w.Code, got)
	}
}

// TestListenRefusesWhatHasNoToken, also if no key is set here: no receiver
// that wants a token accepts the request.
func TestListenRefusesWhatHasNoToken(t *testing.T) {
	for _, tokenless := range []bool{false, true} {
		want := http.StatusUnauthorized
		if tokenless {
			want = http.StatusCreated
		}
		var out strings.Builder
		c := &listenCommand{process: &process{stdout: &out}}
		c.x = examination{tokenless: tokenless, secrets: []secrets.Value{{From: secretVariable, Value: testSecret}}}
		w := httptest.NewRecorder()
		c.serve(w, cloudinaryhooktest.NewRequest(t, "/hook", []byte(oddBody), cloudinaryhooktest.WithoutToken()))
		if w.Code != want {
			t.Errorf("tokenless: %t got %d and %s, want %d", tokenless, w.Code, &out, want)
		}
	}
}

// TestLineHidesTokens: the public ID is outside text too.
func TestLineHidesTokens(t *testing.T) {
	got := line(time.Now(), []byte(`{"notification_type":"upload","public_id":"eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl"}`), "201", 0)
	if strings.Contains(got, "eyJ") || !strings.Contains(got, `upload  "TOKEN"  201`) {
		t.Errorf("got %s, want the token hidden", got)
	}
}

// TestListenReceives: with -addr, listen receives, explains and records.
func TestListenReceives(t *testing.T) {
	folder := t.TempDir()
	l := testEnvironment().listen(t, "-addr", "127.0.0.1:0", "-record", folder, "-require", "album_id")
	address := l.until(`receiving at (http://\S+) `)[1]
	post := func(r *http.Request) int {
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	tests := []struct {
		name    string
		request *http.Request
		status  int
		shows   []string
		explain string // the cause that explain finds in the recording; "": it accepts the request
	}{
		{"genuine", cloudinaryhooktest.NewRequest(t, address+"/hook", []byte(oddBody)), 201, []string{`upload  .*  201  `}, ""},
		{"another secret", cloudinaryhooktest.NewRequest(t, address+"/hook", []byte(oddBody), cloudinaryhooktest.WithSecret(testSecret+"\n")),
			401, []string{`upload  .*  401  `, `^1\. secret-newline: `}, "1. secret-newline: "},
		{"no album", cloudinaryhooktest.NewRequest(t, address+"/hook", []byte(oddBody), cloudinaryhooktest.WithClaims(&cloudinaryhook.Claims{UserID: "7"})),
			401, []string{`upload  .*  401  `, `^1\. token-claims: `}, "1. token-claims: "},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := post(tt.request); got != tt.status {
				t.Errorf("got %d, want %d", got, tt.status)
			}
			for _, line := range tt.shows {
				l.until(line)
			}
			recordings, _ := filepath.Glob(filepath.Join(folder, fmt.Sprintf("*-%04d.http", i+1)))
			if len(recordings) != 1 {
				t.Fatalf("got recordings %v, want one", recordings)
			}
			got, status := testEnvironment().run(t, "", "explain", "-request", recordings[0], "-require", "album_id")
			if !strings.Contains(got, tt.explain) || (status == 0) != (tt.explain == "") {
				t.Errorf("explain got %d: %s, want %q", status, got, tt.explain)
			}
			content, err := os.ReadFile(recordings[0])
			if err != nil || !bytes.HasSuffix(content, []byte("\r\n\r\n"+oddBody)) {
				t.Errorf("the recording got %v and %q, want the body at its end", err, content)
			}
		})
	}
	resp, err := http.Get(address)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET got %v and %v, want 405", resp.Status, err)
	}
	resp.Body.Close()
	if got, status := l.interrupt(); status != 0 {
		t.Errorf("Ctrl-C got %d, want 0:\n%s", status, got)
	}
}

// TestListenWarns: listen warns about settings with which a receiver would not
// start.
func TestListenWarns(t *testing.T) {
	tests := []struct{ name, variable, value, want string }{
		{"nothing odd", secretVariable, testSecret, ""},
		{"no secret", secretVariable, "", "secret-missing: "},
		{"a secret with a newline", secretVariable, testSecret + "\n", "secret-odd: "},
		{"no key", keyVariable, "", "key-missing: "},
		{"a short key", keyVariable, "short", "key-short: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := testEnvironment()
			env[tt.variable] = tt.value
			l := env.listen(t, "-addr", "127.0.0.1:0")
			if tt.want != "" {
				l.until("^warning: " + tt.want)
			}
			l.until("^receiving at ")
			got, status := l.interrupt()
			if n := strings.Count(got, "warning: "); status != 0 || n > 1 || tt.want == "" && n > 0 {
				t.Errorf("got %d and %d warnings:\n%s", status, n, got)
			}
		})
	}
}

// TestEachTokenHasItsOwnTime: each token gets an expiry of its own, so a later
// token is valid for longer.
func TestEachTokenHasItsOwnTime(t *testing.T) {
	c := &listenCommand{forwardTo: "http://127.0.0.1:1"}
	p := &poller{listenCommand: c, key: []byte(testKey), tokenClaims: claimSet{members: map[string]json.RawMessage{"album_id": []byte("7")}}}
	if _, err := p.notification(new(poll.Message)); err != nil {
		t.Fatal(err)
	}
	if got := len(p.tokenClaims.members); got != 1 {
		t.Errorf("got %d claims for the next token, want 1", got)
	}
}

// TestRecording: reading a recording gives the request and the time that were
// written.
func TestRecording(t *testing.T) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	request := cloudinaryhooktest.NewRequest(t, "https://app.example/hook?a=%20b", nil)
	request.Header.Set("Content-Length", "7")
	request.Header.Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
	var file bytes.Buffer
	if err := (&recording{request, []byte(oddBody), at}).write(&file); err != nil {
		t.Fatal(err)
	}
	got, err := readRecording(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !got.at.Equal(at) || string(got.body) != oddBody || got.Host != "app.example" || got.URL.RequestURI() != request.URL.RequestURI() {
		t.Errorf("got %v, %q, %s and %s", got.at, got.body, got.Host, got.URL)
	}
	for _, name := range []string{cloudinaryhook.SignatureHeader, cloudinaryhook.TimestampHeader, "Content-Type"} {
		if got, want := got.Header.Get(name), request.Header.Get(name); got != want {
			t.Errorf("%s got %q, want %q", name, got, want)
		}
	}
}

func TestListenRefuses(t *testing.T) {
	api := cloudinaryhooktest.NewPollServer(t)
	nowhere := "http://127.0.0.1:1"
	checkRefusals(t, "listen", []refusal{
		{"nothing", nil, 2, "exactly one of"},
		{"two ways", []string{"-channel", "dev", "-addr", "127.0.0.1:0"}, 2, "exactly one of"},
		{"nowhere to go", []string{"-channel", "dev"}, 2, "give -forward-to"},
		{"neither claims nor tokenless", []string{"-channel", "dev", "-forward-to", nowhere}, 2, "-claims"},
		{"forwarding what is received", []string{"-addr", "127.0.0.1:0", "-forward-to", nowhere}, 2, "not for -addr"},
		{"no URL", []string{"-channel", "dev", "-forward-to", "localhost:8080", "-tokenless"}, 2, "-forward-to: not an absolute"},
		{"a URL with a token", []string{"-channel", "dev", "-forward-to", nowhere + "/?token=x", "-claims", "{}"}, 2, "-forward-to has a token"},
		{"a URL that servers redirect", []string{"-channel", "dev", "-forward-to", nowhere + "//hook", "-claims", "{}"}, 1, "-forward-to: "},
		{"no timeout", []string{"-channel", "dev", "-print", "-timeout", "0"}, 2, "-timeout"},
		{"an address in use", []string{"-addr", strings.TrimPrefix(api.URL, "http://")}, 1, "address already in use"},
	})
	tests := []struct {
		name     string
		variable string // the one that is changed
		value    string
		status   int
		says     string
	}{
		{"no cloud", cloudVariable, "", 2, cloudVariable},
		{"no secret", secretVariable, "", 2, secretVariable},
		{"no key", keyVariable, "", 2, keyVariable},
		{"another API key", apiKeyVariable, "another", 1, "refuses the credentials"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := pollEnvironment()
			env[tt.variable] = tt.value
			got, status := env.run(t, "", "listen", "-api", api.URL, "-channel", "dev", "-forward-to", nowhere, "-claims", "{}")
			if status != tt.status || !strings.Contains(got, tt.says) {
				t.Errorf("got %d and %q, want %d and %q", status, got, tt.status, tt.says)
			}
		})
	}
}
