package indent

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// TestJSON: the result is the same as with json.Indent.
func TestJSON(t *testing.T) {
	bodies := []string{`{}`, `[]`, `[[],{}, [ ] ,{ }]`, `{"a":"},]{[:\"\\","b\\":{"c":[1, 2 ,"\u003d"]}}`, ` "x" `, "[1,\n\t2]", `-1.5e3`}
	files, err := fs.Glob(cloudinaryhooktest.Bodies(), "*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), file)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(body))
	}
	for _, body := range bodies {
		var want bytes.Buffer
		if err := json.Indent(&want, []byte(strings.TrimSpace(body)), "", "  "); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), JSON([]byte(body), len(body)*100)); diff != "" {
			t.Errorf("of %s differs (-want +got):\n%s", body, diff)
		}
	}
}

// TestJSONOfDeepText: it stops soon after the limit.
func TestJSONOfDeepText(t *testing.T) {
	const depth, limit = 9000, 64 << 10
	deep := strings.Repeat("[", depth) + strings.Repeat("1,", depth) + "1" + strings.Repeat("]", depth)
	if got := len(JSON([]byte(deep), limit)); got <= limit || got > limit+2*depth+2 {
		t.Errorf("got %d bytes, want one line more than %d at most", got, limit)
	}
}
