package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

const maxBody = 16 << 10

// spans records the spans of all routers' otelhttp.
var spans = tracetest.NewSpanRecorder()

func TestMain(m *testing.M) {
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	m.Run()
}

// A syncBuffer is a log that servers write to while a test reads it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newHook(t testing.TB, store cloudinaryhook.Store, timeout time.Duration) *cloudinaryhook.Handler {
	t.Helper()
	hook, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}, Require: []string{"album_id"}},
		Processor: &cloudinaryhook.Processor{Store: store, Notify: func(_ context.Context, d *cloudinaryhook.Delivery) error {
			if d.RequestID == "abort" {
				panic(http.ErrAbortHandler)
			}
			return nil
		}},
		MaxBody: maxBody,
		Timeout: timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	return hook
}

// start serves on a port of the system's choice, and returns the hook's URL.
func start(t testing.TB, s server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		http.DefaultClient.CloseIdleConnections()
		_ = s.Shutdown(ctx)
		<-done
	})
	return "http://" + l.Addr().String() + hookPath
}

// A golden request, and the answer that every router must give.
type golden struct {
	name   string
	method string // "": POST
	body   string
	opts   []cloudinaryhooktest.Option
	change func(*http.Request)
	status int
	fiber  int // fiber's status, if it differs
}

func goldenRequests(t testing.TB) []golden {
	t.Helper()
	upload, err := fs.ReadFile(cloudinaryhooktest.Bodies(), "upload-full.json")
	if err != nil {
		t.Fatal(err)
	}
	opts := func(opts ...cloudinaryhooktest.Option) []cloudinaryhooktest.Option { return opts }
	twice := func(header string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(header, r.Header.Get(header)) }
	}
	large := `{"request_id":"` + strings.Repeat("x", maxBody) + `"}`
	return []golden{
		{name: "upload", body: string(upload), status: 201},
		{name: "the same again", body: string(upload), status: 201},
		{name: "SHA-256", body: `{"request_id":"2"}`, opts: opts(cloudinaryhooktest.WithHash(crypto.SHA256)), status: 201},
		{name: "JSON's content type", body: `{"request_id":"3"}`, opts: opts(cloudinaryhooktest.WithContentType("application/json")), status: 201},
		{name: "no content type", body: `{"request_id":"4"}`, opts: opts(cloudinaryhooktest.WithHeader("Content-Type")), status: 201},
		{name: "form text in a form's content type", body: `a=b&token=c`, status: 400},
		{name: "chunked", body: `{"request_id":"5"}`, change: func(r *http.Request) { r.ContentLength = -1 }, status: 201},
		{name: "odd bytes", body: "{\"request_id\":\"6\",\r\n\t\"a\":\"\xff\\u00e9\"}\n", status: 201},
		{name: "another parameter", body: `{"request_id":"7"}`, change: func(r *http.Request) { r.URL.RawQuery += "&a=b%20c" }, status: 201},
		{name: "wrong signature", body: string(upload), opts: opts(cloudinaryhooktest.WithSecret("another")), status: 401},
		{name: "stale", body: string(upload), opts: opts(cloudinaryhooktest.WithTime(time.Now().Add(-3 * time.Hour))), status: 401},
		{name: "no signature", body: string(upload), opts: opts(cloudinaryhooktest.WithHeader(cloudinaryhook.SignatureHeader)), status: 401},
		{name: "v2 alone", body: string(upload), opts: opts(cloudinaryhooktest.WithHeader(cloudinaryhook.SignatureHeader), cloudinaryhooktest.WithHeader(cloudinaryhook.SignatureV2Header, "x")), status: 401},
		{name: "signature twice", body: `{"request_id":"8"}`, change: twice(cloudinaryhook.SignatureHeader), status: 401, fiber: 201},
		{name: "timestamp twice", body: `{"request_id":"9"}`, change: twice(cloudinaryhook.TimestampHeader), status: 401, fiber: 201},
		{name: "no token", body: string(upload), opts: opts(cloudinaryhooktest.WithoutToken()), status: 401},
		{name: "token twice", body: string(upload), change: func(r *http.Request) { r.URL.RawQuery += "&" + r.URL.RawQuery }, status: 401},
		{name: "token without an album", body: string(upload), opts: opts(cloudinaryhooktest.WithClaims(&cloudinaryhook.Claims{UserID: "u"})), status: 401},
		{name: "token in the body alone", body: "token=x", opts: opts(cloudinaryhooktest.WithoutToken()), status: 401},
		{name: "too large", body: large, status: 413},
		{name: "too large, chunked", body: large, change: func(r *http.Request) { r.ContentLength = -1 }, status: 413},
		{name: "not JSON", body: `{"a":1}{}`, status: 400},
		{name: "empty", body: ``, status: 400},
		{name: "GET", method: http.MethodGet, body: string(upload), status: 405},
		{name: "PUT", method: http.MethodPut, body: string(upload), status: 405},
	}
}

// An answer has the parts in which all routers must agree.
type answer struct {
	Status int
	Body   string
	Header map[string][]string
}

