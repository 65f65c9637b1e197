//go:build unix

package cloudinaryhook

import (
	"syscall"
	"time"
)

// processorTime is what this process has used so far. Others on the machine
// disturb it less than they do the clock.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
