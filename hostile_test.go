package cloudinaryhook

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A socketServer is the handler on a real socket, and what came of each request
// that reached it.
type socketServer struct {
	*httptest.Server
	store    *memory
	outcomes chan Outcome
}

func newSocketServer(t testing.TB, change func(*Config), settings ...func(*http.Server)) *socketServer {
	t.Helper()
	s := &socketServer{store: &memory{}, outcomes: make(chan Outcome, 1024)}
	h := newHandler(t, func(c *Config) {
		c.Processor.Store = s.store
		c.Processor.Images = ImageCreatorFunc(func(context.Context, *Image) error { return nil })
		c.Observe = func(_ context.Context, o Outcome) { s.outcomes <- o }
		if change != nil {
			change(c)
		}
	})
	s.Server = httptest.NewUnstartedServer(h)
	for _, set := range settings {
		set(s.Config)
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// outcome is that of the next request that reached the handler. On a machine that
// is busy, net/http may have refused it before, by its own time limits.
func (s *socketServer) outcome(t testing.TB) (o Outcome) {
	t.Helper()
	select {
	case o = <-s.outcomes:
	case <-time.After(time.Minute):
		t.Fatal("got no outcome, want one")
	}
	return o
}

func (s *socketServer) addr() string { return s.Listener.Addr().String() }

// request is a good request for an http.Client.
func (s *socketServer) request(body string) *http.Request {
	r := newRequest(body)
	r.URL, _ = url.Parse(s.URL + r.URL.String())
	r.RequestURI = ""
	return r
}

// exchange writes raw bytes to a new connection and reads all answers.
func (s *socketServer) exchange(t testing.TB, raw string) []int {
	t.Helper()
	conn := dial(t, s.addr())
	_, _ = io.WriteString(conn, raw) // may fail: net/http stops reading what is too large
	return readStatuses(t, conn)
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// head is a good request's head with these framing lines, each with its CRLF.
func head(body, framing string) string {
	return fmt.Sprintf("POST /hook?token=%s HTTP/1.1\r\nHost: hooks.example\r\n%s: %s\r\n%s: %s\r\n%s\r\n",
		testToken(), TimestampHeader, testTimestamp, SignatureHeader, Sign(crypto.SHA1, []byte(body), testTimestamp, testSecret), framing)
}

func contentLength(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }

// readStatuses reads answers until the connection ends.
func readStatuses(t testing.TB, r io.Reader) (all []int) {
	t.Helper()
	answers := bufio.NewReader(r)
	for {
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return all
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		all = append(all, resp.StatusCode)
	}
}

type rawRow struct {
	name, raw string
	want      []int
	saved     int
}

const closing = "Connection: close\r\n"

func chunked(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }

// bytewise is chunked, with a byte in each chunk.
func bytewise(body, extension string) string {
	var all strings.Builder
	for i := range len(body) {
		all.WriteString("1" + extension + "\r\n" + body[i:i+1] + "\r\n")
	}
	return all.String() + "0\r\n\r\n"
}

// framingRows are about where a request ends.
func framingRows() []rawRow {
	body := untypedImage
	return []rawRow{
		{"well formed", head(body, contentLength(len(body))+closing) + body, []int{201}, 1},
		{"chunked", head(body, "Transfer-Encoding: chunked\r\n"+closing) + chunked(body), []int{201}, 1},
		{"pipelined", head(body, contentLength(len(body))) + body + head(folderStub, contentLength(len(folderStub))+closing) + folderStub, []int{201, 201}, 2},
		{"pipelined after a refused one", head("x", contentLength(len(body))) + body + head(folderStub, contentLength(len(folderStub))+closing) + folderStub, []int{401, 201}, 1},
		{"after a refused one whose body comes later", head("x", contentLength(100_000)) + strings.Repeat("y", 100_000) + head(body, contentLength(len(body))+closing) + body, []int{401, 201}, 1},
		{"after one without a token whose body comes later", "POST /hook HTTP/1.1\r\nHost: x\r\n" + contentLength(100_000) + "\r\n" + strings.Repeat("x", 100_000) + head(body, contentLength(len(body))+closing) + body, []int{401, 201}, 1},
		{"Content-Length too small", head(body, contentLength(len(body)-1)+closing) + body, []int{401}, 0},
		{"Content-Length too large, then closed", head(body, contentLength(len(body)+1)+closing) + body, []int{400}, 0},
		{"Content-Length and chunked", head(body, contentLength(len(body))+"Transfer-Encoding: chunked\r\n"+closing) + chunked(body), []int{201}, 1},
		{"Content-Length too small, and another request", head(body, contentLength(len(body)-1)) + body + head(folderStub, contentLength(len(folderStub))+closing) + folderStub, []int{401, 400}, 0},
		{"Content-Length too large, into the next request", head(body, contentLength(len(body)+4)) + body + head(folderStub, contentLength(len(folderStub))+closing) + folderStub, []int{401, 400}, 0},
		{"Content-Length of nothing", head(body, contentLength(0)+closing) + body, []int{401}, 0},
		{"Content-Length of a terabyte", head(body, "Content-Length: 1099511627776\r\n"+closing) + body, []int{413}, 0},
		{"Content-Length beyond 64 bits", head(body, "Content-Length: 99999999999999999999\r\n"+closing) + body, []int{400}, 0},
		{"Content-Length that is no number", head(body, "Content-Length: 5x\r\n"+closing) + body, []int{400}, 0},
		{"Content-Length twice, equal", head(body, contentLength(len(body))+contentLength(len(body))+closing) + body, []int{201}, 1},
		{"chunked in disguise", head(body, "Transfer-Encoding: xchunked\r\n"+closing) + chunked(body), []int{501}, 0},
		{"chunk size that is no number", head(body, "Transfer-Encoding: chunked\r\n"+closing) + "zz\r\n" + body, []int{400}, 0},
		{"chunks of one byte", head(body, "Transfer-Encoding: chunked\r\n"+closing) + bytewise(body, ""), []int{201}, 1},
		{"chunk extensions", head(body, "Transfer-Encoding: chunked\r\n"+closing) + bytewise(body, `;a=b;c="d"`), []int{201}, 1},
		{"chunk extension of 64 KiB", head(body, "Transfer-Encoding: chunked\r\n"+closing) + fmt.Sprintf("%x;%s\r\n%s\r\n0\r\n\r\n", len(body), strings.Repeat("x", 64<<10), body), []int{400}, 0},
		{"more chunk extensions than body", head(body, "Transfer-Encoding: chunked\r\n"+closing) + bytewise(strings.Repeat(" ", 64), ";"+strings.Repeat("x", 1000)), []int{400}, 0},
		{"chunk size beyond 64 bits", head(body, "Transfer-Encoding: chunked\r\n"+closing) + fmt.Sprintf("1%016x\r\n%s\r\n0\r\n\r\n", len(body), body), []int{400}, 0},
		{"no end after the last chunk", head(body, "Transfer-Encoding: chunked\r\n"+closing) + strings.TrimSuffix(chunked(body), "0\r\n\r\n"), []int{400}, 0},
		{"a trailer that is not announced", head(body, "Transfer-Encoding: chunked\r\n"+closing) + strings.TrimSuffix(chunked(body), "\r\n") + "X: y\r\n\r\n", []int{201}, 1},
		{"chunk cut", head(body, "Transfer-Encoding: chunked\r\n"+closing) + "ff\r\n{", []int{400}, 0},
		{"Expect: 100-continue", head(body, "Expect: 100-continue\r\n"+contentLength(len(body))+closing) + body, []int{100, 201}, 1},
		{"Expect: 100-continue, refused before the body", head("x", "Expect: 100-continue\r\n"+contentLength(5<<20)), []int{413}, 0},
		{"Expect: something else", head(body, "Expect: x\r\n"+contentLength(len(body))+closing) + body, []int{417}, 0},
		{"no body", head(body, closing), []int{401}, 0},
		{"trailer that would be a signature", strings.Replace(head(body, "Trailer: "+SignatureHeader+"\r\nTransfer-Encoding: chunked\r\n"+closing), SignatureHeader+": ", "X-Other: ", 1) +
			strings.TrimSuffix(chunked(body), "\r\n") + SignatureHeader + ": " + Sign(crypto.SHA1, []byte(body), testTimestamp, testSecret) + "\r\n\r\n", []int{401}, 0},
		{"HTTP/1.0", strings.Replace(head(body, contentLength(len(body))), "HTTP/1.1", "HTTP/1.0", 1) + body, []int{201}, 1},
	}
}

// headerRows are about all else before the body.
func headerRows() []rawRow {
	body := untypedImage
	digest := Sign(crypto.SHA1, []byte(body), testTimestamp, testSecret)
	whole := head(body, contentLength(len(body))+closing) + body
	return []rawRow{
		{"folded header", strings.Replace(whole, SignatureHeader+": ", SignatureHeader+":\r\n ", 1), []int{201}, 1},
		{"header in lower case", strings.Replace(whole, SignatureHeader, strings.ToLower(SignatureHeader), 1), []int{201}, 1},
		{"two Content-Lengths that differ", head(body, contentLength(len(body))+contentLength(1)+closing) + body, []int{400}, 0},
		{"negative Content-Length", head(body, "Content-Length: -1\r\n"+closing) + body, []int{400}, 0},
		{"blank in a header name", strings.Replace(whole, SignatureHeader+":", SignatureHeader+" :", 1), []int{400}, 0},
		{"NUL in a header", strings.Replace(whole, testTimestamp, testTimestamp+"\x00", 1), []int{400}, 0},
		{"blank around the timestamp", strings.Replace(whole, testTimestamp, "  "+testTimestamp+"\t", 1), []int{201}, 1},
		{"signature repeated", head(body, SignatureHeader+": "+digest+"\r\n"+contentLength(len(body))+closing) + body, []int{401}, 0},
		{"signature repeated in another case", head(body, "x-CLD-signature: "+digest+"\r\n"+contentLength(len(body))+closing) + body, []int{401}, 0},
		{"signature repeated, the second empty", head(body, SignatureHeader+":\r\n"+contentLength(len(body))+closing) + body, []int{401}, 0},
		{"signature with an underscore for a hyphen", strings.Replace(whole, SignatureHeader, "X_Cld_Signature", 1), []int{401}, 0},
		{"timestamp repeated", head(body, TimestampHeader+": "+testTimestamp+"\r\n"+contentLength(len(body))+closing) + body, []int{401}, 0},
		{"timestamp folded in two", strings.Replace(whole, testTimestamp, testTimestamp[:5]+"\r\n "+testTimestamp[5:], 1), []int{401}, 0},
		{"headers of two MiB", head(body, "X: "+strings.Repeat("x", 2<<20)+"\r\n"+contentLength(len(body))+closing) + body, []int{431}, 0},
		{"a hundred thousand headers", head(body, strings.Repeat("X: y\r\n", 100_000)+contentLength(len(body))+closing) + body, []int{201}, 1},
		{"Upgrade", head(body, "Connection: Upgrade\r\nUpgrade: websocket\r\n"+contentLength(len(body))) + body, []int{201}, 1},
		{"no Host", strings.Replace(whole, "Host: hooks.example\r\n", "", 1), []int{400}, 0},
		{"HEAD", strings.Replace(whole, "POST", "HEAD", 1), []int{405}, 0},
		{"method in lower case", strings.Replace(whole, "POST", "post", 1), []int{405}, 0},
	}
}

// TestRawRequests writes bytes to the socket and reads all answers. None may
// ever bring more than the deliveries that were sent well formed.
func TestRawRequests(t *testing.T) {
	for _, tt := range slices.Concat(framingRows(), headerRows()) {
		t.Run(tt.name, func(t *testing.T) {
			s := newSocketServer(t, nil, func(server *http.Server) {
				if limit := reflect.ValueOf(server).Elem().FieldByName("MaxHeaderValueCount"); limit.IsValid() {
					limit.SetInt(1 << 20) // since Go 1.27 net/http refuses more than 500 by itself
				}
			})
			conn := dial(t, s.addr())
			_, _ = io.WriteString(conn, tt.raw) // may fail: what is too large is not read
			_ = conn.CloseWrite()
			got := readStatuses(t, conn)
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("statuses got %v, want %v", got, tt.want)
			}
			if len(s.store.saved) != tt.saved {
				t.Errorf("saved %d deliveries, want %d", len(s.store.saved), tt.saved)
			}
		})
	}
}

// TestHostileBodies are correctly signed and correctly framed.
func TestHostileBodies(t *testing.T) {
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, _ = zip.Write([]byte(untypedImage))
	_ = zip.Close()
	many := func(format string, n int) string {
		var all strings.Builder
		for i := range n {
			fmt.Fprintf(&all, format, i)
		}
		return all.String()
	}
	tests := []struct {
		name, body string
		status     int
	}{
		{"blank", " \n", 400},
		{"list", "[]", 400},
		{"string", `"a"`, 400},
		{"null", "null", 400},
		{"white space around", " \r\n{}\t\n", 201},
		{"trailing garbage", "{}x", 400},
		{"trailing digit", "{}1", 400},
		{"trailing brace", "{}}", 400},
		{"two objects", "{}{}", 400},
		{"truncated", `{"a":[1,2`, 400},
		{"truncated name", `{"a`, 400},
		{"no value", `{"a":}`, 400},
		{"comma at the end", `{"a":1,}`, 400},
		{"bare names", `{public_id: "sample"}`, 400},
		{"duplicate names", `{"etag":1,"etag":1}`, 400},
		{"duplicate names in two spellings", `{"public_id":"a","public\u005fid":"a"}`, 400},
		{"duplicate names that nobody reads", `{"a":1,"a":1}`, 201},
		{"100,000 members", `{` + many(`"m%d":0,`, 100_000) + `"z":0}`, 201},
		{"100,000 members, one twice", `{"etag":0,` + many(`"m%d":0,`, 100_000) + `"etag":0}`, 400},
		{"100,000 members further down", `{"a":{` + many(`"m":%d,`, 100_000) + `"z":0}}`, 201},
		{"nested 9,000 deep", strings.Repeat(`{"a":`, 9_000) + `0` + strings.Repeat(`}`, 9_000), 201},
		{"nested a million deep", `{"a":` + strings.Repeat(`[`, 1_000_000) + strings.Repeat(`]`, 1_000_000) + `}`, 400},
		{"a number of a million digits", `{"version":` + strings.Repeat("9", 1_000_000) + `}`, 201},
		{"a large exponent", `{"version":1e999999999,"duration":1e999999999}`, 201},
		{"lone surrogates", `{"public_id":"\ud800\udc00\ud800"}`, 201},
		{"invalid UTF-8", "{\"public_id\":\"\xff\xc0\x80\"}", 201},
		{"NUL", `{"public_id":"` + "\x00" + `"}`, 400},
		{"escaped NUL", `{"public_id":"\u0000"}`, 201},
		{"byte order mark", "\ufeff{}", 400},
		{"UTF-16", "{\x00}\x00", 400},
		{"gzip", zipped.String(), 400},
		{"single quotes", `{'a':1}`, 400},
		{"comment", `{"a":1}//`, 400},
		{"a form", "payload=%7B%7D", 400},
		{"four MiB", `{"a":"` + strings.Repeat("x", 4<<20-8) + `"}`, 201},
		{"a byte more", `{"a":"` + strings.Repeat("x", 4<<20-7) + `"}`, 413},
	}
	for _, tt := range tests {
		for _, length := range []int64{int64(len(tt.body)), -1} {
			t.Run(fmt.Sprintf("%s, declared %v", tt.name, length >= 0), func(t *testing.T) {
				s := newSocketServer(t, nil)
				r := s.request(tt.body)
				r.ContentLength = length
				r.Header.Set("Content-Encoding", "gzip") // says nothing about the bytes that were signed
				resp, err := s.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != tt.status {
					t.Errorf("status got %d, want %d", resp.StatusCode, tt.status)
				}
				var saved []string
				for _, d := range s.store.saved {
					saved = append(saved, string(d.Body))
				}
				if accepted := tt.status == 201; accepted && !slices.Equal(saved, []string{tt.body}) || !accepted && len(saved) > 0 {
					t.Errorf("saved %.200q, want exactly the bytes that were sent if accepted: %v", saved, accepted)
				}
				malformed := tt.status == 400
				p, err := ParsePayload([]byte(tt.body))
				o := s.outcome(t)
				if errors.Is(err, ErrMalformedBody) != malformed || (p == nil) != malformed || errors.Is(o.Err, ErrMalformedBody) != malformed {
					t.Errorf("ParsePayload got %.50v and %v, and the outcome is %v, want malformed: %v", p, err, o.Err, malformed)
				}
				if o.Delivery != nil {
					if _, err := o.Delivery.Payload(); err != nil {
						t.Errorf("payload got %v, want nil", err)
					}
				}
			})
		}
	}
}

// TestSlowAndBrokenClients: what does not arrive ends, and nothing is left. A
// server that allows less time than the handler keeps its word.
func TestSlowAndBrokenClients(t *testing.T) {
	const short, long = 200 * time.Millisecond, time.Minute
	good, noToken := head(untypedImage, contentLength(len(untypedImage))), "POST /hook HTTP/1.1\r\nHost: hooks.example\r\n"
	says := func(raw string) func(*net.TCPConn) {
		return func(conn *net.TCPConn) { _, _ = io.WriteString(conn, raw) }
	}
	tests := []struct {
		name           string
		server, within time.Duration // ReadTimeout and Timeout
		write          func(*net.TCPConn)
		want           []int
		err            error // of the outcome; nil: none is expected
	}{
		{"a byte now and then in the body", 0, short, func(conn *net.TCPConn) { says(good)(conn); trickle(conn, untypedImage) }, []int{408}, ErrBodyTimeout},
		{"a byte now and then in the headers", 0, short, func(conn *net.TCPConn) { trickle(conn, good) }, []int{400}, nil}, // by net/http, and the connection is closed
		{"nothing after the headers", 0, short, says(good), []int{408}, ErrBodyTimeout},
		{"nothing after the headers, by the server's time", short, long, says(good), []int{408}, ErrBodyTimeout},
		{"nothing after the headers, and a server that allows more", long, short, says(good), []int{408}, ErrBodyTimeout},
		{"no token, and nothing after the headers", 0, short, says(noToken + contentLength(100) + "\r\n"), []int{401}, ErrMissingToken},
		{"no token, and nothing after the headers, by the server's time", short, long, says(noToken + contentLength(100) + "\r\n"), []int{401}, ErrMissingToken},
		{"no token, and a chunk that never ends", 0, short, says(noToken + "Transfer-Encoding: chunked\r\n\r\nfffff\r\n" + strings.Repeat("x", 257<<10)), []int{401}, ErrMissingToken},
		{"no token, and a wait for 100 Continue", 0, short, says(noToken + "Expect: 100-continue\r\n" + contentLength(100) + "\r\n"), []int{401}, ErrMissingToken},
		{"a wait after 100 Continue", 0, short, says(head(untypedImage, "Expect: 100-continue\r\n"+contentLength(100))), []int{100, 408}, ErrBodyTimeout},
		{"too large, and nothing more", 0, short, says(head("", "Transfer-Encoding: chunked\r\n") + "400002\r\n" + strings.Repeat("x", 4<<20+1)), []int{413}, ErrBodyTooLarge},
		{"half-closed in mid-body", 0, short, func(conn *net.TCPConn) { says(good + "{")(conn); _ = conn.CloseWrite() }, []int{400}, ErrBodyRead},
		{"reset in mid-body", 0, short, resetInBody, nil, ErrBodyRead},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSocketServer(t, func(c *Config) { c.Timeout = tt.within }, func(server *http.Server) {
				server.ReadTimeout = tt.server // the app's part
				if tt.err == nil {
					server.ReadHeaderTimeout = short
				}
			})
			conn := dial(t, s.addr())
			tt.write(conn)
			if got := readStatuses(t, conn); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("statuses got %v, want %v", got, tt.want)
			}
			if tt.err != nil {
				if o := s.outcome(t); !errors.Is(o.Err, tt.err) {
					t.Errorf("outcome got %v, want %v", o.Err, tt.err)
				}
			}
			if len(s.store.saved) != 0 {
				t.Errorf("saved %d deliveries, want none", len(s.store.saved))
			}
			waitForNoConnection(t)
		})
	}
}

