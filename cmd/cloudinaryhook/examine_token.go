package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// A tokenText is the content of a token. It is not verified.
type tokenText struct {
	header, payload, signature []byte
	algorithm                  string
	claims                     claimSet
	signed                     string // the part that the signature is over
}

// readToken splits and decodes a token. It accepts more base64 than the package
// does, so that the fault can be named.
func readToken(token string) (t tokenText, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return t, false
	}
	decoded := make([][]byte, 3)
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "=")); err != nil {
			return t, false
		}
	}
	t = tokenText{header: decoded[0], payload: decoded[1], signature: decoded[2], signed: parts[0] + "." + parts[1]}
	var header struct{ Alg string }
	if json.Unmarshal(t.header, &header) != nil || json.Unmarshal(t.payload, &t.claims.members) != nil {
		return t, false
	}
	t.algorithm = header.Alg
	return t, true
}

var tokenHashes = map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}

// signedWith reports whether this key has signed the token, with the HMAC that
// the token's header names.
func (t *tokenText) signedWith(key string) bool {
	newHash := tokenHashes[t.algorithm]
	if newHash == nil {
		return false
	}
	mac := hmac.New(newHash, []byte(key))
	mac.Write([]byte(t.signed))
	return hmac.Equal(mac.Sum(nil), t.signature)
}

// examineToken finds why the token in a URL's query is refused. It returns the
// verifier's own error too, nil if the token is accepted.
func (x *examination) examineToken(query string) error {
	values, _ := url.ParseQuery(query) // ignores malformed parts, as URL.Query does
	tokens := values["token"]
	switch {
	case len(tokens) == 0:
		if len(x.keys) == 0 {
			x.found("key-missing", "")
		}
		x.examineMissingToken(query)
		return cloudinaryhook.ErrMissingToken
	case len(tokens) > 1:
		x.found("token-repeated", fmt.Sprintf("There are %d.", len(tokens)))
		return cloudinaryhook.ErrInvalidToken
	}
	token, before := tokens[0], len(x.findings)
	_, err := x.tokenVerifier().Verify(token)
	if err == nil {
		return nil
	}
	if len(token) > maxToken {
		x.found("token-long", fmt.Sprintf("It has %d bytes.", len(token)))
	} else if t, ok := readToken(token); ok {
		x.examineClaims(&t)
		x.examineKey(&t, token)
	} else {
		x.examineSpelling(token)
	}
	if errors.Is(err, cloudinaryhook.ErrNoSecrets) && !strings.Contains(strings.Join(ids(x.findings), " "), "key-") {
		x.examineOddKeys()
	}
	if len(x.findings) == before {
		x.found("token-malformed", "")
	}
	return err
}

const maxToken = 8 << 10 // bytes; the package's limit

// tokenVerifier returns the receiver's verifier. It refuses every token if one
// of the keys is invalid.
func (x *examination) tokenVerifier() *cloudinaryhook.TokenVerifier {
	v := x.token
	for _, key := range x.keys {
		v.Keys = append(v.Keys, []byte(key.Value))
	}
	v.Now = func() time.Time { return x.at }
	return &v
}

// examineOddKeys finds keys that the package always refuses.
func (x *examination) examineOddKeys() {
	for _, key := range x.keys {
		v := cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(key.Value)}}
		_, err := v.Verify("")
		switch {
		case !errors.Is(err, cloudinaryhook.ErrNoSecrets):
		case len(key.Value) < 32:
			x.found("key-short", fmt.Sprintf("%s has %d.", key.From, len(key.Value)))
		default:
			x.found("key-odd", fmt.Sprintf("%s: %s.", key.From, reason(err)))
		}
	}
}

// examineMissingToken looks for a token that the query holds but that could not
// be read. For example, net/url drops a parameter with a semicolon, such as
// "amp;token".
func (x *examination) examineMissingToken(query string) {
	unescaped, _ := url.QueryUnescape(query)
	switch {
	case strings.Contains(query, "amp;token="):
		x.found("token-amp", "")
	case strings.Contains(query, "?token="):
		x.found("token-question", "")
	case strings.Contains(query, "token=") && strings.Contains(query, ";"):
		x.found("token-more", "A semicolon does not separate parameters.")
	case strings.Contains(unescaped, "token="):
		x.found("token-encoded", "The name of the parameter was encoded too.")
	case strings.Contains(query, "REDACTED"): // hidetoken.From hides a whole parameter if its query is malformed
		x.found("token-hidden", "")
	default:
		x.found("token-missing", "")
	}
}

var (
	// placeholder is what hidetoken.From and log filters put in place of a token.
	placeholder = regexp.MustCompile(`(?i)^\W*(redacted|filtered|hidden|masked|removed|x{3,}|\*{3,}|\.{3}|…)\W*$`)

	// tokenBegin is a token at the beginning of a text.
	tokenBegin = regexp.MustCompile(`^[\w-]+\.[\w-]+\.[\w-]+`)
)

