package poll_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/poll"
)

const body = `{"notification_type":"upload","public_id":"beach>?","request_id":"1"}` // has - and _ in base64url

func newClient(s *cloudinaryhooktest.PollServer) *poll.Client {
	return &poll.Client{
		CloudName: cloudinaryhooktest.DefaultCloudName, APIKey: cloudinaryhooktest.DefaultAPIKey, APISecret: cloudinaryhooktest.DefaultSecret,
		Channel: "images", BaseURL: s.URL, Wait: -1,
	}
}

// roundTripper answers without a network, so that a test's clock can be synctest's.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering returns a client whose requests h answers.
func answering(h http.HandlerFunc) *poll.Client {
	return &poll.Client{
		CloudName: "demo", APIKey: "key", APISecret: "a secret", Channel: "images",
		HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			h(w, r)
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return w.Result(), nil
		})},
	}
}

func TestReceiveAndAcknowledge(t *testing.T) {
	for _, address := range []struct{ channel, batch string }{{"images", ""}, {"", "batch/1"}} {
		t.Run(address.channel+address.batch, func(t *testing.T) {
			server := cloudinaryhooktest.NewPollServer(t)
			server.Send("other", "other", []byte(`{}`))
			server.Send(address.channel, address.batch, []byte(body))
			client := newClient(server)
			client.Channel, client.BatchID = address.channel, address.batch

			messages, err := client.Receive(t.Context())
			if err != nil || len(messages) != 1 {
				t.Fatalf("got %d messages and %v, want 1", len(messages), err)
			}
			m := messages[0]
			signedAt, err := m.Verify(&cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}})
			if err != nil || time.Since(signedAt) > time.Minute || string(m.Body) != body || m.BatchID != address.batch {
				t.Errorf("got %q of batch %q signed at %v, %v; want the body as it was sent, signed now", m.Body, m.BatchID, signedAt, err)
			}
			if again, err := client.Receive(t.Context()); err != nil || again != nil {
				t.Errorf("a second Receive got %v and %v, want no message: they are hidden", again, err)
			}
			server.Redeliver()
			again, err := client.Receive(t.Context())
			if err != nil || len(again) != 1 {
				t.Fatalf("after the visibility timeout got %d messages and %v, want 1", len(again), err)
			}
			if err := client.Acknowledge(t.Context(), m.ReceiptHandle); !errors.Is(err, poll.ErrNotAcknowledged) {
				t.Errorf("acknowledging an old receipt got %v, want ErrNotAcknowledged", err)
			}
			if err := client.Acknowledge(t.Context(), again[0].ReceiptHandle); err != nil {
				t.Errorf("Acknowledge got %v", err)
			}
			if server.Remaining() != 1 || server.Acknowledged() != 1 {
				t.Errorf("got %d remaining and %d acknowledged, want 1 (the other's) and 1", server.Remaining(), server.Acknowledged())
			}
		})
	}
}

