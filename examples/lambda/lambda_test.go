package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
	"github.com/cloudinaryhook/cloudinaryhook/internal/postgrestest"
)

// A kind makes an event from a request, as one of the services does.
type kind struct {
	name string
	last bool // it keeps only the last of repeated headers
	make func(r *http.Request, body string, base64 bool) any
}

var kinds = []kind{
	{"API Gateway 1.0", false, func(r *http.Request, body string, base64 bool) any {
		return events.APIGatewayProxyRequest{
			HTTPMethod: r.Method, Path: r.URL.Path, Body: body, IsBase64Encoded: base64, Headers: last(r.Header), MultiValueHeaders: r.Header,
			QueryStringParameters: last(r.URL.Query()), MultiValueQueryStringParameters: r.URL.Query(),
		}
	}},
	{"API Gateway 2.0", false, func(r *http.Request, body string, base64 bool) any {
		e := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: r.URL.Path, RawQueryString: r.URL.RawQuery, Headers: joined(r.Header), Body: body, IsBase64Encoded: base64}
		e.RequestContext.HTTP.Method = r.Method
		return e
	}},
	{"function URL", false, func(r *http.Request, body string, base64 bool) any {
		e := events.LambdaFunctionURLRequest{Version: "2.0", RawPath: r.URL.Path, RawQueryString: r.URL.RawQuery, Headers: joined(r.Header), Body: body, IsBase64Encoded: base64}
		e.RequestContext.HTTP.Method = r.Method
		return e
	}},
	{"load balancer", true, func(r *http.Request, body string, base64 bool) any {
		return events.ALBTargetGroupRequest{
			HTTPMethod: r.Method, Path: r.URL.Path, Body: body, IsBase64Encoded: base64, Headers: last(r.Header), QueryStringParameters: last(undecoded(r.URL)),
			RequestContext: events.ALBTargetGroupRequestContext{ELB: events.ELBContext{TargetGroupArn: "arn"}},
		}
	}},
	{"load balancer with multi-value headers", false, func(r *http.Request, body string, base64 bool) any {
		return events.ALBTargetGroupRequest{
			HTTPMethod: r.Method, Path: r.URL.Path, Body: body, IsBase64Encoded: base64, MultiValueHeaders: r.Header, MultiValueQueryStringParameters: undecoded(r.URL),
			RequestContext: events.ALBTargetGroupRequestContext{ELB: events.ELBContext{TargetGroupArn: "arn"}},
		}
	}},
}

func last(values map[string][]string) map[string]string {
	single := make(map[string]string)
	for name, values := range values {
		single[name] = values[len(values)-1]
	}
	return single
}

// joined writes names in lower case and joins values with commas, as payload
// 2.0 does.
func joined(header http.Header) map[string]string {
	single := make(map[string]string)
	for name, values := range header {
		single[strings.ToLower(name)] = strings.Join(values, ",")
	}
	return single
}

func undecoded(u *url.URL) map[string][]string {
	parameters := make(map[string][]string)
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		if name, value, ok := strings.Cut(part, "="); ok {
			parameters[name] = append(parameters[name], value)
		}
	}
	return parameters
}

func newFunction(store cloudinaryhook.Store, images cloudinaryhook.ImageCreatorFunc) *function {
	return &function{config: cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}},
		Processor: &cloudinaryhook.Processor{Store: store, Images: images},
	}}
}

func noImages(context.Context, *cloudinaryhook.Image) error { return nil }

// invoke passes an event to the function as Lambda does, in a JSON text, 20 seconds
// before the function's timeout.
func invoke(t *testing.T, f *function, event any) (response, error) {
	t.Helper()
	payload, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	data, err := lambda.NewHandler(f).Invoke(ctx, payload)
	if err != nil {
		return response{}, err
	}
	var answer response
	if err := json.Unmarshal(data, &answer); err != nil {
		t.Fatalf("the answer is %q: %v", data, err)
	}
	if len(answer.Headers) > 0 && len(answer.MultiValueHeaders) > 0 {
		t.Error("the answer has headers twice")
	}
	for name, values := range answer.MultiValueHeaders {
		if answer.Headers == nil {
			answer.Headers = make(map[string]string)
		}
		answer.Headers[name] = strings.Join(values, ",")
	}
	return answer, nil
}

