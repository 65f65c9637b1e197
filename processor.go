package cloudinaryhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook/internal/guard"
)

// Permanent marks an error of CreateImage or Notify as final: no retry can
// help. The delivery is then completed as rejected, with err as its cause, and
// the answer is 201. errors.Join(Permanent(a), b) is not permanent, unless b
// is. An error that is returned after the context ended is not permanent
// either. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &guard.Permanent{Err: err}
}

const (
	defaultTimeout  = 15 * time.Second // others report that Cloudinary waits 20 s
	completeTimeout = 3 * time.Second  // Complete's own: work that used all its time must still be recorded as done
	resumeAge       = time.Minute      // more than any request takes
)

// A Processor does the work for a delivery: it creates the image and notifies
// the app. It holds no secret and needs no HTTP, so a worker behind a queue can
// use it without a Handler. It is safe for concurrent use as long as its fields
// are not changed.
//
// A Processor with neither Images nor Notify refuses to work, unless it is
// Deferred. A Deferred Processor refuses to Process. Both errors wrap
// [ErrMisconfigured].
type Processor struct {
	Store Store // required

	// Images creates the announced images. Nil means that the app wants none.
	Images ImageCreator

	// Notify is called for every notification of any type, such as moderation,
	// delete and video uploads. If the notification announces an image, Notify is
	// called after CreateImage. Like CreateImage, it may be called again for the
	// same notification.
	Notify func(context.Context, *Delivery) error

	// Deferred means that workers elsewhere process the saved deliveries. Then
	// Images and Notify must be nil.
	Deferred bool

	// Timeout limits the work on each delivery in Process and Resume, through its
	// context; 0 means 15 s. In Accept, the caller's context is the limit. In a
	// Handler, it is [Config].Timeout. Complete has three seconds of its own.
	Timeout time.Duration

	// GiveUpAfter is how long Resume tries a delivery again, counted from its
	// receipt. If CreateImage or Notify fails for an older one, Resume completes
	// it as rejected, with [ErrGaveUp] and the last error as its cause. So it
	// tries each at least once. 0 means that Resume never gives up.
	GiveUpAfter time.Duration

	// Logger gets one line for each delivery that fails or is rejected, and for
	// each error that a sequence of pending deliveries yields; nil is silent. In
	// a Handler, only [Config].Logger gets the line.
	Logger *slog.Logger
}

// Accept saves a delivery and, unless the Processor is Deferred, processes it.
// Use it for deliveries that did not come through a Handler. It returns the
// state afterwards: StateDone, StatePending if work remains, or zero if it was
// not saved. Errors wrap the error of the failed stage, such as [ErrSave] or
// [ErrCreateImage], and the app's own error.
func (p *Processor) Accept(ctx context.Context, d *Delivery) (State, error) {
	r := p.run(ctx, d, func(r *result) { p.accept(ctx, d, r) })
	return r.after, r.err
}

// Process does the work for a saved delivery: CreateImage if it announces an
// image, Notify, Complete. It returns nil if the delivery is completed, even as
// rejected. It is for workers that share the receivers' Store.
func (p *Processor) Process(ctx context.Context, d *Delivery) error {
	return p.run(ctx, d, func(r *result) {
		if r.err = p.ready(d, true); r.err == nil {
			ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.Timeout, defaultTimeout))
			defer cancel()
			p.process(ctx, d, r)
		}
	}).err
}

// Resume processes the pending deliveries that a method of your Store lists. It
// calls Save for each one first, to skip those that were completed meanwhile.
// If the list yields an error or a delivery fails, Resume goes on with the
// next. All failures are logged, and joined in the error. Resume stops when ctx
// ends. It does not log successes. To count deliveries, count them in the
// sequence that you pass.
//
// List only deliveries that no request can still be processing. When an app
// starts, and no other process uses the store, list those that were received
// before the start. Later, or if several processes share the store, list those
// that were received more than a minute ago. [Processor.ResumeEvery] does that.
func (p *Processor) Resume(ctx context.Context, pending iter.Seq2[*Delivery, error]) error {
	var errs []error
	listing := p.run(ctx, nil, func(r *result) {
		if r.err = p.check(true); r.err != nil {
			return
		}
		guard.Run(&r.err, ErrPending, func() error {
			for d, err := range pending {
				if ctx.Err() != nil {
					break
				}
				errs = append(errs, p.resume(ctx, d, err))
			}
			return nil
		})
	})
	return errors.Join(append(errs, listing.err, ctx.Err())...)
}

func (p *Processor) resume(ctx context.Context, d *Delivery, listed error) error {
	return p.run(ctx, d, func(r *result) {
		work, cancel := context.WithTimeout(ctx, cmp.Or(p.Timeout, defaultTimeout)) // the others do not wait for one that hangs
		defer cancel()
		if guard.Run(&r.err, ErrPending, func() error { return listed }); r.err == nil {
			p.accept(work, d, r)
		}
		tried := errors.Is(r.err, ErrCreateImage) || errors.Is(r.err, ErrNotify)
		if tried && ctx.Err() == nil && p.GiveUpAfter > 0 && time.Since(d.ReceivedAt) > p.GiveUpAfter {
			p.complete(ctx, d, fmt.Errorf("%w: %w", ErrGaveUp, r.err), r)
		}
	}).err
}