// The requests are the same as those of pycloudinary 1.46.0.
func TestRequests(t *testing.T) {
	var got []string
	c := answering(func(w http.ResponseWriter, r *http.Request) {
		key, secret, _ := r.BasicAuth()
		data, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.URL.String()+" "+key+":"+secret+" "+string(data))
		if r.Method == http.MethodGet {
			io.WriteString(w, `{}`)
		} else {
			io.WriteString(w, `{"results":[{"status":"acked"},{"status":"acked"}]}`)
		}
	})
	for _, change := range []func(){
		func() {},
		func() { c.Wait, c.Visibility, c.MaxMessages = -1, 1500*time.Millisecond, 100 },
		func() { c.Channel, c.BatchID, c.BaseURL = "", "a&b", "https://api-eu.cloudinary.com/" },
	} {
		change()
		if messages, err := c.Receive(t.Context()); messages != nil || err != nil {
			t.Errorf("an empty answer got %v and %v, want neither", messages, err)
		}
	}
	if err := errors.Join(c.Acknowledge(t.Context()), c.Acknowledge(t.Context(), "a", "b")); err != nil {
		t.Error(err)
	}
	want := []string{
		"GET https://api.cloudinary.com/v2/notifications/demo/messages?channel=images&max_messages=10&visibility_timeout=30&wait_seconds=20 key:a secret ",
		"GET https://api.cloudinary.com/v2/notifications/demo/messages?channel=images&max_messages=100&visibility_timeout=2&wait_seconds=0 key:a secret ",
		"GET https://api-eu.cloudinary.com/v2/notifications/demo/messages?batch_id=a%26b&max_messages=100&visibility_timeout=2&wait_seconds=0 key:a secret ",
		`POST https://api-eu.cloudinary.com/v2/notifications/demo/messages/ack key:a secret {"receipt_handles":["a","b"]}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests differ (-want +got):\n%s", diff)
	}
}

// If the API returns more messages than the client asked for, Receive drops the
// rest: they come again.
func TestReceiveCutsWhatIsTooMuch(t *testing.T) {
	c := answering(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"messages":[{}`+strings.Repeat(`,{}`, 11)+`]}`)
	})
	for limit, want := range map[int]int{0: 10, 2: 2, 12: 12, 100: 12} {
		c.MaxMessages = limit
		if got, err := c.Receive(t.Context()); err != nil || len(got) != want {
			t.Errorf("MaxMessages %d got %d messages and %v, want %d", limit, len(got), err, want)
		}
	}
}

// Only "acked" is an acknowledgement. Another status is not, and a missing
// result is not.
func TestNotAcknowledged(t *testing.T) {
	tests := []struct {
		name, answer string
		want         error
	}{
		{"both", `{"results":[{"status":"acked"},{"status":"acked"}]}`, nil},
		{"another status", `{"results":[{"status":"acked"},{"status":"expired"}]}`, poll.ErrNotAcknowledged},
		{"one result", `{"results":[{"status":"acked"}]}`, poll.ErrNotAcknowledged},
		{"no status", `{"results":[{},{}]}`, poll.ErrNotAcknowledged},
		{"no results", `{}`, poll.ErrNotAcknowledged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := answering(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, tt.answer) })
			if err := c.Acknowledge(t.Context(), "a", "b"); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// Acknowledge sends 100 handles at a time. If one part fails, it still sends
// the others.
func TestAcknowledgeInParts(t *testing.T) {
	server := cloudinaryhooktest.NewPollServer(t)
	client := newClient(server)
	client.MaxMessages = 100
	var handles []string
	for range 250 {
		server.Send("images", "", []byte(body))
	}
	for range 3 {
		messages, err := client.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			handles = append(handles, m.ReceiptHandle)
		}
	}
	server.FailAcknowledge(nil, cloudinaryhooktest.FaultStatus(http.StatusBadRequest, ""))
	if err := client.Acknowledge(t.Context(), handles...); !errors.Is(err, poll.ErrRefused) {
		t.Errorf("got %v, want ErrRefused", err)
	}
	if server.Remaining() != 100 {
		t.Errorf("got %d that remain, want the 100 of the second part", server.Remaining())
	}
}

func TestStatuses(t *testing.T) {
	for status, want := range map[int]error{
		http.StatusMovedPermanently: poll.ErrRefused, // not followed
		http.StatusBadRequest:       poll.ErrRefused,
		http.StatusUnauthorized:     poll.ErrUnauthorized,
		http.StatusForbidden:        poll.ErrUnauthorized,
		http.StatusNotFound:         poll.ErrNotFound,
		http.StatusNoContent:        poll.ErrRefused, // the API has no such answer
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			requests := 0
			c := answering(func(w http.ResponseWriter, _ *http.Request) {
				requests++
				w.Header().Set("Location", "https://elsewhere.example/")
				w.WriteHeader(status)
			})
			if _, err := c.Receive(t.Context()); !errors.Is(err, want) || requests != 1 {
				t.Errorf("got %v after %d requests, want %v after one", err, requests, want)
			}
			if err := c.Acknowledge(t.Context(), "a"); !errors.Is(err, want) || requests != 2 {
				t.Errorf("Acknowledge got %v, want %v", err, want)
			}
		})
	}
}

