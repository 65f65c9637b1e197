package sqlstore

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestReadersDoNotStarveSaves: however many pages are asked for at once, the
// committer has its own connection, and the readers wait for theirs. The limit
// is loose, since readers and writer share the machine's processors; without a
// connection of its own a save waits for its turn among the readers.
func TestReadersDoNotStarveSaves(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		const readers = 64
		s.db.SetMaxOpenConns(max(2, runtime.GOMAXPROCS(0)))
		fill(t, s, 20_000, "CASE WHEN n % 10 > 0 THEN n END", "CASE WHEN n % 20 = 1 THEN 'bad' END", "n")
		var got, want float64
		// Whatever else the machine does may disturb one measurement.
		for range 5 {
			want = percentile(measureSaves(t, s, func() { time.Sleep(time.Second) }), 99)
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range readers {
				wg.Go(func() {
					for ctx.Err() == nil {
						if _, err := s.Rejected(ctx, 20); err != nil && ctx.Err() == nil {
							t.Errorf("Rejected got %v, want nil", err)
						}
					}
				})
			}
			got = percentile(measureSaves(t, s, func() { time.Sleep(time.Second) }), 99)
			stop()
			wg.Wait()
			t.Logf("p99 of saves: %.1f ms alone, %.1f ms beside %d readers", want, got, readers)
			if got <= 2*want {
				return
			}
		}
		t.Errorf("beside %d readers the p99 of saves got %.1f ms, want twice that without them at most, %.1f ms", readers, got, 2*want)
	})
}
