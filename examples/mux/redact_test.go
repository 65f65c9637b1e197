package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRedactQuery(t *testing.T) {
	tests := []struct{ query, want string }{
		{"", ""},
		{"a=b", "a=b"},
		{"token=secret", "token=REDACTED"},
		{"a=b&token=secret&c=d", "a=b&token=REDACTED&c=d"},
		{"token=secret&token=secret2", "token=REDACTED&token=REDACTED"},
		{"%74oken=secret", "%74oken=REDACTED"},
		{"Token=secret", "Token=REDACTED"},
		{"token=a=b=secret", "token=REDACTED"},
		{"token", "token=REDACTED"},
		{"a=b;token=secret&c", "REDACTED&c"}, // net/url drops such a part
		{"%zz=secret", "REDACTED"},
		{"tokens=public&xtoken=public", "tokens=public&xtoken=public"},
		{"token=REDACTED", "token=REDACTED"},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			if got := redactQuery(tt.query); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestHideToken: what is in between sees no token, the hook sees the query as it
// came, and neither changes the other's request.
func TestHideToken(t *testing.T) {
	for _, query := range []string{"", "?", "?a=b", "?a=b&token=secret&c=%20d", "?%74oken=secret&token=secret"} {
		t.Run(query, func(t *testing.T) {
			var between, hook *http.Request
			h := hideToken(hideToken(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				between = r
				showToken(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hook = r })).ServeHTTP(w, r)
			})))
			r := httptest.NewRequest(http.MethodPost, "/hook"+query, strings.NewReader("body"))
			came := r.URL.String()
			h.ServeHTTP(httptest.NewRecorder(), r)
			for _, got := range []string{between.URL.String(), between.RequestURI} {
				if strings.Contains(got, "secret") || !strings.HasPrefix(got, "/hook") {
					t.Errorf("in between got %q, want it without the token", got)
				}
			}
			for _, got := range []string{hook.URL.String(), r.URL.String(), r.RequestURI} {
				if got != came {
					t.Errorf("got %q, want %q", got, came)
				}
			}
			if hook.Body != r.Body || hook.Method != r.Method {
				t.Error("the hook's request is another one's")
			}
		})
	}
}

// FuzzRedactQuery: whatever a query is, no token of it is left, and all other
// parameters are.
func FuzzRedactQuery(f *testing.F) {
	for _, seed := range []string{"token=x", "a=b&%74oken=x", "a;token=x&&=&token", "%zz&to%6ben=%41", "a=b+c&a=%26"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		came, _ := url.ParseQuery(query) // what was not read is no parameter
		got, _ := url.ParseQuery(redactQuery(query))
		for _, token := range got["token"] {
			if token != redacted {
				t.Errorf("%q leaves %q", query, token)
			}
		}
		if len(got["token"]) != len(came["token"]) {
			t.Errorf("%q had %d tokens and has %d", query, len(came["token"]), len(got["token"]))
		}
		for _, values := range []url.Values{came, got} {
			for name := range values {
				if strings.EqualFold(name, "token") || name == redacted {
					delete(values, name)
				}
			}
		}
		if diff := cmp.Diff(came, got); diff != "" {
			t.Errorf("%q: other parameters differ (-want +got):\n%s", query, diff)
		}
	})
}
