package main

import (
	"cmp"
	le "encoding/binary" // this package has a variable binary
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A witness sees writes and syncs, and knows which rows would survive a power
// failure. A row is named by its key, 64 hexadecimal digits.
type witness interface {
	see(e event)
	durable(row string) bool
}

var answer201 = regexp.MustCompile(`^HTTP/1\.1 201 Created\r\n(?s:.*)X-Delivery-Id: ([0-9a-f]{64})\r\n`)

// A testimony is the result of a trace.
type testimony struct {
	answers int      // 201
	syncs   int      // of any file
	broken  []string // deliveries whose 201 was sent before they and their images were durable
}

// testify reads a trace. images has the keys of images by delivery.
func testify(t *testing.T, events []event, w witness, images map[string]string, want int) (got testimony) {
	t.Helper()
	for _, e := range events {
		w.see(e)
		if e.isSync() && e.ended {
			got.syncs++
		}
		if e.ended || e.call != "write" {
			continue
		}
		if parts := answer201.FindStringSubmatch(e.data); parts != nil {
			got.answers++
			if id := parts[1]; !w.durable(id) || !w.durable(images[id]) {
				got.broken = append(got.broken, id)
			}
		}
	}
	if got.answers != want {
		t.Fatalf("the trace has %d answers 201, want %d", got.answers, want)
	}
	return got
}

// syncs follows written bytes until they are synced. Bytes are durable when a
// sync of their file has ended that began after the write.
type syncs struct {
	written map[string][]string // by file
	syncing map[string][]string // by the thread that syncs
	synced  map[string]bool
}

func newSyncs() syncs {
	return syncs{make(map[string][]string), make(map[string][]string), make(map[string]bool)}
}

func (s *syncs) see(e event) {
	switch {
	case !e.isSync():
	case !e.ended:
		s.syncing[e.thread] = s.written[e.file]
		delete(s.written, e.file)
	default:
		for _, what := range s.syncing[e.thread] {
			s.synced[what] = true
		}
		delete(s.syncing, e.thread)
	}
}

// A sqliteWitness reads SQLite's write-ahead log. The log is a sequence of
// frames, each with a header of 24 bytes and a page. The header of a
// transaction's last frame holds the size of the database. The others hold zero
// there.
type sqliteWitness struct {
	syncs
	awaited map[string]bool // rows that are not written yet
	frames  []string        // rows in the transaction's frames so far
	last    bool            // the frame is the transaction's last
}

func newSQLiteWitness(images map[string]string) *sqliteWitness {
	w := &sqliteWitness{syncs: newSyncs(), awaited: make(map[string]bool)}
	for delivery, image := range images {
		w.awaited[delivery], w.awaited[image] = true, true
	}
	return w
}

func (w *sqliteWitness) durable(row string) bool { return w.synced[row] }

func (w *sqliteWitness) see(e event) {
	w.syncs.see(e)
	switch {
	case e.isSync() || !e.ended || !strings.HasSuffix(e.file, ".db-wal"):
	case len(e.data) == 24:
		w.last = e.data[4:8] != "\x00\x00\x00\x00"
	default:
		for _, row := range keys(e.data) {
			if w.awaited[row] {
				delete(w.awaited, row) // other transactions may write the page again
				w.frames = append(w.frames, row)
			}
		}
		if w.last {
			w.written[e.file], w.frames = append(w.written[e.file], w.frames...), nil
		}
	}
}

// keys returns all sequences of 64 hexadecimal digits. Columns are side by
// side, so a sequence may be longer and hold several keys.
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

// A postgresWitness reads Postgres' write-ahead log. A row is durable when the
// commit record of the transaction that wrote its current version is durable.
// For a delivery this is the transaction that completed it. Everything before
// it is durable too, because the log is one sequence.
type postgresWitness struct {
	syncs
	transaction map[string]string // by row
	commits     []commit          // by position
}

// A commit is a record in the log. Postgres writes whole pages, and writes a
// page again as it fills. Only the record's bytes show whether it was there
// already.
type commit struct {
	position    uint64
	head        string // the first eight bytes: its length and the transaction
	transaction string
}

func (w *postgresWitness) durable(row string) bool { return w.synced[w.transaction[row]] }

func (w *postgresWitness) see(e event) {
	w.syncs.see(e)
	segment := filepath.Base(e.file)
	if e.isSync() || !e.ended || filepath.Base(filepath.Dir(e.file)) != "pg_wal" || len(segment) != 24 {
		return
	}
	var timeline, high, low uint64
	if _, err := fmt.Sscanf(segment, "%08X%08X%08X", &timeline, &high, &low); err != nil {
		return
	}
	begin := high<<32 + low<<24 + uint64(e.offset)
	first, _ := slices.BinarySearchFunc(w.commits, begin, func(c commit, position uint64) int { return int(c.position) - int(position) })
	for _, c := range w.commits[first:] {
		if c.position+8 > begin+uint64(len(e.data)) {
			return
		}
		if strings.HasPrefix(e.data[c.position-begin:], c.head) {
			w.written[e.file] = append(w.written[e.file], c.transaction)
		}
	}
}

var commitLine = regexp.MustCompile(`len \(rec/tot\): *\d+/ *(\d+), tx: *(\d+), lsn: ([0-9A-F]+)/([0-9A-F]+), .* desc: COMMIT(?:.*; subxacts:([ 0-9]+))?`)

// newPostgresWitness asks the database after the load which transactions wrote
// the rows. It asks pg_waldump where they were committed.
func newPostgresWitness(t *testing.T, db *testDatabase, from string) *postgresWitness {
	t.Helper()
	w := &postgresWitness{syncs: newSyncs(), transaction: make(map[string]string)}
	rows, err := db.connect(t).Query(t.Context(), "SELECT id, xmin::text FROM deliveries UNION ALL SELECT key, xmin::text FROM images")
	if err != nil {
		t.Fatal(err)
	}
	var row, transaction string
	if _, err := pgx.ForEachRow(rows, []any{&row, &transaction}, func() error {
		w.transaction[row] = transaction
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// A wrong gallery leaves commits that are not in the files of pg_waldump yet.
	// This commit writes them too.
	if _, err := db.connect(t).Exec(t.Context(), "SELECT pg_logical_emit_message(true, '', '')"); err != nil {
		t.Fatal(err)
	}
	cmd, err := db.server.Command("pg_waldump", "--path", filepath.Join(db.server.Data(), "pg_wal"), "--rmgr", "Transaction",
		"--start", from, "--end", walPosition(t, db))
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("pg_waldump: %v\n%s", err, out)
	}
	whole := make(map[string]string) // of a transaction within, as after a savepoint
	for _, parts := range commitLine.FindAllStringSubmatch(string(out), -1) {
		length, err1 := strconv.ParseUint(parts[1], 10, 32)
		id, err2 := strconv.ParseUint(parts[2], 10, 32)
		high, err3 := strconv.ParseUint(parts[3], 16, 32)
		low, err4 := strconv.ParseUint(parts[4], 16, 32)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		head := le.LittleEndian.AppendUint64(nil, id<<32|length)
		w.commits = append(w.commits, commit{high<<32 | low, string(head), parts[2]})
		for within := range strings.FieldsSeq(parts[5]) {
			whole[within] = parts[2]
		}
	}
	for row, transaction := range w.transaction {
		w.transaction[row] = cmp.Or(whole[transaction], transaction)
	}
	return w
}

func walPosition(t *testing.T, db *testDatabase) (position string) {
	t.Helper()
	if err := db.connect(t).QueryRow(t.Context(), "SELECT pg_current_wal_flush_lsn()::text").Scan(&position); err != nil {
		t.Fatal(err)
	}
	return position
}
