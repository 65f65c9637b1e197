package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

// An examination looks for the faults of one request.
type examination struct {
	secrets, keys []secrets.Value
	apiKey        string
	signature     cloudinaryhook.SignatureVerifier // the receiver's settings, without secrets
	token         cloudinaryhook.TokenVerifier     // the same, without keys
	tokenless     bool
	at            time.Time // when the request came
	recorded      bool      // at is known; it is not just the current time
	all           bool      // report every finding

	findings []finding
}

// found adds a finding. It panics if the ID is not among the causes. The detail
// may quote the request, so found hides tokens in it.
func (x *examination) found(id, detail string) {
	at, ok := rank[id]
	if !ok {
		panic("no such cause: " + id)
	}
	if !slices.ContainsFunc(x.findings, func(f finding) bool { return f.id == id }) {
		x.findings = append(x.findings, finding{causes[at], hideTokens(detail)})
	}
}

// sorted puts the most likely cause first.
func (x *examination) sorted() []finding {
	return slices.SortedStableFunc(slices.Values(x.findings), func(a, b finding) int { return rank[a.id] - rank[b.id] })
}

// reason is an error's text without the package's name.
func reason(err error) string { return strings.ReplaceAll(err.Error(), "cloudinaryhook: ", "") }

// relative describes for a person how far t is from now.
func relative(t, now time.Time) string {
	d := t.Sub(now).Round(time.Second)
	text := d.Abs().String()
	if d.Abs() > 48*time.Hour {
		text = fmt.Sprintf("%d days", d.Abs()/(24*time.Hour))
	}
	if d < 0 {
		return text + " before"
	}
	return text + " later"
}

// report writes the findings, as many as fit on one screen.
func (x *examination) report(w io.Writer) {
	findings := x.sorted()
	shown := 3
	if x.isUnknown() {
		shown = 2 // whatIsLeft needs room
	}
	if x.all {
		shown = len(findings)
	}
	for i, f := range findings[:min(shown, len(findings))] {
		fmt.Fprintln(w, "\n"+wrap("   ", fmt.Sprintf("%d. %s: %s %s", i+1, f.id, f.what, f.detail)))
		if f.do != "" {
			fmt.Fprintln(w, wrap("   ", "   What to do: "+f.do))
		}
	}
	if len(findings) > shown {
		fmt.Fprintln(w, "\n"+wrap("", "Less likely: "+strings.Join(ids(findings[shown:]), ", ")+" (-all shows more)."))
	}
}

// isUnknown reports whether nothing was proven about the signature.
func (x *examination) isUnknown() bool { return slices.Contains(ids(x.findings), "unknown") }

func ids(findings []finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, f.id)
	}
	return all
}

// wrap breaks a text into lines of a terminal's width. The text before its
// first word stays. All other lines begin with indent.
func wrap(indent, text string) string {
	const width = 78
	b := text[:len(text)-len(strings.TrimLeft(text, " "))]
	column := len(b)
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case column+1+n > width:
			b += "\n" + indent
			column = len(indent)
		case column > 0 && !strings.HasSuffix(b, " "):
			b += " "
			column++
		}
		b += word
		column += n
	}
	return b
}
