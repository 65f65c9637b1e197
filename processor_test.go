package cloudinaryhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPermanent(t *testing.T) {
	plain, other := errors.New("plain"), errors.New("other")
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"nil", Permanent(nil), false},
		{"plain", plain, false},
		{"permanent", Permanent(plain), true},
		{"wrapped", fmt.Errorf("while: %w", Permanent(plain)), true},
		{"twice", Permanent(Permanent(plain)), true},
		{"of a joined one", Permanent(errors.Join(plain, other)), true},
		{"joined with a transient one", errors.Join(Permanent(plain), other), false},
		{"transient first", errors.Join(other, Permanent(plain)), false},
		{"two joined", errors.Join(Permanent(plain), Permanent(other)), true},
		{"joined deep down", fmt.Errorf("a: %w", errors.Join(Permanent(plain), fmt.Errorf("b: %w", other))), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			p := Processor{Store: &memory{}, Images: &calls{createErr: tt.err}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			state, err := p.Accept(t.Context(), newDelivery(t, untypedImage, "{}", 1))
			if got := state == StateDone && err == nil; got != (tt.want || tt.err == nil) {
				t.Errorf("Accept got %v and %v, want done: %v", state, err, tt.want)
			}
			want := "cloudinary delivery failed"
			if tt.want {
				want = "cloudinary delivery rejected"
			}
			if got := log.String(); strings.Count(got, want) != 1 != (tt.err == nil) || tt.err == nil && got != "" {
				t.Errorf("log got %q, want %q unless all went well", got, want)
			}
		})
	}
	if err := Permanent(plain); !errors.Is(err, plain) || err.Error() != "plain" {
		t.Errorf("Permanent(plain) got %v, want it to be plain", err)
	}
}

// calls records what a Processor does to an app, in order.
type calls struct {
	list      []string
	createErr error
	notifyErr error
	onCreate  func(context.Context)
}

func (c *calls) CreateImage(ctx context.Context, img *Image) error {
	c.list = append(c.list, "create "+img.PublicID)
	if c.onCreate != nil {
		c.onCreate(ctx)
	}
	return c.createErr
}

func (c *calls) notify(_ context.Context, d *Delivery) error {
	c.list = append(c.list, "notify "+string(d.Type))
	return c.notifyErr
}

func TestAccept(t *testing.T) {
	boom, bad := errors.New("boom"), errors.New("bad")
	upload := `{"notification_type":"upload","public_id":"a"}`
	tests := []struct {
		name      string
		body      string
		app       calls
		store     *memory
		wantCalls []string
		wantState State
		wantErr   []error
		wantCause error
	}{
		{"image", upload, calls{}, &memory{}, []string{"create a", "notify upload"}, StateDone, nil, nil},
		{"no image", moderation, calls{}, &memory{}, []string{"notify moderation"}, StateDone, nil, nil},
		{"create fails", upload, calls{createErr: boom}, &memory{}, []string{"create a"}, StatePending, []error{ErrCreateImage, boom}, nil},
		{"notify fails", upload, calls{notifyErr: boom}, &memory{}, []string{"create a", "notify upload"}, StatePending, []error{ErrNotify, boom}, nil},
		{"create rejects", upload, calls{createErr: Permanent(bad)}, &memory{}, []string{"create a", "notify upload"}, StateDone, nil, bad},
		{"notify rejects", moderation, calls{notifyErr: Permanent(bad)}, &memory{}, []string{"notify moderation"}, StateDone, nil, bad},
		{"create rejects, notify fails", upload, calls{createErr: Permanent(bad), notifyErr: boom}, &memory{}, []string{"create a", "notify upload"}, StatePending, []error{ErrNotify, boom}, nil},
		{"permanent joined with transient", upload, calls{createErr: errors.Join(Permanent(bad), boom)}, &memory{}, []string{"create a"}, StatePending, []error{ErrCreateImage, boom}, nil},
		{"save fails", upload, calls{}, &memory{saveErr: boom}, nil, 0, []error{ErrSave, boom}, nil},
		{"save fails for good", upload, calls{}, &memory{saveErr: Permanent(boom)}, nil, 0, []error{ErrSave, boom}, nil},
		{"complete fails", upload, calls{}, &memory{doneErr: Permanent(boom)}, []string{"create a", "notify upload"}, StatePending, []error{ErrComplete, boom}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Processor{Store: tt.store, Images: &tt.app, Notify: tt.app.notify}
			d := newDelivery(t, tt.body, "{}", 1)
			state, err := p.Accept(t.Context(), d)
			if state != tt.wantState || (err == nil) != (tt.wantErr == nil) {
				t.Errorf("Accept got %v and %v, want %v and %v", state, err, tt.wantState, tt.wantErr)
			}
			for _, want := range tt.wantErr {
				if !errors.Is(err, want) {
					t.Errorf("Accept got %v, want it to wrap %v", err, want)
				}
			}
			if diff := cmp.Diff(tt.wantCalls, tt.app.list); diff != "" {
				t.Errorf("calls differ (-want +got):\n%s", diff)
			}
			if got := tt.store.cause(d.ID); !errors.Is(got, tt.wantCause) {
				t.Errorf("cause got %v, want %v", got, tt.wantCause)
			}
		})
	}
}