// Temporary failures are tried again, with the pauses that the comment of
// Client promises.
func TestRetries(t *testing.T) {
	fine := func(w http.ResponseWriter) { io.WriteString(w, `{"messages":[{"receipt_handle":"a"}]}`) }
	status := func(status int, retryAfter string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", retryAfter)
			w.WriteHeader(status)
		}
	}
	text := func(s string) func(http.ResponseWriter) { return func(w http.ResponseWriter) { io.WriteString(w, s) } }
	tests := []struct {
		name     string
		answer   func(http.ResponseWriter)
		times    int
		min, max time.Duration
	}{
		{"429", status(http.StatusTooManyRequests, ""), 1, 250 * time.Millisecond, 500 * time.Millisecond},
		{"420", status(420, ""), 1, 250 * time.Millisecond, 500 * time.Millisecond},
		{"503 twice", status(http.StatusServiceUnavailable, ""), 2, 750 * time.Millisecond, 1500 * time.Millisecond},
		{"500 ten times", status(http.StatusInternalServerError, ""), 10, 2*time.Minute - 30*time.Second, 4 * time.Minute},
		{"Retry-After in seconds", status(http.StatusTooManyRequests, "7"), 1, 7 * time.Second, 7 * time.Second},
		{"Retry-After is a date", status(http.StatusTooManyRequests, "Sat, 01 Jan 2000 00:00:09 GMT"), 1, 9 * time.Second, 9 * time.Second},
		{"Retry-After is a date that has passed", status(http.StatusTooManyRequests, "Sat, 01 Jan 1999 00:00:09 GMT"), 1, 250 * time.Millisecond, 500 * time.Millisecond},
		{"Retry-After is a year", status(http.StatusTooManyRequests, "31536000"), 1, time.Hour, time.Hour},
		{"Retry-After is beyond all numbers", status(http.StatusTooManyRequests, "9223372036854775807"), 1, time.Hour, time.Hour},
		{"Retry-After is negative", status(http.StatusTooManyRequests, "-5"), 1, 250 * time.Millisecond, 500 * time.Millisecond},
		{"HTML", text("<html>"), 1, 250 * time.Millisecond, 500 * time.Millisecond},
		{"a list", text(`[{"receipt_handle":"a"}]`), 1, 250 * time.Millisecond, 500 * time.Millisecond},
		{"messages are no list", text(`{"messages":{"receipt_handle":"a"}}`), 1, 250 * time.Millisecond, 500 * time.Millisecond},
		{"null", text("null"), 1, 250 * time.Millisecond, 500 * time.Millisecond},
		{"cut", text(`{"messages":[{"rec`), 1, 250 * time.Millisecond, 500 * time.Millisecond},
		{"nothing", text(""), 1, 250 * time.Millisecond, 500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests, start := 0, time.Now()
				c := answering(func(w http.ResponseWriter, _ *http.Request) {
					if requests++; requests <= tt.times {
						tt.answer(w)
						return
					}
					fine(w)
				})
				messages, err := c.Receive(t.Context())
				if took := time.Since(start); err != nil || len(messages) != 1 || requests != tt.times+1 || took < tt.min || took > tt.max {
					t.Errorf("got %d messages and %v after %d requests and %v; want 1 after %d and %v to %v",
						len(messages), err, requests, took, tt.times+1, tt.min, tt.max)
				}
			})
		})
	}
}

// The client gives a request up if there is no answer after Wait and 30 s, and
// makes it again.
func TestReceiveOutlastsItsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, start := 0, time.Now()
		c := answering(func(w http.ResponseWriter, r *http.Request) {
			switch requests++; requests {
			case 1:
				<-r.Context().Done()
			case 2:
				time.Sleep(61 * time.Second) // the server uses up all of wait_seconds
			}
			io.WriteString(w, `{}`)
		})
		c.Wait = time.Minute
		_, err := c.Receive(t.Context())
		if took := time.Since(start); err != nil || requests != 2 || took < 151*time.Second || took > 152*time.Second {
			t.Errorf("got %v after %d requests and %v, want nil after 2 and 90 s and 61 s", err, requests, took)
		}
	})
}

