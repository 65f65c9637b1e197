package service

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestListenErrors: an address in an error is one that was understood. Another
// may be a database's URL, with a password in it.
func TestListenErrors(t *testing.T) {
	listeners, err := Listen("127.0.0.1:0", "")
	if err != nil || len(listeners) != 1 {
		t.Fatalf("got %d listeners and %v, want 1", len(listeners), err)
	}
	defer CloseAll(listeners)
	used := listeners[0].Addr().String()
	for _, tt := range []struct{ addr, want string }{
		{used, used},
		{"postgres://u:hunter2@127.0.0.1/d", errAddress.Error()},
		{"u:hunter2@127.0.0.1", errAddress.Error()},
		{"hunter2@127.0.0.1:80", errAddress.Error()},
	} {
		if listeners, err := Listen(tt.addr); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			CloseAll(listeners)
			t.Errorf("%s got %v, want %q in the error, and no password", tt.addr, err, tt.want)
		}
	}
}

// TestNotReadyIsLogged: the log has the reason, but not if the load balancer
// ended the request, because that says nothing about the program.
func TestNotReadyIsLogged(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		ended bool // the request
		err   error
		want  string
	}{
		"ready":               {false, nil, ""},
		"not ready":           {false, broken, `"not ready: no database" error=broken`},
		"the request ended":   {true, nil, ""},
		"it ended, not ready": {true, broken, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := &Service{Logger: slog.New(slog.NewTextHandler(&log, nil)), Ready: func(ctx context.Context) (string, error) {
				return "no database", errors.Join(tt.err, ctx.Err())
			}}
			mux := http.NewServeMux()
			s.RegisterHealth(mux)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.ended {
				cancel()
			}
			mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
			if got := log.String(); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("got the log %q, want %q", got, tt.want)
			}
		})
	}
}