func TestAcceptAgain(t *testing.T) {
	app := &calls{createErr: errors.New("not yet")}
	p := Processor{Store: &memory{}, Images: app}
	d := newDelivery(t, untypedImage, "{}", 1)
	for i, want := range []State{StatePending, StatePending, StateDone, StateDone} {
		if i == 2 {
			app.createErr = nil
		}
		if got, err := p.Accept(t.Context(), d); got != want || (err == nil) != (want == StateDone) {
			t.Errorf("attempt %d got %v and %v, want %v", i+1, got, err, want)
		}
	}
	if got := len(app.list); got != 3 {
		t.Errorf("CreateImage ran %d times, want 3: not again once done", got)
	}
}

func TestDeferred(t *testing.T) {
	store := &memory{}
	p := Processor{Store: store, Deferred: true}
	d := newDelivery(t, untypedImage, "{}", 1)
	if got, err := p.Accept(t.Context(), d); got != StatePending || err != nil {
		t.Errorf("Accept got %v and %v, want %v", got, err, StatePending)
	}
	if err := p.Process(t.Context(), d); !errors.Is(err, ErrMisconfigured) {
		t.Errorf("Process got %v, want %v", err, ErrMisconfigured)
	}
	if err := p.ResumeEvery(t.Context(), time.Minute, pendingFunc(seq(d))); !errors.Is(err, ErrMisconfigured) || !errors.Is(p.Resume(t.Context(), seq(d)), ErrMisconfigured) {
		t.Errorf("ResumeEvery got %v, and Resume perhaps something else; want %v of both", err, ErrMisconfigured)
	}
	worker := Processor{Store: store, Images: &calls{}}
	if err := worker.Process(t.Context(), d); err != nil || store.state(d.ID) != StateDone {
		t.Errorf("a worker's Process got %v and state %v, want %v", err, store.state(d.ID), StateDone)
	}
	if got, err := p.Accept(t.Context(), d); got != StateDone || err != nil {
		t.Errorf("Accept of what is done got %v and %v, want %v", got, err, StateDone)
	}
}

func TestMisconfiguredProcessors(t *testing.T) {
	app := &calls{}
	tests := []struct {
		name string
		p    *Processor
	}{
		{"nil", nil},
		{"zero", &Processor{}},
		{"no store", &Processor{Images: app}},
		{"no work", &Processor{Store: &memory{}}},
		{"deferred and images", &Processor{Store: &memory{}, Deferred: true, Images: app}},
		{"deferred and notify", &Processor{Store: &memory{}, Deferred: true, Notify: app.notify}},
		{"negative GiveUpAfter", &Processor{Store: &memory{}, Images: app, GiveUpAfter: -1}},
		{"negative Timeout", &Processor{Store: &memory{}, Images: app, Timeout: -1}},
	}
	d := newDelivery(t, untypedImage, "{}", 1)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if state, err := tt.p.Accept(t.Context(), d); !errors.Is(err, ErrMisconfigured) || state != 0 {
				t.Errorf("Accept got %v and %v, want %v", state, err, ErrMisconfigured)
			}
			if err := tt.p.Process(t.Context(), d); !errors.Is(err, ErrMisconfigured) {
				t.Errorf("Process got %v, want %v", err, ErrMisconfigured)
			}
			if err := tt.p.Resume(t.Context(), seq()); !errors.Is(err, ErrMisconfigured) {
				t.Errorf("Resume got %v, want %v", err, ErrMisconfigured)
			}
			if err := tt.p.ResumeEvery(t.Context(), time.Minute, pendingFunc(seq())); !errors.Is(err, ErrMisconfigured) {
				t.Errorf("ResumeEvery got %v, want %v", err, ErrMisconfigured)
			}
			if _, err := NewHandler(Config{
				Signature: &SignatureVerifier{Secrets: []string{"s"}}, Tokenless: true, Processor: tt.p,
			}); !errors.Is(err, ErrMisconfigured) {
				t.Errorf("NewHandler got %v, want %v", err, ErrMisconfigured)
			}
		})
	}
}

