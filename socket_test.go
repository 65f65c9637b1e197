package cloudinaryhook

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// send is exchange for one request.
func (s *socketServer) send(t *testing.T, raw string) int {
	t.Helper()
	all := s.exchange(t, raw)
	if len(all) != 1 {
		t.Fatalf("answers got %v, want one", all)
	}
	return all[0]
}

// withTarget is a good request to this target, with these header lines before
// the framing.
func withTarget(target, lines string) string {
	raw := head(untypedImage, lines+contentLength(len(untypedImage))+"Connection: close\r\n") + untypedImage
	return strings.Replace(raw, "/hook?token="+testToken(), target, 1)
}

// TestTokensOverASocket sends every hostile token in a real URL.
func TestTokensOverASocket(t *testing.T) {
	for _, tt := range tokenRows(t) {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.want) > 0 && errors.Is(tt.want[0], ErrNoSecrets) {
				c := testConfig()
				c.Token = &tt.v
				if _, err := NewHandler(c); !errors.Is(err, ErrNoSecrets) {
					t.Errorf("NewHandler got %v, want %v", err, ErrNoSecrets)
				}
				return
			}
			s := newSocketServer(t, func(c *Config) { c.Token = &tt.v })
			got := s.send(t, withTarget("/hook?token="+url.QueryEscape(tt.token), ""))
			if accepted := len(tt.want) == 0; accepted != (got == 201) || !accepted && got != 401 && got != 431 || len(s.store.saved) == 1 != accepted {
				t.Errorf("status got %d and %d deliveries saved, want accepted: %v", got, len(s.store.saved), accepted)
			}
			if got == 431 && len(tt.token) < http.DefaultMaxHeaderBytes {
				t.Errorf("net/http refused a token of %d bytes, want it to reach the handler", len(tt.token))
			}
		})
	}
}

// TestTokenInTheURL: where a token counts and where it does not. However the
// URL spells an accepted one, the delivery's ID is the same.
func TestTokenInTheURL(t *testing.T) {
	good := testToken()
	escaped := func(prefix string) string {
		var all strings.Builder
		for i := range len(good) {
			fmt.Fprintf(&all, "%s%02X", prefix, good[i])
		}
		return all.String()
	}
	bearer := "Authorization: Bearer " + good + "\r\n"
	tests := []struct {
		name, target, lines string
		status              int
	}{
		{"as it is", "/hook?token=" + good, "", 201},
		{"among others", "/hook?a=b&token=" + good + "&c=d", "", 201},
		{"absolute target", "http://hooks.example/hook?token=" + good, "", 201},
		{"every byte escaped", "/hook?token=" + escaped("%"), "", 201},
		{"in lower case escapes", "/hook?token=" + strings.ToLower(escaped("%")), "", 201},
		{"name escaped", "/hook?%74oken=" + good, "", 201},
		{"another name in another case", "/hook?TOKEN=x&token=" + good, "", 201},
		{"beside a pair that is malformed", "/hook?token=" + good + "&x=%zz", "", 201},
		{"beside a bearer", "/hook?token=" + good, "Authorization: Bearer x\r\n", 201},

		{"every byte escaped twice", "/hook?token=" + escaped("%25"), "", 401},
		{"dots escaped twice", "/hook?token=" + strings.ReplaceAll(good, ".", "%252E"), "", 401},
		{"line feed escaped", "/hook?token=" + good + "%0A", "", 401},
		{"carriage return escaped", "/hook?token=" + good + "%0D", "", 401},
		{"line break escaped in the middle", "/hook?token=" + good[:9] + "%0D%0A" + good[9:], "", 401},
		{"NUL escaped", "/hook?token=" + good + "%00", "", 401},
		{"plus", "/hook?token=" + good + "+", "", 401},
		{"blank escaped", "/hook?token=%20" + good, "", 401},
		{"padding", "/hook?token=" + good + "=", "", 401},
		{"question mark", "/hook?token=" + good + "?", "", 401},
		{"fragment", "/hook?token=" + good + "#", "", 401},
		{"malformed escape", "/hook?token=" + good + "%zz", "", 401},
		{"semicolon before", "/hook?a;token=" + good, "", 401},
		{"semicolon after", "/hook?token=" + good + ";a", "", 401},
		{"semicolon escaped", "/hook?token=" + good + "%3Ba", "", 401},
		{"twice", "/hook?token=" + good + "&token=" + good, "", 401},
		{"twice, one name escaped", "/hook?token=" + good + "&%74oken=" + good, "", 401},
		{"twice, one empty", "/hook?token=" + good + "&token", "", 401},
		{"twice, the first wrong", "/hook?token=x&token=" + good, "", 401},
		{"joined", "/hook?token=" + good + "," + good, "", 401},
		{"in an array's name", "/hook?token[]=" + good, "", 401},
		{"in capitals", "/hook?TOKEN=" + good, "", 401},
		{"in the path", "/hook/token=" + good, "", 401},
		{"bearer alone", "/hook", bearer, 401},
		{"bearer beside a wrong one", "/hook?token=x", bearer, 401},
		{"cookie", "/hook", "Cookie: token=" + good + "\r\n", 401},
		{"header", "/hook", "Token: " + good + "\r\nX-Token: " + good + "\r\n", 401},
		{"other header of a URL", "/hook", "X-Original-URL: /hook?token=" + good + "\r\nX-Rewrite-URL: /hook?token=" + good + "\r\n", 401},
		{"other method by a header", "/hook?token=x", "X-HTTP-Method-Override: GET\r\n", 401},
		{"a megabyte, all of it reaches the handler", "/hook?token=" + strings.Repeat("a", 1_000_000), "", 401},
		{"too much for net/http", "/hook?token=" + strings.Repeat("a", 2<<20), "", 431},
	}
	id := newDelivery(t, untypedImage, `{"album_id":"7"}`, 1700000000).ID
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSocketServer(t, nil)
			status := s.send(t, withTarget(tt.target, tt.lines))
			if status != tt.status {
				t.Errorf("status got %d, want %d", status, tt.status)
			}
			if saved := s.store.saved; len(saved) == 1 != (tt.status == 201) || len(saved) == 1 && saved[0].ID != id {
				t.Errorf("saved %v with status %d, want it to be the delivery %s", saved, status, id)
			}
		})
	}
}

