//go:build !linux

package postgrestest

import "os/exec"

// asServerUser leaves the user as it is; root cannot run Postgres here.
func asServerUser(*exec.Cmd, ...string) error { return nil }
