package main

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
)

// A form is another spelling of a value, and the cause that makes one of it.
type form struct {
	value  string
	cause  string
	detail string
}

var encodings = []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding}

const (
	spaceAndMore = " \t\r\n\v\f\x00\ufeff\u00a0\u200b"
	quotes       = "\"'`“”‘’"
)

// forms are the other spellings of a secret or a key that people have in their
// environment by mistake. Kind is "secret" or "key". That the value itself fits
// was tried before.
func forms(kind string, v named) []form {
	var all []form
	seen := map[string]bool{v.value: true, "": true}
	add := func(cause, value, detail string) {
		if !seen[value] {
			seen[value] = true
			all = append(all, form{value, kind + "-" + cause, detail})
		}
	}
	without := v.name + " fits without it."
	add("newline", strings.TrimRight(v.value, "\r\n"), without)
	add("newline", strings.TrimSuffix(v.value, `\n`), v.name+` fits without the two characters \n.`)
	bare := strings.Trim(v.value, spaceAndMore)
	add("space", bare, v.name+" fits without them.")
	if unquoted := strings.Trim(bare, quotes); unquoted != bare {
		bare = unquoted
		add("quotes", unquoted, v.name+" fits without them.")
		add("quotes", strings.Trim(unquoted, spaceAndMore), v.name+" fits without them, and without white space.")
	}
	add("newline", v.value+"\n", "The sender has it: "+v.name+" fits with a newline after it.")
	for _, encoding := range encodings {
		if decoded, err := encoding.DecodeString(bare); err == nil {
			add("base64", string(decoded), v.name+" fits once it is decoded.")
			add("base64", strings.TrimRight(string(decoded), "\r\n"), v.name+" fits once it is decoded, without the newline at its end.")
		}
	}
	if decoded, err := hex.DecodeString(bare); err == nil {
		add("hex", string(decoded), v.name+" fits once it is decoded.")
	}
	if decoded, err := url.PathUnescape(bare); err == nil {
		add("percent", decoded, v.name+" fits once it is decoded.")
	}
	if decoded, err := url.QueryUnescape(bare); err == nil {
		add("percent", decoded, v.name+" fits once it is decoded, with + for a space.")
	}
	for _, part := range parts(bare) {
		add("more", strings.Trim(part, spaceAndMore+quotes), "A part of "+v.name+" fits.")
	}
	if kind == "key" {
		for _, encoding := range encodings {
			add("base64", encoding.EncodeToString([]byte(v.value)), v.name+" fits once it is encoded.")
		}
		add("hex", hex.EncodeToString([]byte(v.value)), v.name+" fits once it is encoded.")
	}
	return all
}

// parts are those of a value that holds more than one thing: a URL with the
// secret in it, NAME=VALUE, or a list.
func parts(value string) []string {
	var all []string
	if u, err := url.Parse(value); err == nil && u.User != nil {
		if secret, ok := u.User.Password(); ok {
			all = append(all, secret)
		}
	}
	if _, right, ok := strings.Cut(value, "="); ok {
		all = append(all, right)
	}
	for _, separator := range []string{",", ";", "\n", " "} {
		all = append(all, strings.Split(value, separator)...)
	}
	return all
}