// TestSignaturesOverASocket sends every hostile signature and timestamp in real
// headers. What cannot stand in one never reaches the handler.
func TestSignaturesOverASocket(t *testing.T) {
	for _, tt := range signatureRows() {
		t.Run(tt.name+" "+tt.timestamp[:min(len(tt.timestamp), 20)], func(t *testing.T) {
			if errors.Is(tt.want, ErrNoSecrets) {
				c := testConfig()
				c.Signature = &tt.v
				if _, err := NewHandler(c); !errors.Is(err, ErrNoSecrets) {
					t.Errorf("NewHandler got %v, want %v", err, ErrNoSecrets)
				}
				return
			}
			s := newSocketServer(t, func(c *Config) { c.Signature = &tt.v })
			raw := fmt.Sprintf("POST /hook?token=%s HTTP/1.1\r\nHost: hooks.example\r\nConnection: close\r\n%s: %s\r\n%s: %s\r\n%s\r\n%s",
				testToken(), TimestampHeader, tt.timestamp, SignatureHeader, tt.signature, contentLength(len(testBody)), testBody)
			got := s.send(t, raw)
			// A header's value has no blanks around it: net/http takes them away.
			trimmed := strings.TrimSpace(tt.signature) != tt.signature && tt.v.Verify(testBody, tt.timestamp, strings.TrimSpace(tt.signature)) == nil
			accepted := tt.want == nil || trimmed
			if accepted != (got == 201) || !accepted && got != 401 && got != 400 && got != 431 || len(s.store.saved) == 1 != accepted {
				t.Errorf("status got %d and %d deliveries saved, want accepted: %v", got, len(s.store.saved), accepted)
			}
			if got == 401 && tt.want != nil && !trimmed {
				if err := s.outcome(t).Err; !errors.Is(err, tt.want) && strings.TrimSpace(tt.timestamp) == tt.timestamp {
					t.Errorf("outcome got %v, want %v", err, tt.want)
				}
			}
		})
	}
}

