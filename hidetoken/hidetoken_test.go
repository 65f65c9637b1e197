package hidetoken

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// token is a token as SignToken makes it: {"a":"b"}, signed.
const (
	signature = "RfRzXfs6SzE8kdRLjFM1M_ZPzpXkl6-cWBWyXnUEfJg"
	token     = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhIjoiYiJ9." + signature
)

func TestHideURI(t *testing.T) {
	uuid, words := "3f0e6f0c-6a57-4b0f-8c1e-0f6f4f1d2c3b", strings.Repeat("long%20%D0%B6+", 50)
	tests := []struct{ name, uri, want string }{
		{"nothing", "", ""},
		{"a path", "/a", "/a"},
		{"an empty query", "/a?", "/a?"},
		{"other parameters", "/a?b=c&d=%20e&f", "/a?b=c&d=%20e&f"},
		{"empty parameters", "/a?&&=&", "/a?&&=&"},
		{"a UUID", "/a?id=" + uuid, "/a?id=" + uuid},
		{"a long text", "/a?q=" + words, "/a?q=" + words},
		{"a name for the path", "/static/" + token + ".js", "/static/" + token + ".js"},
		{"token", "/a?token=" + token, "/a?token=REDACTED"},
		{"among others", "/a?b=c&token=" + token + "&d=e", "/a?b=c&token=REDACTED&d=e"},
		{"twice", "/a?token=" + token + "&token=" + token, "/a?token=REDACTED&token=REDACTED"},
		{"a short one", "/a?token=s&Token=s&%74oken=s&token", "/a?token=REDACTED&Token=REDACTED&%74oken=REDACTED&REDACTED"},
		{"in brackets", "/a?token[]=" + token, "/a?token[]=REDACTED"},
		{"after a second question mark", "/a?tenant=1?token=" + token, "/a?tenant=REDACTED"},
		{"after a question mark alone", "/a??token=" + token, "/a??token=REDACTED"},
		{"an encoded equals sign", "/a?token%3D" + token, "/a?REDACTED"},
		{"a semicolon", "/a?b=c;token=s&d", "/a?b=REDACTED&d"},
		{"without a name", "/a?" + token, "/a?REDACTED"},
		{"for a name", "/a?" + token + "=b", "/a?REDACTED"},
		{"another name", "/a?jwt=" + token, "/a?jwt=REDACTED"},
		{"its signature alone", "/a?b=" + signature, "/a?b=REDACTED"},
		{"encoded", "/a?b=" + encode(token), "/a?b=REDACTED"},
		{"encoded twice", "/a?b=" + encode(encode(token)), "/a?b=REDACTED"},
		{"malformed", "/a?b=%zz" + signature, "/a?b=REDACTED"},
		{"in the path", "/a%3Ftoken=" + token, "/REDACTED"},
		{"encoded in the path", "/a%3F" + encode("token="+token) + "?b", "/REDACTED?b"},
		{"hidden before", "/a?token=REDACTED", "/a?token=REDACTED"},
		{"absolute", "https://app.example/a?token=" + token, "https://app.example/a?token=REDACTED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := hideURI(tt.uri); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// encode writes each byte as a percent sign and two hexadecimal digits.
func encode(text string) string {
	var encoded strings.Builder
	for _, c := range []byte(text) {
		encoded.WriteString("%" + string("0123456789ABCDEF"[c>>4]) + string("0123456789ABCDEF"[c&15]))
	}
	return encoded.String()
}

// TestFrom: the handlers in between see no token, the hook sees the original
// query, and the original request is not changed.
func TestFrom(t *testing.T) {
	for _, uri := range []string{"/hook", "/hook?", "/hook?a=b", "/hook?a=b&token=" + token + "&c=%20d", "/hook?" + token, "/hook%3Ftoken=" + token} {
		t.Run(uri, func(t *testing.T) {
			var between, hook *http.Request
			h := From(From(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				between = r
				ShowTo(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hook = r })).ServeHTTP(w, r)
			})))
			r := httptest.NewRequest(http.MethodPost, uri, strings.NewReader("body"))
			r.Form = r.URL.Query()
			for _, name := range urlHeaders {
				r.Header[name] = []string{"/other", "https://app.example" + uri}
			}
			came, header := *r.URL, r.Header.Clone()
			h.ServeHTTP(httptest.NewRecorder(), r)

			if err := between.ParseForm(); err != nil {
				t.Fatal(err)
			}
			all := []string{between.URL.String(), between.URL.Path, between.RequestURI, between.Form.Encode()}
			for _, values := range between.Header {
				all = append(all, values...)
			}
			if got := strings.Join(all, " "); strings.Contains(got, signature) {
				t.Errorf("the handler in between got %q, want it without the token", got)
			}
			if hook.URL.RawQuery != came.RawQuery || hook.Body != r.Body || hook.Method != r.Method {
				t.Errorf("the hook got %s %q, want the original request, with %q", hook.Method, hook.URL.RawQuery, came.RawQuery)
			}
			if *r.URL != came || r.RequestURI != uri || cmp.Diff(header, r.Header) != "" {
				t.Errorf("the original request has changed to %q, %v", r.RequestURI, r.Header)
			}
			if !strings.Contains(uri, token) && between != r {
				t.Error("a request without a token was copied")
			}
		})
	}
}

