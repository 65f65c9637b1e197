package poll_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/poll"
)

// An api answers without a network. Each request gets all messages that are not
// acknowledged yet.
type api struct {
	mu       sync.Mutex
	messages map[string]map[string]any // by receipt handle
	asked    []time.Time
	acked    []string
	query    string // of the last request for messages
	ackError int    // status of acknowledgements; 0: 200
}

func (a *api) send(handle, body string) {
	m := signed(body, strconv.FormatInt(time.Now().Unix(), 10))
	m["receipt_handle"] = handle
	a.messages[handle] = m
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Method == http.MethodGet {
		a.query = r.URL.RawQuery
		a.asked = append(a.asked, time.Now())
		var messages []any
		for _, m := range a.messages {
			messages = append(messages, m)
		}
		json.NewEncoder(w).Encode(map[string]any{"messages": messages})
		return
	}
	if a.ackError != 0 {
		w.WriteHeader(a.ackError)
		return
	}
	var body struct {
		Handles []string `json:"receipt_handles"`
	}
	json.NewDecoder(r.Body).Decode(&body)
	var results []map[string]string
	for _, handle := range body.Handles {
		delete(a.messages, handle)
		a.acked = append(a.acked, handle)
		results = append(results, map[string]string{"status": "acked"})
	}
	slices.Sort(a.acked)
	json.NewEncoder(w).Encode(map[string]any{"results": results})
}

// newReceiver returns a receiver of a's messages, with a creator that calls
// create.
func newReceiver(a *api, create func(context.Context, *cloudinaryhook.Image) error) *poll.Receiver {
	a.messages = make(map[string]map[string]any)
	return &poll.Receiver{
		Client:    answering(a.ServeHTTP),
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{"the API secret"}},
		Processor: &cloudinaryhook.Processor{
			Store:  new(cloudinaryhooktest.MemoryStore),
			Images: cloudinaryhook.ImageCreatorFunc(create),
		},
	}
}

func fine(context.Context, *cloudinaryhook.Image) error { return nil }

// runFor runs r until d has passed on the clock of a synctest bubble.
func runFor(t *testing.T, r *poll.Receiver, d time.Duration) error {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return r.Run(ctx)
}

