package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
	"github.com/cloudinaryhook/cloudinaryhook/internal/postgrestest"
)

// postForm sends the same request as a button of the page, with a header that
// browsers set.
func (p *program) postForm(t *testing.T, path, header, value string) (status int, location string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(header, value)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Location")
}

// TestReopen: a rejected delivery is processed again at once, if a page of this
// site asks for it.
func TestReopen(t *testing.T) {
	p, _ := inProcess(t)
	for _, name := range []string{"refused once", "refused"} {
		p.post(t, fmt.Appendf(nil, `{"notification_type":"upload","public_id":%q,"version":1}`, name))
	}
	_, page := p.get(t, "/rejected")
	ids := map[string]string{"nobody": "nobody"}
	for _, d := range getJSON[[]database.Delivery](t, p, "/api/v1/deliveries") {
		ids[d.PublicID] = d.ID
		if !strings.Contains(page, "<bdi>"+d.PublicID+"</bdi>") || !strings.Contains(page, `action="/deliveries/`+d.ID+`/reopen"`) {
			t.Errorf("the page of rejected deliveries lacks %s or its button:\n%s", d.PublicID, page)
		}
	}
	type stats = database.Stats
	path := func(name string) string { return "/deliveries/" + ids[name] }
	for _, tt := range []struct {
		name, publicID, header, value string
		status                        int
		want                          stats
	}{
		{"from another site", "refused once", "Sec-Fetch-Site", "cross-site", 403, stats{Deliveries: 2, Rejected: 2}},
		{"from another origin", "refused once", "Origin", "https://other.example", 403, stats{Deliveries: 2, Rejected: 2}},
		{"fixed", "refused once", "Sec-Fetch-Site", "same-origin", 303, stats{Deliveries: 2, Rejected: 1, Images: 1}},
		{"again", "refused once", "Sec-Fetch-Site", "same-origin", 404, stats{Deliveries: 2, Rejected: 1, Images: 1}},
		{"not fixed", "refused", "Sec-Fetch-Site", "same-origin", 303, stats{Deliveries: 2, Rejected: 1, Images: 1}},
		{"unknown", "nobody", "Sec-Fetch-Site", "same-origin", 404, stats{Deliveries: 2, Rejected: 1, Images: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, location := p.postForm(t, path(tt.publicID)+"/reopen", tt.header, tt.value)
			if status != tt.status || status == http.StatusSeeOther && location != path(tt.publicID) {
				t.Errorf("answered %d and to %q, want %d and to the delivery", status, location, tt.status)
			}
			if diff := cmp.Diff(tt.want, getJSON[stats](t, p, "/api/v1/stats")); diff != "" {
				t.Errorf("stats differ (-want +got):\n%s", diff)
			}
		})
	}
	if status, _ := p.get(t, path("refused")+"/reopen"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET was answered %d, want 405", status)
	}
}

// TestReopenedButNotDone: if a reopened delivery fails, the page says why it is
// pending.
func TestReopenedButNotDone(t *testing.T) {
	p, _ := inProcess(t)
	p.post(t, []byte(`{"notification_type":"upload","public_id":"refused then stuck","version":1}`))
	id := getJSON[[]database.Delivery](t, p, "/api/v1/deliveries")[0].ID
	if status, _ := p.postForm(t, "/deliveries/"+id+"/reopen", "Sec-Fetch-Site", "same-origin"); status != http.StatusSeeOther {
		t.Fatalf("answered %d, want 303", status)
	}
	if _, page := p.get(t, "/deliveries/"+id); !strings.Contains(page, "the thumbnail service does not answer") {
		t.Errorf("the page does not say why it is pending:\n%s", page)
	}
}

