package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/sqlstore"
)

const pageRejected = 200

// serveRejected lists the deliveries that the app rejected, so that people can
// fix the causes and reopen them.
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

// reopen processes a rejected delivery again at once. It does not leave that to
// Resume, which would give up on a delivery older than -give-up. It goes on
// even if the visitor leaves.
func (s *web) reopen(w http.ResponseWriter, r *http.Request) {
	ctx := context.WithoutCancel(r.Context())
	id := r.PathValue("id")
	err := s.db.Reopen(ctx, id)
	if errors.Is(err, sqlstore.ErrNotFound) {
		http.Error(w, "no rejected delivery has this ID; perhaps somebody has reopened it already", http.StatusNotFound)
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
	err = s.processor.Process(ctx, delivery) // it logs a failure itself
	s.monitor.retried(id, time.Since(begun), err)
	http.Redirect(w, r, "/deliveries/"+delivery.ID, http.StatusSeeOther) //nolint:gosec // it stays on this site
}