// ResumeEvery resumes the deliveries that pending lists, at once and then every
// interval, until ctx ends. It asks for those that were received more than a
// minute ago, because no request works on them any more. It blocks, so start it
// in a goroutine of its own. Failures are logged, and the next pass tries
// again. It returns the error of ctx. If p is misconfigured, it returns at once
// with an error that wraps [ErrMisconfigured].
func (p *Processor) ResumeEvery(ctx context.Context, interval time.Duration, pending func(ctx context.Context, before time.Time) iter.Seq2[*Delivery, error]) error {
	if err := p.check(true); err != nil {
		return err
	}
	if interval <= 0 || pending == nil {
		return fmt.Errorf("%w: ResumeEvery needs an interval above 0 and a function that lists pending deliveries", ErrMisconfigured)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		_ = p.Resume(ctx, func(yield func(*Delivery, error) bool) { // it has logged its errors
			pending(ctx, time.Now().Add(-resumeAge))(yield)
		})
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// check refuses a Processor that would report work as done without doing any.
func (p *Processor) check(works bool) error {
	switch {
	case p == nil:
		return fmt.Errorf("%w: Processor is nil", ErrMisconfigured)
	case p.Store == nil:
		return fmt.Errorf("%w: Processor.Store is nil", ErrMisconfigured)
	case p.Deferred && (p.Images != nil || p.Notify != nil):
		return fmt.Errorf("%w: a Deferred Processor has no Images and no Notify", ErrMisconfigured)
	case !p.Deferred && p.Images == nil && p.Notify == nil:
		return fmt.Errorf("%w: Processor has neither Images nor Notify and is not Deferred", ErrMisconfigured)
	case works && p.Deferred:
		return fmt.Errorf("%w: a Deferred Processor does not process", ErrMisconfigured)
	case p.Timeout < 0 || p.GiveUpAfter < 0:
		return fmt.Errorf("%w: Processor.Timeout or Processor.GiveUpAfter is negative", ErrMisconfigured)
	}
	return nil
}

func (p *Processor) ready(d *Delivery, works bool) error {
	if d == nil || d.ID == "" { // all deliveries without an ID would be one
		return fmt.Errorf("%w: it is nil or has no ID", ErrInvalidDelivery)
	}
	return p.check(works)
}

// A result says how far a delivery has come. Each step fills in its part, so that
// the result is right if the app's code ends the goroutine.
type result struct {
	known    State // from Save
	after    State
	rejected error
	err      error
}

// run does the work on d in a goroutine of its own, and waits for it. If the app's
// code calls runtime.Goexit, that goroutine ends, and not the caller's, which has
// other deliveries. run logs the failure.
func (p *Processor) run(ctx context.Context, d *Delivery, work func(*result)) (r result) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(&r)
	}()
	<-done
	p.log(ctx, d, r)
	return r
}

func (p *Processor) accept(ctx context.Context, d *Delivery, r *result) {
	if r.err = p.ready(d, false); r.err != nil {
		return
	}
	guard.Run(&r.err, ErrSave, func() (err error) {
		r.known, err = p.Store.Save(ctx, d)
		if err == nil && (r.known < StateNew || r.known > StateDone) {
			err = fmt.Errorf("the store answered state %d", r.known)
		}
		return err
	})
	switch {
	case r.err != nil:
		r.known = 0
	case r.known == StateDone:
		r.after = StateDone
	default:
		if r.after = StatePending; !p.Deferred {
			p.process(ctx, d, r)
		}
	}
}

func (p *Processor) process(ctx context.Context, d *Delivery, r *result) {
	var cause error
	if img, ok := d.Image(); ok && p.Images != nil {
		cause = p.work(ctx, ErrCreateImage, func() error { return p.Images.CreateImage(ctx, img) }, r)
	}
	if r.err == nil && p.Notify != nil {
		cause = errors.Join(cause, p.work(ctx, ErrNotify, func() error { return p.Notify(ctx, d) }, r))
	}
	if r.err == nil {
		p.complete(ctx, d, cause, r)
	}
}

// work tells a rejection, which is final, from a failure, which is retried. An
// error after the deadline is a failure, as the deadline may have caused it.
func (p *Processor) work(ctx context.Context, stage error, f func() error, r *result) (rejected error) {
	guard.Run(&r.err, stage, f)
	if e, ok := r.err.(*guard.Error); ok && e.Permanent && ctx.Err() == nil { //nolint:errorlint // Run wraps it in nothing
		r.err = nil
		return e
	}
	return nil
}

func (p *Processor) complete(ctx context.Context, d *Delivery, cause error, r *result) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeTimeout)
	defer cancel()
	guard.Run(&r.err, ErrComplete, func() error { return p.Store.Complete(ctx, d.ID, cause) })
	if r.err == nil {
		r.after, r.rejected = StateDone, cause
	} else if cause != nil {
		r.err = fmt.Errorf("%w (after: %s)", r.err, cause.Error()) // its text alone: the stage that failed is Complete
	}
}

func (p *Processor) log(ctx context.Context, d *Delivery, r result) {
	if p == nil || p.Logger == nil || r.err == nil && r.rejected == nil {
		return
	}
	level, message, attrs := slog.LevelWarn, "cloudinary delivery rejected", []slog.Attr{slog.Any("cause", r.rejected)}
	if r.err != nil {
		level, message, attrs = slog.LevelError, "cloudinary delivery failed", []slog.Attr{slog.Any("error", r.err), guard.StackOf(r.err)}
	}
	if d != nil {
		attrs = append(attrs, slog.Any("delivery", d))
	}
	guard.Ask(func() { p.Logger.LogAttrs(ctx, level, message, attrs...) })
}
