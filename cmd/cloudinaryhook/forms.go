package main

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"

	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

// A form is another spelling of a value, and the cause that leads to it.
type form struct {
	value  string
	cause  string
	detail string
}

var encodings = []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding}

// The package refuses these characters around a secret. People can type or
// paste them, for example a byte order mark, a no-break space and a zero-width
// space.
const (
	spaceAndMore = " \t\r\n\v\f\x00\ufeff\u00a0\u200b"
	quotes       = "\"'`“”‘’"
)

// forms lists the other spellings of a secret or a key that people have in
// their environment by mistake. Kind is "secret" or "key". The value itself was
// tried before. If two mistakes lead to the same form, the first in the list
// names it: the one that people can find more easily.
func forms(kind string, v secrets.Value) []form {
	var all []form
	seen := map[string]bool{v.Value: true, "": true} // an empty secret would fit what anybody signs
	add := func(cause, value, detail string) {
		if !seen[value] {
			seen[value] = true
			all = append(all, form{value, kind + "-" + cause, detail})
		}
	}
	// A newline at the end of a file, or one that an .env file writes as two
	// characters.
	add("newline", strings.TrimRight(v.Value, "\r\n"), v.From+" fits without it.")
	add("newline", strings.TrimSuffix(v.Value, `\n`), v.From+` fits without the two characters \n.`)
	bare := strings.Trim(v.Value, spaceAndMore)
	add("space", bare, v.From+" fits without them.")
	if unquoted := strings.Trim(bare, quotes); unquoted != bare {
		bare = unquoted
		add("quotes", unquoted, v.From+" fits without them.")
		add("quotes", strings.Trim(unquoted, spaceAndMore), v.From+" fits without them, and without white space.")
	}
	// Here the other side has the newline.
	add("newline", v.Value+"\n", "The sender has it: "+v.From+" fits with a newline after it.")
	for _, d := range decodings(bare) {
		add(d.cause, d.value, v.From+" fits once it is decoded"+d.detail)
	}
	for _, part := range parts(bare) {
		add("more", strings.Trim(part, spaceAndMore+quotes), "A part of "+v.From+" fits.")
	}
	if kind == "key" { // the app makes the key itself, so either side may decode it
		for _, encoding := range encodings {
			add("base64", encoding.EncodeToString([]byte(v.Value)), v.From+" fits once it is encoded.")
		}
		add("hex", hex.EncodeToString([]byte(v.Value)), v.From+" fits once it is encoded.")
	}
	return all
}

// decodings lists the values that this one may be an encoding of.
func decodings(value string) []form {
	var all []form
	for _, encoding := range encodings {
		if decoded, err := encoding.DecodeString(value); err == nil {
			// "echo SECRET | base64" has encoded a newline too.
			all = append(all, form{string(decoded), "base64", "."},
				form{strings.TrimRight(string(decoded), "\r\n"), "base64", ", without the newline at its end."})
		}
	}
	if decoded, err := hex.DecodeString(value); err == nil {
		all = append(all, form{string(decoded), "hex", "."})
	}
	if decoded, err := url.PathUnescape(value); err == nil {
		all = append(all, form{decoded, "percent", "."})
	}
	if decoded, err := url.QueryUnescape(value); err == nil {
		all = append(all, form{decoded, "percent", ", with + for a space."})
	}
	return all
}

// parts splits a value that holds more than one thing: a URL with the secret in
// it, NAME=VALUE, or a list.
func parts(value string) []string {
	var all []string
	if u, err := url.Parse(value); err == nil && u.User != nil {
		if secret, ok := u.User.Password(); ok {
			all = append(all, secret)
		}
	}
	if _, right, ok := strings.Cut(value, "="); ok { // a whole line of an .env file:
		all = append(all, right)
	}
	// Programs that take a list for rotation separate it by these.
	for _, separator := range []string{",", ";", "\n", " "} {
		all = append(all, strings.Split(value, separator)...)
	}
	return all
}
