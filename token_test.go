package cloudinaryhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

var (
	testKey  = []byte("the token key of these tests, 32+")
	otherKey = []byte("another key, also of 32 bytes or more")
)

// rawToken signs any header and claim set, also such as no library would.
func rawToken(key []byte, header, claims string) string {
	return signText(key, base64.RawURLEncoding.EncodeToString([]byte(header))+"."+base64.RawURLEncoding.EncodeToString([]byte(claims)))
}

// signText adds the right signature to any text.
func signText(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// prepared is a verifier as it is in a handler.
func prepared(tb testing.TB, v *TokenVerifier) *TokenVerifier {
	tb.Helper()
	v, err := v.prepared()
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

const hs256 = `{"typ":"JWT","alg":"HS256"}`

type tokenRow struct {
	name  string
	v     TokenVerifier
	token string
	want  []error // all of them; none: accepted
}

func tokenRows(t *testing.T) []tokenRow {
	t.Helper()
	base := TokenVerifier{Keys: [][]byte{testKey}, Now: at(1700000000)}
	with := func(change func(*TokenVerifier)) TokenVerifier {
		v := base
		change(&v)
		return v
	}
	good := rawToken(testKey, hs256, `{"album_id":"1"}`)
	dot := strings.LastIndexByte(good, '.')
	malformed, unverifiable := []error{ErrInvalidToken, jwt.ErrTokenMalformed}, []error{ErrInvalidToken, jwt.ErrTokenUnverifiable}
	header64, claims64 := base64.RawURLEncoding.EncodeToString([]byte(hs256+" ")), base64.RawURLEncoding.EncodeToString([]byte(`{"a":1}`))
	return []tokenRow{
		{"good", base, good, nil},
		{"good, by the second key", with(func(v *TokenVerifier) { v.Keys = [][]byte{otherKey, testKey} }), good, nil},
		{"unknown header members", base, rawToken(testKey, `{"alg":"HS256","kid":"x","jwk":{},"jku":"https://example.com","x5u":"y"}`, `{}`), nil},
		{"empty", base, "", []error{ErrMissingToken}},
		{"zero value", TokenVerifier{}, rawToken(nil, hs256, `{}`), []error{ErrNoSecrets}},
		{"empty key", with(func(v *TokenVerifier) { v.Keys = [][]byte{{}} }), rawToken(nil, hs256, `{}`), []error{ErrNoSecrets}},
		{"short key beside a good one", with(func(v *TokenVerifier) { v.Keys = [][]byte{testKey, testKey[:31]} }), good, []error{ErrNoSecrets}},
		{"another key", base, rawToken(otherKey, hs256, `{}`), []error{ErrInvalidToken, jwt.ErrTokenSignatureInvalid}},
		{"signature stripped", base, good[:dot+1], []error{ErrInvalidToken, jwt.ErrTokenSignatureInvalid}},
		{"no signature part", base, good[:dot], []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"four parts", base, good + ".x", []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"claims swapped", base, rawToken(testKey, hs256, `{"album_id":"2"}`)[:dot] + good[dot:], []error{ErrInvalidToken, jwt.ErrTokenSignatureInvalid}},

		{"alg missing", base, rawToken(testKey, `{}`, `{}`), []error{ErrInvalidToken}},
		{"alg RS256", base, rawToken(testKey, `{"alg":"RS256"}`, `{}`), []error{ErrInvalidToken}},
		{"alg ES256 with the HMAC key", base, rawToken(testKey, `{"alg":"ES256"}`, `{}`), []error{ErrInvalidToken}},
		{"alg PS256 with the HMAC key", base, rawToken(testKey, `{"alg":"PS256"}`, `{}`), []error{ErrInvalidToken}},
		{"alg EdDSA with the HMAC key", base, rawToken(testKey, `{"alg":"EdDSA"}`, `{}`), []error{ErrInvalidToken}},
		{"alg a list", base, rawToken(testKey, `{"alg":["HS256"]}`, `{}`), []error{ErrInvalidToken}},
		{"alg twice, the last counts and is wrong", base, rawToken(testKey, `{"alg":"HS256","alg":"none"}`, `{}`), []error{ErrInvalidToken}},
		{"JWE", base, "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA", []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"nested", base, rawToken(testKey, `{"alg":"HS256","cty":"JWT"}`, `"`+good+`"`), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"crit that is null", base, rawToken(testKey, `{"alg":"HS256","crit":null}`, `{}`), []error{ErrInvalidToken, jwt.ErrTokenUnverifiable}},
		{"alg hs256", base, rawToken(testKey, `{"alg":"hs256"}`, `{}`), []error{ErrInvalidToken}},
		{"crit", base, rawToken(testKey, `{"alg":"HS256","crit":["exp"]}`, `{}`), []error{ErrInvalidToken, jwt.ErrTokenUnverifiable}},
		{"b64", base, rawToken(testKey, `{"alg":"HS256","b64":false}`, `{}`), []error{ErrInvalidToken, jwt.ErrTokenUnverifiable}},

		{"blank before", base, " " + good, []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"blank after", base, good + " ", []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"Bearer", base, "Bearer " + good, []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"two tokens in one", base, good + "," + good, []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"trailing carriage return", base, good + "\r", []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"base64 of the other alphabet", base, strings.NewReplacer("-", "+", "_", "/").Replace(rawToken(testKey, hs256, `{"a":"~~~???"}`)), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"carriage return inside", base, good[:5] + "\r" + good[5:], []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"padding", base, good + "=", []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"unused bits set", base, nonCanonical(good), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"over 8 KiB", base, rawToken(testKey, hs256, `{"x":"`+strings.Repeat("x", 8<<10)+`"}`), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"a million dots", base, strings.Repeat(".", 1e6), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},

		{"claims no object", base, rawToken(testKey, hs256, `[]`), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"claims null", base, rawToken(testKey, hs256, `null`), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"claims no JSON", base, rawToken(testKey, hs256, `{`), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"header no JSON", base, rawToken(testKey, `{`, `{}`), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},
		{"repeated claim", base, rawToken(testKey, hs256, `{"album_id":"1","album_id":"2"}`), []error{ErrInvalidToken, jwt.ErrTokenMalformed}},

		{"exp now", base, rawToken(testKey, hs256, `{"exp":1700000000}`), []error{ErrInvalidToken, jwt.ErrTokenExpired}},
		{"exp within leeway", with(func(v *TokenVerifier) { v.Leeway = time.Minute }), rawToken(testKey, hs256, `{"exp":1699999941}`), nil},
		{"exp beyond leeway", with(func(v *TokenVerifier) { v.Leeway = time.Minute }), rawToken(testKey, hs256, `{"exp":1699999940}`), []error{ErrInvalidToken, jwt.ErrTokenExpired}},
		{"exp null where required", with(func(v *TokenVerifier) { v.RequireExpiry = true }), rawToken(testKey, hs256, `{"exp":null}`), []error{ErrInvalidToken, jwt.ErrTokenRequiredClaimMissing}},
		{"claims nested a thousand deep", base, rawToken(testKey, hs256, `{"a":`+strings.Repeat(`[`, 1000)+strings.Repeat(`]`, 1000)+`}`), nil},
		{"exp in another case is no exp", with(func(v *TokenVerifier) { v.RequireExpiry = true }), rawToken(testKey, hs256, `{"EXP":1700000001}`), []error{ErrInvalidToken, jwt.ErrTokenRequiredClaimMissing}},
		{"nbf ahead", base, rawToken(testKey, hs256, `{"nbf":1700000001}`), []error{ErrInvalidToken, jwt.ErrTokenNotValidYet}},
		{"expiry required and there", with(func(v *TokenVerifier) { v.RequireExpiry = true }), rawToken(testKey, hs256, `{"exp":1700000001}`), nil},
		{"expiry required and missing", with(func(v *TokenVerifier) { v.RequireExpiry = true }), good, []error{ErrInvalidToken, jwt.ErrTokenRequiredClaimMissing}},

		{"issuer", with(func(v *TokenVerifier) { v.Issuer = "i" }), rawToken(testKey, hs256, `{"iss":"i"}`), nil},
		{"other issuer", with(func(v *TokenVerifier) { v.Issuer = "i" }), rawToken(testKey, hs256, `{"iss":"j"}`), []error{ErrInvalidToken, jwt.ErrTokenInvalidIssuer}},
		{"audience", with(func(v *TokenVerifier) { v.Audience = "a" }), rawToken(testKey, hs256, `{"aud":["b","a"]}`), nil},
		{"other audience", with(func(v *TokenVerifier) { v.Audience = "a" }), rawToken(testKey, hs256, `{"aud":"b"}`), []error{ErrInvalidToken, jwt.ErrTokenInvalidAudience}},
		{"no audience", with(func(v *TokenVerifier) { v.Audience = "a" }), good, []error{ErrInvalidToken, jwt.ErrTokenRequiredClaimMissing}},
		{"signed with an empty key", base, rawToken(nil, hs256, `{}`), []error{ErrInvalidToken, jwt.ErrTokenSignatureInvalid}},
		{"signed with a key cut short", base, rawToken(testKey[:31], hs256, `{}`), []error{ErrInvalidToken, jwt.ErrTokenSignatureInvalid}},
		{"nested, as it is", base, rawToken(testKey, `{"alg":"HS256","cty":"JWT"}`, good), malformed},
		{"kid that names a file", base, rawToken(testKey, `{"alg":"HS256","kid":"../../../dev/null"}`, `{}`), nil},
		{"kid that names a file, with its content as the key", base, rawToken(nil, `{"alg":"HS256","kid":"../../../dev/null"}`, `{}`), []error{ErrInvalidToken, jwt.ErrTokenSignatureInvalid}},
		{"jwk of the key it is signed with", base, rawToken(otherKey, `{"alg":"HS256","jwk":{"kty":"oct","k":"`+base64.RawURLEncoding.EncodeToString(otherKey)+`"}}`, `{}`), []error{ErrInvalidToken, jwt.ErrTokenSignatureInvalid}},
		{"alg null", base, rawToken(testKey, `{"alg":null}`, `{}`), []error{ErrInvalidToken}},
		{"alg under a name in another case", base, rawToken(testKey, `{"ALG":"HS256"}`, `{}`), []error{ErrInvalidToken}},
		{"alg with a blank", base, rawToken(testKey, `{"alg":"HS256 "}`, `{}`), []error{ErrInvalidToken}},
		{"header null", base, rawToken(testKey, `null`, `{}`), []error{ErrInvalidToken}},
		{"header a list", base, rawToken(testKey, `[]`, `{}`), malformed},
		{"header with more after it", base, rawToken(testKey, hs256+`{}`, `{}`), malformed},
		{"header that is empty", base, rawToken(testKey, ``, `{}`), malformed},
		{"claims that are empty", base, rawToken(testKey, hs256, ``), malformed},
		{"claims with more after them", base, rawToken(testKey, hs256, `{}{}`), malformed},
		{"crit empty", base, rawToken(testKey, `{"alg":"HS256","crit":[]}`, `{}`), unverifiable},
		{"crit under an escaped name", base, rawToken(testKey, `{"alg":"HS256","\u0063rit":["b64"]}`, `{}`), unverifiable},
		{"crit in another case is no crit", base, rawToken(testKey, `{"alg":"HS256","Crit":["b64"]}`, `{}`), nil},
		{"crit among the claims is a claim", base, rawToken(testKey, hs256, `{"crit":["b64"],"b64":false}`), nil},
		{"b64 true", base, rawToken(testKey, `{"alg":"HS256","b64":true}`, `{}`), unverifiable},
		{"b64 null", base, rawToken(testKey, `{"alg":"HS256","b64":null}`, `{}`), unverifiable},
		{"b64 and crit, the claims unencoded", base, signText(testKey, base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","b64":false,"crit":["b64"]}`))+`.{}`), malformed},
		{"unused bits set in the header, and signed", base, signText(testKey, nonCanonical(header64)+"."+claims64), malformed},
		{"unused bits set in the claims, and signed", base, signText(testKey, header64+"."+nonCanonical(claims64)), malformed},
		{"padding in the header, and signed", base, signText(testKey, header64+"==."+claims64), malformed},
		{"padding in the claims, and signed", base, signText(testKey, header64+"."+claims64+"=="), malformed},
		{"line break in the header, and signed", base, signText(testKey, "\n"+header64+"."+claims64), malformed},
		{"line break in the claims, and signed", base, signText(testKey, header64+"."+claims64+"\r\n"), malformed},
		{"canonical, and signed", base, signText(testKey, header64+"."+claims64), nil},
		{"claims that are no UTF-8", base, rawToken(testKey, hs256, "{\"a\":\"\xff\"}"), malformed},
		{"claims after a byte order mark", base, rawToken(testKey, hs256, "\ufeff{}"), malformed},
		{"repeated claim in two spellings", base, rawToken(testKey, hs256, `{"album_id":"1","album\u005fid":"2"}`), malformed},
		{"repeated claim further down", base, rawToken(testKey, hs256, `{"a":{"b":1,"b":2}}`), malformed},
		{"claims nested as deep as fits", base, rawToken(testKey, hs256, strings.Repeat(`{"":`, 1200)+`1`+strings.Repeat(`}`, 1200)), nil},
		{"a bad signature is final", base, rawToken(otherKey, hs256, `{"exp":1}`), []error{ErrInvalidToken, jwt.ErrTokenSignatureInvalid}},
	}
}

func TestTokenVerifier(t *testing.T) {
	for _, tt := range tokenRows(t) {
		t.Run(tt.name, func(t *testing.T) {
			claims, err := tt.v.Verify(tt.token)
			if (err == nil) != (len(tt.want) == 0) || (claims == nil) == (err == nil) {
				t.Fatalf("Verify(%.80q) got %v and claims %v, want %v", tt.token, err, claims, tt.want)
			}
			for _, want := range tt.want {
				if !errors.Is(err, want) {
					t.Errorf("Verify(%.80q) got %v, want %v", tt.token, err, want)
				}
			}
			if errors.Is(err, jwt.ErrTokenSignatureInvalid) && errors.Is(err, jwt.ErrTokenExpired) {
				t.Errorf("Verify(%.80q) got %v, which joins a bad signature with another reason", tt.token, err)
			}
		})
	}
}

// TestTokenMessages: an error says what is wrong with a token, in words of ours.
func TestTokenMessages(t *testing.T) {
	signed := func(claims string) string { return rawToken(testKey, hs256, claims) }
	tests := []struct{ name, token, want string }{
		{"alg HS512", signedWith(t, jwt.SigningMethodHS512), "its alg is HS512, only HS256 is accepted"},
		{"alg HS384", signedWith(t, jwt.SigningMethodHS384), "its alg is HS384, only HS256 is accepted"},
		{"alg none", rawToken(testKey, `{"alg":"none"}`, `{}`), "its alg is none, only HS256 is accepted"},
		{"alg of the sender's own", rawToken(testKey, `{"alg":"Peer"}`, `{}`), "its alg is missing or unknown, only HS256 is accepted"},
		{"exp in milliseconds", signed(`{"exp":1700000000123}`), "exp is not Unix seconds of the years 0 to 9999; is it in milliseconds?"},
		{"iat in milliseconds", signed(`{"iat":1700000000123}`), "iat is not Unix seconds of the years 0 to 9999; is it in milliseconds?"},
		{"sub a number", signed(`{"sub":42}`), "sub is of the wrong kind"},
		{"aud a number", signed(`{"aud":42}`), "aud is of the wrong kind"},
		{"id an object", signed(`{"album_id":{}}`), "album_id is of the wrong kind"},
		{"name twice", signed(`{"Peer":1,"Peer":2}`), "its claims are not one JSON object with unique names, in UTF-8"},
		{"crit", rawToken(testKey, `{"alg":"HS256","crit":["Peer"]}`, `{}`), "it has crit in its header"},
		{"padding", signed(`{"a":1}`) + "=", "it has a line break or an equals sign, and a JWT has neither"},
		{"line break", signed(`{}`) + "\n", "it has a line break or an equals sign, and a JWT has neither"},
		{"length", strings.Repeat("x", 9000), "it has 9000 bytes, more than 8192"},
		{"bytes that are no token", "Peer", "token is malformed"},
	}
	v := TokenVerifier{Keys: [][]byte{testKey}, Now: at(1700000000)}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := v.Verify(tt.token)
			if !errors.Is(err, ErrInvalidToken) || !strings.HasSuffix(err.Error(), tt.want) || strings.Contains(err.Error(), "Peer") {
				t.Errorf("Verify got %v, want %q at its end and nothing of the sender's", err, tt.want)
			}
		})
	}
}

// TestAlgNone: in every spelling, with a signature or without.
func TestAlgNone(t *testing.T) {
	v := TokenVerifier{Keys: [][]byte{testKey}}
	names := []string{"", " none", "none ", "none\\u0000", "n\\u006fne", "nonе" /* the last letter is Cyrillic */, "null", "0"}
	for upper := range 16 {
		name := []byte("none")
		for i := range name {
			if upper>>i&1 == 1 {
				name[i] -= 'a' - 'A'
			}
		}
		names = append(names, string(name))
	}
	for _, name := range names {
		signed := rawToken(testKey, `{"alg":"`+name+`","typ":"JWT"}`, `{}`)
		dot := strings.LastIndexByte(signed, '.')
		for _, token := range []string{signed, signed[:dot+1], signed[:dot], signed[:dot+1] + "AA"} {
			if claims, err := v.Verify(token); !errors.Is(err, ErrInvalidToken) || claims != nil {
				t.Errorf("alg %q: Verify(%q) got %v and %v, want %v", name, token, claims, err, ErrInvalidToken)
			}
		}
	}
}

// TestDates: what each date says, of whatever kind, at 1700000000. A date that
// cannot be read is refused, never taken for none.
func TestDates(t *testing.T) {
	tests := []struct {
		accepted string // as these
		values   []string
	}{
		{"exp iat", []string{`1700000001`, `"1700000001"`, `1700000001.5`, `1.8e9`, `"1.8e9"`, `253402300799`}},
		{"nbf iat", []string{`1700000000`, `"1700000000"`, `1700000000.9`, `1.7e9`, `0`, `-0`, `-1`, `"-1"`, `-1.5`}},
		{"exp nbf iat", []string{`null`}},
		{"", []string{ // not in the years 0 to 9999
			`253402300800`, `-62167219201`, `9223372036854775807`, `-9223372036854775808`, `99999999999999999999`,
			`1e300`, `-1e300`, `"1e300"`, `1e999`, `-1e999`,
		}},
		{"", []string{ // no number
			`true`, `{}`, `[]`, `[1700000001]`, `""`, `"soon"`, `"NaN"`, `"Infinity"`, `"0x70000000"`, `" 1800000000"`, `"2030-01-01T00:00:00Z"`,
		}},
	}
	v := TokenVerifier{Keys: [][]byte{testKey}, Now: at(1700000000)}
	for _, tt := range tests {
		for _, value := range tt.values {
			t.Run(value, func(t *testing.T) {
				for _, name := range []string{"exp", "nbf", "iat"} {
					_, err := v.Verify(rawToken(testKey, hs256, `{"`+name+`":`+value+`}`))
					if want := strings.Contains(tt.accepted, name); (err == nil) != want || err != nil && !errors.Is(err, ErrInvalidToken) {
						t.Errorf("%s %s got %v, want accepted: %v", name, value, err, want)
					}
				}
			})
		}
	}
}

func signedWith(t *testing.T, method jwt.SigningMethod) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, jwt.MapClaims{}).SignedString(testKey)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// nonCanonical sets a bit that the last character of the signature does not
// use: lenient decoders read the same 32 bytes.
func nonCanonical(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last|1])
}

