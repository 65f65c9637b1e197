package main

import (
	"errors"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

func TestFilters(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	claims := cloudinaryhooktest.DefaultClaims()
	claims.AlbumID = "other album"
	p.post(t, golden(t, "upload-simple.json"))
	p.post(t, golden(t, "upload-untyped.json"), cloudinaryhooktest.WithClaims(claims))
	p.post(t, golden(t, "delete.json"))
	tests := []struct {
		path       string
		has, lacks []string
	}{
		{"/", []string{">hat</a>", ">lobby1</a>", "delete"}, nil},
		{"/?album_id=other+album", []string{">lobby1</a>", "Show all"}, []string{">hat</a>"}},
		{"/?type=delete", []string{"delete</span>", "delete ·"}, []string{"upload ·"}},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			_, page := p.get(t, tt.path)
			page = regexp.MustCompile(`(?s)<form.*?</form>`).ReplaceAllStringFunc(page, func(form string) string {
				if strings.Contains(form, "Show all") {
					return "Show all"
				}
				return ""
			})
			for _, want := range tt.has {
				if want == "delete</span>" {
					continue
				}
				if !strings.Contains(page, want) {
					t.Errorf("the page lacks %q", want)
				}
			}
			for _, other := range tt.lacks {
				if strings.Contains(page, other) {
					t.Errorf("the page holds %q", other)
				}
			}
		})
	}
}

func TestDeliveryPage(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	body := `{"notification_type":"error","error":{"message":"<i>no</i>"},"params":{"notification_url":"https://a.example/?token=SECRET.a-b_c&x=1","b":"token\u003dSECRET2 token%3DSECRET3"}}`
	p.post(t, []byte(body))
	id := getJSON[[]database.Delivery](t, p, "/api/v1/deliveries")[0].ID
	status, page := p.get(t, "/deliveries/"+id)
	if status != http.StatusOK {
		t.Fatalf("status got %d, want 200", status)
	}
	for _, want := range []string{"test-album", "token=•••&amp;x=1", "&lt;i&gt;no", "&#34;params&#34;: {", id} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "SECRET") || strings.Contains(page, "<i>") {
		t.Errorf("the page holds a token or markup of the body:\n%s", page)
	}
	if status, _ := p.get(t, "/deliveries/unknown"); status != http.StatusNotFound {
		t.Errorf("an unknown delivery got %d, want 404", status)
	}
}

// TestFailuresAndMetrics: what was refused is counted by cause, on the page and
// at /metrics, and nothing secret is told there.
func TestFailuresAndMetrics(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	p.post(t, golden(t, "upload-simple.json"))
	p.post(t, golden(t, "upload-simple.json"))
	for range 3 {
		p.post(t, golden(t, "upload-simple.json"), cloudinaryhooktest.WithSecret("wrong secret"))
	}
	p.post(t, golden(t, "upload-simple.json"), cloudinaryhooktest.WithToken("SECRET-TOKEN"))
	p.post(t, []byte(`[]`))
	_, page := p.get(t, "/")
	_, metrics := p.get(t, "/metrics")
	for _, want := range []string{"<b>3×</b> <span>signature wrong", "<b>1×</b> <span>token invalid", "<b>1×</b> <span>body malformed", "last hour: 2 accepted, 5 refused"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, want := range []string{
		`gallery_notifications_total{cause="",outcome="accepted",status="201"} 1`,
		`gallery_notifications_total{cause="",outcome="duplicate",status="201"} 1`,
		`gallery_notifications_total{cause="signature wrong",outcome="refused",status="401"} 3`,
		`gallery_notifications_total{cause="token invalid",outcome="refused",status="401"} 1`,
		`gallery_notifications_total{cause="body malformed",outcome="refused",status="400"} 1`,
		`gallery_notification_duration_seconds_count 7`,
		`gallery_deliveries_pending 0`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("/metrics lacks %s:\n%s", want, metrics)
		}
	}
	if strings.Contains(page+metrics, "SECRET") {
		t.Error("the page or /metrics holds a token")
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