// TestReadDeadlineDoesNotOutliveTheRequest: a connection serves the next request,
// however late the work on this one was. The context of Observe has not ended.
func TestReadDeadlineDoesNotOutliveTheRequest(t *testing.T) {
	const timeout = 100 * time.Millisecond
	hang := func(ctx context.Context) error { <-ctx.Done(); time.Sleep(timeout / 2); return ctx.Err() }
	tests := []struct {
		name       string
		readBefore bool                        // by middleware
		secretsFor func(context.Context) error // of the first request
		work       time.Duration
		status     int // of the first request
	}{
		{"work in time", false, nil, 0, 201},
		{"work too late", false, nil, 2 * timeout, 201},
		{"read before, and work too late", true, nil, 2 * timeout, 201},
		{"read before, and the secrets hang", true, hang, 0, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			first := true
			s := newSocketServer(t, func(c *Config) {
				c.Timeout = timeout
				c.Processor.Notify = func(context.Context, *Delivery) error { time.Sleep(tt.work); return nil }
				observe := c.Observe
				c.Observe = func(ctx context.Context, o Outcome) { o.Err = ctx.Err(); observe(ctx, o) }
				c.Signature.Secrets = nil
				c.SecretsFor = func(ctx context.Context, _ *Claims) ([]string, error) {
					if first && tt.secretsFor != nil {
						return nil, tt.secretsFor(ctx)
					}
					return []string{testSecret}, ctx.Err() // the context of the connection, which must live
				}
			})
			handler := s.Config.Handler
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.readBefore {
					body, _ := io.ReadAll(r.Body)
					r.Body = io.NopCloser(bytes.NewReader(body))
				}
				handler.ServeHTTP(w, r)
			})
			conn := dial(t, s.addr())
			answers := bufio.NewReader(conn)
			for _, want := range []int{tt.status, 201} {
				_, _ = io.WriteString(conn, head(folderStub, contentLength(len(folderStub)))+folderStub)
				resp, err := http.ReadResponse(answers, nil) //nolint:bodyclose // it is small
				if err != nil || resp.StatusCode != want {
					t.Fatalf("answer got %v and %v, want %d", resp, err, want)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				if resp.Close {
					conn = dial(t, s.addr())
					answers = bufio.NewReader(conn)
				}
				if o := s.outcome(t); o.Err != nil {
					t.Errorf("the context of Observe got %v, want nil", o.Err)
				}
				first = false
				time.Sleep(2 * timeout) // past the deadline of the request
			}
		})
	}
}

