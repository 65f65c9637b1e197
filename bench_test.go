package cloudinaryhook

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A benchBody is one of three sizes of body: the recorded error, an upload with
// everything on it, and one with a quarter of a megabyte of faces.
type benchBody struct {
	name string
	body []byte
	// What ServeHTTP may allocate: how often, and how many bytes beside the body.
	allocs, bytes int64
}

func benchBodies(b testing.TB) []benchBody {
	upload := readFile(b, "cloudinaryhooktest/testdata/upload-full.json")
	var big bytes.Buffer
	big.WriteString(`{"faces_of_a_crowd":[`)
	for i := 0; big.Len() < 256<<10; i++ {
		fmt.Fprintf(&big, "[%d,%d,64,64],", i, i*7%4096)
	}
	big.WriteString("[0,0,1,1]],")
	big.Write(bytes.TrimLeft(upload, "{ \n\t"))
	return []benchBody{
		{"small", readFile(b, "testdata/requests/error-recorded/body.json"), 90, 7 << 10},
		{"typical", upload, 115, 8 << 10},
		{"big", big.Bytes(), 115, 10 << 10},
	}
}

// countingStore keeps nothing, so that a benchmark measures the handler.
type countingStore struct{ saved int }

func (s *countingStore) Save(context.Context, *Delivery) (State, error) {
	s.saved++
	return StateNew, nil
}

func (s *countingStore) Complete(context.Context, string, error) error { return nil }

type discardWriter struct{ header http.Header }

func (w discardWriter) Header() http.Header         { return w.header }
func (w discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w discardWriter) WriteHeader(int)             {}

// serveLoop returns a function that serves one good request with this body.
func serveLoop(tb testing.TB, body []byte) func() {
	h := newHandler(tb, func(c *Config) {
		c.Processor = &Processor{Store: &countingStore{}, Images: ImageCreatorFunc(func(context.Context, *Image) error { return nil })}
	})
	reader := bytes.NewReader(body)
	r := newRequest(string(body))
	w := discardWriter{http.Header{}}
	return func() {
		reader.Reset(body)
		r.Body = io.NopCloser(reader)
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

func BenchmarkServeHTTP(b *testing.B) {
	for _, bb := range benchBodies(b) {
		b.Run(bb.name, func(b *testing.B) {
			serve := serveLoop(b, bb.body)
			b.SetBytes(int64(len(bb.body)))
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
		b.Run(bb.name+"/parallel", func(b *testing.B) {
			b.SetBytes(int64(len(bb.body)))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				serve := serveLoop(b, bb.body)
				for pb.Next() {
					serve()
				}
			})
		})
		// What cannot be saved: compare ServeHTTP with it.
		b.Run(bb.name+"/primitives", func(b *testing.B) {
			verifier, token := &TokenVerifier{Keys: [][]byte{testKey}, Now: at(1700000000)}, testToken()
			b.SetBytes(int64(len(bb.body)))
			b.ReportAllocs()
			for b.Loop() {
				sha1.Sum(bb.body)
				sha256.Sum256(bb.body)
				if _, err := verifier.Verify(token); err != nil {
					b.Fatal(err)
				}
				walk(bb.body)
			}
		})
	}
}

// walk reads the names at the top level and skips the values.
func walk(body []byte) (members int) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsonOptions)
	for _, err := dec.ReadToken(); err == nil && dec.PeekKind() == '"'; members++ {
		_, _ = dec.ReadValue()
		err = dec.SkipValue()
	}
	return members
}

var raceEnabled bool // set by race_test.go

// TestServeHTTPAllocates guards what a request costs in memory. Times are for
// benchmarks: they mean nothing on a shared machine.
func TestServeHTTPAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates too; without it CI runs this test for the coverage")
	}
	for _, bb := range benchBodies(t) {
		t.Run(bb.name, func(t *testing.T) {
			r := testing.Benchmark(func(b *testing.B) {
				serve := serveLoop(b, bb.body)
				b.ReportAllocs()
				for b.Loop() {
					serve()
				}
			})
			allocs, size := r.AllocsPerOp(), r.AllocedBytesPerOp()-int64(len(bb.body))
			t.Logf("%d allocations, body + %d bytes", allocs, size)
			if allocs > bb.allocs || size > bb.bytes {
				t.Errorf("got %d allocations and body + %d bytes, want at most %d and %d", allocs, size, bb.allocs, bb.bytes)
			}
		})
	}
}

func BenchmarkSignatureVerifier(b *testing.B) {
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		for _, bb := range benchBodies(b) {
			for _, secrets := range []int{1, 2, 5} {
				b.Run(fmt.Sprintf("%v/%s/%d", hash, bb.name, secrets), func(b *testing.B) {
					v := &SignatureVerifier{Secrets: strings.Fields(strings.Repeat("secret ", secrets)), Now: at(1700000000)}
					signature := Sign(hash, bb.body, testTimestamp, "secret")
					b.SetBytes(int64(len(bb.body)))
					b.ReportAllocs()
					for b.Loop() {
						if err := v.Verify(bb.body, testTimestamp, signature); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

func BenchmarkTokenVerifier(b *testing.B) {
	v, token := &TokenVerifier{Keys: [][]byte{testKey}, Now: at(1700000000)}, testToken()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewDelivery(b *testing.B) {
	claims, err := parseClaims([]byte(`{"album_id":"7","organization_id":"o"}`))
	if err != nil {
		b.Fatal(err)
	}
	for _, bb := range benchBodies(b) {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewDelivery(bb.body, claims, time.Unix(1700000000, 0)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParsePayload(b *testing.B) {
	paths, err := filepath.Glob("cloudinaryhooktest/testdata/*.json")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range paths {
		body := readFile(b, path)
		b.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParsePayload(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// What it is to be compared with: one pass of json/v2 into the same type.
	b.Run("upload-full/json-v2", func(b *testing.B) {
		body := readFile(b, "cloudinaryhooktest/testdata/upload-full.json")
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if err := json.Unmarshal(body, new(UploadPayload), decodeOptions); err != nil {
				b.Fatal(err)
			}
		}
	})
}
