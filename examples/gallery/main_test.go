package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/database"
)

// binary is the real program, built once.
var binary string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "gallery")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(folder, "gallery")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// A program is a running gallery.
type program struct {
	url    string
	cmd    *exec.Cmd
	log    *bytes.Buffer
	output chan string // the lines after the first one; closed when the program ends
}

// start runs the gallery on a database and waits until it listens. The gallery
// ends with the test at the latest.
func start(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	return startBinary(t, binary, env, args...)
}

func startBinary(t *testing.T, path string, env []string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(path, append([]string{"-addr", "127.0.0.1:0"}, args...)...), log: new(bytes.Buffer), output: make(chan string, 100)}
	p.cmd.Env = append(append(os.Environ(), "TMPDIR="+t.TempDir()), env...) // a killed demo cannot clean up
	p.cmd.Stderr = p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of the program:\n%s", p.log)
		}
	})
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		p.kill()
		t.Fatalf("the program ended:\n%s", p.log)
	}
	p.url = strings.TrimSuffix(strings.TrimPrefix(lines.Text(), "gallery: "), "/")
	go func() {
		defer close(p.output)
		for lines.Scan() {
			p.output <- lines.Text()
		}
	}()
	return p
}

// kill kills the program with SIGKILL. It may be called again.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *program) hook() string { return p.url + hookPath }

func testEnv() []string {
	return []string{secretVariable + "=" + cloudinaryhooktest.DefaultSecret, keyVariable + "=" + cloudinaryhooktest.DefaultKey}
}

func (p *program) post(t *testing.T, body []byte, opts ...cloudinaryhooktest.Option) int {
	t.Helper()
	resp, err := http.DefaultClient.Do(cloudinaryhooktest.NewRequest(t, p.url+hookPath, body, opts...))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func (p *program) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(p.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func getJSON[T any](t *testing.T, p *program, path string) (v T) {
	t.Helper()
	status, body := p.get(t, path)
	if err := json.Unmarshal([]byte(body), &v); err != nil || status != http.StatusOK {
		t.Fatalf("GET %s got %d, %v: %s", path, status, err, body)
	}
	return v
}

// patience is how long a test waits for something that must happen, on a busy
// machine. Usually it happens much sooner.
const patience = 2 * time.Minute

// waitFor asks until the counts meet the condition.
func (p *program) waitFor(t *testing.T, what string, ok func(database.Stats) bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(patience)
	for {
		s := getJSON[database.Stats](t, p, "/api/v1/stats")
		if ok(s) {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("waited %v for %s, stats are %+v", patience, what, s)
		}
	}
}

// waitForStatus asks until the answer has this status.
func (p *program) waitForStatus(t *testing.T, path string, want int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		got, body := p.get(t, path)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %d of %s, got %d: %s", patience, want, path, got, body)
		}
	}
}

// waitForText asks until the answer holds this text.
func (p *program) waitForText(t *testing.T, path, want string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		_, body := p.get(t, path)
		if strings.Contains(body, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %q in %s, got: %s", patience, want, path, body)
		}
	}
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), name)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestNotificationsBecomeImages(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	for _, name := range []string{"upload-untyped.json", "error.json", "upload-simple.json", "upload-simple.json", "upload-video.json"} {
		if status := p.post(t, golden(t, name)); status != http.StatusCreated {
			t.Errorf("%s was answered %d, want 201", name, status)
		}
	}
	if status := p.post(t, golden(t, "upload-full.json"), cloudinaryhooktest.WithSecret("another")); status != http.StatusUnauthorized {
		t.Errorf("a body signed with another secret was answered %d, want 401", status)
	}
	if diff := cmp.Diff(database.Stats{Deliveries: 4, Images: 2}, getJSON[database.Stats](t, p, "/api/v1/stats")); diff != "" {
		t.Errorf("stats differ (-want +got):\n%s", diff)
	}
	wantImages := []database.Image{
		{OrganizationID: "test-organization", AlbumID: "test-album", PublicID: "hat", Version: 1741079726, Format: "png",
			ResourceType: "image", DeliveryType: "upload", OriginalFilename: "hat-3", Width: 1600, Height: 1200, Bytes: 318204},
		{OrganizationID: "test-organization", AlbumID: "test-album", PublicID: "lobby1", Version: 1507784500, Format: "jpg",
			ResourceType: "image", DeliveryType: "authenticated", OriginalFilename: "Image"},
	}
	made := cmpopts.IgnoreFields(database.Image{}, "Key", "DeliveryID", "AssetID", "URL", "SecureURL", "CreatedAt")
	if diff := cmp.Diff(wantImages, getJSON[[]database.Image](t, p, "/api/v1/images"), made); diff != "" {
		t.Errorf("images differ (-want +got):\n%s", diff)
	}
	var types []string
	for _, d := range getJSON[[]database.Delivery](t, p, "/api/v1/deliveries") {
		types = append(types, d.Type+" "+d.State)
		if len(d.ID) != 64 || d.ReceivedAt.IsZero() || d.SignedAt.IsZero() || d.AlbumID != "test-album" {
			t.Errorf("delivery got %+v, want all fields set", d)
		}
	}
	if diff := cmp.Diff([]string{"upload done", "upload done", "error done", " done"}, types); diff != "" {
		t.Errorf("deliveries differ (-want +got):\n%s", diff)
	}
}