// TestHTTP2: the same handler over HTTP/2, where a body that stays away ends its
// stream and not the connection.
func TestHTTP2(t *testing.T) {
	s := newSocketServer(t, func(c *Config) { c.Timeout = 200 * time.Millisecond }, withHTTP2)
	transport := transportOf(t, 2)
	never := func() io.Reader { r, _ := io.Pipe(); return r }
	digest := Sign(crypto.SHA1, []byte(untypedImage), testTimestamp, testSecret)
	tests := []struct {
		name, query string
		body        io.Reader
		length      int64
		signatures  []string
		status      int
		err         error
	}{
		{"well formed", "token=" + testToken(), strings.NewReader(untypedImage), int64(len(untypedImage)), []string{digest}, 201, nil},
		{"of no declared length", "token=" + testToken(), strings.NewReader(untypedImage), -1, []string{digest}, 201, nil},
		{"signature repeated", "token=" + testToken(), strings.NewReader(untypedImage), -1, []string{digest, digest}, 401, ErrSignatureMismatch},
		{"a body that never comes", "token=" + testToken(), never(), -1, []string{digest}, 408, ErrBodyTimeout},
		{"well formed, after all these", "token=" + testToken(), strings.NewReader(untypedImage), -1, []string{digest}, 201, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			r := s.request(untypedImage).WithContext(ctx)
			r.URL.RawQuery, r.Body, r.ContentLength = tt.query, io.NopCloser(tt.body), tt.length
			r.Header[SignatureHeader] = tt.signatures
			resp, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != tt.status || resp.ProtoMajor != 2 {
				t.Errorf("got %d over %s, want %d over HTTP/2", resp.StatusCode, resp.Proto, tt.status)
			}
			if o := s.outcome(t); !errors.Is(o.Err, tt.err) {
				t.Errorf("outcome got %v, want %v", o.Err, tt.err)
			}
		})
	}
}

// TestRefusedOverHTTP2: a refused stream is answered at once, whatever it still
// owes, and its sender is not told to send.
func TestRefusedOverHTTP2(t *testing.T) {
	s := newSocketServer(t, func(c *Config) { c.Timeout = time.Minute }, withHTTP2)
	transport := transportOf(t, 2)
	for _, expect := range []string{"", "100-continue"} {
		t.Run("Expect: "+expect, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got100Continue: func() { t.Error("the sender is told to send, want a refusal alone") },
			}), 20*time.Second)
			defer cancel()
			body, _ := io.Pipe()
			r := s.request("").WithContext(ctx)
			r.URL.RawQuery, r.Body, r.ContentLength = "", body, 1000
			if expect != "" {
				r.Header.Set("Expect", expect)
			}
			resp, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 401 || resp.ProtoMajor != 2 {
				t.Errorf("got %d over %s and %v, want 401 over HTTP/2", resp.StatusCode, resp.Proto, err)
			}
			_ = resp.Body.Close()
		})
	}
}

func transportOf(t *testing.T, proto int) *http.Transport {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), ExpectContinueTimeout: time.Minute}
	transport.Protocols.SetHTTP1(proto == 1)
	transport.Protocols.SetUnencryptedHTTP2(proto == 2)
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// withHTTP2 lets a server speak HTTP/2 without TLS.
func withHTTP2(server *http.Server) {
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
}

// TestAnswerComesFirst: a sender has its answer while the logger and the observer
// are still at work. Over HTTP/2 it has the status, and the stream stays open.
func TestAnswerComesFirst(t *testing.T) {
	for proto := 1; proto <= 2; proto++ {
		t.Run(fmt.Sprint("HTTP/", proto), func(t *testing.T) {
			answered := make(chan struct{}, 2)
			s := newSocketServer(t, func(c *Config) {
				c.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) { <-answered; return len(p), nil }), nil))
				c.Observe = func(context.Context, Outcome) { <-answered }
			}, withHTTP2)
			t.Cleanup(func() { close(answered) }) // where no answer came, or the server never ends
			transport := transportOf(t, proto)
			for _, body := range []string{untypedImage, ""} { // accepted, and refused
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				r := s.request(untypedImage).WithContext(ctx)
				if body == "" {
					r.URL.RawQuery = ""
				}
				resp, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatalf("no answer before the logger and the observer are done: %v", err)
				}
				if proto == 1 {
					if _, err := io.Copy(io.Discard, resp.Body); err != nil {
						t.Errorf("the answer is not whole before the logger and the observer are done: %v", err)
					}
				}
				answered <- struct{}{}
				answered <- struct{}{}
				_ = resp.Body.Close()
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestMemoryOfPromises: a request that declares 4 MiB and sends nothing costs at
// most 64 KiB, the server's and in HTTP/2 the client's part included.
func TestMemoryOfPromises(t *testing.T) {
	skipUnderRace(t)
	const requests = 200
	for proto := 1; proto <= 2; proto++ {
		t.Run(fmt.Sprint("HTTP/", proto), func(t *testing.T) {
			var inside sync.WaitGroup
			inside.Add(requests)
			s := newSocketServer(t, func(c *Config) { c.Timeout = time.Minute }, withHTTP2, func(server *http.Server) {
				server.HTTP2 = &http.HTTP2Config{MaxReadFrameSize: 16 << 10} // the client's buffers have that size
				h := server.Handler
				server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.Body = firstRead{r.Body, &inside}
					h.ServeHTTP(w, r)
				})
			})
			transport := transportOf(t, proto)
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel) // ends the streams before the server waits for them

			before := memoryInUse()
			for range requests {
				if proto == 1 { // without a client, whose memory would be counted
					_, _ = io.WriteString(dial(t, s.addr()), head(untypedImage, contentLength(4<<20)))
					continue
				}
				body, _ := io.Pipe()
				r := s.request(untypedImage).WithContext(ctx)
				r.Body, r.ContentLength = body, 4<<20
				go func() { _, _ = transport.RoundTrip(r) }() //nolint:bodyclose // it is never answered
			}
			inside.Wait()
			each := (memoryInUse() - before) / requests
			t.Logf("%d bytes a promise", each)
			if each > 64<<10 {
				t.Errorf("a request that only promises costs %d bytes, want 64 KiB at most", each)
			}
		})
	}
}

