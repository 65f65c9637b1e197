package cloudinaryhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/internal/guard"
)

const (
	deliveryIDHeader = "X-Delivery-Id" // in canonical form, which spares net/http the conversion

	defaultMaxBody = 4 << 20 // bytes; the largest recorded bodies, with OCR, are a hundredth of it
	eagerBuffer    = 8 << 10 // bytes; the most that a declared length gets before the body arrives; few bodies are larger
)

// Config sets up a [Handler].
type Config struct {
	Signature *SignatureVerifier // required
	Token     *TokenVerifier     // required, unless Tokenless
	Processor *Processor         // required

	// Tokenless means that a notification needs a signature, but no token.
	//
	// WARNING: give each such handler its own Claims. Without them, two handlers
	// are the same tenant. If they share a store, the same body sent to both is
	// one delivery. The same public ID and version in two product environments is
	// one image.
	Tokenless bool

	// Claims are the claims that a Tokenless handler gives to every notification,
	// such as &Claims{OrganizationID: "acme"}; nil means none. Delivery.ID and
	// Image.Key depend on them. NewHandler copies them.
	Claims *Claims

	// SecretsFor, if set, returns the API secrets of the product environment that
	// the claims belong to. Then Signature.Secrets must be empty. One handler
	// serves many environments, and a secret is rotated without a restart.
	// SecretsFor is called concurrently, once for each request, after the token
	// was verified and before the body is read. If the look-up is slow, use a
	// cache. Its context ends with the request, or after Timeout.
	//
	// If it returns no secrets and no error, the tenant is unknown: 401, with
	// [ErrUnknownTenant]. If it returns an error, panics, or returns a secret that
	// Signature.Secrets may not have: 500, with [ErrSecretsFor].
	SecretsFor func(ctx context.Context, claims *Claims) ([]string, error)

	// MaxBody is the largest body in bytes; 0 means 4 MiB.
	MaxBody int64

	// Timeout starts when a request arrives. The body must arrive within it, if
	// the connection allows a read deadline. A shorter ReadTimeout of the
	// http.Server counts instead. Save, CreateImage and Notify share the time
	// that is left, through their context. Complete has three seconds of its own.
	// 0 means 15 s, because Cloudinary waits for 20.
	Timeout time.Duration

	// SuccessStatus is 201 or 200; 0 means 201, the answer of the older receiver
	// that this package replaces. Cloudinary's documentation says that it tries
	// again "if the response is not 200 OK". It is not known whether it tries
	// again after a 201. A repetition does no harm.
	SuccessStatus int

	// Logger gets one line for each request; nil is silent.
	Logger *slog.Logger

	// Observe is called once with each request's outcome, for metrics. The
	// Handler recovers from a panic in it. Its context is never canceled. If the
	// ResponseWriter can flush, the answer is sent before Logger and Observe are
	// called. So only the next request on the same HTTP/1.1 connection, or the
	// end of the HTTP/2 stream, waits for them.
	Observe func(context.Context, Outcome)
}

// An Outcome is the result of one request.
type Outcome struct {
	Delivery *Delivery // nil if the notification was not authenticated
	Known    State     // the state that Store.Save returned; zero if Save was not called, or failed
	State    State     // the state now; zero if it was not saved
	Err      error     // why it was refused or failed: one of this package's sentinels, wrapped
	Rejected error     // the Permanent error, if the app rejected the notification
	Status   int       // of the answer
	Duration time.Duration
}

// A Handler receives notifications over HTTP. Mount it on any mux, before
// middleware that reads bodies. It is safe for concurrent use.
type Handler struct {
	config Config
}

// NewHandler checks a configuration and makes a handler of it. The verifiers
// and the Processor are copied, so later changes to them have no effect. Errors
// wrap [ErrNoSecrets] or [ErrMisconfigured].
func NewHandler(c Config) (_ *Handler, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	signature := *c.Signature
	signature.Secrets = slices.Clone(signature.Secrets)
	c.Signature = &signature
	if c.Tokenless {
		claims := *cmp.Or(c.Claims, new(Claims))
		if c.Claims, err = claims.whole(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMisconfigured, err)
		}
	} else if c.Token, err = c.Token.prepared(); err != nil {
		return nil, err
	}
	processor := *c.Processor
	c.Processor = &processor
	c.MaxBody = cmp.Or(c.MaxBody, defaultMaxBody)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.SuccessStatus = cmp.Or(c.SuccessStatus, http.StatusCreated)
	return &Handler{c}, nil
}

