package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// TestDurable: no 201 is sent before its rows are on the disk, and saves that
// wait together share a sync. The test must also find a gallery that does this
// slightly wrong.
func TestDurable(t *testing.T) {
	tests := []struct {
		name             string
		newDatabase      func(*testing.T) *testDatabase
		trace            func(t *testing.T, binary string, db *testDatabase, option string, clients, notifications int) testimony
		file, old, wrong string // the change in the wrong gallery
		option           string // of the wrong gallery's database
	}{
		{"SQLite", testDatabases["SQLite"], traceSQLite, "../../sqlstore/dialect.go", `pragma("synchronous")`,
			`func() (string, error) { _, err := conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL"); return "2", err }()`, ""},
		{"Postgres", newPostgres, tracePostgres, "../../sqlstore/dialect.go", `value == "off" {`, `value == "ignored" {`, "&synchronous_commit=off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := testimony{syncs: 1}
			// Other work on the machine may prevent 64 clients from working at the same
			// time.
			for try := 0; try < 3 && float64(got.syncs) > 0.2*float64(got.answers); try++ {
				got = tt.trace(t, binary, tt.newDatabase(t), "", 64, size(2000, 600))
				t.Logf("%d answers 201, %d before they were true; %d syncs, %.3f for each",
					got.answers, len(got.broken), got.syncs, float64(got.syncs)/float64(got.answers))
				if len(got.broken) > 0 {
					t.Fatalf("%d of %d answers 201 were sent before their rows were synced, for example for %s", len(got.broken), got.answers, got.broken[0])
				}
			}
			if float64(got.syncs) > 0.2*float64(got.answers) {
				t.Errorf("there were %d syncs for %d answers, want at most a fifth", got.syncs, got.answers)
			}
		})
		t.Run(tt.name+", wrong", func(t *testing.T) {
			wrong := buildWrong(t, tt.file, tt.old, tt.wrong)
			got := tt.trace(t, wrong, tt.newDatabase(t), tt.option, 8, 100)
			if len(got.broken) < got.answers/2 {
				t.Errorf("the test found %d of %d answers 201 too early, want most", len(got.broken), got.answers)
			}
		})
	}
}

func traceSQLite(t *testing.T, binary string, db *testDatabase, option string, clients, notifications int) testimony {
	t.Helper()
	p := startBinary(t, binary, testEnv(), "-db", db.url+option)
	events := traceLoad(t, p, clients, notifications, p.cmd.Process.Pid)
	images := imagesOf(t, db)
	return testify(t, events, newSQLiteWitness(images), images, notifications)
}

func tracePostgres(t *testing.T, binary string, db *testDatabase, option string, clients, notifications int) testimony {
	t.Helper()
	p := startBinary(t, binary, testEnv(), "-db", db.url+option)
	from := walPosition(t, db)
	events := traceLoad(t, p, clients, notifications, append(serverPIDs(t, db), p.cmd.Process.Pid)...)
	return testify(t, events, newPostgresWitness(t, db, from), imagesOf(t, db), notifications)
}

// traceLoad traces processes while a gallery is under load.
func traceLoad(t *testing.T, p *program, clients, notifications int, pids ...int) []event {
	t.Helper()
	tr := attach(t, writesAndSyncs, pids...)
	load := startLoad(t, clients, notifications, p.hook())
	load.wait()
	if len(load.acknowledged) != notifications {
		t.Errorf("of %d notifications %d were acknowledged; answers by status: %v", notifications, len(load.acknowledged), load.answers)
	}
	tr.detach(t)
	return tr.events(t)
}

// serverPIDs returns the processes that write and sync. The backends of later
// connections are children of the first one.
func serverPIDs(t *testing.T, db *testDatabase) []int {
	t.Helper()
	rows, err := db.connect(t).Query(t.Context(), `SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()
		AND backend_type IN ('client backend', 'walwriter', 'checkpointer', 'background writer')`)
	if err != nil {
		t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	return append(pids, db.server.PID())
}

// imagesOf returns the keys of images by the deliveries that announced them.
func imagesOf(t *testing.T, db *testDatabase) map[string]string {
	t.Helper()
	opened, err := database.Open(t.Context(), db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	images, err := opened.Images(t.Context(), "", database.Position{}, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	byDelivery := make(map[string]string, len(images))
	for _, image := range images {
		byDelivery[image.DeliveryID] = image.Key
	}
	return byDelivery
}

// buildWrong builds a gallery after it has replaced one text in a file.
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
