package cloudinaryhook

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook/internal/guard"
)

// testConfig is a working configuration; its clock stands at testTimestamp.
func testConfig() Config {
	return Config{
		Signature: &SignatureVerifier{Secrets: []string{testSecret}, Now: at(1700000000)},
		Token:     &TokenVerifier{Keys: [][]byte{testKey}, Now: at(1700000000)},
		Processor: &Processor{Store: &memory{}, Images: &calls{}},
	}
}

func newHandler(t testing.TB, change func(*Config)) *Handler {
	t.Helper()
	c := testConfig()
	if change != nil {
		change(&c)
	}
	h, err := NewHandler(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func testToken() string { return rawToken(testKey, hs256, `{"album_id":"7"}`) }

// newRequest is a good request, as Cloudinary sends it.
func newRequest(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hook?token="+testToken(), strings.NewReader(body))
	r.Header.Set(TimestampHeader, testTimestamp)
	r.Header.Set(SignatureHeader, Sign(crypto.SHA1, []byte(body), testTimestamp, testSecret))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// answerRow is a row of the answers table: how to get there, and what must
// come of it.
type answerRow struct {
	name    string
	config  func(*Config)
	body    string
	request func(*http.Request)
	status  int
	err     error
	state   State
}

func answerRows() []answerRow {
	boom := errors.New("boom")
	app := func(createErr, notifyErr error) func(*Config) {
		return func(c *Config) {
			app := &calls{createErr: createErr, notifyErr: notifyErr}
			c.Processor.Images, c.Processor.Notify = app, app.notify
		}
	}
	lookUp := func(secrets []string, err error) func(*Config) {
		return func(c *Config) {
			c.Signature.Secrets = nil
			c.SecretsFor = func(context.Context, *Claims) ([]string, error) { return secrets, err }
		}
	}
	store := func(m *memory) func(*Config) { return func(c *Config) { c.Processor.Store = m } }
	return []answerRow{
		{"accepted", nil, untypedImage, nil, 201, nil, StateDone},
		{"accepted with 200", func(c *Config) { c.SuccessStatus = 200 }, untypedImage, nil, 200, nil, StateDone},
		{"accepted, tokenless", func(c *Config) { c.Token, c.Tokenless = nil, true }, untypedImage, func(r *http.Request) { r.URL.RawQuery = "" }, 201, nil, StateDone},
		{"accepted, deferred", func(c *Config) { c.Processor = &Processor{Store: &memory{}, Deferred: true} }, untypedImage, nil, 201, nil, StatePending},
		{"rejected by CreateImage", app(Permanent(boom), nil), untypedImage, nil, 201, nil, StateDone},
		{"rejected by Notify", app(nil, Permanent(boom)), untypedImage, nil, 201, nil, StateDone},

		{"other method", nil, untypedImage, func(r *http.Request) { r.Method = "PUT" }, 405, ErrMethodNotAllowed, 0},
		{"token missing", nil, untypedImage, func(r *http.Request) { r.URL.RawQuery = "" }, 401, ErrMissingToken, 0},
		{"token empty", nil, untypedImage, func(r *http.Request) { r.URL.RawQuery = "token=" }, 401, ErrMissingToken, 0},
		{"token repeated", nil, untypedImage, func(r *http.Request) { r.URL.RawQuery += "&" + r.URL.RawQuery }, 401, ErrInvalidToken, 0},
		{"token invalid", nil, untypedImage, func(r *http.Request) { r.URL.RawQuery = "token=x" }, 401, ErrInvalidToken, 0},
		{"token in the body", nil, "token=" + testToken(), func(r *http.Request) { r.URL.RawQuery = "" }, 401, ErrMissingToken, 0},
		{"signature missing", nil, untypedImage, func(r *http.Request) { r.Header.Del(SignatureHeader) }, 401, ErrMissingSignature, 0},
		{"signature repeated", nil, untypedImage, func(r *http.Request) { r.Header.Add(SignatureHeader, r.Header.Get(SignatureHeader)) }, 401, ErrSignatureMismatch, 0},
		{"signature joined", nil, untypedImage, func(r *http.Request) {
			r.Header.Set(SignatureHeader, r.Header.Get(SignatureHeader)+", "+r.Header.Get(SignatureHeader))
		}, 401, ErrSignatureMismatch, 0},
		{"signature wrong", nil, untypedImage, func(r *http.Request) {
			r.Header.Set(SignatureHeader, flip(r.Header.Get(SignatureHeader), 39))
		}, 401, ErrSignatureMismatch, 0},
		{"signature v2 only", nil, untypedImage, func(r *http.Request) {
			r.Header.Set(SignatureV2Header, "x")
			r.Header.Del(SignatureHeader)
		}, 401, ErrUnsupportedSignature, 0},
		{"timestamp missing", nil, untypedImage, func(r *http.Request) { r.Header.Del(TimestampHeader) }, 401, ErrInvalidTimestamp, 0},
		{"timestamp repeated", nil, untypedImage, func(r *http.Request) { r.Header.Add(TimestampHeader, testTimestamp) }, 401, ErrInvalidTimestamp, 0},
		{"timestamp stale", func(c *Config) { c.Signature.Now = at(1700007201) }, untypedImage, nil, 401, ErrStaleTimestamp, 0},
		{"timestamp ahead", func(c *Config) { c.Signature.Now = at(1699999699) }, untypedImage, nil, 401, ErrStaleTimestamp, 0},
		{"too large, declared", func(c *Config) { c.MaxBody = 10 }, untypedImage, nil, 413, ErrBodyTooLarge, 0},
		{"too large, chunked", func(c *Config) { c.MaxBody = 10 }, untypedImage, func(r *http.Request) { r.ContentLength = -1 }, 413, ErrBodyTooLarge, 0},
		{"too large for middleware", nil, untypedImage, func(r *http.Request) { r.Body = http.MaxBytesReader(nil, r.Body, 10) }, 413, ErrBodyTooLarge, 0},
		{"as large as allowed", func(c *Config) { c.MaxBody = int64(len(untypedImage)) }, untypedImage, func(r *http.Request) { r.ContentLength = -1 }, 201, nil, StateDone},
		{"malformed", nil, `{"a":1}1`, nil, 400, ErrMalformedBody, 0},
		{"body late", nil, untypedImage, func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(os.ErrDeadlineExceeded)) }, 408, ErrBodyTimeout, 0},
		{"body broken", nil, untypedImage, func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)) }, 400, ErrBodyRead, 0},
		{"body consumed", nil, untypedImage, func(r *http.Request) { r.FormValue("x") }, 500, ErrBodyConsumed, 0},
		{"body consumed, chunked", nil, untypedImage, func(r *http.Request) { r.ContentLength = -1; r.FormValue("x") }, 500, ErrBodyConsumed, 0},
		{"body consumed, no form", nil, untypedImage, func(r *http.Request) { _, _ = io.ReadAll(r.Body) }, 500, ErrBodyConsumed, 0},
		{"body consumed, no form, chunked", nil, untypedImage, func(r *http.Request) { r.ContentLength = -1; _, _ = io.ReadAll(r.Body) }, 500, ErrBodyConsumed, 0},
		{"body consumed in part", nil, untypedImage, func(r *http.Request) { _, _ = r.Body.Read(make([]byte, 10)) }, 500, ErrBodyConsumed, 0},
		{"body declared empty", nil, "", func(r *http.Request) {
			r.ContentLength = 0
			r.Header.Set(SignatureHeader, Sign(crypto.SHA1, nil, testTimestamp, "x"))
		}, 401, ErrSignatureMismatch, 0},
		{"body taken away", nil, untypedImage, func(r *http.Request) { r.Body = nil }, 500, ErrBodyConsumed, 0},
		{"body read by an odd reader", nil, untypedImage, func(r *http.Request) {
			r.Body = io.NopCloser(iotest.ErrReader(&oddError{as: func(any) bool { return true }, unwrap: func() error { panic("no") }}))
		}, 400, ErrBodyRead, 0},
		{"body closed", nil, untypedImage, func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(http.ErrBodyReadAfterClose)) }, 500, ErrBodyConsumed, 0},
		{"body panics", nil, untypedImage, func(r *http.Request) { r.Body = panicBody{} }, 500, errors.ErrUnsupported, 0},

		{"secrets looked up", lookUp([]string{"old", testSecret}, nil), untypedImage, nil, 201, nil, StateDone},
		{"secrets of nobody", lookUp(nil, nil), untypedImage, nil, 401, ErrUnknownTenant, 0},
		{"secrets of another", lookUp([]string{"another"}, nil), untypedImage, nil, 401, ErrSignatureMismatch, 0},
		{"secrets with an empty one", lookUp([]string{testSecret, ""}, nil), untypedImage, nil, 500, ErrNoSecrets, 0},
		{"look-up failed", lookUp([]string{testSecret}, boom), untypedImage, nil, 500, boom, 0},
		{"look-up failed with a sentinel of ours", lookUp(nil, ErrUnknownTenant), untypedImage, nil, 500, ErrSecretsFor, 0},
		{"look-up panicked", func(c *Config) {
			c.Signature.Secrets = nil
			c.SecretsFor = func(context.Context, *Claims) ([]string, error) { panic(boom) }
		}, untypedImage, nil, 500, ErrSecretsFor, 0},

		{"save failed", store(&memory{saveErr: boom}), untypedImage, nil, 500, ErrSave, 0},
		{"save failed with a sentinel of ours", store(&memory{saveErr: ErrMissingToken}), untypedImage, nil, 500, ErrSave, 0},
		{"save failed for good", store(&memory{saveErr: Permanent(boom)}), untypedImage, nil, 500, ErrSave, 0},
		{"create failed", app(boom, nil), untypedImage, nil, 500, ErrCreateImage, StatePending},
		{"create failed with a sentinel of ours", app(ErrMalformedBody, nil), untypedImage, nil, 500, ErrCreateImage, StatePending},
		{"create panicked", func(c *Config) {
			c.Processor.Images = &calls{onCreate: func(context.Context) { panic("boom") }}
		}, untypedImage, nil, 500, ErrCreateImage, StatePending},
		{"create timed out", func(c *Config) {
			c.Timeout = time.Nanosecond
			c.Processor.Store = &memory{onSave: func(context.Context) (State, error) { return StateNew, nil }}
			c.Processor.Images = ImageCreatorFunc(func(ctx context.Context, _ *Image) error { <-ctx.Done(); return ctx.Err() })
		}, untypedImage, nil, 500, ErrCreateImage, StatePending},
		{"notify failed", app(nil, boom), untypedImage, nil, 500, ErrNotify, StatePending},
		{"complete failed", store(&memory{doneErr: boom}), untypedImage, nil, 500, ErrComplete, StatePending},
	}
}