func (c *Config) check() error {
	wrong := func(text string) error { return fmt.Errorf("%w: %s", ErrMisconfigured, text) }
	switch {
	case c.Signature == nil:
		return wrong("Signature is nil")
	case c.SecretsFor != nil && len(c.Signature.Secrets) > 0:
		return wrong("Signature.Secrets and SecretsFor are both set")
	case (c.Token == nil) != c.Tokenless:
		return wrong("set either Token or Tokenless")
	case !c.Tokenless && c.Claims != nil:
		return wrong("Claims are set, but Tokenless is not")
	case !c.Tokenless && (c.Token.Leeway < 0 || slices.Contains(c.Token.Require, "")):
		return wrong("Token has a negative Leeway or requires a claim without a name")
	case c.Signature.MaxAge < 0 || c.Signature.MaxSkew < 0 || c.MaxBody < 0 || c.Timeout < 0:
		return wrong("MaxAge, MaxSkew, MaxBody or Timeout is negative")
	case !slices.Contains([]int{0, http.StatusOK, http.StatusCreated}, c.SuccessStatus):
		return wrong("SuccessStatus is neither 200 nor 201")
	}
	if c.SecretsFor == nil {
		if err := c.Signature.usable(); err != nil {
			return err
		}
	}
	return c.Processor.check(false)
}

// ServeHTTP answers one notification. The answer's body is empty if the
// notification was accepted. Otherwise it is a fixed text, and only the log has
// the cause. If the notification was authenticated, the answer's X-Delivery-ID
// header has the delivery's ID.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	ctx := context.WithoutCancel(r.Context()) // a caller that hangs up must not stop the work half done
	var d *Delivery
	var result result
	var failure error // a panic that nothing else recovers, as in r.Body
	defer func() {    // deferred, because the app's code may end the goroutine
		result.err = cmp.Or(result.err, failure)
		if d == nil && r.ProtoMajor == 1 && time.Since(start) >= h.config.Timeout {
			w.Header().Set("Connection", "close") // its context may have ended, see limitReading
		}
		h.finish(ctx, w, start, d, result)
	}()
	guard.Run(&failure, ErrReceive, func() error {
		deadline := start.Add(h.config.Timeout)
		limited := limitReading(w, r, deadline)
		if d, result.err = h.Authenticate(r); result.err == nil {
			if limited {
				_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
			}
			work, cancel := context.WithDeadline(ctx, deadline)
			defer cancel()
			h.config.Processor.accept(work, d, &result)
		}
		return nil
	})
}

// finish answers, logs and observes.
func (h *Handler) finish(ctx context.Context, w http.ResponseWriter, start time.Time, d *Delivery, r result) {
	o := Outcome{Delivery: d, Known: r.known, State: r.after, Err: r.err, Rejected: r.rejected, Status: StatusCode(r.err)}
	if o.Err == nil {
		o.Status = h.config.SuccessStatus
	}
	if e, ok := errors.AsType[*guard.Error](o.Err); ok && e.Raised == any(http.ErrAbortHandler) {
		// The app wants net/http to drop the connection, and net/http drops this
		// status too. Without it, middleware that recovers panics would answer
		// 200.
		w.WriteHeader(o.Status)
		defer panic(http.ErrAbortHandler)
	} else {
		answer(w, o)
		if h.config.Logger != nil || h.config.Observe != nil {
			guard.Ask(func() { _ = http.NewResponseController(w).Flush() }) // some writers panic if they cannot flush
		}
	}
	o.Duration = time.Since(start)
	if h.config.Observe != nil {
		defer guard.Ask(func() { h.config.Observe(ctx, o) })
	}
	if h.config.Logger != nil {
		guard.Ask(func() { h.log(ctx, o) })
	}
}

