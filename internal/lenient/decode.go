// Package lenient reads JSON that somebody else wrote. It leaves out a value that
// does not fit its field, says which one, and reads all others.
package lenient

import (
	"errors"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Options relax what json/v2 is strict about: genuine bodies repeat names in EXIF
// metadata, and have file names in Latin-1.
var Options = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// ErrShape reports a value that does not fit. Decode turns it into a mismatch.
var ErrShape = errors.New("unexpected shape")

// Numbers may be quoted.
var Numbers = json.JoinUnmarshalers(json.UnmarshalFromFunc(unmarshalInt), json.UnmarshalFromFunc(unmarshalFloat))

func unmarshalInt(dec *jsontext.Decoder, n *int64) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	var ok bool
	if *n, ok = Int(value); !ok && value.Kind() != 'n' {
		return ErrShape
	}
	return nil
}

func unmarshalFloat(dec *jsontext.Decoder, n *float64) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	if value.Kind() == '"' {
		if value = Unquote(value); value.Kind() != '0' {
			return ErrShape
		}
	}
	return json.Unmarshal(value, n)
}

// MaxMismatched is how many values of one list or object may fail to fit. A body
// has room for millions, and each takes microseconds and a path.
const MaxMismatched = 1000

// Decode stores valid JSON in v, a pointer, with functions for the types that
// come in more than one shape. Where a value does not fit, Decode leaves that one
// zero, goes on, and returns its path. If more than 1,000 values of a list or an
// object do not fit, it counts as one, and is zero.
//
// Almost every body fits. So one pass of json/v2, which stops at the first value
// that does not fit, comes first. If it fails, each value within is decoded by
// itself.
func Decode(data jsontext.Value, v any, shapes *json.Unmarshalers) (mismatched []jsontext.Pointer) {
	if json.Unmarshal(data, v, Options, json.WithUnmarshalers(shapes)) == nil {
		return nil
	}
	target := reflect.ValueOf(v).Elem()
	target.SetZero()
	if kind := data.Kind(); kind == '{' || kind == '[' {
		if mismatched, err := decodeWithin(data, v, shapes); err == nil {
			return mismatched
		}
		target.SetZero()
	}
	return []jsontext.Pointer{""}
}

// decodeWithin fails if v is for another kind of value, or if too many of those
// within do not fit.
func decodeWithin(data jsontext.Value, v any, shapes *json.Unmarshalers) (mismatched []jsontext.Pointer, err error) {
	odd := 0
	each := json.UnmarshalFromFunc(func(dec *jsontext.Decoder, v any) error {
		if dec.StackDepth() == 0 {
			return errSkip // this is data itself
		}
		value, _ := dec.ReadValue() // data is valid
		paths := Decode(value, v, shapes)
		if len(paths) == 0 {
			return nil
		}
		if len(mismatched)+len(paths) > MaxMismatched {
			reflect.ValueOf(v).Elem().SetZero()
			paths = []jsontext.Pointer{""}
		}
		for _, path := range paths {
			mismatched = append(mismatched, dec.StackPointer()+path)
		}
		if odd++; odd > MaxMismatched {
			return ErrShape
		}
		return nil
	})
	err = json.Unmarshal(data, v, Options, json.WithUnmarshalers(json.JoinUnmarshalers(each, shapes)))
	return mismatched, err
}

// errSkip leaves a value to what json/v2 would do without the function.
var errSkip = errors.ErrUnsupported