func TestRequire(t *testing.T) {
	v := TokenVerifier{Keys: [][]byte{testKey}, Require: []string{"tenant"}}
	for claims, want := range map[string]bool{
		`{"tenant":"1"}`: true, `{"tenant":1}`: true, `{"tenant":0}`: true, `{"tenant":false}`: true, `{"tenant":"null"}`: true,
		`{"tenant":["a"]}`: true, `{"tenant":{"a":1}}`: true,
		`{"tenant":""}`: false, `{"tenant":" "}`: false, `{"tenant":null}`: false, `{"tenant":[]}`: false, `{"tenant":[ ]}`: false, `{"tenant":"\t\u00a0"}`: false, `{"tenant":["",""]}`: false,
		`{"tenant":{}}`: false, `{"TENANT":"1"}`: false,
	} {
		t.Run(claims, func(t *testing.T) {
			_, err := v.Verify(rawToken(testKey, hs256, claims))
			if (err == nil) != want || err != nil && !errors.Is(err, jwt.ErrTokenRequiredClaimMissing) {
				t.Errorf("claims %s got %v, want accepted: %v", claims, err, want)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	token := rawToken(testKey, hs256, `{"iss":"i","organization_id":9007199254740993,"album_id":"7","user_id":null,"tenant":{"id":9007199254740995}}`)
	v := TokenVerifier{Keys: [][]byte{testKey}}
	claims, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{claims.Issuer, claims.OrganizationID, claims.AlbumID, claims.UserID}
	if diff := cmp.Diff([]string{"i", "9007199254740993", "7", ""}, got); diff != "" {
		t.Errorf("claims differ (-want +got):\n%s", diff)
	}
	var own struct {
		Tenant struct {
			ID int64 `json:"id"`
		} `json:"tenant"`
	}
	if err := claims.Decode(&own); err != nil || own.Tenant.ID != 9007199254740995 {
		t.Errorf("Decode got %v and %v, want the tenant's id exactly", own, err)
	}
	if err := claims.Decode(&struct {
		Tenant string `json:"tenant"`
	}{}); err == nil || !strings.Contains(err.Error(), "tenant") {
		t.Errorf("Decode into a wrong type got %v, want an error that names the claim", err)
	}
}

// TestDecode compares Decode with encoding/json: the outcome is the same for every
// kind of field, but names are exact, as they are in Claims.
func TestDecode(t *testing.T) {
	type inner struct {
		A *int `json:"a"`
		B any
	}
	type own struct {
		Claims
		Number   json.Number     `json:"number"`
		Numbers  []json.Number   `json:"numbers"`
		Any      any             `json:"any"`
		Raw      json.RawMessage `json:"raw"`
		Duration time.Duration   `json:"duration"`
		Bytes    []byte          `json:"bytes"`
		Time     time.Time       `json:"time"`
		Quoted   int64           `json:"quoted,string"`
		Array    [2]int          `json:"array"`
		Map      map[string]inner
		inner
	}
	for _, set := range []string{
		`{"album_id":"7","exp":1800000000,"aud":"a","number":9007199254740993,"numbers":[1.50,"2",null],"any":[1,"a",{"x":1.5}],"raw":{ "a" : 1 }}`,
		`{"duration":1000,"bytes":"AQI=","time":"2030-01-02T03:04:05Z","quoted":"9007199254740993","array":[1,2,3],"Map":{"k":{"a":1,"B":[]}},"a":2,"B":null}`,
		`{"bytes":null,"numbers":[],"array":[1],"number":null,"quoted":"0","novelty":{"a":1}}`,
		`{"number":"x"}`, `{"number":{}}`, `{"quoted":1}`, `{"duration":"1s"}`, `{"album_id":{}}`, `{"array":{}}`, `{"Map":{"k":{"a":1.5}}}`,
	} {
		t.Run(set, func(t *testing.T) {
			var want, got own
			wantErr, gotErr := json.Unmarshal([]byte(set), &want), (&Claims{set: jsontext.Value(set)}).Decode(&got)
			if (wantErr == nil) != (gotErr == nil) {
				t.Fatalf("Decode got %v, encoding/json %v, want an error from both or none", gotErr, wantErr)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(own{}, Claims{})); wantErr == nil && diff != "" {
				t.Errorf("Decode differs from encoding/json (-want +got):\n%s", diff)
			}
		})
	}
	for _, set := range []string{`{"album_id":"7","ALBUM_ID":"8"}`, `{"ALBUM_ID":"8","album_id":"7"}`, `{"album_id":"7","Album_Id":"8","albumID":"9"}`} {
		t.Run(set, func(t *testing.T) {
			claims, err := (&TokenVerifier{Keys: [][]byte{testKey}}).Verify(rawToken(testKey, hs256, set))
			if err != nil {
				t.Fatal(err)
			}
			var got Claims
			if err := claims.Decode(&got); err != nil || got.AlbumID != "7" || claims.AlbumID != "7" {
				t.Errorf("Decode got album %q (%v), Verify %q, want 7 from both", got.AlbumID, err, claims.AlbumID)
			}
		})
	}
}

func TestClaimsMadeByHand(t *testing.T) {
	claims := &Claims{OrganizationID: "o", RegisteredClaims: jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Unix(1800000000, 0))}}
	var got map[string]any
	if err := claims.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"organization_id": "o", "exp": 1800000000.0}, got); diff != "" {
		t.Errorf("set differs (-want +got):\n%s", diff)
	}
	bad := &Claims{AlbumID: "\xff"}
	if err := bad.Decode(&got); err == nil {
		t.Error("Decode of claims that are no UTF-8 got nil, want an error")
	}
	changed := *newDelivery(t, "{}", `{"album_id":"1"}`, 1).Claims
	changed.AlbumID = "2"
	late := &Claims{RegisteredClaims: jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Unix(1e13, 0))}}
	for name, c := range map[string]*Claims{"are no UTF-8": bad, "were verified, and changed": &changed, "expire after the year 9999": late} {
		if _, err := NewDelivery([]byte("{}"), c, time.Now()); !errors.Is(err, ErrInvalidDelivery) {
			t.Errorf("NewDelivery with claims that %s got %v, want %v", name, err, ErrInvalidDelivery)
		}
	}
}