// limitReading ends reads from the connection at the deadline, unless the server ends
// them earlier, and reports whether it does. Without it, net/http would wait without
// end for the rest of a refused body, before it answers over HTTP/1.1.
//
// The deadline must go once the body is here. If middleware has read the body,
// net/http already waits for the next request. A deadline that ends this wait ends
// the context of all later requests on the connection.
func limitReading(w http.ResponseWriter, r *http.Request, deadline time.Time) bool {
	server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if ok && server.ReadTimeout > 0 && server.ReadTimeout <= time.Until(deadline) {
		return false
	}
	return http.NewResponseController(w).SetReadDeadline(deadline) == nil // fails if the connection has no deadlines
}

// Authenticate makes all checks and nothing else: method, token, signature
// headers, secrets, size, signature, JSON. It consumes r.Body. [StatusCode]
// gives the status for an error.
func (h *Handler) Authenticate(r *http.Request) (*Delivery, error) {
	if r.Method != http.MethodPost {
		return nil, ErrMethodNotAllowed
	}
	claims, err := h.verifyToken(r)
	if err != nil {
		return nil, err
	}
	signature, err := h.verifyHeaders(r)
	if err != nil {
		return nil, err
	}
	verifier, err := h.verifierFor(r.Context(), claims)
	if err != nil {
		return nil, err
	}
	body, err := readBody(r, h.config.MaxBody)
	if err != nil {
		return nil, err
	}
	if err := verifier.match(body, signature); err != nil {
		return nil, fmt.Errorf("%w; %s", err, framing(r))
	}
	return NewDelivery(body, claims, signature.signedAt)
}

// verifyToken takes the token from the URL's query. FormValue would also take one
// from the body, and would read the body, so that it is gone.
func (h *Handler) verifyToken(r *http.Request) (*Claims, error) {
	if h.config.Tokenless {
		claims := *h.config.Claims
		return &claims, nil
	}
	switch tokens := queryTokens(r.URL); len(tokens) {
	case 0:
		return nil, ErrMissingToken
	case 1:
		return h.config.Token.Verify(tokens[0])
	default:
		return nil, fmt.Errorf("%w: there are %d", ErrInvalidToken, len(tokens))
	}
}

// queryTokens is u.Query()["token"]. It needs no map if the query is only a token.
func queryTokens(u *url.URL) []string {
	token, ok := strings.CutPrefix(u.RawQuery, tokenParameter+"=")
	for _, special := range []byte("&;%+") {
		ok = ok && strings.IndexByte(token, special) < 0
	}
	if ok {
		return []string{token}
	}
	return u.Query()[tokenParameter]
}

// verifyHeaders takes one header of each kind. If there were two, a proxy could
// believe one of them, and this handler the other.
func (h *Handler) verifyHeaders(r *http.Request) (signatureClaim, error) {
	signatures, timestamps := r.Header[SignatureHeader], r.Header[TimestampHeader] // which are in canonical form
	switch {
	case len(signatures) == 0 && len(r.Header[SignatureV2Header]) > 0:
		return signatureClaim{}, fmt.Errorf("%w: only %s came, and nobody outside Cloudinary can verify it; set the trigger's auth_scheme to default",
			ErrUnsupportedSignature, SignatureV2Header)
	case len(signatures) == 0 && len(timestamps) > 0:
		return signatureClaim{}, fmt.Errorf("%w, though %s came; if a trigger's auth_scheme is eddsa_v2, a proxy may have dropped %s, as some drop names with an underscore",
			ErrMissingSignature, TimestampHeader, SignatureV2Header)
	case len(signatures) == 0:
		return signatureClaim{}, ErrMissingSignature
	case len(signatures) > 1:
		return signatureClaim{}, fmt.Errorf("%w: there are %d %s headers", ErrSignatureMismatch, len(signatures), SignatureHeader)
	case len(timestamps) != 1:
		return signatureClaim{}, fmt.Errorf("%w: there are %d headers", ErrInvalidTimestamp, len(timestamps))
	}
	return h.config.Signature.readHeaders(timestamps[0], signatures[0])
}