type panicBody struct{ io.Closer }

func (panicBody) Read([]byte) (int, error) { panic(errors.ErrUnsupported) }

// served is what a handler answers, logs and has observed.
type served struct {
	*httptest.ResponseRecorder
	log      bytes.Buffer
	outcomes []Outcome
}

func (s *served) serve(t testing.TB, change func(*Config), r *http.Request) {
	t.Helper()
	s.ResponseRecorder = httptest.NewRecorder()
	newHandler(t, func(c *Config) {
		if change != nil {
			change(c)
		}
		c.Logger = slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Processor.Logger = c.Logger
		c.Observe = func(_ context.Context, o Outcome) { s.outcomes = append(s.outcomes, o) }
	}).ServeHTTP(s, r)
}

// TestAnswers runs every error the package can produce. Each has its answer, one
// outcome and one line of log, and none of them tells what must not be told.
func TestAnswers(t *testing.T) {
	for _, tt := range answerRows() {
		t.Run(tt.name, func(t *testing.T) {
			r := newRequest(tt.body)
			if tt.request != nil {
				tt.request(r)
			}
			var s served
			s.serve(t, tt.config, r)
			if len(s.outcomes) != 1 || strings.Count(s.log.String(), "\n") != 1 {
				t.Fatalf("got %d outcomes and the log %q, want one and one line", len(s.outcomes), s.log.String())
			}
			o := s.outcomes[0]
			if s.Code != tt.status || o.Status != tt.status || !errors.Is(o.Err, tt.err) || o.State != tt.state || o.Duration <= 0 {
				t.Errorf("got status %d and outcome %+v, want %d, %v and %v", s.Code, o, tt.status, tt.err, tt.state)
			}
			if o.Err != nil && StatusCode(o.Err) != tt.status {
				t.Errorf("StatusCode(%v) got %d, want %d", o.Err, StatusCode(o.Err), tt.status)
			}
			checkAnswer(t, s.ResponseRecorder, o)
			// A log line may say which asset; nothing else of the body may be told.
			log := strings.ReplaceAll(s.log.String(), "public_id=made1", "")
			for _, text := range []string{log, fmt.Sprint(o.Err), fmt.Sprintf("%+v", o.Err), s.Body.String(), fmt.Sprint(s.Header())} {
				for _, secret := range []string{testSecret, string(testKey), Sign(crypto.SHA1, []byte(tt.body), testTimestamp, testSecret),
					Sign(crypto.SHA256, []byte(tt.body), testTimestamp, testSecret), r.Header.Get(SignatureHeader), testToken(), r.URL.RawQuery, "made1", "eyJ"} {
					if secret != "" && strings.Contains(text, secret) {
						t.Errorf("%q holds %q", text, secret)
					}
				}
			}
		})
	}
}

