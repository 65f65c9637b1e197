package cloudinaryhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime/debug"
	"time"
)

// Permanent marks an error of CreateImage or Notify that no retry can mend. The
// delivery is then completed as rejected, with err as its cause, and answered
// 201. An error that joins a permanent one and another is not permanent, and
// neither is one returned after the context was done. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// isPermanent wants every branch of an error to be permanent, not only one, as
// errors.As would.
func isPermanent(err error) bool {
	switch e := err.(type) { //nolint:errorlint // this is what unwraps
	case *permanentError:
		return true
	case *panicError:
		return false // a bug, whatever it was raised with
	case interface{ Unwrap() error }:
		return isPermanent(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, branch := range e.Unwrap() {
			if !isPermanent(branch) {
				return false
			}
		}
		return len(e.Unwrap()) > 0
	}
	return false
}

const (
	defaultTimeout  = 15 * time.Second // Cloudinary waits 20 s, by second-hand knowledge
	completeTimeout = 3 * time.Second  // Complete's own, so that work that used up its time is still recorded as done
	resumeAge       = time.Minute      // more than any request takes
)

// A Processor does what a delivery announces. It holds no secret and needs no
// HTTP: a worker behind a queue uses it alone. It is safe for concurrent use as
// long as its fields are not changed.
//
// A Processor with neither Images nor Notify refuses to work unless it is
// Deferred, and a Deferred one refuses to Process: both errors wrap
// [ErrMisconfigured].
type Processor struct {
	Store Store // required

	// Images creates announced images. Nil: none are wanted.
	Images ImageCreator

	// Notify is told of every notification, of any type: moderation, delete,
	// video uploads, and also of those that Images has dealt with, after it.
	// Like CreateImage it may be called again for the same one.
	Notify func(context.Context, *Delivery) error

	// Deferred means that workers elsewhere process what is saved here. Images
	// and Notify are nil then.
	Deferred bool

	// Timeout bounds the work on each delivery in Process and Resume, through its
	// context; 0 means 15 s. In Accept the caller's context bounds it, and in a
	// Handler [Config].Timeout. Complete has three seconds of its own.
	Timeout time.Duration

	// GiveUpAfter is how long after its receipt Resume still tries a delivery;
	// then it is completed with [ErrGaveUp]. 0: for ever.
	GiveUpAfter time.Duration

	// Logger gets one line for each delivery that fails or is rejected, and for
	// each error that a sequence of pending deliveries yields; nil is silent.
	// Inside a Handler, the Handler writes the line.
	Logger *slog.Logger
}

// Accept saves a delivery and, unless the Processor is Deferred, processes it.
// It is what a Handler does after authentication, for deliveries that came
// another way. The State is that afterwards: StateDone, StatePending if work
// remains, or zero if it was not saved. Errors wrap the failed stage, as
// [ErrSave] or [ErrCreateImage], and the app's own error.
func (p *Processor) Accept(ctx context.Context, d *Delivery) (State, error) {
	r := p.accept(ctx, d)
	p.log(ctx, d, r.rejected, r.err)
	return r.after, r.err
}

// Process does the work of a saved delivery: CreateImage if it announces an
// image, Notify, Complete. It returns nil once the delivery is completed, as
// rejected included. It is for workers that share the receivers' Store.
func (p *Processor) Process(ctx context.Context, d *Delivery) error {
	err := p.check()
	var rejected error
	if err == nil {
		ctx, cancel := p.withTimeout(ctx)
		defer cancel()
		rejected, err = p.process(ctx, d)
	}
	p.log(ctx, d, rejected, err)
	return err
}

// Resume processes what is pending, as a Store's own method lists it. Each
// delivery is saved once more first, to skip what was completed meanwhile, and
// given up if it is older than GiveUpAfter. A failure, of the listing too, stops
// nothing that follows. All failures are logged, and joined in the error. Resume
// stops when ctx is done. It logs no success: to count, count in the sequence you
// pass.
//
// List what no request can still be at work on. At an app's start, if no other
// process uses the store, that is what was received before the start; later,
// and where several share the store always, what was received more than a
// minute ago. [Processor.ResumeEvery] does the latter.
func (p *Processor) Resume(ctx context.Context, pending iter.Seq2[*Delivery, error]) error {
	return p.resumeAll(ctx, func() iter.Seq2[*Delivery, error] { return pending })
}

// ResumeEvery resumes what pending lists, at once and then every interval, until
// ctx ends. It asks for what was received more than a minute ago, which no request
// is still at work on. It blocks: start it in a goroutine of its own. Failures are
// logged, and the next pass tries again. The error is that of ctx, or at once one
// that wraps [ErrMisconfigured].
func (p *Processor) ResumeEvery(ctx context.Context, interval time.Duration, pending func(ctx context.Context, before time.Time) iter.Seq2[*Delivery, error]) error {
	if err := p.check(); err != nil {
		return err
	}
	if interval <= 0 || pending == nil {
		return fmt.Errorf("%w: ResumeEvery needs an interval above 0 and a function that lists what is pending", ErrMisconfigured)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		_ = p.resumeAll(ctx, func() iter.Seq2[*Delivery, error] { return pending(ctx, time.Now().Add(-resumeAge)) }) // it is logged
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// resumeAll contains a panic of list, and of the sequence it returns, as that of
// any other code of the app.
func (p *Processor) resumeAll(ctx context.Context, list func() iter.Seq2[*Delivery, error]) error {
	var errs []error
	note := func(d *Delivery, rejected, err error) {
		if err != nil {
			errs = append(errs, err)
		}
		p.log(ctx, d, rejected, err)
	}
	err := p.check()
	if err == nil {
		err = contain(func() error {
			for d, err := range list() {
				if ctx.Err() != nil {
					break
				}
				if err == nil && d == nil {
					err = fmt.Errorf("%w: it is nil", ErrInvalidDelivery)
				}
				var rejected error
				if err == nil {
					rejected, err = p.resume(ctx, d)
				}
				note(d, rejected, err)
			}
			return nil
		})
	}
	if err != nil {
		note(nil, nil, err)
	}
	return errors.Join(append(errs, ctx.Err())...)
}

func (p *Processor) resume(ctx context.Context, d *Delivery) (rejected, err error) {
	ctx, cancel := p.withTimeout(ctx) // one that hangs must not keep the others waiting
	defer cancel()
	if p.GiveUpAfter <= 0 || time.Since(d.ReceivedAt) <= p.GiveUpAfter {
		r := p.accept(ctx, d)
		return r.rejected, r.err
	}
	state, err := p.save(ctx, d)
	if err != nil || state == StateDone {
		return nil, err
	}
	return ErrGaveUp, p.complete(ctx, d, ErrGaveUp)
}

func (p *Processor) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, orDefault(p.Timeout, defaultTimeout))
}

// check refuses a Processor that would say done where nothing was.
func (p *Processor) check() error {
	switch {
	case p == nil:
		return fmt.Errorf("%w: Processor is nil", ErrMisconfigured)
	case p.Store == nil:
		return fmt.Errorf("%w: Processor.Store is nil", ErrMisconfigured)
	case p.Deferred && (p.Images != nil || p.Notify != nil):
		return fmt.Errorf("%w: a Deferred Processor has no Images and no Notify", ErrMisconfigured)
	case !p.Deferred && p.Images == nil && p.Notify == nil:
		return fmt.Errorf("%w: Processor has neither Images nor Notify and is not Deferred", ErrMisconfigured)
	case p.Timeout < 0 || p.GiveUpAfter < 0:
		return fmt.Errorf("%w: Processor.Timeout or Processor.GiveUpAfter is negative", ErrMisconfigured)
	}
	return nil
}

// A result is what came of accepting a delivery.
type result struct {
	known    State // what Save said
	after    State
	rejected error
	err      error
}

func (p *Processor) accept(ctx context.Context, d *Delivery) (r result) {
	if r.err = p.check(); r.err != nil {
		return r
	}
	if r.known, r.err = p.save(ctx, d); r.err != nil {
		return r
	}
	if r.after = StatePending; r.known == StateDone {
		r.after = StateDone
	}
	if p.Deferred || r.after == StateDone {
		return r
	}
	if r.rejected, r.err = p.process(ctx, d); r.err == nil {
		r.after = StateDone
	}
	return r
}

func (p *Processor) process(ctx context.Context, d *Delivery) (rejected, err error) {
	if p.Deferred {
		return nil, fmt.Errorf("%w: a Deferred Processor does not process", ErrMisconfigured)
	}
	if img, ok := d.Image(); ok && p.Images != nil {
		rejected, err = p.work(ctx, ErrCreateImage, func() error { return p.Images.CreateImage(ctx, img) })
	}
	if err == nil && p.Notify != nil {
		var cause error
		cause, err = p.work(ctx, ErrNotify, func() error { return p.Notify(ctx, d) })
		rejected = errors.Join(rejected, cause)
	}
	if err == nil {
		err = p.complete(ctx, d, rejected)
	}
	if err != nil {
		return nil, err
	}
	return rejected, nil
}

// work tells a rejection, which is an outcome, from a failure, which is retried.
// An error that came after the deadline may be due to it, and is a failure.
func (p *Processor) work(ctx context.Context, stage error, f func() error) (rejected, err error) {
	err = contain(f)
	switch {
	case err == nil:
		return nil, nil
	case isPermanent(err) && ctx.Err() == nil:
		return fmt.Errorf("%w: %w", stage, err), nil
	}
	return nil, fmt.Errorf("%w: %w", stage, err)
}

func (p *Processor) save(ctx context.Context, d *Delivery) (state State, err error) {
	err = contain(func() (err error) {
		state, err = p.Store.Save(ctx, d)
		return err
	})
	if err == nil && (state < StateNew || state > StateDone) {
		err = fmt.Errorf("the store answered state %d", state)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrSave, err)
	}
	return state, nil
}

