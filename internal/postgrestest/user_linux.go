package postgrestest

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// asServerUser runs a program as another user if this process runs as root,
// because Postgres refuses to run as root. It gives the files to that user. The
// program ends with this process, even if this process is killed.
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
	cmd.Dir = "/" // that user may have no access to this process's folder
	var errs []error
	for _, file := range files {
		errs = append(errs, os.Chown(file, int(uid), int(gid)))
	}
	return errors.Join(errs...)
}
