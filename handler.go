package cloudinaryhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	tokenParameter   = "token"
	deliveryIDHeader = "X-Delivery-Id" // in canonical form, as net/http would have to make it

	defaultMaxBody = 4 << 20   // bytes; the largest recorded bodies, with OCR, are a hundredth of it
	eagerBuffer    = 512 << 10 // bytes that are taken at once for a body that declares them
	unknownBuffer  = 8 << 10   // bytes, for one that declares nothing; few are larger
	maxDrain       = 256 << 10 // bytes; what net/http reads of a body that nobody read
)

// Config sets up a [Handler].
type Config struct {
	Signature *SignatureVerifier // required
	Token     *TokenVerifier     // required, unless Tokenless
	Processor *Processor         // required

	// Tokenless has the signature alone admit a notification.
	//
	// WARNING: nothing then tells the notifications of two such handlers apart.
	// If they share a store, the same body sent to both is one delivery, and the
	// same public ID and version in two product environments is one image. Give
	// each its own Claims.
	Tokenless bool

	// Claims are those of every notification of a Tokenless handler, as
	// &Claims{OrganizationID: "acme"}. Delivery.ID and Image.Key depend on them.
	// Nil means none. They are copied.
	Claims *Claims

	// SecretsFor, if set, is asked for the API secrets of the product environment
	// that the claims belong to, after the token was verified; Signature.Secrets
	// is empty then. So one handler serves many environments, and a secret is
	// rotated without a restart. It is called once a request, concurrently, and
	// before the body is read: keep what it returns for a while. Its context ends
	// with the request, or after Timeout.
	//
	// No secrets and no error mean that nobody has these claims: [ErrUnknownTenant],
	// 401. An error, a panic, and a secret that Signature.Secrets may not have are
	// [ErrSecretsFor], 500.
	SecretsFor func(ctx context.Context, claims *Claims) ([]string, error)

	// MaxBody is the largest body in bytes; 0 means 4 MiB.
	MaxBody int64

	// Timeout runs from a request's arrival. The body must be there within it,
	// where the connection allows a read deadline, also if the request is refused
	// anyway; Save, CreateImage and Notify share what is left, through their
	// context. Complete has three seconds of its own. 0 means 15 s, since
	// Cloudinary waits for 20.
	Timeout time.Duration

	// SuccessStatus is 201 or 200; 0 means 201, as the recorded system answers.
	// Cloudinary's documentation says it tries again "if the response is not
	// 200 OK"; whether a 201 is tried again is not known, and harmless.
	SuccessStatus int

	// Logger gets at most one line a request; nil is silent.
	Logger *slog.Logger

	// Observe is told each request's outcome once, after the answer is written.
	// It is for metrics; a panic in it is contained.
	Observe func(context.Context, Outcome)
}

// An Outcome is what came of one request.
type Outcome struct {
	Delivery *Delivery // nil if it was not authenticated
	Known    State     // what Store.Save said was known before; zero if it did not get there
	State    State     // what is known now; zero if it was not saved
	Err      error     // why it was refused or failed: one of this package's sentinels, wrapped
	Rejected error     // the Permanent error with which it was accepted and completed
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
	if !c.Tokenless {
		c.Token = c.Token.prepared()
	} else if c.Claims, err = orDefault(c.Claims, new(Claims)).clone(); err != nil {
		return nil, fmt.Errorf("%w: Claims: %w", ErrMisconfigured, err)
	}
	processor := *c.Processor
	c.Processor = &processor
	c.MaxBody = orDefault(c.MaxBody, defaultMaxBody)
	c.Timeout = orDefault(c.Timeout, defaultTimeout)
	c.SuccessStatus = orDefault(c.SuccessStatus, http.StatusCreated)
	return &Handler{c}, nil
}

