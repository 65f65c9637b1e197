package flagset

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"
)

const secret = "hunter2"

func newFlags() *flag.FlagSet {
	flags := flag.NewFlagSet("program", flag.ContinueOnError)
	flags.Int("n", 1, "send `n` notifications")
	flags.Bool("retry", false, "try again")
	flags.Duration("timeout", time.Second, "a `duration`")
	flags.String("url", "", "the receiver's `URL`")
	flags.Func("format", "text or json", func(format string) error { return errors.New("no such format: " + format) })
	return flags
}

func TestParse(t *testing.T) {
	const url = "https://u:hunter2@app.example/hook?token=hunter2"
	tests := []struct {
		name string
		args []string
		want string // "": no error
	}{
		{"right", []string{"-n", "2", "-retry", "-url", url, url}, ""},
		{"a number", []string{"-n", url}, "invalid value for flag -n: send n notifications"},
		{"a number after =", []string{"-n=" + url}, "invalid value for flag -n: send n notifications"},
		{"out of range", []string{"-n", "99999999999999999999"}, "invalid value for flag -n: send n notifications"},
		{"a duration", []string{"-timeout", url}, "invalid value for flag -timeout: a duration"},
		{"a boolean", []string{"-retry=" + url}, "invalid value for flag -retry: try again"},
		{"an error that quotes", []string{"-format", url}, "invalid value for flag -format: text or json"},
		{"quotes and line breaks", []string{"-n", "\" for flag -hunter2: \n" + url}, "invalid value for flag -n: send n notifications"},
		{"not a flag", []string{"-no-such-flag"}, "flag provided but not defined: -no-such-flag"},
		{"no value", []string{"-n"}, "flag needs an argument: -n"},
		{"a URL as a flag", []string{"-" + url}, "an argument is in a wrong place, or it is not a flag"},
		{"a value without a space", []string{"-secrethunter2hunter2hunter2"}, "an argument is in a wrong place, or it is not a flag"},
		{"three dashes", []string{"---url=" + url}, "an argument is in a wrong place, or it is not a flag"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			flags := newFlags()
			got := ""
			if err := Parse(flags, tt.args, &out); err != nil {
				got = err.Error()
			}
			if got != tt.want || out.Len() > 0 {
				t.Errorf("got %q and the output %q, want %q and none", got, &out, tt.want)
			}
			if strings.Contains(got, secret) {
				t.Errorf("got %q, want no value in it", got)
			}
		})
	}
}

// TestHelp: the help is printed once, also if it has a text of its own.
func TestHelp(t *testing.T) {
	for _, own := range []bool{false, true} {
		var out bytes.Buffer
		flags := newFlags()
		want := "Usage of program:"
		if own {
			want = "usage: program"
			flags.Usage = func() {
				_, _ = io.WriteString(flags.Output(), want+"\n")
				flags.PrintDefaults()
			}
		}
		if err := Parse(flags, []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("got %v, want %v", err, flag.ErrHelp)
		}
		if strings.Count(out.String(), want) != 1 || strings.Count(out.String(), "-url URL") != 1 {
			t.Errorf("got %q, want %q and the flags once", &out, want)
		}
	}
}

func TestQuote(t *testing.T) {
	for arg, want := range map[string]string{
		"":                                    `""`,
		"body.json":                           `"body.json"`,
		"\x1b[31m":                            `"\x1b[31m"`,
		"https://app.example/hook":            "a URL",
		"app.example/hook?token=x":            "a URL",
		"nats:hunter2@h":                      "a URL",
		"eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2k": "a token",
		"Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2k": "a token",
		`docs\body.json`:                      `"docs\\body.json"`,
	} {
		if got := Quote(arg); got != want {
			t.Errorf("%q got %s, want %s", arg, got, want)
		}
	}
}