// firstRead says that a buffer is there to read into.
type firstRead struct {
	io.ReadCloser
	inside *sync.WaitGroup
}

func (b firstRead) Read(p []byte) (int, error) {
	b.inside.Done()
	return b.ReadCloser.Read(p)
}

// TestMemoryInFlight holds many requests in Store.Save, over real connections,
// and measures what each of them keeps: its body, once or while it grows twice,
// and at most 64 KiB.
func TestMemoryInFlight(t *testing.T) {
	skipUnderRace(t)
	type row struct {
		name     string
		body     []byte
		requests int
		limit    int // bytes
	}
	const largest = 4 << 20
	rows := []row{{"largest", []byte(`{"a":"` + strings.Repeat("x", largest-8) + `"}`), 200, largest * 3 / 2}}
	for _, bb := range benchBodies(t) {
		rows = append(rows, row{bb.name, bb.body, 64, 2*len(bb.body) + 64<<10})
	}
	for _, tt := range rows {
		for name, raw := range map[string]string{
			"declared": head(string(tt.body), contentLength(len(tt.body))+closing) + string(tt.body),
			"chunked":  head(string(tt.body), "Transfer-Encoding: chunked\r\n"+closing) + chunked(string(tt.body)),
		} {
			if tt.name == "largest" && name == "chunked" {
				continue // it grows like big
			}
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				inside, release := make(chan struct{}, tt.requests), make(chan struct{})
				finish := sync.OnceFunc(func() { close(release) })
				s := newSocketServer(t, func(c *Config) {
					c.Processor = &Processor{Store: &memory{onSave: func(context.Context) (State, error) {
						inside <- struct{}{}
						<-release
						return StateNew, nil
					}}, Deferred: true}
					c.Timeout = time.Minute
				})
				t.Cleanup(finish)
				before := memoryInUse()
				var conns []*net.TCPConn
				for range tt.requests {
					conn := dial(t, s.addr())
					if _, err := io.WriteString(conn, raw); err != nil {
						t.Fatal(err)
					}
					conns = append(conns, conn)
				}
				late := time.After(2 * time.Minute)
				for i := range tt.requests { // until all bodies are read and held
					select {
					case <-inside:
					case <-late:
						t.Fatalf("%d requests reached Save, want %d", i, tt.requests)
					}
				}
				each := (memoryInUse() - before) / tt.requests
				finish()
				for _, conn := range conns {
					if got := readStatuses(t, conn); fmt.Sprint(got) != "[201]" {
						t.Errorf("statuses got %v, want [201]", got)
					}
				}
				t.Logf("%d bytes a request, body %d", each, len(tt.body))
				if each > tt.limit {
					t.Errorf("a request in flight keeps %d bytes, want at most %d", each, tt.limit)
				}
			})
		}
	}
}

func memoryInUse() int {
	runtime.GC()
	runtime.GC() // what the first one swept into pools' second chance
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
