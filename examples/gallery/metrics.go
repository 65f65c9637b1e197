package main

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// metrics are for Prometheus. The values of labels come from a fixed set, so
// that senders of requests cannot create series.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	pending  prometheus.Gauge
	oldest   prometheus.Gauge
	rejected prometheus.Gauge
	resumed  prometheus.Counter
	pruned   prometheus.Counter
}

func newMetrics() metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	factory := promauto.With(registry)
	return metrics{
		registry: registry,
		requests: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "gallery_notifications_total",
			Help: "Requests to the hook by status, outcome and cause.",
		}, []string{"status", "outcome", "cause"}),
		duration: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "gallery_notification_duration_seconds",
			Help:    "Time from a request's arrival to its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 20},
		}),
		pending: factory.NewGauge(prometheus.GaugeOpts{
			Name: "gallery_deliveries_pending",
			Help: "Deliveries that are saved and not completed; NaN if the database does not answer.",
		}),
		oldest: factory.NewGauge(prometheus.GaugeOpts{
			Name: "gallery_deliveries_oldest_pending_age_seconds",
			Help: "How long the oldest pending delivery has been waiting; 0 if none is pending; NaN if the database does not answer.",
		}),
		rejected: factory.NewGauge(prometheus.GaugeOpts{
			Name: "gallery_deliveries_rejected",
			Help: "Rejected deliveries that are kept; NaN if the database does not answer.",
		}),
		resumed: factory.NewCounter(prometheus.CounterOpts{
			Name: "gallery_deliveries_resumed_total",
			Help: "How often pending deliveries were tried again without a request.",
		}),
		pruned: factory.NewCounter(prometheus.CounterOpts{
			Name: "gallery_deliveries_pruned_total",
			Help: "Completed deliveries that were deleted after -keep.",
		}),
	}
}

// handler answers Prometheus. It asks the database for the totals each time,
// because other instances may change them too.
func (m metrics) handler(db *database.DB) http.Handler {
	answer := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		pending, rejected, age := math.NaN(), math.NaN(), math.NaN()
		if s, err := db.Store.Stats(ctx); err == nil {
			pending, rejected, age = float64(s.Pending), float64(s.Rejected), 0
			if !s.OldestPending.IsZero() {
				age = time.Since(s.OldestPending).Seconds()
			}
		}
		m.pending.Set(pending)
		m.rejected.Set(rejected)
		m.oldest.Set(age)
		answer.ServeHTTP(w, r)
	})
}

func (m metrics) observe(o cloudinaryhook.Outcome, name, cause string) {
	m.requests.WithLabelValues(strconv.Itoa(o.Status), name, cause).Inc()
	m.duration.Observe(o.Duration.Seconds())
}

// causes names errors for people and for metrics, and has a hint for people.
// The stages come first, because the errors that an app's own error wraps tell
// less.
var causes = []namedCause{
	{cloudinaryhook.ErrPending, "listing the pending deliveries failed", "Look at the database. The gallery tries again every minute."},
	{cloudinaryhook.ErrGaveUp, "gave up", "The delivery was pending for longer than -give-up. Fix its last error, then reopen it."},
	{cloudinaryhook.ErrSave, "saving failed", "Look at the database. Cloudinary tries again."},
	{cloudinaryhook.ErrCreateImage, "creating the image failed", "The delivery is saved, and is tried again every minute."},
	{cloudinaryhook.ErrNotify, "notifying failed", "The delivery is saved, and is tried again every minute."},
	{cloudinaryhook.ErrComplete, "completing failed", "Look at the database. The work itself was done."},
	{cloudinaryhook.ErrMethodNotAllowed, "other method", "Notifications are POST requests. Perhaps this was a browser or a health check."},
	{cloudinaryhook.ErrMissingToken, "token missing", "The notification_url has no token."},
	{jwt.ErrTokenExpired, "token expired", "The token's time was too short, or somebody sent an old request again."},
	{jwt.ErrTokenNotValidYet, "token not valid yet", "The token's nbf is in the future, or this machine's clock is wrong."},
	{jwt.ErrTokenRequiredClaimMissing, "token without an album", "The token's claims need an album_id."},
	{jwt.ErrTokenSignatureInvalid, "token of another key", "The token was not signed with " + keyVariable + "."},
	{cloudinaryhook.ErrInvalidToken, "token invalid", "The token is not a JWT with HS256. Perhaps it was cut off."},
	{cloudinaryhook.ErrMissingSignature, "signature missing", "The request is not from Cloudinary, or a proxy dropped its headers."},
	{cloudinaryhook.ErrUnsupportedSignature, "signature unsupported", "The account uses signatures that only Cloudinary can verify."},
	{cloudinaryhook.ErrInvalidTimestamp, "timestamp invalid", "The request is not from Cloudinary, or something changed it on the way."},
	{cloudinaryhook.ErrStaleTimestamp, "timestamp stale", "Somebody sent an old request again, or this machine's clock is wrong."},
	{cloudinaryhook.ErrSignatureMismatch, "signature wrong", "Another API secret signed the body, or something changed the body on the way."},
	{cloudinaryhook.ErrBodyTooLarge, "body too large", "The body is larger than MaxBody."},
	{cloudinaryhook.ErrBodyConsumed, "body consumed", "Middleware read the body before the hook."},
	{cloudinaryhook.ErrBodyTimeout, "body late", "The body did not arrive within the timeout."},
	{cloudinaryhook.ErrBodyRead, "body not read", "The connection was lost."},
	{cloudinaryhook.ErrMalformedBody, "body malformed", "The body is signed, but is not one JSON object."},
}

type namedCause struct {
	err        error
	name, hint string
}

const otherCause = "other"

// classify names the outcome of a request, and the cause of a failure.
func classify(o cloudinaryhook.Outcome) (name, cause string) {
	err := o.Err
	switch {
	case err == nil && o.Rejected != nil:
		name, err = "rejected", o.Rejected
	case err == nil && o.Known == cloudinaryhook.StateDone:
		return "duplicate", ""
	case err == nil:
		return "accepted", ""
	case o.Status >= 500:
		name = "failed"
	default:
		name = "refused"
	}
	return name, causeOf(err)
}

// causeOf returns a name for an error, out of a fixed set.
func causeOf(err error) string {
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return otherCause
}

// hint returns the advice for a cause.
func hint(cause string) string {
	for _, c := range causes {
		if c.name == cause {
			return c.hint
		}
	}
	return "The log has the error."
}