// Run acknowledges accepted messages, and authentic but malformed ones after
// Malformed has seen them. It acknowledges no other message.
func TestWhatIsAcknowledged(t *testing.T) {
	down := errors.New("down")
	tests := []struct {
		name   string
		body   string
		change func(r *poll.Receiver, m map[string]any)
		create error
		acked  bool
		images int // calls in two rounds
	}{
		{"accepted", body, nil, nil, true, 1},
		{"no image", `{"notification_type":"delete","request_id":"2"}`, nil, nil, true, 0},
		{"rejected", body, nil, cloudinaryhook.Permanent(down), true, 1},
		{"deferred", body, func(r *poll.Receiver, _ map[string]any) {
			r.Processor.Deferred, r.Processor.Images = true, nil
		}, nil, true, 0},
		{"older than a webhook may be", body, func(_ *poll.Receiver, m map[string]any) {
			sign(m, body, time.Now().Add(-6*24*time.Hour))
		}, nil, true, 1},
		{"the app fails", body, nil, down, false, 2},
		{"the app panics", body, func(r *poll.Receiver, _ map[string]any) {
			r.Processor.Images = cloudinaryhook.ImageCreatorFunc(func(context.Context, *cloudinaryhook.Image) error { panic("bug") })
		}, nil, false, 0},
		{"the store fails", body, func(r *poll.Receiver, _ map[string]any) { r.Processor.Store = downStore{} }, nil, false, 0},

		{"another secret", body, func(r *poll.Receiver, _ map[string]any) { r.Signature.Secrets = []string{"wrong"} }, nil, false, 0},
		{"a clock that is behind", body, func(r *poll.Receiver, _ map[string]any) {
			r.Signature.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) }
		}, nil, false, 0},
		{"stale", body, func(_ *poll.Receiver, m map[string]any) { sign(m, body, time.Now().Add(-8*24*time.Hour)) }, nil, false, 0},
		{"SHA-1 where SHA-256 is demanded", body, func(r *poll.Receiver, _ map[string]any) { r.Signature.SHA256Only = true }, nil, false, 0},
		{"no signature", body, func(_ *poll.Receiver, m map[string]any) { delete(m, "signature") }, nil, false, 0},
		{"no receipt handle", body, func(_ *poll.Receiver, m map[string]any) { delete(m, "receipt_handle") }, nil, false, 0},

		{"malformed", "hello", nil, nil, false, 0},
		{"malformed and seen", "hello", func(r *poll.Receiver, _ map[string]any) {
			r.Malformed = func(_ context.Context, m *poll.Message, err error) error {
				if string(m.Body) != "hello" || !errors.Is(err, cloudinaryhook.ErrMalformedBody) {
					return fmt.Errorf("Malformed got %q and %w", m.Body, err)
				}
				return nil
			}
		}, nil, true, 0},
		{"malformed and not kept", "hello", func(r *poll.Receiver, _ map[string]any) {
			r.Malformed = func(context.Context, *poll.Message, error) error { return down }
		}, nil, false, 0},
		{"malformed and a panic", "hello", func(r *poll.Receiver, _ map[string]any) {
			r.Malformed = func(context.Context, *poll.Message, error) error { panic("bug") }
		}, nil, false, 0},
		{"malformed and forged", "hello", func(r *poll.Receiver, m map[string]any) {
			m["signature"] = strings.Repeat("0", 40)
			r.Malformed = func(context.Context, *poll.Message, error) error { return nil }
		}, nil, false, 0},

		{"no claims for it", body, func(r *poll.Receiver, _ map[string]any) {
			r.ClaimsFor = func(context.Context, *poll.Message) (*cloudinaryhook.Claims, error) { return nil, down }
		}, nil, false, 0},
		{"ClaimsFor panics", body, func(r *poll.Receiver, _ map[string]any) {
			r.ClaimsFor = func(context.Context, *poll.Message) (*cloudinaryhook.Claims, error) { panic("bug") }
		}, nil, false, 0},
		{"ClaimsFor ends its goroutine", body, func(r *poll.Receiver, _ map[string]any) {
			r.ClaimsFor = func(context.Context, *poll.Message) (*cloudinaryhook.Claims, error) {
				runtime.Goexit()
				return nil, nil
			}
		}, nil, false, 0},
		{"nil claims", body, func(r *poll.Receiver, _ map[string]any) {
			r.ClaimsFor = func(context.Context, *poll.Message) (*cloudinaryhook.Claims, error) { return nil, nil }
		}, nil, true, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, images := new(api), 0
				r := newReceiver(a, func(context.Context, *cloudinaryhook.Image) error {
					images++
					return tt.create
				})
				a.send("the message", tt.body)
				if tt.change != nil {
					tt.change(r, a.messages["the message"])
				}
				if err := runFor(t, r, 1500*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Run got %v, want the context's error", err)
				}
				if acked := len(a.acked) == 1; acked != tt.acked || images != tt.images {
					t.Errorf("got %q acknowledged and %d images, want acknowledged %t and %d", a.acked, images, tt.acked, tt.images)
				}
			})
		})
	}
}

func sign(m map[string]any, body string, at time.Time) {
	for name, value := range signed(body, strconv.FormatInt(at.Unix(), 10)) {
		if name != "receipt_handle" {
			m[name] = value
		}
	}
}

type downStore struct{ cloudinaryhook.Store }

func (downStore) Save(context.Context, *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	return 0, errors.New("down")
}

// If one message fails, the others are still processed and acknowledged.
func TestOneFailureStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(api)
		r := newReceiver(a, func(_ context.Context, img *cloudinaryhook.Image) error {
			if img.PublicID == "3" {
				return errors.New("down")
			}
			return nil
		})
		for i := range 6 {
			a.send(strconv.Itoa(i), fmt.Sprintf(`{"notification_type":"upload","public_id":"%d","request_id":"%d"}`, i, i))
		}
		a.messages["5"]["signature"] = "forged"
		runFor(t, r, 500*time.Millisecond)
		if diff := cmp.Diff([]string{"0", "1", "2", "4"}, a.acked); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%s", diff)
		}
	})
}

// The claims are part of the delivery's identity and reach the creator.
func TestClaimsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, got := new(api), ""
		r := newReceiver(a, func(_ context.Context, img *cloudinaryhook.Image) error {
			got = img.Claims.AlbumID + " " + img.PublicID
			return nil
		})
		r.ClaimsFor = func(_ context.Context, m *poll.Message) (*cloudinaryhook.Claims, error) {
			return &cloudinaryhook.Claims{AlbumID: "album of " + m.BatchID}, nil
		}
		a.send("the message", body)
		runFor(t, r, time.Second)
		if want := "album of batch beach>?"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// If a notification is received and also polled, it is one delivery if both