func (c *Config) check() error {
	if c.Signature == nil {
		return fmt.Errorf("%w: Signature is nil", ErrMisconfigured)
	}
	switch {
	case c.SecretsFor == nil:
		if err := c.Signature.usable(); err != nil {
			return err
		}
	case len(c.Signature.Secrets) > 0:
		return fmt.Errorf("%w: Signature.Secrets and SecretsFor are both set", ErrMisconfigured)
	}
	if (c.Token == nil) != c.Tokenless || !c.Tokenless && c.Claims != nil {
		return fmt.Errorf("%w: either Token is set or Tokenless, and Claims with the latter alone", ErrMisconfigured)
	}
	if !c.Tokenless {
		if err := c.Token.usable(); err != nil {
			return err
		}
		if c.Token.Leeway < 0 || slices.Contains(c.Token.Require, "") {
			return fmt.Errorf("%w: Token has a negative Leeway or requires a claim without a name", ErrMisconfigured)
		}
	}
	if err := c.Processor.check(); err != nil {
		return err
	}
	if c.Signature.MaxAge < 0 || c.Signature.MaxSkew < 0 || c.MaxBody < 0 || c.Timeout < 0 {
		return fmt.Errorf("%w: MaxAge, MaxSkew, MaxBody or Timeout is negative", ErrMisconfigured)
	}
	if !slices.Contains([]int{0, http.StatusOK, http.StatusCreated}, c.SuccessStatus) {
		return fmt.Errorf("%w: SuccessStatus is %d, not 200 or 201", ErrMisconfigured, c.SuccessStatus)
	}
	return nil
}

// ServeHTTP answers one notification. Answers to accepted ones have an empty
// body; those to refused and failed ones a fixed text, which tells the cause to
// nobody but the log. All authenticated ones name the delivery in X-Delivery-ID.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	o := h.receive(w, r, start)
	if p, ok := errors.AsType[*panicError](o.Err); ok && errors.Is(p, http.ErrAbortHandler) {
		// The app asks net/http to drop the connection, which also drops this
		// status. A recoverer that does not know of it would answer 200.
		w.WriteHeader(http.StatusInternalServerError)
		panic(http.ErrAbortHandler)
	}
	o.Status = StatusCode(o.Err)
	if o.Err == nil {
		o.Status = h.config.SuccessStatus
	}
	answer(w, o)
	o.Duration = time.Since(start)
	h.log(r.Context(), o)
	if h.config.Observe != nil {
		_ = contain(func() error { //nolint:contextcheck // the request's context is passed
			h.config.Observe(r.Context(), o)
			return nil
		})
	}
}

func (h *Handler) receive(w http.ResponseWriter, r *http.Request, start time.Time) (o Outcome) {
	deadline := start.Add(h.config.Timeout)
	o.Err = contain(func() (err error) {
		defer limitReading(w, h.config.Timeout).stop()
		if o.Delivery, err = h.Authenticate(r); err != nil && !drained(r) {
			expireReading(w)
		}
		return err
	})
	if o.Err != nil {
		return o
	}
	// A caller that hangs up must not tear the work in half.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(r.Context()), deadline)
	defer cancel()
	result := h.config.Processor.accept(ctx, o.Delivery)
	o.Known, o.State, o.Rejected, o.Err = result.known, result.after, result.rejected, result.err
	return o
}

// A readLimit ends reads from the connection when a timeout is over, where the
// connection allows it. The deadline is set only then, and to that moment: a
// deadline set beforehand could be later than the server's own, and would have
// to be taken back.
type readLimit struct {
	timer *time.Timer
	mu    sync.Mutex
	w     http.ResponseWriter // nil after the request: it must not be used then
}

func limitReading(w http.ResponseWriter, timeout time.Duration) *readLimit {
	l := &readLimit{w: w}
	l.timer = time.AfterFunc(timeout, l.expire)
	return l
}

func (l *readLimit) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil {
		expireReading(l.w)
	}
}

func (l *readLimit) stop() {
	if !l.timer.Stop() { // expire has run, or runs, or is yet to come
		l.mu.Lock()
		defer l.mu.Unlock()
		l.w = nil
	}
}

func expireReading(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // an error: the connection has no deadlines
}

