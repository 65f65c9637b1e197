// Send signs a notification as Cloudinary does, posts it to a receiver, and
// says in plain words what the answer means.
//
//	export CLOUDINARY_API_SECRET=… GALLERY_TOKEN_KEY=…
//	go run ./examples/send -url https://app.example/api/v1/cloudinary upload
//
// Both are the receiver's. The key's bytes are used as they are, not decoded.
//
// It takes the name of a type or of a golden body (send -h lists them), which it
// gives fresh IDs, or a file, or - for standard input, which it sends byte for
// byte.
//
//	send -n 1000 -c 16 upload                  many, and a table of how long they took
//	send -retry -minute 1s upload              after 3, 6 and 9 minutes again, compressed
//	send -claims '{"album_id":"7"}' …          a token for another album
//	send -print curl upload                    the request as a command, instead of sending it
//
// What a receiver must refuse:
//
//	send -claims '{"album_id":"7","exp":1}' …  a token that has expired
//	send -age 3h upload                        a signature that is too old; -age -1h: of the future
//	send -tokenless upload                     no token
//	send -secret another upload                a wrong signature
//
// Secrets belong in the environment: flags are seen by everybody who may list
// the machine's processes. What -print writes holds a token and a valid
// signature, so it is as secret as the request.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "send:", err)
		os.Exit(1)
	}
}

var errNotAccepted = errors.New("not accepted")

// run is the whole program. Its error is nil if everything was accepted.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	cfg, err := parseConfig(args, getenv, stdin, stderr)
	if err != nil {
		return err
	}
	first, err := cfg.notification() // what cannot be signed is told before anything is sent
	if err != nil {
		return err
	}
	switch {
	case cfg.print != "":
		_, err = fmt.Fprintln(stdout, first.Curl())
		return err
	case cfg.count > 1:
		return sendMany(ctx, cfg, stdout, stderr)
	default:
		return sendOne(ctx, cfg, stdout)
	}
}

// sleep waits as long as it is told, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