// have the same claims. Otherwise it is two deliveries with an image each, as
// docs/upload.md warns.
func TestReceivedAndPolled(t *testing.T) {
	for _, tt := range []struct {
		name   string
		claims *cloudinaryhook.Claims
		want   int
	}{
		{"the same claims", cloudinaryhooktest.DefaultClaims(), 1},
		{"no claims", nil, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, keys := new(api), make(map[string]bool)
				r := newReceiver(a, func(_ context.Context, img *cloudinaryhook.Image) error {
					keys[img.Key] = true
					return nil
				})
				r.ClaimsFor = func(context.Context, *poll.Message) (*cloudinaryhook.Claims, error) { return tt.claims, nil }
				handler, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
					Signature: r.Signature, Processor: r.Processor,
					Token: &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
				})
				if err != nil {
					t.Fatal(err)
				}
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, cloudinaryhooktest.NewRequest(t, "/hook", []byte(body), cloudinaryhooktest.WithSecret("the API secret")))
				a.send("the message", body)
				runFor(t, r, 500*time.Millisecond)
				if w.Code != http.StatusCreated || len(a.acked) != 1 || len(keys) != tt.want {
					t.Errorf("got status %d, %q acknowledged and %d images, want 201, the message and %d", w.Code, a.acked, len(keys), tt.want)
				}
			})
		})
	}
}

// Run ends with ErrNothingVerifies after five minutes in which it refused every
// message. One genuine message starts the five minutes again.
func TestNothingVerifies(t *testing.T) {
	for _, tt := range []struct {
		name    string
		genuine time.Duration // when one comes; 0: never
		limit   time.Duration
		ends    time.Duration
	}{
		{"never", 0, 0, 5 * time.Minute},
		{"another limit", 0, time.Minute, time.Minute},
		{"once", 4 * time.Minute, 0, 9 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, start := new(api), time.Now()
				r := newReceiver(a, fine)
				r.Unverified = tt.limit
				a.send("forged", body)
				a.messages["forged"]["signature"] = strings.Repeat("0", 40)
				if tt.genuine > 0 {
					time.AfterFunc(tt.genuine, func() {
						a.mu.Lock()
						defer a.mu.Unlock()
						a.send("genuine", body)
					})
				}
				err := runFor(t, r, time.Hour)
				took := time.Since(start).Round(5 * time.Second)
				if !errors.Is(err, poll.ErrNothingVerifies) || !errors.Is(err, cloudinaryhook.ErrSignatureMismatch) || took != tt.ends {
					t.Errorf("got %v after %v, want ErrNothingVerifies of a mismatch after %v", err, took, tt.ends)
				}
				if want := tt.genuine > 0; slices.Contains(a.acked, "forged") || len(a.acked) == 1 != want {
					t.Errorf("got %q acknowledged, want only the genuine message", a.acked)
				}
			})
		})
	}
}

// A message that was left for MaxAge says nothing about the secret. Run goes on
// and logs it, also when it starts again. It ends only if another message is
// refused for another reason.
func TestOldMessagesDoNotEndRun(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		change     func(r *poll.Receiver)
		forged     bool
	}{
		{"malformed", "[1]", func(*poll.Receiver) {}, false},
		{"without claims", body, func(r *poll.Receiver) {
			r.ClaimsFor = func(context.Context, *poll.Message) (*cloudinaryhook.Claims, error) { return nil, errors.New("down") }
		}, false},
		{"the clock is ahead", body, func(r *poll.Receiver) {
			r.Signature.Now = func() time.Time { return time.Now().Add(48 * time.Hour) }
		}, false},
		{"beside a forged one", "[1]", func(*poll.Receiver) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				a := new(api)
				r := newReceiver(a, fine)
				r.MaxAge, r.Logger = 10*time.Minute, slog.New(slog.NewTextHandler(&log, nil))
				tt.change(r)
				a.send("old", tt.body)
				if err := runFor(t, r, 20*time.Minute); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want Run to go on", err)
				}
				want := context.DeadlineExceeded
				if tt.forged {
					want = poll.ErrNothingVerifies
					a.send("forged", body)
					a.messages["forged"]["signature"] = strings.Repeat("0", 40)
				}
				if err := runFor(t, r, 6*time.Minute); !errors.Is(err, want) {
					t.Errorf("started again, got %v, want %v", err, want)
				}
				if !strings.Contains(log.String(), "outside the replay window") || len(a.acked) > 0 {
					t.Errorf("got %q acknowledged and the log\n%s, want none and a line about the replay window", a.acked, log.String())
				}
			})
		})
	}
}

// Without messages, Run goes on for ever, sends at most one request a second,
// and logs nothing.
func TestNothingComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(api)
		r := newReceiver(a, fine)
		r.Client.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
		if err := runFor(t, r, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		if len(a.asked) < 3500 || len(a.asked) > 3601 {
			t.Errorf("got %d requests in an hour, want one a second", len(a.asked))
		}
	})
}