// When the context ends, the error wraps the context's error and the last
// failure.
func TestReceiveEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var log strings.Builder
		c := answering(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		start := time.Now()
		_, err := c.Receive(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, poll.ErrUnavailable) || time.Since(start) != 10*time.Minute {
			t.Errorf("got %v after %v, want the context's error and ErrUnavailable after 10 m", err, time.Since(start))
		}
		if lines := strings.Count(log.String(), "\n"); lines < 15 || lines > 30 || !strings.Contains(log.String(), "status 502") {
			t.Errorf("got %d lines, want one for each attempt:\n%s", lines, &log)
		}
	})
}

func TestAnswerTooLarge(t *testing.T) {
	var read int64
	c := answering(nil)
	c.HTTPClient.Transport = roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(endless{&read})}, nil
	})
	if _, err := c.Receive(t.Context()); !errors.Is(err, poll.ErrAnswerTooLarge) || read > 65<<20 {
		t.Errorf("got %v after %d bytes, want ErrAnswerTooLarge after 64 MiB", err, read)
	}
}

var spaces = bytes.Repeat([]byte(" "), 1<<16)

type endless struct{ read *int64 }

func (e endless) Read(p []byte) (int, error) {
	n := copy(p, spaces)
	*e.read += int64(n)
	return n, nil
}

func TestClientRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*poll.Client)
	}{
		{"the zero value", func(c *poll.Client) { *c = poll.Client{} }},
		{"no cloud name", func(c *poll.Client) { c.CloudName = "" }},
		{"no key", func(c *poll.Client) { c.APIKey = "" }},
		{"no secret", func(c *poll.Client) { c.APISecret = "" }},
		{"a blank secret", func(c *poll.Client) { c.APISecret = " \n" }},
		{"a secret with a line break", func(c *poll.Client) { c.APISecret += "\n" }},
		{"a secret in quotes", func(c *poll.Client) { c.APISecret = `"secret"` }},
		{"neither channel nor batch", func(c *poll.Client) { c.Channel = "" }},
		{"both", func(c *poll.Client) { c.BatchID = "1" }},
		{"101 messages", func(c *poll.Client) { c.MaxMessages = 101 }},
		{"-1 messages", func(c *poll.Client) { c.MaxMessages = -1 }},
		{"61 s", func(c *poll.Client) { c.Wait = 61 * time.Second }},
		{"visible at once", func(c *poll.Client) { c.Visibility = time.Millisecond }},
		{"hidden for 11 m", func(c *poll.Client) { c.Visibility = 11 * time.Minute }},
		{"a timeout as short as the wait", func(c *poll.Client) { c.HTTPClient.Timeout = 20 * time.Second }},
		{"the secret in the clear", func(c *poll.Client) { c.BaseURL = "http://api.example" }},
		{"localhost is only a part", func(c *poll.Client) { c.BaseURL = "http://localhost.example" }},
		{"another scheme", func(c *poll.Client) { c.BaseURL = "ftp://localhost" }},
		{"no host", func(c *poll.Client) { c.BaseURL = "https://" }},
		{"no URL", func(c *poll.Client) { c.BaseURL = "https://%zz" }},
		{"a query", func(c *poll.Client) { c.BaseURL = "https://api.example/?a=b" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			requests := 0
			c := answering(func(http.ResponseWriter, *http.Request) { requests++ })
			tt.change(c)
			_, err := c.Receive(t.Context())
			if err2 := c.Acknowledge(t.Context(), "a"); !errors.Is(err, cloudinaryhook.ErrMisconfigured) || !errors.Is(err2, cloudinaryhook.ErrMisconfigured) || requests > 0 {
				t.Errorf("got %v, %v and %d requests, want ErrMisconfigured and none", err, err2, requests)
			}
		})
	}
	if _, err := (*poll.Client)(nil).Receive(t.Context()); !errors.Is(err, cloudinaryhook.ErrMisconfigured) {
		t.Errorf("nil got %v, want ErrMisconfigured", err)
	}
}

