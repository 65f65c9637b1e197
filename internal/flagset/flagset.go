// Package flagset parses command lines that may hold secrets in wrong places.
package flagset

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

var (
	// wrongValue is an error of package flag that quotes a value. The flag is
	// defined, so its name is not the user's text.
	wrongValue = regexp.MustCompile(`^invalid (?:boolean )?value "(?:[^"\\]|\\.)*" for (?:flag )?-([^\s:]+): `)

	// plain is an error that quotes a short name only. API secrets and tokens are
	// longer than that.
	plain = regexp.MustCompile(`^flag (?:provided but not defined|needs an argument): -[a-z0-9-]{1,20}$`)
)

// Parse is like flags.Parse, with two differences. It prints nothing but the
// help, to the writer help, and then returns flag.ErrHelp. And its errors quote
// no value: a URL whose flag was forgotten may have a token or a password in it,
// and logs keep what a program prints.
func Parse(flags *flag.FlagSet, args []string, help io.Writer) error {
	usage := flags.Usage
	flags.Usage = func() {}
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	flags.Usage = usage
	flags.SetOutput(help)
	if err == nil || plain.MatchString(err.Error()) {
		return err
	}
	if errors.Is(err, flag.ErrHelp) {
		flags.Usage()
		return err
	}
	if match := wrongValue.FindStringSubmatch(err.Error()); match != nil {
		_, usage := flag.UnquoteUsage(flags.Lookup(match[1]))
		return fmt.Errorf("invalid value for flag -%s: %s", match[1], usage)
	}
	return errors.New("an argument is in a wrong place, or it is not a flag")
}

// Quote quotes an argument for a message. If the argument may be a URL or a
// token, Quote says so instead.
func Quote(arg string) string {
	switch {
	case strings.Contains(arg, "://") || strings.ContainsAny(arg, "?@"):
		return "a URL"
	case strings.Contains(arg, "eyJ"): // how the header of every JWT begins, in base64
		return "a token"
	}
	return strconv.Quote(arg)
}