// drained reads what is left of a refused body, and reports whether that was
// all. Before it answers, net/http waits for as much of a body that nobody read,
// without a limit in time: anybody could hold a connection by a body that never
// comes. So it is waited for here, within the Timeout, and then no more.
func drained(r *http.Request) bool {
	if r.Body == nil {
		return true
	}
	if r.ContentLength > maxDrain || r.Header.Get("Expect") != "" { // reading would ask for it
		return false
	}
	n, err := io.CopyN(io.Discard, r.Body, maxDrain+1)
	return n <= maxDrain && errors.Is(err, io.EOF)
}

// Authenticate makes all checks and nothing else: method, token, signature
// headers, secrets, size, signature, JSON. It consumes r.Body. For the status that
// belongs to an error, see [StatusCode].
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
	verifier := h.config.Signature
	if h.config.SecretsFor != nil {
		if verifier, err = h.tenantVerifier(r.Context(), claims); err != nil {
			return nil, err
		}
	}
	body, err := readBody(r, h.config.MaxBody)
	if err != nil {
		return nil, err
	}
	if err := verifier.match(body, signature); err != nil {
		return nil, err
	}
	return NewDelivery(body, claims, signature.signedAt)
}

// verifyToken looks at the URL's query alone. FormValue would parse the body,
// which is then gone, and take a token out of it.
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

// queryTokens is u.Query()["token"], without a map for a query that is a token
// and nothing else.
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

// verifyHeaders takes one header of each kind: of two, a proxy and this
// handler might each believe another.
func (h *Handler) verifyHeaders(r *http.Request) (signatureClaim, error) {
	signatures, timestamps := r.Header[SignatureHeader], r.Header[TimestampHeader] // which are in canonical form
	switch {
	case len(signatures) == 0 && len(r.Header[SignatureV2Header]) > 0:
		return signatureClaim{}, fmt.Errorf("%w: only %s came, which cannot be verified; set the trigger's auth_scheme to default",
			ErrUnsupportedSignature, SignatureV2Header)
	case len(signatures) == 0:
		return signatureClaim{}, ErrMissingSignature
	case len(signatures) > 1:
		return signatureClaim{}, fmt.Errorf("%w: there are %d %s headers", ErrSignatureMismatch, len(signatures), SignatureHeader)
	case len(timestamps) != 1:
		return signatureClaim{}, fmt.Errorf("%w: there are %d headers", ErrInvalidTimestamp, len(timestamps))
	}
	return h.config.Signature.readHeaders(timestamps[0], signatures[0])
}

// tenantVerifier has the secrets of the tenant, and nothing of the configured
// verifier, which has checked the headers already.
func (h *Handler) tenantVerifier(ctx context.Context, claims *Claims) (*SignatureVerifier, error) {
	ctx, cancel := context.WithTimeout(ctx, h.config.Timeout)
	defer cancel()
	var v SignatureVerifier
	err := contain(func() (err error) {
		v.Secrets, err = h.config.SecretsFor(ctx, claims)
		return err
	})
	if err == nil && len(v.Secrets) == 0 {
		return nil, ErrUnknownTenant
	}
	if err == nil {
		err = v.usable()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecretsFor, err)
	}
	return &v, nil
}

// readBody reads the whole body into one buffer. A body that is cut at the limit
// would have a wrong signature and puzzle everybody, so it has an error of its
// own. Content-Type and Content-Encoding are not looked at: the signature is
// over the bytes as they came.
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
	if len(body) == 0 && (r.ContentLength > 0 || r.PostForm != nil) {
		return nil, ErrBodyConsumed
	}
	return body, nil
}

