// Package indent makes JSON readable.
package indent

import (
	"encoding/json"
	"strings"
)

// JSON is like json.Indent, but it stops soon after limit bytes. Each level of
// nesting makes every line in it longer, so a few megabytes of brackets would
// grow to gigabytes. If the text was cut, the result is longer than limit. JSON
// returns a text that is not JSON as it is.
func JSON(data []byte, limit int) string {
	if !json.Valid(data) {
		return string(data)
	}
	var out strings.Builder
	depth, inString, last := 0, false, byte(0)
	newLine := func() { out.WriteString("\n" + strings.Repeat("  ", depth)) }
	for i := 0; i < len(data) && out.Len() <= limit; i++ {
		c := data[i]
		switch {
		case inString:
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			continue
		case c == '}' || c == ']':
			depth--
			if last != '{' && last != '[' {
				newLine()
			}
		case last == '{' || last == '[' || last == ',':
			newLine()
		}
		out.WriteByte(c)
		switch {
		case c == '"':
			inString = !inString
		case inString && c == '\\':
			i++
			out.WriteByte(data[i])
		case inString:
		case c == ':':
			out.WriteByte(' ')
		case c == '{' || c == '[':
			depth++
		}
		last = c
	}
	return out.String()
}
