package main

import (
	"io"
	"net/http"

	"github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/cloudinaryhook/cloudinaryhook/hidetoken"
)

func newGin(hook http.Handler, logs io.Writer) server {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(
		gin.LoggerWithWriter(logs),
		gin.RecoveryWithWriter(logs), // logs the whole request when a handler aborts
		gzip.Gzip(gzip.DefaultCompression),
	)
	r.Any(hookPath, gin.WrapH(hidetoken.ShowTo(hook)))
	return newServer(hidetoken.From(otelhttp.NewHandler(http.MaxBytesHandler(r, bodyLimit), "app")))
}
