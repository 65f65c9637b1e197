package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
)

func TestParseConfig(t *testing.T) {
	key := strings.Repeat("k", 32)
	both := map[string]string{secretVariable: "new", keyVariable: key}
	tests := []struct {
		name    string
		args    string
		env     map[string]string
		want    func(*config) // changes the defaults; secrets are not compared in a demo
		wantErr string
	}{
		{"both", "", both, func(*config) {}, ""},
		{"flags", "-addr localhost:1 -db x.db -keep 3h -give-up 0 -drain 5s", both, func(c *config) {
			c.addr, c.db, c.keep, c.giveUp, c.drain = "localhost:1", "x.db", 3*time.Hour, 0, 5*time.Second
		}, ""},
		{"log", "-log-level WARN -log-format json", both, func(c *config) { c.log = service.Log{Level: slog.LevelWarn, JSON: true} }, ""},
		{"IPv6", "-addr [::1]:1", both, func(c *config) { c.addr = "[::1]:1" }, ""},
		{"public", "-addr :80 -public", both, func(c *config) { c.addr, c.public = ":80", true }, ""},
		{"only the hook is public", "-addr :80 -admin 127.0.0.1:81", both, func(c *config) { c.addr, c.admin = ":80", "127.0.0.1:81" }, ""},
		{"files", "", map[string]string{secretVariable + "_FILE": "config_test.go", keyVariable: key, keyVariable + "_PREVIOUS_FILE": "nowhere"}, nil, keyVariable + "_PREVIOUS_FILE"},
		{"rotation", "", map[string]string{secretVariable: "new", secretVariable + "_PREVIOUS": "old", keyVariable: key, keyVariable + "_PREVIOUS": "an old key"}, func(c *config) {
			c.secrets, c.keys = []string{"new", "old"}, [][]byte{[]byte(key), []byte("an old key")}
		}, ""},
		{"demo", "", nil, func(c *config) { c.demo, c.secrets, c.keys = true, nil, nil }, ""},
		{"demo with a database", "-demo -db x.db", nil, func(c *config) { c.demo, c.db, c.secrets, c.keys = true, "x.db", nil, nil }, ""},

		{"database without secrets", "-db x.db", nil, nil, "-demo"},
		{"demo with secrets", "-demo", both, nil, "unset"},
		{"admin address of others", "-admin :81", both, nil, "-admin: others"},
		{"admin address of others in a demo", "-admin :81 -public", nil, nil, "-admin: a demo"},
		{"log format", "-log-format xml", both, nil, "text or json"},
		{"log level", "-log-level loud", both, nil, "-log-level"},
		{"negative time to give up", "-give-up -1s", both, nil, "negative"},
		{"secret alone", "", map[string]string{secretVariable: "s"}, nil, keyVariable + " is not"},
		{"key alone", "", map[string]string{keyVariable: key}, nil, secretVariable + " is not"},
		{"address of all interfaces", "-addr :8080", both, nil, "-public"},
		{"address of others", "-addr 192.0.2.1:80", both, nil, "-public"},
		{"address by name", "-addr gallery.example:80", both, nil, "-public"},
		{"address without a port", "-addr 127.0.0.1", both, nil, "-addr"},
		{"public demo", "-addr :8080 -public", nil, nil, "loopback"},
		{"keep under the replay window", "-keep 2h", both, nil, "replayed"},
		{"argument", "postgres://u:password@h/d", both, nil, "arguments without a flag"},
		{"unknown flag", "-x", both, nil, "-x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseConfig(strings.Fields(tt.args), func(name string) string { return tt.env[name] }, io.Discard)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("parseConfig(%q) got %v, want an error with %q", tt.args, err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.demo {
				defer got.cleanUp()
				if len(got.secrets) != 1 || len(got.secrets[0]) < 20 || len(got.keys) != 1 || len(got.keys[0]) < 32 {
					t.Errorf("the demo's secrets are %q and %q, want new random ones", got.secrets, got.keys)
				}
				got.secrets, got.keys = nil, nil
			}
			want := &config{addr: "127.0.0.1:8080", db: "gallery.db", keep: 720 * time.Hour, giveUp: 168 * time.Hour,
				secrets: []string{"new"}, keys: [][]byte{[]byte(key)}}
			if got.temporary != "" { // its name is random
				want.temporary, want.db = got.temporary, filepath.Join(got.temporary, "gallery.db")
			}
			tt.want(want)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{})); diff != "" {
				t.Errorf("config differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPasswordIsNotSaid: the output holds no password, because more people can
// read logs than the database.
func TestPasswordIsNotSaid(t *testing.T) {
	const password = "hunter2"
	for name, args := range map[string][]string{
		"nobody listens":  {"-db", "postgres://u:" + password + "@127.0.0.1:1/d"},
		"no URL":          {"-db", "postgres://u:" + password + "%@127.0.0.1/d"},
		"another kind":    {"-db", "mysql://u:" + password + "@127.0.0.1/d"},
		"no flag":         {"postgres://u:" + password + "@127.0.0.1/d"},
		"flag misspelt":   {"-db", "postgres://u:" + password + "@127.0.0.1/d", "-bd"},
		"value misplaced": {"-keep", "3h", "-db", "gallery.db", "postgres://u:" + password + "@127.0.0.1/d"},
		"flag and value":  {"-dbpostgres://u:" + password + "@127.0.0.1/d"},
		"a duration":      {"-keep", "postgres://u:" + password + "@127.0.0.1/d"},
		"a boolean":       {"-demo=postgres://u:" + password + "@127.0.0.1/d"},
		"a log level":     {"-log-level", "postgres://u:" + password + "@127.0.0.1/d"},
		"an address":      {"-addr", "postgres://u:" + password + "@127.0.0.1/d"},
		"another address": {"-admin", "postgres://u:" + password + "@127.0.0.1/d"},
		"a host":          {"-addr", "postgres://u:" + password + "@127.0.0.1:80", "-public"},
		"help":            {"-db", "postgres://u:" + password + "@127.0.0.1/d", "-help"},
	} {
		t.Run(name, func(t *testing.T) {
			var output bytes.Buffer
			err := run(t.Context(), append([]string{"-addr", "127.0.0.1:0"}, args...), func(string) string { return "" }, &output, &output)
			if err == nil {
				t.Fatal("run got nil, want an error")
			}
			if said := fmt.Sprint(&output, err); strings.Contains(said, password) {
				t.Errorf("the output holds the password: %s", said)
			}
		})
	}
}
