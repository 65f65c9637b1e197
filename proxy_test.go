package cloudinaryhook

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook/internal/proxytest"
)

// TestBehindProxies sends the golden requests through real proxies: the answer
// and the stored bytes must be those without them.
func TestBehindProxies(t *testing.T) {
	requests, err := filepath.Glob("testdata/requests/*/request.json")
	if err != nil || len(requests) < 20 {
		t.Fatalf("got %d golden requests (%v), want 20 at least", len(requests), err)
	}
	for _, p := range proxytest.Proxies {
		t.Run(p.Name, func(t *testing.T) {
			var current atomic.Pointer[Handler]
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) }))
			defer server.Close()
			addr := p.Start(t, t.TempDir(), server.Listener.Addr().String())
			for _, path := range requests {
				t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
					var request goldenRequest
					readJSON(t, path, &request)
					body := readFile(t, filepath.Join(filepath.Dir(path), "body.json"))
					var want goldenAnswer
					readJSON(t, filepath.Join(filepath.Dir(path), "want.json"), &want)
					send := func(to string, length int64) string {
						store := &memory{}
						current.Store(request.handler(t, func(c *Config) { c.Processor.Store = store }))
						return request.sendTo(t, to, body, length, store)
					}
					without := send(server.Listener.Addr().String(), int64(len(body)))
					if status := fmt.Sprint(want.Status, " "); !strings.HasPrefix(without, status) {
						t.Errorf("%s: without a proxy got %s, want status %s", request.About, without, status)
					}
					for name, length := range map[string]int64{"declared": int64(len(body)), "chunked": -1} {
						if diff := cmp.Diff(without, send(addr, length)); diff != "" {
							t.Errorf("%s: behind %s, %s, the outcome differs (-without +behind):\n%s", request.About, p.Name, name, diff)
						}
					}
				})
			}
		})
	}
}