func (p *Processor) complete(ctx context.Context, d *Delivery, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeTimeout)
	defer cancel()
	if err := contain(func() error { return p.Store.Complete(ctx, d.ID, cause) }); err != nil {
		return fmt.Errorf("%w: %w", ErrComplete, err)
	}
	return nil
}

func (p *Processor) log(ctx context.Context, d *Delivery, rejected, err error) {
	switch {
	case p == nil || p.Logger == nil:
	case d == nil && err != nil:
		p.Logger.LogAttrs(ctx, slog.LevelError, "cloudinary resuming failed",
			slog.Any("error", err), stackOf(err))
	case err != nil:
		p.Logger.LogAttrs(ctx, slog.LevelError, "cloudinary delivery failed",
			slog.Any("delivery", d), slog.Any("error", err), stackOf(err))
	case rejected != nil:
		p.Logger.LogAttrs(ctx, slog.LevelWarn, "cloudinary delivery rejected",
			slog.Any("delivery", d), slog.Any("cause", rejected))
	}
}

// contain makes a panic of the app's code an error, so that one odd
// notification cannot take an endpoint or a worker down.
func contain(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return f()
}

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// Unwrap has errors.Is reach an error that was panicked with.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// stackOf is the stack of a panic for the log, or an empty attribute.
func stackOf(err error) slog.Attr {
	if p, ok := errors.AsType[*panicError](err); ok {
		return slog.String("stack", string(bytes.TrimSpace(p.stack)))
	}
	return slog.Attr{}
}