// verifierFor returns a verifier with the secrets of the tenant. It only matches the
// body: the configured verifier has checked the headers.
func (h *Handler) verifierFor(ctx context.Context, claims *Claims) (v *SignatureVerifier, err error) {
	if h.config.SecretsFor == nil {
		return h.config.Signature, nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.config.Timeout)
	defer cancel()
	v = new(SignatureVerifier)
	guard.Run(&err, ErrSecretsFor, func() (err error) {
		v.Secrets, err = h.config.SecretsFor(ctx, claims)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case len(v.Secrets) == 0:
		return nil, ErrUnknownTenant
	}
	if err := v.usable(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecretsFor, err)
	}
	return v, nil
}

// framing says how a body came, for the error about its signature. It often shows
// that something on the way has cut or decoded the body. It names known encodings
// only, because any other name is the sender's text.
func framing(r *http.Request) string {
	text := "no length was declared"
	if r.ContentLength >= 0 {
		text = fmt.Sprintf("%d bytes were declared", r.ContentLength)
	}
	if encoding := r.Header.Get("Content-Encoding"); slices.Contains([]string{"gzip", "deflate", "br", "zstd"}, encoding) {
		text += ", with Content-Encoding " + encoding
	} else if encoding != "" {
		text += ", with an unknown Content-Encoding"
	}
	return text
}

// readBody reads the whole body into one buffer. A body over the limit has an error
// of its own: cut at the limit, it would have a wrong signature, and nobody would
// know why. A body that lacks bytes on a healthy connection has one too: other code
// has read them. Content-Type and Content-Encoding do not matter, because the
// signature is over the bytes as they came.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes are declared, %d allowed", ErrBodyTooLarge, r.ContentLength, limit)
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = readAll(r.Body, r.ContentLength, limit); err != nil {
			return nil, err
		}
	}
	if size := int64(len(body)); size < r.ContentLength || size == 0 && r.ContentLength < 0 {
		return nil, fmt.Errorf("%w (%d bytes were left, %s)", ErrBodyConsumed, size, framing(r))
	}
	return body, nil
}

// readAll takes memory as bytes arrive, so that a declared length alone costs
// little. It starts with up to eagerBuffer, then takes four times as much, until it
// has the declared length. Every size has one byte more, so that the last Read finds
// the end without growing the buffer.
func readAll(body io.Reader, declared, limit int64) ([]byte, error) {
	size := int64(eagerBuffer)
	if declared >= 0 {
		size = min(size, max(declared, 512))
	}
	buf := make([]byte, 0, size+1)
	for {
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return nil, fmt.Errorf("%w: more than %d bytes came", ErrBodyTooLarge, limit)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, readError(err)
		case len(buf) == cap(buf):
			size := min(2*int64(cap(buf)), limit)
			if declared >= int64(len(buf)) {
				size = min(4*int64(cap(buf)), declared)
			}
			buf = append(make([]byte, 0, size+1), buf...)
		}
	}
}

// readError keeps the kind of an error and drops its text. The text may quote the
// body: the parser of chunks quotes a line that it cannot parse.
func readError(err error) error {
	e := guard.Seal(ErrBodyRead, err)
	if limit, ok := errors.AsType[*http.MaxBytesError](e); ok && limit != nil {
		return fmt.Errorf("%w: a limit of %d bytes was set before the handler", ErrBodyTooLarge, limit.Limit)
	}
	if e.Is(http.ErrBodyReadAfterClose) {
		return fmt.Errorf("%w: it is closed", ErrBodyConsumed)
	}
	if e.Is(os.ErrDeadlineExceeded) || e.Is(context.DeadlineExceeded) {
		return ErrBodyTimeout
	}
	for _, cause := range []error{io.ErrUnexpectedEOF, syscall.ECONNRESET, context.Canceled} {
		if e.Is(cause) {
			return fmt.Errorf("%w: %w", ErrBodyRead, cause)
		}
	}
	return fmt.Errorf("%w: an error of type %T", ErrBodyRead, err)
}