func TestStoreAnswersNoState(t *testing.T) {
	p := Processor{Store: stateless{}, Images: &calls{}}
	if got, err := p.Accept(t.Context(), newDelivery(t, untypedImage, "{}", 1)); got != 0 || !errors.Is(err, ErrSave) {
		t.Errorf("Accept got %v and %v, want %v", got, err, ErrSave)
	}
}

type stateless struct{ Store }

func (stateless) Save(context.Context, *Delivery) (State, error) { return 0, nil }

// oddErrors are what the app's code may come back with that breaks whoever asks
// it about itself.
func oddErrors() map[string]func() error {
	var typedNil *url.Error
	cyclic, bush := &oddError{}, &oddErrors2{}
	cyclic.unwrap = func() error { return cyclic }
	bush.all = []error{bush, bush}
	returned := func(err error) func() error { return func() error { return err } }
	return map[string]func() error{
		"a typed nil":                   returned(typedNil),
		"wraps a typed nil":             returned(&oddError{unwrap: func() error { return typedNil }}),
		"Error panics":                  returned(&oddError{text: func() string { panic("no text") }}),
		"Error ends the goroutine":      returned(&oddError{text: func() string { runtime.Goexit(); return "" }}),
		"Is panics":                     returned(&oddError{is: func(error) bool { panic("no") }}),
		"Is always says yes":            returned(&oddError{is: func(error) bool { return true }}),
		"As panics":                     returned(&oddError{as: func(any) bool { panic("no") }}),
		"As always says yes":            returned(&oddError{as: func(any) bool { return true }}),
		"Unwrap panics":                 returned(&oddError{unwrap: func() error { panic("no") }}),
		"wraps itself":                  returned(cyclic),
		"wraps itself twice":            returned(bush),
		"cannot be compared":            returned(uncomparable{"x"}),
		"panics with text":              func() error { panic("text") },
		"panics with an error":          func() error { panic(errors.ErrUnsupported) },
		"panics with a permanent one":   func() error { panic(Permanent(errors.ErrUnsupported)) },
		"panics with a typed nil":       func() error { panic(typedNil) },
		"panics with an odd error":      func() error { panic(&oddError{text: func() string { panic("no text") }}) },
		"asks to drop the connection":   func() error { panic(http.ErrAbortHandler) },
		"ends the goroutine":            func() error { runtime.Goexit(); return nil },
		"ends the goroutine by a panic": func() error { defer runtime.Goexit(); panic("text") },
	}
}

type oddError struct {
	text   func() string
	is     func(error) bool
	as     func(any) bool
	unwrap func() error
}

func (e *oddError) Error() string {
	if e.text == nil {
		return "odd"
	}
	return e.text()
}
func (e *oddError) Is(target error) bool { return e.is != nil && e.is(target) }
func (e *oddError) As(target any) bool   { return e.as != nil && e.as(target) }
func (e *oddError) Unwrap() error {
	if e.unwrap == nil {
		return nil
	}
	return e.unwrap()
}

type oddErrors2 struct{ all []error }

func (e *oddErrors2) Error() string   { return "odd" }
func (e *oddErrors2) Unwrap() []error { return e.all }

type uncomparable []string

func (uncomparable) Error() string { return "odd" }

// oddApps are apps that come back with an odd error at each of their stages.
func oddApps(odd func() error) map[error]*Processor {
	app := &calls{}
	return map[error]*Processor{
		ErrSave:        {Store: &memory{onSave: func(context.Context) (State, error) { return StateNew, odd() }}, Images: app},
		ErrCreateImage: {Store: new(memory), Images: ImageCreatorFunc(func(context.Context, *Image) error { return odd() })},
		ErrNotify:      {Store: new(memory), Notify: func(context.Context, *Delivery) error { return odd() }},
		ErrComplete:    {Store: &memory{onComplete: func(context.Context) error { return odd() }}, Images: app},
	}
}

