// Package sender plays Cloudinary for a receiver: it signs notifications and
// posts them.
package sender

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/httperr"
)

// A Sender signs for one product environment. It is safe for concurrent use as
// long as its fields are not changed.
type Sender struct {
	Endpoint string      // the receiver's URL, without a token unless Key is nil
	Secret   string      // the API secret
	Hash     crypto.Hash // 0: SHA-1, Cloudinary's default
	Key      []byte      // the token key; nil: no token

	// Age is the age of the signature's timestamp; 0: now.
	Age time.Duration
}

// A Notification is signed. It can be posted any number of times. It holds a
// token and a valid signature, so keep it secret.
type Notification struct {
	body      []byte
	url       string
	timestamp string
	signature string
}

// Sign makes a notification from a body, with a token for these claims.
func (s *Sender) Sign(body []byte, claims jwt.Claims) (*Notification, error) {
	n := &Notification{body: body, url: s.Endpoint, timestamp: strconv.FormatInt(time.Now().Add(-s.Age).Unix(), 10)}
	if s.Key != nil {
		token, err := cloudinaryhook.SignToken(s.Key, claims)
		if err != nil {
			return nil, err
		}
		if n.url, err = cloudinaryhook.NotificationURL(s.Endpoint, token); err != nil {
			return nil, err
		}
	}
	hash := s.Hash
	if hash == 0 {
		hash = crypto.SHA1
	}
	n.signature = cloudinaryhook.Sign(hash, body, n.timestamp, s.Secret)
	return n, nil
}

// Signed returns a notification that somebody else has signed.
func Signed(url string, body []byte, timestamp, signature string) *Notification {
	return &Notification{body, url, timestamp, signature}
}

// Request returns the request that Post sends.
func (n *Notification) Request(ctx context.Context) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(n.body))
	if err != nil {
		return nil, errors.New("the URL is malformed") // err quotes it, and the token in it
	}
	// As in recorded requests, although the body is JSON.
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set(cloudinaryhook.TimestampHeader, n.timestamp)
	r.Header.Set(cloudinaryhook.SignatureHeader, n.signature)
	return r, nil
}

// An Answer is the answer of a receiver.
type Answer struct {
	Status     int
	DeliveryID string // empty if the receiver did not authenticate the notification
	Location   string // of a redirect; without its query, which may hold the token
}

// Post sends the notification once. The error never holds the URL, which has
// the token in it.
func (n *Notification) Post(ctx context.Context, client *http.Client) (Answer, error) {
	r, err := n.Request(ctx)
	if err != nil {
		return Answer{}, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return Answer{}, httperr.WithoutPeerText(err)
	}
	defer resp.Body.Close()
	// Read to its end, within reason, so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	answer := Answer{Status: resp.StatusCode, DeliveryID: resp.Header.Get("X-Delivery-ID")}
	if to, err := resp.Location(); err == nil {
		answer.Location = (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String()
	}
	return answer, nil
}

// Curl returns a shell command that posts the notification. Anybody who reads
// it can send this notification as long as its signature is in the replay
// window.
func (n *Notification) Curl() string {
	return fmt.Sprintf("curl -i -H '%s: %s' -H '%s: %s' --data-raw %s %s",
		cloudinaryhook.TimestampHeader, n.timestamp, cloudinaryhook.SignatureHeader, n.signature,
		Quote(string(n.body)), Quote(n.url))
}

// Quote quotes a text so that a shell reads it as one word.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// FreshBody returns the golden body of this name, such as "upload-simple", with
// new IDs: it is about a new event and a new asset. Its public ID begins with
// publicID, or with the golden one if publicID is empty.
func FreshBody(name, publicID string) ([]byte, error) {
	golden, err := fs.ReadFile(cloudinaryhooktest.Bodies(), name+".json")
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(golden, &members); err != nil {
		return nil, err
	}
	body := golden
	// This replaces bytes and not values, so that every other byte stays the same.
	// It also reaches the public ID in URLs.
	replace := func(member json.RawMessage, fresh func(old string) string) {
		if len(member) > 2 && member[0] == '"' {
			old := string(member[1 : len(member)-1])
			body = bytes.ReplaceAll(body, []byte(old), []byte(fresh(old)))
		}
	}
	requestID := func(string) string { return strings.ToLower(rand.Text()) }
	replace(members["public_id"], func(old string) string {
		if publicID != "" {
			old = publicID
		}
		return old + "-" + strings.ToLower(rand.Text()[:10])
	})
	replace(members["request_id"], requestID)
	var failure struct {
		RequestID json.RawMessage `json:"request_id"`
	}
	if json.Unmarshal(members["error"], &failure) == nil {
		replace(failure.RequestID, requestID)
	}
	if bytes.Equal(body, golden) {
		// The body has no ID of the event: add one.
		body = bytes.Replace(golden, []byte("{"), []byte(`{"request_id":"`+requestID("")+`",`), 1)
	}
	return body, nil
}
