package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

const (
	keptRefusals = 100
	keptOutcomes = 1000
	drawnMinutes = 60
)

// A monitor remembers what came of requests, for the page and for Prometheus. It
// lives in memory: after a restart it begins anew. It is told nothing secret,
// since no error of cloudinaryhook holds anything that is.
type monitor struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram

	mu       sync.Mutex
	refusals []refusal // the newest last
	outcomes map[string]outcome
	order    []string // of the outcomes' IDs
	minutes  [drawnMinutes]minute
	watchers map[chan struct{}]bool
	closed   bool
}

// A refusal is a request that was answered with an error.
type refusal struct {
	At     time.Time
	Status int
	Cause  string
}

// An outcome is what the last request for a delivery came to.
type outcome struct {
	Duration time.Duration
	Err      string // why it is pending
}

// A minute is what came of the requests within it.
type minute struct {
	start                      int64 // Unix minutes
	Accepted, Refused, Pending int64
}

func newMonitor(registry prometheus.Registerer, db database.DB) *monitor {
	factory := promauto.With(registry)
	m := &monitor{
		outcomes: make(map[string]outcome),
		watchers: make(map[chan struct{}]bool),
		requests: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "gallery_notifications_total",
			Help: "Requests to the hook by status, outcome and cause.",
		}, []string{"status", "outcome", "cause"}),
		duration: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "gallery_notification_duration_seconds",
			Help:    "Time from a request's arrival to its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 20},
		}),
	}
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gallery_deliveries_pending",
		Help: "Deliveries that are saved and not completed; -1 if the database cannot say.",
	}, func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := db.Stats(ctx)
		if err != nil {
			return -1
		}
		return float64(s.Pending)
	})
	return m
}

// observe is cloudinaryhook.Config's Observe.
func (m *monitor) observe(_ context.Context, o cloudinaryhook.Outcome) {
	name, cause := classify(o)
	m.requests.WithLabelValues(strconv.Itoa(o.Status), name, cause).Inc()
	m.duration.Observe(o.Duration.Seconds())

	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.minute(time.Now())
	if o.Err == nil {
		now.Accepted++
	} else {
		now.Refused++
		m.refusals = append(m.refusals, refusal{time.Now().UTC(), o.Status, cause})
		m.refusals = m.refusals[max(0, len(m.refusals)-keptRefusals):]
	}
	if o.Delivery != nil {
		m.remember(o.Delivery.ID, o)
	}
	m.tellWatchers()
}

func (m *monitor) remember(id string, o cloudinaryhook.Outcome) {
	if _, ok := m.outcomes[id]; !ok {
		m.order = append(m.order, id)
		if len(m.order) > keptOutcomes {
			delete(m.outcomes, m.order[0])
			m.order = m.order[1:]
		}
	}
	note := outcome{Duration: o.Duration}
	if o.Err != nil {
		note.Err = o.Err.Error()
	}
	m.outcomes[id] = note
}

// sample notes how many deliveries are pending.
func (m *monitor) sample(pending int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.minute(time.Now())
	now.Pending = max(now.Pending, pending)
}

func (m *monitor) minute(t time.Time) *minute {
	start := t.Unix() / 60
	now := &m.minutes[start%drawnMinutes]
	if now.start != start {
		*now = minute{start: start}
	}
	return now
}

// lastHour returns the last sixty minutes, the current one last.
func (m *monitor) lastHour() []minute {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := time.Now().Unix() / 60
	hour := make([]minute, drawnMinutes)
	for i := range hour {
		start := end - drawnMinutes + 1 + int64(i)
		if kept := m.minutes[start%drawnMinutes]; kept.start == start {
			hour[i] = kept
		}
	}
	return hour
}

func (m *monitor) outcome(id string) (outcome, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.outcomes[id]
	return o, ok
}

// A failure is how often a cause was seen lately, and when last.
type failure struct {
	Cause  string
	Status int
	Count  int
	Last   time.Time
}

// failures groups the last refusals by cause, the latest first.
func (m *monitor) failures() []failure {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []failure
	for _, r := range slices.Backward(m.refusals) {
		i := slices.IndexFunc(all, func(f failure) bool { return f.Cause == r.Cause && f.Status == r.Status })
		if i < 0 {
			i = len(all)
			all = append(all, failure{Cause: r.Cause, Status: r.Status, Last: r.At})
		}
		all[i].Count++
	}
	return all
}

// watch returns a channel that gets something after each change, and how to stop.
// It is closed when the program ends.
func (m *monitor) watch() (changes <-chan struct{}, stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	watcher := make(chan struct{}, 1)
	if m.closed {
		close(watcher)
		return watcher, func() {}
	}
	m.watchers[watcher] = true
	return watcher, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, watcher)
	}
}

func (m *monitor) tellWatchers() {
	for watcher := range m.watchers {
		select {
		case watcher <- struct{}{}:
		default: // it has not read the last one yet
		}
	}
}

// close ends all watching, which would otherwise hold up the shutdown.
func (m *monitor) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for watcher := range m.watchers {
		close(watcher)
		delete(m.watchers, watcher)
	}
}

// causes names errors for people and for metrics: a bounded set.
var causes = []struct {
	err  error
	name string
}{
	{cloudinaryhook.ErrSave, "saving failed"},
	{cloudinaryhook.ErrCreateImage, "creating the image failed"},
	{cloudinaryhook.ErrNotify, "notifying failed"},
	{cloudinaryhook.ErrComplete, "completing failed"},
	{cloudinaryhook.ErrMethodNotAllowed, "other method"},
	{cloudinaryhook.ErrMissingToken, "token missing"},
	{cloudinaryhook.ErrInvalidToken, "token invalid"},
	{cloudinaryhook.ErrMissingSignature, "signature missing"},
	{cloudinaryhook.ErrUnsupportedSignature, "signature unsupported"},
	{cloudinaryhook.ErrInvalidTimestamp, "timestamp invalid"},
	{cloudinaryhook.ErrStaleTimestamp, "timestamp stale"},
	{cloudinaryhook.ErrSignatureMismatch, "signature wrong"},
	{cloudinaryhook.ErrBodyTooLarge, "body too large"},
	{cloudinaryhook.ErrBodyConsumed, "body consumed"},
	{cloudinaryhook.ErrBodyTimeout, "body late"},
	{cloudinaryhook.ErrBodyRead, "body not read"},
	{cloudinaryhook.ErrMalformedBody, "body malformed"},
}

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
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return name, c.name
		}
	}
	return name, "other"
}
