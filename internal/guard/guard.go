// Package guard runs an app's own code: its Store, its ImageCreator, its
// Logger, and the methods of its errors. A panic in this code cannot end the
// process, and an error that wraps itself cannot hang it.
package guard

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
)

// Permanent marks an error as final: no retry can help.
type Permanent struct{ Err error }

func (e *Permanent) Error() string { return e.Err.Error() }
func (e *Permanent) Unwrap() error { return e.Err }

// Run calls f, which is code of the app, and puts the result into *to: nil, or
// an *Error. A panic becomes an error too, so that one notification cannot take
// down an endpoint or a worker. If f calls runtime.Goexit, the goroutine ends,
// and *to holds an error for the goroutine that waits.
func Run(to *error, stage error, f func() error) {
	done := false
	defer func() {
		if v := recover(); v != nil {
			*to = seal(stage, v, debug.Stack())
		} else if !done {
			*to = seal(stage, "runtime.Goexit was called", nil)
		}
	}()
	*to = nil
	if err := f(); err != nil {
		*to = Seal(stage, err)
	}
	done = true
}

// Ask calls f, and ignores a panic. It is for code of the app that returns
// nothing, or whose failure does not matter.
func Ask(f func()) {
	defer func() { _ = recover() }()
	f()
}

// An Error is an error that code of the app returned, or the value of its panic.
// The app's error may be a nil pointer, panic in each method, or wrap itself. So
// Seal reads its text, and the errors that it wraps, only once. Later its
// methods are only called inside Ask.
type Error struct {
	Permanent bool // every branch of the error is permanent
	Raised    any  // the value of a panic

	stage error // of the library
	text  string
	stack []byte  // of the panic that caused the error, otherwise nil
	tree  []error // the app's error and the errors that it wraps
}

// maxTree is how many wrapped errors Seal reads at most, because an error may
// wrap itself.
const maxTree = 1000

// Seal makes an Error from an error that the app returned. The stage is the
// library's sentinel error.
func Seal(stage, err error) *Error { return seal(stage, err, nil) }

// seal takes the value of a panic too, with its stack.
func seal(stage error, v any, stack []byte) *Error {
	e := &Error{stage: stage, stack: stack}
	text := fmt.Sprintf("an error of type %T, whose method Error panics", v)
	err, ok := v.(error)
	Ask(func() {
		if ok {
			text = err.Error()
		} else {
			text = fmt.Sprint(v)
		}
	})
	e.Permanent = ok && e.look(err)
	if stack != nil {
		e.Raised, e.Permanent, text = v, false, "panic: "+text
	}
	e.text = fmt.Sprintf("%v: %s", stage, text)
	return e
}

// look reports whether every branch of an error is permanent. For errors.As,
// one branch would be enough.
func (e *Error) look(err error) bool {
	if err == nil || len(e.tree) == maxTree {
		return false
	}
	e.tree = append(e.tree, err)
	_, permanent := err.(*Permanent)                     //nolint:errorlint // this is what unwraps
	if inner, ok := err.(*Error); ok && e.stack == nil { //nolint:errorlint // this is what unwraps
		e.stack = inner.stack
	}
	var wrapped []error
	Ask(func() {
		switch err := err.(type) { //nolint:errorlint // this is what unwraps
		case interface{ Unwrap() error }:
			wrapped = []error{err.Unwrap()}
		case interface{ Unwrap() []error }:
			wrapped = err.Unwrap()
		}
	})
	all := len(wrapped) > 0
	for _, err := range wrapped {
		all = e.look(err) && all
	}
	return permanent || all
}

func (e *Error) Error() string { return e.text }
func (e *Error) Unwrap() error { return e.stage }

// Is lets [errors.Is] find the errors that the app's error wraps.
func (e *Error) Is(target error) bool {
	return e.find(func(err error) bool {
		is, ok := err.(interface{ Is(error) bool })
		return reflect.TypeOf(target).Comparable() && err == target || ok && is.Is(target)
	})
}

// As lets [errors.As] find the errors that the app's error wraps.
func (e *Error) As(target any) bool {
	value := reflect.ValueOf(target).Elem()
	return e.find(func(err error) bool {
		if reflect.TypeOf(err).AssignableTo(value.Type()) {
			value.Set(reflect.ValueOf(err))
			return true
		}
		as, ok := err.(interface{ As(any) bool })
		return ok && as.As(target)
	})
}

func (e *Error) find(yes func(error) bool) bool {
	return slices.ContainsFunc(e.tree, func(err error) (found bool) {
		Ask(func() { found = yes(err) })
		return found
	})
}

// StackOf returns the stack of a panic for the log. If there is none, the
// attribute is empty, and slog leaves it out.
func StackOf(err error) slog.Attr {
	if e, ok := errors.AsType[*Error](err); ok && e.stack != nil {
		return slog.String("stack", string(bytes.TrimSpace(e.stack)))
	}
	return slog.Attr{}
}