// No error holds the secret, the key or the URL.
func TestErrorsKeepSecrets(t *testing.T) {
	c := answering(nil)
	c.CloudName, c.APIKey, c.APISecret, c.BaseURL = "cloud-name", "api-key", "api-secret", "https://base-url.example"
	ctx, cancel := context.WithCancel(t.Context())
	var log strings.Builder
	c.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		cancel() // while it waits for the next attempt
		return log.Write(p)
	}), nil))
	c.HTTPClient.Transport = roundTripper(func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	})
	_, err := c.Receive(ctx)
	for _, text := range []string{err.Error(), log.String()} {
		if !strings.Contains(text, "connection refused") {
			t.Errorf("got %s, want the cause in it", text)
		}
		for _, secret := range []string{c.CloudName, c.APIKey, c.APISecret, "base-url", "YXBpLWtleTphcGktc2VjcmV0"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s says %s", text, secret)
			}
		}
	}
}

// An answer may repeat the request, as a proxy's page does. So no error and no
// log line holds text of the answer, even if it is not HTTP.
func TestErrorsHoldNoTextOfTheAnswer(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	tests := []struct{ name, answer string }{
		{"a page alone", "<html>peer-text</html>\r\n\r\n"},
		{"the version", "HTTP/peer-text 200 OK\r\n\r\n"},
		{"the status code", "HTTP/1.1 peer-text OK\r\n\r\n"},
		{"a header line", ok + "peer-text\r\n\r\n"},
		{"Content-Length", ok + "Content-Length: peer-text\r\n\r\n"},
		{"Transfer-Encoding", ok + "Transfer-Encoding: peer-text\r\n\r\n"},
		{"Location", "HTTP/1.1 302 Found\r\nLocation: https://%zz/peer-text\r\nContent-Length: 0\r\n\r\n"},
		{"a trailer", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\npeer-text\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, tt.answer)
			}))
			defer server.Close()
			ctx, cancel := context.WithCancel(t.Context())
			var log strings.Builder
			c := &poll.Client{CloudName: "demo", APIKey: "key", APISecret: "secret", Channel: "images", BaseURL: server.URL}
			c.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
				cancel()
				return log.Write(p)
			}), nil))
			_, err := c.Receive(ctx)
			if !errors.Is(err, poll.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if text := err.Error() + log.String(); strings.Contains(text, "peer-text") {
				t.Errorf("got %s, want no text of the answer", text)
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// signed is a complete message, as the API writes it.
func signed(body, timestamp string) map[string]any {
	return map[string]any{
		"receipt_handle": "receipt", "batch_id": "batch", "payload": map[string]any{"decoded": "by somebody else"},
		"signed_payload": base64.RawURLEncoding.EncodeToString([]byte(body)),
		"signature":      cloudinaryhook.Sign(crypto.SHA1, []byte(body), timestamp, "the API secret"),
		"timestamp":      timestamp,
	}
}

func TestMessageVerify(t *testing.T) {
	const timestamp = "1700000000"
	tests := []struct {
		name   string
		change func(map[string]any)
		want   error
		says   string
	}{
		{"genuine", func(map[string]any) {}, nil, ""},
		{"SHA-256", func(m map[string]any) {
			m["signature"] = cloudinaryhook.Sign(crypto.SHA256, []byte(body), timestamp, "the API secret")
		}, nil, ""},
		{"the time is a number", func(m map[string]any) { m["timestamp"] = 1700000000 }, nil, ""},
		{"an odd batch", func(m map[string]any) { m["batch_id"] = []int{1} }, nil, ""},
		{"no receipt handle", func(m map[string]any) { delete(m, "receipt_handle") }, poll.ErrInvalidMessage, "receipt_handle"},
		{"an odd receipt handle", func(m map[string]any) { m["receipt_handle"] = 1 }, poll.ErrInvalidMessage, "receipt_handle"},
		{"no body", func(m map[string]any) { delete(m, "signed_payload") }, poll.ErrInvalidMessage, "signed_payload"},
		{"a padded body", func(m map[string]any) { m["signed_payload"] = "e30=" }, poll.ErrInvalidMessage, "signed_payload"},
		{"the other alphabet", func(m map[string]any) { m["signed_payload"] = "++//" }, poll.ErrInvalidMessage, "signed_payload"},
		{"no signature", func(m map[string]any) { delete(m, "signature") }, poll.ErrInvalidMessage, "signature"},
		{"no time", func(m map[string]any) { delete(m, "timestamp") }, poll.ErrInvalidMessage, "timestamp"},
		{"the time is null", func(m map[string]any) { m["timestamp"] = nil }, poll.ErrInvalidMessage, "timestamp"},
		{"the time is another's", func(m map[string]any) { m["timestamp"] = "1700000001" }, cloudinaryhook.ErrSignatureMismatch, ""},
		{"the time is no integer", func(m map[string]any) { m["timestamp"] = "1.7e9" }, cloudinaryhook.ErrInvalidTimestamp, ""},
		{"stale", func(m map[string]any) { m["timestamp"] = "1600000000" }, cloudinaryhook.ErrStaleTimestamp, ""},
		{"another body", func(m map[string]any) { m["signed_payload"] = "e30" }, cloudinaryhook.ErrSignatureMismatch, ""},
	}
	verifier := &cloudinaryhook.SignatureVerifier{Secrets: []string{"the API secret"}, Now: func() time.Time { return time.Unix(1700000060, 0) }}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wire := signed(body, timestamp)
			tt.change(wire)
			c := answering(func(w http.ResponseWriter, _ *http.Request) {
				json.NewEncoder(w).Encode(map[string]any{"messages": []any{wire, signed(body, timestamp)}})
			})
			messages, err := c.Receive(t.Context())
			if err != nil || len(messages) != 2 {
				t.Fatalf("got %d messages and %v, want 2", len(messages), err)
			}
			signedAt, err := messages[0].Verify(verifier)
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v that says %q", err, tt.want, tt.says)
			}
			if tt.want == nil && (!signedAt.Equal(time.Unix(1700000000, 0)) || string(messages[0].Body) != body) {
				t.Errorf("got %q of %v, want the body and 1700000000", messages[0].Body, signedAt)
			}
			if _, err := messages[1].Verify(verifier); err != nil {
				t.Errorf("the message beside it got %v", err)
			}
		})
	}
}