// TestBodies: every body is saved byte for byte, with every service. Without
// base64, only a body that JSON text cannot carry is refused, and the log says
// why.
func TestBodies(t *testing.T) {
	bodies := cloudinaryhooktest.Bodies()
	names, err := fs.Glob(bodies, "*.json")
	if err != nil || len(names) < 20 {
		t.Fatalf("got %d bodies (%v), want 20 at least", len(names), err)
	}
	var log bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	for _, k := range kinds {
		for _, encoded := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, base64 %v", k.name, encoded), func(t *testing.T) {
				for _, name := range names {
					body, err := fs.ReadFile(bodies, name)
					if err != nil {
						t.Fatal(err)
					}
					text, want := string(body), http.StatusCreated
					if encoded {
						text = base64.StdEncoding.EncodeToString(body)
					} else if !utf8.Valid(body) {
						want = http.StatusUnauthorized
					}
					store := new(cloudinaryhooktest.MemoryStore)
					r := cloudinaryhooktest.NewRequest(t, "/api/v1/cloudinary?a=%25+b", body)
					answer, err := invoke(t, newFunction(store, noImages), k.make(r, text, encoded))
					if err != nil || answer.StatusCode != want {
						t.Errorf("%s: got status %d (%v), want %d", name, answer.StatusCode, err, want)
					}
					if got := strings.Contains(log.String(), "base64"); got != (want == http.StatusUnauthorized) {
						t.Errorf("%s: the log names base64: got %v, want %v", name, got, !got)
					}
					log.Reset()
					saved := store.Deliveries()
					switch {
					case want != http.StatusCreated:
						if len(saved) > 0 {
							t.Errorf("%s: a refused delivery is saved", name)
						}
					case len(saved) != 1:
						t.Errorf("%s: got %d deliveries, want 1", name, len(saved))
					default:
						if diff := cmp.Diff(string(body), string(saved[0].Body)); diff != "" {
							t.Errorf("%s: the saved body differs (-want +got):\n%s", name, diff)
						}
						if got := answer.Headers["X-Delivery-Id"]; got != saved[0].ID {
							t.Errorf("%s: got X-Delivery-Id %q, want %q", name, got, saved[0].ID)
						}
					}
				}
			})
		}
	}
}

// TestRefusals: the hook refuses bad requests from every service.
func TestRefusals(t *testing.T) {
	tests := []struct {
		name   string
		change func(*http.Request)
		want   int
		last   int // if the service passes only the last of repeated values
	}{
		{"GET", func(r *http.Request) { r.Method = http.MethodGet }, 405, 405},
		{"no token", func(r *http.Request) { r.URL.RawQuery = "" }, 401, 401},
		{"two tokens", func(r *http.Request) { r.URL.RawQuery += "&" + r.URL.RawQuery }, 401, 201},
		{"two signatures", func(r *http.Request) {
			r.Header.Add(cloudinaryhook.SignatureHeader, r.Header.Get(cloudinaryhook.SignatureHeader))
		}, 401, 201},
	}
	for _, tt := range tests {
		for _, k := range kinds {
			t.Run(tt.name+", "+k.name, func(t *testing.T) {
				r := cloudinaryhooktest.NewRequest(t, "/", []byte(`{}`))
				tt.change(r)
				want := tt.want
				if k.last {
					want = tt.last
				}
				got, err := invoke(t, newFunction(new(cloudinaryhooktest.MemoryStore), noImages), k.make(r, `{}`, false))
				if err != nil || got.StatusCode != want {
					t.Errorf("got status %d (%v), want %d", got.StatusCode, err, want)
				}
				if got.Body == "" && want != http.StatusCreated || (got.Headers["Allow"] == "POST") != (want == http.StatusMethodNotAllowed) {
					t.Errorf("got body %q and headers %v, want the hook's", got.Body, got.Headers)
				}
			})
		}
	}
}

