//go:build unix

package main

import "syscall"

// raiseFileLimit raises the limit of open files, so that wrk and the servers
// can have enough connections. Child processes inherit the limit.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
