//go:build !unix

package main

import "errors"

func raiseFileLimit() error { return errors.ErrUnsupported }
