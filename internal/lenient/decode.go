// Package lenient reads JSON that somebody else wrote. It skips a value that
// does not fit its field, reports its path, and reads all others.
package lenient

import (
	"errors"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Options makes json/v2 less strict: genuine bodies repeat names in EXIF
// metadata, and have file names in Latin-1.
var Options = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// ErrShape reports a value that does not fit. Decode turns it into a mismatch.
var ErrShape = errors.New("unexpected shape")

// Numbers decodes numbers, which may be in quotes.
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

// maxMismatched is how many values that do not fit are reported for one list or
// object. A body may have millions of them, and each costs microseconds and
// memory for its path.
const maxMismatched = 1000

// Decode stores valid JSON in v, a pointer. shapes has functions for the types
// that come in more than one shape. If a value does not fit, Decode leaves it
// zero, goes on, and returns its path. If more than 1,000 values of a list or
// an object do not fit, the whole list or object is zero and counts as one.
//
// Almost every body fits. So Decode first tries one pass of json/v2, which
// stops at the first value that does not fit. If that fails, it decodes each
// value separately.
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

// decodeWithin decodes the values of a list or an object one by one. It fails
// if v is for another kind of value, or if too many of the values do not fit.
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
		if len(mismatched)+len(paths) > maxMismatched {
			reflect.ValueOf(v).Elem().SetZero()
			paths = []jsontext.Pointer{""}
		}
		for _, path := range paths {
			mismatched = append(mismatched, dec.StackPointer()+path)
		}
		if odd++; odd > maxMismatched {
			return ErrShape
		}
		return nil
	})
	err = json.Unmarshal(data, v, Options, json.WithUnmarshalers(json.JoinUnmarshalers(each, shapes)))
	return mismatched, err
}

// errSkip tells json/v2 to decode the value as it would without the function.
var errSkip = errors.ErrUnsupported