// sendTo sends the request over a socket and describes the outcome.
func (r *goldenRequest) sendTo(t *testing.T, addr string, body []byte, length int64, store *memory) string {
	t.Helper()
	req, err := http.NewRequest(r.Method, "http://"+addr+"/api/v1/cloudinary?"+r.Query, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = length
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
	var outcome strings.Builder
	fmt.Fprintf(&outcome, "%d %q", resp.StatusCode, text)
	for _, name := range []string{"X-Delivery-ID", "Cache-Control", "X-Content-Type-Options", "Content-Type", "Allow"} {
		fmt.Fprintf(&outcome, " %q", resp.Header.Values(name))
	}
	for _, d := range store.saved {
		fmt.Fprintf(&outcome, "%s %q\n", d.ID, d.Body)
	}
	return outcome.String()
}

// TestSmugglingBehindProxies: whatever two readers could understand in two ways
// is refused, or is one request; never two. (Without a proxy there is nobody to
// smuggle past: net/http alone takes the chunked reading of CL+TE. So does Caddy,
// which is made of net/http and left out.)
//
// Each attack carries a good request for another delivery inside it, and is
// followed on the same connection by a request of another method, which shows
// that the proxy came to the end of the attack.
func TestSmugglingBehindProxies(t *testing.T) {
	inner := head(folderStub, contentLength(len(folderStub))) + folderStub
	chunkedInner := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(untypedImage), untypedImage) + inner
	both := func(te string) string {
		return head(untypedImage, contentLength(len(chunkedInner))+te) + chunkedInner
	}
	attacks := []struct{ name, raw string }{
		{"CL+TE", both("Transfer-Encoding: chunked\r\n")},
		{"TE+CL", head(untypedImage, "Transfer-Encoding: chunked\r\n"+contentLength(4)) + chunkedInner},
		{"TE with a blank before the colon", both("Transfer-Encoding : chunked\r\n")},
		{"TE with a tab", both("Transfer-Encoding:\tchunked\r\n")},
		{"TE with a vertical tab", both("Transfer-Encoding: \vchunked\r\n")},
		{"TE in capitals", both("TRANSFER-ENCODING: CHUNKED\r\n")},
		{"TE in disguise", both("Transfer-Encoding: xchunked\r\n")},
		{"TE in quotes", both("Transfer-Encoding: \"chunked\"\r\n")},
		{"TE with an underscore", both("Transfer_Encoding: chunked\r\n")},
		{"TE twice", both("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")},
		{"TE list", both("Transfer-Encoding: identity, chunked\r\n")},
		{"TE on a folded line", both("X: y\r\n Transfer-Encoding: chunked\r\n")},
		{"TE after a bare LF", both("X: y\nTransfer-Encoding: chunked\r\n")},
		{"TE after a bare CR", both("X: y\rTransfer-Encoding: chunked\r\n")},
		{"TE in HTTP/1.0", strings.Replace(both("Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n"), "HTTP/1.1", "HTTP/1.0", 1)},
		{"TE named by Connection", both("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n")},
		{"CL named by Connection", head(untypedImage, "Connection: Content-Length\r\n"+contentLength(len(untypedImage)+len(inner))) + untypedImage + inner},
		{"CL twice", head(untypedImage, contentLength(len(untypedImage))+contentLength(len(untypedImage)+len(inner))) + untypedImage + inner},
		{"CL with a plus", head(untypedImage, fmt.Sprintf("Content-Length: +%d\r\n", len(untypedImage)+len(inner))) + untypedImage + inner},
		{"CL in hexadecimal", head(untypedImage, fmt.Sprintf("Content-Length: 0x%x\r\n", len(untypedImage)+len(inner))) + untypedImage + inner},
		{"CL list", head(untypedImage, fmt.Sprintf("Content-Length: %d, %d\r\n", len(untypedImage), len(untypedImage)+len(inner))) + untypedImage + inner},
		{"bare LF in the head", strings.ReplaceAll(head(untypedImage, contentLength(len(untypedImage)+len(inner))), "\r\n", "\n") + untypedImage + inner},
		{"chunk extension with LF", head(untypedImage, "Transfer-Encoding: chunked\r\n") + fmt.Sprintf("%x;\n%s\r\n0\r\n\r\n", len(untypedImage), untypedImage)},
		{"chunk size beyond 64 bits", head(untypedImage, "Transfer-Encoding: chunked\r\n") + fmt.Sprintf("1%016x\r\n%s\r\n0\r\n\r\n", len(untypedImage), untypedImage) + inner},
		{"chunk size with a sign", head(untypedImage, "Transfer-Encoding: chunked\r\n") + fmt.Sprintf("+%x\r\n%s\r\n0\r\n\r\n", len(untypedImage), untypedImage) + "0"},
		{"GET with a body", strings.Replace(head(untypedImage, contentLength(len(inner))), "POST", "GET", 1) + inner},
	}
	for _, p := range proxytest.Proxies {
		if p.Name == "caddy" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			var posts, others atomic.Int64
			s := newSocketServer(t, nil, func(server *http.Server) {
				handler := server.Handler
				server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						posts.Add(1)
					} else {
						others.Add(1)
					}
					handler.ServeHTTP(w, r)
				})
			})
			addr := p.Start(t, t.TempDir(), s.Listener.Addr().String())
			exchange(t, addr, head(untypedImage, contentLength(len(untypedImage)))+untypedImage)
			if posts.Load() != 1 || others.Load() != 1 || len(s.store.saved) != 1 {
				t.Fatalf("behind %s a good request and the one that follows gave %d POSTs, %d others and %d deliveries, want 1 of each",
					p.Name, posts.Load(), others.Load(), len(s.store.saved))
			}
			for _, tt := range attacks {
				t.Run(tt.name, func(t *testing.T) {
					posts.Store(0)
					statuses := exchange(t, addr, tt.raw)
					if posts.Load() > 1 || len(s.store.saved) > 1 {
						t.Errorf("%d requests reached the handler and %d deliveries are saved (answers %v), want one at most",
							posts.Load(), len(s.store.saved), statuses)
					}
				})
			}
		})
	}
}

// exchange writes raw bytes and one more request, the last of the connection,
// and reads all answers. It waits a moment only where a proxy waits for more.
func exchange(t *testing.T, addr, raw string) []int {
	t.Helper()
	conn := dial(t, addr)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.WriteString(conn, raw+"PUT /hook HTTP/1.1\r\nHost: hooks.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	return readStatuses(t, conn)
}