// TestTwoSpellings: if the signature's header comes in two spellings, the hook
// sees both signatures and refuses the request. One of them is right.
func TestTwoSpellings(t *testing.T) {
	r := cloudinaryhooktest.NewRequest(t, "/", []byte(`{}`))
	wrong := strings.Repeat("0", 40)
	add := strings.NewReplacer(
		`"X-Cld-Signature":[`, `"x-cld-signature":["`+wrong+`"],"X-Cld-Signature":[`,
		`"X-Cld-Signature":"`, `"x-cld-signature":"`+wrong+`","X-Cld-Signature":"`,
		`"x-cld-signature":"`, `"X-Cld-Signature":"`+wrong+`","x-cld-signature":"`)
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			data, err := json.Marshal(k.make(r, `{}`, false))
			if err != nil {
				t.Fatal(err)
			}
			event := json.RawMessage(add.Replace(string(data)))
			for range 20 { // a map has no order
				got, err := invoke(t, newFunction(new(cloudinaryhooktest.MemoryStore), noImages), event)
				if err != nil || got.StatusCode != http.StatusUnauthorized {
					t.Fatalf("got status %d (%v), want 401", got.StatusCode, err)
				}
			}
		})
	}
}

// TestErrors: a payload that is not an event is an error, and the error does
// not quote it.
func TestErrors(t *testing.T) {
	for name, event := range map[string]any{
		"a list":            []string{"secret"},
		"nothing":           map[string]any{},
		"another service's": map[string]any{"source": "aws.s3", "detail": "secret"},
		"wrong kinds":       map[string]any{"httpMethod": map[string]any{"secret": 1}},
		"no base64":         map[string]any{"httpMethod": "POST", "body": "secret!", "isBase64Encoded": true},
		"no method":         map[string]any{"httpMethod": "secret method"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := invoke(t, newFunction(new(cloudinaryhooktest.MemoryStore), noImages), event); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want an error without the event's text", err)
			}
		})
	}
}

// TestTimeout: the hook gives up and answers before Lambda ends the function, and
// before Cloudinary stops waiting.
func TestTimeout(t *testing.T) {
	for _, tt := range []struct{ function, want time.Duration }{
		{10 * time.Second, 6 * time.Second},
		{15 * time.Minute, 15 * time.Second},
		{3 * time.Second, 0}, // Lambda's default
		{0, 0},
	} {
		t.Run(tt.function.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFunction(new(cloudinaryhooktest.MemoryStore), func(ctx context.Context, _ *cloudinaryhook.Image) error {
					<-ctx.Done()
					return ctx.Err()
				})
				body := `{"notification_type":"upload","resource_type":"image","public_id":"a","version":1,"format":"png"}`
				payload, err := json.Marshal(kinds[0].make(cloudinaryhooktest.NewRequest(t, "/", []byte(body)), body, false))
				if err != nil {
					t.Fatal(err)
				}
				ctx, start := t.Context(), time.Now()
				if tt.function > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.function)
					defer cancel()
				}
				data, err := f.Invoke(ctx, payload)
				if got := time.Since(start); got != tt.want {
					t.Errorf("it took %v, want %v", got, tt.want)
				}
				if tt.want == 0 {
					if err == nil || !strings.Contains(err.Error(), "20 seconds") {
						t.Errorf("got %q and %v, want an error that names the timeout to set", data, err)
					}
				} else if !strings.Contains(string(data), `"statusCode":500`) {
					t.Errorf("got %q and %v, want 500", data, err)
				}
			})
		})
	}
}

