package main

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/cloudinaryhook/cloudinaryhook/hidetoken"
)

func newNetHTTP(hook http.Handler, log io.Writer) server {
	mux := http.NewServeMux()
	mux.Handle(hookPath, hidetoken.ShowTo(hook)) // with "POST "+hookPath the mux itself would answer other methods
	return newServer(hidetoken.From(aroundNetHTTP(mux, log)))
}

// newNetHTTPWithTimeout has a TimeoutHandler in front of the whole app. Its
// time must be longer than the hook's, which is Config.Timeout plus three
// seconds. Otherwise it answers 503 while the work goes on.
func newNetHTTPWithTimeout(hook http.Handler, log io.Writer) server {
	mux := http.NewServeMux()
	mux.Handle(hookPath, hidetoken.ShowTo(hook))
	app := http.TimeoutHandler(aroundNetHTTP(mux, log), 19*time.Second, "")
	return newServer(hidetoken.From(app))
}

func aroundNetHTTP(mux http.Handler, log io.Writer) http.Handler {
	app := http.MaxBytesHandler(mux, bodyLimit)
	app = gzhttp.GzipHandler(app)
	app = logRequests(app, slog.New(slog.NewTextHandler(log, nil)))
	return otelhttp.NewHandler(app, "app")
}

func logRequests(next http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer logger.InfoContext(r.Context(), "request", "method", r.Method, "url", r.URL.String(), "request_uri", r.RequestURI)
		next.ServeHTTP(w, r)
	})
}
