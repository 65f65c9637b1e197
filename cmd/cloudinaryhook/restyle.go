package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A program that parses JSON and encodes it again verifies other bytes than the
// signed ones. Each encoder has habits, so we can tell which one wrote a body.
// To find the signed bytes, we write the same values as another encoder would.

// A style is the way in which an encoder writes JSON. All styles keep the order
// of the names and the digits of numbers.
type style struct {
	comma, colon string
	indent       string // "": all in one line
	slashes      bool   // escaped, as PHP does
	unicode      string // the format of an escaped UTF-16 unit; "": not escaped
	html         bool   // <, > and & escaped, as Go does
}

// styles yields the styles of the usual encoders in Go, JavaScript, PHP, Python
// and Ruby, with their usual options. Compact ones come first.
func styles() iter.Seq[style] {
	layouts := []style{
		{comma: ",", colon: ":"},                  // JSON.stringify, json_encode, to_json, Go
		{comma: ", ", colon: ": "},                // json.dumps
		{comma: ",", colon: ": ", indent: "  "},   // JSON.stringify(v, null, 2), JSON.pretty_generate
		{comma: ",", colon: ": ", indent: "    "}, // JSON_PRETTY_PRINT, json.dumps(indent=4)
		{comma: ",", colon: ": ", indent: "\t"},   // json.MarshalIndent, as it is mostly called
	}
	return func(yield func(style) bool) {
		for _, s := range layouts {
			for _, s.slashes = range []bool{false, true} {
				for _, s.unicode = range []string{"", `\u%04x`, `\u%04X`} {
					for _, s.html = range []bool{false, true} {
						if !yield(s) {
							return
						}
					}
				}
			}
		}
	}
}

// write writes a JSON text again, in this style. Strings may hold bytes that
// are not UTF-8, which stay as they are. It returns nil if the text grows by
// more than maxBody: each level of nesting makes every line in it longer, so a
// stranger's 20 KB would grow to gigabytes.
func (s style) write(text []byte) []byte {
	out := make([]byte, 0, len(text)+len(text)/4)
	depth := 0
	newline := func() {
		if s.indent != "" {
			out = append(append(out, '\n'), strings.Repeat(s.indent, depth)...)
		}
	}
	for i := 0; i < len(text); i++ {
		if len(out) > len(text)+maxBody {
			return nil
		}
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
		case '"':
			end := stringEnd(text, i)
			out = s.appendString(out, text[i+1:end-1])
			i = end - 1
		case '{', '[':
			out = append(out, c)
			if next := i + 1 + blanks(text[i+1:]); text[next] == c+2 { // '}' and ']' are two after their partners
				out = append(out, c+2)
				i = next
				break
			}
			depth++
			newline()
		case '}', ']':
			depth--
			newline()
			out = append(out, c)
		case ',':
			out = append(out, s.comma...)
			newline()
		case ':':
			out = append(out, s.colon...)
		default:
			out = append(out, c)
		}
	}
	return out
}

// stringEnd returns where the string literal that begins at i ends.
func stringEnd(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// blanks counts the white space at the beginning.
func blanks(text []byte) int {
	return slices.IndexFunc(text, func(c byte) bool { return !strings.ContainsRune(" \t\r\n", rune(c)) })
}

// appendString writes what is between the quotes of a string literal.
func (s style) appendString(out, literal []byte) []byte {
	out = append(out, '"')
	for i := 0; i < len(literal); {
		r, size := unescape(literal[i:])
		if r == utf8.RuneError && size == 1 { // no UTF-8
			out = append(out, literal[i])
		} else {
			out = s.appendRune(out, r)
		}
		i += size
	}
	return append(out, '"')
}

var shortEscapes = map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}

func (s style) appendRune(out []byte, r rune) []byte {
	switch {
	case shortEscapes[r] != "":
		return append(out, shortEscapes[r]...)
	case r == '/' && s.slashes:
		return append(out, `\/`...)
	case r < ' ', s.html && strings.ContainsRune("<>&\u2028\u2029", r):
		return fmt.Appendf(out, `\u%04x`, r)
	case utf16.IsSurrogate(r): // half of a pair can only be escaped
		return fmt.Appendf(out, `\u%04x`, r)
	case r >= utf8.RuneSelf && s.unicode != "":
		for _, unit := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, s.unicode, unit)
		}
		return out
	}
	return utf8.AppendRune(out, r)
}

// unescape reads one character of a string literal. For bytes that are not
// UTF-8 it returns utf8.RuneError and 1.
func unescape(literal []byte) (r rune, size int) {
	if literal[0] != '\\' {
		return utf8.DecodeRune(literal)
	}
	if literal[1] != 'u' {
		for r, escape := range shortEscapes {
			if escape[1] == literal[1] {
				return r, 2
			}
		}
		return rune(literal[1]), 2 // of \/
	}
	high := unit(literal)
	if len(literal) >= 12 && literal[6] == '\\' && literal[7] == 'u' {
		if r := utf16.DecodeRune(high, unit(literal[6:])); r != utf8.RuneError {
			return r, 12
		}
	}
	return high, 6
}

func unit(escape []byte) rune {
	n, _ := strconv.ParseUint(string(escape[2:6]), 16, 16) // the text is valid JSON
	return rune(n)
}

// reencodings yields the bodies that this one may have been before something
// decoded it and encoded it again. The cause names the difference.
func reencodings(body []byte) iter.Seq[form] {
	return func(yield func(form) bool) {
		if len(body) > maxBody || !json.Valid(body) {
			return
		}
		came := measure(body)
		detail := "It came as " + came.encoder() + " writes it, among others."
		for s := range styles() {
			text := s.write(body)
			if text == nil || string(text) == string(body) {
				continue
			}
			if !yield(form{string(text), came.difference(measure(text)), detail}) {
				return
			}
		}
	}
}

// A shape counts the things in a JSON text that encoders write differently.
type shape struct{ white, slashes, unicode, html int }

func measure(text []byte) (m shape) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
			m.white++
		case '"':
			end := stringEnd(text, i)
			literal := string(text[i:end])
			m.slashes += strings.Count(literal, `\/`)
			html := 0
			for _, escape := range []string{`\u003c`, `\u003e`, `\u0026`} {
				html += strings.Count(literal, escape)
			}
			m.html += html
			m.unicode += strings.Count(literal, `\u`) - html
			i = end - 1
		}
	}
	return m
}

func (m shape) difference(other shape) (cause string) {
	var causes []string
	for cause, differs := range map[string]bool{
		"body-whitespace": m.white != other.white,
		"body-slashes":    m.slashes != other.slashes,
		"body-unicode":    m.unicode != other.unicode,
		"body-html":       m.html != other.html,
	} {
		if differs {
			causes = append(causes, cause)
		}
	}
	if len(causes) == 1 {
		return causes[0]
	}
	return "body-reencoded"
}

// encoder names an encoder that writes JSON of this shape.
func (m shape) encoder() string {
	switch {
	case m.slashes > 0:
		return "PHP's json_encode"
	case m.html > 0:
		return "Go's encoding/json or Rails' to_json"
	case m.unicode > 0:
		return "Python's json.dumps"
	case m.white > 0:
		return "a pretty-printer or Python's json.dumps"
	}
	return "JavaScript's JSON.stringify or Ruby's to_json"
}
