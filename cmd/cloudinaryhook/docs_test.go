package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/poll"
)

const troubleshooting = "../../docs/troubleshooting.md"

// rows returns the rows of the tables in a document. The key is the first name
// in backticks at the beginning of a cell. It skips rows that do not have three
// cells.
func rows(t *testing.T, document string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]string)
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 3 {
			continue
		}
		for _, cell := range cells[:2] {
			if name := regexp.MustCompile("^`([A-Za-z0-9.-]+)`").FindStringSubmatch(cell); name != nil {
				byName[name[1]] = strings.ReplaceAll(line, "`", "")
			}
		}
	}
	return byName
}

// TestEveryCauseHasARow: the row has the same words as explain.
func TestEveryCauseHasARow(t *testing.T) {
	documented := rows(t, troubleshooting)
	for _, c := range causes {
		row, ok := documented[c.id]
		if !ok {
			t.Errorf("no row for %s", c.id)
		} else if !strings.Contains(row, c.id+": "+c.what+" | "+c.do) {
			t.Errorf("the row of %s got %q, want %q and %q", c.id, row, c.what, c.do)
		}
	}
}

// sentinels lists the errors that this module's packages export, by name.
var sentinels = map[string]error{
	"ErrMethodNotAllowed":     cloudinaryhook.ErrMethodNotAllowed,
	"ErrMissingToken":         cloudinaryhook.ErrMissingToken,
	"ErrInvalidToken":         cloudinaryhook.ErrInvalidToken,
	"ErrMissingSignature":     cloudinaryhook.ErrMissingSignature,
	"ErrUnsupportedSignature": cloudinaryhook.ErrUnsupportedSignature,
	"ErrInvalidTimestamp":     cloudinaryhook.ErrInvalidTimestamp,
	"ErrStaleTimestamp":       cloudinaryhook.ErrStaleTimestamp,
	"ErrSignatureMismatch":    cloudinaryhook.ErrSignatureMismatch,
	"ErrNoSecrets":            cloudinaryhook.ErrNoSecrets,
	"ErrUnknownTenant":        cloudinaryhook.ErrUnknownTenant,
	"ErrSecretsFor":           cloudinaryhook.ErrSecretsFor,
	"ErrBodyTooLarge":         cloudinaryhook.ErrBodyTooLarge,
	"ErrBodyConsumed":         cloudinaryhook.ErrBodyConsumed,
	"ErrBodyTimeout":          cloudinaryhook.ErrBodyTimeout,
	"ErrBodyRead":             cloudinaryhook.ErrBodyRead,
	"ErrMalformedBody":        cloudinaryhook.ErrMalformedBody,
	"ErrReceive":              cloudinaryhook.ErrReceive,
	"ErrSave":                 cloudinaryhook.ErrSave,
	"ErrCreateImage":          cloudinaryhook.ErrCreateImage,
	"ErrNotify":               cloudinaryhook.ErrNotify,
	"ErrComplete":             cloudinaryhook.ErrComplete,
	"ErrPending":              cloudinaryhook.ErrPending,
	"ErrGaveUp":               cloudinaryhook.ErrGaveUp,
	"ErrInvalidDelivery":      cloudinaryhook.ErrInvalidDelivery,
	"ErrMisconfigured":        cloudinaryhook.ErrMisconfigured,
	"ErrInvalidURL":           cloudinaryhook.ErrInvalidURL,
	"poll.ErrUnauthorized":    poll.ErrUnauthorized,
	"poll.ErrNotFound":        poll.ErrNotFound,
	"poll.ErrRefused":         poll.ErrRefused,
	"poll.ErrAnswerTooLarge":  poll.ErrAnswerTooLarge,
	"poll.ErrUnavailable":     poll.ErrUnavailable,
	"poll.ErrNotAcknowledged": poll.ErrNotAcknowledged,
	"poll.ErrNothingVerifies": poll.ErrNothingVerifies,
	"poll.ErrInvalidMessage":  poll.ErrInvalidMessage,
}

// TestEveryErrorHasARow: the row has the same text as a log line.
func TestEveryErrorHasARow(t *testing.T) {
	documented := rows(t, troubleshooting)
	declaration := regexp.MustCompile(`(?m)^(?:var|\t)\s*(Err[A-Za-z]+)\s+= errors\.New\(`)
	for prefix, pattern := range map[string]string{"": "../../*.go", "poll.": "../../poll/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range declaration.FindAllStringSubmatch(string(source), -1) {
				found++
				name := prefix + match[1]
				if sentinels[name] == nil {
					t.Errorf("the sentinels lack %s", name)
					continue
				}
				_, text, _ := strings.Cut(sentinels[name].Error(), ": ")
				cell, _, _ := strings.Cut(strings.TrimPrefix(documented[name], "| "), " | ")
				if got := cell[strings.Index(cell, ": ")+1:]; got != " "+text {
					t.Errorf("the row of %s got %q, want %q", name, got, text)
				}
			}
		}
		if found < 5 {
			t.Errorf("got %d errors in %s, want more", found, pattern)
		}
	}
}