func (g *golden) send(t *testing.T, url string) answer {
	t.Helper()
	r := cloudinaryhooktest.NewRequest(t, url, []byte(g.body), g.opts...)
	if g.method != "" {
		r.Method = g.method
	}
	if g.change != nil {
		g.change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := answer{resp.StatusCode, string(body), make(map[string][]string)}
	for _, name := range []string{"Cache-Control", "X-Content-Type-Options", "X-Delivery-Id", "Allow"} {
		got.Header[name] = resp.Header.Values(name)
	}
	if len(body) > 0 {
		got.Header["Content-Type"] = resp.Header.Values("Content-Type")
	}
	return got
}

// TestRouters sends the same requests to the bare hook and to each router, over
// sockets. The answers and the stored deliveries must be the same, and no log
// and no trace may hold a token.
func TestRouters(t *testing.T) {
	requests := goldenRequests(t)
	for _, router := range routers {
		t.Run(router.name, func(t *testing.T) {
			bareStore, store, log := new(cloudinaryhooktest.MemoryStore), new(cloudinaryhooktest.MemoryStore), new(syncBuffer)
			bare := httptest.NewServer(newHook(t, bareStore, 0))
			defer bare.Close()
			url := start(t, router.new(newHook(t, store, 0), log))
			spans.Reset()
			for _, g := range requests {
				t.Run(g.name, func(t *testing.T) {
					got := g.send(t, url)
					if router.name == "fiber" && g.fiber != 0 {
						if got.Status != g.fiber {
							t.Errorf("status got %d, want %d", got.Status, g.fiber)
						}
						return
					}
					want := g.send(t, bare.URL+hookPath)
					if want.Status != g.status {
						t.Fatalf("the bare hook answered %d, want %d", want.Status, g.status)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("answer differs (-bare +router):\n%s", diff)
					}
				})
			}
			if router.name != "fiber" { // fiber has accepted more
				if diff := cmp.Diff(bodies(bareStore), bodies(store)); diff != "" {
					t.Errorf("the stored deliveries differ (-bare +router):\n%s", diff)
				}
			}
			noTokens(t, log.String(), len(requests))
			noTokensInSpans(t, router.name, len(requests))
		})
	}
}

func bodies(store *cloudinaryhooktest.MemoryStore) (all []string) {
	for _, d := range store.Deliveries() {
		all = append(all, d.ID+" "+string(d.Body))
	}
	return all
}

// noTokens also checks that the log has all requests, because an empty log
// holds no token either.
func noTokens(t *testing.T, log string, requests int) {
	t.Helper()
	if n := strings.Count(log, hookPath); n < requests {
		t.Errorf("the access log has %d lines of the hook, want %d:\n%s", n, requests, log)
	}
	if strings.Contains(log, "eyJ") {
		t.Errorf("the access log has a token:\n%s", log)
	}
}

func noTokensInSpans(t *testing.T, router string, requests int) {
	t.Helper()
	ended := spans.Ended()
	if want := requests; router != "fiber" && len(ended) != want {
		t.Errorf("got %d spans, want %d", len(ended), want)
	}
	for _, span := range ended {
		if all := fmt.Sprint(span.Name(), span.Attributes(), span.Events()); strings.Contains(all, "eyJ") {
			t.Errorf("a span has a token: %s", all)
		}
	}
}

// TestRedirects: net/http's mux and gorilla redirect a path with two slashes.
// The new Location has no token, and the logs have none.
func TestRedirects(t *testing.T) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, router := range routers {
		t.Run(router.name, func(t *testing.T) {
			log := new(syncBuffer)
			url := start(t, router.new(newHook(t, new(cloudinaryhooktest.MemoryStore), 0), log))
			url = strings.Replace(url, "/api/", "/api//", 1)
			resp, err := client.Do(cloudinaryhooktest.NewRequest(t, url, []byte(`{}`)))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			location, redirects := resp.Header.Get("Location"), resp.StatusCode/100 == 3
			if redirects != strings.HasSuffix(location, hookPath+"?token=REDACTED") || !redirects && resp.StatusCode != 404 {
				t.Errorf("got %s to %q, want 404, or a redirect with the token hidden", resp.Status, location)
			}
			if strings.Contains(log.String(), "eyJ") {
				t.Errorf("the log has a token:\n%s", log)
			}
		})
	}
}

// dropsConnection names the routers in which a panic with http.ErrAbortHandler
// reaches net/http. In the others, a recoverer answers.
var dropsConnection = map[string]bool{
	"net/http": true, "net/http with TimeoutHandler": true, "chi": true, "echo": true,
}

