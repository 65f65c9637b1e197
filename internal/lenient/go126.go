//go:build goexperiment.jsonv2 && !go1.27

package lenient

import "encoding/json/v2"

// The experiment in Go 1.26 has another error for this.
func init() { errSkip = json.SkipFunc }
