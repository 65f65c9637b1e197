package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// refuse sends seven requests, of which two are accepted. It waits for the
// monitor, which notes a request after its answer.
func refuse(t *testing.T, p *program) {
	t.Helper()
	p.post(t, golden(t, "upload-simple.json"))
	p.post(t, golden(t, "upload-simple.json"))
	for range 3 {
		p.post(t, golden(t, "upload-simple.json"), cloudinaryhooktest.WithSecret("wrong secret"))
	}
	p.post(t, golden(t, "upload-simple.json"), cloudinaryhooktest.WithToken("SECRET-TOKEN"))
	p.post(t, []byte(`[]`))
	p.waitForText(t, "/metrics", "\ngallery_notification_duration_seconds_count 7\n")
}

// TestFailures: the page lists refused requests by cause, without secrets.
func TestFailures(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	refuse(t, p)
	_, page := p.get(t, "/")
	failures := between(t, page, `data-live="failures"`, "</ul>")
	for _, want := range []string{
		`<b>3×</b> <span>signature wrong</span> <span class="status">401<`,
		`<b>1×</b> <span>token invalid</span> <span class="status">401<`,
		`<b>1×</b> <span>body malformed</span> <span class="status">400<`,
	} {
		if !strings.Contains(failures, want) {
			t.Errorf("the list of recent failures lacks %q:\n%s", want, failures)
		}
	}
	if want := "In all 2 accepted, 5 refused or failed; at most 0 pending."; !strings.Contains(page, want) {
		t.Errorf("the drawing's text lacks %q", want)
	}
	if strings.Contains(page, "SECRET") {
		t.Error("the page holds a token")
	}
}

func TestMetrics(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	refuse(t, p)
	const want = `
# HELP gallery_deliveries_pending Deliveries that are saved and not completed; NaN if the database does not answer.
# TYPE gallery_deliveries_pending gauge
gallery_deliveries_pending 0
# HELP gallery_notifications_total Requests to the hook by status, outcome and cause.
# TYPE gallery_notifications_total counter
gallery_notifications_total{cause="",outcome="accepted",status="201"} 1
gallery_notifications_total{cause="",outcome="duplicate",status="201"} 1
gallery_notifications_total{cause="body malformed",outcome="refused",status="400"} 1
gallery_notifications_total{cause="signature wrong",outcome="refused",status="401"} 3
gallery_notifications_total{cause="token invalid",outcome="refused",status="401"} 1
`
	if err := testutil.ScrapeAndCompare(p.url+"/metrics", strings.NewReader(want), "gallery_deliveries_pending", "gallery_notifications_total"); err != nil {
		t.Error(err)
	}
	if _, metrics := p.get(t, "/metrics"); strings.Contains(metrics, "SECRET") {
		t.Errorf("/metrics holds a token:\n%s", metrics)
	}
}

func TestPendingMetric(t *testing.T) {
	p, m := inProcess(t)
	pending := func() string {
		_, body := p.get(t, "/metrics")
		return between(t, body, "\ngallery_deliveries_pending ", "\n")
	}
	p.post(t, []byte(`{"notification_type":"upload","public_id":"stuck","version":1}`))
	if got := pending(); got != "1" {
		t.Errorf("with one pending delivery got %s, want 1", got)
	}
	gone, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "gallery.db"))
	if err == nil {
		err = gone.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	m.metrics.handler(gone).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got := between(t, answer.Body.String(), "\ngallery_deliveries_pending ", "\n"); got != "NaN" {
		t.Errorf("without a database got %s, want NaN", got)
	}
}

func TestClassify(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		o           cloudinaryhook.Outcome
		name, cause string
	}{
		{cloudinaryhook.Outcome{Status: 201, Known: cloudinaryhook.StateNew}, "accepted", ""},
		{cloudinaryhook.Outcome{Status: 201, Known: cloudinaryhook.StateDone}, "duplicate", ""},
		{cloudinaryhook.Outcome{Status: 201, Rejected: errors.Join(cloudinaryhook.ErrCreateImage, boom)}, "rejected", "creating the image failed"},
		{cloudinaryhook.Outcome{Status: 401, Err: cloudinaryhook.ErrStaleTimestamp}, "refused", "timestamp stale"},
		{cloudinaryhook.Outcome{Status: 500, Err: errors.Join(cloudinaryhook.ErrSave, cloudinaryhook.ErrMissingToken)}, "failed", "saving failed"},
		{cloudinaryhook.Outcome{Status: 500, Err: boom}, "failed", "other"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.cause, func(t *testing.T) {
			name, cause := classify(tt.o)
			if diff := cmp.Diff([]string{tt.name, tt.cause}, []string{name, cause}); diff != "" {
				t.Errorf("classify(%+v) differs (-want +got):\n%s", tt.o, diff)
			}
		})
	}
}