func checkAnswer(t *testing.T, w *httptest.ResponseRecorder, o Outcome) {
	t.Helper()
	want := http.Header{"Content-Length": {strconv.Itoa(w.Body.Len())}, "Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}}
	if o.Delivery != nil {
		want.Set("X-Delivery-ID", o.Delivery.ID)
	}
	wantBody := ""
	if o.Err != nil {
		want.Set("Content-Type", "text/plain; charset=utf-8")
		wantBody = http.StatusText(w.Code) + "\n"
	}
	if w.Code == http.StatusMethodNotAllowed {
		want.Set("Allow", "POST")
	}
	if diff := cmp.Diff(want, w.Header()); diff != "" {
		t.Errorf("headers differ (-want +got):\n%s", diff)
	}
	if got := w.Body.String(); got != wantBody {
		t.Errorf("body got %q, want %q", got, wantBody)
	}
}

func TestNewHandlerRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   error
	}{
		{"no Signature", func(c *Config) { c.Signature = nil }, ErrMisconfigured},
		{"no secrets", func(c *Config) { c.Signature.Secrets = nil }, ErrNoSecrets},
		{"an empty secret", func(c *Config) { c.Signature.Secrets = []string{"s", ""} }, ErrNoSecrets},
		{"negative MaxAge", func(c *Config) { c.Signature.MaxAge = -1 }, ErrMisconfigured},
		{"negative MaxSkew", func(c *Config) { c.Signature.MaxSkew = -1 }, ErrMisconfigured},
		{"no Token", func(c *Config) { c.Token = nil }, ErrMisconfigured},
		{"Token and Tokenless", func(c *Config) { c.Tokenless = true }, ErrMisconfigured},
		{"Token and Claims", func(c *Config) { c.Claims = new(Claims) }, ErrMisconfigured},
		{"claims that are no JSON", func(c *Config) {
			c.Token, c.Tokenless = nil, true
			c.Claims = &Claims{AlbumID: "\xff"}
		}, ErrMisconfigured},
		{"Secrets and SecretsFor", func(c *Config) {
			c.SecretsFor = func(context.Context, *Claims) ([]string, error) { return nil, nil }
		}, ErrMisconfigured},
		{"no keys", func(c *Config) { c.Token.Keys = nil }, ErrNoSecrets},
		{"a short key", func(c *Config) { c.Token.Keys = [][]byte{testKey, testKey[:31]} }, ErrNoSecrets},
		{"negative Leeway", func(c *Config) { c.Token.Leeway = -1 }, ErrMisconfigured},
		{"a claim without a name", func(c *Config) { c.Token.Require = []string{""} }, ErrMisconfigured},
		{"no Processor", func(c *Config) { c.Processor = nil }, ErrMisconfigured},
		{"negative MaxBody", func(c *Config) { c.MaxBody = -1 }, ErrMisconfigured},
		{"negative Timeout", func(c *Config) { c.Timeout = -1 }, ErrMisconfigured},
		{"status 204", func(c *Config) { c.SuccessStatus = 204 }, ErrMisconfigured},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig()
			tt.change(&c)
			if h, err := NewHandler(c); !errors.Is(err, tt.want) || h != nil {
				t.Errorf("NewHandler got %v and %v, want %v", h, err, tt.want)
			}
		})
	}
}

