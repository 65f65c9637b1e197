package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

// stop asks the program to end, and returns its whole output.
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

// TestPrograms runs receivers and workers as in production: as processes, with
// no secret in the workers.
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
	receiver := start(t, binary, []string{secrets.APISecret + "=" + rand.Text(), secrets.APISecret + secrets.PreviousSuffix + "=" + secret, secrets.TokenKey + "=" + string(tokenKey)},
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

	base := strings.TrimSuffix(hook, hookPath)
	status(t, base+"/healthz", http.StatusOK)
	status(t, base+"/readyz", http.StatusOK)
	for _, want := range []string{`cloudinary_notifications_total{status="201"} 50`, "cloudinary_queue_messages 0", "cloudinary_dead_letters 0",
		"cloudinary_cluster_ready 1", "go_goroutines", "process_open_fds"} {
		waitFor(t, base+"/metrics", want)
	}
	done := 0
	for _, w := range workers {
		page := w.expect(t, "work: ")
		status(t, strings.Replace(page, "/metrics", "/readyz", 1), http.StatusOK)
		waitFor(t, page, "cloudinary_queue_oldest_seconds 0")
		done += value(t, page, `cloudinary_deliveries_total{result="done"}`)
	}
	if done != 50 {
		t.Errorf("the workers say that %d deliveries are done, want 50", done)
	}
	var said strings.Builder
	said.WriteString(receiver.stop(t))
	for _, w := range workers {
		said.WriteString(w.stop(t))
	}
	for _, private := range []string{secret, string(tokenKey), "token=", "eyJ"} {
		if strings.Contains(said.String(), private) {
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

// get returns an answer's status and body.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// status waits until the answer has this status.
func status(t *testing.T, url string, want int) {
	t.Helper()
	wait(t, url, func(context.Context) error {
		if got, body := get(t, url); got != want {
			return fmt.Errorf("got %d, %q, want %d", got, body, want)
		}
		return nil
	})
}

// waitFor waits until the answer holds a text.
func waitFor(t *testing.T, url, want string) {
	t.Helper()
	wait(t, url, func(context.Context) error {
		if _, body := get(t, url); !strings.Contains(body, want) {
			return fmt.Errorf("there is no %s in:\n%s", want, body)
		}
		return nil
	})
}

// value returns the value of a metric, or 0 if there is none.
func value(t *testing.T, url, metric string) (n int) {
	t.Helper()
	_, body := get(t, url)
	if _, rest, ok := strings.Cut(body, metric+" "); ok {
		_, _ = fmt.Sscan(rest, &n)
	}
	return n
}

// TestNoPasswordInMessages: no message holds the password of a URL that is in
// the wrong place or malformed, or whose password the node refuses.
func TestNoPasswordInMessages(t *testing.T) {
	guarded := startNode(t, node{name: "guarded", dir: t.TempDir(), clientAddr: "127.0.0.1:-1", password: "right"})
	const password = "hunter2"
	db := filepath.Join(t.TempDir(), "db")
	tests := []string{
		"postgres://u:hunter2@h/db", "work postgres://u:hunter2@h/db", "receive nats://u:hunter2@h", "dead nats://u:hunter2@h", "bench nats://u:hunter2@h",
		"work -postgres://u:hunter2@h/db", "work -concurrency postgres://u:hunter2@h/db", "work -log-format u:hunter2@h", "work -log-level=u:hunter2@h",
		"work -db postgres://u:hunter2@127.0.0.1:1/db", "work -db postgres://u:hunter2%zz@127.0.0.1:1/db", "work -db postgres://u:hunter2@127.0.0.1:x/db",
		"work -admin postgres://u:hunter2@h/db", "work -db u:hunter2@127.0.0.1/db", "work -db postgres:/u:hunter2@h/db",
		"work -db " + db + " -nats nats://u:hunter2%zz@h", "work -db " + db + " -nats nats://u:hunter2/@h", "work -db " + db + " -nats nats://u:1?hunter2@h",
		"work -db " + db + " -nats u:hunter2#@h", "work -db " + db + " -nats nats://u:1/hunter2@h", "work -db " + db + " -nats nats://u:hunter2@h:hunter2",
		"work -db " + db + " -nats nats://u:hunter2@" + guarded.clientAddr, "dead -nats nats://u:hunter2@" + guarded.clientAddr,
		"dead -nats nats://u:hunter2@127.0.0.1:1",
	}
	for _, args := range tests {
		t.Run(args, func(t *testing.T) {
			var out bytes.Buffer
			env := map[string]string{secrets.APISecret: "s", secrets.TokenKey: strings.Repeat("k", 32)}
			err := run(t.Context(), strings.Fields(args), func(name string) string { return env[name] }, &out, &out)
			if err == nil || strings.Contains(err.Error()+out.String(), password) {
				t.Errorf("got %v and the output %q, want an error without the password", err, out.String())
			}
		})
	}
}

// TestNoRoom: the message names the setting, because the node's own error does
// not.
func TestNoRoom(t *testing.T) {
	small := startNode(t, node{name: "small", dir: t.TempDir(), clientAddr: "127.0.0.1:-1", maxStore: 10 << 30})
	env := map[string]string{secrets.APISecret: "s", secrets.TokenKey: strings.Repeat("k", 32)}
	err := run(t.Context(), []string{"receive", "-replicas", "1", "-nats", small.url()}, func(name string) string { return env[name] }, io.Discard, io.Discard)
	for _, want := range []string{"-max-bytes 17179869184 reserves 16.00 GiB on each node", "max_file_store"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	inCluster := &jetstream.APIError{ErrorCode: 10005, Description: "no suitable peers for placement, insufficient storage"}
	if err := (clusterConfig{replicas: 3, maxBytes: 1 << 30}).explain(inCluster); !strings.Contains(err.Error(), "-max-bytes") || !errors.Is(err, inCluster) {
		t.Errorf("in a cluster got %v, want an error about -max-bytes", err)
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
		{"no secret", "receive", map[string]string{secrets.TokenKey: key}, secrets.APISecret},
		{"a blank secret", "receive", map[string]string{secrets.TokenKey: key, secrets.APISecret: " "}, secrets.APISecret},
		{"no key", "receive", map[string]string{secrets.APISecret: "a"}, secrets.TokenKey},
		{"no new key", "receive", map[string]string{secrets.APISecret: "a", secrets.TokenKey + "_PREVIOUS": key}, secrets.TokenKey},
		{"no file", "receive", map[string]string{secrets.APISecret + "_FILE": "nowhere", secrets.TokenKey: key}, secrets.APISecret + "_FILE"},
		{"a short key", "receive", map[string]string{secrets.TokenKey: "short", secrets.APISecret: "a"}, secrets.TokenKey},
		{"an argument too many", "work now", nil, "arguments"},
		{"no concurrency", "work -concurrency 0", nil, "-concurrency"},
		{"no drain", "receive -drain -1s", nil, "-drain"},
		{"no place for metrics", "work -admin=", nil, "-admin"},
		{"a stream for nothing", "work -max-bytes 1000", nil, "-max-bytes"},
		{"an unknown flag", "work -what", nil, "-what"},
		{"a letter without a number", "dead -requeue all", nil, "numbers"},
		{"discard without a number", "dead -discard", nil, "numbers"},
		{"discard and requeue", "dead -discard -requeue 1", nil, "-requeue"},
		{"no time", "work -timeout 0s", nil, "-timeout"},
		{"a node without others", "node -name a -dir b", nil, "-routes"},
		{"a node that takes 1 MB", "receive -nats " + small.url(), map[string]string{secrets.TokenKey: key, secrets.APISecret: "a"}, "max_payload: 8MB"},
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

// TestDemo runs the demo as a user would.
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
		`node [abc], the leader of the stream, is killed`, `node [abc], a follower, is killed`,
		`(?s)is started again.*has caught up.*is started again.*has caught up`,
		`sent [1-9]\d*, acknowledged [1-9]\d*, lost 0, doubled 0;`,
		`longest gap without a 201 ([2-9]|\d\d)[.\d]*s`, // if the node handed over properly, there would be no gap
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("the demo does not say %q:\n%s", want, out)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v behind (%v)", left, err)
	}
}

// TestBench runs the whole bench with few messages.
func TestBench(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), binary, "bench", "-messages", "100", "-rounds", "1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	number := `[1-9][\d.]*`
	for _, want := range []string{
		`synced in ` + number, `receiver: ` + number + `.s of CPU`, `(?m)^ +128 +` + number + ` +` + number + ` +0?\.?\d`,
		`storage: [5-9]\d{3} bytes`, `out again +` + number,
		`nodes: -?\d[\d.]*.+ of CPU`, // the value is a difference; with so few messages it may be anything
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("the measurement does not say %q:\n%s", want, out)
		}
	}
}

// TestREADMEConfiguration: the configuration in the README keeps the promise.
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
