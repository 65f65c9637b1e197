package main

import (
	"context"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

const defaultURL = "http://127.0.0.1:8080/api/v1/cloudinary"

// A sendCommand holds the settings from flags and environment.
type sendCommand struct {
	*process
	sender  sender.Sender
	claims  claimSet
	source  source
	client  *http.Client
	count   int
	workers int
	retry   bool
	minute  time.Duration
	print   string
}

// sendFlags are the flags that are not fields of a sendCommand.
type sendFlags struct {
	secret, claims                 string
	tokenless, sha256, same, fresh bool
	timeout                        time.Duration
}

func runSend(ctx context.Context, p *process, args []string) error {
	c, err := parseSend(p, args)
	if err != nil {
		return err
	}
	first, err := c.notification() // an error of signing comes before anything is sent
	switch {
	case err != nil:
		return err
	case c.print != "":
		_, err = fmt.Fprintln(p.stdout, first.Curl())
		return err
	case c.count > 1:
		return c.sendMany(ctx)
	}
	return c.sendOne(ctx)
}

func parseSend(p *process, args []string) (*sendCommand, error) {
	c := &sendCommand{process: p}
	var f sendFlags
	flags := flag.NewFlagSet("send", flag.ContinueOnError)
	flags.StringVar(&c.sender.Endpoint, "url", defaultURL, "the receiver's `URL`; send adds a token, unless the URL has one")
	flags.StringVar(&f.secret, "secret", "", "API `secret`, for tests: others can read arguments; default: $"+secretVariable)
	flags.StringVar(&f.claims, "claims", "", "the token's claims, as a `JSON` object; default: a test organization and album, or the claims of a stored Delivery")
	flags.BoolVar(&f.tokenless, "tokenless", false, "send no token")
	flags.BoolVar(&f.sha256, "sha256", false, "sign with SHA-256 instead of SHA-1")
	flags.BoolVar(&f.same, "same", false, "with -n, send one notification again and again, instead of many")
	flags.BoolVar(&f.fresh, "fresh", false, "give the body of a file a new request_id, so that it is no duplicate")
	flags.IntVar(&c.count, "n", 1, "send `n` notifications")
	flags.IntVar(&c.workers, "c", 1, "send `n` of them at the same time")
	flags.BoolVar(&c.retry, "retry", false, "if the notification is not accepted, send it again 3 minutes later, then 6, then 9, as Cloudinary does")
	flags.DurationVar(&c.minute, "minute", time.Minute, "the `duration` of a minute of -retry")
	flags.DurationVar(&f.timeout, "timeout", 20*time.Second, "the `duration` to wait for an answer; Cloudinary waits 20 s")
	flags.StringVar(&c.print, "print", "", "print the request instead of sending it; the only `format` is \"curl\", a command with a token and a signature")
	flags.DurationVar(&c.sender.Age, "age", 0, "sign with a time this `duration` ago; receivers accept up to 2h, and up to 5m in the future (-5m)")
	if err := p.parse(flags, "TYPE|SAMPLE|FILE|-", args, helpOnSamples()...); err != nil {
		return nil, err
	}
	if err := c.check(flags.NArg(), f); err != nil {
		return nil, err
	}
	if f.sha256 {
		c.sender.Hash = crypto.SHA256
	}
	c.client = newClient(f.timeout, c.workers)
	if err := c.readSecrets(f.secret, f.tokenless); err != nil {
		return nil, err
	}
	var err error
	if c.source, err = openSource(flags.Arg(0), f.same, f.fresh, p.stdin); err != nil {
		return nil, err
	}
	return c, c.readClaims(f.claims)
}

func (c *sendCommand) check(arguments int, f sendFlags) error {
	switch {
	case arguments != 1:
		return usagef("give one of: a type, such as upload; the name of a sample; a file; - for standard input. Flags come before it")
	case c.count < 1 || c.workers < 1 || c.minute < 0:
		return usagef("-n and -c must be at least 1, and -minute must not be negative")
	case c.print != "" && c.print != "curl":
		return usagef(`-print knows "curl" only`)
	case c.print != "" && (c.count > 1 || c.retry):
		return usagef("-print writes one request: leave out -n and -retry")
	case hasToken(c.sender.Endpoint) && (f.claims != "" || f.tokenless):
		return usagef("-url has a token already, and send uses it as it is: leave out -claims and -tokenless, or take the token out of the URL")
	}
	return checkURL("-url", c.sender.Endpoint)
}

// urlToken returns the token in a URL's query, whatever it is.
func urlToken(text string) (token string, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", false // checkURL refuses it
	}
	return u.Query().Get("token"), u.Query().Has("token")
}

func hasToken(url string) bool {
	_, ok := urlToken(url)
	return ok
}

