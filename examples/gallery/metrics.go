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

// metrics is what Prometheus asks for. Labels have a bounded set of values, all
// of them ours: senders of requests cannot make series.
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
			Help: "Deliveries that are saved and not completed; NaN if the database cannot say.",
		}),
		oldest: factory.NewGauge(prometheus.GaugeOpts{
			Name: "gallery_deliveries_oldest_pending_age_seconds",
			Help: "How long the delivery that is pending longest has been waiting; 0 if none is; NaN if the database cannot say.",
		}),
		rejected: factory.NewGauge(prometheus.GaugeOpts{
			Name: "gallery_deliveries_rejected",
			Help: "Rejected deliveries that are kept; NaN if the database cannot say.",
		}),
		resumed: factory.NewCounter(prometheus.CounterOpts{
			Name: "gallery_deliveries_resumed_total",
			Help: "Pending deliveries that were tried again, each time, without a request.",
		}),
		pruned: factory.NewCounter(prometheus.CounterOpts{
			Name: "gallery_deliveries_pruned_total",
			Help: "Completed deliveries that were forgotten after -keep.",
		}),
	}
}

// handler answers Prometheus, and asks the database each time for its totals:
// other instances may be at work on them too.
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

// causes names errors, for people and for metrics, and tells people where to
// look. Stages come first: what an app's own error wraps says less.
var causes = []namedCause{
	{cloudinaryhook.ErrPending, "listing the pending deliveries failed", "Look at the database; it is tried again every minute."},
	{cloudinaryhook.ErrGaveUp, "gave up", "It was pending for longer than -give-up. Fix its last error and reopen it."},
	{cloudinaryhook.ErrSave, "saving failed", "Look at the database; Cloudinary tries again."},
	{cloudinaryhook.ErrCreateImage, "creating the image failed", "It is saved, and is resumed every minute."},
	{cloudinaryhook.ErrNotify, "notifying failed", "It is saved, and is resumed every minute."},
	{cloudinaryhook.ErrComplete, "completing failed", "Look at the database; the work itself was done."},
	{cloudinaryhook.ErrMethodNotAllowed, "other method", "Notifications are POSTs: a browser or a health check, perhaps."},
	{cloudinaryhook.ErrMissingToken, "token missing", "The notification_url was given without a token."},
	{jwt.ErrTokenExpired, "token expired", "It expired too early, or an old request is sent again."},
	{jwt.ErrTokenNotValidYet, "token not valid yet", "Its nbf is in the future, or this machine's clock is wrong."},
	{jwt.ErrTokenRequiredClaimMissing, "token without an album", "Its claims need an album_id."},
	{jwt.ErrTokenSignatureInvalid, "token of another key", "Not signed with " + keyVariable + "."},
	{cloudinaryhook.ErrInvalidToken, "token invalid", "Not a JWT of HS256: cut off, perhaps, or made in another way."},
	{cloudinaryhook.ErrMissingSignature, "signature missing", "Not from Cloudinary, or a proxy dropped its headers."},
	{cloudinaryhook.ErrUnsupportedSignature, "signature unsupported", "The account signs in a way that only Cloudinary can verify."},
	{cloudinaryhook.ErrInvalidTimestamp, "timestamp invalid", "Not from Cloudinary, or changed on its way."},
	{cloudinaryhook.ErrStaleTimestamp, "timestamp stale", "An old request sent again, or this machine's clock is wrong."},
	{cloudinaryhook.ErrSignatureMismatch, "signature wrong", "Another API secret, or a body changed on its way."},
	{cloudinaryhook.ErrBodyTooLarge, "body too large", "Over MaxBody."},
	{cloudinaryhook.ErrBodyConsumed, "body consumed", "Middleware read it before the hook could."},
	{cloudinaryhook.ErrBodyTimeout, "body late", "It did not arrive within the timeout."},
	{cloudinaryhook.ErrBodyRead, "body not read", "The connection broke."},
	{cloudinaryhook.ErrMalformedBody, "body malformed", "Signed, but not one JSON object."},
}

type namedCause struct {
	err        error
	name, hint string
}

const otherCause = "other"

// classify names what came of a request, and why if it did not go well.
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

// causeOf names an error with one of a bounded set of names.
func causeOf(err error) string {
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return otherCause
}

// hint says where to look when this was the cause.
func hint(cause string) string {
	for _, c := range causes {
		if c.name == cause {
			return c.hint
		}
	}
	return "The log has the error."
}
