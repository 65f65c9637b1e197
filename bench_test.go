package cloudinaryhook

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook/internal/lenient"
)

// A benchBody is one of three sizes of body: the recorded error, an upload with
// everything on it, and that with the text of some 1,700 words in it.
type benchBody struct {
	name string
	body []byte
	// What ServeHTTP may allocate: how often, and how many bytes beside the body.
	allocs, bytes int
}

func benchBodies(tb testing.TB) []benchBody {
	upload := readFile(tb, "cloudinaryhooktest/testdata/upload-full.json")
	return []benchBody{
		{"small", readFile(tb, "testdata/requests/error-recorded/body.json"), 75, 6 << 10},
		{"typical", upload, 80, 6 << 10},
		{"big", withText(upload, 256<<10), 85, 200 << 10}, // its buffer grows: no promise is believed,
	}
}

// withText gives an upload the annotations of Cloudinary's OCR add-on, which
// make the largest bodies there are: a word and a box each.
func withText(upload []byte, size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"ocr":{"adv_ocr":{"status":"complete","data":[{"textAnnotations":[`)
	for i := 0; b.Len() < size-len(upload)-256; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		x, y := i%40*31, i/40*17
		fmt.Fprintf(&b, `{"locale":"en","description":"word%d","boundingPoly":{"vertices":[{"x":%d,"y":%d},{"x":%d,"y":%d},{"x":%d,"y":%d},{"x":%d,"y":%d}]}}`,
			i, x, y, x+29, y, x+29, y+14, x, y+14)
	}
	b.WriteString(`]}]}},`)
	b.Write(bytes.TrimLeft(upload, "{ \n\t"))
	return b.Bytes()
}

// benchToken has the claims of the older receiver's tokens.
func benchToken() string {
	return rawToken(testKey, hs256, `{"exp":1700014400,"iat":1699999990,"user_id":"64f1c0a2","album_id":"summer-2023","organization_id":"7b1d"}`)
}

// countingStore keeps nothing, so that a benchmark measures the handler.
type countingStore struct{ saved int }

func (s *countingStore) Save(context.Context, *Delivery) (State, error) {
	s.saved++
	return StateNew, nil
}

func (s *countingStore) Complete(context.Context, string, error) error { return nil }

type discardWriter struct {
	header http.Header
	status int
}

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *discardWriter) WriteHeader(status int)      { w.status = status }

type rewoundBody struct{ *bytes.Reader }

func (rewoundBody) Close() error { return nil }

// serveLoop returns a function that serves one good request with this body.
func serveLoop(tb testing.TB, body []byte) func() {
	h := newHandler(tb, func(c *Config) {
		c.Token.Require = []string{"album_id"}
		c.Processor = &Processor{Store: &countingStore{}, Images: ImageCreatorFunc(func(context.Context, *Image) error { return nil })}
	})
	r := newRequest(string(body))
	r.URL.RawQuery = "token=" + benchToken()
	read := rewoundBody{bytes.NewReader(body)}
	r.Body = read
	w := &discardWriter{header: http.Header{}}
	serve := func() {
		read.Reset(body)
		clear(w.header)
		h.ServeHTTP(w, r)
	}
	if serve(); w.status != http.StatusCreated {
		tb.Fatalf("status got %d, want 201", w.status)
	}
	return serve
}

// A primitive is work that a request cannot be served without.
type primitive struct {
	name string
	run  func()
}

// primitivesOf returns the signature's digest, the delivery ID's, golang-jwt's
// work on the token and one look over the JSON, by walk.
func primitivesOf(tb testing.TB, body []byte, whole bool) []primitive {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithStrictDecoding(), jwt.WithTimeFunc(at(1700000000)))
	token, key := benchToken(), any(testKey)
	type claims struct {
		jwt.RegisteredClaims
		OrganizationID string `json:"organization_id"`
		AlbumID        string `json:"album_id"`
		UserID         string `json:"user_id"`
	}
	looking := "jsontext"
	if whole {
		looking = "jsontext, values whole"
	}
	return []primitive{
		{"SHA-1", func() { sha1.Sum(body) }},
		{"SHA-256", func() { sha256.Sum256(body) }},
		{"golang-jwt", func() {
			if _, err := parser.ParseWithClaims(token, new(claims), func(*jwt.Token) (any, error) { return key, nil }); err != nil {
				tb.Fatal(err)
			}
		}},
		{looking, func() { walk(body, whole) }},
	}
}

// walk reads the names at the top level and skips the values, as the
// documentation of jsontext has it. Or it reads both whole, which takes less time,
// though not more memory, if the body is one buffer; the envelope does so.
func walk(body []byte, whole bool) (members int) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), lenient.Options)
	_, _ = dec.ReadToken()
	for ; dec.PeekKind() == '"'; members++ {
		if whole {
			_, _ = dec.ReadValue()
			_, _ = dec.ReadValue()
		} else {
			_, _ = dec.ReadToken()
			_ = dec.SkipValue()
		}
	}
	return members
}

// measure is a benchmark of run, which works on a body of this size.
func measure(b *testing.B, name string, size int, run func()) {
	b.Run(name, func(b *testing.B) {
		b.SetBytes(int64(size))
		b.ReportAllocs()
		for b.Loop() {
			run()
		}
	})
}

func BenchmarkPrimitives(b *testing.B) {
	for _, bb := range benchBodies(b) {
		for _, p := range append(primitivesOf(b, bb.body, false), primitivesOf(b, bb.body, true)[3]) {
			measure(b, bb.name+"/"+p.name, len(bb.body), p.run)
		}
	}
}

func BenchmarkServeHTTP(b *testing.B) {
	for _, bb := range benchBodies(b) {
		measure(b, bb.name, len(bb.body), serveLoop(b, bb.body))
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
	}
}

// BenchmarkParts measures what ServeHTTP is made of, each part by itself. The
// rest is what they cost each other: caches, and the garbage collector.
func BenchmarkParts(b *testing.B) {
	for _, bb := range benchBodies(b) {
		for _, p := range partsOf(b, bb.body) {
			measure(b, bb.name+"/"+p.name, len(bb.body), p.run)
		}
	}
}

func partsOf(b *testing.B, body []byte) []primitive {
	tokens := prepared(b, &TokenVerifier{Keys: [][]byte{testKey}, Require: []string{"album_id"}, Now: at(1700000000)})
	claims, err := tokens.Verify(benchToken())
	if err != nil {
		b.Fatal(err)
	}
	d, err := NewDelivery(body, claims, time.Unix(1700000000, 0))
	if err != nil {
		b.Fatal(err)
	}
	signatures := &SignatureVerifier{Secrets: []string{testSecret}, Now: at(1700000000)}
	five := &SignatureVerifier{Secrets: []string{"a", "b", "c", "d", testSecret}, Now: at(1700000000)}
	signature := Sign(crypto.SHA1, body, testTimestamp, testSecret)
	processor := &Processor{Store: &countingStore{}, Images: ImageCreatorFunc(func(context.Context, *Image) error { return nil })}
	r := newRequest(string(body))
	r.URL.RawQuery = "token=" + benchToken()
	read := bytes.NewReader(body)
	w := &discardWriter{header: http.Header{}}
	token := benchToken()
	return []primitive{
		{"token", func() { _, _ = tokens.Verify(token) }},
		{"token/claims", func() { c, _ := parseClaims(claims.set); _ = tokens.validate(c) }}, // a part of it
		{"token/query", func() { queryTokens(r.URL) }},
		{"body", func() { read.Reset(body); _, _ = readAll(read, int64(len(body)), defaultMaxBody) }},
		{"signature", func() { _ = signatures.Verify(body, testTimestamp, signature) }},
		{"signature, five secrets", func() { _ = five.Verify(body, testTimestamp, signature) }},
		{"envelope", func() { _, _ = parseEnvelope(body, new(Notification)) }},
		{"scope", func() { claims.scope() }},
		{"delivery ID", func() { deliveryID(d, true) }},
		{"limits", func() {
			limitReading(w, r, time.Now().Add(defaultTimeout))
			_, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), defaultTimeout)
			cancel()
		}},
		{"processor", func() { processor.accept(r.Context(), d, new(result)) }},
		{"answer", func() { clear(w.header); answer(w, Outcome{Delivery: d, Status: http.StatusCreated}) }},
	}
}

// BenchmarkRatio measures ServeHTTP over the sum of its primitives, and the two
// ways to a payload over one pass of json/v2 into the same type. It does so by
// processor time, in turns of some milliseconds, so that whatever else the
// machine does meets both alike, and reports the median.
func BenchmarkRatio(b *testing.B) {
	for _, bb := range benchBodies(b) {
		for name, primitives := range map[string][]primitive{
			"":       primitivesOf(b, bb.body, false),
			"/whole": primitivesOf(b, bb.body, true),
		} {
			b.Run(bb.name+name, func(b *testing.B) {
				reportRatio(b, len(bb.body), serveLoop(b, bb.body), func() {
					for _, p := range primitives {
						p.run()
					}
				})
			})
		}
	}
	body := readFile(b, "cloudinaryhooktest/testdata/upload-full.json")
	d := newDelivery(b, string(body), "{}", 1700000000)
	unmarshal := func() { _ = json.Unmarshal(body, new(UploadPayload), lenient.Options, json.WithUnmarshalers(shapes)) }
	b.Run("ParsePayload", func(b *testing.B) {
		reportRatio(b, len(body), func() { _, _ = ParsePayload(body) }, unmarshal)
	})
	b.Run("Delivery.Payload", func(b *testing.B) {
		reportRatio(b, len(body), func() { _, _ = d.Payload() }, unmarshal)
	})
}

func reportRatio(b *testing.B, size int, measured, reference func()) {
	turn := func(run func()) float64 {
		start := processorTime()
		for range 1 + 2<<20/(size+16<<10) {
			run()
		}
		return float64(processorTime() - start)
	}
	var ratios []float64
	for b.Loop() {
		ratios = append(ratios, turn(measured)/turn(reference))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x")
}

var raceEnabled bool // set by race_test.go

func skipUnderRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector needs memory too; without it CI runs this test for the coverage")
	}
}

// TestServeHTTPAllocates guards what a request costs in memory. Times are for
// benchmarks: they mean nothing on a shared machine.
func TestServeHTTPAllocates(t *testing.T) {
	skipUnderRace(t)
	for _, bb := range benchBodies(t) {
		t.Run(bb.name, func(t *testing.T) {
			serve := serveLoop(t, bb.body)
			allocs, size := allocated(100, serve)
			size -= len(bb.body)
			t.Logf("%d allocations, body + %d bytes", allocs, size)
			if allocs > bb.allocs || size > bb.bytes {
				t.Errorf("got %d allocations and body + %d bytes, want at most %d and %d", allocs, size, bb.allocs, bb.bytes)
			}
		})
	}
}

// allocated returns how often one run of f allocates, and how many bytes. No
// collection runs meanwhile: it would empty pools at odd moments.
func allocated(runs int, f func()) (allocs, size int) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return int(after.Mallocs-before.Mallocs) / runs, int(after.TotalAlloc-before.TotalAlloc) / runs
}