// A permanent refusal of the API ends Run at once. Accepted messages are in the
// Store, and come again.
func TestRunEndsWhereTheAPIRefuses(t *testing.T) {
	for _, tt := range []struct {
		name     string
		receive  int
		ackError int
		want     error
	}{
		{"receive", http.StatusUnauthorized, 0, poll.ErrUnauthorized},
		{"acknowledge", 0, http.StatusNotFound, poll.ErrNotFound},
		{"acknowledge is not there for a while", 0, http.StatusBadGateway, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &api{ackError: tt.ackError}
				r := newReceiver(a, fine)
				if tt.receive != 0 {
					r.Client = answering(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.receive) })
				}
				a.send("the message", body)
				if err := runFor(t, r, time.Hour); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		})
	}
}

// When ctx ends, Run finishes the current message, and acknowledges it if the
// API can be reached in time.
func TestShutdownFinishesWhatIsInHand(t *testing.T) {
	for _, tt := range []struct {
		name     string
		ackError int
		acked    int
		ends     time.Duration
	}{
		{"all is well", 0, 1, 10 * time.Second},
		{"the API is down", http.StatusBadGateway, 0, 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				a, start := &api{ackError: tt.ackError}, time.Now()
				r := newReceiver(a, func(ctx context.Context, _ *cloudinaryhook.Image) error {
					cancel()
					time.Sleep(10 * time.Second)
					return ctx.Err()
				})
				a.send("the message", body)
				err := r.Run(ctx)
				if !errors.Is(err, context.Canceled) || len(a.acked) != tt.acked || time.Since(start) != tt.ends {
					t.Errorf("got %v and %q acknowledged after %v, want the context's error and %d after %v",
						err, a.acked, time.Since(start), tt.acked, tt.ends)
				}
			})
		})
	}
}

// A creator has Processor.Timeout, and the API hides the message from others
// for longer than that.
func TestTimeoutAndVisibility(t *testing.T) {
	for _, tt := range []struct{ timeout, want, visibility time.Duration }{
		{0, 15 * time.Second, 45 * time.Second},
		{time.Minute, time.Minute, 90 * time.Second},
	} {
		t.Run(tt.timeout.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, worked := new(api), time.Duration(0)
				r := newReceiver(a, func(ctx context.Context, _ *cloudinaryhook.Image) error {
					start := time.Now()
					<-ctx.Done()
					worked = time.Since(start)
					return ctx.Err()
				})
				r.Processor.Timeout = tt.timeout
				r.Concurrency = 7
				a.send("the message", body)
				runFor(t, r, time.Second)
				query := fmt.Sprintf("channel=images&max_messages=7&visibility_timeout=%.0f&wait_seconds=20", tt.visibility.Seconds())
				if worked != tt.want || a.query != query {
					t.Errorf("got %v and %s, want %v and %s", worked, a.query, tt.want, query)
				}
			})
		})
	}
}

// Run works on as many messages at the same time as Concurrency says.
func TestConcurrency(t *testing.T) {
	server := cloudinaryhooktest.NewPollServer(t)
	var together sync.WaitGroup
	together.Add(20)
	ctx, cancel := context.WithCancel(t.Context())
	r := &poll.Receiver{
		Client: newClient(server), Concurrency: 20,
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Processor: &cloudinaryhook.Processor{
			Store: new(cloudinaryhooktest.MemoryStore),
			Images: cloudinaryhook.ImageCreatorFunc(func(context.Context, *cloudinaryhook.Image) error {
				together.Done()
				together.Wait() // for all 20, or the test's timeout
				cancel()
				return nil
			}),
		},
	}
	for i := range 20 {
		server.Send("images", "", fmt.Appendf(nil, `{"notification_type":"upload","public_id":"%d","request_id":"%d"}`, i, i))
	}
	if err := r.Run(ctx); !errors.Is(err, context.Canceled) || server.Remaining() != 0 {
		t.Errorf("got %v and %d that remain, want the context's error and none", err, server.Remaining())
	}
}