// TestLinks: the Link header of the API leads to the next page.
func TestLinks(t *testing.T) {
	p, _ := inProcess(t)
	var want []string
	for i := range 7 {
		p.post(t, fmt.Appendf(nil, `{"notification_type":"upload","public_id":"p%d","version":1}`, i))
		want = append([]string{fmt.Sprint("p", i)}, want...)
	}
	other := cloudinaryhooktest.DefaultClaims()
	other.AlbumID = "other"
	p.post(t, golden(t, "delete.json"), cloudinaryhooktest.WithClaims(other))
	for _, first := range []string{"/api/v1/images?limit=3", "/api/v1/images?album_id=test-album&limit=1", "/api/v1/deliveries?limit=2&type=upload", "/api/v1/deliveries?album_id=test-album&limit=7"} {
		var got []string
		for next := first; next != ""; {
			resp, err := http.Get(p.url + next)
			if err != nil {
				t.Fatal(err)
			}
			link := resp.Header.Get("Link")
			_ = resp.Body.Close()
			for _, row := range getJSON[[]struct {
				PublicID string `json:"public_id"`
			}](t, p, next) {
				got = append(got, row.PublicID)
			}
			next = strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("from %s on differs (-want +got):\n%s", first, diff)
		}
	}
	for _, path := range []string{"/api/v1/images?after=x", "/api/v1/deliveries?after=1"} {
		if status, _ := p.get(t, path); status != http.StatusBadRequest {
			t.Errorf("%s got %d, want 400", path, status)
		}
	}
}

// TestResumedIsNotReceivedAgain: after a restart, pending deliveries are
// processed. The log says so once, and they do not count as received again. The
// log also names a delivery that cannot be read.
func TestResumedIsNotReceivedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gallery.db")
	crashed := time.Now().Add(-2 * time.Minute)
	save(t, path, `{"notification_type":"upload","public_id":"broken","version":1}`, crashed.Add(-time.Second)) // it is tried first
	save(t, path, `{"notification_type":"upload","public_id":"left","version":1}`, crashed)
	change(t, path, `UPDATE deliveries SET delivery = CAST('{"id":' AS BLOB) WHERE public_id = 'broken'`)
	p := start(t, testEnv(), "-db", path)
	p.waitFor(t, "one of two to be done", func(s database.Stats) bool { return s.Pending == 1 && s.Images == 1 })
	for _, d := range getJSON[[]database.Delivery](t, p, "/api/v1/deliveries") {
		if d.Saves != 1 {
			t.Errorf("%s was received %d times, want once", d.PublicID, d.Saves)
		}
	}
	p.waitForText(t, "/metrics", "\ngallery_deliveries_resumed_total 1\n")
	_, metrics := p.get(t, "/metrics")
	if age := between(t, metrics, "\ngallery_deliveries_oldest_pending_age_seconds ", "\n"); age == "0" || age == "NaN" {
		t.Errorf("the oldest pending delivery is %s s old, want more than none", age)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil { // after kill -9 the log might lack its last line
		t.Fatal(err)
	}
	for range p.output { // until the program closes it: Wait must not run before that
	}
	_ = p.cmd.Wait()
	log := p.log.String()
	if n := strings.Count(log, `msg="resumed pending deliveries" deliveries=1`); n != 1 {
		t.Errorf("the log says %d times that it resumed one, want once", n)
	}
	if !strings.Contains(log, "level=ERROR") {
		t.Error("the log does not say that one cannot be read")
	}
}

// TestReadiness: /readyz answers 503 while nothing can be saved, and 200 when
// it can.
func TestReadiness(t *testing.T) {
	server := postgrestest.Start(t)
	address := server.Database(t)
	p := start(t, testEnv(), "-db", address)
	p.waitForStatus(t, "/readyz", http.StatusOK)
	db := &testDatabase{url: address, server: server}
	name := strings.TrimPrefix(must(url.Parse(address)).Path, "/")
	conn := db.connect(t)
	for _, statement := range []string{
		fmt.Sprintf("ALTER DATABASE %q SET default_transaction_read_only = on", name),
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	p.waitForStatus(t, "/readyz", http.StatusServiceUnavailable)
	if status, _ := p.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz got %d, want 200: the program is alive", status)
	}
	if _, err := conn.Exec(t.Context(), fmt.Sprintf("SET default_transaction_read_only = off; ALTER DATABASE %q RESET default_transaction_read_only", name)); err != nil {
		t.Fatal(err)
	}
	p.waitForStatus(t, "/readyz", http.StatusOK)
	server.Kill()
	p.waitForStatus(t, "/readyz", http.StatusServiceUnavailable)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