// TestHandlerCopiesItsConfig: a slice that is wiped or changed after NewHandler
// must not open or close the endpoint.
func TestHandlerCopiesItsConfig(t *testing.T) {
	c := testConfig()
	c.Token.Keys = [][]byte{bytes.Clone(testKey)}
	c.Token.Require = []string{"album_id"}
	h, err := NewHandler(c)
	if err != nil {
		t.Fatal(err)
	}
	c.Signature.Secrets[0], c.Token.Require[0], c.Processor.Store = "", "missing", nil
	clear(c.Token.Keys[0])
	w := httptest.NewRecorder()
	h.ServeHTTP(w, newRequest(untypedImage))
	if w.Code != http.StatusCreated {
		t.Errorf("status got %d, want 201", w.Code)
	}
}

// TestSecretsFor: one handler for two product environments. Each has its own
// secrets, and those may change while it serves.
func TestSecretsFor(t *testing.T) {
	secrets := map[string][]string{"1": {"of one"}, "2": {"of two"}}
	var lookups int
	h := newHandler(t, func(c *Config) {
		c.Signature.Secrets = nil
		c.SecretsFor = func(ctx context.Context, claims *Claims) ([]string, error) {
			lookups++
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the look-up has no deadline, want Timeout")
			}
			return secrets[claims.OrganizationID], nil
		}
	})
	tests := []struct {
		name, organization, secret string
		before                     func(*http.Request)
		want                       error
		lookups                    int
	}{
		{"one", "1", "of one", nil, nil, 1},
		{"two", "2", "of two", nil, nil, 1},
		{"a token of one, signed for two", "1", "of two", nil, ErrSignatureMismatch, 1},
		{"nobody", "3", "of one", nil, ErrUnknownTenant, 1},
		{"nobody, signed with nothing", "3", "", nil, ErrUnknownTenant, 1},
		{"rotated: old and new", "1", "new of one", func(*http.Request) { secrets["1"] = []string{"new of one", "of one"} }, nil, 1},
		{"rotated: the old one", "1", "of one", nil, nil, 1},
		{"rotated: new alone", "1", "of one", func(*http.Request) { secrets["1"] = []string{"new of one"} }, ErrSignatureMismatch, 1},
		{"a token of nobody's key", "1", "new of one", func(r *http.Request) { r.URL.RawQuery += "x" }, ErrInvalidToken, 0},
		{"a stale timestamp", "1", "new of one", func(r *http.Request) { r.Header.Set(TimestampHeader, "1") }, ErrStaleTimestamp, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRequest(untypedImage)
			r.URL.RawQuery = "token=" + rawToken(testKey, hs256, `{"organization_id":`+tt.organization+`}`)
			r.Header.Set(SignatureHeader, Sign(crypto.SHA1, []byte(untypedImage), testTimestamp, tt.secret))
			if tt.before != nil {
				tt.before(r)
			}
			lookups = 0
			if _, err := h.Authenticate(r); !errors.Is(err, tt.want) || lookups != tt.lookups {
				t.Errorf("Authenticate got %v after %d look-ups, want %v after %d", err, lookups, tt.want, tt.lookups)
			}
		})
	}
}

