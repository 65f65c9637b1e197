//go:build !386 && !arm

package main

import (
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/compress"
)

func useCompression(app *fiber.App) { app.Use(compress.New()) }
