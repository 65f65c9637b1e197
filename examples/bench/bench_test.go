package main

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets compare start this test binary as a server.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestServersAcceptAndRefuse checks every server with every body.
func TestServersAcceptAndRefuse(t *testing.T) {
	for _, server := range serverNames {
		handler, err := newServer(server)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(handler)
		defer s.Close()
		for _, name := range []string{"small", "typical", "big"} {
			t.Run(server+"/"+name, func(t *testing.T) {
				content, err := body(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := check(s.Client(), server, s.URL, content); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestCheckFindsAServerThatRefusesNothing: otherwise check would prove nothing.
func TestCheckFindsAServerThatRefusesNothing(t *testing.T) {
	handler, err := newServer("empty")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(handler)
	defer s.Close()
	if err := check(s.Client(), "open", s.URL, []byte(failedUpload)); err == nil {
		t.Error("check got nil of a server that accepts everything, want an error")
	}
}

func TestParseResult(t *testing.T) {
	tests := []struct {
		name, out string
		want      sample
		ok        bool
	}{
		{"good", "Running 1s test\nRESULT 2000 1000000 500 2500 0\n", sample{2000, 500 * time.Microsecond, 2500 * time.Microsecond, 10 * time.Microsecond}, true},
		{"failures", "RESULT 2000 1000000 500 2500 1\n", sample{}, false},
		{"no requests", "RESULT 0 1000000 0 0 0\n", sample{}, false},
		{"no result", "Running 1s test\n", sample{}, false},
		{"half a result", "RESULT 2000 10", sample{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseResult(tt.out, 20*time.Millisecond)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(sample{})); diff != "" || (err == nil) != tt.ok {
				t.Errorf("error got %v, want none: %v; sample differs (-want +got):\n%s", err, tt.ok, diff)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-slice", "100ms"}, {"-slice", "1500ms"}, {"-connections", "0"}, {"-servers", "naive,empty"}} {
		if _, err := parseConfig(args, new(strings.Builder)); err == nil {
			t.Errorf("parseConfig(%v) got no error", args)
		}
	}
}

// TestCompare runs the whole comparison, as briefly as possible.
func TestCompare(t *testing.T) {
	for _, program := range []string{"taskset", "chrt", "wrk"} {
		if _, err := exec.LookPath(program); err != nil && os.Getenv("CI") == "" {
			t.Skipf("%s is not installed; CI installs it", program)
		}
	}
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	var stdout, stderr strings.Builder
	args := []string{"-rounds", "1", "-servers", "empty,cloudinaryhook", "-bodies", "small", "-server-cores", "0", "-client-cores", "0", "-awake"}
	if err := run(context.Background(), args, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	for _, want := range []string{"kept awake: true", "| empty | 1.000 |\n", "| cloudinaryhook | .", "| small | cloudinaryhook | "} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the output has no %q:\n%s", want, &stdout)
		}
	}
}