// TestTokenlessClaims: Claims keep two Tokenless handlers over one store apart,
// as the claims of a token would, and are the handler's own.
func TestTokenlessClaims(t *testing.T) {
	authenticate := func(claims *Claims) *Delivery {
		h := newHandler(t, func(c *Config) { c.Token, c.Tokenless, c.Claims = nil, true, claims })
		if claims != nil {
			*claims = Claims{AlbumID: "changed"}
		}
		d, err := h.Authenticate(newRequest(untypedImage))
		if err != nil {
			t.Fatal(err)
		}
		d.Claims.UserID = "changed" // by one request, for no other
		if d, err = h.Authenticate(newRequest(untypedImage)); err != nil || d.Claims.UserID != "" {
			t.Fatalf("Authenticate got %v and claims %+v, want those of the Config", err, d.Claims)
		}
		return d
	}
	for claims, d := range map[string]*Delivery{
		`{}`:                         authenticate(nil),
		`{"organization_id":"acme"}`: authenticate(&Claims{OrganizationID: "acme"}),
		`{"organization_id":"b"}`:    authenticate(&Claims{OrganizationID: "b"}),
	} {
		want := newDelivery(t, untypedImage, claims, 1700000000)
		got, _ := d.Image()
		image, _ := want.Image()
		if d.ID != want.ID || got.Key != image.Key || d.Claims.OrganizationID != want.Claims.OrganizationID {
			t.Errorf("got the identity of claims %+v, want that of %s", d.Claims, claims)
		}
	}
}

func TestBodiesOfEverySize(t *testing.T) {
	for _, size := range []int{2, 511, 512, 513, 1 << 16, eagerBuffer - 1, eagerBuffer, eagerBuffer + 1, 3*eagerBuffer + 7, 4 << 20} {
		for name, length := range map[string]int64{"declared": int64(size), "chunked": -1, "declared too small": 1} {
			t.Run(fmt.Sprintf("%d %s", size, name), func(t *testing.T) {
				body := "{" + strings.Repeat(" ", size-2) + "}"
				r := newRequest(body)
				r.ContentLength = length
				h := newHandler(t, func(c *Config) {
					if length != int64(size) {
						c.MaxBody = math.MaxInt64 // no limit
					}
				})
				d, err := h.Authenticate(r)
				if err != nil || string(d.Body) != body {
					t.Errorf("Authenticate got %v, want the body of %d bytes", err, size)
				}
				if saved := h.config.Processor.Store.(*memory).saved; saved != nil {
					t.Errorf("Authenticate saved %v, want the checks alone", saved)
				}
			})
		}
	}
	r := newRequest("{" + strings.Repeat(" ", 4<<20) + "}")
	r.ContentLength = -1
	if _, err := newHandler(t, nil).Authenticate(r); !errors.Is(err, ErrBodyTooLarge) {
		t.Errorf("Authenticate of more than 4 MiB got %v, want %v", err, ErrBodyTooLarge)
	}
}

