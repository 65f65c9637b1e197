package main

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/cloudinaryhook/cloudinaryhook/hidetoken"
)

func newEcho(hook http.Handler, logs io.Writer) server {
	e := echo.New()
	e.Logger = slog.New(slog.NewTextHandler(logs, nil))
	e.Use(
		middleware.RequestLogger(),
		middleware.Recover(),
		middleware.ContextTimeout(20*time.Second),
		middleware.Gzip(),
		middleware.BodyLimit(bodyLimit), // above the hook's limit, so that the hook answers and not echo
	)
	e.Any(hookPath, echo.WrapHandler(hidetoken.ShowTo(hook)))
	return newServer(hidetoken.From(otelhttp.NewHandler(e, "app")))
}