// TestPeerBytesAreNotTold: net/http quotes what it cannot parse of a chunked body.
func TestPeerBytesAreNotTold(t *testing.T) {
	const canary = "eyJjYW5hcnkiOjF9"
	for name, chunks := range map[string]string{
		"after the last chunk": fmt.Sprintf("%x\r\n%s\r\n0\r\n%s\r\n\r\n", len(untypedImage), untypedImage, canary),
		"a chunk's size":       canary + "\r\n" + untypedImage,
		"a chunk's end":        "1\r\n{" + canary + "\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := newSocketServer(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			if got := s.send(t, head(untypedImage, "Transfer-Encoding: chunked\r\n"+closing)+chunks); got != 400 {
				t.Errorf("status got %d, want 400", got)
			}
			o := s.outcome(t)
			if text := fmt.Sprintf("%s %+v", log.String(), o.Err); strings.Contains(text, canary) || !errors.Is(o.Err, ErrBodyRead) {
				t.Errorf("told %s, want %v without what the sender wrote", text, ErrBodyRead)
			}
		})
	}
}

// waitForNoConnection fails if a connection's goroutine stays. The server still runs, so that it has ended nothing by force.
func waitForNoConnection(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // net/http tells nobody when it is done
		all := string(stacks[:runtime.Stack(stacks, true)])
		if !strings.Contains(all, "net/http.(*conn).serve(") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a connection is still served:\n%s", all)
		}
	}
}

