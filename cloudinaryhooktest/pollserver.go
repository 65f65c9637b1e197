package cloudinaryhooktest

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// A PollServer accepts only clients that have these values, and [DefaultSecret]
// as the API secret. They are public: use them only in tests.
const (
	DefaultCloudName = "test-cloud"
	DefaultAPIKey    = "test-api-key"
)

// A PollServer is a fake of Cloudinary's polling API on this machine, to test
// apps that poll. It holds a request while there is no message. When it delivers
// a message, it hides the message for the visibility timeout. Then it delivers
// the message again, unless a client has acknowledged it.
//
// A PollServer behaves as pycloudinary 1.46.0 (18 August 2026) describes the
// API. Where nothing is published, it is strict. Each time that it delivers a
// message, the message has a new handle. A handle is valid only until its
// message is visible again. After that, the status for it is "not_found".
//
// Make it with [NewPollServer]. All methods may be called concurrently.
type PollServer struct {
	// URL is the base URL: poll.Client.BaseURL.
	URL string

	server  *httptest.Server
	closing chan struct{} // closed to end the requests that wait

	mu           sync.Mutex
	changed      chan struct{} // closed when a message may have become visible
	messages     []*pollMessage
	receipts     int
	acknowledged int
	faults       map[string][]PollFault // by method
}

type pollMessage struct {
	channel, batchID string
	wire             pollWire
	visibleAt        time.Time
}

type pollWire struct {
	ReceiptHandle string          `json:"receipt_handle,omitempty"`
	BatchID       string          `json:"batch_id"`
	Payload       json.RawMessage `json:"payload,omitempty"`
	SignedPayload string          `json:"signed_payload"`
	Signature     string          `json:"signature"`
	Timestamp     string          `json:"timestamp"`
}

// NewPollServer starts a server that ends with the test. In examples tb may be
// nil; then call Close.
func NewPollServer(tb testing.TB) *PollServer {
	s := &PollServer{closing: make(chan struct{}), changed: make(chan struct{}), faults: make(map[string][]PollFault)}
	path := "/v2/notifications/" + DefaultCloudName + "/messages"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, s.receive)
	mux.HandleFunc("POST "+path+"/ack", s.acknowledge)
	s.server = httptest.NewServer(s.withFaults(authenticate(mux)))
	s.URL = s.server.URL
	if tb != nil {
		tb.Cleanup(s.Close)
	}
	return s
}

// Close ends the server and all requests that wait. It may be called twice.
func (s *PollServer) Close() {
	s.mu.Lock()
	select {
	case <-s.closing:
	default:
		close(s.closing)
	}
	s.mu.Unlock()
	s.server.CloseClientConnections()
	s.server.Close()
}

// Send keeps a notification for clients that poll this channel or this batch;
// either may be empty. The options [WithSecret], [WithHash], [WithTime] and
// [WithTimestamp] change how it is signed, as for [NewRequest]. Other options
// change nothing.
func (s *PollServer) Send(channel, batchID string, body []byte, opts ...Option) {
	o := options{secret: DefaultSecret, hash: crypto.SHA1, timestamp: strconv.FormatInt(time.Now().Unix(), 10), header: make(http.Header)}
	for _, opt := range opts {
		opt(&o)
	}
	m := &pollMessage{channel: channel, batchID: batchID, wire: pollWire{
		BatchID:       batchID,
		SignedPayload: base64.RawURLEncoding.EncodeToString(body),
		Signature:     cloudinaryhook.Sign(o.hash, body, o.timestamp, o.secret),
		Timestamp:     o.timestamp,
	}}
	if json.Valid(body) {
		m.wire.Payload = body
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, m)
	s.wake()
}

// Redeliver makes all hidden messages visible, as if their visibility timeouts
// had passed.
func (s *PollServer) Redeliver() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		m.visibleAt = time.Time{}
	}
	s.wake()
}

