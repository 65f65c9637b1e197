package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// A witness sees what is written and synced, and knows which rows would survive
// the loss of power. A row is named by its key, 64 hexadecimal digits.
type witness interface {
	see(e event)
	durable(row string) bool
}

var answer201 = regexp.MustCompile(`^HTTP/1\.1 201 Created\r\n(?s:.*)X-Delivery-Id: ([0-9a-f]{64})\r\n`)

// testify goes through a trace and returns how many 201s and syncs there were,
// and which deliveries' 201s left before they and their images were durable.
func testify(events []event, w witness, images map[string]string) (answers, syncs int, broken []string) {
	for _, e := range events {
		w.see(e)
		if e.isSync() && e.ended {
			syncs++
		}
		if e.ended || e.call != "write" {
			continue
		}
		if parts := answer201.FindStringSubmatch(e.data); parts != nil {
			answers++
			if id := parts[1]; !w.durable(id) || !w.durable(images[id]) {
				broken = append(broken, id)
			}
		}
	}
	return answers, syncs, broken
}

// A walWitness reads SQLite's write-ahead log. It is a sequence of frames, each
// a header of 24 bytes and a page; the header of a transaction's last frame
// holds the size of the database, and others zero there. A row is durable once a
// sync has ended that began after the transaction's last frame was written.
type walWitness struct {
	awaited            map[string]bool // rows that were not written yet
	written, committed []string
	syncing            map[string][]string // by the thread that syncs
	synced             map[string]bool
	last               bool // the frame is the transaction's last
}

func newWALWitness(images map[string]string) *walWitness {
	w := &walWitness{awaited: make(map[string]bool), syncing: make(map[string][]string), synced: make(map[string]bool)}
	for delivery, image := range images {
		w.awaited[delivery], w.awaited[image] = true, true
	}
	return w
}

func (w *walWitness) durable(row string) bool { return w.synced[row] }

func (w *walWitness) see(e event) {
	switch {
	case !strings.HasSuffix(e.file, ".db-wal"):
	case e.isSync() && !e.ended:
		w.syncing[e.thread], w.committed = w.committed, nil
	case e.isSync():
		for _, row := range w.syncing[e.thread] {
			w.synced[row] = true
		}
	case e.ended && len(e.data) == 24:
		w.last = e.data[4:8] != "\x00\x00\x00\x00"
	case e.ended:
		w.seePage(e.data)
	}
}

func (w *walWitness) seePage(page string) {
	for _, row := range keys(page) {
		if w.awaited[row] {
			delete(w.awaited, row) // the page may be written again, for the sake of others
			w.written = append(w.written, row)
		}
	}
	if w.last {
		w.committed, w.written = append(w.committed, w.written...), nil
	}
}

// keys are all runs of 64 hexadecimal digits. Columns lie side by side, so a run
// may be longer, and hold several.
func keys(page string) (found []string) {
	run := 0
	for i := range len(page) {
		if c := page[i]; c < '0' || c > '9' && c < 'a' || c > 'f' {
			run = 0
			continue
		}
		if run++; run >= 64 {
			found = append(found, page[i-63:i+1])
		}
	}
	return found
}

// TestDurable: no 201 leaves before its rows are on the disk, and waiting saves
// share a sync.
func TestDurable(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		answers, syncs, broken := traceSQLite(t, binary, 64, size(2000, 300))
		t.Logf("%d answers 201, %d before they were true; %d syncs, %.3f for each", answers, len(broken), syncs, float64(syncs)/float64(answers))
		if len(broken) > 0 {
			t.Errorf("%d of %d answers 201 left before their rows were synced, as that to %s", len(broken), answers, broken[0])
		}
	})
	// A gallery that is a little wrong is found out: NORMAL does not sync at each commit.
	t.Run("SQLite without syncs", func(t *testing.T) {
		wrong := buildWrong(t, "../internal/database/sqlite.go", "synchronous(FULL)", "synchronous(NORMAL)")
		answers, _, broken := traceSQLite(t, wrong, 8, 50)
		if len(broken) < answers/2 {
			t.Errorf("%d of %d answers 201 were found to be too early, want most", len(broken), answers)
		}
	})
}

func traceSQLite(t *testing.T, binary string, clients, notifications int) (answers, syncs int, broken []string) {
	t.Helper()
	db := newSQLite(t.TempDir())
	p := startBinary(t, binary, testEnv(), "-db", db.url)
	tr := attach(t, p.cmd.Process.Pid)
	load := startLoad(t, clients, notifications, p.hook())
	load.wait()
	events, images := tr.stop(t), imagesOf(t, db)
	answers, syncs, broken = testify(events, newWALWitness(images), images)
	if answers != notifications || load.answers[http.StatusCreated] != notifications {
		t.Fatalf("of %d notifications strace saw %d answered 201, and the sender %v", notifications, answers, load.answers)
	}
	return answers, syncs, broken
}

// imagesOf are the keys of images by the deliveries that announced them.
func imagesOf(t *testing.T, db *testDatabase) map[string]string {
	t.Helper()
	opened, err := database.Open(t.Context(), db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	images, err := opened.Images(t.Context(), "", 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	byDelivery := make(map[string]string, len(images))
	for _, image := range images {
		byDelivery[image.DeliveryID] = image.Key
	}
	return byDelivery
}

// buildWrong builds a gallery in which one text of a file is replaced.
func buildWrong(t *testing.T, file, old, replacement string) string {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(source), old) != 1 {
		t.Fatalf("%s does not hold %q once", file, old)
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	changed, overlay, built := filepath.Join(folder, "changed.go"), filepath.Join(folder, "overlay.json"), filepath.Join(folder, "gallery")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {absolute: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{changed: []byte(strings.Replace(string(source), old, replacement, 1)), overlay: replace} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", built, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return built
}
