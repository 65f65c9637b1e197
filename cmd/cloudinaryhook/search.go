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

// search looks for how a digest came about. It returns what deviates from what
// Cloudinary does, nothing if nothing does, and false if no way was found. The
// likeliest ways come first, and of body, timestamp and digest only one deviates.
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

// sums reports whether the hash with these parts after it has this digest.
func sums(h hash.Hash, digest []byte, parts ...string) bool {
	c, err := h.(hash.Cloner).Clone()
	if err != nil {
		return false // none of the standard library's does that
	}
	for _, part := range parts {
		io.WriteString(c, part)
	}
	return bytes.Equal(c.Sum(nil), digest)
}

func deviating(forms ...form) []form {
	return slices.DeleteFunc(forms, func(f form) bool { return f.cause == "" })
}

// timestampForms are the texts that senders of people's own sign instead of the
// header's. JavaScript's Date.now() has milliseconds.
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

// otherDigest tries what is made of the right parts in a wrong way, as test senders
// do that were written from memory. Cloudinary's documentation itself speaks of an
// HMAC, and other services sign one over body, over timestamp and body, or with a
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

// bodyForms yields the body as it came, and then what it may have been before
// something changed it.
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
		// What makes text of bytes: editors, templates, shells, git.
		try(strings.TrimRight(came, "\r\n"), "body-newline", "It was added.")
		try(came+"\n", "body-newline", "It was taken off.")
		try(came+"\r\n", "body-newline", "CR and LF were taken off.")
		try(strings.TrimPrefix(came, "\ufeff"), "body-bom", "It was put before it.")
		try("\ufeff"+came, "body-bom", "It was taken off.")
		try(strings.ReplaceAll(came, "\r\n", "\n"), "body-crlf", "They were LF.")
		try(strings.ReplaceAll(strings.ReplaceAll(came, "\r\n", "\n"), "\n", "\r\n"), "body-crlf", "They were CRLF.")
		try(strings.Trim(came, spaceAndMore), "body-space", "It was added.")
		// What recodes bytes: proxies, frameworks that decode to text, API Gateway.
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
		// What decodes JSON before the check sees it. There are many of these.
		for f := range reencodings(body) {
			try(f.value, f.cause, f.detail)
			try(f.value+"\n", f.cause, f.detail) // of a text file
		}
		if !enough { // the naive reader's: var body []byte; r.Body.Read(body)
			yield(form{"", "body-none", ""})
		}
	}
}

// percentForms are what a body may have been before a form was made of it, or out
// of it: the Content-Type that Cloudinary sends invites frameworks to do so.
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

// gunzipped returns what a compressed body holds, or the body.
func gunzipped(body []byte) string {
	const limit = 32 << 20 // bytes; the body is a stranger's
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

// fromLatin1 undoes what makes UTF-8 of bytes that were taken for Latin-1.
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

// toUTF8 takes bytes that are not UTF-8 for Latin-1.
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

// exponent finds numbers as Go and JavaScript write large floats. Cloudinary's have
// all their digits.
var exponent = regexp.MustCompile(`:\s*-?[0-9.]+e\+[0-9]+`)

// signingKey is the API key whose secret has signed the body, as that says.
func signingKey(body []byte) string {
	var b struct {
		SignatureKey string `json:"signature_key"`
	}
	_ = json.Unmarshal(body, &b)
	return b.SignatureKey
}

// namesSorted reports whether the names of all objects are in order, of five
// names at least: fewer may be by chance.
func namesSorted(body []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // digits stay
	var value any
	if !json.Valid(body) || decoder.Decode(&value) != nil {
		return false
	}
	sorted, err := json.Marshal(value)
	plain := style{comma: ",", colon: ":"}
	return err == nil && bytes.Count(sorted, []byte(`":`)) >= 5 && bytes.Equal(plain.write(sorted), plain.write(body))
}
