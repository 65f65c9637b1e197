package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// A listenCommand holds the settings from flags and environment.
type listenCommand struct {
	*process
	addr            string // "": poll instead
	channel, batch  string
	forwardTo, api  string
	claims          string
	printOnly       bool
	folder          string // of -record
	timeout         time.Duration
	x               examination // the part that is the same for all requests
	mu              sync.Mutex  // guards the output
	recorded        atomic.Int64
	recordingsBegin string // the beginning of their names
}

func runListen(ctx context.Context, p *process, args []string) error {
	c := &listenCommand{process: p, recordingsBegin: time.Now().UTC().Format("20060102T150405")}
	flags := flag.NewFlagSet("listen", flag.ContinueOnError)
	flags.StringVar(&c.channel, "channel", "", "poll this `channel` of a trigger for poll://CHANNEL")
	flags.StringVar(&c.batch, "batch", "", "poll this batch `ID` of a trigger for poll://*")
	flags.StringVar(&c.addr, "addr", "", "instead of polling, receive at this `address`, such as 127.0.0.1:8081, behind a tunnel, in the app's place; the app gets nothing")
	flags.StringVar(&c.forwardTo, "forward-to", "", "the app's `URL`, to which polled notifications are posted; listen adds a token, unless the URL has one")
	flags.StringVar(&c.claims, "claims", "", "the claims of the token for -forward-to, as a `JSON` object; or give -tokenless")
	flags.StringVar(&c.folder, "record", "", "keep each request as raw HTTP in this `folder`, for explain")
	flags.BoolVar(&c.printOnly, "print", false, "only show whole notifications, and acknowledge none")
	flags.DurationVar(&c.timeout, "timeout", 20*time.Second, "the `duration` to wait for the app's answer; Cloudinary waits 20 s")
	flags.StringVar(&c.api, "api", "", "the polling API's base `URL`, for tests; default: Cloudinary's")
	c.x.receiverFlags(flags)
	if err := p.parse(flags, "", args); err != nil {
		return err
	}
	if err := c.check(flags.NArg()); err != nil {
		return err
	}
	if c.folder != "" {
		if err := os.MkdirAll(c.folder, 0o700); err != nil {
			return err
		}
	}
	if err := c.x.readEnvironment(p); err != nil {
		return err
	}
	if c.addr != "" {
		return c.receive(ctx)
	}
	return c.poll(ctx)
}

func (c *listenCommand) check(arguments int) error {
	modes := 0
	for _, mode := range []string{c.channel, c.batch, c.addr} {
		if mode != "" {
			modes++
		}
	}
	switch {
	case arguments > 0:
		return usagef("listen takes no arguments")
	case modes != 1:
		return usagef("give exactly one of -channel, -batch and -addr")
	case c.addr != "" && (c.forwardTo != "" || c.claims != "" || c.printOnly):
		return usagef("-forward-to, -claims and -print are for polling, not for -addr")
	case strings.ContainsAny(c.addr, "/?"): // package net would quote it, and the token in it
		return usagef("-addr: not an address such as 127.0.0.1:8081")
	case strings.Contains(c.folder, "://"): // the token would be in the name of a folder
		return usagef("-record: not a folder")
	case c.addr == "" && c.forwardTo == "" && !c.printOnly && c.folder == "":
		return usagef("give -forward-to URL, -print or -record FOLDER")
	case c.printOnly && c.forwardTo != "":
		return usagef("-print only shows: leave out -forward-to")
	case hasToken(c.forwardTo) && (c.claims != "" || c.x.tokenless):
		return usagef("-forward-to has a token already, and listen uses it as it is: leave out -claims and -tokenless")
	case c.forwardTo != "" && c.claims == "" && !c.x.tokenless && !hasToken(c.forwardTo):
		return usagef(`give the token's -claims, as in -claims '{"album_id":"7"}', or -tokenless`)
	case c.timeout <= 0 || c.timeout > maxForward:
		return usagef("-timeout must be more than 0, and at most %v", maxForward)
	case c.forwardTo != "":
		return checkURL("-forward-to", c.forwardTo)
	}
	return nil
}

// say writes one or more lines that belong together.
func (c *listenCommand) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.stdout, text+"\n")
}

// line returns the line that is shown for a notification. The type and the
// public ID are outside text, so it escapes them and hides tokens.
func line(at time.Time, body []byte, status string, took time.Duration) string {
	kind, publicID := "-", "no JSON object"
	if payload, err := cloudinaryhook.ParsePayload(body); err == nil {
		kind, publicID = "no type", strconv.Quote(hideTokens(payload.Common().PublicID))
		if t := payload.Common().Type; t != "" {
			kind = printable(hideTokens(string(t)))
		}
	}
	return fmt.Sprintf("%s  %.40s  %.200s  %s  %v", at.Format(time.TimeOnly), kind, publicID, status, round(took))
}

// record writes a request to a file, if -record was given.
func (c *listenCommand) record(r *recording) error {
	if c.folder == "" {
		return nil
	}
	name := fmt.Sprintf("%s-%04d.http", c.recordingsBegin, c.recorded.Add(1)) // no part of the request is in the name
	return r.save(filepath.Join(c.folder, name))
}
