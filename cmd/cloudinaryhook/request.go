package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// A recording is a request as it came.
type recording struct {
	*http.Request           // its Body is read
	body          []byte    // exactly
	at            time.Time // when it came; zero if that is not known
}

// write writes the request as HTTP/1.1. Its Date header is the time at which it
// came.
func (r *recording) write(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nDate: %s\r\n", r.Method, r.URL.RequestURI(), r.Host, r.at.UTC().Format(http.TimeFormat))
	if err := r.Header.WriteSubset(&b, map[string]bool{"Date": true, "Content-Length": true, "Transfer-Encoding": true}); err != nil {
		return err
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(r.body))
	b.Write(r.body)
	_, err := b.WriteTo(w)
	return err
}

// save writes the request to a file that only this user can read, because it
// holds a token and a valid signature.
func (r *recording) save(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the user names the folder
	if err != nil {
		return err
	}
	return errors.Join(r.write(f), f.Close())
}

// readRecording reads a request in its raw form. All bytes after the headers
// are the body, even if Content-Length says something else: the file may have
// been made by hand, or the body may be cut off, and explain must find that.
func readRecording(file []byte) (*recording, error) {
	reader := bufio.NewReader(bytes.NewReader(file))
	request, err := http.ReadRequest(reader)
	if err != nil {
		return nil, errors.New("it is not an HTTP request: that begins with a line such as POST /path HTTP/1.1, then come headers, an empty line and the body")
	}
	r := &recording{Request: request}
	if len(request.TransferEncoding) > 0 {
		r.body, err = io.ReadAll(request.Body)
		if err != nil {
			return nil, errors.New("its chunked body is malformed")
		}
	} else {
		r.body, _ = io.ReadAll(reader) // from memory
	}
	if at, err := http.ParseTime(request.Header.Get("Date")); err == nil {
		r.at = at
	}
	return r, nil
}

// requestOf makes a request from -body, -signature and -timestamp.
func requestOf(body []byte, signature, timestamp string) *recording {
	r := &recording{Request: &http.Request{Method: http.MethodPost, Header: make(http.Header)}, body: body}
	if signature != "" {
		r.Header.Set(cloudinaryhook.SignatureHeader, signature)
	}
	if timestamp != "" {
		r.Header.Set(cloudinaryhook.TimestampHeader, timestamp)
	}
	return r
}
