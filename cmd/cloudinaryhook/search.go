package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"hash"
	"io"
	"iter"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// search finds out how the sender computed a digest. It returns the deviations
// from Cloudinary's way, none if there are none. It returns false if it does
// not find the way. It tries the likeliest ways first, and deviates in only one
// of body, timestamp and digest at a time.
func search(ctx context.Context, body []byte, timestamp string, digest []byte, secrets []form) (deviations []form, ok bool) {
	newHash := hashes[len(digest)]
	for b := range bodyForms(body) {
		if ctx.Err() != nil {
			return nil, false
		}
		h := newHash()
		io.WriteString(h, b.value)
		for _, t := range timestampForms(timestamp) {
			if b.cause != "" && t.cause != "" {
				continue
			}
			for _, s := range secrets {
				if sums(h, digest, t.value, s.value) {
					return deviating(b, t, s), true
				}
			}
		}
	}
	for _, s := range secrets {
		if d, ok := otherDigest(newHash, string(body), timestamp, s.value, digest); ok {
			return deviating(d, s), true
		}
	}
	return nil, false
}

// sums reports whether h, after it has hashed these parts too, has this digest.
func sums(h hash.Hash, digest []byte, parts ...string) bool {
	c, err := h.(hash.Cloner).Clone()
	if err != nil {
		return false // no hash of the standard library fails here
	}
	for _, part := range parts {
		io.WriteString(c, part)
	}
	return bytes.Equal(c.Sum(nil), digest)
}

func deviating(forms ...form) []form {
	return slices.DeleteFunc(forms, func(f form) bool { return f.cause == "" })
}

// timestampForms lists the texts that self-written senders sign instead of the
// header's text. JavaScript's Date.now() has milliseconds.
func timestampForms(timestamp string) []form {
	all := []form{{value: timestamp}, {"", "digest-no-timestamp", ""}}
	if t := strings.TrimSpace(timestamp); t != timestamp {
		all = append(all, form{t, "digest-timestamp", "It signs the text without the white space."})
	}
	if seconds, ok := strings.CutSuffix(timestamp, "000"); ok {
		all = append(all, form{seconds, "digest-timestamp", "It signs seconds and sends milliseconds."})
	} else if len(timestamp) > 12 {
		all = append(all, form{timestamp[:len(timestamp)-3], "digest-timestamp", "It signs seconds and sends milliseconds."})
	}
	return append(all, form{timestamp + "000", "digest-timestamp", "It signs milliseconds and sends seconds."})
}

// otherDigest tries wrong combinations of the right parts: people write test
// senders from memory. Cloudinary's documentation itself speaks of an HMAC.
// Other services sign an HMAC over the body, over timestamp and body, or with a
// dot between them.
func otherDigest(newHash func() hash.Hash, body, timestamp, secret string, digest []byte) (form, bool) {
	for _, message := range []string{body + timestamp, body, timestamp + body, timestamp + "." + body} {
		mac := hmac.New(newHash, []byte(secret))
		io.WriteString(mac, message)
		if hmac.Equal(mac.Sum(nil), digest) {
			return form{cause: "digest-hmac"}, true
		}
	}
	for _, parts := range [][]string{{timestamp, body, secret}, {secret, body, timestamp}, {secret, timestamp, body}, {body, secret, timestamp}, {timestamp, secret, body}} {
		if sums(newHash(), digest, parts...) {
			return form{cause: "digest-order"}, true
		}
	}
	return form{}, false
}

