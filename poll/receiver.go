package poll

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/guard"
)

const (
	defaultMaxAge      = 7 * 24 * time.Hour
	defaultUnverified  = 5 * time.Minute
	defaultTimeout     = 15 * time.Second // the Processor's own default
	acknowledgeTimeout = 10 * time.Second
	logInterval        = time.Minute

	// visibilityMargin is the time that a message needs in addition to the
	// Processor's Timeout, for the answer's transfer, Complete's 3 s, the
	// acknowledgement.
	visibilityMargin = 30 * time.Second

	// idlePause is the minimum time of a round that acknowledges nothing. If the
	// API answers at once with nothing new, it limits the number of requests.
	idlePause = time.Second
)

// ErrNothingVerifies is the error of [Receiver.Run] if messages come and none of
// them can be verified. Most often the secret is wrong. Messages outside the
// replay window do not count. The error also wraps the error of the last message
// that does.
var ErrNothingVerifies = errors.New("poll: messages come and none verifies; check that Signature.Secrets has the API secret that signs, of this product environment. They were not acknowledged, and are not lost")

// A Receiver verifies messages, gives them to a Processor, and acknowledges
// them.
//
// It acknowledges a message, which deletes it for good, in two cases only:
//
//   - The Processor has accepted it. A Deferred one has saved it. Any other has
//     processed it, or has rejected it because of a [cloudinaryhook.Permanent]
//     error.
//   - It is authentic but can never be accepted, and Malformed has returned nil.
//
// It leaves all other messages: it does not acknowledge them, so they come again
// after the visibility timeout. It also leaves a message that it cannot verify,
// because a mistyped secret or a wrong clock must not delete genuine messages.
// To delete a message that can never be verified, acknowledge it with a
// [Client].
//
// The zero value does not run: Run returns [cloudinaryhook.ErrMisconfigured]. A
// Receiver is safe for concurrent use as long as its fields are not changed.
// Several Receivers, also on other machines, may share a channel and a Store.
type Receiver struct {
	Client    *Client                           // required
	Signature *cloudinaryhook.SignatureVerifier // required; Receiver.MaxAge replaces its MaxAge
	Processor *cloudinaryhook.Processor         // required

	// MaxAge is how old a message's signature may be; 0 means 7 days. It is longer
	// than for a webhook, because a message waits for its receiver. Keep completed
	// deliveries in the Store for MaxAge plus Signature.MaxSkew. Otherwise a
	// message that comes again later is processed again.
	MaxAge time.Duration

	// ClaimsFor returns the claims of a message, because a polled message has no
	// URL, and so no token. If ClaimsFor is nil or returns nil claims, the delivery
	// has no claims. If it returns an error, the Receiver leaves the message. It is
	// called concurrently, and only with verified messages. It must return equal
	// claims for equal bodies: they are part of Delivery.ID and Image.Key. It may
	// return the same pointer for several messages. Do not change those claims
	// afterwards.
	ClaimsFor func(ctx context.Context, m *Message) (*cloudinaryhook.Claims, error)

	// Malformed is called with each message that Cloudinary signed but that cannot
	// be a delivery, because its body is not exactly one JSON object with unique
	// names. A trigger's payload_template can make such bodies. The err wraps
	// [cloudinaryhook.ErrMalformedBody]. If Malformed returns nil, the Receiver
	// acknowledges the message, which deletes it: keep its body first. If Malformed
	// returns an error or is nil, the Receiver leaves the message. Malformed is
	// called concurrently.
	Malformed func(ctx context.Context, m *Message, err error) error

	// Concurrency is how many messages the Receiver asks for in one request and
	// then works on at the same time, from 1 to 100; 0 means 10. It replaces
	// Client.MaxMessages. The Receiver asks for more when all of these are
	// finished.
	Concurrency int

	// Unverified is how long Run goes on while messages come and none of them can
	// be verified; 0 means 5 minutes. See [ErrNothingVerifies].
	Unverified time.Duration

	// Logger gets at most one line a minute about messages that come again, one
	// more when Run returns, and one for each panic of ClaimsFor or Malformed. The
	// Processor and the Client have Loggers of their own. Nil is silent.
	Logger *slog.Logger
}

