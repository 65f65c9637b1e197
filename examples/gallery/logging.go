package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	sumUpEvery = 10 * time.Second
	writtenAll = 5 // how many lines of one kind are written in that time; the rest is counted
)

// newLogger makes the program's log, and what says how often a line was left out:
// it is to be called every sumUpEvery, and at the end.
func newLogger(w io.Writer, level slog.Level, asJSON bool) (logger *slog.Logger, sumUp func()) {
	options := &slog.HandlerOptions{Level: level}
	var lines slog.Handler = slog.NewTextHandler(w, options)
	if asJSON {
		lines = slog.NewJSONHandler(w, options)
	}
	log := &summingHandler{lines, &lineCounts{counts: make(map[lineKind]int)}}
	return slog.New(log), log.sumUp
}

// A summingHandler writes the first lines of each kind and counts the others. A
// database that is away, or a stranger's flood, would otherwise write hundreds of
// lines a second, which fill a disk and hide whatever else is said. What is below
// a warning is never left out.
type summingHandler struct {
	slog.Handler
	*lineCounts
}

// lineCounts are those since the last sumUp.
type lineCounts struct {
	mu     sync.Mutex
	counts map[lineKind]int
}

// A lineKind has a bounded set of values, all of them ours.
type lineKind struct {
	level          slog.Level
	message, cause string
}

// Handle implements slog.Handler.
func (h *summingHandler) Handle(ctx context.Context, line slog.Record) error {
	if line.Level >= slog.LevelWarn && !h.count(kindOf(line)) {
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

// kindOf tells lines by their message and by the cause of their error.
func kindOf(line slog.Record) lineKind {
	kind := lineKind{level: line.Level, message: line.Message}
	line.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			kind.cause = causeOf(err)
		}
		return kind.cause == ""
	})
	return kind
}

// count says whether the line is to be written.
func (c *lineCounts) count(kind lineKind) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[kind]++
	return c.counts[kind] <= writtenAll
}

// sumUp says how many lines were left out, and begins to count anew.
func (h *summingHandler) sumUp() {
	h.mu.Lock()
	counts := h.counts
	h.counts = make(map[lineKind]int)
	h.mu.Unlock()
	for kind, n := range counts {
		if n > writtenAll {
			slog.New(h.Handler).Log(context.Background(), kind.level, kind.message+", and more of the same",
				"cause", kind.cause, "left_out", n-writtenAll)
		}
	}
}
