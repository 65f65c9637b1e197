package cloudinaryhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A proxy is a real program between the sender and the handler.
type proxy struct {
	name    string
	command func(config string) *exec.Cmd
	config  string // with %[1]s for the folder, %[2]s for its address, %[3]s for the handler's
}

var proxies = []proxy{
	{"nginx", func(config string) *exec.Cmd { return exec.Command("nginx", "-c", config) }, `
daemon off; master_process off; pid %[1]s/nginx.pid; error_log stderr warn;
events {}
http {
	access_log off; client_max_body_size 8m;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server { listen %[2]s; location / { proxy_pass http://%[3]s; proxy_http_version 1.1; proxy_set_header Connection ""; } }
}`},
	{"haproxy", func(config string) *exec.Cmd { return exec.Command("haproxy", "-db", "-f", config) }, `
defaults
	mode http
	timeout connect 5s
	timeout client 10s
	timeout server 20s
frontend in
	bind %[2]s
	default_backend hook
backend hook
	server one %[3]s
`},
}

// startProxy starts the program in front of a handler's address, and returns
// its own. CI installs it; elsewhere its test is skipped.
func startProxy(t *testing.T, p proxy, upstream string) string {
	t.Helper()
	dir := t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close() // for the proxy to take
	config := filepath.Join(dir, "proxy.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, p.config, dir, addr, upstream), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := p.command(config)
	if cmd.Err != nil && os.Getenv("CI") == "" {
		t.Skipf("%s is not installed; CI installs it", p.name)
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return addr
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("%s ended with %v:\n%s", p.name, err, log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestBehindProxies sends the golden requests through real proxies: the answer
// and the stored bytes must be those without them.
func TestBehindProxies(t *testing.T) {
	requests, err := filepath.Glob("testdata/requests/*/request.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			var current atomic.Pointer[Handler]
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) }))
			defer server.Close()
			addr := startProxy(t, p, server.Listener.Addr().String())
			for _, path := range requests {
				t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
					var request goldenRequest
					readJSON(t, path, &request)
					body := readFile(t, filepath.Join(filepath.Dir(path), "body.json"))
					var got [2]string
					for i, to := range []string{server.Listener.Addr().String(), addr} {
						store := &memory{}
						current.Store(request.handler(t, store))
						got[i] = request.sendTo(t, to, body, store)
					}
					if diff := cmp.Diff(got[0], got[1]); diff != "" {
						t.Errorf("%s: behind %s the outcome differs (-without +behind):\n%s", request.About, p.name, diff)
					}
				})
			}
		})
	}
}

func (r *goldenRequest) handler(t *testing.T, store Store) *Handler {
	t.Helper()
	now := at(r.Clock)
	h, err := NewHandler(Config{
		Signature: &SignatureVerifier{Secrets: []string{r.Secret}, Now: now},
		Token:     &TokenVerifier{Keys: [][]byte{[]byte(r.Key)}, Now: now},
		Processor: &Processor{Store: store, Images: ImageCreatorFunc(func(context.Context, *Image) error { return nil })},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// sendTo sends the request over a socket and describes the outcome.
func (r *goldenRequest) sendTo(t *testing.T, addr string, body []byte, store *memory) string {
	t.Helper()
	req, err := http.NewRequest(r.Method, "http://"+addr+"/api/v1/cloudinary?"+r.Query, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	outcome := fmt.Sprintf("%d %q %s %s\n", resp.StatusCode, text, resp.Header.Get("X-Delivery-ID"), resp.Header.Get("Cache-Control"))
	for _, d := range store.saved {
		outcome += fmt.Sprintf("%s %q\n", d.ID, d.Body)
	}
	return outcome
}

// TestSmugglingBehindProxies: whatever two readers could understand in two ways
// is refused, or is one request; never two. (Without a proxy there is nobody to
// smuggle past: net/http alone takes the chunked reading of CL+TE.)
func TestSmugglingBehindProxies(t *testing.T) {
	inner := head(folderStub, contentLength(len(folderStub))) + folderStub
	chunkedInner := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(untypedImage), untypedImage) + inner
	attacks := map[string]string{
		"CL+TE":                    head(untypedImage, contentLength(len(chunkedInner))+"Transfer-Encoding: chunked\r\n") + chunkedInner,
		"TE+CL":                    head(untypedImage, "Transfer-Encoding: chunked\r\n"+contentLength(4)) + chunkedInner,
		"TE with a blank before":   head(untypedImage, contentLength(len(chunkedInner))+"Transfer-Encoding : chunked\r\n") + chunkedInner,
		"TE with a tab":            head(untypedImage, contentLength(len(chunkedInner))+"Transfer-Encoding:\tchunked\r\n") + chunkedInner,
		"TE in disguise":           head(untypedImage, contentLength(len(chunkedInner))+"Transfer-Encoding: xchunked\r\n") + chunkedInner,
		"TE twice":                 head(untypedImage, contentLength(len(chunkedInner))+"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") + chunkedInner,
		"TE on a folded line":      head(untypedImage, contentLength(len(chunkedInner))+"X: y\r\n Transfer-Encoding: chunked\r\n") + chunkedInner,
		"CL twice":                 head(untypedImage, contentLength(len(untypedImage))+contentLength(len(untypedImage)+len(inner))) + untypedImage + inner,
		"CL with a plus":           head(untypedImage, fmt.Sprintf("Content-Length: +%d\r\n", len(untypedImage)+len(inner))) + untypedImage + inner,
		"CL list":                  head(untypedImage, fmt.Sprintf("Content-Length: %d, %d\r\n", len(untypedImage), len(untypedImage)+len(inner))) + untypedImage + inner,
		"bare LF in the head":      strings.ReplaceAll(head(untypedImage, contentLength(len(untypedImage)+len(inner))), "\r\n", "\n") + untypedImage + inner,
		"chunk extension with LF":  head(untypedImage, "Transfer-Encoding: chunked\r\n") + fmt.Sprintf("%x;\n%s\r\n0\r\n\r\n", len(untypedImage), untypedImage),
		"a body with GET's length": strings.Replace(head(untypedImage, contentLength(len(inner))), "POST", "GET", 1) + inner,
	}
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			for name, raw := range attacks {
				t.Run(name, func(t *testing.T) {
					s := newSocketServer(t, nil)
					addr := startProxy(t, p, s.Listener.Addr().String())
					conn, err := net.Dial("tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
					_, _ = io.WriteString(conn, raw)
					_ = conn.(*net.TCPConn).CloseWrite()
					statuses := readStatuses(t, conn)
					s.Close() // waits for what reached the handler
					if n := len(s.outcomes); n > 1 {
						t.Errorf("%d requests reached the handler (answers %v), want one at most", n, statuses)
					}
				})
			}
		})
	}
}