func TestScope(t *testing.T) {
	tests := []struct{ name, claims, want string }{
		{"names sorted, white space gone", `{ "b" : 1, "a" : {"d":1, "c":2} }`, `{"a":{"c":2,"d":1},"b":1}`},
		{"what differs from token to token is left out", `{"iat":1,"nbf":1,"exp":9999999999,"jti":"x","iss":"i"}`, `{"iss":"i"}`},
		{"only at the top", `{"a":{"jti":1}}`, `{"a":{"jti":1}}`},
		{"numbers keep their text", `{"a":9007199254740993,"b":1.0,"c":1e2}`, `{"a":9007199254740993,"b":1.0,"c":1e2}`},
		{"strings have one spelling", `{"a":"\u0041\/é<"}`, `{"a":"A/é<"}`},
		{"empty", `{}`, `{}`},
		{"ids as they come", `{"user_id":"u","exp":1800000000,"album_id":"a","organization_id":9007199254740993}`, `{"album_id":"a","organization_id":9007199254740993,"user_id":"u"}`},
		{"elements keep their order", `{"b":[2,1, {"d":1,"c":null} ],"a":true}`, `{"a":true,"b":[2,1,{"c":null,"d":1}]}`},
		{"names have one spelling", `{"\u0062":1,"a\/":2,"\u00e9":3}`, `{"a/":2,"b":1,"é":3}`},
		// By bytes U+1F600 comes after U+FB01, in UTF-16 before it, and so RFC 8785 has it.
		{"names beyond ASCII", `{"\uFB01":1,"😀":2,"é":3,"z":4}`, `{"z":4,"é":3,"😀":2,"ﬁ":1}`},
		{"odd text", `{"a":"<>&\u2028","B":-0.0e1}`, `{"B":-0.0e1,"a":"<>& "}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims, err := parseClaims([]byte(tt.claims))
			if err != nil {
				t.Fatal(err)
			}
			if got := claims.scope(); got != tt.want {
				t.Errorf("scope of %s got %s, want %s", tt.claims, got, tt.want)
			}
		})
	}
}

func TestTokenVerifierConcurrently(t *testing.T) {
	v := &TokenVerifier{Keys: [][]byte{otherKey, testKey}, Issuer: "i", Require: []string{"iss"}}
	token := rawToken(testKey, hs256, `{"iss":"i"}`)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := v.Verify(token); err != nil {
				t.Errorf("Verify got %v, want nil", err)
			}
		})
	}
	wg.Wait()
}

func TestSignToken(t *testing.T) {
	if _, err := SignToken(testKey[:31], &Claims{}); !errors.Is(err, ErrNoSecrets) {
		t.Errorf("SignToken with 31 bytes got %v, want %v", err, ErrNoSecrets)
	}
	if _, err := SignToken(testKey, jwt.MapClaims{"x": func() {}}); err == nil {
		t.Error("SignToken of claims that are no JSON got nil, want an error")
	}
	// What is always refused later is refused now, and not after the upload.
	for want, claims := range map[string]jwt.Claims{
		"it has 8259 bytes, more than 8192": jwt.MapClaims{"album_id": "7", "permissions": strings.Repeat("x", 6100)},
		"sub is of the wrong kind":          jwt.MapClaims{"sub": 42},
		"is it in milliseconds?":            jwt.MapClaims{"exp": time.Now().UnixMilli()},
		"not one JSON object with unique":   (*Claims)(nil),
	} {
		if token, err := SignToken(testKey, claims); !errors.Is(err, ErrInvalidToken) || token != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("SignToken got %.10q and %v, want none and %v with %q", token, err, ErrInvalidToken, want)
		}
	}
	fits, err := SignToken(testKey, jwt.MapClaims{"exp": 1, "x": strings.Repeat("x", 6067)})
	if _, verifyErr := (&TokenVerifier{Keys: [][]byte{testKey}, Now: at(0)}).Verify(fits); err != nil || verifyErr != nil || len(fits) != maxTokenSize {
		t.Errorf("the longest token got %d bytes, %v from SignToken and %v from Verify, want %d and nil", len(fits), err, verifyErr, maxTokenSize)
	}
	token, err := SignToken(testKey, &Claims{AlbumID: "7", UserID: "u"})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || string(payload) != `{"album_id":"7","user_id":"u"}` {
		t.Errorf("the claim set got %s and %v, want the two claims and no empty ones", payload, err)
	}
}

func TestNotificationURL(t *testing.T) {
	tests := []struct{ endpoint, token, want string }{
		{"https://app.example/hook", "a.b-c_d", "https://app.example/hook?token=a.b-c_d"},
		{"http://127.0.0.1:8080/hook", "t", "http://127.0.0.1:8080/hook?token=t"},
		{"https://app.example/hook?z=1&a=%2F+b", "t", "https://app.example/hook?z=1&a=%2F+b&token=t"},
		{"https://app.example/a%2Fb?", "t", "https://app.example/a%2Fb?token=t"},
		{"https://app.example", "a&b=c", "https://app.example?token=a%26b%3Dc"},
		{"https://app.example/", "t", "https://app.example/?token=t"},
		{"https://app.example/hook/", "t", "https://app.example/hook/?token=t"},
		{"https://app.example/a%2F%2Fb?x=//", "t", "https://app.example/a%2F%2Fb?x=//&token=t"},
		{"https://app.example/hook", strings.Repeat("t", 8193), ""},
		{"https://app.example/hook", "", ""},
	}
	for _, endpoint := range []string{
		"https://app.example/a//", "https://app.example//hook", "https://app.example//", "https://app.example/a/../hook", "https://app.example/./hook",
		"https://app.example/hook/..", "https://app.example/hook?token=x", "https://app.example/hook?a;b", "https://app.example/hook#part", "https://app.example/hook#",
		"/hook", "//app.example/hook", "https:///hook", "ftp://app.example/hook", "mailto:somebody@app.example", "https://app.example/%zz", "",
	} {
		tests = append(tests, struct{ endpoint, token, want string }{endpoint, "t", ""})
	}
	for _, tt := range tests {
		t.Run(tt.endpoint, func(t *testing.T) {
			got, err := NotificationURL(tt.endpoint, tt.token)
			if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, ErrInvalidURL) {
				t.Fatalf("NotificationURL(%q, %q) got %q and %v, want %q", tt.endpoint, tt.token, got, err, tt.want)
			}
			if u, err := url.Parse(got); tt.want != "" && (err != nil || u.Query().Get("token") != tt.token) {
				t.Errorf("the token read back from %q got %q, want %q", got, u.Query().Get("token"), tt.token)
			}
		})
	}
}

// FuzzTokenVerifier: accepted is exactly what an HS256 check accepts that is
// written here once more, with nothing of golang-jwt and nothing of json/v2.
func FuzzTokenVerifier(f *testing.F) {
	headers := []string{hs256, `{"alg":"none"}`, `{"alg":"HS256","crit":null}`, `{"alg":"none","alg":"HS256"}`, `{"alg":"HS256","\u0062\u0036\u0034":false}`, `null`}
	for i, claims := range []string{
		`{}`, `{"album_id":"1","sub":"s","aud":["a","b"],"jti":"j"}`, `{"album_id":18446744073709551616}`, `{"exp":1}`, `{"exp":"1700000001","nbf":1.7e9,"iat":-1}`,
		`{"exp":1e300}`, `{"nbf":1700000001}`, `{"iat":{}}`, `[]`, `null`, `{"a":1,"a":2}`, `{"x":{"a":1,"\u0061":2}}`, `{"album_id":{}}`, `{"iss":1}`, `{"aud":[1]}`,
		`{"a":"\ud83d\ude00"}`, `{"a":"\ud83d"}`, "{\"a\":\"\xff\"}", `{"a":[[{}]]}`,
	} {
		f.Add(rawToken(testKey, hs256, claims), headers[i%len(headers)], claims)
		f.Add(nonCanonical(rawToken(testKey, hs256, claims)), hs256, claims)
		f.Add(rawToken(otherKey, hs256, claims), hs256, " "+claims+"\n")
	}
	v := TokenVerifier{Keys: [][]byte{testKey}, Now: at(1700000000)}
	f.Fuzz(func(t *testing.T, token, header, claims string) {
		for _, token := range []string{token, rawToken(testKey, header, claims)} {
			got, err := v.Verify(token)
			if want := independentHS256(token, 1700000000); (err == nil) != want || (got == nil) != (err != nil) {
				t.Errorf("Verify(%q) got %v and %v, want accepted: %v", token, got, err, want)
			}
		}
	})
}

// independentHS256: three parts in canonical base64, the algorithm, the right
// MAC, no extension, a claim set in order and in time.
func independentHS256(token string, now float64) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > 8<<10 {
		return false
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		decoded[i], err = base64.RawURLEncoding.DecodeString(part)
		if err != nil || base64.RawURLEncoding.EncodeToString(decoded[i]) != part {
			return false
		}
	}
	mac := hmac.New(sha256.New, testKey)
	mac.Write([]byte(parts[0] + "." + parts[1]))
	var header map[string]any
	if !hmac.Equal(mac.Sum(nil), decoded[2]) || json.Unmarshal(decoded[0], &header) != nil || header["alg"] != "HS256" {
		return false
	}
	_, crit := header["crit"]
	_, b64 := header["b64"]
	return !crit && !b64 && independentClaims(decoded[1], now)
}

// independentClaims: one object of UTF-8 with unique names everywhere, members
// of the kinds that RFC 7519 gives them, and the clock between nbf and exp.
func independentClaims(set []byte, now float64) bool {
	if !json.Valid(set) || !utf8.Valid(set) || hasLoneSurrogate(set) || !uniqueNames(json.NewDecoder(bytes.NewReader(set))) {
		return false
	}
	var claims map[string]json.RawMessage
	if json.Unmarshal(set, &claims) != nil || claims == nil {
		return false
	}
	for _, name := range []string{"iss", "sub", "jti", "aud", "organization_id", "album_id", "user_id"} {
		var value any
		if claims[name] != nil && json.Unmarshal(claims[name], &value) != nil {
			value = json.Number(claims[name]) // beyond float64, and a number all the same
		}
		switch value := value.(type) {
		case nil, string:
		case float64, json.Number:
			if !strings.HasSuffix(name, "_id") {
				return false
			}
		case []any:
			for _, element := range value {
				if _, ok := element.(string); name != "aud" || !ok {
					return false
				}
			}
			if name != "aud" {
				return false
			}
		default:
			return false
		}
	}
	exp, expOK := independentDate(claims["exp"], math.Inf(1))
	nbf, nbfOK := independentDate(claims["nbf"], math.Inf(-1))
	_, iatOK := independentDate(claims["iat"], 0)
	return expOK && nbfOK && iatOK && now < exp && nbf <= now
}

// independentDate reads whole seconds between the years 0 and 9999, quoted or
// not; absent is what is said of one that is not there.
func independentDate(raw json.RawMessage, absent float64) (float64, bool) {
	text := string(raw)
	if text == "" || text == "null" {
		return absent, true
	}
	if text[0] == '"' && json.Unmarshal(raw, &text) != nil || !json.Valid([]byte(text)) {
		return 0, false
	}
	seconds, err := strconv.ParseFloat(text, 64)
	seconds = math.Floor(seconds)
	return seconds, err == nil && seconds >= -62167219200 && seconds < 253402300800
}

// uniqueNames walks over one valid JSON value.
func uniqueNames(dec *json.Decoder) bool {
	dec.UseNumber()
	start, err := dec.Token()
	if err != nil {
		return false
	}
	names := make(map[string]bool)
	for start == json.Delim('{') && dec.More() {
		name, _ := dec.Token()
		if names[name.(string)] || !uniqueNames(dec) {
			return false
		}
		names[name.(string)] = true
	}
	for start == json.Delim('[') && dec.More() {
		if !uniqueNames(dec) {
			return false
		}
	}
	if start == json.Delim('{') || start == json.Delim('[') {
		_, _ = dec.Token()
	}
	return true
}

var (
	otherEscape = regexp.MustCompile(`\\[^u]|\\u[dD][89abAB]..\\u[dD][c-fC-F]..`)
	surrogate   = regexp.MustCompile(`\\u[dD][89a-fA-F]`)
)

// hasLoneSurrogate looks for escapes of half a character in valid JSON.
func hasLoneSurrogate(data []byte) bool {
	return surrogate.Match(otherEscape.ReplaceAll(data, nil))
}