// TestOddErrors: whatever the app's code comes back with, at whatever stage, the
// delivery is pending, there is one line, and whoever asks survives, the tests'
// own goroutine too. It is so however the delivery came.
func TestOddErrors(t *testing.T) {
	d := newDelivery(t, untypedImage, "{}", 1)
	other := newDelivery(t, `{"notification_type":"upload","public_id":"other"}`, "{}", 1)
	for name, odd := range oddErrors() {
		for stage, p := range oddApps(odd) {
			t.Run(fmt.Sprint(name, "/", stage), func(t *testing.T) {
				var log bytes.Buffer
				p.Logger = slog.New(slog.NewTextHandler(&log, nil))
				check := func(call string, lines int, err error) {
					t.Helper()
					if !errors.Is(err, stage) || errors.Is(err, ErrBodyConsumed) != (name == "Is always says yes") || StatusCode(err) != 500 {
						t.Errorf("%s got %v, want %v, and 500", call, err, stage)
					}
					if got := strings.Count(log.String(), "\n"); got != lines || strings.Contains(err.Error(), "goroutine 1") {
						t.Errorf("%s logged %s and returned %v, want %d lines, and a stack in the log alone", call, log.String(), err, lines)
					}
					if name == "a typed nil" && !strings.Contains(err.Error(), "*url.Error") {
						t.Errorf("%s got %v, want the type of what has no text", call, err)
					}
					if panics := strings.HasPrefix(name, "panics"); panics && !strings.Contains(log.String(), "stack=") {
						t.Errorf("%s logged %s, want a stack", call, log.String())
					}
					log.Reset()
				}
				state, err := p.Accept(t.Context(), d)
				if want := StatePending; state != want && (!errors.Is(stage, ErrSave) || state != 0) {
					t.Errorf("Accept got state %v, want %v", state, want)
				}
				check("Accept", 1, err)
				if !errors.Is(stage, ErrSave) {
					check("Process", 1, p.Process(t.Context(), d))
				}
				check("Resume", 2, p.Resume(t.Context(), seq(d, other)))
			})
		}
		t.Run(name+"/listing", func(t *testing.T) {
			var log bytes.Buffer
			p := Processor{Store: new(memory), Images: &calls{}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			err := p.Resume(t.Context(), func(yield func(*Delivery, error) bool) {
				if yield(d, nil) {
					yield(nil, odd())
				}
			})
			if !errors.Is(err, ErrPending) || strings.Count(log.String(), "\n") != 1 || p.Store.(*memory).state(d.ID) != StateDone {
				t.Errorf("Resume got %v, want %v, one line, and the other delivery done; log %s", err, ErrPending, log.String())
			}
		})
	}
}

// TestDeadline: what a creator achieves after the deadline counts, what it
// fails at is not held against the notification.
func TestDeadline(t *testing.T) {
	late := func(ctx context.Context) { <-ctx.Done() }
	tests := []struct {
		name      string
		createErr error
		want      State
	}{
		{"late success", nil, StateDone},
		{"late failure", context.DeadlineExceeded, StatePending},
		{"late permanent error", Permanent(errors.New("bad")), StatePending},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				p := Processor{Store: &memory{}, Images: &calls{onCreate: late, createErr: tt.createErr}}
				state, err := p.Accept(ctx, newDelivery(t, untypedImage, "{}", 1))
				if state != tt.want || (err == nil) != (tt.want == StateDone) {
					t.Errorf("Accept got %v and %v, want %v", state, err, tt.want)
				}
			})
		})
	}
}

func seq(items ...any) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		for _, item := range items {
			d, _ := item.(*Delivery)
			err, _ := item.(error)
			if !yield(d, err) {
				return
			}
		}
	}
}