// TestMonitorIsBounded: a flood of requests does not grow memory or the number
// of series, and causes from before the flood are still listed.
func TestMonitorIsBounded(t *testing.T) {
	m := newMonitor()
	m.observe(t.Context(), cloudinaryhook.Outcome{Status: 500, Err: cloudinaryhook.ErrSave})
	for i := range 20 * keptOutcomes {
		d := &cloudinaryhook.Delivery{ID: fmt.Sprint(i)}
		err := fmt.Errorf("%w: %d %s", cloudinaryhook.ErrCreateImage, i, strings.Repeat("x", 1000))
		m.observe(t.Context(), cloudinaryhook.Outcome{Delivery: d, Status: 500, Err: err})
		m.observe(t.Context(), cloudinaryhook.Outcome{Status: 401, Err: fmt.Errorf("%w: %d", cloudinaryhook.ErrInvalidToken, i)})
		m.observe(t.Context(), cloudinaryhook.Outcome{Status: 500, Err: fmt.Errorf("%d", i)})
	}
	if len(m.outcomes) != keptOutcomes || len(m.order) != keptOutcomes || len(m.last) > len(causes)+1 {
		t.Errorf("the monitor keeps %d outcomes, %d IDs in order, and %d causes", len(m.outcomes), len(m.order), len(m.last))
	}
	newest, _ := m.outcome(fmt.Sprint(20*keptOutcomes - 1))
	if n := len(newest.Err); n == 0 || n > keptError+len("…") {
		t.Errorf("the monitor keeps %d bytes of an error, want at least one and at most %d", n, keptError)
	}
	if n := testutil.CollectAndCount(m.metrics.requests); n != 4 {
		t.Errorf("there are %d series, want one for each of 4 causes", n)
	}
	want := []failure{{Cause: "saving failed", Count: 1}, {Cause: "creating the image failed", Count: 20 * keptOutcomes},
		{Cause: "token invalid", Count: 20 * keptOutcomes}, {Cause: "other", Count: 20 * keptOutcomes}}
	byCause := cmpopts.SortSlices(func(a, b failure) bool { return a.Cause < b.Cause })
	if diff := cmp.Diff(want, m.failures(), byCause, cmpopts.IgnoreFields(failure{}, "Status", "Last", "Hint")); diff != "" {
		t.Errorf("failures differ (-want +got):\n%s", diff)
	}
}

// TestTokenCauses: the page names the fault of a token.
func TestTokenCauses(t *testing.T) {
	p, _ := inProcess(t)
	claims := func(change func(*cloudinaryhook.Claims)) cloudinaryhooktest.Option {
		c := cloudinaryhooktest.DefaultClaims()
		change(c)
		return cloudinaryhooktest.WithClaims(c)
	}
	tests := []struct {
		cause string
		opt   cloudinaryhooktest.Option
	}{
		{"token missing", cloudinaryhooktest.WithoutToken()},
		{"token expired", claims(func(c *cloudinaryhook.Claims) { c.ExpiresAt = jwt.NewNumericDate(time.Unix(1, 0)) })},
		{"token not valid yet", claims(func(c *cloudinaryhook.Claims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(time.Hour)) })},
		{"token without an album", claims(func(c *cloudinaryhook.Claims) { c.AlbumID = "" })},
		{"token of another key", cloudinaryhooktest.WithKey([]byte(strings.Repeat("k", 32)))},
		{"token invalid", cloudinaryhooktest.WithToken("SECRET-TOKEN")},
	}
	for _, tt := range tests {
		t.Run(tt.cause, func(t *testing.T) {
			p.post(t, golden(t, "upload-simple.json"), tt.opt)
			p.waitForText(t, "/", "<b>1×</b> <span>"+tt.cause+"</span>")
		})
	}
}

// TestSince: if a gallery has run for less than an hour, the page says since when.
func TestSince(t *testing.T) {
	p, m := inProcess(t)
	start := func(ago time.Duration) time.Time {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.started = time.Now().Add(-ago)
		return m.started
	}
	since := "since " + start(time.Minute).UTC().Format("15:04") + " UTC, when this gallery started"
	if _, page := p.get(t, "/"); strings.Count(page, since) != 2 {
		t.Errorf("after a minute the page lacks %q at the drawing or at the failures:\n%s", since, page)
	}
	start(time.Hour)
	if _, page := p.get(t, "/"); strings.Contains(page, "when this gallery started") || !strings.Contains(page, "Nothing in the last hour.") {
		t.Errorf("after an hour the page still says since when it counts:\n%s", page)
	}
}

func TestLastHour(t *testing.T) {
	m := newMonitor()
	synctest.Test(t, func(t *testing.T) {
		refuse := func() {
			m.observe(t.Context(), cloudinaryhook.Outcome{Status: 401, Err: cloudinaryhook.ErrStaleTimestamp})
		}
		m.observe(t.Context(), cloudinaryhook.Outcome{Status: 201})
		refuse()
		time.Sleep(10 * time.Minute)
		m.sample(database.Stats{Pending: 3})
		m.sample(database.Stats{Pending: 1})
		refuse()
		end := time.Now()
		hour := m.lastHour()
		want := map[int]minute{49: {Accepted: 1, Refused: 1}, 59: {Refused: 1, Pending: 3}}
		for i, got := range hour {
			minute := want[i]
			minute.start = end.Unix()/60 - 59 + int64(i)
			if got.start != minute.start || got.Accepted != minute.Accepted || got.Refused != minute.Refused || got.Pending != minute.Pending {
				t.Errorf("minute %d got %+v, want %+v", i, got, minute)
			}
		}
		time.Sleep(50 * time.Minute) // the first minute is an hour old
		if got := m.failures(); len(got) != 1 || got[0].Count != 1 || !got[0].Last.Equal(end) {
			t.Errorf("failures got %+v, want one, of %v", got, end)
		}
		time.Sleep(10 * time.Minute)
		if got := m.failures(); len(got) != 0 {
			t.Errorf("failures got %+v, want none after an hour", got)
		}
	})
}
