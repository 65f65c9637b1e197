package postgrestest

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// asServerUser has a program run as another user if this one is root, as whom
// Postgres refuses to run; the files become that user's. The program ends with
// this one, also if this one is killed.
func asServerUser(cmd *exec.Cmd, files ...string) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	cmd.Dir = "/" // this one's may be closed to that user
	var errs []error
	for _, file := range files {
		errs = append(errs, os.Chown(file, int(uid), int(gid)))
	}
	return errors.Join(errs...)
}