func TestResume(t *testing.T) {
	store, boom := &memory{}, errors.New("boom")
	app := &calls{}
	var log bytes.Buffer
	p := Processor{Store: store, Images: app, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	save := func(publicID string) *Delivery {
		d := newDelivery(t, `{"notification_type":"upload","public_id":"`+publicID+`"}`, "{}", 1)
		if _, err := store.Save(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	first, done, last := save("first"), save("done"), save("last")
	if err := store.Complete(t.Context(), done.ID, nil); err != nil {
		t.Fatal(err)
	}
	app.onCreate = func(context.Context) {
		if app.list[len(app.list)-1] == "create first" {
			panic("one odd image")
		}
	}
	err := p.Resume(t.Context(), seq(first, boom, nil, done, last))
	for _, want := range []error{ErrCreateImage, boom, ErrInvalidDelivery} {
		if !errors.Is(err, want) {
			t.Errorf("Resume got %v, want it to wrap %v", err, want)
		}
	}
	if diff := cmp.Diff([]string{"create first", "create last"}, app.list); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
	got := []State{store.state(first.ID), store.state(last.ID)}
	if diff := cmp.Diff([]State{StatePending, StateDone}, got); diff != "" {
		t.Errorf("states differ (-want +got):\n%s", diff)
	}
	if got := log.String(); strings.Count(got, "delivery failed") != 3 || strings.Count(got, "delivery.id=") != 1 {
		t.Errorf("log got %s, want one line for the failure, and one for each of the two that were no delivery", got)
	}
}

// TestGivingUp: an old delivery is tried once more before it is given up. Only a
// failure of the app's own work counts as a try.
func TestGivingUp(t *testing.T) {
	boom, bad := errors.New("boom"), errors.New("bad")
	ctx, cancel := context.WithCancel(t.Context())
	tests := []struct {
		name  string
		age   time.Duration
		p     Processor
		want  State
		cause []error // all of them, or none
	}{
		{"fails", 2 * time.Hour, Processor{Store: &memory{}, Images: &calls{createErr: boom}}, StateDone, []error{ErrGaveUp, ErrCreateImage, boom}},
		{"Notify fails", 2 * time.Hour, Processor{Store: &memory{}, Notify: (&calls{notifyErr: boom}).notify}, StateDone, []error{ErrGaveUp, ErrNotify, boom}},
		{"fails, and is not old", 0, Processor{Store: &memory{}, Images: &calls{createErr: boom}}, StatePending, nil},
		{"succeeds", 2 * time.Hour, Processor{Store: &memory{}, Images: &calls{}}, StateDone, nil},
		{"is rejected", 2 * time.Hour, Processor{Store: &memory{}, Images: &calls{createErr: Permanent(bad)}}, StateDone, []error{bad}},
		{"cannot be saved", 2 * time.Hour, Processor{Store: &memory{saveErr: boom}, Images: &calls{createErr: boom}}, 0, nil},
		{"cannot be completed", 2 * time.Hour, Processor{Store: &memory{doneErr: boom}, Images: &calls{}}, StatePending, nil},
		{"fails, and giving up too", 2 * time.Hour, Processor{Store: &memory{doneErr: boom}, Images: &calls{createErr: bad}}, StatePending, nil},
		{"fails since the app ends", 2 * time.Hour, Processor{Store: &memory{}, Images: &calls{onCreate: func(context.Context) { cancel() }, createErr: boom}}, StatePending, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDelivery(t, untypedImage, "{}", 1)
			d.ReceivedAt = d.ReceivedAt.Add(-tt.age)
			tt.p.GiveUpAfter = time.Hour
			err := tt.p.Resume(ctx, seq(d))
			store := tt.p.Store.(*memory)
			got := store.cause(d.ID)
			if store.state(d.ID) != tt.want || (got != nil) != (tt.cause != nil) || errors.Is(got, ErrGaveUp) != slices.Contains(tt.cause, ErrGaveUp) {
				t.Errorf("state got %v with cause %v, want %v and %v", store.state(d.ID), got, tt.want, tt.cause)
			}
			for _, want := range tt.cause {
				if !errors.Is(got, want) {
					t.Errorf("cause got %v, want it to wrap %v", got, want)
				}
			}
			if store.completes > 1 && tt.name != "fails, and giving up too" {
				t.Errorf("Complete was called %d times, want once: its failure is no failed try", store.completes)
			}
			if (err == nil) != (tt.want == StateDone) {
				t.Errorf("Resume got %v with state %v", err, tt.want)
			}
			if text := fmt.Sprint(err); tt.name == "fails, and giving up too" && (!strings.Contains(text, "boom") || !strings.Contains(text, "bad")) {
				t.Errorf("Resume got %v, want both errors in it", err)
			}
		})
	}
}

func TestResumeStopsWhenDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	app := &calls{onCreate: func(context.Context) { cancel() }}
	p := Processor{Store: &memory{}, Images: app}
	a, b := newDelivery(t, untypedImage, "{}", 1), newDelivery(t, untypedImage, "{}", 2)
	if err := p.Resume(ctx, seq(a, b)); !errors.Is(err, context.Canceled) || len(app.list) != 1 {
		t.Errorf("Resume got %v after %v, want %v after one image", err, app.list, context.Canceled)
	}
}

// TestOneHungCreator: each delivery has a time of its own, so that one whose
// creator hangs keeps neither the others nor the caller waiting.
func TestOneHungCreator(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: 15 * time.Second, time.Minute: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			store := &memory{}
			p := Processor{Store: store, Timeout: timeout, Images: ImageCreatorFunc(func(ctx context.Context, img *Image) error {
				if img.PublicID == "hung" {
					<-ctx.Done()
				}
				return ctx.Err()
			})}
			hung := newDelivery(t, `{"notification_type":"upload","public_id":"hung"}`, "{}", 1)
			start := time.Now()
			if err := p.Process(t.Context(), hung); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != want {
				t.Errorf("Process got %v after %v, want %v after %v", err, time.Since(start), context.DeadlineExceeded, want)
			}
			after := newDelivery(t, untypedImage, "{}", 1)
			if err := p.Resume(t.Context(), seq(hung, after)); !errors.Is(err, ErrCreateImage) || time.Since(start) != 2*want {
				t.Errorf("Resume got %v after %v, want %v after %v", err, time.Since(start)-want, ErrCreateImage, want)
			}
			if got := []State{store.state(hung.ID), store.state(after.ID)}; !slices.Equal(got, []State{StatePending, StateDone}) {
				t.Errorf("states got %v, want pending and done", got)
			}
		})
	}
}

