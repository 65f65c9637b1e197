// Poll takes notifications that an app fetches instead of receiving them, for
// apps that nobody outside can reach. The same three parts do the work as in a
// handler, without HTTP: SignatureVerifier, NewDelivery, Processor.Accept.
//
//	export CLOUDINARY_API_SECRET=…
//	go run ./examples/poll < messages.json
//
// It reads messages, one JSON object after the other, as Cloudinary's polling
// API has them. How they are fetched and acknowledged is not published, so that
// part is yours; the output says which to acknowledge.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

func main() {
	err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "poll:", err)
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("poll", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: poll < messages.json\n\nIt reads messages as Cloudinary's polling API has them, one JSON object after the other.\nEnvironment: CLOUDINARY_API_SECRET.\n")
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return errors.New("it takes no arguments, and reads from standard input; -h says what")
	}
	p := &poller{
		signature: &cloudinaryhook.SignatureVerifier{
			Secrets: []string{os.Getenv("CLOUDINARY_API_SECRET")},
			MaxAge:  7 * 24 * time.Hour, // a message may wait for its poller longer than a request for its answer
		},
		processor: &cloudinaryhook.Processor{
			Store: new(cloudinaryhooktest.MemoryStore), // examples/gallery has a durable one
			Images: cloudinaryhook.ImageCreatorFunc(func(_ context.Context, img *cloudinaryhook.Image) error {
				_, err := fmt.Fprintln(stdout, "create", img.PublicID)
				return err
			}),
		},
	}
	return p.acceptAll(context.Background(), stdin, stdout)
}

// A message is one polled notification. It also has a payload that somebody else
// has decoded: that is not what was signed, so it is not looked at.
type message struct {
	ReceiptHandle string `json:"receipt_handle"`
	SignedPayload string `json:"signed_payload"` // unpadded base64url of the body, byte for byte
	Signature     string `json:"signature"`
	Timestamp     string `json:"timestamp"` // text, and hashed as it is
}

var errEncoding = errors.New("signed_payload is not base64url without padding")

// A poller keeps deliveries for at least the verifier's MaxAge, in its store.
type poller struct {
	signature *cloudinaryhook.SignatureVerifier
	processor *cloudinaryhook.Processor
}

// accept verifies a message, saves it and has it processed. There are no claims:
// a polled message came on no URL, and so without a token. Whoever must know whom
// it is for looks at the public ID or the folder.
func (p *poller) accept(ctx context.Context, m message) (cloudinaryhook.State, error) {
	body, err := base64.RawURLEncoding.Strict().DecodeString(m.SignedPayload)
	if err != nil {
		return 0, errEncoding
	}
	if err := p.signature.Verify(body, m.Timestamp, m.Signature); err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseInt(m.Timestamp, 10, 64) // cannot fail: it is canonical, or Verify refused it
	if err != nil {
		return 0, err
	}
	d, err := cloudinaryhook.NewDelivery(body, nil, time.Unix(seconds, 0))
	if err != nil {
		return 0, err
	}
	return p.processor.Accept(ctx, d)
}

// hopeless says of accept's error that the message will never be accepted, so
// that it may be acknowledged, and looked into. Any other error is the app's own
// or its configuration's: the message stays where it is.
func hopeless(err error) bool {
	for _, hopeless := range []error{
		errEncoding, cloudinaryhook.ErrMissingSignature, cloudinaryhook.ErrUnsupportedSignature,
		cloudinaryhook.ErrInvalidTimestamp, cloudinaryhook.ErrStaleTimestamp,
		cloudinaryhook.ErrSignatureMismatch, cloudinaryhook.ErrMalformedBody,
	} {
		if errors.Is(err, hopeless) {
			return true
		}
	}
	return false
}

// acceptAll accepts what is there, and says of each message what becomes of it.
// One that fails stops none that follow.
func (p *poller) acceptAll(ctx context.Context, messages io.Reader, out io.Writer) error {
	decoder := json.NewDecoder(messages)
	for {
		var m message
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("a message is not as expected") // the error may quote it
		}
		switch state, err := p.accept(ctx, m); {
		case err == nil:
			fmt.Fprintf(out, "%s: %v, acknowledge\n", m.ReceiptHandle, state)
		case hopeless(err):
			fmt.Fprintf(out, "%s: refused, acknowledge: %v\n", m.ReceiptHandle, err)
		default:
			fmt.Fprintf(out, "%s: failed, leave: %v\n", m.ReceiptHandle, err)
		}
	}
}
