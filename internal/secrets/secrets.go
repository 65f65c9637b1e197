// Package secrets reads secrets from a program's environment, in the same way
// for all programs of this repository, and names the fault of a bad secret.
//
// While a secret NAME is rotated, NAME_PREVIOUS holds the old one. A value may
// also come from a file, which NAME_FILE or NAME_PREVIOUS_FILE names.
package secrets

import (
	"fmt"
	"os"
	"strings"
)

// Names of the variables that more than one program reads.
const (
	APISecret = "CLOUDINARY_API_SECRET"    //nolint:gosec // a variable's name
	TokenKey  = "CLOUDINARYHOOK_TOKEN_KEY" //nolint:gosec // as above

	// Each secret of a rotation has its own variable. A list in one variable would
	// need a separator, but a token key may hold any byte.
	PreviousSuffix = "_PREVIOUS"
	FileSuffix     = "_FILE"
)

// A Value also has the name of its variable, so that a message can name it
// without showing it.
type Value struct {
	From  string // the variable
	Value string // empty if the variable is not set
}

// Lookup returns the value of the variable name, or the content of the file
// that name_FILE names. It trims nothing: a secret is used exactly as it is.
func Lookup(getenv func(string) string, name string) (Value, error) {
	value, file := getenv(name), getenv(name+FileSuffix)
	switch {
	case file == "":
		return Value{name, value}, nil
	case value != "":
		return Value{}, fmt.Errorf("%s and %s are both set: unset one of them", name, name+FileSuffix)
	}
	content, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		return Value{}, fmt.Errorf("%s%s: %w", name, FileSuffix, err)
	}
	return Value{name + FileSuffix, string(content)}, nil
}

// LookupAll returns the current and the previous value, newest first. It leaves
// out a value that is not set.
func LookupAll(getenv func(string) string, name string) ([]Value, error) {
	var all []Value
	for _, n := range []string{name, name + PreviousSuffix} {
		value, err := Lookup(getenv, n)
		if err != nil {
			return nil, err
		}
		if value.Value != "" {
			all = append(all, value)
		}
	}
	return all, nil
}

// Required returns the values of LookupAll, or an error if name itself is not
// set: with the old secret alone, everything that is signed with the new one
// would be refused.
func Required(getenv func(string) string, name string) ([]string, error) {
	values, err := LookupAll(getenv, name)
	if err != nil {
		return nil, err
	}
	if len(values) == 0 || strings.HasPrefix(values[0].From, name+PreviousSuffix) {
		return nil, fmt.Errorf("%s is not set", name)
	}
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = v.Value
	}
	return all, nil
}

// Keys returns the values of Required for the variable TokenKey, as bytes.
func Keys(getenv func(string) string) ([][]byte, error) {
	values, err := Required(getenv, TokenKey)
	var keys [][]byte
	for _, value := range values {
		keys = append(keys, []byte(value))
	}
	return keys, err
}
