package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
	"github.com/cloudinaryhook/cloudinaryhook/poll"
)

const (
	maxForward  = 5 * time.Minute  // the limit of -timeout; the API hides a message for ten minutes at most
	ackTime     = 10 * time.Second // for an acknowledgement, after Ctrl-C too
	idlePause   = time.Second      // an API may answer at once; this limits the requests to it
	recheckTime = 30 * time.Second // a message that was left comes again after this and -timeout
)

// A poller posts the notifications of a channel to an app.
type poller struct {
	*listenCommand
	client      *poll.Client
	tokenClaims claimSet
	key         []byte // nil: no token
	http        *http.Client
	seen        sync.Map // by signature: a message that is not posted is shown only once
}

func (c *listenCommand) poll(ctx context.Context) error {
	account, err := c.account()
	if err != nil {
		return err
	}
	if account.cloud == "" || account.apiKey == "" || len(account.secrets) == 0 {
		return usagef("to poll, set %s, %s and %s, or %s", cloudVariable, apiKeyVariable, secretVariable, urlVariable)
	}
	p := &poller{
		listenCommand: c,
		client: &poll.Client{
			CloudName: account.cloud, APIKey: account.apiKey, APISecret: account.secrets[0].Value,
			Channel: c.channel, BatchID: c.batch, BaseURL: c.api, Visibility: c.timeout + recheckTime,
			Logger: slog.New(slog.NewTextHandler(c.stderr, nil)),
		},
		http: newClient(c.timeout, 10),
	}
	if c.forwardTo != "" {
		if err := p.prepare(); err != nil {
			return err
		}
	}
	fmt.Fprintln(c.stderr, "polling; Ctrl-C ends it")
	defer context.AfterFunc(ctx, func() { fmt.Fprintln(c.stderr, "interrupted; finishing the current notifications") })()
	return p.run(ctx)
}

// prepare checks that notifications can be posted, before any is received.
func (p *poller) prepare() (err error) {
	if !p.x.tokenless && !hasToken(p.forwardTo) {
		if p.tokenClaims, err = parseClaims(p.claims); err != nil {
			return err
		}
		if p.key, err = p.tokenKey(); err != nil {
			return err
		}
	}
	_, err = p.notification(&poll.Message{})
	return err
}

// run polls until ctx ends, and then finishes its current messages.
func (p *poller) run(ctx context.Context) error {
	for {
		begun := time.Now()
		messages, err := p.client.Receive(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // Ctrl-C is the usual end
		}
		if err != nil {
			return err
		}
		acknowledged, err := p.handleAll(context.WithoutCancel(ctx), messages)
		if err != nil {
			return err
		}
		if acknowledged == 0 {
			_ = sleep(ctx, idlePause-time.Since(begun))
		}
	}
}

// handleAll posts messages at the same time, since their order means nothing, and
// acknowledges those that the app has answered with 2xx.
func (p *poller) handleAll(ctx context.Context, messages []poll.Message) (acknowledged int, err error) {
	var mu sync.Mutex
	var handles []string
	var posts sync.WaitGroup
	for i := range messages {
		posts.Go(func() {
			if p.handle(ctx, &messages[i]) {
				mu.Lock()
				defer mu.Unlock()
				handles = append(handles, messages[i].ReceiptHandle)
			}
		})
	}
	posts.Wait()
	// The client retries by itself. A message that is not acknowledged in time comes again.
	ctx, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	err = p.client.Acknowledge(ctx, handles...)
	for _, lasting := range []error{poll.ErrUnauthorized, poll.ErrNotFound, poll.ErrRefused, poll.ErrAnswerTooLarge} {
		if errors.Is(err, lasting) {
			return len(handles), err
		}
	}
	if err != nil {
		p.say(fmt.Sprintf("Not acknowledged, so Cloudinary sends them again: %s.", reason(err)))
	}
	return len(handles), nil
}

// handle records, posts or shows one message, and reports whether it may be acknowledged.
func (p *poller) handle(ctx context.Context, m *poll.Message) (acknowledge bool) {
	if _, seen := p.seen.Load(m.Signature); seen {
		return false
	}
	if m.ReceiptHandle == "" || m.Body == nil {
		p.say("A message is incomplete. It was left on the channel.")
		return false
	}
	n, err := p.notification(m)
	if err != nil {
		p.say("Left on the channel: " + printable(err.Error()))
		return false
	}
	begun := time.Now()
	if err := p.recordMessage(ctx, m, n); err != nil {
		p.say("Not recorded, and left on the channel: " + printable(err.Error()))
		return false
	}
	if p.forwardTo == "" {
		p.seen.Store(m.Signature, true)
		text := line(begun, m.Body, "left", 0)
		if p.printOnly {
			text += "\n" + hideTokens(readable(m.Body))
		}
		p.say(text)
		return false
	}
	answer, err := n.Post(ctx, p.http)
	accepted := err == nil && answer.Status/100 == 2
	p.say(line(begun, m.Body, p.status(ctx, m, answer, err), time.Since(begun)))
	return accepted
}

// status describes the app's answer. If that is 401, status names the cause.
func (p *poller) status(ctx context.Context, m *poll.Message, answer sender.Answer, err error) string {
	switch {
	case err != nil:
		return "no answer (" + printable(err.Error()) + "), left"
	case answer.Status/100 == 2:
		return strconv.Itoa(answer.Status)
	case answer.Status != http.StatusUnauthorized:
		return strconv.Itoa(answer.Status) + ", left"
	}
	x := p.x
	x.at, x.recorded = time.Now(), true
	if x.examineSignature(ctx, requestOf(m.Body, m.Signature, m.Timestamp).Header, m.Body) == nil {
		return "401, left (the signature is right for this environment)"
	}
	return "401, left (" + strings.Join(ids(x.sorted()), ", ") + ")"
}

// notification returns the message as Cloudinary would post it to the app.
func (p *poller) notification(m *poll.Message) (*sender.Notification, error) {
	url := p.forwardTo
	if p.key != nil {
		claims := p.tokenClaims.copy()
		claims.expire(2 * time.Hour)
		var err error
		if url, err = signURL(p.key, claims, url); err != nil {
			return nil, inFlag("-forward-to", err)
		}
	}
	return sender.Signed(url, m.Body, m.Timestamp, m.Signature), nil
}

func (p *poller) recordMessage(ctx context.Context, m *poll.Message, n *sender.Notification) error {
	r, err := n.Request(ctx)
	if err != nil {
		return err
	}
	return p.record(&recording{Request: r, body: m.Body, at: time.Now()})
}