// However many messages are left, the log has one line a minute and a last one.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(api)
		r := newReceiver(a, func(context.Context, *cloudinaryhook.Image) error { return errors.New("down") })
		var log strings.Builder
		r.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr {
			if attr.Key == slog.TimeKey || attr.Key == "last_error" {
				return slog.Attr{}
			}
			return attr
		}}))
		a.send("fails", body)
		a.send("forged", body)
		a.messages["forged"]["signature"] = strings.Repeat("0", 40)
		runFor(t, r, 150500*time.Millisecond) // rounds at second 0 to 150
		const left = `level=WARN msg="cloudinary messages left, they come again" `
		want := left + "refused=1 failed=1 unacknowledged=0\n" +
			left + "refused=60 failed=60 unacknowledged=0\n" +
			left + "refused=60 failed=60 unacknowledged=0\n" +
			left + "refused=30 failed=30 unacknowledged=0\n"
		if diff := cmp.Diff(want, log.String()); diff != "" {
			t.Errorf("log differs (-want +got):\n%s", diff)
		}
	})
}

// If a Logger panics, Run and the process go on.
func TestLoggerPanics(t *testing.T) {
	logger := slog.New(slog.NewTextHandler(writerFunc(func([]byte) (int, error) { panic("no space left") }), nil))
	synctest.Test(t, func(t *testing.T) {
		a, failures := new(api), 1
		r := newReceiver(a, fine)
		r.Client = answering(func(w http.ResponseWriter, r *http.Request) {
			if failures--; failures >= 0 {
				w.WriteHeader(http.StatusBadGateway) // the Client logs it
				return
			}
			a.ServeHTTP(w, r)
		})
		r.ClaimsFor = func(_ context.Context, m *poll.Message) (*cloudinaryhook.Claims, error) {
			if m.ReceiptHandle == "panics" { // the Receiver logs the panic, and at the end the message that was left
				panic("bug")
			}
			return nil, nil
		}
		r.Logger, r.Client.Logger = logger, logger
		a.send("panics", body)
		a.send("the message", body)
		if err := runFor(t, r, 3*time.Second); !errors.Is(err, context.DeadlineExceeded) || !slices.Equal(a.acked, []string{"the message"}) {
			t.Errorf("got %v and %q acknowledged, want the context's error and the message", err, a.acked)
		}
	})
}

func TestReceiverRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*poll.Receiver)
		want   error
	}{
		{"the zero value", func(r *poll.Receiver) { *r = poll.Receiver{} }, cloudinaryhook.ErrMisconfigured},
		{"no client", func(r *poll.Receiver) { r.Client = nil }, cloudinaryhook.ErrMisconfigured},
		{"an empty client", func(r *poll.Receiver) { r.Client = new(poll.Client) }, cloudinaryhook.ErrMisconfigured},
		{"no verifier", func(r *poll.Receiver) { r.Signature = nil }, cloudinaryhook.ErrMisconfigured},
		{"no secrets", func(r *poll.Receiver) { r.Signature.Secrets = nil }, cloudinaryhook.ErrNoSecrets},
		{"a blank secret", func(r *poll.Receiver) { r.Signature.Secrets = []string{"the API secret", " "} }, cloudinaryhook.ErrNoSecrets},
		{"a secret with a line break", func(r *poll.Receiver) { r.Signature.Secrets = []string{"test\n"} }, cloudinaryhook.ErrNoSecrets},
		{"no processor", func(r *poll.Receiver) { r.Processor = nil }, cloudinaryhook.ErrMisconfigured},
		{"an empty processor", func(r *poll.Receiver) { r.Processor = new(cloudinaryhook.Processor) }, cloudinaryhook.ErrMisconfigured},
		{"concurrency -1", func(r *poll.Receiver) { r.Concurrency = -1 }, cloudinaryhook.ErrMisconfigured},
		{"concurrency 101", func(r *poll.Receiver) { r.Concurrency = 101 }, cloudinaryhook.ErrMisconfigured},
		{"a negative age", func(r *poll.Receiver) { r.MaxAge = -1 }, cloudinaryhook.ErrMisconfigured},
		{"negative patience", func(r *poll.Receiver) { r.Unverified = -1 }, cloudinaryhook.ErrMisconfigured},
		{"visible while worked on", func(r *poll.Receiver) { r.Client.Visibility = 44 * time.Second }, cloudinaryhook.ErrMisconfigured},
		{"a timeout beyond all visibility", func(r *poll.Receiver) { r.Processor.Timeout = 10 * time.Minute }, cloudinaryhook.ErrMisconfigured},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := new(api)
			r := newReceiver(a, fine)
			tt.change(r)
			if err := r.Run(t.Context()); !errors.Is(err, tt.want) || len(a.asked) > 0 {
				t.Errorf("got %v and %d requests, want %v and none", err, len(a.asked), tt.want)
			}
		})
	}
	if err := (*poll.Receiver)(nil).Run(t.Context()); !errors.Is(err, cloudinaryhook.ErrMisconfigured) {
		t.Errorf("nil got %v, want ErrMisconfigured", err)
	}
}
