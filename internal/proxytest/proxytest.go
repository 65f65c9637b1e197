// Package proxytest starts real proxies for tests, with the configurations that
// docs/routers.md shows.
package proxytest

import (
	_ "embed"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A Proxy is a program that stands between a sender and the handler.
type Proxy struct {
	Name   string
	Config string // the text in docs/routers.md
	main   string // the rest of the configuration, with INCLUDE in the place of Config; "": Config is all
	args   []string
}

var (
	//go:embed nginx.conf
	nginx string
	//go:embed haproxy.cfg
	haproxy string
	//go:embed Caddyfile
	caddy string
)

// Proxies lists the proxies of the tests. Debian has packages for all of them.
var Proxies = []Proxy{
	{Name: "nginx", Config: nginx, args: []string{"-c"}, main: `
daemon off; master_process off; pid DIR/nginx.pid; error_log stderr;
events {}
http {
	client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
	INCLUDE
}`},
	{Name: "haproxy", Config: haproxy, args: []string{"-db", "-f"}},
	{Name: "caddy", Config: caddy, args: []string{"run", "--adapter", "caddyfile", "--config"}},
}

// Start starts the proxy in front of upstream, and returns its address. It
// listens on loopback until the test ends. It writes its files into dir. If the
// program is missing, the test is skipped, but in CI it fails.
func (p Proxy) Start(t testing.TB, dir, upstream string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close() // for the proxy to take
	path, output := filepath.Join(dir, "config"), filepath.Join(dir, "output")
	if err := os.WriteFile(path, []byte(p.configure(dir, addr, upstream)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(p.Name, append(p.args, path)...) //nolint:gosec // a name and arguments of Proxies
	if cmd.Err != nil && os.Getenv("CI") == "" {
		t.Skipf("%s is not installed; CI installs it", p.Name)
	}
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir) // for Caddy's files
	if cmd.Stdout, err = os.Create(output); err != nil {                                      //nolint:gosec // in the test's own folder
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return addr
		}
		select {
		case err := <-exited:
			exited <- err
			said, _ := os.ReadFile(output) //nolint:gosec // in the test's own folder
			t.Fatalf("%s ended with %v:\n%s", p.Name, err, said)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// configure returns the configuration for a test, with the test's own addresses
// and folders.
func (p Proxy) configure(dir, addr, upstream string) string {
	config := p.Config
	if p.main != "" {
		config = strings.Replace(p.main, "INCLUDE", config, 1)
	}
	return strings.NewReplacer("{\n\tlog {", "{\n\tadmin off\n\tlog {", // Caddy's admin endpoint has a fixed port
		":8000", strings.TrimPrefix(addr, "127.0.0.1"), "127.0.0.1:8080", upstream, "/var/log/nginx", dir, "DIR", dir).Replace(config)
}
