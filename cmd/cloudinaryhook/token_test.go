package main

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

func TestTokenIsWhatAReceiverTakes(t *testing.T) {
	verifier := &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}, Require: []string{"album_id"}}
	tests := []struct {
		name   string
		args   []string
		expiry time.Duration // 0: none
	}{
		{"two hours", []string{"-claims", `{"album_id":18446744073709551615}`}, 2 * time.Hour},
		{"a day", []string{"-claims", `{"album_id":18446744073709551615}`, "-expires", "24h"}, 24 * time.Hour},
		{"never", []string{"-claims", `{"album_id":18446744073709551615}`, "-expires", "0"}, 0},
		{"its own", []string{"-claims", `{"album_id":18446744073709551615,"exp":4102444800}`}, time.Until(time.Unix(4102444800, 0))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, endpoint := range []string{"", "https://app.example/hook?tenant=1"} {
				args := append([]string{"token"}, tt.args...)
				if endpoint != "" {
					args = append(args, "-endpoint", endpoint)
				}
				got, status := testEnvironment().run(t, "", args...)
				token := strings.TrimSuffix(got, "\n")
				if endpoint != "" {
					u, err := url.Parse(token)
					if err != nil || !strings.HasPrefix(got, endpoint+"&token=") {
						t.Fatalf("got %v and %q, want the endpoint with a token", err, got)
					}
					token = u.Query().Get("token")
				}
				claims, err := verifier.Verify(token)
				if status != 0 || err != nil {
					t.Fatalf("got %d and %v", status, err)
				}
				if claims.AlbumID != "18446744073709551615" {
					t.Errorf("album got %s, want every digit", claims.AlbumID)
				}
				switch {
				case tt.expiry == 0 && claims.ExpiresAt != nil:
					t.Errorf("exp got %v, want none", claims.ExpiresAt)
				case tt.expiry != 0 && (time.Until(claims.ExpiresAt.Time)-tt.expiry).Abs() > time.Minute:
					t.Errorf("exp got %v, want in %v", claims.ExpiresAt, tt.expiry)
				}
			}
		})
	}
}

func TestTokenRefuses(t *testing.T) {
	checkRefusals(t, "token", []refusal{
		{"no claims", nil, 2, "-claims is missing"},
		{"claims that are no object", []string{"-claims", "[]"}, 2, "JSON object"},
		{"negative", []string{"-claims", "{}", "-expires", "-1h"}, 2, "negative"},
		{"an endpoint with a token", []string{"-claims", "{}", "-endpoint", "https://app.example/?token=x"}, 2, "-endpoint has a token"},
		{"an endpoint that servers redirect", []string{"-claims", "{}", "-endpoint", "https://app.example//hook"}, 1, "-endpoint: "},
		{"no URL", []string{"-claims", "{}", "-endpoint", "app.example"}, 1, "not an absolute"},
		{"nothing to check", []string{"-check"}, 2, "no token on standard input"},
	})
}

// TestCheckShowsLittleOfADeepToken: a token of the largest size may become
// megabytes once it is indented, and a longer one is not shown at all.
func TestCheckShowsLittleOfADeepToken(t *testing.T) {
	for _, depth := range []int{1500, 9000} {
		deep := strings.Repeat("[", depth) + strings.Repeat("1,", depth/2) + "1" + strings.Repeat("]", depth)
		token, err := cloudinaryhook.SignToken([]byte(cloudinaryhooktest.DefaultKey), claimSet{members: map[string]json.RawMessage{"a": []byte(deep)}})
		if err != nil && depth == 1500 {
			t.Fatal(err)
		}
		if err != nil { // SignToken makes none of this size
			part := base64.RawURLEncoding.EncodeToString
			token = part([]byte(`{"alg":"HS256"}`)) + "." + part([]byte(`{"a":`+deep+`}`)) + ".AAAA"
		}
		got, _ := testEnvironment().run(t, token, "token", "-check")
		if shown := strings.Contains(got, "claims {"); len(got) > 300<<10 || shown != (depth == 1500) {
			t.Errorf("depth %d got %d bytes, with claims: %t", depth, len(got), shown)
		}
	}
}

// TestCheck: -check shows the content of a token and whether a key fits, but
// not the token itself.
func TestCheck(t *testing.T) {
	sign := func(claims jwt.MapClaims, key string) string {
		token, err := cloudinaryhook.SignToken([]byte(key), claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	older := strings.Repeat("older", 8)
	rotated := testEnvironment()
	rotated[keyVariable+previousSuffix] = older
	good := sign(jwt.MapClaims{"album_id": "7", "exp": int64(4102444800)}, cloudinaryhooktest.DefaultKey)
	tests := []struct {
		name, input string
		env         environment
		status      int
		says        []string
	}{
		{"good", good, testEnvironment(), 0, []string{`"album_id": "7"`, "exp: 2100-01-01T00:00:00Z", "is accepted"}},
		{"with a newline", good + "\n", testEnvironment(), 0, []string{"is accepted"}},
		{"in a URL", "https://app.example/hook?a=1&token=" + good, testEnvironment(), 0, []string{`"alg": "HS256"`, "is accepted"}},
		{"the previous key", sign(jwt.MapClaims{}, older), rotated, 0, []string{"is accepted"}},
		{"another key", sign(jwt.MapClaims{}, older), testEnvironment(), 1, []string{"Refused: invalid token", " key-other: "}},
		{"expired, with the previous key", sign(jwt.MapClaims{"exp": 1}, older), rotated, 1, []string{"Refused", "expired", " token-expired: "}},
		{"no key", good, environment{}, 1, []string{`"album_id": "7"`, " key-missing: "}},
		{"&amp;", "https://app.example/hook?a=1&amp;token=" + good, testEnvironment(), 1, []string{" token-amp: "}},
		{"no token", "hello", testEnvironment(), 1, []string{" token-not: "}},
		{"a URL and an error", "https://app.example/hook?token=" + good + " <nil>", testEnvironment(), 1, []string{" token-more: "}},
		{"a URL and a status", "https://app.example/hook?token=" + good + " 200 OK", testEnvironment(), 1, []string{" token-more: "}},
		{"a token and a word", good + "\n200", testEnvironment(), 1, []string{" token-more: "}},
		{"a URL in JSON", `{"url":"https://app.example/hook?token=` + good + `"}`, testEnvironment(), 1, []string{" token-more: "}},
		{"a URL in a sentence", "It is https://app.example/hook?token=" + good + ".", testEnvironment(), 1, []string{" token-more: "}},
		{"a URL and a semicolon", "https://app.example/hook?token=" + good + "; 200", testEnvironment(), 1, []string{" token-more: "}},
		{"a URL of a log", "https://app.example/hook?token=REDACTED", testEnvironment(), 1, []string{" token-hidden: "}},
		{"text that moves the cursor", sign(jwt.MapClaims{"a": "\u009b2J\u202e"}, older), testEnvironment(), 1, []string{`"a": "\u009b2J\u202e"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, status := tt.env.run(t, tt.input, "token", "-check")
			if status != tt.status {
				t.Errorf("got %d and %q, want %d", status, got, tt.status)
			}
			for _, says := range tt.says {
				if !strings.Contains(got, says) {
					t.Errorf("got %q, want %q in it", got, says)
				}
			}
			if strings.Contains(got, "eyJ") || strings.Contains(got, "\u009b") {
				t.Errorf("got %q, want no token and nothing that moves the cursor", got)
			}
		})
	}
}