// Run receives messages until ctx ends. It then finishes those that it has,
// which takes up to Processor.Timeout plus 13 s, and returns ctx's error.
//
// It returns another error only in three cases:
//
//   - A setting is wrong: [cloudinaryhook.ErrMisconfigured] or
//     [cloudinaryhook.ErrNoSecrets].
//   - The API answers so that no retry helps: [ErrUnauthorized], [ErrNotFound],
//     [ErrRefused] or [ErrAnswerTooLarge].
//   - Messages come and none of them can be verified: [ErrNothingVerifies].
//
// Run goes on when the API or the app is down for some time. It also goes on when
// all messages are outside the replay window. A genuine message that was left for
// MaxAge is outside. If this machine's clock is wrong, all are. Logger gets a line
// about them.
//
// All work on a message may take Processor.Timeout, by default 15 s. The API
// hides the message for 30 s longer, or for Client.Visibility if that is set.
// Run refuses a Visibility that is shorter.
func (r *Receiver) Run(ctx context.Context) error {
	s, err := r.start()
	if err != nil {
		return err
	}
	defer s.flush(ctx)
	for ctx.Err() == nil {
		begun := time.Now()
		messages, err := s.client.Receive(ctx)
		if err != nil && ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		acknowledged, err := s.round(ctx, messages)
		if err != nil {
			return err
		}
		if acknowledged == 0 {
			sleep(ctx, idlePause-time.Since(begun))
		}
	}
	return ctx.Err()
}

// A session is one call of Run.
type session struct {
	*Receiver
	client    Client
	signature cloudinaryhook.SignatureVerifier
	timeout   time.Duration

	unverifiedSince time.Time // zero: no message was refused since the last one that verified
	tally           tally
}

// start checks the settings, before any message is received.
func (r *Receiver) start() (*session, error) {
	switch {
	case r == nil || r.Client == nil:
		return nil, fmt.Errorf("%w: Receiver or its Client is nil", cloudinaryhook.ErrMisconfigured)
	case r.Concurrency < 0 || r.Concurrency > maxMessages:
		return nil, fmt.Errorf("%w: Receiver.Concurrency is not between 0 and 100", cloudinaryhook.ErrMisconfigured)
	case r.MaxAge < 0 || r.Unverified < 0:
		return nil, fmt.Errorf("%w: Receiver.MaxAge or Receiver.Unverified is negative", cloudinaryhook.ErrMisconfigured)
	}
	// NewHandler finds the same mistakes in Signature and Processor.
	if _, err := cloudinaryhook.NewHandler(cloudinaryhook.Config{Signature: r.Signature, Processor: r.Processor, Tokenless: true}); err != nil {
		return nil, err
	}
	s := &session{Receiver: r, client: *r.Client, signature: *r.Signature, timeout: cmp.Or(r.Processor.Timeout, defaultTimeout)}
	s.signature.MaxAge = cmp.Or(r.MaxAge, defaultMaxAge)
	s.client.MaxMessages = cmp.Or(r.Concurrency, defaultMaxMessages)
	needed := s.timeout + visibilityMargin
	if s.client.Visibility == 0 {
		s.client.Visibility = needed
	}
	if s.client.Visibility < needed || needed > maxVisibility {
		return nil, fmt.Errorf("%w: Client.Visibility must be longer than Processor.Timeout by %v, and is at most %v",
			cloudinaryhook.ErrMisconfigured, visibilityMargin, maxVisibility)
	}
	return s, s.client.check()
}

// An outcome is the result of one message.
type outcome struct {
	verified bool
	err      error
}