// inFlag names the flag whose URL NotificationURL refuses. It leaves other errors
// as they are.
func inFlag(flag string, err error) error {
	if errors.Is(err, cloudinaryhook.ErrInvalidURL) {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return err
}

// checkURL refuses a text that no request can be sent to. It does not look for
// a token.
func checkURL(flag, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" { // without err, which quotes it
		return usagef("%s: not an absolute http or https URL", flag)
	}
	return nil
}

// newClient returns a client that follows no redirect, because it is not known
// whether Cloudinary does.
func newClient(timeout time.Duration, connections int) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = connections
	return &http.Client{
		Timeout:       timeout,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// readSecrets refuses a secret of the environment that a receiver would refuse
// too. The value of -secret may be anything: tests send requests that must be
// refused.
func (c *sendCommand) readSecrets(secret string, tokenless bool) error {
	if secret == "" {
		account, err := c.account()
		if err != nil {
			return err
		}
		if len(account.secrets) == 0 {
			return usagef("no API secret: set %s to the receiver's", secretVariable)
		}
		secret = account.secrets[0].Value
		v := cloudinaryhook.SignatureVerifier{Secrets: []string{secret}}
		if err := v.Verify(nil, "", ""); errors.Is(err, cloudinaryhook.ErrNoSecrets) {
			return usagef("%s: %s", account.secrets[0].From, reason(err)) // a receiver refuses it too
		}
	}
	c.sender.Secret = secret
	if tokenless || hasToken(c.sender.Endpoint) {
		return nil
	}
	var err error
	c.sender.Key, err = c.tokenKey()
	return err
}

// readClaims takes the claims of the flag, or else those of a stored Delivery,
// so that it is for the same album again, or else test claims. If the URL has a
// token, the claims are that token's.
func (c *sendCommand) readClaims(text string) (err error) {
	if token, ok := urlToken(c.sender.Endpoint); ok {
		t, _ := readToken(token) // send posts it even if it cannot be read
		c.claims = t.claims
		return nil
	}
	if text == "" && c.source.claims == nil {
		text = `{"organization_id":"test-organization","album_id":"test-album"}`
	}
	stored := text == ""
	if stored {
		text = string(c.source.claims)
	}
	if c.claims, err = parseClaims(text); err != nil {
		return err
	}
	if stored { // the old token's times are over
		for _, name := range []string{"iat", "nbf", "exp", "jti"} {
			delete(c.claims.members, name)
		}
	}
	c.claims.expire(2 * time.Hour)
	return nil
}

func (c *sendCommand) notification() (*sender.Notification, error) {
	body, err := c.source.next()
	if err != nil {
		return nil, err
	}
	n, err := c.sender.Sign(body, c.claims)
	return n, inFlag("-url", err)
}

// An attempt is one request and its result.
type attempt struct {
	answer sender.Answer
	err    error // no answer came
	took   time.Duration
}

// accepted reports whether the answer ends the retries. Cloudinary's
// documentation says that 200 does. For 201 it is not known.
func (a attempt) accepted() bool {
	return a.err == nil && (a.answer.Status == 200 || a.answer.Status == 201)
}

func (a attempt) String() string {
	if a.err != nil {
		return "no answer"
	}
	return fmt.Sprint(a.answer.Status)
}

// retries are the minutes that Cloudinary waits before each retry. After the
// last one it gives up.
var retries = []int{3, 6, 9}

// deliver sends one notification until it is accepted or there are no more
// retries. After each attempt it calls tell with the pause before the next one,
// or zero if there is none. A retry repeats the signature: it is not known
// whether Cloudinary signs anew.
func (c *sendCommand) deliver(ctx context.Context, n *sender.Notification, tell func(attempt, time.Duration)) (last attempt) {
	for i := 0; ; i++ {
		start := time.Now()
		last = attempt{}
		last.answer, last.err = n.Post(ctx, c.client)
		last.took = time.Since(start)
		if last.accepted() || !c.retry || i == len(retries) || ctx.Err() != nil {
			tell(last, 0)
			return last
		}
		pause := time.Duration(retries[i]) * c.minute
		tell(last, pause)
		if sleep(ctx, pause) != nil {
			return last
		}
	}
}

func (c *sendCommand) sendOne(ctx context.Context) error {
	n, err := c.notification()
	if err != nil {
		return err
	}
	last := c.deliver(ctx, n, func(a attempt, pause time.Duration) {
		fmt.Fprintln(c.stdout, report(a, c.explanation(a)))
		if pause > 0 {
			fmt.Fprintf(c.stdout, "\nagain in %v\n", pause)
		}
	})
	if !last.accepted() {
		return errSilent
	}
	return nil
}

// report begins with the most important fact: that the notification was
// accepted, or else the status.
func report(a attempt, explained string) string {
	if a.accepted() {
		return fmt.Sprintf("%s\n%s after %v", explained, a, round(a.took))
	}
	return fmt.Sprintf("%s after %v: %s", a, round(a.took), explained)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
