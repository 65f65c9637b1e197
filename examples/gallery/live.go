package main

import (
	"io"
	"net/http"
	"time"
)

const (
	livePace      = 300 * time.Millisecond // the most often that a page is told to look again
	liveHeartbeat = 15 * time.Second       // keeps proxies from closing what is silent
)

// serveEvents tells a page that something changed, by Server-Sent Events. The
// page then asks for itself: what is shown is made in one place, the template.
func (s *web) serveEvents(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Time{}); err != nil { // the server's is for answers that end
		s.fail(w, r, err)
		return
	}
	changes, stop := s.monitor.watch()
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	heartbeat := time.NewTicker(liveHeartbeat)
	defer heartbeat.Stop()
	message := "retry: 2000\n\n"
	for {
		if _, err := io.WriteString(w, message); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-heartbeat.C:
			message = ": still here\n\n"
		case _, ok := <-changes:
			if !ok {
				return // the program ends
			}
			message = "data: changed\n\n"
			select {
			case <-r.Context().Done():
				return
			case <-time.After(livePace):
			}
		}
	}
}
