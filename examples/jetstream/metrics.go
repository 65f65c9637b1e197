package main

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// metrics are for Prometheus. The values of labels come from a fixed set, so
// that senders of requests cannot create series.
type metrics struct {
	registry *prometheus.Registry
	factory  promauto.Factory
}

// newMetrics has the metrics that receivers and workers share: the state of the
// cluster, as their watcher sees it. All of them report the same cluster, so
// take the maximum and not the sum.
func newMetrics(w *watcher) metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := metrics{registry, promauto.With(registry)}
	gauge := func(name, help string, value func(clusterState) float64) {
		m.factory.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			s := w.state()
			if s.queue == nil && name != "cloudinary_cluster_ready" {
				return math.NaN()
			}
			return value(s)
		})
	}
	gauge("cloudinary_cluster_ready", "1 if the cluster can be used, otherwise 0.", func(s clusterState) float64 {
		if s.err != nil {
			return 0
		}
		return 1
	})
	gauge("cloudinary_queue_messages", "Notifications that no worker has completed; NaN if the cluster does not answer.",
		func(s clusterState) float64 { return float64(s.queue.State.Msgs) })
	gauge("cloudinary_queue_bytes", "The size of these notifications in the stream.",
		func(s clusterState) float64 { return float64(s.queue.State.Bytes) })
	gauge("cloudinary_queue_max_bytes", "The size at which the stream is full.",
		func(s clusterState) float64 { return float64(s.queue.Config.MaxBytes) })
	gauge("cloudinary_queue_oldest_seconds", "How long the oldest of these notifications has waited; 0 if there is none.", func(s clusterState) float64 {
		if s.queue.State.Msgs == 0 {
			return 0
		}
		return time.Since(s.queue.State.FirstTime).Seconds()
	})
	gauge("cloudinary_dead_letters", "Notifications that no worker could process.",
		func(s clusterState) float64 { return float64(s.dead.State.Msgs) })
	return m
}

func (m metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// receiver returns a function for Config.Observe that counts requests.
func (m metrics) receiver() func(context.Context, cloudinaryhook.Outcome) {
	requests := m.factory.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudinary_notifications_total",
		Help: "Requests to the hook by status.",
	}, []string{"status"})
	duration := m.factory.NewHistogram(prometheus.HistogramOpts{
		Name:    "cloudinary_notification_duration_seconds",
		Help:    "Time from a request's arrival to its answer.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 20},
	})
	return func(_ context.Context, o cloudinaryhook.Outcome) {
		requests.WithLabelValues(strconv.Itoa(o.Status)).Inc()
		duration.Observe(o.Duration.Seconds())
	}
}

// worker returns a function that counts tries of deliveries by their result.
func (m metrics) worker() func(result string) {
	tries := m.factory.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudinary_deliveries_total",
		Help: "Tries of workers by result: done, later (it is tried again), dead (it went to the dead letters), or lost (the cluster did not get the result, and gives the delivery to a worker again).",
	}, []string{"result"})
	return func(result string) { tries.WithLabelValues(result).Inc() }
}

// causes tell failures apart. Stages come first, because the errors that they
// wrap tell less.
var causes = []error{
	cloudinaryhook.ErrSave, cloudinaryhook.ErrCreateImage, cloudinaryhook.ErrComplete, cloudinaryhook.ErrInvalidDelivery,
	cloudinaryhook.ErrMissingToken, cloudinaryhook.ErrInvalidToken, cloudinaryhook.ErrMissingSignature,
	cloudinaryhook.ErrStaleTimestamp, cloudinaryhook.ErrSignatureMismatch, cloudinaryhook.ErrBodyTooLarge,
	errNoWord, errNotSaved, errNoQuorum, errFull, errUnsafeStream,
	jetstream.ErrConsumerDeleted, jetstream.ErrConsumerNotFound, jetstream.ErrStreamNotFound, jetstream.ErrNoHeartbeat,
	nats.ErrNoResponders, nats.ErrTimeout,
}

// causeOf returns a name for an error, out of a fixed set.
func causeOf(err error) string {
	for _, cause := range causes {
		if errors.Is(err, cause) {
			return cause.Error()
		}
	}
	return "other"
}
