package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/internal/indent"
	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

const shownBody = 256 << 10 // bytes of a body that a page shows, indented

// serveDelivery shows one delivery with its claims and its body.
func (s *web) serveDelivery(w http.ResponseWriter, r *http.Request) {
	row, whole, err := s.db.Delivery(r.Context(), r.PathValue("id"))
	if errors.Is(err, sqlstore.ErrNotFound) {
		http.NotFound(w, r)
		return
	}
	var claims json.RawMessage
	if err == nil {
		err = whole.Claims.Decode(&claims)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	now := time.Now().UTC()
	s.render(w, r, "delivery.html", struct {
		logEntry
		Now          time.Time
		Image        *database.Image // nil if the delivery announces none
		NoImage      string          // why the delivery announces none, or ""
		Claims, Body listing
	}{s.logEntry(row, now), now, announced(whole), whyNoImage(whole), newListing("claims", claims), newListing("body", whole.Body)})
}

func announced(d *cloudinaryhook.Delivery) *database.Image {
	img, ok := d.Image()
	if !ok {
		return nil
	}
	return &database.Image{Key: img.Key, PublicID: img.PublicID, Format: img.Format,
		Width: img.Width, Height: img.Height, Bytes: img.Bytes, URL: img.URL, SecureURL: img.SecureURL}
}

// whyNoImage names the rule of Delivery.Image that a delivery does not meet. It
// returns "" if the delivery announces an image.
func whyNoImage(d *cloudinaryhook.Delivery) string {
	_, announces := d.Image()
	switch {
	case announces:
		return ""
	case d.Type == "" && d.PublicID == "":
		return "it has neither a notification_type nor a public_id"
	case d.Type == "" && (d.Version == 0 || d.Format == ""):
		return "it has no notification_type, and without one it needs a version and a format"
	case d.Type != "" && d.Type != cloudinaryhook.TypeUpload:
		return "only a notification with notification_type upload announces an image"
	case d.Error != nil:
		return "it reports an error"
	case d.Placeholder:
		return "it is about a placeholder, for an asset that moderation rejected"
	case d.ResourceType != "" && d.ResourceType != "image":
		return "its resource_type is " + d.ResourceType + ", not image"
	}
	return "it has no public_id"
}

// A listing is JSON for people: indented, and split into pieces by kind.
type listing struct {
	Heading string // the id of its heading
	Pieces  []piece
	Size    int64 // in bytes, without the indentation
	Cut     bool  // it is too long to show it all
}

// A piece is text of one kind: "key", "string", or "" for the rest.
type piece struct{ Kind, Text string }

var jsonString = regexp.MustCompile(`("(?:[^"\\]|\\.)*")(\s*:)?`)

// newListing masks tokens first: a notification_url is a credential, and a
// visitor of this page must not see it.
func newListing(heading string, data []byte) listing {
	text := indent.JSON(data, shownBody)
	l := listing{Heading: heading, Size: int64(len(data)), Cut: len(text) > shownBody}
	text = mask(cut(text, shownBody))
	add := func(kind, text string) {
		if text != "" {
			l.Pieces = append(l.Pieces, piece{kind, visibleLines(text)})
		}
	}
	end := 0
	for _, at := range jsonString.FindAllStringSubmatchIndex(text, -1) {
		add("", text[end:at[0]])
		kind := "string"
		if at[4] >= 0 {
			kind = "key"
		}
		add(kind, text[at[2]:at[3]])
		end = at[3]
	}
	add("", text[end:])
	return l
}

func visibleLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = visible(line)
	}
	return strings.Join(lines, "\n")
}

// Tokens are in three places: after "token=", in any encoding of URLs, JSON and
// HTML and any combination of them; in a member whose name ends with "token";
// and everywhere that a JWT is. The text is masked up to the end of the
// parameter or the string. That may be too much, but never too little.
var (
	tokenParameter = regexp.MustCompile(`(?i)(` + encoded("token=") + `)(?:\\.|[^"&\s\\])*`)
	tokenMember    = regexp.MustCompile(`(?i)(\\*"[\w-]*token\\*"\s*:\s*\\*")(?:[^"\\]|\\.)+`)
	anyJWT         = regexp.MustCompile(`eyJ[\w-]+(?i:\.|%(?:25)*2e|\\+u002e)[^"&\s\\]*`)
)

// encoded returns a regular expression for the name in all encodings.
func encoded(name string) string {
	var b strings.Builder
	for _, c := range name {
		fmt.Fprintf(&b, `(?:%s|%%(?:25)*%02x|\\+u00%02[2]x|\\+x%02[2]x|&#0*%[2]d;|&#x0*%[2]x;)`, regexp.QuoteMeta(string(c)), c)
	}
	return b.String()
}

func mask(text string) string {
	const dots = "•••"
	text = tokenParameter.ReplaceAllString(text, "${1}"+dots)
	text = tokenMember.ReplaceAllString(text, "${1}"+dots)
	return anyJWT.ReplaceAllString(text, dots)
}
