package guard

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
)

// odd panics in each method that errors.Is and errors.As call.
type odd struct{}

func (odd) Error() string { return "odd" }
func (odd) Is(error) bool { panic("no") }
func (odd) As(any) bool   { panic("no") }
func (odd) Unwrap() error { panic("no") }

// TestErrorsAreFound: errors.Is and errors.As find the errors that the app's error
// wraps, also beside one that panics.
func TestErrorsAreFound(t *testing.T) {
	stage := errors.New("stage")
	cause := &url.Error{Op: "Get", Err: context.Canceled}
	again := func(err error) (sealed error) {
		Run(&sealed, errors.New("inner"), func() error { return err })
		return sealed
	}
	for name, err := range map[string]error{
		"as it is":              cause,
		"wrapped":               fmt.Errorf("while: %w", cause),
		"joined":                errors.Join(errors.New("first"), fmt.Errorf("while: %w", cause)),
		"marked Permanent":      errors.Join(errors.New("first"), &Permanent{cause}),
		"after one that panics": errors.Join(odd{}, cause),
		"sealed twice":          again(cause),
	} {
		t.Run(name, func(t *testing.T) {
			var got error
			Run(&got, stage, func() error { return err })
			if found, ok := errors.AsType[*url.Error](got); !ok || found != cause {
				t.Errorf("AsType got %v, want %v", found, cause)
			}
			for _, want := range []error{stage, cause, context.Canceled} {
				if !errors.Is(got, want) {
					t.Errorf("got %v, want it to wrap %v", got, want)
				}
			}
			if errors.Is(got, context.DeadlineExceeded) {
				t.Errorf("got %v, want it not to wrap %v", got, context.DeadlineExceeded)
			}
			if want := "stage: " + err.Error(); got.Error() != want {
				t.Errorf("text got %q, want %q", got, want)
			}
		})
	}
}

// TestPermanent: an error is permanent if every branch is.
func TestPermanent(t *testing.T) {
	plain := errors.New("plain")
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"plain":                  {plain, false},
		"permanent":              {&Permanent{plain}, true},
		"beside one that is":     {errors.Join(&Permanent{plain}, &Permanent{plain}), true},
		"beside one that isn't":  {errors.Join(&Permanent{plain}, plain), false},
		"beside one that panics": {errors.Join(&Permanent{plain}, odd{}), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Seal(plain, tt.err).Permanent; got != tt.want {
				t.Errorf("Permanent got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestStackOfAWrappedPanic: the log has the stack of a panic, also if the app
// returns the panic's error inside one of its own.
func TestStackOfAWrappedPanic(t *testing.T) {
	var inner, outer error
	Run(&inner, errors.New("inner"), func() error { panic("a bug") })
	Run(&outer, errors.New("outer"), func() error { return errors.Join(errors.New("first"), fmt.Errorf("while: %w", inner)) })
	if got, want := StackOf(outer), StackOf(inner); want.Key != "stack" || !got.Equal(want) {
		t.Errorf("the outer stack got %v, want the inner one, %v", got, want)
	}
	Run(&outer, errors.New("outer"), func() error { return errors.New("no panic") })
	if got := StackOf(outer); got.Key != "" {
		t.Errorf("the stack of an error without a panic got %v, want none", got)
	}
}
