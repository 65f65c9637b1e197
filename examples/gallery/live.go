package main

import (
	"io"
	"net"
	"net/http"
	"time"
)

const (
	livePace  = 500 * time.Millisecond // the shortest time between two messages to a page
	liveTick  = 15 * time.Second       // the longest time: the drawing and the waiting times change by themselves
	liveWrite = 10 * time.Second       // a client that takes longer is gone or asleep
)

// serveEvents tells a page by Server-Sent Events that something changed. The
// page then fetches itself again, so that only the template makes its content.
func (s *web) serveEvents(w http.ResponseWriter, r *http.Request) {
	client, _, _ := net.SplitHostPort(r.RemoteAddr) // behind a proxy all clients look like one; a page that is refused asks every few seconds
	changes, stop, err := s.monitor.watch(client)
	if err != nil {
		w.Header().Set("Retry-After", "30")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // otherwise nginx waits for more data
	if !send(w, "retry: 2000\n\n") {
		return
	}
	tick := time.NewTicker(liveTick)
	defer tick.Stop()
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-pace.C:
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		case _, open := <-changes:
			if !open {
				return // the program is stopping
			}
		}
		if !send(w, "data: changed\n\n") {
			return
		}
		pace.Reset(livePace)
	}
}

// send writes one message with its own deadline: the server's WriteTimeout is
// for answers that end.
func send(w http.ResponseWriter, message string) (ok bool) {
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Now().Add(liveWrite)); err != nil {
		return false
	}
	if _, err := io.WriteString(w, message); err != nil {
		return false
	}
	return control.Flush() == nil
}