// readAll takes the declared size's memory at once, unless that is much: more
// must arrive before more is taken, so that a promise alone costs little.
func readAll(body io.Reader, declared, limit int64) ([]byte, error) {
	if declared < 0 {
		declared = unknownBuffer
	}
	buf := make([]byte, 0, min(max(declared, 512), eagerBuffer, limit))
	var extra [1]byte // to see the end of a full buffer without growing it
	for {
		free := buf[len(buf):cap(buf)]
		if len(free) == 0 {
			free = extra[:]
		}
		n, err := body.Read(free)
		if int64(len(buf)+n) > limit {
			return nil, fmt.Errorf("%w: more than %d bytes came", ErrBodyTooLarge, limit)
		}
		if len(buf) == cap(buf) && n > 0 {
			size := min(2*int64(cap(buf)), limit)
			if declared > int64(len(buf)) {
				size = min(4*int64(cap(buf)), declared)
			}
			buf = append(make([]byte, 0, size), buf...)
			buf = append(buf, extra[:n]...)
		} else {
			buf = buf[:len(buf)+n]
		}
		switch {
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, readError(err)
		}
	}
}

func readError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("%w: %w", ErrBodyTooLarge, err)
	}
	if errors.Is(err, http.ErrBodyReadAfterClose) {
		return ErrBodyConsumed
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return ErrBodyTimeout
	}
	return fmt.Errorf("%w: %w", ErrBodyRead, err)
}

// StatusCode is the status that an error of this package is answered with; nil
// is 201. What Cloudinary does then:
//
//	201  accepted, or done before          no retry
//	401  token or signature refused        retries, in vain
//	413  too large                         retries, in vain
//	400  signed, but not one JSON object   retries, in vain
//	400  the body could not be read        retries
//	408  the body did not arrive in time   retries
//	405  not a POST
//	500  anything else                     retries
//
// The app's own errors never choose the status: wrapped by the stage they failed
// in, they are a 500 whatever else they wrap. "Retries" is three times, after 3,
// 6 and 9 minutes, and then never again.
func StatusCode(err error) int {
	if err == nil {
		return http.StatusCreated
	}
	for _, stage := range []error{ErrSecretsFor, ErrSave, ErrCreateImage, ErrNotify, ErrComplete} {
		if errors.Is(err, stage) {
			return http.StatusInternalServerError
		}
	}
	for _, row := range statuses {
		if errors.Is(err, row.err) {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

var statuses = []struct {
	err    error
	status int
}{
	{ErrMethodNotAllowed, http.StatusMethodNotAllowed},
	{ErrMissingToken, http.StatusUnauthorized},
	{ErrInvalidToken, http.StatusUnauthorized},
	{ErrMissingSignature, http.StatusUnauthorized},
	{ErrUnsupportedSignature, http.StatusUnauthorized},
	{ErrInvalidTimestamp, http.StatusUnauthorized},
	{ErrStaleTimestamp, http.StatusUnauthorized},
	{ErrSignatureMismatch, http.StatusUnauthorized},
	{ErrUnknownTenant, http.StatusUnauthorized},
	{ErrBodyTooLarge, http.StatusRequestEntityTooLarge},
	{ErrMalformedBody, http.StatusBadRequest},
	{ErrBodyTimeout, http.StatusRequestTimeout},
	{ErrBodyRead, http.StatusBadRequest},
}

// answer tells a sender its status and no more. What would help an operator
// would help an attacker too.
func answer(w http.ResponseWriter, o Outcome) {
	header := w.Header()
	values := []string{"no-store", "nosniff", ""} // one allocation
	header["Cache-Control"], header["X-Content-Type-Options"] = values[0:1:1], values[1:2:2]
	if o.Delivery != nil {
		values[2] = o.Delivery.ID
		header[deliveryIDHeader] = values[2:3:3]
	}
	if o.Status == http.StatusMethodNotAllowed {
		header.Set("Allow", http.MethodPost)
	}
	if o.Err == nil {
		w.WriteHeader(o.Status)
		return
	}
	header.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(o.Status)
	_, _ = io.WriteString(w, http.StatusText(o.Status)+"\n")
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
	if h.config.Logger == nil || !h.config.Logger.Enabled(ctx, level) {
		return
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
		attrs = append(attrs, slog.Any("error", o.Err), stackOf(o.Err))
	}
	if o.Rejected != nil {
		attrs = append(attrs, slog.Any("cause", o.Rejected))
	}
	h.config.Logger.LogAttrs(ctx, level, message, attrs...)
}
