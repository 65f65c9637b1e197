package lenient

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The functions in this file are as strict as the decoder's options. Tokens are
// read with them too.

// Object reads an object. It calls member with each name, in quotes, and member
// reads the value. Names and values are parts of the input, not copies.
func Object(dec *jsontext.Decoder, member func(quoted jsontext.Value) error) error {
	if dec.PeekKind() != '{' {
		return ErrShape
	}
	return each(dec, member)
}

// each reads a list, or an object. It calls element with each element, or each name.
func each(dec *jsontext.Decoder, element func(value jsontext.Value) error) error {
	_, err := dec.ReadToken()
	for kind := dec.PeekKind(); err == nil && kind != '}' && kind != ']'; kind = dec.PeekKind() {
		value, readErr := dec.ReadValue()
		if readErr != nil {
			return readErr
		}
		err = element(value)
	}
	if err == nil {
		_, err = dec.ReadToken()
	}
	return err
}

// Unquote returns the text of a JSON string. The text is a part of the input, or a
// copy if there are escapes or bytes that are not UTF-8.
func Unquote(quoted jsontext.Value) []byte {
	text, _ := unquoteInto(new([]byte), quoted)
	return text
}

// unquoteInto copies to a buffer that the caller uses again. Bytes that are not
// UTF-8 and one half of a surrogate pair are replaced, and the error reports
// them.
func unquoteInto(buffer *[]byte, quoted jsontext.Value) (text []byte, err error) {
	if isPlain(quoted) {
		return quoted[1 : len(quoted)-1], nil
	}
	*buffer, err = jsontext.AppendUnquote((*buffer)[:0], quoted)
	return *buffer, err
}

// isPlain reports whether a JSON string is valid UTF-8 without escapes.
func isPlain(quoted jsontext.Value) bool {
	if len(quoted) >= 32 {
		return bytes.IndexByte(quoted, '\\') < 0 && utf8.Valid(quoted)
	}
	for _, c := range quoted { // for short strings, such as names, faster than two calls
		if c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Int returns an integer, which may be in quotes.
func Int(value jsontext.Value) (int64, bool) {
	text := []byte(value)
	if value.Kind() == '"' {
		text = Unquote(value)
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || text[0] == '+' {
		return 0, false // if ParseInt fails, n may be a wrong number, which is worse than none
	}
	return n, true
}