// resetInBody ends the connection once the handler has begun to read the body:
// before, net/http would see the reset, and no request.
func resetInBody(conn *net.TCPConn) {
	_, _ = io.WriteString(conn, head(untypedImage, "Expect: 100-continue\r\n"+contentLength(len(untypedImage))))
	_, _ = http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // 100 Continue has none
	_, _ = io.WriteString(conn, "{")
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// trickle writes a byte at a time, until nobody reads any more.
func trickle(conn *net.TCPConn, text string) {
	for i := range text {
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond) // the slowness is what is tested
	}
}

// TestMemoryOfOddBodies measures what a signed body of the largest size costs,
// declared and not, in the shapes that cost most: all memory that is allocated,
// whether it is given back at once or not.
func TestMemoryOfOddBodies(t *testing.T) {
	skipUnderRace(t)
	const size = 4 << 20
	fill := func(open, unit, end string) string {
		return open + strings.Repeat(unit, (size-len(open)-len(end))/len(unit)) + end
	}
	h := newHandler(t, nil)
	for name, test := range map[string]struct {
		body string
		most float64 // times its size
	}{
		"one value":            {fill(`{"a":"`, "x", `"}`), 3},
		"one name, not UTF-8":  {fill(`{"`, "\xff", `":0}`), 16}, // each byte becomes three
		"an error, not UTF-8":  {fill(`{"error":"`, "\xff", `"}`), 20},
		"names":                {fill(`{`, `"a":0,`, `"b":0}`), 3},
		"numbers for tags":     {fill(`{"tags":[`, `1,`, `1]}`), 50}, // each byte becomes half a string
		"many times":           {fill(`{"notification_context":{`, `"triggered_at":"",`, `"a":0}}`), 30},
		"triggered by many":    {fill(`{"notification_context":{`, `"triggered_by":{"id":"a\n"},`, `"a":0}}`), 5},
		"a version of nothing": {fill(`{"version":"`, "1", `"}`), 5},
	} {
		t.Run(name, func(t *testing.T) {
			for _, length := range []int64{size, -1} {
				var requests []*http.Request
				for range 2 { // allocated runs it twice
					r := newRequest(test.body)
					r.ContentLength = min(length, r.ContentLength)
					requests = append(requests, r)
				}
				_, bytes := allocated(1, func() {
					if _, err := h.Authenticate(requests[0]); err != nil {
						t.Fatal(err)
					}
					requests = requests[1:]
				})
				times := float64(bytes) / size
				t.Logf("%.1f times its size, declared %v", times, length > 0)
				if times > test.most {
					t.Errorf("a body of 4 MiB, declared %v, costs %.1f times its size, want %.0f at most", length > 0, times, test.most)
				}
			}
		})
	}
}

