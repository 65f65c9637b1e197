package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// An examination looks for what is wrong with one request.
type examination struct {
	secrets, keys []named
	apiKey        string
	signature     cloudinaryhook.SignatureVerifier // the receiver's settings, without secrets
	token         cloudinaryhook.TokenVerifier     // the same, without keys
	tokenless     bool
	at            time.Time // when the request came
	recorded      bool      // at is when it came, and not just now
	all           bool      // report every finding

	findings []finding
}

// found adds a finding. An ID that is not among the causes is a mistake of this
// program.
func (x *examination) found(id, detail string) {
	at, ok := rank[id]
	if !ok {
		panic("no such cause: " + id)
	}
	if !slices.ContainsFunc(x.findings, func(f finding) bool { return f.id == id }) {
		x.findings = append(x.findings, finding{causes[at], detail})
	}
}

// sorted puts the most likely cause first.
func (x *examination) sorted() []finding {
	return slices.SortedStableFunc(slices.Values(x.findings), func(a, b finding) int { return rank[a.id] - rank[b.id] })
}

// reason is an error's text without the package's name.
func reason(err error) string { return strings.ReplaceAll(err.Error(), "cloudinaryhook: ", "") }

// relative says how far t is from now, to a person.
func relative(t, now time.Time) string {
	d := t.Sub(now).Round(time.Second)
	if d.Abs() > 48*time.Hour {
		days := int(d.Abs().Hours() / 24)
		if d < 0 {
			return fmt.Sprintf("%d days before", days)
		}
		return fmt.Sprintf("%d days later", days)
	}
	if d < 0 {
		return fmt.Sprintf("%v before", -d)
	}
	return fmt.Sprintf("%v later", d)
}

const shownFindings = 3 // as many as one screen holds

// report writes what was found, and always returns errSilent.
func (x *examination) report(w io.Writer) error {
	findings := x.sorted()
	for i, f := range findings {
		if i == shownFindings && !x.all {
			fmt.Fprintf(w, "\nLess likely: %s (-all shows more).\n", strings.Join(ids(findings[i:]), ", "))
			break
		}
		fmt.Fprintf(w, "\n%d. %s [%s]\n", i+1, wrap(strings.TrimSpace(f.what+" "+f.detail)), f.id)
		if f.do != "" {
			fmt.Fprintf(w, "   %s\n", wrap("What to do: "+f.do))
		}
	}
	return errSilent
}

func ids(findings []finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, f.id)
	}
	return all
}

// wrap breaks a text into lines of a terminal's width, after the first indented by
// three.
func wrap(text string) string {
	const width = 76
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		if column > 0 && column+1+len(word) > width {
			b.WriteString("\n   ")
			column = 0
		} else if column > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
