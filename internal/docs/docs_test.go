// Package docs tests the pages of this repository.
package docs

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

var (
	code    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notSlug = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)

	function = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	testName = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w+`)
)

// TestLinks: each link of each page leads to a file of this repository, and to
// a heading that exists. It does not test links to other hosts, because no test
// may need the network.
func TestLinks(t *testing.T) {
	root := os.DirFS("../..")
	links := 0
	for _, page := range files(t, root, ".md") {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, root, page), ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(match[1], "#")
			target := page
			if file != "" {
				target = path.Join(path.Dir(page), file)
			}
			if _, err := fs.Stat(root, target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", page, match[1])
			} else if anchor != "" && !hasHeading(read(t, root, target), anchor) {
				t.Errorf("%s: the link %s leads to no heading", page, match[1])
			}
		}
	}
	if links < 30 {
		t.Errorf("got %d links, want more: does the test see the pages?", links)
	}
}

// TestNamedTests: the pages name tests as proofs and in commands. Each of these
// tests exists.
func TestNamedTests(t *testing.T) {
	root := os.DirFS("../..")
	declared := make(map[string]bool)
	for _, file := range files(t, root, ".go") { // also other files: users' tests call the tests in package cloudinaryhooktest
		for _, match := range function.FindAllStringSubmatch(read(t, root, file), -1) {
			declared[match[1]] = true
		}
	}
	named := 0
	for _, page := range files(t, root, ".md") {
		for _, name := range testName.FindAllString(read(t, root, page), -1) {
			named++
			if !declared[name] {
				t.Errorf("%s: there is no %s", page, name)
			}
		}
	}
	if named < 50 {
		t.Errorf("got %d names, want more: does the test see the pages?", named)
	}
}

// files returns the names of all files with this ending.
func files(t *testing.T, root fs.FS, ending string) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case strings.HasSuffix(name, ending):
			found = append(found, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, root fs.FS, name string) string {
	t.Helper()
	text, err := fs.ReadFile(root, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// hasHeading reports whether a heading has this anchor. Anchors are as on
// GitHub: lower case, without punctuation, and with hyphens for spaces.
func hasHeading(page, anchor string) bool {
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(match[1]), "")
		if strings.ReplaceAll(slug, " ", "-") == anchor {
			return true
		}
	}
	return false
}
