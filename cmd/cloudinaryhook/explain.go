package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/flagset"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
	"github.com/cloudinaryhook/cloudinaryhook/internal/sender"
)

// explainFlags name the request to explain and the receiver's settings.
type explainFlags struct {
	request, body, signature, timestamp, at string
	x                                       examination
}

func runExplain(ctx context.Context, p *process, args []string) error {
	var f explainFlags
	flags := f.flags()
	if err := p.parse(flags, "", args, "It exits with 0 if this environment accepts the request, and with 1 if not."); err != nil {
		return err
	}
	if flags.NArg() > 0 || (f.request == "") == (f.body == "") || f.request != "" && f.signature+f.timestamp != "" {
		return usagef("give either -request FILE, or -body FILE -signature TEXT -timestamp TEXT")
	}
	r, err := f.read(p.stdin)
	if err != nil {
		return err
	}
	if err := f.x.readEnvironment(p); err != nil {
		return err
	}
	if f.x.at, err = f.time(r); err != nil {
		return err
	}
	return f.x.explain(ctx, r, p.stdout)
}

func (f *explainFlags) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	flags.StringVar(&f.request, "request", "", "a `file` with the recorded request as raw HTTP; - is standard input")
	flags.StringVar(&f.body, "body", "", "instead of -request, a `file` with the body alone; - is standard input")
	flags.StringVar(&f.signature, "signature", "", "with -body: the `text` of X-Cld-Signature")
	flags.StringVar(&f.timestamp, "timestamp", "", "with -body: the `text` of X-Cld-Timestamp")
	flags.StringVar(&f.at, "at", "", "the `time` when the request came, such as 2026-01-31T12:00:00Z; default: its Date header, or now")
	flags.BoolVar(&f.x.all, "all", false, "show all findings, not only the likeliest")
	f.x.receiverFlags(flags)
	return flags
}

// receiverFlags are the settings of the receiver that refused the request.
func (x *examination) receiverFlags(flags *flag.FlagSet) {
	flags.BoolVar(&x.tokenless, "tokenless", false, "the receiver is Tokenless")
	flags.Func("require", "`names` of claims that the receiver requires, separated by commas", func(names string) error {
		x.token.Require = strings.Split(names, ",")
		return nil
	})
	flags.StringVar(&x.token.Issuer, "issuer", "", "the receiver's `Issuer`")
	flags.StringVar(&x.token.Audience, "audience", "", "the receiver's `Audience`")
	flags.BoolVar(&x.token.RequireExpiry, "require-expiry", false, "the receiver has RequireExpiry")
	flags.DurationVar(&x.token.Leeway, "leeway", 0, "the receiver's Leeway, a `duration`")
	flags.BoolVar(&x.signature.SHA256Only, "sha256-only", false, "the receiver has SHA256Only")
	flags.DurationVar(&x.signature.MaxAge, "max-age", 0, "the receiver's MaxAge, a `duration`; 0: 2h")
	flags.DurationVar(&x.signature.MaxSkew, "max-skew", 0, "the receiver's MaxSkew, a `duration`; 0: 5m")
}

func (f *explainFlags) read(stdin io.Reader) (*recording, error) {
	content, err := readInput(f.request+f.body, stdin) // one of them is empty
	if err != nil {
		return nil, err
	}
	if f.body != "" {
		f.x.tokenless = true // there is no URL, so there is no token
		return requestOf(content, f.signature, f.timestamp), nil
	}
	r, err := readRecording(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flagset.Quote(f.request), err)
	}
	return r, nil
}

// readInput reads a file, or standard input if the name is -. Its error does not
// quote a name that may be a URL.
func readInput(name string, stdin io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(stdin)
	}
	content, err := os.ReadFile(name) //nolint:gosec // the user names a file
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flagset.Quote(name), errors.Unwrap(err)) // it wraps a cause without the name
	}
	return content, nil
}

// time returns when the request came, or the current time if that is not known.
func (f *explainFlags) time(r *recording) (time.Time, error) {
	f.x.recorded = true
	if f.at != "" {
		at, err := time.Parse(time.RFC3339, f.at)
		if err != nil {
			return at, usagef("-at: not a time such as 2026-01-31T12:00:00Z")
		}
		return at, nil
	}
	if !r.at.IsZero() {
		return r.at, nil
	}
	f.x.recorded = false
	return time.Now(), nil
}

