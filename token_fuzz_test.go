package cloudinaryhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

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

// hasLoneSurrogate looks for escapes of half a character in valid JSON.
func hasLoneSurrogate(data []byte) bool {
	unit := func(i int) int64 {
		if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseInt(string(data[i+2:i+6]), 16, 32)
		return n
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		switch n := unit(i); {
		case n >= 0xd800 && n < 0xdc00 && unit(i+6) >= 0xdc00 && unit(i+6) < 0xe000:
			i += 11
		case n >= 0xd800 && n < 0xe000:
			return true
		default:
			i++ // what was escaped, which may be a backslash
		}
	}
	return false
}
