package postgrestest

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestRestart: data outlives Stop and Kill, at the same URL, and the server is
// durable.
func TestRestart(t *testing.T) {
	s := Start(t)
	url := s.Database(t)
	for name, end := range map[string]func(){"Stop": s.Stop, "Kill": s.Kill} {
		table := "after_" + name
		if err := query(t.Context(), url, "CREATE TABLE "+table+" AS SELECT 7"); err != nil {
			t.Fatal(err)
		}
		end()
		if pid := s.PID(); pid != 0 {
			t.Errorf("after %s PID got %d, want 0", name, pid)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if err := query(t.Context(), url, "SELECT * FROM "+table); err != nil {
			t.Errorf("after %s and Start reading a table got %v, want nil", name, err)
		}
	}
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"} {
		if got := show(t, url, setting); got != want {
			t.Errorf("%s got %s, want %s", setting, got, want)
		}
	}
}

func show(t *testing.T, url, setting string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), "SHOW "+setting).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}