func TestLists(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	tests := []struct {
		path   string
		status int
		want   string // a part of the answer of an empty gallery
	}{
		{"/api/v1/images", 200, "[]\n"},
		{"/api/v1/images?album_id=x&limit=1", 200, "[]\n"},
		{"/api/v1/deliveries", 200, "[]\n"},
		{"/api/v1/deliveries?limit=0", 400, "limit"},
		{"/api/v1/deliveries?limit=1001", 400, "limit"},
		{"/api/v1/images?limit=x", 400, "limit"},
		{"/api/v1/stats", 200, `{"deliveries":0,"pending":0,"rejected":0,"images":0}`},
		{"/healthz", 200, "ok"},
		{"/readyz", 200, "ready"},
		{"/", 200, "No images yet"},
		{"/static/style.css", 200, "color-scheme"},
		{"/static/", 404, ""},
		{"/static/../main.go", 404, ""},
		{"/static/..%2ftemplates%2fpage.html", 400, "invalid URL path"},
		{"/static/%2e%2e%2fstatic%2fstyle.css", 400, "invalid URL path"},
		{"/static/style.css%2f", 404, ""},
		{"/elsewhere", 404, ""},
		{hookPath, 405, ""},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			status, body := p.get(t, tt.path)
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("GET %s got %d and %.200q, want %d and %q", tt.path, status, body, tt.status, tt.want)
			}
		})
	}
	for i := range 3 {
		claims := cloudinaryhooktest.DefaultClaims()
		claims.AlbumID = fmt.Sprint("album ", i%2)
		p.post(t, fmt.Appendf(nil, `{"notification_type":"upload","public_id":"p%d","version":1}`, i), cloudinaryhooktest.WithClaims(claims))
	}
	for path, want := range map[string][]string{
		"/api/v1/images":                    {"p2", "p1", "p0"},
		"/api/v1/images?limit=2":            {"p2", "p1"},
		"/api/v1/images?album_id=album%200": {"p2", "p0"},
		"/api/v1/images?album_id=album":     nil,
	} {
		var got []string
		for _, img := range getJSON[[]database.Image](t, p, path) {
			got = append(got, img.PublicID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("GET %s differs (-want +got):\n%s", path, diff)
		}
	}
}

// TestKill9: after a crash, notifications that were answered 201 are there and
// are recognized as duplicates.
func TestKill9(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gallery.db")
	p := start(t, testEnv(), "-db", path)
	bodies := make([][]byte, 50)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, `{"notification_type":"upload","request_id":"r%d","public_id":"p%[1]d","version":1}`, i)
		if status := p.post(t, bodies[i]); status != http.StatusCreated {
			t.Fatalf("answered %d, want 201", status)
		}
	}
	p.kill()
	p = start(t, testEnv(), "-db", path)
	want := database.Stats{Deliveries: 50, Images: 50}
	if diff := cmp.Diff(want, getJSON[database.Stats](t, p, "/api/v1/stats")); diff != "" {
		t.Errorf("after kill -9 stats differ (-want +got):\n%s", diff)
	}
	for _, body := range bodies {
		if status := p.post(t, body); status != http.StatusCreated {
			t.Errorf("sent again, answered %d, want 201", status)
		}
	}
	if diff := cmp.Diff(want, getJSON[database.Stats](t, p, "/api/v1/stats")); diff != "" {
		t.Errorf("sent again, stats differ (-want +got):\n%s", diff)
	}
}

