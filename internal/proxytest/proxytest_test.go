package proxytest

import (
	"context"
	"crypto/rand"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

const (
	hookPath = "/api/v1/cloudinary"
	maxBody  = 16 << 10
)

func newHook(t *testing.T) *cloudinaryhook.Handler {
	t.Helper()
	hook, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
		Processor: &cloudinaryhook.Processor{
			Store:  new(cloudinaryhooktest.MemoryStore),
			Notify: func(context.Context, *cloudinaryhook.Delivery) error { return nil },
		},
		MaxBody: maxBody,
	})
	if err != nil {
		t.Fatal(err)
	}
	return hook
}

// written sends one request for each outcome through a proxy, and returns
// everything that the proxy wrote to its files.
func written(t *testing.T, p Proxy) string {
	t.Helper()
	dir, server := t.TempDir(), httptest.NewServer(newHook(t))
	defer server.Close()
	url := "http://" + p.Start(t, dir, server.Listener.Addr().String()) + hookPath
	send := func(size int, want int, opts ...cloudinaryhooktest.Option) {
		t.Helper()
		body := `{"request_id":"` + rand.Text() + strings.Repeat("x", size) + `"}`
		r := cloudinaryhooktest.NewRequest(t, url, []byte(body), opts...)
		if size > 1<<20 {
			r.Header.Set("Expect", "100-continue") // so that the proxy can answer before the body is sent
		}
		r.Header.Set("Referer", r.URL.String())
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.StatusCode; got != want && (got != 503 || want != 502) { // HAProxy answers 503
			t.Errorf("%d bytes: got status %d, want %d", size, got, want)
		}
	}
	send(0, 201)
	send(0, 401, cloudinaryhooktest.WithSecret("another"))
	send(2*maxBody, 413)
	if p.Name != "caddy" { // Caddy has no limit of its own
		send(9<<20, 413)
	}
	server.Close()
	send(0, 502)

	return contents(t, dir, 5)
}

// contents returns the content of all files of dir, as soon as the path is in
// them n times: HAProxy logs after it has answered.
func contents(t *testing.T, dir string, n int) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var all strings.Builder
		if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			all.Write(data)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if strings.Count(all.String(), hookPath) >= n {
			return all.String()
		}
		if time.Now().After(deadline) {
			t.Fatalf("the logs have the path less than %d times:\n%s", n, &all)
		}
	}
}

// TestNoTokenInLogs: with the configuration of docs/routers.md, no proxy logs a
// token. Without the important lines the proxies do log it, so the test can
// find one.
func TestNoTokenInLogs(t *testing.T) {
	matters := map[string][]string{
		"nginx":   {" without_query;", "error_log /dev/null;"},
		"haproxy": {" %HM %HPO "},
		"caddy":   {`request>uri regexp \?.* ?REDACTED`, "request>headers>Referer delete"},
	}
	for _, p := range Proxies {
		t.Run(p.Name, func(t *testing.T) {
			logs := written(t, p)
			if strings.Contains(logs, "eyJ") {
				t.Errorf("the logs have a token:\n%s", logs)
			}
		})
		for _, line := range matters[p.Name] {
			t.Run(p.Name+" without "+line, func(t *testing.T) {
				other := p
				other.Config = strings.NewReplacer(line, map[string]string{" without_query;": ";", " %HM %HPO ": " %r "}[line]).Replace(p.Config)
				if other.Config == p.Config {
					t.Fatal("the configuration does not have the line")
				}
				if logs := written(t, other); !strings.Contains(logs, "eyJ") {
					t.Errorf("the logs have no token, so the line is not needed:\n%s", logs)
				}
			})
		}
	}
}

// TestDocs: docs/routers.md shows the tested configurations.
func TestDocs(t *testing.T) {
	docs, err := os.ReadFile("../../docs/routers.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Proxies {
		if !strings.Contains(string(docs), "\n"+p.Config+"```\n") {
			t.Errorf("docs/routers.md does not show %s's configuration as it is tested", p.Name)
		}
	}
}
