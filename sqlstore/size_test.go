package sqlstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// BenchmarkSize compares a table of a million deliveries with one of 10,000. In
// both, a tenth is pending and a twentieth is rejected. Every round measures
// both tables. The results are medians in milliseconds. At the end Prune
// deletes half of the million while saves go on.
//
//	go test -run '^$' -bench Size -benchtime 1x -timeout 1h ./sqlstore
func BenchmarkSize(b *testing.B) {
	for _, d := range databases {
		b.Run(d.dialect.String(), func(b *testing.B) {
			var stores []*Store
			for _, n := range []int{10_000, 1_000_000} {
				s := open(b, d.dialect, d.newName(b))
				fillShares(b, s, n)
				stores = append(stores, s)
			}
			for b.Loop() {
				compareSizes(b, stores[0], stores[1])
				pruneHalf(b, stores[1])
			}
			b.ReportMetric(0, "ns/op") // the time of a round means nothing
		})
	}
}

func fillShares(b *testing.B, s *Store, n int) {
	b.Helper()
	fill(b, s, n, "CASE WHEN n % 10 > 0 THEN n END", "CASE WHEN n % 20 = 1 THEN 'bad' END", "n")
	if err := s.recount(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, err := s.db.Exec(map[Dialect]string{SQLite: "ANALYZE", Postgres: "VACUUM ANALYZE"}[s.dialect]); err != nil {
		b.Fatal(err)
	}
}

func compareSizes(b *testing.B, small, large *Store) {
	const rounds = 101
	for _, m := range []struct {
		name string
		do   func(s *Store) error
	}{
		{"save", func(s *Store) error {
			_, err := s.Save(b.Context(), newDelivery(b, string(uploadBody(b))))
			return err
		}},
		{"stats", func(s *Store) error { _, err := s.Stats(b.Context()); return err }},
		{"rejected", func(s *Store) error { _, err := s.Rejected(b.Context(), 100); return err }},
		{"pending", func(s *Store) error { return firstPage(b.Context(), s) }},
	} {
		took := map[*Store][]float64{}
		for range rounds {
			for _, s := range []*Store{small, large} {
				start := time.Now()
				if err := m.do(s); err != nil {
					b.Fatal(err)
				}
				took[s] = append(took[s], time.Since(start).Seconds()*1000)
			}
		}
		b.ReportMetric(median(took[small]), m.name+"-10k-ms")
		b.ReportMetric(median(took[large]), m.name+"-1m-ms")
	}
}

func firstPage(ctx context.Context, s *Store) error {
	page, err := s.pendingPage(ctx, time.Now(), position{receivedAt: math.MinInt64})
	if err == nil && len(page) < pendingPage {
		err = fmt.Errorf("only %d are pending", len(page))
	}
	return err
}

// pruneHalf prunes the older half of the completed deliveries while eight
// clients save. It reports how long saves took before it and during it.
func pruneHalf(b *testing.B, s *Store) {
	calm := measureSaves(b, s, func() { time.Sleep(5 * time.Second) })
	var pruned int64
	busy := measureSaves(b, s, func() {
		start := time.Now()
		var err error
		if pruned, err = s.Prune(b.Context(), time.Unix(0, 500_000)); err != nil {
			b.Error(err)
		}
		b.ReportMetric(float64(pruned)/time.Since(start).Seconds(), "pruned/s")
	})
	if pruned != 450_000 {
		b.Errorf("Prune got %d deliveries, want 450000: those of the first half that are not pending", pruned)
	}
	b.ReportMetric(percentile(calm, 99), "calm-p99-ms")
	b.ReportMetric(percentile(busy, 50), "pruning-p50-ms")
	b.ReportMetric(percentile(busy, 99), "pruning-p99-ms")
}

// measureSaves runs eight clients that save without a pause until f returns. It
// returns the milliseconds that each save took.
func measureSaves(tb testing.TB, s *Store, f func()) (took []float64) {
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				d := newDelivery(tb, string(uploadBody(tb)))
				start := time.Now()
				if state, err := s.Save(context.WithoutCancel(ctx), d); err != nil || state != cloudinaryhook.StateNew {
					tb.Errorf("Save got %v and %v, want new", state, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(start).Seconds()*1000)
				mu.Unlock()
			}
		})
	}
	f()
	cancel()
	wg.Wait()
	return took
}

func percentile(values []float64, p int) float64 {
	slices.Sort(values)
	return values[(len(values)-1)*p/100]
}
