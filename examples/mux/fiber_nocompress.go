//go:build 386 || arm

package main

import "github.com/gofiber/fiber/v3"

// useCompression does nothing: fiber 3.1's middleware for it does not compile
// where an int has 32 bits.
func useCompression(*fiber.App) {}
