// Verifies one signature, for TestComparisonTakesTheSameInstructions.
package main

import (
	"os"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

func main() {
	v := &cloudinaryhook.SignatureVerifier{
		Secrets: os.Args[4:],
		Now:     func() time.Time { return time.Unix(1700000000, 0) },
	}
	_ = v.Verify([]byte(os.Args[1]), os.Args[2], os.Args[3])
}
