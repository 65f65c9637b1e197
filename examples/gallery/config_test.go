package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseConfig(t *testing.T) {
	key := strings.Repeat("k", 32)
	both := map[string]string{secretVariable: "new, old", keyVariable: key}
	tests := []struct {
		name    string
		args    string
		env     map[string]string
		want    *config // secrets are not compared in a demo
		wantErr string
	}{
		{"both", "", both, &config{addr: "127.0.0.1:8080", db: "gallery.db", keep: 720 * time.Hour, secrets: []string{"new", "old"}, tokenKey: []byte(key)}, ""},
		{"flags", "-addr localhost:1 -db x.db -keep 3h", both, &config{addr: "localhost:1", db: "x.db", keep: 3 * time.Hour, secrets: []string{"new", "old"}, tokenKey: []byte(key)}, ""},
		{"IPv6", "-addr [::1]:1", both, &config{addr: "[::1]:1", db: "gallery.db", keep: 720 * time.Hour, secrets: []string{"new", "old"}, tokenKey: []byte(key)}, ""},
		{"public", "-addr :80 -public", both, &config{addr: ":80", db: "gallery.db", keep: 720 * time.Hour, secrets: []string{"new", "old"}, tokenKey: []byte(key)}, ""},
		{"demo with a database", "-db x.db", nil, &config{addr: "127.0.0.1:8080", db: "x.db", keep: 720 * time.Hour, demo: true}, ""},

		{"secret alone", "", map[string]string{secretVariable: "s"}, nil, keyVariable + " is not"},
		{"key alone", "", map[string]string{keyVariable: key}, nil, secretVariable + " is not"},
		{"short key", "", map[string]string{secretVariable: "s", keyVariable: key[1:]}, nil, "31 bytes"},
		{"empty secret in the list", "", map[string]string{secretVariable: "s,", keyVariable: key}, nil, "empty secret"},
		{"address of all interfaces", "-addr :8080", both, nil, "-public"},
		{"address of others", "-addr 192.0.2.1:80", both, nil, "-public"},
		{"address by name", "-addr gallery.example:80", both, nil, "-public"},
		{"address without a port", "-addr 127.0.0.1", both, nil, "-addr"},
		{"public demo", "-addr :8080 -public", nil, nil, "loopback"},
		{"keep under the replay window", "-keep 2h", both, nil, "replayed"},
		{"argument", "postgres://u:password@h/d", both, nil, "belong to no flag"},
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
				if len(got.secrets) != 1 || len(got.secrets[0]) < 20 || len(got.tokenKey) < 32 {
					t.Errorf("the demo's secrets have %d and %d bytes, want them made up", len(got.secrets[0]), len(got.tokenKey))
				}
				got.secrets, got.tokenKey = nil, nil
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(config{})); diff != "" {
				t.Errorf("config differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPasswordIsNotSaid: what a program writes is kept in logs, and read by more
// people than may read the database.
func TestPasswordIsNotSaid(t *testing.T) {
	const password = "hunter2"
	for name, args := range map[string][]string{
		"nobody listens":  {"-db", "postgres://u:" + password + "@127.0.0.1:1/d"},
		"no URL":          {"-db", "postgres://u:" + password + "%@127.0.0.1/d"},
		"another kind":    {"-db", "mysql://u:" + password + "@127.0.0.1/d"},
		"no flag":         {"postgres://u:" + password + "@127.0.0.1/d"},
		"flag misspelt":   {"-db", "postgres://u:" + password + "@127.0.0.1/d", "-bd"},
		"value misplaced": {"-keep", "3h", "-db", "gallery.db", "postgres://u:" + password + "@127.0.0.1/d"},
		"help":            {"-db", "postgres://u:" + password + "@127.0.0.1/d", "-help"},
	} {
		t.Run(name, func(t *testing.T) {
			var output bytes.Buffer
			err := run(t.Context(), append([]string{"-addr", "127.0.0.1:0"}, args...), func(string) string { return "" }, &output, &output)
			if err == nil {
				t.Fatal("run got nil, want an error")
			}
			if said := fmt.Sprint(&output, err); strings.Contains(said, password) {
				t.Errorf("the program says the password: %s", said)
			}
		})
	}
}