// TestDuplicatesAtTheSameTime: each of many is answered 201, and one was new.
func TestDuplicatesAtTheSameTime(t *testing.T) {
	var known [StateDone + 1]atomic.Int64
	h := newHandler(t, func(c *Config) {
		c.Processor.Images = ImageCreatorFunc(func(context.Context, *Image) error { return nil })
		c.Observe = func(_ context.Context, o Outcome) { known[o.Known].Add(1) }
	})
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, newRequest(untypedImage))
			if w.Code != http.StatusCreated {
				t.Errorf("status got %d, want 201", w.Code)
			}
		})
	}
	wg.Wait()
	if known[StateNew].Load() != 1 || known[0].Load() != 0 {
		t.Errorf("got %d new deliveries and %d that were not saved, want 1 and 0", known[StateNew].Load(), known[0].Load())
	}
}

// TestCallerHangsUp: work in progress keeps its context, with its values, and so
// does who observes it.
func TestCallerHangsUp(t *testing.T) {
	type key struct{}
	h := newHandler(t, func(c *Config) {
		c.Processor.Images = ImageCreatorFunc(func(ctx context.Context, _ *Image) error {
			if ctx.Value(key{}) != "value" {
				t.Errorf("context value got %v, want value", ctx.Value(key{}))
			}
			return ctx.Err()
		})
		c.Observe = func(ctx context.Context, _ Outcome) {
			if ctx.Err() != nil || ctx.Value(key{}) != "value" {
				t.Errorf("Observe got a context with %v and value %v, want nil and value", ctx.Err(), ctx.Value(key{}))
			}
		}
	})
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, newRequest(untypedImage).WithContext(ctx))
	if w.Code != http.StatusCreated {
		t.Errorf("status got %d, want 201", w.Code)
	}
}

func TestTimeoutIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		check := func(ctx context.Context, want time.Duration) {
			if deadline, ok := ctx.Deadline(); !ok || deadline.Sub(start) != want {
				t.Errorf("deadline got %v after the start, want %v", deadline.Sub(start), want)
			}
		}
		h := newHandler(t, func(c *Config) {
			c.Processor.Store = &memory{
				onSave: func(ctx context.Context) (State, error) {
					check(ctx, 15*time.Second)
					time.Sleep(10 * time.Second)
					return 0, nil
				},
				onComplete: func(ctx context.Context) error { check(ctx, 23*time.Second); return nil },
			}
			c.Processor.Images = ImageCreatorFunc(func(ctx context.Context, _ *Image) error {
				check(ctx, 15*time.Second)
				time.Sleep(10 * time.Second) // past the deadline, and successful
				return nil
			})
		})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, newRequest(untypedImage))
		if w.Code != http.StatusCreated {
			t.Errorf("status got %d, want 201", w.Code)
		}
	})
}

// TestOddErrorsAreAnswered: whatever the app's code comes back with, there is one
// answer, one outcome and one line. http.ErrAbortHandler goes on to net/http, which
// drops the connection.
func TestOddErrorsAreAnswered(t *testing.T) {
	for name, odd := range oddErrors() {
		apps := oddApps(odd)
		apps[ErrSecretsFor] = &Processor{Store: &memory{}, Images: &calls{}}
		for stage, p := range apps {
			t.Run(fmt.Sprint(name, "/", stage), func(t *testing.T) {
				var s served
				var raised any
				new(Processor).run(t.Context(), nil, func(*result) { // since it may end the goroutine
					defer func() { raised = recover() }()
					s.serve(t, func(c *Config) {
						if c.Processor = p; errors.Is(stage, ErrSecretsFor) {
							c.Signature.Secrets = nil
							c.SecretsFor = func(context.Context, *Claims) ([]string, error) { return nil, odd() }
						}
					}, newRequest(untypedImage))
				})
				want := StatePending
				if errors.Is(stage, ErrSave) || errors.Is(stage, ErrSecretsFor) {
					want = 0
				}
				if errors.Is(stage, ErrSecretsFor) && strings.Contains(name, "ends the goroutine") {
					stage = ErrReceive // Authenticate does not come to an end either
				}
				if len(s.outcomes) != 1 || s.outcomes[0].State != want || s.outcomes[0].Status != 500 || !errors.Is(s.outcomes[0].Err, stage) || s.outcomes[0].Rejected != nil {
					t.Errorf("outcomes got %+v, want one with %v and state %v", s.outcomes, stage, want)
				}
				if log := s.log.String(); s.Code != 500 || strings.Count(log, "\n") != 1 || !strings.Contains(log, "status=500") {
					t.Errorf("got %d and the log %s, want 500 and one line", s.Code, log)
				}
				if aborts := name == "asks to drop the connection"; aborts != (raised == any(http.ErrAbortHandler)) || !aborts && raised != nil || aborts == s.Flushed {
					t.Errorf("raised %v, want only what drops a connection", raised)
				}
			})
		}
	}
}

