package cloudinaryhook

import (
	"bufio"
	"crypto"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
)

// TestMemoryInFlight holds many requests in Store.Save, over real connections,
// and measures what each of them keeps: its body, once or while it grows twice,
// and at most 64 KiB.
func TestMemoryInFlight(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory too; without it CI runs this test for the coverage")
	}
	const requests = 64
	for _, bb := range benchBodies(t) {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/chunked=%v", bb.name, chunked), func(t *testing.T) {
				var inside sync.WaitGroup
				inside.Add(requests)
				release := make(chan struct{})
				server := serveOn(t, newHandler(t, func(c *Config) {
					c.Processor = &Processor{Store: holdingStore{&inside, release}, Deferred: true}
				}))

				before := memoryInUse()
				var answers []*bufio.Reader
				for range requests {
					answers = append(answers, post(t, server, bb.body, chunked))
				}
				inside.Wait()
				each := (memoryInUse() - before) / requests
				t.Logf("%d bytes a request, body %d", each, len(bb.body))
				if limit := 2*len(bb.body) + 64<<10; each > limit {
					t.Errorf("a request in flight keeps %d bytes, want at most %d", each, limit)
				}
				close(release)
				for _, answer := range answers {
					if r, err := http.ReadResponse(answer, nil); err != nil || r.StatusCode != http.StatusCreated { //nolint:bodyclose // it is empty
						t.Fatalf("answer got %v (%v), want 201", r, err)
					}
				}
			})
		}
	}
}

// serveOn serves on a port of the system's choice until the test ends.
func serveOn(t *testing.T, h http.Handler) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// post writes a request and keeps no memory for it: an http.Client's would be
// counted too.
func post(t *testing.T, address string, body []byte, chunked bool) *bufio.Reader {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST /?token=%s HTTP/1.1\r\nHost: example.com\r\n%s: %s\r\n%s: %s\r\n", benchToken(), TimestampHeader, testTimestamp,
		SignatureHeader, Sign(crypto.SHA1, body, testTimestamp, testSecret))
	if chunked {
		fmt.Fprintf(conn, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	} else {
		fmt.Fprintf(conn, "Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	return bufio.NewReaderSize(conn, 16)
}

func memoryInUse() int {
	runtime.GC()
	runtime.GC() // what the first one swept into pools' second chance
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
