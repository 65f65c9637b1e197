package service

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	sumUpEvery = 10 * time.Second
	writtenAll = 5 // how many lines of one kind are written in that time; the others are only counted
)

// A Log holds the settings of a program's log. The zero value logs text from
// level info on.
type Log struct {
	Level slog.Level
	JSON  bool
}

// Register adds the flags -log-level and -log-format.
func (l *Log) Register(flags *flag.FlagSet) {
	flags.TextVar(&l.Level, "log-level", slog.LevelInfo, "lowest `level` of the lines to log: debug, info, warn or error")
	flags.Func("log-format", "`format` of the log: text or json (default text)", func(format string) error {
		if l.JSON = format == "json"; !l.JSON && format != "text" {
			return errors.New("it must be text or json")
		}
		return nil
	})
}

// Open makes the log. It sums up failures of one kind, which have the same
// level, message and cause. The function cause names an error, out of a fixed
// set of names. Call stop at the end of the program: it writes the last sums.
func (l *Log) Open(ctx context.Context, w io.Writer, cause func(error) string) (logger *slog.Logger, stop func()) {
	h := l.handler(w, cause)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // so that requests after the end of ctx are logged too
	var summing sync.WaitGroup
	summing.Go(func() { Every(ctx, sumUpEvery, func() { h.sumUp(ctx) }) })
	return slog.New(h), func() {
		cancel()
		summing.Wait()
		h.sumUp(ctx)
	}
}

func (l *Log) handler(w io.Writer, cause func(error) string) *summingHandler {
	options := &slog.HandlerOptions{Level: l.Level}
	var lines slog.Handler = slog.NewTextHandler(w, options)
	if l.JSON {
		lines = slog.NewJSONHandler(w, options)
	}
	return &summingHandler{lines, &lineCounts{cause: cause, counts: make(map[lineKind]int)}}
}

// A summingHandler writes the first lines of each kind and counts the others.
// Otherwise an outage of the database or a flood of forged requests would write
// hundreds of lines a second, fill the disk and hide all other lines. It always
// writes lines below the level warn.
type summingHandler struct {
	slog.Handler
	*lineCounts
}

// lineCounts counts the lines since the last sumUp.
type lineCounts struct {
	cause  func(error) string
	mu     sync.Mutex
	counts map[lineKind]int
}

// A lineKind has a bounded number of values: senders of requests cannot add new
// ones.
type lineKind struct {
	level          slog.Level
	message, cause string
}

// Handle implements slog.Handler.
func (h *summingHandler) Handle(ctx context.Context, line slog.Record) error {
	if line.Level >= slog.LevelWarn && !h.count(h.kindOf(line)) {
		return nil
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h *summingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &summingHandler{h.Handler.WithAttrs(attrs), h.lineCounts}
}

// WithGroup implements slog.Handler.
func (h *summingHandler) WithGroup(name string) slog.Handler {
	return &summingHandler{h.Handler.WithGroup(name), h.lineCounts}
}

// kindOf returns a line's kind: its level, its message and the cause of its
// error.
func (c *lineCounts) kindOf(line slog.Record) lineKind {
	kind := lineKind{level: line.Level, message: line.Message}
	line.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			kind.cause = c.cause(err)
		}
		return kind.cause == ""
	})
	return kind
}

// count counts a line, and reports whether to write it.
func (c *lineCounts) count(kind lineKind) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[kind]++
	return c.counts[kind] <= writtenAll
}

// sumUp logs how many lines were left out, and begins to count again.
func (h *summingHandler) sumUp(ctx context.Context) {
	h.mu.Lock()
	counts := h.counts
	h.counts = make(map[lineKind]int)
	h.mu.Unlock()
	for kind, n := range counts {
		if n > writtenAll {
			slog.New(h.Handler).Log(ctx, kind.level, kind.message+", and more of the same",
				"cause", kind.cause, "left_out", n-writtenAll)
		}
	}
}

// Every calls f after each interval until ctx ends.
func Every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}