func TestAbortHandlerDropsTheConnection(t *testing.T) {
	s := newSocketServer(t, func(c *Config) {
		c.Processor.Images = &calls{onCreate: func(context.Context) { panic(http.ErrAbortHandler) }}
	})
	conn := dial(t, s.addr())
	if _, err := io.WriteString(conn, head(untypedImage, contentLength(len(untypedImage)))+untypedImage); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); len(answer) > 0 || err != nil {
		t.Errorf("got %q and %v, want nothing", answer, err)
	}
}

// TestWhoIsToldMayPanic: a logger or an observer that panics changes no answer,
// and keeps the other from nothing. Neither does a writer that cannot flush.
func TestWhoIsToldMayPanic(t *testing.T) {
	told := 0
	h := newHandler(t, func(c *Config) {
		c.Logger = slog.New(panicLogger{})
		c.Processor.Logger = c.Logger
		c.Observe = func(context.Context, Outcome) { told++; panic("boom") }
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(panicFlusher{w}, newRequest(untypedImage))
	if w.Code != http.StatusCreated || told != 1 {
		t.Errorf("status got %d and Observe was called %d times, want 201 and once", w.Code, told)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(panicDeadline{w}, newRequest(untypedImage)) // before anything is authenticated
	if w.Code != http.StatusInternalServerError || w.Header().Get("X-Delivery-ID") != "" || told != 2 {
		t.Errorf("status got %d and Observe was called %d times, want 500 and twice", w.Code, told)
	}
	for _, d := range []*Delivery{nil, {Body: []byte("{}"), Claims: &Claims{}}} {
		if err := h.config.Processor.Process(t.Context(), d); !errors.Is(err, ErrInvalidDelivery) {
			t.Errorf("Process of %v got %v, want %v", d, err, ErrInvalidDelivery)
		}
	}
}

type panicLogger struct{ slog.Handler }

func (panicLogger) Enabled(context.Context, slog.Level) bool  { return true }
func (panicLogger) Handle(context.Context, slog.Record) error { panic("boom") }

type panicFlusher struct{ *httptest.ResponseRecorder }

func (panicFlusher) FlushError() error { panic("boom") }

type panicDeadline struct{ *httptest.ResponseRecorder }

func (panicDeadline) SetReadDeadline(time.Time) error { panic("boom") }

func TestHandlerLogs(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*Config)
		request func(*http.Request)
		want    []string
	}{
		{"accepted", nil, nil, []string{"level=INFO", "accepted", "status=201", "delivery.id=", "delivery.public_id=made1", "delivery.bytes=", "skew=", "state=done", "duplicate=false"}},
		{"refused", nil, func(r *http.Request) { r.Header.Del(SignatureHeader) }, []string{"level=WARN", "refused", "status=401", "error="}},
		{"rejected", func(c *Config) { c.Processor.Images = &calls{createErr: Permanent(errors.New("no album"))} }, nil, []string{"level=WARN", "rejected", "status=201", "no album"}},
		{"failed", func(c *Config) { c.Processor.Images = &calls{onCreate: func(context.Context) { panic("boom") }} }, nil, []string{"level=ERROR", "failed", "status=500", "state=pending", "boom", "stack="}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRequest(untypedImage)
			if tt.request != nil {
				tt.request(r)
			}
			var s served
			s.serve(t, tt.change, r)
			for _, want := range tt.want {
				if got := s.log.String(); !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
					t.Errorf("log got %s, want one line with %s in it", got, want)
				}
			}
		})
	}
}

