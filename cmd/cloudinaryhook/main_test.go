package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// program is the command that tests run: it is this test binary itself. So it
// has the race detector, and Go runs the tests again after any change of the
// command. TestBuilt runs the command as "go build" makes it.
var program = os.Args[0]

const asProgram = "CLOUDINARYHOOK_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// An environment is the program's whole environment.
type environment map[string]string

func testEnvironment() environment {
	return environment{secretVariable: cloudinaryhooktest.DefaultSecret, keyVariable: cloudinaryhooktest.DefaultKey}
}

func (e environment) command(ctx context.Context, args ...string) *exec.Cmd {
	// Without a umask, so that the program itself decides who may read a file.
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `umask 0; exec "$0" "$@"`, program}, args...)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), asProgram + "=1",
		"GORACE=atexit_sleep_ms=0", // otherwise each run with the race detector takes a second longer
	}
	for name, value := range e {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// run runs the program and returns what it wrote and its exit status.
func (e environment) run(t *testing.T, stdin string, args ...string) (output string, status int) {
	t.Helper()
	cmd := e.command(t.Context(), args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for name, value := range e {
		if len(value) > 8 && name != cloudVariable && !strings.HasSuffix(name, fileSuffix) && strings.Contains(out.String(), value) {
			t.Errorf("%q shows the value of %s:\n%s", args, name, &out)
		}
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// newReceiver starts the real handler on a real socket.
func newReceiver(t *testing.T) (endpoint string, store *cloudinaryhooktest.MemoryStore) {
	t.Helper()
	store = new(cloudinaryhooktest.MemoryStore)
	handler, err := cloudinaryhook.NewHandler(receiverConfig(store))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/hook", handler)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/hook", store
}

func receiverConfig(store cloudinaryhook.Store) cloudinaryhook.Config {
	return cloudinaryhook.Config{
		Signature: &cloudinaryhook.SignatureVerifier{Secrets: []string{cloudinaryhooktest.DefaultSecret}},
		Token:     &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(cloudinaryhooktest.DefaultKey)}, Require: []string{"album_id"}},
		Processor: &cloudinaryhook.Processor{Store: store, Notify: func(context.Context, *cloudinaryhook.Delivery) error { return nil }},
		MaxBody:   64 << 10,
	}
}

func writeFile(t *testing.T, content string) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A refusal is a call that fails before it does anything.
type refusal struct {
	name   string
	args   []string
	status int
	says   string
}

// checkRefusals runs a subcommand with a full environment. Its standard input
// is neither a body, nor a request, nor a token.
func checkRefusals(t *testing.T, command string, refusals []refusal) {
	t.Helper()
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			got, status := pollEnvironment().run(t, " \n", append([]string{command}, tt.args...)...)
			if status != tt.status || !strings.Contains(got, tt.says) {
				t.Errorf("got %d and %q, want %d and %q", status, got, tt.status, tt.says)
			}
		})
	}
}

// TestBuilt runs the command as it is installed. Its exit status is 0 for
// success, 1 if something was refused or failed, and 2 for wrong usage.
func TestBuilt(t *testing.T) {
	binary := program
	defer func() { program = binary }()
	program = filepath.Join(t.TempDir(), "cloudinaryhook")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tests := []struct {
		args []string
		want int
		says string
	}{
		{nil, 2, "usage: cloudinaryhook COMMAND"},
		{[]string{"-h"}, 0, "usage: cloudinaryhook COMMAND"},
		{[]string{"help"}, 0, "usage: cloudinaryhook COMMAND"},
		{[]string{"\x1b[31msend"}, 2, `"\x1b[31msend" is not a command`},
		{[]string{"send", "-h"}, 0, "usage: cloudinaryhook send"},
		{[]string{"token", "-h"}, 0, "usage: cloudinaryhook token"},
		{[]string{"send", "-no-such-flag"}, 2, "not defined: -no-such-flag"},
		{[]string{"token", "argument"}, 2, "takes no arguments"},
		{[]string{"send", "-url", "http://127.0.0.1:1/", "upload"}, 1, "nothing answered"},
		{[]string{"token", "-claims", "{}"}, 0, "eyJ"},
		{[]string{"explain", "-request", os.DevNull}, 1, "not an HTTP request"},
		{[]string{"listen"}, 2, "exactly one of"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			got, status := testEnvironment().run(t, "", tt.args...)
			if status != tt.want || !strings.Contains(got, tt.says) {
				t.Errorf("got %d and %q, want %d and %q", status, got, tt.want, tt.says)
			}
			if strings.Contains(got, "test.v") || strings.Contains(got, "\x1b") {
				t.Errorf("got %q, want no flags of package testing, and nothing that moves a cursor", got)
			}
		})
	}
}