// TestPendingIsResumedAtStart: after a crash between Save and CreateImage, the
// next start processes the delivery. The database also has finished deliveries.
func TestPendingIsResumedAtStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gallery.db")
	p := start(t, testEnv(), "-db", path)
	if status := p.post(t, golden(t, "upload-simple.json")); status != http.StatusCreated {
		t.Fatalf("answered %d, want 201", status)
	}
	p.kill()
	crashed := time.Now().Add(-2 * time.Minute)
	save(t, path, `{"notification_type":"upload","public_id":"left","version":1}`, crashed)
	save(t, path, `{"notification_type":"delete","resources":[]}`, crashed)
	p = start(t, testEnv(), "-db", path)
	p.waitFor(t, "all three to be done, with two images", func(s database.Stats) bool { return s == database.Stats{Deliveries: 3, Images: 2} })
}

// TestResumeLeavesCurrentRequests: several galleries may share a database. One
// that starts must not work on a delivery that another one has just received.
func TestResumeLeavesCurrentRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gallery.db")
	save(t, path, `{"notification_type":"upload","public_id":"left","version":1}`, time.Now().Add(-2*time.Minute))
	save(t, path, `{"notification_type":"upload","public_id":"current","version":1}`, time.Now())
	db, err := database.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var created []string
	processor := &cloudinaryhook.Processor{Store: db, Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
		created = append(created, img.PublicID)
		return nil
	})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log bytes.Buffer
	endOfPass := slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "deliveries" {
			cancel()
		}
		return a
	}}
	resume(ctx, processor, db, newMonitor(), slog.New(slog.NewTextHandler(&log, &endOfPass)))
	if diff := cmp.Diff([]string{"left"}, created); diff != "" {
		t.Errorf("created images differ (-want +got):\n%s", diff)
	}
	if !strings.HasSuffix(log.String(), "deliveries=1\n") {
		t.Errorf("got the log %q, want one delivery", &log)
	}
}

