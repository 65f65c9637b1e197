package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const troubleshooting = "../../docs/troubleshooting.md"

// rows are those of the tables in a document, by the first name in backticks that
// one of their cells begins with. A row without a cause or a fix has no use.
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

// TestEveryCauseHasARow with the words that explain has.
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

// TestEveryErrorHasARow: those that this package and package poll export.
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
				if _, ok := documented[prefix+match[1]]; !ok {
					t.Errorf("no row for %s%s", prefix, match[1])
				}
			}
		}
		if found < 5 {
			t.Errorf("got %d errors in %s, want more", found, pattern)
		}
	}
}