// TestSchedule: a schedule's event retries the deliveries that failed before,
// within its time.
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, created, failure := new(cloudinaryhooktest.MemoryStore), 0, errors.New("no time")
		f := newFunction(store, func(ctx context.Context, _ *cloudinaryhook.Image) error {
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 16*time.Second {
				t.Errorf("the creator has until %v, want less than the function has", deadline)
			}
			if failure == nil {
				created++
			}
			return failure
		})
		f.pending = func(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
			return store.Pending(ctx, before)
		}
		body := `{"notification_type":"upload","resource_type":"image","public_id":"a","version":1,"format":"png"}`
		r := cloudinaryhooktest.NewRequest(t, "/", []byte(body))
		if answer, err := invoke(t, f, kinds[0].make(r, body, false)); err != nil || answer.StatusCode != 500 {
			t.Fatalf("got status %d (%v), want 500", answer.StatusCode, err)
		}
		failure = nil
		schedule := events.EventBridgeEvent{Source: "aws.events", DetailType: "Scheduled Event"}
		for _, want := range []int{0, 1, 1} { // a request may still be working on a new delivery
			if _, err := invoke(t, f, schedule); err != nil {
				t.Error(err)
			}
			if created != want {
				t.Errorf("got %d images, want %d", created, want)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

// mainVariable makes this test binary the program.
const mainVariable = "LAMBDA_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A runtimeAPI plays Lambda's API, from which a program fetches events and to
// which it sends its answers.
type runtimeAPI struct {
	events  chan any
	answers chan string // "response" or "error", and the data
}

func (a *runtimeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path.Base(r.URL.Path) == "next" {
		select {
		case event := <-a.events:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "1")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(20*time.Second).UnixMilli(), 10))
			_ = json.NewEncoder(w).Encode(event)
		case <-r.Context().Done():
		}
		return
	}
	data, _ := io.ReadAll(r.Body)
	w.WriteHeader(http.StatusAccepted)
	select {
	case a.answers <- path.Base(r.URL.Path) + " " + string(data):
	case <-r.Context().Done():
	}
}

// start runs the program, and returns a function that invokes it.
func (a *runtimeAPI) start(t *testing.T, env ...string) (invoke func(event any) string) {
	t.Helper()
	server := httptest.NewServer(a)
	program := exec.Command(os.Args[0])
	program.Env = append(os.Environ(), append(env, mainVariable+"=1", "AWS_LAMBDA_RUNTIME_API="+server.Listener.Addr().String())...)
	var log bytes.Buffer
	program.Stdout, program.Stderr = &log, &log
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = program.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = program.Process.Kill()
		<-ended
		server.Close()
	})
	return func(event any) string {
		select {
		case a.events <- event:
			select {
			case got := <-a.answers:
				return got
			case <-ended:
			}
		case <-ended:
		}
		t.Fatalf("the program ended:\n%s", &log)
		return ""
	}
}

// TestProgram runs the program on a real database: the same notification comes
// twice, and then a schedule's event.
func TestProgram(t *testing.T) {
	database := postgrestest.Start(t).Database(t)
	body, err := fs.ReadFile(cloudinaryhooktest.Bodies(), "upload-latin1.json")
	if err != nil {
		t.Fatal(err)
	}
	api := &runtimeAPI{events: make(chan any), answers: make(chan string)}
	invoke := api.start(t, "DATABASE_URL="+database,
		"CLOUDINARY_API_SECRET=new", "CLOUDINARY_API_SECRET_PREVIOUS="+cloudinaryhooktest.DefaultSecret, "CLOUDINARYHOOK_TOKEN_KEY="+cloudinaryhooktest.DefaultKey)
	notification := kinds[0].make(cloudinaryhooktest.NewRequest(t, "/", body), base64.StdEncoding.EncodeToString(body), true)
	for range 2 {
		if got, want := invoke(notification), `response {"statusCode":201,`; !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got, want := invoke(events.EventBridgeEvent{Source: "aws.events"}), "response null"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var images, deliveries int
	if err := db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM images WHERE album_id = 'test-album'), (SELECT count(*) FROM cloudinary_deliveries)`).
		Scan(&images, &deliveries); err != nil || images != 1 || deliveries != 1 {
		t.Errorf("got %d images and %d deliveries (%v), want 1 of each", images, deliveries, err)
	}
}
