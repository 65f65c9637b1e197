package sqlstore

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

func TestKeepsTheContract(t *testing.T) {
	for _, d := range databases {
		t.Run(d.dialect.String(), func(t *testing.T) {
			name := d.newName(t)
			cloudinaryhooktest.TestStore(t, func(t *testing.T) cloudinaryhook.Store { return open(t, d.dialect, name) })
		})
	}
}

// TestText: for every payload, a column holds at most maxText bytes of valid
// UTF-8 without NUL.
func TestText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"short", "é", "é"},
		{"long", strings.Repeat("x", maxText+1), strings.Repeat("x", maxText)},
		{"NULs", strings.Repeat("\x00", maxText), strings.Repeat("\ufffd", maxText/3)},
		{"cut within a character", strings.Repeat("x", maxText-1) + "é", strings.Repeat("x", maxText-1)},
		{"no UTF-8", "a\xff", "a\ufffd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := text(tt.text); got != tt.want {
				t.Errorf("text got %d bytes, %q, want %d, %q", len(got), got, len(tt.want), tt.want)
			}
		})
	}
}

// TestNoDriver: the app chooses the driver. The package's non-test code imports
// no driver, and of outside packages only the library and its dependencies.
func TestNoDriver(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := regexp.MustCompile(`^github\.com/(cloudinaryhook/cloudinaryhook|golang-jwt/jwt/v5|go-json-experiment/json)(/|$)`)
	paths := strings.Fields(string(out))
	if !slices.Contains(paths, "github.com/cloudinaryhook/cloudinaryhook") {
		t.Fatalf("the package imports %q, want the library among them", paths)
	}
	for _, path := range paths {
		if !allowed.MatchString(path) {
			t.Errorf("the package imports %s, want nothing but the library and what it imports", path)
		}
	}
}