// examineSpelling finds out what is wrong with a text that cannot be read as a
// token.
func (x *examination) examineSpelling(token string) {
	if again, err := url.QueryUnescape(token); err == nil && again != token {
		if _, ok := readToken(strings.Trim(again, "\"' \r\n")); ok {
			x.found("token-encoded", "")
			return
		}
	}
	if _, ok := readToken(strings.Trim(token, "\"' \r\n\t")); ok {
		x.found("token-quotes", "")
		return
	}
	for _, encoding := range encodings {
		if decoded, err := encoding.DecodeString(token); err == nil {
			if _, ok := readToken(string(decoded)); ok {
				x.found("token-encoded", "It is base64 of a token.")
				return
			}
		}
	}
	if placeholder.MatchString(token) {
		x.found("token-hidden", fmt.Sprintf("The URL has %.40q in its place.", token))
		return
	}
	if begin := tokenBegin.FindString(token); begin != token {
		if _, ok := readToken(begin); ok {
			x.found("token-more", fmt.Sprintf("There are %d characters after it.", utf8.RuneCountInString(token[len(begin):])))
			return
		}
	}
	if strings.HasPrefix(token, "eyJ") {
		x.found("token-cut", fmt.Sprintf("It has %d bytes and %d of 2 dots.", len(token), strings.Count(token, ".")))
		return
	}
	x.found("token-not", "")
}

// examineClaims finds claims that the package refuses with any key.
func (x *examination) examineClaims(t *tokenText) {
	leeway := x.token.Leeway
	exp, nbf := t.claims.date("exp"), t.claims.date("nbf")
	for _, name := range []string{"exp", "nbf", "iat"} {
		if at := t.claims.date(name); at.Year() > 9999 {
			x.found("token-milliseconds", "It is "+name+".")
		}
	}
	if !exp.IsZero() && exp.Year() <= 9999 && !x.at.Before(exp.Add(leeway)) {
		x.found("token-expired", "It was valid until "+exp.Format(time.RFC3339)+", "+relative(exp, x.at)+".")
	}
	if !nbf.IsZero() && nbf.Year() <= 9999 && x.at.Before(nbf.Add(-leeway)) {
		x.found("token-early", "It is valid from "+nbf.Format(time.RFC3339)+".")
	}
	if _, ok := t.claims.members["exp"]; !ok && x.token.RequireExpiry {
		x.found("token-endless", "")
	}
	var missing []string
	for _, name := range x.token.Require {
		if slices.Contains([]string{"", "null", `""`, "[]", "{}"}, string(t.claims.members[name])) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		x.found("token-claims", "Missing: "+strings.Join(missing, ", ")+".")
	}
	for _, name := range []string{"iss", "sub", "jti"} {
		if value := t.claims.members[name]; len(value) > 0 && value[0] != '"' && string(value) != "null" {
			x.found("token-kind", "It is "+name+".")
		}
	}
	if text(t.claims.members["iss"]) != x.token.Issuer && x.token.Issuer != "" {
		x.found("token-issuer", fmt.Sprintf("It is %.40q.", text(t.claims.members["iss"])))
	}
	if x.token.Audience != "" && !slices.Contains(texts(t.claims.members["aud"]), x.token.Audience) {
		x.found("token-audience", fmt.Sprintf("It is %.60s.", fmt.Sprintf("%q", texts(t.claims.members["aud"]))))
	}
}

// text returns the text of a JSON string, or "" for another value.
func text(value json.RawMessage) (s string) {
	_ = json.Unmarshal(value, &s)
	return s
}

// texts returns the texts of one JSON string or of a list of strings.
func texts(value json.RawMessage) (list []string) {
	if len(value) > 0 && value[0] == '"' {
		return []string{text(value)}
	}
	_ = json.Unmarshal(value, &list)
	return list
}

// examineKey finds which key has signed a token.
func (x *examination) examineKey(t *tokenText, token string) {
	if tokenHashes[t.algorithm] == nil {
		x.found("token-algorithm", fmt.Sprintf("It is %.40q, and not signed with a shared key.", t.algorithm))
		return
	}
	for _, key := range x.keys {
		if t.signedWith(key.Value) {
			x.examineRightKey(t, token)
			return
		}
	}
	for _, key := range x.keys {
		for _, f := range forms("key", key) {
			if t.signedWith(f.value) {
				x.found(f.cause, f.detail)
				return
			}
		}
	}
	for _, secret := range x.secrets { // an API secret must not sign tokens: all programs that make tokens would have it
		if t.signedWith(secret.Value) {
			x.found("key-other", "The key is the value of "+secret.From+".")
			return
		}
	}
	switch {
	case len(x.keys) == 0:
		x.found("key-missing", "")
	case len(t.signature) > tokenHashes[t.algorithm]().Size():
		x.found("token-more", fmt.Sprintf("Its signature has %d bytes, which is too many.", len(t.signature)))
	case len(t.signature) < tokenHashes[t.algorithm]().Size():
		x.found("token-cut", fmt.Sprintf("Its signature has %d bytes.", len(t.signature)))
	default:
		x.found("key-other", "")
	}
}

// examineRightKey looks at a token that one of the keys has signed.
func (x *examination) examineRightKey(t *tokenText, token string) {
	switch {
	case t.algorithm != "HS256":
		x.found("token-algorithm", fmt.Sprintf("It is %q, with the right key.", t.algorithm))
	case strings.Contains(token, "="):
		x.found("token-padding", "")
	case bytes.Contains(t.header, []byte(`"crit"`)) || bytes.Contains(t.header, []byte(`"b64"`)):
		x.found("token-header", "")
	}
}