// TestOneTokenOneSpelling changes every character of a valid token to every
// other: none of these is accepted, so no notification has two identities.
func TestOneTokenOneSpelling(t *testing.T) {
	v := prepared(t, &TokenVerifier{Keys: [][]byte{testKey}})
	good := testToken()
	if _, err := v.Verify(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for c := range 256 {
			changed := good[:i] + string([]byte{byte(c)}) + good[i+1:]
			if _, err := v.Verify(changed); err == nil && changed != good {
				t.Errorf("accepted with byte %d in place %d: %q", c, i, changed)
			}
		}
		if _, err := v.Verify(good[:i] + "\n" + good[i:]); err == nil {
			t.Errorf("accepted with a line break before place %d", i)
		}
	}
}

// TestShiftedBoundaries moves bytes between body, timestamp and secret, which
// keeps the digest.
func TestShiftedBoundaries(t *testing.T) {
	signature := Sign(crypto.SHA1, []byte("{}"), "1700000000", "7secret")
	tests := []struct {
		name, body, timestamp, secret string
		now                           int64
	}{
		{"from timestamp to body", "{}1", "700000000", "7secret", 700000000},
		{"from body to timestamp", "{", "}1700000000", "7secret", 1700000000},
		{"from timestamp to secret", "{}", "170000000", "07secret", 170000000},
		{"from secret to timestamp", "{}", "17000000007", "secret", 17000000007},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Sign(crypto.SHA1, []byte(tt.body), tt.timestamp, tt.secret); got != signature {
				t.Fatalf("the digest changed: got %s, want %s", got, signature)
			}
			for _, now := range []int64{tt.now, 1700000000} {
				r := newRequest(tt.body)
				r.Header.Set(TimestampHeader, tt.timestamp)
				r.Header.Set(SignatureHeader, signature)
				var s served
				s.serve(t, func(c *Config) { c.Signature.Now, c.Signature.Secrets = at(now), []string{"7secret"} }, r)
				if s.Code < 400 || s.Code > 401 {
					t.Errorf("at %d, status got %d, want it refused", now, s.Code)
				}
			}
		})
	}
}

// TestIdleConnections: 2,000 connections that say nothing, or half a request line,
// do not keep a good request from its answer.
func TestIdleConnections(t *testing.T) {
	s := newSocketServer(t, nil)
	for i := range 2000 {
		if conn := dial(t, s.addr()); i%2 == 0 {
			_, _ = io.WriteString(conn, "POST /hook?tok")
		}
	}
	for range 20 {
		if got := s.exchange(t, head(untypedImage, contentLength(len(untypedImage))+closing)+untypedImage); fmt.Sprint(got) != "[201]" {
			t.Errorf("statuses got %v, want [201]", got)
		}
	}
	if got := len(s.store.saved); got != 1 {
		t.Errorf("saved %d deliveries, want the one", got)
	}
}