// readEnvironment takes secrets and keys as they are, even invalid ones.
func (x *examination) readEnvironment(p *process) error {
	account, err := p.account()
	if err != nil {
		return err
	}
	x.secrets, x.apiKey = account.secrets, account.apiKey
	x.keys, err = secrets.LookupAll(p.getenv, keyVariable)
	return err
}

// explain writes why a request is refused. Its error is nil if it is accepted.
func (x *examination) explain(ctx context.Context, r *recording, w io.Writer) error {
	query := ""
	if r.URL != nil {
		query = r.URL.RawQuery
		if strings.Contains(r.URL.Path, "//") {
			x.found("path-slashes", "")
		}
	}
	if r.Method != http.MethodPost {
		x.found("method", fmt.Sprintf("It is a %.20q.", r.Method))
	}
	var token error
	if !x.tokenless {
		token = x.examineToken(query)
	}
	signature := x.examineSignature(ctx, r.Header, r.body)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var body error
	if signature == nil {
		body = x.examineSignedBody(r.body)
	}
	if token == nil && signature == nil && body == nil && r.Method == http.MethodPost {
		fmt.Fprintln(w, wrap("", x.accepted()))
		x.report(w)
		return nil
	}
	for _, part := range []struct {
		name string
		err  error
	}{{"signature", signature}, {"body", body}, {"token", token}} {
		if part.err != nil {
			why, _, _ := strings.Cut(reason(part.err), ";") // the rest is a guess; the report below knows more
			fmt.Fprintln(w, wrap("", "The "+part.name+" is refused: "+why+"."))
		}
	}
	x.report(w)
	if x.isUnknown() {
		x.whatIsLeft(r, w)
	}
	return errSilent
}

// accepted says that the request is accepted, and what is not known.
func (x *examination) accepted() string {
	const environment = " right for this environment. If the receiver refuses this request, it has other secrets, another clock or other settings, or it does not see these bytes."
	if x.tokenless {
		return "Accepted: the signature is" + environment
	}
	return "Accepted: signature and token are" + environment + " Explain knows the receiver's Require, Issuer and Audience only from the flags -require, -issuer and -audience."
}

const maxBody = 4 << 20 // bytes; the package's default

// examineSignedBody finds why a body is refused although its signature is right.
func (x *examination) examineSignedBody(body []byte) error {
	if len(body) > maxBody {
		x.found("body-large", fmt.Sprintf("It has %d bytes, more than %d.", len(body), maxBody))
		return cloudinaryhook.ErrBodyTooLarge
	}
	_, err := cloudinaryhook.NewDelivery(body, nil, x.at)
	if err != nil {
		x.found("body-malformed", "")
	}
	return err
}

// whatIsLeft explains how to tell a wrong secret from a changed body. The
// request alone cannot show it.
func (x *examination) whatIsLeft(r *recording, w io.Writer) {
	fmt.Fprintf(w, `
A correctly signed test notification tells a wrong secret from a changed body:
   cloudinaryhook send -url %s upload
If it is accepted, your secret and the proxy are right. Then Cloudinary signs
   with another API key's secret. If it is refused, send it directly to the
   receiver, not through the proxy. If it is accepted now, the proxy changes
   bodies. If not, the receiver has another secret than this environment.
`, address(r))
}

// plainAddress has no character that a shell treats specially, except the
// brackets of an IPv6 address, which need quotes.
var plainAddress = regexp.MustCompile(`^[\w.:\[\]-]+/[\w./~-]*$`)

// address returns the receiver's URL as a word for a shell, or "URL". Anybody
// can send a request, and the user pastes the word into a shell. So it is left
// out if it could be more than an address, or if it could have a token in it.
func address(r *recording) string {
	if r.URL == nil {
		return "URL"
	}
	text := r.Host + r.URL.EscapedPath()
	if len(text) > 200 || !plainAddress.MatchString(text) || tokenLike.MatchString(text) {
		return "URL"
	}
	return sender.Quote(scheme(r.Host) + "://" + text)
}

// scheme returns the scheme of a receiver's URL. On this machine there is no
// TLS.
func scheme(host string) string {
	name := (&url.URL{Host: host}).Hostname()
	if ip := net.ParseIP(name); name == "localhost" || ip != nil && ip.IsLoopback() {
		return "http"
	}
	return "https"
}
