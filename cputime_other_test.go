//go:build !unix

package cloudinaryhook

import "time"

var started = time.Now()

// processorTime is the clock, where there is nothing better.
func processorTime() time.Duration { return time.Since(started) }