// save saves a delivery that was received at a time, and does not process it.
func save(t *testing.T, path, body string, received time.Time) {
	t.Helper()
	db, err := database.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := cloudinaryhook.NewDelivery([]byte(body), cloudinaryhooktest.DefaultClaims(), received)
	if err == nil {
		d.ReceivedAt = received
		_, err = db.Save(t.Context(), d)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// change changes the database in a way that no gallery does.
func change(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), statement)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestSecretsRotate(t *testing.T) {
	newerKey := strings.Repeat("k", 32)
	env := []string{secretVariable + "=newer", secretVariable + previousSuffix + "=" + cloudinaryhooktest.DefaultSecret,
		keyVariable + "=" + newerKey, keyVariable + previousSuffix + "=" + cloudinaryhooktest.DefaultKey}
	p := start(t, env, "-db", filepath.Join(t.TempDir(), "gallery.db"))
	for secret, want := range map[string]int{"newer": 201, cloudinaryhooktest.DefaultSecret: 201, "newest": 401} {
		if got := p.post(t, golden(t, "delete.json"), cloudinaryhooktest.WithSecret(secret)); got != want {
			t.Errorf("signed with %q, answered %d, want %d", secret, got, want)
		}
	}
	for key, want := range map[string]int{newerKey: 201, cloudinaryhooktest.DefaultKey: 201, strings.Repeat("x", 32): 401} {
		got := p.post(t, golden(t, "delete.json"), cloudinaryhooktest.WithSecret("newer"), cloudinaryhooktest.WithKey([]byte(key)))
		if got != want {
			t.Errorf("with a token of the key %q, answered %d, want %d", key, got, want)
		}
	}
}

func TestTokenNeedsAnAlbum(t *testing.T) {
	p := start(t, testEnv(), "-db", filepath.Join(t.TempDir(), "gallery.db"))
	got := p.post(t, golden(t, "upload-simple.json"), cloudinaryhooktest.WithClaims(&cloudinaryhook.Claims{OrganizationID: "o"}))
	if got != http.StatusUnauthorized {
		t.Errorf("a token without an album was answered %d, want 401", got)
	}
}

func TestImageSource(t *testing.T) {
	tests := []struct{ secureURL, url, want string }{
		{"https://a.example/1.jpg", "http://a.example/1.jpg", "https://a.example/1.jpg"},
		{"", "http://a.example/1.jpg", "http://a.example/1.jpg"},
		{"javascript:alert(1)", "http://a.example/1.jpg", "http://a.example/1.jpg"},
		{"HTTPS://a.example/1.jpg", "", "HTTPS://a.example/1.jpg"},
		{"javascript:alert(1)", "data:image/svg+xml,x", ""},
		{"mailto:a@example.com", "", ""},
		{"/api/v1/stats", "//a.example/1.jpg", ""}, // a path of this app is not an image
		{"https:///1.jpg", "http:opaque", ""},
		{"https://a b/%zz", "", ""},
		{"https://a.example/" + strings.Repeat("x", 2000), "http://a.example/1.jpg", "http://a.example/1.jpg"},
		{"", "", ""},
	}
	for _, tt := range tests {
		if got := (database.Image{SecureURL: tt.secureURL, URL: tt.url}).Source(); got != tt.want {
			t.Errorf("Source of %q and %q got %q, want %q", tt.secureURL, tt.url, got, tt.want)
		}
	}
}

// TestShutdown: if SIGTERM comes while a body is arriving, that request is
// still answered 201. Then the program ends without an error.
func TestShutdown(t *testing.T) {
	p := start(t, testEnv(), "-drain", "100ms", "-db", filepath.Join(t.TempDir(), "gallery.db"))
	body := golden(t, "upload-simple.json")
	r := cloudinaryhooktest.NewRequest(t, p.url+hookPath, body)
	conn, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.Header.Set("Expect", "100-continue") // status 100 shows that the handler reads the body
	var head bytes.Buffer
	if err := r.Write(&head); err != nil {
		t.Fatal(err)
	}
	half := head.Len() - len(body)/2
	if _, err := conn.Write(head.Bytes()[:half]); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("answered %q and %v, want 100", line, err)
	}
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitUntilRefused(t, r.URL.Host)
	if _, err := conn.Write(head.Bytes()[half:]); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("answered %d, want 201", resp.StatusCode)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v, want nil", err)
	}
}

func waitUntilRefused(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		_ = conn.Close()
	}
	t.Fatal("the program still accepts connections long after SIGTERM")
}

func TestDemoFillsThePage(t *testing.T) {
	p := start(t, []string{secretVariable + "=", keyVariable + "="})
	p.waitFor(t, "the demo to bring five images and seven deliveries", func(s database.Stats) bool { return s.Images >= 5 && s.Deliveries >= 7 })
	_, page := p.get(t, "/")
	for _, want := range []string{"Summer exhibition", "Catalogue", "pier-", "upload"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
}

// TestDemoCurl runs exactly the command that the demo prints, and ends the demo
// like Ctrl-C: then its database is deleted.
func TestDemoCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil && os.Getenv("CI") == "" {
		t.Skip("curl is not installed")
	}
	temporary := t.TempDir()
	p := start(t, []string{secretVariable + "=", keyVariable + "=", "TMPDIR=" + temporary})
	var line string
	for !strings.HasPrefix(line, "curl ") {
		var ok bool
		if line, ok = <-p.output; !ok {
			t.Fatal("the demo printed no curl line")
		}
	}
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("201 Created")) {
		t.Errorf("%s\ngot %v and %s, want 201", line, err, out)
	}
	images := getJSON[[]database.Image](t, p, "/api/v1/images")
	if !slices.ContainsFunc(images, func(i database.Image) bool {
		return strings.HasPrefix(i.PublicID, "by-hand-") && i.Width > 0 && i.Source() != ""
	}) {
		t.Errorf("no image is the one from curl, with size and URL: %+v", images)
	}
	if _, page := p.get(t, "/"); !strings.Contains(page, "by-hand-") || strings.Contains(page, "<img") {
		t.Error("the page does not show curl's image, or would load images from other hosts")
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for range p.output { // until the program closes it: Wait must not come before
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the demo ended with %v, want nil", err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v and %v, want nothing", left, err)
	}
}