// TestHeaders: From hides the token in each header in which a known proxy
// repeats a URL.
func TestHeaders(t *testing.T) {
	const uri, hidden = "/hook?a=b&token=" + token, "/hook?a=b&token=REDACTED"
	tests := []struct{ name, want string }{
		{"Referer", hidden},
		{"X-Auth-Request-Redirect", hidden},
		{"X-Envoy-Original-Path", hidden},
		{"X-Forwarded-Uri", hidden},
		{"X-Original-Uri", hidden},
		{"X-Original-Url", hidden},
		{"X-Rewrite-Url", hidden},
		{"X-WAWS-Unencoded-URL", hidden},
		{"X-Of-The-App", uri},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.Header.Set(tt.name, uri)
			var got string
			From(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get(tt.name) })).ServeHTTP(httptest.NewRecorder(), r)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestRedirect: a redirect by a handler in between has no token.
func TestRedirect(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/a/b", http.NotFoundHandler())
	w := httptest.NewRecorder()
	From(mux).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/a//b?token="+token, http.NoBody))
	if got := w.Header().Get("Location"); got != "/a/b?token=REDACTED" {
		t.Errorf("got Location %q, want it without the token", got)
	}
}

// FuzzHideURI puts a token anywhere into a URI, encoded any number of times.
// However often the result is decoded, it does not hold the token's signature.
// Hiding again changes nothing, and short parameters stay.
func FuzzHideURI(f *testing.F) {
	f.Add("/a?token=", "", uint8(0))
	f.Add("/a?tenant=1?token=", "&b=c", uint8(1))
	f.Add("/a?token%3D", "=%41", uint8(2))
	f.Add("/a?%", "", uint8(0))
	f.Add("/a%3Ftoken=", "?b=%zz", uint8(3))
	f.Fuzz(func(t *testing.T, before, after string, encoded uint8) {
		text := token
		for range encoded % 4 {
			text = encode(text)
		}
		uri := before + text + after
		got := hideURI(uri)
		if again := hideURI(got); again != got {
			t.Errorf("%q becomes %q, and hidden again %q", uri, got, again)
		}
		if hidePath(uri) != uri || strings.Contains(before, "?") {
			for shown := got; ; {
				if strings.Contains(shown, signature) {
					t.Fatalf("%q leaves %q", uri, got)
				}
				decoded := decode(shown)
				if decoded == shown {
					break
				}
				shown = decoded
			}
		}
		query := url.Values{"a": {before[:min(len(before), 10)]}, "b": {"c d"}}.Encode()
		if got := hideURI("/a?" + query + "&jwt=" + text); !strings.Contains(strings.ToLower(query), "token") && got != "/a?"+query+"&jwt=REDACTED" {
			t.Errorf("beside a token, %q becomes %q", query, got)
		}
	})
}

// decode removes one level of percent-encoding. It leaves malformed escapes as
// they are.
func decode(text string) string {
	var decoded strings.Builder
	for len(text) > 0 {
		n := min(3, len(text))
		c, err := url.PathUnescape(text[:n])
		if err != nil || text[0] != '%' {
			c, n = text[:1], 1
		}
		decoded.WriteString(c)
		text = text[n:]
	}
	return decoded.String()
}