func pendingFunc(pending iter.Seq2[*Delivery, error]) func(context.Context, time.Time) iter.Seq2[*Delivery, error] {
	return func(context.Context, time.Time) iter.Seq2[*Delivery, error] { return pending }
}

// TestResumeEvery: at once, then every interval, whatever the listing does, until
// ctx ends. Nobody but the log is told of what fails.
func TestResumeEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 20 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 3*interval+time.Second)
		defer cancel()
		var log bytes.Buffer
		store := &memory{}
		p := Processor{Store: store, Images: &calls{}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		d := newDelivery(t, untypedImage, "{}", 1)
		start, passes := time.Now(), 0
		err := p.ResumeEvery(ctx, interval, func(got context.Context, before time.Time) iter.Seq2[*Delivery, error] {
			if want := start.Add(time.Duration(passes)*interval - time.Minute); got != ctx || !before.Equal(want) {
				t.Errorf("pass %d asks for what came before %v, want %v", passes, before, want)
			}
			passes++
			switch passes {
			case 1:
				panic("cannot list")
			case 2:
				return nil
			case 3:
				return seq(errors.New("one row is broken"))
			}
			return seq(d)
		})
		if !errors.Is(err, context.DeadlineExceeded) || passes != 4 || store.state(d.ID) != StateDone {
			t.Errorf("ResumeEvery got %v after %d passes and state %v, want %v, 4 and done", err, passes, store.state(d.ID), context.DeadlineExceeded)
		}
		if got := log.String(); strings.Count(got, "\n") != 3 || strings.Count(got, "listing the pending deliveries failed") != 3 || !strings.Contains(got, "one row is broken") {
			t.Errorf("log got %s, want a line for each of the three listings that failed", got)
		}
	})
	p := Processor{Store: &memory{}, Images: &calls{}}
	if err := p.ResumeEvery(t.Context(), 0, pendingFunc(seq())); !errors.Is(err, ErrMisconfigured) {
		t.Errorf("ResumeEvery without an interval got %v, want %v", err, ErrMisconfigured)
	}
	if err := p.ResumeEvery(t.Context(), time.Minute, nil); !errors.Is(err, ErrMisconfigured) {
		t.Errorf("ResumeEvery without a listing got %v, want %v", err, ErrMisconfigured)
	}
}
