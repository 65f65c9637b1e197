package main

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

func readFiles(t *testing.T, patterns ...string) (text string) {
	t.Helper()
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("no file is named %s", pattern)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text += string(data)
		}
	}
	return text
}

const operationsDoc = "../../docs/operations.md"

// TestAlertsNameWhatThereIs: the alerts in the documentation use existing
// series. An alert on another series would never fire.
func TestAlertsNameWhatThereIs(t *testing.T) {
	doc := readFiles(t, operationsDoc)
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	p.post(t, golden(t, "upload-simple.json"))
	p.waitForText(t, "/metrics", `gallery_notifications_total{cause="",outcome="accepted"`)
	_, metrics := p.get(t, "/metrics")
	names := regexp.MustCompile(`\b(?:gallery|process|go)_[a-z_]+\b`).FindAllString(doc, -1)
	if len(names) < 10 {
		t.Fatalf("%s names %d metrics, want more", operationsDoc, len(names))
	}
	for _, name := range names {
		if !strings.Contains(metrics, "\n"+name+"{") && !strings.Contains(metrics, "\n"+name+" ") {
			t.Errorf("/metrics has no series %s", name)
		}
	}
	for _, match := range regexp.MustCompile(`cause=~?"([^"]*)"`).FindAllStringSubmatch(doc, -1) {
		for cause := range strings.SplitSeq(match[1], "|") {
			if !slices.ContainsFunc(causes, func(c namedCause) bool { return c.name == cause }) {
				t.Errorf("no cause is named %q", cause)
			}
		}
	}
	for _, match := range regexp.MustCompile(`outcome="([^"]*)"`).FindAllStringSubmatch(doc, -1) {
		if !slices.Contains([]string{"accepted", "failed"}, match[1]) {
			t.Errorf("no outcome is named %q", match[1])
		}
	}
}

// TestLogLinesAreExplained: the table has exactly the lines that the program
// may write.
func TestLogLinesAreExplained(t *testing.T) {
	var explained []string
	table := between(t, readFiles(t, operationsDoc), "| message | level |", "\n\n")
	for row := range strings.Lines(table) {
		messages, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(messages, -1) {
			explained = append(explained, match[1])
		}
	}
	var written []string
	find := func(source, pattern string) {
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(source, -1) {
			written = append(written, match[1])
		}
	}
	ours := readFiles(t, "app.go", "main.go", "rejected.go", "web.go", "../internal/service/service.go")
	ours = strings.Replace(ours, `"not ready: "+problem`, `"not ready: the database takes no writes"`, 1) // the only problem text in app.go
	find(ours, `ogger\.(?:Info|Warn|Error)(?:Context)?\((?:[^"]*, )?"([^"]+)"`)
	find(readFiles(t, "../../handler.go", "../../processor.go"), `"(cloudinary (?:notification|delivery) \w+)"`)
	slices.Sort(explained)
	slices.Sort(written)
	if diff := cmp.Diff(slices.Compact(written), explained); diff != "" {
		t.Errorf("the lines differ (-written +explained):\n%s", diff)
	}
}

// TestBackup: a backup has every notification that was answered 201 before it
// began, although the gallery goes on working and is then killed. A gallery can
// start on the backup.
func TestBackup(t *testing.T) {
	folder := t.TempDir()
	path, backup := filepath.Join(folder, "gallery.db"), filepath.Join(folder, "backup.db")
	p := start(t, testEnv(), "-db", path)
	load := startLoad(t, 16, 0, p.hook())
	load.acknowledge(300)
	load.mu.Lock()
	before := slices.Clone(load.acknowledged)
	load.mu.Unlock()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(4000)")
	if err == nil {
		_, err = db.ExecContext(t.Context(), "VACUUM INTO ?", backup)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	load.acknowledge(100)
	p.kill()
	load.stop()
	change(t, backup, makePendingOld)
	restored := start(t, testEnv(), "-db", backup)
	restored.waitFor(t, "nothing to be pending", func(s database.Stats) bool { return s.Pending == 0 })
	restored.kill()
	opened, err := database.Open(t.Context(), backup)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	images, err := opened.Images(t.Context(), "", database.Position{}, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	kept := make(map[string]bool)
	for _, image := range images {
		kept[image.PublicID] = true
	}
	for _, publicID := range before {
		if !kept[publicID] {
			t.Errorf("%s was answered 201 before the backup, which does not have it", publicID)
		}
	}
	checkSQLite(t, backup)
}
