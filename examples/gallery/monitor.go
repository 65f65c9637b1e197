package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

const (
	keptOutcomes = 1000
	keptError    = 500 // bytes of an error's text
	drawnMinutes = 60
	maxWatchers  = 100

	// maxWatching is how many pages of one client may watch at a time. A browser
	// opens six connections to a server, and each watching page uses one of them.
	// So two are left for loading pages and images.
	maxWatching = 4
)

var errTooManyWatchers = errors.New("too many pages are watching already")

// A monitor remembers the outcomes of requests, for the page. It uses bounded
// memory: it starts empty after a restart, and a flood of refused requests only
// makes counters larger. It holds no secrets, because no error of
// cloudinaryhook holds one. Nobody writes to a connection while holding its
// lock, so a slow reader cannot delay a notification.
type monitor struct {
	metrics metrics
	started time.Time

	mu       sync.Mutex
	minutes  [drawnMinutes]minute
	last     map[string]seen // by cause
	outcomes map[string]outcome
	order    []string // of the outcomes' IDs
	stats    database.Stats
	watchers map[chan struct{}]string // with their clients
	closed   bool
}

// A minute counts the outcomes of its requests.
type minute struct {
	start                      int64 // Unix minutes
	Accepted, Refused, Pending int64
	causes                     map[string]int64 // of the refused ones
}

type seen struct {
	at     time.Time
	status int
}

// An outcome is the result of the last request for a delivery before it was
// done.
type outcome struct {
	Duration time.Duration
	Err      string // why it is pending
}

func newMonitor() *monitor {
	return &monitor{
		metrics:  newMetrics(),
		started:  time.Now(),
		last:     make(map[string]seen),
		outcomes: make(map[string]outcome),
		watchers: make(map[chan struct{}]string),
	}
}

// observe is for cloudinaryhook.Config.Observe.
func (m *monitor) observe(_ context.Context, o cloudinaryhook.Outcome) {
	name, cause := classify(o)
	m.metrics.observe(o, name, cause)

	m.mu.Lock()
	defer m.mu.Unlock()
	at := time.Now().UTC()
	now := m.minute(at)
	if o.Err == nil {
		now.Accepted++
	} else {
		now.Refused++
		if now.causes == nil {
			now.causes = make(map[string]int64)
		}
		now.causes[cause]++
		m.last[cause] = seen{at, o.Status}
	}
	if o.Delivery != nil && o.Known != cloudinaryhook.StateDone { // a repeat does no work, so its short duration would mislead
		m.remember(o.Delivery.ID, o.Duration, o.Err)
	}
	m.tellWatchers()
}

// retried notes the result of a delivery that somebody has reopened.
func (m *monitor) retried(id string, took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remember(id, took, err)
	m.tellWatchers()
}

func (m *monitor) remember(id string, took time.Duration, err error) {
	if _, ok := m.outcomes[id]; !ok {
		m.order = append(m.order, id)
		if len(m.order) > keptOutcomes {
			delete(m.outcomes, m.order[0])
			m.order = m.order[1:]
		}
	}
	note := outcome{Duration: took}
	if err != nil {
		note.Err = cut(err.Error(), keptError)
	}
	m.outcomes[id] = note
}

// sample notes the counts of the database. This way the page learns about
// resumed work, and about the work of other instances with the same database.
func (m *monitor) sample(stats database.Stats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.minute(time.Now())
	now.Pending = max(now.Pending, stats.Pending)
	if stats != m.stats {
		m.stats = stats
		m.tellWatchers()
	}
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
		hour[i].start = start
		if kept := m.minutes[start%drawnMinutes]; kept.start == start {
			hour[i].Accepted, hour[i].Refused, hour[i].Pending = kept.Accepted, kept.Refused, kept.Pending
		}
	}
	return hour
}

// since returns when the monitor began to count, or zero if it has counted for
// the whole hour.
func (m *monitor) since() time.Time {
	if time.Since(m.started) >= drawnMinutes*time.Minute {
		return time.Time{}
	}
	return m.started
}

// A failure is a cause with its number in the last hour and the time of the
// last one.
type failure struct {
	Cause, Hint string
	Status      int
	Count       int64
	Last        time.Time
}

// failures lists why requests were refused or failed in the last hour, the
// latest cause first.
func (m *monitor) failures() []failure {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldest := time.Now().Unix()/60 - drawnMinutes + 1
	counts := make(map[string]int64)
	for _, kept := range m.minutes {
		if kept.start < oldest {
			continue
		}
		for cause, n := range kept.causes {
			counts[cause] += n
		}
	}
	var all []failure
	for cause, n := range counts {
		last := m.last[cause]
		all = append(all, failure{Cause: cause, Hint: hint(cause), Status: last.status, Count: n, Last: last.at})
	}
	slices.SortFunc(all, func(a, b failure) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Cause, b.Cause)) })
	return all
}

func (m *monitor) outcome(id string) (outcome, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.outcomes[id]
	return o, ok
}

// watch returns a channel that gets a value after changes, and a function that
// ends this. The channel is closed when the program stops. There is no login,
// so the number of watchers is limited: above the limits watch returns an
// error.
func (m *monitor) watch(client string) (changes <-chan struct{}, stop func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := 0
	for _, other := range m.watchers {
		if other == client {
			own++
		}
	}
	if own >= maxWatching || len(m.watchers) >= maxWatchers {
		return nil, nil, errTooManyWatchers
	}
	watcher := make(chan struct{}, 1)
	if m.closed {
		close(watcher)
		return watcher, func() {}, nil
	}
	m.watchers[watcher] = client
	return watcher, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, watcher)
	}, nil
}

func (m *monitor) tellWatchers() {
	for watcher := range m.watchers {
		select {
		case watcher <- struct{}{}:
		default: // it has not read the last value yet
		}
	}
}

// close ends all watching, because it would delay the shutdown.
func (m *monitor) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for watcher := range m.watchers {
		close(watcher)
		delete(m.watchers, watcher)
	}
}