// Remaining returns how many messages are not acknowledged, visible or hidden.
func (s *PollServer) Remaining() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
}

// Acknowledged returns how many messages were acknowledged.
func (s *PollServer) Acknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acknowledged
}

// Receipts returns how many messages the server has delivered. If it delivered a
// message twice, both times count.
func (s *PollServer) Receipts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.receipts
}

// wake makes all waiting requests look again. The caller must hold the lock.
func (s *PollServer) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key, secret, _ := r.BasicAuth(); key != DefaultAPIKey || secret != DefaultSecret {
			answerError(w, http.StatusUnauthorized, "unknown api_key or wrong secret")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *PollServer) receive(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Has("channel") == query.Has("batch_id") {
		answerError(w, http.StatusBadRequest, "supply exactly one of channel and batch_id")
		return
	}
	limit, err1 := number(query.Get("max_messages"), 10, 1, 100)
	wait, err2 := number(query.Get("wait_seconds"), 20, 0, 60)
	visibility, err3 := number(query.Get("visibility_timeout"), 30, 1, 600)
	if err1 != nil || err2 != nil || err3 != nil {
		answerError(w, http.StatusBadRequest, "a number is out of range")
		return
	}
	deadline := time.NewTimer(time.Duration(wait) * time.Second)
	defer deadline.Stop()
	for {
		claimed, changed, next := s.claim(query.Get("channel"), query.Get("batch_id"), limit, time.Duration(visibility)*time.Second)
		if len(claimed) > 0 {
			answer(w, http.StatusOK, map[string]any{"messages": claimed})
			return
		}
		visible := time.NewTimer(next)
		select {
		case <-changed:
		case <-visible.C:
		case <-deadline.C:
			answer(w, http.StatusOK, struct{}{})
			return
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		}
		visible.Stop()
	}
}

// claim hides up to limit messages and returns them. changed is closed when
// there may be new ones, and next is the time until a hidden one becomes
// visible.
func (s *PollServer) claim(channel, batchID string, limit int, visibility time.Duration) (claimed []pollWire, changed <-chan struct{}, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	next = time.Hour
	for _, m := range s.messages {
		mine := channel != "" && m.channel == channel || batchID != "" && m.batchID == batchID
		switch {
		case !mine || len(claimed) == limit:
		case m.visibleAt.After(now):
			next = min(next, m.visibleAt.Sub(now))
		default:
			s.receipts++
			m.wire.ReceiptHandle = fmt.Sprintf("receipt-%d", s.receipts)
			m.visibleAt = now.Add(visibility)
			claimed = append(claimed, m.wire)
		}
	}
	return claimed, s.changed, next
}

func (s *PollServer) acknowledge(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Handles []string `json:"receipt_handles"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&body); err != nil || len(body.Handles) == 0 || len(body.Handles) > 100 {
		answerError(w, http.StatusBadRequest, "receipt_handles must have 1 to 100")
		return
	}
	type result struct {
		ReceiptHandle string `json:"receipt_handle"`
		Status        string `json:"status"`
	}
	results := make([]result, len(body.Handles))
	for i, handle := range body.Handles {
		results[i] = result{handle, "not_found"}
		if s.remove(handle) {
			results[i].Status = "acked"
		}
	}
	answer(w, http.StatusOK, map[string]any{"results": results})
}

func (s *PollServer) remove(handle string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.messages {
		if m.wire.ReceiptHandle == handle && m.visibleAt.After(time.Now()) {
			s.messages = append(s.messages[:i], s.messages[i+1:]...)
			s.acknowledged++
			return true
		}
	}
	return false
}

func number(text string, fallback, low, high int) (int, error) {
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(text)
	if err == nil && (n < low || n > high) {
		err = strconv.ErrRange
	}
	return n, err
}

func answer(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // cannot happen: these types can always be encoded
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

func answerError(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]any{"error": map[string]string{"message": message}})
}