// StatusCode returns the status with which a Handler answers an error of this
// package; nil is 201. The last column says whether Cloudinary tries again:
//
//	201  accepted, or done before          probably not
//	401  token or signature refused        yes, and it fails again
//	413  too large                         yes, and it fails again
//	400  signed, but not one JSON object   yes, and it fails again
//	400  the body could not be read        yes
//	408  the body did not arrive in time   yes
//	405  not a POST
//	500  anything else                     yes
//
// An error of the app's own code is always a 500, even if it wraps an error of
// this package. Cloudinary tries at most three times more: 3 minutes later,
// then 6, then 9. So it stops after about 18 minutes.
func StatusCode(err error) int {
	if err == nil {
		return http.StatusCreated
	}
	for _, row := range statuses {
		if slices.ContainsFunc(row.of, func(cause error) bool { return errors.Is(err, cause) }) {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

var statuses = []struct {
	status int
	of     []error
}{
	{http.StatusInternalServerError, []error{ErrReceive, ErrSecretsFor, ErrSave, ErrCreateImage, ErrNotify, ErrComplete}}, // first: they wrap errors of the app
	{http.StatusMethodNotAllowed, []error{ErrMethodNotAllowed}},
	{http.StatusUnauthorized, []error{ErrMissingToken, ErrInvalidToken, ErrUnknownTenant, ErrMissingSignature, ErrUnsupportedSignature,
		ErrInvalidTimestamp, ErrStaleTimestamp, ErrSignatureMismatch}},
	{http.StatusRequestEntityTooLarge, []error{ErrBodyTooLarge}},
	{http.StatusRequestTimeout, []error{ErrBodyTimeout}},
	{http.StatusBadRequest, []error{ErrMalformedBody, ErrBodyRead}},
}

// answer sends the status and nothing more: a cause would help an attacker too. It
// declares a length, so that a sender over HTTP/1.1 knows that the answer is
// complete before the handler returns.
func answer(w http.ResponseWriter, o Outcome) {
	text := ""
	if o.Err != nil {
		text = http.StatusText(o.Status) + "\n"
	}
	header := w.Header()
	values := []string{"no-store", "nosniff", strconv.Itoa(len(text)), ""} // one allocation
	header["Cache-Control"], header["X-Content-Type-Options"], header["Content-Length"] = values[0:1:1], values[1:2:2], values[2:3:3]
	if o.Delivery != nil {
		values[3] = o.Delivery.ID
		header[deliveryIDHeader] = values[3:]
	}
	if o.Status == http.StatusMethodNotAllowed {
		header.Set("Allow", http.MethodPost)
	}
	if o.Err != nil {
		header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(o.Status)
	_, _ = io.WriteString(w, text)
}

func (h *Handler) log(ctx context.Context, o Outcome) {
	level, message := slog.LevelInfo, "cloudinary notification accepted"
	switch {
	case o.Status >= http.StatusInternalServerError:
		level, message = slog.LevelError, "cloudinary notification failed"
	case o.Err != nil:
		level, message = slog.LevelWarn, "cloudinary notification refused"
	case o.Rejected != nil:
		level, message = slog.LevelWarn, "cloudinary notification rejected"
	}
	attrs := []slog.Attr{slog.Int("status", o.Status), slog.Duration("duration", o.Duration)}
	if o.Delivery != nil {
		attrs = append(attrs,
			slog.Any("delivery", o.Delivery),
			slog.String("state", o.State.String()),
			slog.Bool("duplicate", o.Known == StatePending || o.Known == StateDone),
			slog.Duration("skew", o.Delivery.ReceivedAt.Sub(o.Delivery.SignedAt)))
	}
	if o.Err != nil {
		attrs = append(attrs, slog.Any("error", o.Err), guard.StackOf(o.Err))
	}
	if o.Rejected != nil {
		attrs = append(attrs, slog.Any("cause", o.Rejected))
	}
	h.config.Logger.LogAttrs(ctx, level, message, attrs...)
}
