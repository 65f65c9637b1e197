package postgrestest

import (
	"net/url"
	"strings"
	"testing"
)

// TestRestart: data survives Stop and Kill under the same URL, and the server
// is durable.
func TestRestart(t *testing.T) {
	s := Start(t)
	address := s.Database(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	for name, end := range map[string]func(){"Stop": s.Stop, "Kill": s.Kill} {
		table := "after_" + name
		if err := s.query(t.Context(), database, "CREATE TABLE "+table+" AS SELECT 7"); err != nil {
			t.Fatal(err)
		}
		end()
		if pid := s.PID(); pid != 0 {
			t.Errorf("after %s PID got %d, want 0", name, pid)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if err := s.query(t.Context(), database, "SELECT * FROM "+table); err != nil {
			t.Errorf("after %s and Start reading a table got %v, want nil", name, err)
		}
	}
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if err := s.query(t.Context(), database, "SELECT 1 / (current_setting('"+setting+"') = 'on')::int"); err != nil {
			t.Errorf("%s is not on: %v", setting, err)
		}
	}
}