// TestPublishedMessage reads a message in the shape of an official SDK's tests.
// The message is not part of this project: CLOUDINARYHOOK_CORPUS names its
// folder.
func TestPublishedMessage(t *testing.T) {
	corpus := os.Getenv("CLOUDINARYHOOK_CORPUS")
	if corpus == "" {
		t.Skip("CLOUDINARYHOOK_CORPUS does not name a folder with published bodies")
	}
	var m poll.Message
	readJSON(t, filepath.Join(corpus, "payloads", "poll-message-1.json"), &m)
	var vectors []struct {
		Signature string `json:"expected_signature"`
		Secret    string `json:"api_secret"`
	}
	readJSON(t, filepath.Join(corpus, "vectors.json"), &vectors)
	for _, v := range vectors {
		if v.Signature != m.Signature {
			continue
		}
		verifier := &cloudinaryhook.SignatureVerifier{Secrets: []string{v.Secret}, Now: func() time.Time { return time.Unix(1549533514, 0) }}
		signedAt, err := m.Verify(verifier)
		if err != nil {
			t.Fatal(err)
		}
		d, err := cloudinaryhook.NewDelivery(m.Body, nil, signedAt)
		if err != nil || d.PublicID != "sample" || d.RequestID != "req_1" || m.BatchID != "batch_1" {
			t.Errorf("got %v and %v of batch %q, want sample of req_1 of batch_1", d, err, m.BatchID)
		}
		return
	}
	t.Error("no vector has the message's signature")
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}
