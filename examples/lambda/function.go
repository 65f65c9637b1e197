package main

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

const (
	// reserve is the part of the function's time that the hook does not get: 3 s
	// for Store.Complete, which may take them after Timeout, and 1 s for the
	// answer.
	reserve = 4 * time.Second

	// maxTimeout is the handler's default: Cloudinary waits 20 s.
	maxTimeout = 15 * time.Second
)

// A function answers events. It is safe for concurrent use.
type function struct {
	config  cloudinaryhook.Config // Timeout is set by the event's deadline
	pending func(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error]
}

// Invoke implements lambda.Handler. Its errors quote no part of the event: the
// event holds a token and a body, and Lambda logs errors.
func (f *function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	deadline, ok := ctx.Deadline() // of the function
	timeout := min(maxTimeout, time.Until(deadline)-reserve)
	if !ok || timeout <= 0 {
		return nil, errors.New("the function's timeout is too short: set it to 20 seconds")
	}
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, errors.New("the event is neither an HTTP request nor a schedule")
	}
	switch {
	case e.method() != "":
		return f.receive(ctx, &e, timeout)
	case e.Source == "aws.events":
		return []byte("null"), f.resume(ctx, deadline.Add(-reserve))
	default:
		return nil, errors.New("the event is neither an HTTP request nor a schedule")
	}
}

func (f *function) receive(ctx context.Context, e *event, timeout time.Duration) ([]byte, error) {
	config := f.config
	config.Timeout = timeout
	hook, err := cloudinaryhook.NewHandler(config)
	if err != nil {
		return nil, err
	}
	r, err := e.request(ctx)
	if err != nil {
		return nil, err
	}
	w := recorder{header: make(http.Header)}
	hook.ServeHTTP(&w, r)
	if w.status == http.StatusUnauthorized && !e.IsBase64Encoded && strings.Contains(e.Body, "\uFFFD") {
		slog.WarnContext(ctx, "the body has lost bytes on the way: it must come as base64; for a REST API, set binaryMediaTypes to */*")
	}
	return json.Marshal(w.response(e))
}

// resume retries the deliveries that failed before. If the time is over, the
// next schedule does the rest. It leaves out deliveries of the last minute,
// because a request may still be working on them.
func (f *function) resume(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return f.config.Processor.Resume(ctx, f.pending(ctx, time.Now().Add(-time.Minute)))
}
