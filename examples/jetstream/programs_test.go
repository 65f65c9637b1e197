package main

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/internal/postgrestest"
)

// stop asks the program to end, and returns all it has said.
func (p *program) stop(t *testing.T) string {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v:\n%s", err, p.log.all.String())
	}
	return p.log.all.String()
}

// TestPrograms runs receivers and workers as one would: as processes, of which
// the workers have no secret.
func TestPrograms(t *testing.T) {
	tests := map[string]func(t *testing.T) (db string){
		"SQLite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "images.db") },
		"Postgres": func(t *testing.T) string { return postgrestest.Start(t).Database(t) },
	}
	for name, database := range tests {
		t.Run(name, func(t *testing.T) { testPrograms(t, database(t)) })
	}
}

func testPrograms(t *testing.T, dbName string) {
	n := startAlone(t)
	secret, tokenKey := newSecrets()
	cluster := []string{"-nats", n.url(), "-replicas", "1", "-max-bytes", "67108864"}
	receiver := start(t, binary, []string{secretVariable + "=" + secret + "," + rand.Text(), keyVariable + "=" + string(tokenKey)},
		append([]string{"receive", "-addr", "127.0.0.1:0"}, cluster...)...)
	hook := receiver.expect(t, "receive: ")

	workers := []*program{
		start(t, binary, nil, append([]string{"work", "-db", dbName}, cluster...)...),
		start(t, binary, nil, append([]string{"work", "-db", dbName, "-concurrency", "2"}, cluster...)...),
	}
	l := newLoad(secret, tokenKey, time.Second, hook)
	if err := flood(t.Context(), l, 50); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(dial(t, n.url()).Conn)
	if err != nil {
		t.Fatal(err)
	}
	waitEmpty(t, js)

	checkHealth(t, strings.TrimSuffix(hook, hookPath))
	said := receiver.stop(t)
	for _, w := range workers {
		said += w.stop(t)
	}
	for _, private := range []string{secret, string(tokenKey), "token=", "eyJ"} {
		if strings.Contains(said, private) {
			t.Errorf("the programs log %q", private)
		}
	}
	db, err := database.Open(t.Context(), dbName)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := l.compare(t.Context(), db)
	if err != nil || r.acknowledged != 50 || r.images != 50 || r.lost != 0 || r.doubled != 0 {
		t.Errorf("got %v (%v), want 50 acknowledged and as many images", r, err)
	}
}

func checkHealth(t *testing.T, receiver string) {
	t.Helper()
	resp, err := http.Get(receiver + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz got %d, want 200", resp.StatusCode)
	}
}

func TestMisuse(t *testing.T) {
	key := strings.Repeat("k", 32)
	small := node{name: "small", dir: t.TempDir(), clientAddr: "127.0.0.1:-1", maxPayload: 1 << 20}
	small = startNode(t, small)
	tests := []struct {
		name string
		args string
		env  map[string]string
		want string
	}{
		{"no command", "", nil, "usage"},
		{"unknown command", "receiv", nil, "usage"},
		{"no secret", "receive", map[string]string{keyVariable: key}, secretVariable},
		{"an empty secret", "receive", map[string]string{keyVariable: key, secretVariable: "a,,b"}, secretVariable},
		{"a short key", "receive", map[string]string{keyVariable: "short", secretVariable: "a"}, "fewer than 32"},
		{"an argument too many", "work now", nil, `"now"`},
		{"no concurrency", "work -concurrency 0", nil, "-concurrency"},
		{"no time", "work -timeout 0s", nil, "-timeout"},
		{"a node without others", "node -name a -dir b", nil, "-routes"},
		{"a node that takes 1 MB", "receive -nats " + small.url(), map[string]string{keyVariable: key, secretVariable: "a"}, "max_payload: 8MB"},
		{"more replicas than nodes", "work -db " + filepath.Join(t.TempDir(), "db") + " -nats " + small.url(), nil, streamName},
		{"too few to measure", "bench -messages 1", nil, "-messages"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), strings.Fields(tt.args), func(name string) string { return tt.env[name] }, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error about %s", err, tt.want)
			}
		})
	}
}

// TestDemo runs it as a reader would.
func TestDemo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "demo")
	tmp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, want := range []string{
		`node [abc], which leads the stream, is stopped`, `node [abc], which follows, is stopped`,
		`(?s)is started again.*has caught up.*is started again.*has caught up`,
		`sent [1-9]\d*, acknowledged [1-9]\d*, lost 0, doubled 0;`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("the demo does not say %q:\n%s", want, out)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v behind (%v)", left, err)
	}
}

// TestBench is the whole of it, with little to measure.
func TestBench(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), binary, "bench", "-messages", "100", "-rounds", "1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	number := `[1-9][\d.]*`
	for _, want := range []string{
		`synced in ` + number, `receiver: ` + number + `.s of CPU`, `(?m)^ +128 +` + number + ` +` + number + ` +0?\.?\d`,
		`storage: [5-9]\d{3} bytes`, `out again +` + number, `nodes: ` + number + `.+ of CPU`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("the measurement does not say %q:\n%s", want, out)
		}
	}
}

// TestREADMEConfiguration: what the README has users run keeps the promise.
func TestREADMEConfiguration(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```\n# nats.conf")
	config, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the README has no nats.conf")
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte("# "+config), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !o.SyncAlways || !o.JetStream || o.StoreDir == "" || len(o.Routes) != 2 {
		t.Errorf("the configuration is %+v, want JetStream that syncs always, with two routes", o)
	}
	if err := checkPayload(int64(o.MaxPayload)); err != nil {
		t.Error(err)
	}
}
