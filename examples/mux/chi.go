package main

import (
	"io"
	"log"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/cloudinaryhook/cloudinaryhook/hidetoken"
)

func newChi(hook http.Handler, logs io.Writer) server {
	r := chi.NewRouter()
	r.Use(
		func(next http.Handler) http.Handler { return otelhttp.NewHandler(next, "app") },
		middleware.RequestID,
		middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: log.New(logs, "", log.LstdFlags), NoColor: true}),
		middleware.Recoverer,
		middleware.Timeout(20*time.Second), // cancels the context; the hook's work goes on all the same
		middleware.Compress(5),
		middleware.RequestSize(bodyLimit),
	)
	r.Handle(hookPath, hidetoken.ShowTo(hook))
	return newServer(hidetoken.From(r))
}
