package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const maxRecorded = 32 << 20 // of a body, in bytes

// receive serves until ctx ends. It keeps nothing but recordings. For each
// request it says whether a receiver with this environment would accept it.
func (c *listenCommand) receive(ctx context.Context) error {
	listener, err := net.Listen("tcp", c.addr) //nolint:noctx // it returns at once
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(c.serve), ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
	c.warn()
	fmt.Fprintf(c.stderr, "receiving at http://%s in the place of the app, which gets nothing; Ctrl-C ends it\n", listener.Addr())
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		hurry, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(hurry)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return err
	}
	return <-stopped
}

// warn names the secrets and keys that would stop a receiver from starting.
// This command goes on, because it must explain them.
func (c *listenCommand) warn() {
	x := c.x
	if len(x.secrets) == 0 {
		x.found("secret-missing", "")
	}
	x.examineOddSecrets(true)
	if !x.tokenless {
		if len(x.keys) == 0 {
			x.found("key-missing", "")
		}
		x.examineOddKeys()
	}
	for _, f := range x.sorted() {
		fmt.Fprintln(c.stderr, wrap("   ", fmt.Sprintf("warning: %s: %s %s %s", f.id, f.what, f.detail, f.do)))
	}
}

// serve answers as a receiver would, so that Cloudinary's own log of deliveries
// shows the failure too.
func (c *listenCommand) serve(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRecorded))
	if err != nil {
		c.say(line(begun, body, "the body could not be read", time.Since(begun)))
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return
	}
	request := &recording{Request: r, body: body, at: begun}
	recordError := c.record(request)
	x := c.x
	x.at, x.recorded = begun, true
	var explained strings.Builder
	status := http.StatusCreated
	if x.explain(r.Context(), request, &explained) != nil {
		status = http.StatusUnauthorized
	}
	if r.Method != http.MethodPost {
		status = http.StatusMethodNotAllowed
	}
	details := ""
	if status != http.StatusCreated {
		details = "\n" + explained.String()
	}
	if recordError != nil {
		details += "\nNot recorded: " + printable(recordError.Error())
		status = http.StatusInternalServerError // so that Cloudinary sends it again
	}
	c.say(line(begun, body, fmt.Sprint(status), time.Since(begun)) + details)
	w.WriteHeader(status)
}
