package secrets

import (
	"fmt"
	"strings"
	"unicode"
)

// Oddity says what is wrong with the text of a secret; "" means that it is fine.
// The last line break of a file, the quotes of a shell or an .env file and a byte
// order mark are no part of a secret. A secret with them refuses every genuine
// notification. If a secret has nothing else, anybody can sign.
func Oddity(secret string) string {
	bare := strings.TrimFunc(secret, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune("\"'`", r) || unicode.In(r, unicode.Pi, unicode.Pf, unicode.Cc, unicode.Cf)
	})
	switch runes := []rune(secret); {
	case bare == "":
		return "is blank"
	case !strings.HasPrefix(secret, bare):
		return fmt.Sprintf("begins with %+q", runes[0])
	case bare != secret:
		return fmt.Sprintf("ends with %+q", runes[len(runes)-1])
	}
	return ""
}
