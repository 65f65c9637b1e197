package main

import (
	"io"
	"log"
	"net/http"

	"github.com/gorilla/handlers"
	"github.com/gorilla/mux"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/cloudinaryhook/cloudinaryhook/hidetoken"
)

func newGorilla(hook http.Handler, logs io.Writer) server {
	r := mux.NewRouter()
	r.Use(
		func(next http.Handler) http.Handler { return otelhttp.NewHandler(next, "app") },
		func(next http.Handler) http.Handler { return handlers.CombinedLoggingHandler(logs, next) },
		handlers.RecoveryHandler(handlers.RecoveryLogger(log.New(logs, "", log.LstdFlags))),
		handlers.CompressHandler,
		func(next http.Handler) http.Handler { return http.MaxBytesHandler(next, bodyLimit) },
	)
	r.Handle(hookPath, hidetoken.ShowTo(hook))
	return newServer(hidetoken.From(r))
}
