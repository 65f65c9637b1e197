package cloudinaryhooktest

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// NewRequest signs with these by default. They are public: use them only in
// tests.
const (
	DefaultSecret = "cloudinaryhooktest: an API secret"
	DefaultKey    = "cloudinaryhooktest: a token key of 32 bytes or more"
)

// DefaultClaims returns the default claims of [NewRequest]'s token: organization
// "test-organization", album "test-album", user "test-user".
func DefaultClaims() *cloudinaryhook.Claims {
	return &cloudinaryhook.Claims{OrganizationID: "test-organization", AlbumID: "test-album", UserID: "test-user"}
}

// An Option changes what NewRequest makes. If two set the same thing, the last
// one counts.
type Option func(*options)

type options struct {
	secret      string
	hash        crypto.Hash
	timestamp   string
	key         []byte
	claims      jwt.Claims
	token       *string // sent as it is; nil: made of claims and key
	tokenless   bool
	tokenChosen bool // by an option
	contentType string
	header      http.Header // values that replace, or nil to remove
}

// WithSecret signs the body with another API secret.
func WithSecret(secret string) Option { return func(o *options) { o.secret = secret } }

// WithHash signs with crypto.SHA256 instead of crypto.SHA1. Any other hash fails
// the test.
func WithHash(hash crypto.Hash) Option { return func(o *options) { o.hash = hash } }

// WithTime signs at this time instead of now.
func WithTime(t time.Time) Option { return WithTimestamp(strconv.FormatInt(t.Unix(), 10)) }

// WithTimestamp signs with this text as the timestamp. It may be any text.
func WithTimestamp(timestamp string) Option { return func(o *options) { o.timestamp = timestamp } }

// WithClaims puts other claims into the token: *cloudinaryhook.Claims, or the
// app's own type.
func WithClaims(claims jwt.Claims) Option {
	return func(o *options) { o.claims, o.token, o.tokenless, o.tokenChosen = claims, nil, false, true }
}

// WithKey signs the token with another key, of at least 32 bytes.
func WithKey(key []byte) Option {
	return func(o *options) { o.key, o.token, o.tokenless, o.tokenChosen = key, nil, false, true }
}

// WithToken sends this text as the token. It may be empty.
func WithToken(token string) Option {
	return func(o *options) { o.token, o.tokenless, o.tokenChosen = &token, false, true }
}

// WithoutToken adds no token to the URL.
func WithoutToken() Option {
	return func(o *options) { o.token, o.tokenless, o.tokenChosen = nil, true, true }
}

// WithContentType sends another Content-Type. The default is
// "application/x-www-form-urlencoded", as in requests recorded from Cloudinary,
// although the body is JSON. So a handler that reads a form value consumes the
// body.
func WithContentType(contentType string) Option {
	return func(o *options) { o.contentType = contentType }
}

// WithHeader sets a header to these values, after everything was signed. Without
// values, it removes the header.
func WithHeader(name string, values ...string) Option {
	return func(o *options) { o.header[http.CanonicalHeaderKey(name)] = values }
}

// NewRequest returns a POST request with this body as Cloudinary sends it: with
// signature, timestamp and, in the URL's query, a token. Without options, the
// body is signed now with SHA-1 and [DefaultSecret], or with SHA-256 under
// GODEBUG=fips140=only. The token has [DefaultClaims] and is signed with
// [DefaultKey].
//
// If you call the handler directly, url may be a path that begins with a slash.
// The request is then as a server gets it, from the address 192.0.2.1. For an
// http.Client, url must be absolute. Such a request works with a handler too,
// but has no RequestURI, because a client must not set that. The query is kept
// as it is. If it has a token already, as a notification URL does, NewRequest
// adds none, and options for the token fail the test.
//
// If the request cannot be made, the test fails. In examples tb may be nil:
// then NewRequest panics instead. The body is not copied.
func NewRequest(tb testing.TB, url string, body []byte, opts ...Option) *http.Request {
	if tb != nil {
		tb.Helper()
	}
	o := options{
		secret: DefaultSecret, hash: crypto.SHA1, timestamp: strconv.FormatInt(time.Now().Unix(), 10),
		key: []byte(DefaultKey), claims: DefaultClaims(),
		contentType: "application/x-www-form-urlencoded", header: make(http.Header),
	}
	if fips140.Enforced() {
		o.hash = crypto.SHA256
	}
	for _, opt := range opts {
		opt(&o)
	}
	r, err := o.request(url, body)
	if err != nil {
		fail(tb, err)
		return nil
	}
	return r
}

func (o *options) request(url string, body []byte) (*http.Request, error) {
	if o.hash != crypto.SHA1 && o.hash != crypto.SHA256 {
		return nil, fmt.Errorf("the hash is %v, neither SHA-1 nor SHA-256", o.hash)
	}
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the URL is malformed") // err quotes the URL, which may hold a token
	}
	if err := o.addToken(r.URL); err != nil {
		return nil, err
	}
	r.RemoteAddr = "192.0.2.1:1234" // an address for documentation (RFC 5737); a client ignores it
	switch {
	case r.URL.Host == "" && strings.HasPrefix(url, "/"):
		r.Host = "example.com"
		r.RequestURI = r.URL.RequestURI()
	case r.URL.Host == "" || r.URL.Scheme == "":
		return nil, errors.New("the URL is neither absolute nor a path that begins with a slash")
	}
	r.Header.Set("Content-Type", o.contentType)
	r.Header.Set(cloudinaryhook.TimestampHeader, o.timestamp)
	r.Header.Set(cloudinaryhook.SignatureHeader, cloudinaryhook.Sign(o.hash, body, o.timestamp, o.secret))
	for name, values := range o.header {
		r.Header[name] = values
		if len(values) == 0 {
			r.Header.Del(name)
		}
	}
	return r, nil
}

func (o *options) addToken(u *url.URL) error {
	switch has := u.Query().Has("token"); {
	case has && o.tokenChosen:
		return errors.New("the URL has a token already, and an option asks for another or none")
	case has || o.tokenless:
		return nil
	}
	token := o.token
	if token == nil {
		signed, err := cloudinaryhook.SignToken(o.key, o.claims)
		if err != nil {
			return err
		}
		token = &signed
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "token=" + url.QueryEscape(*token)
	return nil
}

func fail(tb testing.TB, err error) {
	if tb == nil {
		panic("cloudinaryhooktest: NewRequest: " + err.Error())
	}
	tb.Helper()
	tb.Fatalf("cloudinaryhooktest: NewRequest: %v", err)
}
