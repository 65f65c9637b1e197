package cloudinaryhooktest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/poll"
)

func pollClient(s *cloudinaryhooktest.PollServer) *poll.Client {
	return &poll.Client{
		CloudName: cloudinaryhooktest.DefaultCloudName, APIKey: cloudinaryhooktest.DefaultAPIKey, APISecret: cloudinaryhooktest.DefaultSecret,
		Channel: "c", BaseURL: s.URL, Visibility: time.Second,
	}
}

// A request returns as soon as there is a message, not only when its wait is
// over.
func TestPollServerHoldsRequests(t *testing.T) {
	tests := []struct {
		name   string
		before func(*cloudinaryhooktest.PollServer, *poll.Client)
		during func(*cloudinaryhooktest.PollServer)
	}{
		{"for a new message", nil, func(s *cloudinaryhooktest.PollServer) { s.Send("c", "", []byte(`{}`)) }},
		{"for one that was handed out", claimOne, func(s *cloudinaryhooktest.PollServer) { s.Redeliver() }},
		{"for the visibility timeout", claimOne, func(*cloudinaryhooktest.PollServer) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := cloudinaryhooktest.NewPollServer(t)
			client := pollClient(server)
			if tt.before != nil {
				tt.before(server, client)
			}
			waits := make(chan struct{})
			server.FailReceive(func(next http.Handler) http.Handler {
				close(waits)
				return next
			})
			go func() {
				<-waits
				tt.during(server)
			}()
			start := time.Now()
			messages, err := client.Receive(t.Context())
			if took := time.Since(start); err != nil || len(messages) != 1 || took > 15*time.Second {
				t.Errorf("got %d messages and %v after %v, want one before the 20 s are over", len(messages), err, took)
			}
		})
	}
}

func claimOne(s *cloudinaryhooktest.PollServer, c *poll.Client) {
	s.Send("c", "", []byte(`{}`))
	if _, err := c.Receive(context.Background()); err != nil {
		panic(err)
	}
}

func TestPollServerRefuses(t *testing.T) {
	server := cloudinaryhooktest.NewPollServer(t)
	const path = "/v2/notifications/" + cloudinaryhooktest.DefaultCloudName + "/messages"
	handles := func(n int) string { return `{"receipt_handles":["` + strings.Repeat(`a","`, n-1) + `a"]}` }
	tests := []struct {
		name, method, path, body, key string
		want                          int
	}{
		{"nothing", "GET", path + "?channel=c&wait_seconds=0", "", cloudinaryhooktest.DefaultAPIKey, 200},
		{"another key", "GET", path + "?channel=c", "", "other", 401},
		{"another cloud", "GET", "/v2/notifications/other/messages?channel=c", "", cloudinaryhooktest.DefaultAPIKey, 404},
		{"no address", "GET", path, "", cloudinaryhooktest.DefaultAPIKey, 400},
		{"two addresses", "GET", path + "?channel=c&batch_id=b", "", cloudinaryhooktest.DefaultAPIKey, 400},
		{"no messages", "GET", path + "?channel=c&max_messages=0", "", cloudinaryhooktest.DefaultAPIKey, 400},
		{"too many messages", "GET", path + "?channel=c&max_messages=101", "", cloudinaryhooktest.DefaultAPIKey, 400},
		{"too long a wait", "GET", path + "?channel=c&wait_seconds=61", "", cloudinaryhooktest.DefaultAPIKey, 400},
		{"no visibility timeout", "GET", path + "?channel=c&visibility_timeout=0", "", cloudinaryhooktest.DefaultAPIKey, 400},
		{"no number", "GET", path + "?channel=c&visibility_timeout=1s", "", cloudinaryhooktest.DefaultAPIKey, 400},
		{"100 handles", "POST", path + "/ack", handles(100), cloudinaryhooktest.DefaultAPIKey, 200},
		{"101 handles", "POST", path + "/ack", handles(101), cloudinaryhooktest.DefaultAPIKey, 400},
		{"no handles", "POST", path + "/ack", `{}`, cloudinaryhooktest.DefaultAPIKey, 400},
		{"no JSON", "POST", path + "/ack", `receipt_handles=a`, cloudinaryhooktest.DefaultAPIKey, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, server.URL+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth(tt.key, cloudinaryhooktest.DefaultSecret)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("got %d, want %d", resp.StatusCode, tt.want)
			}
		})
	}
}

// Each fault does what its comment says, as a plain HTTP client sees it.
func TestPollServerFaults(t *testing.T) {
	server := cloudinaryhooktest.NewPollServer(t)
	get := func() (status int, body string, err error) {
		req, err := http.NewRequest("GET", server.URL+"/v2/notifications/test-cloud/messages?channel=c&wait_seconds=0", nil)
		if err != nil {
			return 0, "", err
		}
		req.SetBasicAuth(cloudinaryhooktest.DefaultAPIKey, cloudinaryhooktest.DefaultSecret)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(data) + resp.Header.Get("Retry-After"), err
	}
	server.Send("c", "", []byte(`{}`))
	server.FailReceive(cloudinaryhooktest.FaultStatus(503, "7"), cloudinaryhooktest.FaultHTML, nil,
		cloudinaryhooktest.FaultCut, cloudinaryhooktest.FaultLost, cloudinaryhooktest.FaultSlow(time.Millisecond))
	if status, body, err := get(); err != nil || status != 503 || !strings.HasSuffix(body, "}7") {
		t.Errorf("FaultStatus got %d, %q, %v", status, body, err)
	}
	if status, body, err := get(); err != nil || status != 200 || !strings.HasPrefix(body, "<html>") {
		t.Errorf("FaultHTML got %d, %q, %v", status, body, err)
	}
	if status, body, err := get(); err != nil || status != 200 || !strings.Contains(body, "receipt-1") {
		t.Errorf("no fault got %d, %q, %v", status, body, err)
	}
	server.Redeliver()
	if status, body, err := get(); !errors.Is(err, io.ErrUnexpectedEOF) || status != 200 || !strings.HasPrefix(body, `{"messages"`) {
		t.Errorf("FaultCut got %d, %q, %v", status, body, err)
	}
	server.Redeliver()
	if status, body, err := get(); err == nil || server.Receipts() != 3 {
		t.Errorf("FaultLost got %d, %q, %v and %d receipts, want an error and 3", status, body, err, server.Receipts())
	}
	server.Redeliver()
	if status, body, err := get(); err != nil || status != 200 || !strings.Contains(body, "receipt-4") {
		t.Errorf("FaultSlow got %d, %q, %v", status, body, err)
	}
}

// Close ends a request that waits. It also works without a test, as in
// examples.
func TestPollServerCloses(t *testing.T) {
	server := cloudinaryhooktest.NewPollServer(nil)
	waits := make(chan struct{})
	server.FailReceive(func(next http.Handler) http.Handler {
		close(waits)
		return next
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := pollClient(server).Receive(ctx)
		ended <- err
	}()
	<-waits
	server.Close()
	server.Close()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
