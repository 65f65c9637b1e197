package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/gofiber/fiber/v3/middleware/logger"
	recoverer "github.com/gofiber/fiber/v3/middleware/recover"
)

// newFiber needs no hidetoken as long as the logger's format has ${path}, like
// the default format, and neither ${url} nor ${queryParams}. Fiber reads the
// body before it calls the hook, within ReadTimeout and up to BodyLimit.
func newFiber(hook http.Handler, logs io.Writer) server {
	app := fiber.New(fiber.Config{ReadTimeout: 15 * time.Second, BodyLimit: bodyLimit})
	app.Use(logger.New(logger.Config{Stream: logs, DisableColors: true}))
	app.Use(recoverer.New())
	useCompression(app)
	app.All(hookPath, adaptor.HTTPHandler(hook))
	return fiberServer{app}
}

type fiberServer struct{ app *fiber.App }

func (s fiberServer) Serve(l net.Listener) error {
	return s.app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true})
}

func (s fiberServer) Shutdown(ctx context.Context) error { return s.app.ShutdownWithContext(ctx) }