// bodyForms yields the body as it came, and then the bodies that it may have
// been before something changed it.
func bodyForms(body []byte) iter.Seq[form] {
	return func(yield func(form) bool) {
		came := string(body)
		enough := false
		try := func(value, cause, detail string) {
			if !enough && value != "" && (value != came || cause == "") {
				enough = !yield(form{value, cause, detail})
			}
		}
		try(came, "", "")
		// Editors, templates, shells and git treat bytes as text.
		try(strings.TrimRight(came, "\r\n"), "body-newline", "It was added.")
		try(came+"\n", "body-newline", "It was taken off.")
		try(came+"\r\n", "body-newline", "CR and LF were taken off.")
		try(strings.TrimPrefix(came, "\ufeff"), "body-bom", "It was put before it.")
		try("\ufeff"+came, "body-bom", "It was taken off.")
		try(strings.ReplaceAll(came, "\r\n", "\n"), "body-crlf", "They were LF.")
		try(strings.ReplaceAll(strings.ReplaceAll(came, "\r\n", "\n"), "\n", "\r\n"), "body-crlf", "They were CRLF.")
		try(strings.Trim(came, spaceAndMore), "body-space", "It was added.")
		// Proxies, frameworks that decode to text, and API Gateway change the
		// encoding.
		try(gunzipped(body), "body-gzip", "It came compressed, and was signed before that.")
		try(fromLatin1(body), "body-latin1", "It came as UTF-8 of Latin-1.")
		try(toUTF8(body), "body-latin1", "It came as Latin-1.")
		for _, encoding := range encodings {
			if decoded, err := encoding.DecodeString(strings.Trim(came, spaceAndMore+quotes)); err == nil {
				try(string(decoded), "body-base64", "")
			}
		}
		try(base64.StdEncoding.EncodeToString(body), "body-base64", "It was decoded, and should not have been.")
		for _, f := range percentForms(came) {
			try(f, "body-percent", "")
		}
		// Some programs decode JSON before they verify it. These forms are many, so
		// they come late.
		for f := range reencodings(body) {
			try(f.value, f.cause, f.detail)
			try(f.value+"\n", f.cause, f.detail) // as in a text file
		}
		if !enough { // a beginner's mistake: var body []byte; r.Body.Read(body)
			yield(form{"", "body-none", ""})
		}
	}
}

// percentForms lists the bodies that this one may have been before a framework
// encoded or decoded it as a form. Cloudinary sends the Content-Type of a form.
func percentForms(body string) []string {
	var all []string
	_, value, _ := strings.Cut(body, "=") // of a form field
	for _, text := range []string{body, value, strings.TrimSuffix(body, "=")} {
		if decoded, err := url.QueryUnescape(text); err == nil {
			all = append(all, decoded)
		}
	}
	return append(all, url.QueryEscape(body))
}

// gunzipped returns the decompressed body. If the body is not compressed, it
// returns it unchanged.
func gunzipped(body []byte) string {
	const limit = 32 << 20 // bytes; the body may be an attack
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return string(body)
	}
	plain, err := io.ReadAll(io.LimitReader(z, limit))
	if err != nil {
		return string(body)
	}
	return string(plain)
}

// fromLatin1 reverses this mistake: something took the bytes for Latin-1 and
// encoded them as UTF-8.
func fromLatin1(body []byte) string {
	out := make([]byte, 0, len(body))
	for _, r := range string(body) {
		if r > 0xff {
			return string(body)
		}
		out = append(out, byte(r)) //nolint:gosec // it fits
	}
	return string(out)
}

// toUTF8 decodes a body that is not UTF-8 as Latin-1.
func toUTF8(body []byte) string {
	if utf8.Valid(body) {
		return string(body)
	}
	var b strings.Builder
	for _, c := range body {
		b.WriteRune(rune(c))
	}
	return b.String()
}

// exponent finds large numbers as Go and JavaScript write them. Cloudinary
// writes all digits.
var exponent = regexp.MustCompile(`:\s*-?[0-9.]+e\+[0-9]+`)

// signingKey returns the API key that the body names as the key whose secret
// has signed it.
func signingKey(body []byte) string {
	var b struct {
		SignatureKey string `json:"signature_key"`
	}
	_ = json.Unmarshal(body, &b)
	return b.SignatureKey
}

// namesSorted reports whether the names of all objects are in alphabetical
// order. There must be at least five names: fewer may be in order by chance.
func namesSorted(body []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // keeps all digits
	var value any
	if !json.Valid(body) || decoder.Decode(&value) != nil {
		return false
	}
	sorted, err := json.Marshal(value)
	plain := style{comma: ",", colon: ":"}
	return err == nil && bytes.Count(sorted, []byte(`":`)) >= 5 && bytes.Equal(plain.write(sorted), plain.write(body))
}
