package lenient

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Object calls member after each name; member reads the value. Names, which
// are in quotes, and values alias what is decoded.
func Object(dec *jsontext.Decoder, member func(quoted jsontext.Value) error) error {
	if dec.PeekKind() != '{' {
		return ErrShape
	}
	return Each(dec, member)
}

// Each is for the elements of a list as well.
func Each(dec *jsontext.Decoder, each func(value jsontext.Value) error) error {
	_, err := dec.ReadToken()
	for kind := dec.PeekKind(); err == nil && kind != '}' && kind != ']'; kind = dec.PeekKind() {
		value, readErr := dec.ReadValue()
		if readErr != nil {
			return readErr
		}
		err = each(value)
	}
	if err == nil {
		_, err = dec.ReadToken()
	}
	return err
}

// Unquote returns the text of a JSON string. It aliases the input if it can,
// and copies if there are escapes or bytes that are not UTF-8.
func Unquote(quoted jsontext.Value) []byte {
	text, _ := unquoteInto(new([]byte), quoted)
	return text
}

// unquoteInto copies to a buffer that may be used again. The error reports bytes
// that are not UTF-8, or half a surrogate pair: they are replaced.
func unquoteInto(buffer *[]byte, quoted jsontext.Value) (text []byte, err error) {
	if isPlain(quoted) {
		return quoted[1 : len(quoted)-1], nil
	}
	*buffer, err = jsontext.AppendUnquote((*buffer)[:0], quoted)
	return *buffer, err
}

// isPlain reports whether a JSON string is spelled as it reads.
func isPlain(quoted jsontext.Value) bool {
	if len(quoted) >= 32 {
		return bytes.IndexByte(quoted, '\\') < 0 && utf8.Valid(quoted)
	}
	for _, c := range quoted { // as in names, which are short: faster than two calls
		if c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Int takes an integer, bare or in quotes.
func Int(value jsontext.Value) (int64, bool) {
	text := []byte(value)
	if value.Kind() == '"' {
		text = Unquote(value)
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || text[0] == '+' {
		return 0, false // ParseInt saturates, and a wrong number is worse than none
	}
	return n, true
}
