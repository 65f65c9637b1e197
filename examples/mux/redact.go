package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// The token travels in the URL's query, and most access logs, recoverers and
// tracers write URLs down. hideToken goes around all of them, as the outermost
// handler of the server; showToken goes around the hook alone. What is in
// between gets a request without the token. Where only showToken is forgotten,
// the hook refuses everything: nothing leaks.

// hiddenQuery is the context's key for the query as it came.
type hiddenQuery struct{}

const redacted = "REDACTED"

// hideToken passes on a request whose URL and RequestURI have no token.
func hideToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := redactQuery(r.URL.RawQuery)
		if query == r.URL.RawQuery {
			next.ServeHTTP(w, r)
			return
		}
		hidden := withQuery(r, query)
		path, _, _ := strings.Cut(r.RequestURI, "?")
		hidden.RequestURI = path + "?" + query
		next.ServeHTTP(w, hidden.WithContext(context.WithValue(r.Context(), hiddenQuery{}, r.URL.RawQuery)))
	})
}

// showToken gives the hook what hideToken took.
func showToken(hook http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query, ok := r.Context().Value(hiddenQuery{}).(string); ok {
			r = withQuery(r, query)
		}
		hook.ServeHTTP(w, r)
	})
}

func withQuery(r *http.Request, query string) *http.Request {
	changed, u := *r, *r.URL
	changed.URL = &u
	u.RawQuery = query
	return &changed
}

// redactQuery replaces every token's value. It also replaces what net/url would
// not read as a parameter, since that may be a token with a slip of the pen.
func redactQuery(query string) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, _, _ := strings.Cut(part, "=")
		plain, err := url.QueryUnescape(name)
		switch {
		case err != nil || strings.Contains(part, ";"):
			parts[i] = redacted
		case strings.EqualFold(plain, "token"):
			parts[i] = name + "=" + redacted
		}
	}
	return strings.Join(parts, "&")
}