// TestRefusalsSayWhatHelps: what an operator can look at, and nothing of a sender's.
func TestRefusalsSayWhatHelps(t *testing.T) {
	signedOtherwise := func(r *http.Request) { r.Header.Set(SignatureHeader, strings.Repeat("0", 40)) }
	tests := []struct {
		name    string
		request func(*http.Request)
		want    []string
	}{
		{"declared", signedOtherwise, []string{"57 bytes were declared"}},
		{"not declared", func(r *http.Request) { signedOtherwise(r); r.ContentLength = -1 }, []string{"no length was declared"}},
		{"encoded", func(r *http.Request) { signedOtherwise(r); r.Header.Set("Content-Encoding", "gzip") }, []string{"57 bytes were declared, with Content-Encoding gzip"}},
		{"encoded, whatever that is", func(r *http.Request) { signedOtherwise(r); r.Header.Set("Content-Encoding", "canary") }, []string{"with an unknown Content-Encoding"}},
		{"a timestamp alone", func(r *http.Request) { r.Header.Del(SignatureHeader) }, []string{SignatureV2Header, "proxy", "underscore"}},
		{"no header at all", func(r *http.Request) { r.Header.Del(SignatureHeader); r.Header.Del(TimestampHeader) }, []string{"no " + SignatureHeader}},
		{"consumed", func(r *http.Request) { _, _ = io.ReadAll(r.Body) }, []string{"0 bytes were left", "57 bytes were declared"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRequest(untypedImage)
			tt.request(r)
			_, err := newHandler(t, nil).Authenticate(r)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
					t.Errorf("Authenticate got %v, want %q in it", err, want)
				}
			}
			if named := strings.Contains(fmt.Sprint(err), "underscore"); named != (tt.name == "a timestamp alone") {
				t.Errorf("Authenticate got %v, want it to name the proxy only where there may be one", err)
			}
		})
	}
}

// FuzzHandler: a 201 exactly for a well-formed body with both proofs, never a
// panic, never a status outside the table. If by is not 0, the body is signed.
func FuzzHandler(f *testing.F) {
	good := Sign(crypto.SHA1, []byte(untypedImage), testTimestamp, testSecret)
	for by := range uint8(3) {
		f.Add("POST", "token="+testToken(), testTimestamp, good, []byte(untypedImage), int64(len(untypedImage)), by)
		f.Add("POST", "token="+testToken(), testTimestamp, good, []byte(`{}`), int64(-1), by)
		f.Add("POST", "a=b&token="+testToken()+"&token=", testTimestamp, good, []byte(`{"notification_type":"upload","public_id":"a","error":null}`), int64(5), by)
		f.Add("GET", "", "", "", []byte{}, int64(0), by)
	}
	statuses := []int{201, 400, 401, 405, 413, 500}
	f.Fuzz(func(t *testing.T, method, query, timestamp, signature string, body []byte, length int64, by uint8) {
		if by > 0 {
			signature = Sign([]crypto.Hash{crypto.SHA1, crypto.SHA256}[by%2], body, timestamp, testSecret)
		}
		r := &http.Request{
			Method: method, URL: &url.URL{Path: "/hook", RawQuery: query}, ContentLength: length,
			Header: http.Header{TimestampHeader: {timestamp}, SignatureHeader: {signature}},
			Body:   io.NopCloser(bytes.NewReader(body)),
		}
		var s served
		var c *Config
		s.serve(t, func(config *Config) { c, config.MaxBody = config, 4<<10 }, r)
		o, saved := s.outcomes[0], c.Processor.Store.(*memory).saved
		tokens := r.URL.Query()["token"]
		_, malformed := NewDelivery(body, nil, time.Time{})
		want := method == "POST" && len(tokens) == 1 && independentHS256(tokens[0], 1700000000) &&
			c.Signature.Verify(body, timestamp, signature) == nil && malformed == nil &&
			length <= 4<<10 && len(body) <= 4<<10 && int64(len(body)) >= length
		if (s.Code == 201) != want || len(saved) > 0 != want {
			t.Errorf("got %d (%v) and %d deliveries saved, want 201: %v", s.Code, o.Err, len(saved), want)
		}
		if !slices.Contains(statuses, s.Code) || s.Code != o.Status {
			t.Errorf("status got %d, want one of %v", s.Code, statuses)
		}
		if _, ok := errors.AsType[*guard.Error](o.Err); ok || s.Code == 500 && !errors.Is(o.Err, ErrBodyConsumed) {
			t.Errorf("outcome got %v, want no failure of ours", o.Err)
		}
	})
}
