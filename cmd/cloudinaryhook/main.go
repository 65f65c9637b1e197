// Cloudinaryhook is a command for people who receive Cloudinary's notifications
// with the package of the same name.
//
//	go install github.com/cloudinaryhook/cloudinaryhook/cmd/cloudinaryhook@latest
//
//	cloudinaryhook send upload            sends a signed notification to a receiver
//	cloudinaryhook explain -request FILE  says why a request does not verify
//	cloudinaryhook listen -channel NAME   polls notifications, and posts them to an app
//	cloudinaryhook token -claims …        makes a token, or shows the content of one
//
// Each command prints its flags with -h.
//
// # Environment
//
// Secrets come from the environment, because other users of the machine can
// read the arguments of a process:
//
//	CLOUDINARY_API_SECRET      the API secret that signs notifications
//	CLOUDINARYHOOK_TOKEN_KEY   the key that signs tokens, of 32 bytes at least
//	CLOUDINARY_API_KEY         the API key that the secret belongs to
//	CLOUDINARY_CLOUD_NAME      the product environment
//	CLOUDINARY_URL             cloudinary://KEY:SECRET@CLOUD, for variables above that are not set
//
// While a secret is rotated, CLOUDINARY_API_SECRET_PREVIOUS and
// CLOUDINARYHOOK_TOKEN_KEY_PREVIOUS hold the old one. A name with _FILE at its
// end, such as CLOUDINARY_API_SECRET_FILE, names a file that holds the value.
//
// The command uses a value exactly as it is, as the package does. It does not
// decode it, and does not remove a newline at the end of a file.
//
// # Send
//
// Send signs a notification as Cloudinary does, posts it to a receiver, and says
// in plain words what the answer means.
//
//	cloudinaryhook send -url https://app.example/api/v1/cloudinary upload
//
// It takes the name of a type or of a sample body, and gives that body fresh
// IDs. Or it takes a file, or - for standard input, and sends the content byte
// for byte. If the file is a Delivery as a store keeps it, send sends the
// Delivery's body with its claims. If the file is a request that listen has
// recorded, send sends the request's body.
//
//	send -n 1000 -c 16 upload                  many, and a table of how long they took
//	send -retry -minute 1s upload              Cloudinary's retries, with seconds for minutes
//	send -claims '{"album_id":"7"}' upload     a token for another album
//	send -url "$NOTIFICATION_URL" upload       a URL that the server has made, with the token in it
//	send -fresh body.json                      a body with a new request_id: no duplicate
//	send -print curl upload                    the request as a command, instead of sending it
//
// A receiver must refuse these:
//
//	send -claims '{"album_id":"7","exp":1}' …  a token that has expired
//	send -age 3h upload                        a signature that is too old; -age -1h: of the future
//	send -tokenless upload                     no token
//	send -secret another upload                a wrong signature
//
// The output of -print has a token and a valid signature, so it is as secret as
// the request.
//
// # Explain
//
// Explain says why a receiver refuses a request. It takes the request as raw HTTP,
// or its body and two headers:
//
//	cloudinaryhook explain -request recorded.http
//	cloudinaryhook explain -body FILE -signature TEXT -timestamp TEXT
//
// With the secrets and keys of the environment it tries the usual faults: of
// the secret, of the body on the way, of the sender's digest, of the token. The
// likeliest cause comes first, with its fix. If nothing fits, it says how to
// find out whether the secret is wrong or the body was changed.
//
// If the receiver's settings are not the defaults, say so with flags, such as
// -require album_id or -sha256-only. Without them, explain accepts a token that
// lacks a claim which the receiver requires. Explain judges a recorded request at the
// time of its Date header, or at -at.
//
// All causes are in docs/troubleshooting.md.
//
// # Listen
//
// Listen brings notifications to an app that Cloudinary cannot reach, such as one
// on a laptop, without a tunnel. It polls the channel of a trigger whose uri_type is
// poll, and posts each notification to the app: byte for byte, with Cloudinary's
// signature, and with a token made of -claims.
//
//	cloudinaryhook listen -channel dev -forward-to http://localhost:8080/api/v1/cloudinary -claims '{"album_id":"7"}'
//	cloudinaryhook listen -channel dev -print        shows them
//	cloudinaryhook listen -channel dev -record DIR   keeps each as raw HTTP, for explain
//
// For each notification listen prints a line: time, type, public ID, the app's
// status, how long the app took. If the app answers 2xx, listen acknowledges
// the notification, and Cloudinary deletes it. Otherwise the notification comes
// again after about a minute. If a notification has waited for more than two
// hours, the app refuses it unless its MaxAge is longer.
//
// With -addr it does not poll. It receives in the app's place, behind a tunnel,
// explains what is wrong with each request, and answers 201 if it accepts the
// request, and otherwise 401. It saves nothing: the app never gets a notification
// that listen has accepted.
//
//	cloudinaryhook listen -addr 127.0.0.1:8081 -record DIR
//
// Neither mode shows secrets or tokens. But recordings hold tokens and valid
// signatures, so only your user can read the files.
//
// # Token
//
// Token makes the token that a notification URL needs, or with -endpoint the
// whole URL, the notification_url to upload with. Both are credentials.
//
//	cloudinaryhook token -claims '{"album_id":"7"}' -expires 2h
//	cloudinaryhook token -claims '{"album_id":"7"}' -endpoint https://app.example/api/v1/cloudinary
//
// With -check it reads a token or a URL from standard input, so that the token
// is not in the shell's history. It shows the token's content, and whether a
// key of the environment has signed it.
//
// # Exit status
//
// 0: done. 1: refused, or failed. 2: wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/cloudinaryhook/cloudinaryhook/internal/flagset"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	p := &process{getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.main(ctx, os.Args[1:]))
}

