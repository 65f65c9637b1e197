//go:build race

package cloudinaryhook

// The race detector allocates too.
func init() { raceEnabled = true }