// TestAbort: if an app panics with http.ErrAbortHandler, the notification is
// never acknowledged, with any recoverer, and the recoverer's log has no token.
func TestAbort(t *testing.T) {
	for _, router := range routers {
		t.Run(router.name, func(t *testing.T) {
			log := new(syncBuffer)
			url := start(t, router.new(newHook(t, new(cloudinaryhooktest.MemoryStore), 0), log))
			resp, err := http.DefaultClient.Do(cloudinaryhooktest.NewRequest(t, url, []byte(`{"request_id":"abort"}`)))
			if err == nil {
				defer resp.Body.Close()
				if resp.StatusCode != 500 {
					t.Errorf("answered %d, want 500 or a closed connection", resp.StatusCode)
				}
			}
			if dropped := err != nil; dropped != dropsConnection[router.name] {
				t.Errorf("the connection was dropped: got %v, want %v", dropped, !dropped)
			}
			if strings.Contains(log.String(), "eyJ") {
				t.Errorf("the log has a token:\n%s", log)
			}
		})
	}
}

// readDeadline names the routers in which the hook can set a read deadline,
// because all ResponseWriters can be unwrapped.
var readDeadline = map[string]bool{
	"net/http": true, "chi": true, "gorilla": true, "echo": true,
	"net/http with TimeoutHandler": false, "gin": false, "fiber": false,
}

// TestSlowBody: if a body stops arriving, the client gets an answer in time.
// The hook's Timeout ends the wait if the hook can set a read deadline, and
// otherwise the server's ReadTimeout.
func TestSlowBody(t *testing.T) {
	for _, router := range routers {
		t.Run(router.name, func(t *testing.T) {
			var supported error
			hook := newHook(t, new(cloudinaryhooktest.MemoryStore), 100*time.Millisecond)
			s := router.new(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				supported = http.NewResponseController(w).SetReadDeadline(time.Time{})
				hook.ServeHTTP(w, r)
			}), io.Discard)
			switch s := s.(type) {
			case *http.Server:
				s.ReadTimeout = 300 * time.Millisecond
				if readDeadline[router.name] {
					s.ReadTimeout = 0 // only the hook's own deadline is left
				}
			case fiberServer:
				s.app.Server().ReadTimeout = 300 * time.Millisecond
			}
			// TimeoutHandler also stops when the connection ends, and may be first.
			got := slowAnswer(t, start(t, s))
			if status := got[:min(len(got), 13)]; status != "HTTP/1.1 408 " && (status != "HTTP/1.1 503 " || router.name != "net/http with TimeoutHandler") {
				t.Errorf("got %q, want 408", got)
			}
			if got := supported == nil; got != readDeadline[router.name] && router.name != "fiber" {
				t.Errorf("read deadline supported: got %v (%v), want %v", got, supported, !got)
			}
		})
	}
}

// slowAnswer sends a request without the end of its body, and returns the
// answer.
func slowAnswer(t *testing.T, url string) string {
	t.Helper()
	r := cloudinaryhooktest.NewRequest(t, url, []byte(`{"request_id":"slow"}`))
	r.Header.Set("Accept-Encoding", "gzip") // some middleware wraps the ResponseWriter only in this case
	var raw bytes.Buffer
	if err := r.Write(&raw); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(raw.Bytes()[:raw.Len()-5]); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1024)
	n, err := conn.Read(answer)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return string(answer[:n])
}

// A signalServer gets a signal as soon as it serves.
type signalServer struct {
	signal   os.Signal
	shutDown bool
}

func (s *signalServer) Serve(net.Listener) error {
	process, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = process.Signal(s.signal)
	}
	if err == nil {
		select {} // until the test binary ends
	}
	return err
}

func (s *signalServer) Shutdown(context.Context) error {
	s.shutDown = true
	return nil
}

// TestSignals: current requests are finished after Ctrl-C, and after the signal
// that Docker, Kubernetes and systemd send.
func TestSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send these signals on Windows")
	}
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			s := &signalServer{signal: signal}
			if err := serve(s, "127.0.0.1:0"); err != nil || !s.shutDown {
				t.Errorf("got %v, shut down: %v; want nil and true", err, s.shutDown)
			}
		})
	}
}

// BenchmarkRouters measures one request over a connection that is kept open.
func BenchmarkRouters(b *testing.B) {
	body := []byte(`{"request_id":"1","public_id":"beach","version":1,"notification_type":"upload"}`)
	for _, router := range routers {
		b.Run(router.name, func(b *testing.B) {
			url := start(b, router.new(newHook(b, new(cloudinaryhooktest.MemoryStore), 0), io.Discard))
			signed := cloudinaryhooktest.NewRequest(nil, url, body)
			b.ReportAllocs()
			for b.Loop() {
				signed.Body = io.NopCloser(bytes.NewReader(body))
				resp, err := http.DefaultClient.Do(signed)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					b.Fatal(resp.Status)
				}
			}
		})
	}
}

// TestUsage: the program lists its routers before it needs a secret.
func TestUsage(t *testing.T) {
	for arg, want := range map[string]error{"-h": flag.ErrHelp, "no such router": nil} {
		var stderr strings.Builder
		err := run([]string{arg}, &stderr)
		if said := fmt.Sprint(&stderr, err); err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(said, `"net/http", `) || !strings.Contains(said, `"fiber"`) {
			t.Errorf("%s got %v and %q, want all routers", arg, err, &stderr)
		}
	}
}
