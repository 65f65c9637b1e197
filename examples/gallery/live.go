package main

import (
	"io"
	"net"
	"net/http"
	"time"
)

const (
	livePace  = 500 * time.Millisecond // the most often that a page is told to look again
	liveTick  = 15 * time.Second       // and the least: hours and waiting times go on by themselves
	liveWrite = 10 * time.Second       // a reader that takes longer is gone, or asleep
)

// serveEvents tells a page that something changed, by Server-Sent Events. The
// page then asks for itself: what is shown is made in one place, the template.
func (s *web) serveEvents(w http.ResponseWriter, r *http.Request) {
	client, _, _ := net.SplitHostPort(r.RemoteAddr) // behind a proxy all are one; a page that is not let in asks every few seconds
	changes, stop, err := s.monitor.watch(client)
	if err != nil {
		w.Header().Set("Retry-After", "30")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would wait for more
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
				return // the program ends
			}
		}
		if !send(w, "data: changed\n\n") {
			return
		}
		pace.Reset(livePace)
	}
}

// send writes one message with a deadline of its own: the server's is for
// answers that end.
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