// TestDemoLogsNoToken: the demo logs no token, although net/http's errors quote
// the URL.
func TestDemoLogsNoToken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String() + hookPath
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	err = newDemo(nobody, cloudinaryhooktest.DefaultSecret, []byte(cloudinaryhooktest.DefaultKey)).send(t.Context())
	if err == nil || strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), hookPath) {
		t.Errorf("sending without a server got %v, want an error without the URL", err)
	}
}

// TestAnnounce: the printed commands can be pasted, and the output holds no
// secret of the user.
func TestAnnounce(t *testing.T) {
	const url, pages = "http://127.0.0.1:1", "http://127.0.0.1:2"
	key := []byte("a token key, as long as one needs")
	tests := []struct {
		name string
		cfg  config
		want []string
		not  []string
	}{
		{"from outside", config{db: "here.db"}, []string{"in here.db\n", keyVariable, "\ngo run ./cmd/cloudinaryhook send -url '" + url + hookPath + "' upload\n"}, []string{"demo", "a token key", "an API secret"}},
		{"Postgres", config{db: "postgres://u:hunter2@h/d"}, []string{"in Postgres\n"}, []string{"hunter2"}},
		{"with -admin", config{db: "here.db", admin: "127.0.0.1:2"}, []string{"at " + url + hookPath + ","}, nil},
		{"demo", config{demo: true, temporary: "folder"}, []string{"on purpose", "deleted when it stops", "\ncurl "}, []string{"cloudinaryhook send"}},
		{"demo with a database", config{demo: true, db: "here.db"}, []string{"on purpose", "\ncurl "}, []string{"gone"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.secrets, tt.cfg.keys = []string{"an API secret"}, [][]byte{key}
			var out strings.Builder
			announce(&out, &tt.cfg, url, pages)
			for _, want := range append(tt.want, "gallery: "+pages+"/\n") {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q:\n%s", want, &out)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(out.String(), not) {
					t.Errorf("the output holds %q:\n%s", not, &out)
				}
			}
		})
	}
}

// TestTakenAddress: if the gallery cannot listen, it creates no database.
func TestTakenAddress(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	path := filepath.Join(t.TempDir(), "gallery.db")
	err = run(t.Context(), []string{"-addr", listener.Addr().String(), "-db", path}, func(string) string { return "" }, io.Discard, io.Discard)
	if err == nil {
		t.Error("run got nil, want an error")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the database file got %v, want none", err)
	}
}

func TestHelp(t *testing.T) {
	out, err := exec.Command(binary, "-h").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("-keep")) || bytes.Contains(out, []byte("help requested")) {
		t.Errorf("-h got %v and %s, want the flags and no error", err, out)
	}
}

func TestWrongConfigurationEndsTheProgram(t *testing.T) {
	key := strings.Repeat("k", 32)
	for name, env := range map[string][]string{
		"secret alone":       {secretVariable + "=SECRET", keyVariable + "="},
		"key alone":          {secretVariable + "=", keyVariable + "=" + key},
		"short key":          {secretVariable + "=SECRET", keyVariable + "=" + key[1:]},
		"short previous key": {secretVariable + "=SECRET", keyVariable + "=" + key, keyVariable + previousSuffix + "=" + key[1:]},
		"blank secret":       {secretVariable + "= ", keyVariable + "=" + key},
		"quoted secret":      {secretVariable + "='SECRET'", keyVariable + "=" + key},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binary, "-addr", "127.0.0.1:0")
			cmd.Dir = t.TempDir() // in case it creates a database
			cmd.Env = append(os.Environ(), env...)
			out, err := cmd.CombinedOutput()
			said := string(out)
			if err == nil || !strings.Contains(said, keyVariable) || strings.Contains(said, "SECRET'") || strings.Contains(said, key[1:]) {
				t.Errorf("got %v and %s, want an error that names %s and no secret", err, said, keyVariable)
			}
		})
	}
}
