package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// A tally collects the results of several workers.
type tally struct {
	mu       sync.Mutex
	byAnswer map[string][]attempt
	accepted int
	err      error // of signing
}

func (t *tally) locked(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
}

// sendMany sends with several workers, and ends with a table of all attempts.
func (c *sendCommand) sendMany(ctx context.Context) error {
	sent := tally{byAnswer: make(map[string][]attempt)}
	start := time.Now()
	var taken, done atomic.Int64
	stopProgress := showProgress(ctx, c.stderr, &done, c.count)
	var workers sync.WaitGroup
	for range c.workers {
		workers.Go(func() {
			for ctx.Err() == nil && taken.Add(1) <= int64(c.count) {
				c.sendAnother(ctx, &sent)
				done.Add(1)
			}
		})
	}
	workers.Wait()
	stopProgress()
	if sent.err != nil {
		return sent.err
	}
	took := time.Since(start)
	writeTable(c.stdout, sent.byAnswer)
	fmt.Fprintf(c.stdout, "\n%d of %d accepted in %v, %.0f/s\n", sent.accepted, c.count, round(took), float64(sent.accepted)/took.Seconds())
	for _, answer := range slices.Sorted(maps.Keys(sent.byAnswer)) {
		fmt.Fprintf(c.stdout, "\n%s: %s\n", answer, c.explanation(sent.byAnswer[answer][0]))
	}
	if sent.accepted < c.count {
		return errSilent
	}
	return nil
}

// sendAnother sends one more notification. It has a new body, unless -same was
// given.
func (c *sendCommand) sendAnother(ctx context.Context, t *tally) {
	n, err := c.notification()
	if err != nil {
		t.locked(func() { t.err = err })
		return
	}
	last := c.deliver(ctx, n, func(a attempt, _ time.Duration) {
		t.locked(func() { t.byAnswer[a.String()] = append(t.byAnswer[a.String()], a) })
	})
	if last.accepted() {
		t.locked(func() { t.accepted++ })
	}
}

// showProgress writes the progress, if w is a terminal, until stop is called.
func showProgress(ctx context.Context, w io.Writer, done *atomic.Int64, count int) (stop func()) {
	if !isTerminal(w) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		for sleep(ctx, 200*time.Millisecond) == nil {
			fmt.Fprintf(w, "\r%d of %d", done.Load(), count)
		}
		fmt.Fprint(w, "\r\x1b[K") // clear the line
	})
	return func() {
		cancel()
		shown.Wait()
	}
}

// isTerminal also returns true for other character devices. Progress does no
// harm there.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// writeTable writes a row for each answer, with the times that it took.
func writeTable(w io.Writer, byAnswer map[string][]attempt) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "answer\trequests\tmedian\t90 %\t99 %\tlongest\t")
	for _, answer := range slices.Sorted(maps.Keys(byAnswer)) {
		attempts := slices.SortedFunc(slices.Values(byAnswer[answer]), func(a, b attempt) int { return cmp.Compare(a.took, b.took) })
		fmt.Fprintf(table, "%s\t%d\t%v\t%v\t%v\t%v\t\n", answer, len(attempts), percentile(attempts, 50),
			percentile(attempts, 90), percentile(attempts, 99), percentile(attempts, 100))
	}
	_ = table.Flush()
}

// percentile returns the shortest time within which that percentage of the
// sorted attempts was answered.
func percentile(sorted []attempt, percent int) time.Duration {
	rank := (len(sorted)*percent + 99) / 100
	return round(sorted[rank-1].took)
}

// round leaves about three digits.
func round(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
