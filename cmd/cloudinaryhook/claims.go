package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/indent"
)

// A claimSet is a token's claims as the user wrote them, so that an id above 2^53
// keeps its digits.
type claimSet struct {
	cloudinaryhook.Claims // only for its methods, which SignToken needs
	members               map[string]json.RawMessage
}

func (c claimSet) MarshalJSON() ([]byte, error) { return json.Marshal(c.members) }

func parseClaims(text string) (claimSet, error) {
	var c claimSet
	if err := json.Unmarshal([]byte(text), &c.members); err != nil || c.members == nil {
		return c, usagef(`-claims: not a JSON object, such as {"album_id":"7"}`)
	}
	return c, nil
}

// expire adds an expiry, unless the claims have one or d is 0.
func (c claimSet) expire(d time.Duration) {
	if _, ok := c.members["exp"]; !ok && d != 0 {
		c.members["exp"] = strconv.AppendInt(nil, time.Now().Add(d).Unix(), 10)
	}
}

// copy returns a copy that can be changed without changing c.
func (c claimSet) copy() claimSet { return claimSet{members: maps.Clone(c.members)} }

// date returns a claim such as exp, or zero if it is missing or not a number.
func (c claimSet) date(name string) time.Time {
	seconds, err := strconv.ParseFloat(string(c.members[name]), 64)
	if err != nil {
		return time.Time{}
	}
	const far = 1e15 // seconds; int64 holds them, and no calendar does
	return time.Unix(int64(min(max(seconds, -far), far)), 0).UTC()
}

// printable escapes characters that are not printable: outside text must not
// move the terminal's cursor or reverse a line.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// tokenLike matches a JWT or the beginning of one, also if its dots are encoded
// for a URL or for JSON. It may match too much, because that does no harm.
var tokenLike = regexp.MustCompile(`eyJ[\w-]{5,}[\w.%\\-]*`)

// hideTokens hides the tokens in outside text. Bodies may hold tokens too: the
// body about an error repeats the notification URL.
func hideTokens(text string) string { return tokenLike.ReplaceAllString(text, "TOKEN") }

// readable indents a JSON text, as far as a person may want to read it.
func readable(text []byte) string {
	const limit = 256 << 10 // bytes
	var compact bytes.Buffer
	if json.Compact(&compact, text) != nil {
		return printable(string(text))
	}
	shown := indent.JSON([]byte(printable(compact.String())), limit)
	if len(shown) > limit {
		shown += "\n(there is more)"
	}
	return shown
}
