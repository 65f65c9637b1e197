package cloudinaryhook

import (
	"crypto"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestComparisonTakesTheSameInstructions counts the instructions of the digests'
// comparison under valgrind: where a digest differs and which secret signs must
// not show. CI installs valgrind.
func TestComparisonTakesTheSameInstructions(t *testing.T) {
	if raceEnabled {
		t.Skip("the program under valgrind has no race detector; without it CI runs this test for the coverage")
	}
	if _, err := exec.LookPath("valgrind"); err != nil && os.Getenv("CI") == "" {
		t.Skip("valgrind is not installed; CI installs it")
	}
	// valgrind needs symbols, and does not know the debug information of today's Go.
	binary := filepath.Join(t.TempDir(), "timing")
	if out, err := exec.Command("go", "build", "-ldflags=-w", "-o", binary, "./testdata/timing").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		t.Run(hash.String(), func(t *testing.T) {
			right := Sign(hash, testBody, testTimestamp, testSecret)
			cases := map[string][]string{
				"first secret":  {right, testSecret, "second", "third"},
				"second secret": {right, "second", testSecret, "third"},
				"third secret":  {right, "second", "third", testSecret},
				"other digest":  {Sign(hash, testBody, testTimestamp, "x"), testSecret, "second", "third"},
			}
			for _, i := range []int{0, 1, len(right) / 2, len(right) - 2, len(right) - 1} {
				cases[fmt.Sprint("differs in digit ", i)] = []string{flip(right, i), testSecret, "second", "third"}
			}
			counts := make(map[string][]string)
			for name, args := range cases {
				n := countInstructions(t, binary, args)
				counts[n] = append(counts[n], name)
			}
			t.Logf("instructions: %v", counts)
			if len(counts) != 1 {
				t.Errorf("the instructions depend on the digests: got %v, want one count", counts)
			}
		})
	}
}

var collected = regexp.MustCompile(`Collected : (\d+)`)

func countInstructions(t *testing.T, binary string, args []string) string {
	t.Helper()
	var out []byte
	var err error
	for range 20 { // callgrind sometimes trips over Go's changing stacks, which says nothing about what it counts
		cmd := exec.Command("valgrind", append([]string{"--tool=callgrind", "--callgrind-out-file=" + filepath.Join(t.TempDir(), "out"),
			"--collect-atstart=no", "--toggle-collect=github.com/cloudinaryhook/cloudinaryhook.equalDigests",
			binary, string(testBody), testTimestamp}, args...)...)
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off")
		out, err = cmd.CombinedOutput()
		if found := collected.FindSubmatch(out); err == nil && found != nil && string(found[1]) != "0" {
			return string(found[1])
		}
	}
	t.Fatalf("valgrind got %v and counted nothing:\n%s", err, out)
	return ""
}
