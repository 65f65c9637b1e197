// Package httperr makes the errors of an HTTP client safe to print and to log.
package httperr

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
)

// WithoutPeerText returns an error without the URL and without text that the
// server chose. A server may repeat the URL, and a token in it: net/http quotes
// a malformed header line or Location. It keeps timeouts, network errors,
// certificate errors, a canceled context and a closed connection. Every other
// error becomes a fixed text, and errors.Is does not find the original.
func WithoutPeerText(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // without the URL
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return timeout
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok {
		return failed
	}
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failed
	}
	for _, cause := range []error{context.Canceled, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, cause) {
			return cause
		}
	}
	return errors.New("the server does not speak HTTP, or not TLS")
}
