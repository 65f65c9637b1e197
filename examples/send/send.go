package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

// retries are Cloudinary's: after so many minutes each, and then never again.
var retries = []int{3, 6, 9}

// An attempt is one request and what came of it.
type attempt struct {
	answer sender.Answer
	err    error // no answer came
	took   time.Duration
}

// accepted: the answers that end the retries. Cloudinary's documentation says so
// of 200 alone; of 201 it is not known.
func (a attempt) accepted() bool {
	return a.err == nil && (a.answer.Status == 200 || a.answer.Status == 201)
}

func (a attempt) String() string {
	if a.err != nil {
		return "no answer"
	}
	return strconv.Itoa(a.answer.Status)
}

// deliver sends one notification until it is accepted or the schedule is at its
// end. It tells about each attempt, and how long it will wait before the next;
// zero if there is none. A retry repeats the signature: whether Cloudinary signs
// anew is not known.
func deliver(ctx context.Context, cfg *config, n *sender.Notification, tell func(attempt, time.Duration)) (last attempt) {
	for i := 0; ; i++ {
		start := time.Now()
		last = attempt{}
		last.answer, last.err = n.Post(ctx, cfg.client)
		last.took = time.Since(start)
		if last.accepted() || !cfg.retry || i == len(retries) || ctx.Err() != nil {
			tell(last, 0)
			return last
		}
		pause := time.Duration(retries[i]) * cfg.minute
		tell(last, pause)
		if cfg.wait(ctx, pause) != nil {
			return last
		}
	}
}

func sendOne(ctx context.Context, cfg *config, stdout io.Writer) error {
	n, err := cfg.notification()
	if err != nil {
		return err
	}
	last := deliver(ctx, cfg, n, func(a attempt, pause time.Duration) {
		fmt.Fprintln(stdout, report(a, cfg.explanation(a)))
		if pause > 0 {
			fmt.Fprintf(stdout, "\nagain in %v\n", pause)
		}
	})
	if !last.accepted() {
		return errNotAccepted
	}
	return nil
}

// report says first what people want to know: that it was accepted, or else the
// status.
func report(a attempt, explained string) string {
	if a.accepted() {
		return fmt.Sprintf("%s\n%s after %v", explained, a, round(a.took))
	}
	return fmt.Sprintf("%s after %v: %s", a, round(a.took), explained)
}

// A tally collects what several workers do.
type tally struct {
	mu       sync.Mutex
	byAnswer map[string][]attempt
	accepted int
	err      error // what could not be signed
}

func (t *tally) locked(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
}

// sendMany sends with several workers, and ends with a table of all attempts.
func sendMany(ctx context.Context, cfg *config, stdout, stderr io.Writer) error {
	sent := tally{byAnswer: make(map[string][]attempt)}
	bar := newBar(cfg.count, stderr)
	start := time.Now()
	var taken atomic.Int64
	var workers sync.WaitGroup
	for range cfg.workers {
		workers.Go(func() {
			for ctx.Err() == nil && taken.Add(1) <= int64(cfg.count) {
				sent.add(ctx, cfg)
				_ = bar.Add(1)
			}
		})
	}
	workers.Wait()
	_ = bar.Finish()
	if sent.err != nil {
		return sent.err
	}
	took := time.Since(start)
	writeTable(stdout, sent.byAnswer)
	fmt.Fprintf(stdout, "\n%d of %d accepted in %v, %.0f/s\n", sent.accepted, cfg.count, round(took), float64(sent.accepted)/took.Seconds())
	for _, answer := range slices.Sorted(maps.Keys(sent.byAnswer)) {
		fmt.Fprintf(stdout, "\n%s: %s\n", answer, cfg.explanation(sent.byAnswer[answer][0]))
	}
	if sent.accepted < cfg.count {
		return errNotAccepted
	}
	return nil
}

// add delivers one notification.
func (t *tally) add(ctx context.Context, cfg *config) {
	n, err := cfg.notification()
	if err != nil {
		t.locked(func() { t.err = err })
		return
	}
	last := deliver(ctx, cfg, n, func(a attempt, _ time.Duration) {
		t.locked(func() { t.byAnswer[a.String()] = append(t.byAnswer[a.String()], a) })
	})
	if last.accepted() {
		t.locked(func() { t.accepted++ })
	}
}

// newBar is a progress bar where somebody sees it, and nothing elsewhere.
func newBar(count int, stderr io.Writer) *progressbar.ProgressBar {
	file, ok := stderr.(*os.File)
	visible := ok && term.IsTerminal(int(file.Fd()))
	return progressbar.NewOptions(count,
		progressbar.OptionSetWriter(stderr),
		progressbar.OptionSetVisibility(visible),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}

// writeTable has a row for each answer and says how long it took to come.
func writeTable(w io.Writer, byAnswer map[string][]attempt) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "answer\trequests\tmedian\t90 %\t99 %\tlongest\t")
	for _, answer := range slices.Sorted(maps.Keys(byAnswer)) {
		attempts := slices.SortedFunc(slices.Values(byAnswer[answer]), func(a, b attempt) int { return int(a.took - b.took) })
		fmt.Fprintf(table, "%s\t%d\t%v\t%v\t%v\t%v\t\n", answer, len(attempts), percentile(attempts, 50),
			percentile(attempts, 90), percentile(attempts, 99), percentile(attempts, 100))
	}
	_ = table.Flush()
}

// percentile is the least time within which so many percent of the sorted
// attempts were answered.
func percentile(sorted []attempt, percent int) time.Duration {
	rank := (len(sorted)*percent + 99) / 100
	return round(sorted[rank-1].took)
}

// round leaves three digits, about.
func round(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
