package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// TestHosts: a web site whose name points here (DNS rebinding) cannot read the
// pages, but Cloudinary may use any name for the hook.
func TestHosts(t *testing.T) {
	private := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	public := start(t, testEnv(), "-public", "-db", filepath.Join(t.TempDir(), "gallery.db"))
	private.post(t, golden(t, "upload-simple.json"))
	_, port, _ := strings.Cut(strings.TrimPrefix(private.url, "http://"), ":")
	tests := []struct {
		host string
		want int // status of the pages without -public
	}{
		{"localhost", 200},
		{"LOCALHOST:" + port, 200},
		{"127.0.0.1:" + port, 200},
		{"127.9.9.9", 200},
		{"[::1]:" + port, 200},
		{"[::1]", 200},
		{"rebound.example:" + port, 403},
		{"rebound.example", 403},
		{"localhost.rebound.example", 403},
		{"127.0.0.1.rebound.example", 403},
		{"192.0.2.1", 403},
		{"0.0.0.0:" + port, 403},
	}
	pages := []string{"/", "/api/v1/deliveries", "/api/v1/images", "/api/v1/stats", "/metrics", "/static/live.js"}
	ask := func(p *program, host, method, path string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, p.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			for _, path := range pages {
				if got := ask(private, tt.host, http.MethodGet, path); got != tt.want {
					t.Errorf("%s got %d, want %d", path, got, tt.want)
				}
				if got := ask(public, tt.host, http.MethodGet, path); got != http.StatusOK {
					t.Errorf("with -public %s got %d, want 200", path, got)
				}
			}
			for path, want := range map[string]int{hookPath: 401, "/healthz": 200, "/readyz": 200} {
				method := http.MethodGet
				if path == hookPath {
					method = http.MethodPost
				}
				if got := ask(private, tt.host, method, path); got != want {
					t.Errorf("%s %s got %d, want %d", method, path, got, want)
				}
			}
		})
	}
}

// TestAdmin: with -admin, the hook's address has no pages.
func TestAdmin(t *testing.T) {
	p := start(t, testEnv(), "-admin", "127.0.0.1:0", "-db", filepath.Join(t.TempDir(), "gallery.db"))
	line := <-p.output // gallery: takes notifications at URL, …
	hook := &program{url: strings.TrimSuffix(strings.Fields(line)[4], hookPath+",")}
	if status := hook.post(t, golden(t, "upload-simple.json")); status != http.StatusCreated {
		t.Fatalf("answered %d, want 201", status)
	}
	type statuses map[string]int
	for name, tt := range map[string]struct {
		p    *program
		want statuses
	}{
		"-addr": {hook, statuses{"/": 404, "/metrics": 404, "/api/v1/deliveries": 404, "/events": 404, "/static/live.js": 404,
			"/healthz": 200, "/readyz": 200, hookPath: 405}},
		"-admin": {p, statuses{"/": 200, "/metrics": 200, "/api/v1/deliveries": 200, "/static/live.js": 200,
			"/healthz": 200, "/readyz": 200, hookPath: 404}},
	} {
		got := statuses{}
		for path := range tt.want {
			got[path], _ = tt.p.get(t, path)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("at %s statuses differ (-want +got):\n%s", name, diff)
		}
	}
}

// TestDrain: after SIGTERM the gallery is not ready, but goes on answering
// until a load balancer has noticed that.
func TestDrain(t *testing.T) {
	p := start(t, testEnv(), "-drain", "1h", "-db", filepath.Join(t.TempDir(), "gallery.db"))
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.waitForStatus(t, "/readyz", http.StatusServiceUnavailable)
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a new connection
	resp, err := fresh.Do(cloudinaryhooktest.NewRequest(t, p.hook(), golden(t, "upload-simple.json")))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("while it drains a notification was answered %d, want 201", resp.StatusCode)
	}
	if status, _ := p.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("while it drains /healthz got %d, want 200", status)
	}
}