// A process is the environment, the input and the output of a subcommand.
type process struct {
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

var subcommands = []struct {
	name, summary string
	run           func(context.Context, *process, []string) error
}{
	{"send", "send a signed notification to a receiver", runSend},
	{"explain", "say why a request does not verify", runExplain},
	{"listen", "poll notifications and post them to an app, or receive and explain them", runListen},
	{"token", "make a token or a notification URL, or show the content of one", runToken},
}

// A usageError is a wrong usage of the command. The exit status is then 2.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// errSilent ends a command with status 1 and prints nothing: the output has
// already said why.
var errSilent = errors.New("failed")

// main runs a subcommand and returns the exit status.
func (p *process) main(ctx context.Context, args []string) int {
	if len(args) == 0 {
		p.usage(p.stderr)
		return 2
	}
	if name := strings.TrimLeft(args[0], "-"); name == "h" || name == "help" {
		p.usage(p.stdout)
		return 0
	}
	for _, c := range subcommands {
		if c.name == args[0] {
			return p.status(c.name, c.run(ctx, p, args[1:]))
		}
	}
	fmt.Fprintf(p.stderr, "cloudinaryhook: %s is not a command; -h lists them\n", flagset.Quote(args[0]))
	return 2
}

func (p *process) status(name string, err error) int {
	var wrong usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(p.stderr, "cloudinaryhook %s: %v\n\"cloudinaryhook %s -h\" lists the flags\n", name, err, name)
		return 2
	case !errors.Is(err, errSilent):
		fmt.Fprintf(p.stderr, "cloudinaryhook %s: %v\n", name, err)
	}
	return 1
}

func (p *process) usage(w io.Writer) {
	fmt.Fprint(w, "usage: cloudinaryhook COMMAND [flags] [arguments]\n\n")
	for _, c := range subcommands {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(w, `
"cloudinaryhook COMMAND -h" lists the flags of a command. Secrets come from the
environment: %s and %s. The manual is at
https://pkg.go.dev/github.com/cloudinaryhook/cloudinaryhook/cmd/cloudinaryhook
`, secretVariable, keyVariable)
}

// parse reads flags. If they ask for help, it prints that, and the error is
// flag.ErrHelp.
func (p *process) parse(flags *flag.FlagSet, synopsis string, args []string, more ...string) error {
	flags.Usage = func() {
		fmt.Fprintf(p.stdout, "usage: cloudinaryhook %s [flags] %s\n\n", flags.Name(), synopsis)
		flags.PrintDefaults()
		for _, text := range more {
			fmt.Fprintf(p.stdout, "\n%s\n", text)
		}
	}
	err := flagset.Parse(flags, args, p.stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return usageError{err}
	}
	return err
}
