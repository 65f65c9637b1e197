package sqlstore

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// TestReadersDoNotStarveSaves: readers hold all connections that the pool gives
// them, and more readers wait for one. Saves still succeed, because the
// committer has a connection of its own.
func TestReadersDoNotStarveSaves(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		const connections, readers = 4, 64
		s.db.SetMaxOpenConns(connections)
		save(t, s, upload(t, 0), cloudinaryhook.StateNew) // opens the committer's connection, if it is not open yet
		waited := s.db.Stats().WaitCount
		release := make(chan struct{})
		var wg sync.WaitGroup
		for range readers {
			wg.Go(func() { holdRows(t, s, release) })
		}
		defer wg.Wait()
		defer close(release)
		for stats := s.db.Stats(); stats.InUse < connections || stats.WaitCount-waited < readers-connections; stats = s.db.Stats() {
			runtime.Gosched()
		}
		for i := range 5 {
			save(t, s, upload(t, i+1), cloudinaryhook.StateNew)
			complete(t, s, upload(t, i).ID, nil)
			if err := s.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// holdRows begins to read rows, and keeps its connection until release is
// closed.
func holdRows(t *testing.T, s *Store, release <-chan struct{}) {
	rows, err := s.db.QueryContext(t.Context(), "SELECT id FROM cloudinary_deliveries")
	if err != nil {
		t.Error(err)
		return
	}
	defer rows.Close()
	if !rows.Next() {
		t.Errorf("there is no row, want one: %v", rows.Err())
	}
	<-release
}

// BenchmarkReaders measures how long the saves of eight clients take, alone and
// beside 64 readers that list rejected deliveries without a pause. Every round
// measures both. The result is the median of the rounds' p99:
//
//	go test -run '^$' -bench Readers -benchtime 5x ./sqlstore
func BenchmarkReaders(b *testing.B) {
	const readers, seconds = 64, 2
	for _, d := range databases {
		b.Run(d.dialect.String(), func(b *testing.B) {
			s := open(b, d.dialect, d.newName(b))
			s.db.SetMaxOpenConns(max(2, runtime.GOMAXPROCS(0)))
			fillShares(b, s, 20_000)
			round := func() float64 {
				return percentile(measureSaves(b, s, func() { time.Sleep(seconds * time.Second) }), 99)
			}
			var alone, beside []float64
			for b.Loop() {
				alone = append(alone, round())
				stop := readRejected(b, s, readers)
				beside = append(beside, round())
				stop()
			}
			b.ReportMetric(median(alone), "alone-p99-ms")
			b.ReportMetric(median(beside), "readers-p99-ms")
			b.ReportMetric(0, "ns/op") // the time of a round means nothing
		})
	}
}

// readRejected has readers list rejected deliveries until stop is called.
func readRejected(b *testing.B, s *Store, readers int) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Rejected(ctx, 20); err != nil && ctx.Err() == nil {
					b.Errorf("Rejected got %v, want nil", err)
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}
