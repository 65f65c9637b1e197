//go:build 386 || arm

package main

import "github.com/gofiber/fiber/v3"

// useCompression does nothing: the compression middleware of fiber 3.1 does not
// compile if an int has 32 bits.
func useCompression(*fiber.App) {}