// round works on the messages at the same time, and acknowledges those that it
// may. It does not stop when ctx ends: the messages that it has begun must be
// finished.
func (s *session) round(ctx context.Context, messages []Message) (acknowledged int, err error) {
	ctx = context.WithoutCancel(ctx)
	outcomes := make([]outcome, len(messages))
	var work sync.WaitGroup
	for i := range messages {
		work.Go(func() { s.accept(ctx, &messages[i], &outcomes[i]) })
	}
	work.Wait()

	var handles []string
	for i, o := range outcomes {
		switch {
		case o.verified && o.err == nil:
			handles = append(handles, messages[i].ReceiptHandle)
		case o.verified:
			s.tally.failed++
			s.tally.last = o.err
		default:
			s.tally.refused++
			s.tally.last = o.err
		}
	}
	err = s.acknowledge(ctx, handles)
	s.logTally(ctx)
	return len(handles), errors.Join(err, s.checkVerified(outcomes))
}

// accept fills in the outcome of m.
func (s *session) accept(ctx context.Context, m *Message, o *outcome) {
	signedAt, err := m.Verify(&s.signature)
	if err != nil {
		o.err = err
		return
	}
	o.verified = true
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	guard.Run(&o.err, cloudinaryhook.ErrReceive, func() error { return s.process(ctx, m, signedAt) })
	if stack := guard.StackOf(o.err); stack.Key != "" {
		writeLog(ctx, s.Logger, slog.LevelError, "cloudinary message panicked", slog.Any("error", o.err), stack)
	}
}

func (s *session) process(ctx context.Context, m *Message, signedAt time.Time) error {
	d, err := cloudinaryhook.NewDelivery(m.Body, nil, signedAt)
	if errors.Is(err, cloudinaryhook.ErrMalformedBody) && s.Malformed != nil {
		return s.Malformed(ctx, m, err)
	}
	if err == nil && s.ClaimsFor != nil {
		var claims *cloudinaryhook.Claims
		if claims, err = s.ClaimsFor(ctx, m); err == nil {
			d, err = cloudinaryhook.NewDelivery(m.Body, claims, signedAt)
		}
	}
	if err == nil {
		_, err = s.Processor.Accept(ctx, d)
	}
	return err
}

// acknowledge returns only permanent errors. A temporary one does no harm: the
// messages come again, and the Store knows them.
func (s *session) acknowledge(ctx context.Context, handles []string) error {
	ctx, cancel := context.WithTimeout(ctx, acknowledgeTimeout)
	defer cancel()
	err := s.client.Acknowledge(ctx, handles...)
	for _, lasting := range []error{ErrUnauthorized, ErrNotFound, ErrRefused, ErrAnswerTooLarge} {
		if errors.Is(err, lasting) {
			return err
		}
	}
	if err != nil {
		s.tally.unacknowledged += len(handles)
		s.tally.last = err
	}
	return nil
}

// checkVerified returns an error if messages have come for Unverified and none
// was authentic. It does not count those outside the replay window, because a
// genuine message that is left for MaxAge comes again for ever.
func (s *session) checkVerified(outcomes []outcome) error {
	var last error
	for _, o := range outcomes {
		if o.verified {
			s.unverifiedSince = time.Time{}
			return nil
		}
		if !errors.Is(o.err, cloudinaryhook.ErrStaleTimestamp) {
			last = o.err
		}
	}
	switch limit := cmp.Or(s.Unverified, defaultUnverified); {
	case last == nil:
	case s.unverifiedSince.IsZero():
		s.unverifiedSince = time.Now()
	case time.Since(s.unverifiedSince) >= limit:
		return fmt.Errorf("%w (for %v; the last one: %w)", ErrNothingVerifies, limit, last)
	}
	return nil
}

// A tally counts the messages that were left since the last log line.
type tally struct {
	refused, failed, unacknowledged int
	last                            error
	logged                          time.Time
}

func (s *session) logTally(ctx context.Context) {
	if time.Since(s.tally.logged) >= logInterval {
		s.flush(ctx)
	}
}

func (s *session) flush(ctx context.Context) {
	t := s.tally
	if t.last == nil {
		return
	}
	s.tally = tally{logged: time.Now()}
	writeLog(ctx, s.Logger, slog.LevelWarn, "cloudinary messages left, they come again",
		slog.Int("refused", t.refused), slog.Int("failed", t.failed), slog.Int("unacknowledged", t.unacknowledged),
		slog.Any("last_error", t.last))
}
