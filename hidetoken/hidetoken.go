// Package hidetoken keeps the token of a notification URL out of logs.
//
// Cloudinary sends a notification to a URL whose query holds a token. Most
// access logs, recoverers and tracers write URLs, and many people read logs.
// Somebody who has a token cannot forge a notification, because its body must
// be signed. But the hook accepts a token with any signed body. So somebody who
// has a token, and may upload to the same product environment, can put an image
// of their own into the token's album. Such a token is often valid for months.
//
// Wrap the whole app in [From], with every handler that logs inside it. Wrap
// only the hook in [ShowTo], with no handler that logs inside it:
//
//	r := chi.NewRouter()
//	r.Use(middleware.Logger)
//	r.Handle("/api/v1/cloudinary", hidetoken.ShowTo(hook))
//	http.ListenAndServe(addr, hidetoken.From(r))
//
// The handlers in between see "token=REDACTED". If you forget ShowTo, the hook
// answers 401 to everything. If you forget From, the log has the tokens.
//
// # What is hidden
//
// From keeps a parameter of the query only if it cannot be a token: it contains
// neither the word "token" nor 43 base64url characters in a row, also after
// decoding. From hides all others. So it also hides tokens in malformed queries:
// "?tenant=1?token=…", "?token%3D…", "?token[]=…", a token without a name.
//
// Many paths have long names. So From hides a path, all of it, only if it
// contains both the word "token" and 43 base64url characters in a row, as in
// "/hook%3Ftoken=…".
//
// From does the same with RequestURI, with Referer, and with the request headers
// in which known proxies repeat a URL: X-Auth-Request-Redirect,
// X-Envoy-Original-Path, X-Forwarded-Uri, X-Original-Uri, X-Original-Url,
// X-Rewrite-Url and X-Waws-Unencoded-Url.
//
// The whole app gets this changed request. If another handler needs a long
// parameter, as an OAuth callback does, or a parameter such as "page_token",
// wrap that handler in [ShowTo] too.
//
// # What is not hidden
//
// A handler in between may redirect, as a mux does for "/api//v1". The Location
// then has the URL without the token, and a sender that follows it gets a 401.
// So upload with a URL that needs no redirect.
//
// Other headers and the body stay as they are. If your proxy repeats the URL in
// a header that is not in the list above, remove that header. Proxies in front
// of the app have logs of their own.
package hidetoken

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

const (
	redacted = "REDACTED"

	// signatureLength is the number of characters in an HS256 signature: 32 bytes
	// in base64url (RFC 7515 §3.1). A text without that many base64url characters
	// in a row holds no token.
	signatureLength = 43
)

// urlHeaders are request headers that repeat the URL of this or another request.
// Known proxies set all but Referer.
var urlHeaders = []string{
	"Referer",
	"X-Auth-Request-Redirect", // nginx for oauth2-proxy
	"X-Envoy-Original-Path",   // Envoy
	"X-Forwarded-Uri",         // Traefik, Caddy
	"X-Original-Uri",          // nginx
	"X-Original-Url",          // IIS, nginx
	"X-Rewrite-Url",           // IIS
	"X-Waws-Unencoded-Url",    // Azure App Service
}

// queryKey is the context key for the original query.
type queryKey struct{}

// From returns a handler that removes tokens from the request's URL,
// RequestURI, Referer and the headers of known proxies, and then calls app. It
// changes a copy, not the request that it gets. If there is nothing to hide, it
// passes on the request as it is. It never changes the ResponseWriter. It is
// safe for concurrent use if app is. The app must not be nil.
func From(app http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app.ServeHTTP(w, hide(r))
	})
}

// ShowTo returns a handler that calls hook with the query that [From] got. It
// changes nothing else in the request. Without From, it changes nothing at all.
// It is safe for concurrent use if hook is. The hook must not be nil.
func ShowTo(hook http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query, ok := r.Context().Value(queryKey{}).(string); ok {
			shown, u := *r, *r.URL
			u.RawQuery = query
			shown.URL = &u
			r = &shown
		}
		hook.ServeHTTP(w, r)
	})
}

func hide(r *http.Request) *http.Request {
	u, uri, header := *r.URL, hideURI(r.RequestURI), hideHeader(r.Header)
	u.RawQuery, u.Path, u.Opaque = hideQuery(u.RawQuery), hidePath(u.Path), hidePath(u.Opaque)
	if u.Path != r.URL.Path {
		u.RawPath = ""
	}
	if u == *r.URL && uri == r.RequestURI && header == nil {
		return r
	}
	ctx := r.Context()
	if u.RawQuery != r.URL.RawQuery { // if there are two Froms, only the outer one knows the original query
		ctx = context.WithValue(ctx, queryKey{}, r.URL.RawQuery)
	}
	hidden := r.WithContext(ctx)
	hidden.URL, hidden.RequestURI = &u, uri
	hidden.Form = nil // it may hold the token, if somebody has parsed the form
	if header != nil {
		hidden.Header = header
	}
	return hidden
}

// hideHeader returns a changed copy, or nil if there is nothing to hide.
func hideHeader(header http.Header) (hidden http.Header) {
	for _, name := range urlHeaders {
		for i, value := range header[name] {
			uri := hideURI(value)
			if uri == value {
				continue
			}
			if hidden == nil {
				hidden = header.Clone()
			}
			hidden[name][i] = uri
		}
	}
	return hidden
}

func hideURI(uri string) string {
	path, query, ok := strings.Cut(uri, "?")
	if !ok {
		return hidePath(path)
	}
	return hidePath(path) + "?" + hideQuery(query)
}

// hideQuery keeps the name of a parameter where it can, so that a log still
// shows which parameters came.
func hideQuery(query string) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		text, err := url.QueryUnescape(part)
		if err == nil && !mentionsToken(text) && !holdsSignature(text) {
			continue
		}
		parts[i] = redacted
		if name, _, ok := strings.Cut(part, "="); ok && !holdsSignature(name) {
			parts[i] = name + "=" + redacted
		}
	}
	return strings.Join(parts, "&")
}

func hidePath(path string) string {
	text, err := url.PathUnescape(path)
	if err != nil {
		text = path
	}
	if mentionsToken(text) && holdsSignature(text) {
		return "/" + redacted
	}
	return path
}

func mentionsToken(text string) bool { return strings.Contains(strings.ToLower(text), "token") }

// holdsSignature reports whether text could hold a signature. A percent sign
// counts as a base64url character. Then decoding the text once more cannot make
// a longer row.
func holdsSignature(text string) bool {
	row := 0
	for _, c := range []byte(text) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '%':
			row++
		default:
			row = 0
		}
		if row == signatureLength {
			return true
		}
	}
	return false
}
