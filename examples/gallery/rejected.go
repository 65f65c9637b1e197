package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

const pageRejected = 200

// serveRejected lists what the app rejected, for people who have fixed the
// cause.
func (s *web) serveRejected(w http.ResponseWriter, r *http.Request) {
	all, err := s.db.Rejected(r.Context(), pageRejected)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, "rejected.html", struct {
		Now        time.Time
		Rejections []sqlstore.Rejection
		Newest     bool // there may be more
	}{time.Now().UTC(), all, len(all) == pageRejected})
}

// reopen has a rejected delivery processed once more, now: Resume would give up
// on it if it is older than -give-up. If the visitor leaves meanwhile, that
// changes nothing.
func (s *web) reopen(w http.ResponseWriter, r *http.Request) {
	ctx := context.WithoutCancel(r.Context())
	id := r.PathValue("id")
	err := s.db.Reopen(ctx, id)
	if errors.Is(err, sqlstore.ErrNotFound) {
		http.Error(w, "no rejected delivery has this ID; it may have been reopened before", http.StatusNotFound)
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	_, delivery, err := s.db.Delivery(ctx, id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.logger.InfoContext(ctx, "a rejected delivery was reopened", "delivery", delivery)
	begun := time.Now()
	err = s.processor.Process(ctx, delivery) // it logs what fails
	s.monitor.retried(id, time.Since(begun), err)
	http.Redirect(w, r, "/deliveries/"+delivery.ID, http.StatusSeeOther) //nolint:gosec // it stays on this site
}