// TestDependencies: the command needs only the library and the library's own
// dependencies.
func TestDependencies(t *testing.T) {
	list := func(pattern string) string {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.Module.Path}}{{end}}", pattern).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	library := list("github.com/cloudinaryhook/cloudinaryhook")
	for module := range strings.FieldsSeq(list(".")) {
		if !strings.Contains(library, module) {
			t.Errorf("got %s among its dependencies, want only the library's", module)
		}
	}
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if strings.Contains(path, ".") && !strings.HasPrefix(path, "github.com/cloudinaryhook/cloudinaryhook") {
			t.Errorf("it imports %s, want the standard library and this module alone", path)
		}
	}
}

func TestSecretsAreTakenExactly(t *testing.T) {
	endpoint, _ := newReceiver(t)
	exact, newline := writeFile(t, cloudinaryhooktest.DefaultSecret), writeFile(t, cloudinaryhooktest.DefaultSecret+"\n")
	key := cloudinaryhooktest.DefaultKey
	tests := []struct {
		name string
		env  environment
		want int
		says string
	}{
		{"variable", testEnvironment(), 0, "Accepted"},
		{"file", environment{secretVariable + "_FILE": exact, keyVariable: key}, 0, "Accepted"},
		{"file with a newline", environment{secretVariable + "_FILE": newline, keyVariable: key}, 2, "CLOUDINARY_API_SECRET_FILE: no usable secret"},
		{"white space", environment{secretVariable: " " + cloudinaryhooktest.DefaultSecret, keyVariable: key}, 2, "begins with ' '"},
		{"a comma belongs to it", environment{secretVariable: cloudinaryhooktest.DefaultSecret + ",older", keyVariable: key}, 1, "refused"},
		{"no file", environment{secretVariable + "_FILE": exact + "x", keyVariable: key}, 1, "no such file"},
		{"both", environment{secretVariable + "_FILE": exact, secretVariable: "s", keyVariable: key}, 1, "both set"},
		{"URL", environment{urlVariable: "cloudinary://123:another@demo", keyVariable: key}, 1, "refused"},
		{"a variable before the URL", environment{urlVariable: "cloudinary://123:another@demo", secretVariable: cloudinaryhooktest.DefaultSecret, keyVariable: key}, 0, "Accepted"},
		{"a malformed URL", environment{urlVariable: "https://example.com/another", keyVariable: key}, 1, "not of the form"},
		{"no secret", environment{keyVariable: key}, 2, secretVariable},
		{"no key", environment{secretVariable: "secret"}, 2, keyVariable},
		{"a short key", environment{secretVariable: "secret", keyVariable: "short"}, 1, "fewer than 32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, status := tt.env.run(t, "", "send", "-url", endpoint, "upload")
			if status != tt.want || !strings.Contains(got, tt.says) {
				t.Errorf("got %d and %q, want %d and %q", status, got, tt.want, tt.says)
			}
			if strings.Contains(got, "another") {
				t.Errorf("got %q, want no secret in it", got)
			}
		})
	}
}

// TestNoURLInMessages: no message holds the token of a URL, or the password,
// whose flag was forgotten or that is in a wrong place.
func TestNoURLInMessages(t *testing.T) {
	const path = "https://u:hunter2@app.example/hook"
	url := path + "?token=eyJhbGciOiJIUzI1NiJ9.eyJhIjoiYiJ9.hunter2"
	folder := t.TempDir() // so that a wrong program creates nothing in this one
	tests := []struct {
		name string
		args []string
	}{
		{"for a command", []string{url}},
		{"for a command, without a scheme", []string{strings.TrimPrefix(url, "https://")}},
		{"for a body", []string{"send", url}},
		{"for a body, without a token", []string{"send", path}},
		{"a token for a body", []string{"send", "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiYiJ9.hunter2"}},
		{"for a number", []string{"send", "-n", url, "upload"}},
		{"for a boolean", []string{"send", "-retry=" + url, "upload"}},
		{"for a flag", []string{"send", "-" + url, "upload"}},
		{"a secret after its flag", []string{"send", "-secrethunter2-and-more", "upload"}},
		{"for a duration", []string{"listen", "-timeout", url}},
		{"for an address", []string{"listen", "-addr", url}},
		{"for an address, without a scheme", []string{"listen", "-addr", "app.example?" + url}},
		{"for a folder", []string{"listen", "-api", "http://127.0.0.1:1", "-channel", "dev", "-record", url}},
		{"for a base URL", []string{"listen", "-channel", "dev", "-print", "-api", url + "\x7f"}},
		{"for a recording", []string{"explain", "-request", url}},
		{"a token for a recording", []string{"explain", "-request", "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiYiJ9.hunter2"}},
		{"for a body to explain", []string{"explain", "-body", url}},
		{"for a time", []string{"explain", "-request", "-", "-at", url}},
		{"as an argument of token", []string{"token", "-check", url}},
		{"for claims", []string{"token", "-claims", url}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a wrong program listens for ever
			defer cancel()
			cmd := pollEnvironment().command(ctx, tt.args...)
			cmd.Dir = folder
			out, err := cmd.CombinedOutput()
			if err == nil || len(out) == 0 || strings.Contains(string(out), "hunter2") {
				t.Errorf("got %v and %s, want a failure and a message without the URL", err, out)
			}
		})
	}
}
