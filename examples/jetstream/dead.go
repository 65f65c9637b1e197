package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/examples/internal/service"
)

var errNoLetter = errors.New("no such dead letter")

// A deadCommand lists dead letters, has workers try them again once what was
// wrong is mended, or discards them.
type deadCommand struct {
	cluster          clusterConfig
	log              service.Log
	requeue, discard bool
	numbers          []uint64 // of letters; none: all
}

func parseDead(args []string, stderr io.Writer) (*deadCommand, error) {
	c := new(deadCommand)
	flags := newFlags("dead")
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: jetstream dead [flags] [NUMBER...]\n\nWithout numbers it is about all dead letters.\n\n")
		flags.PrintDefaults()
	}
	flags.BoolVar(&c.requeue, "requeue", false, "have workers try them again")
	flags.BoolVar(&c.discard, "discard", false, "delete them for good; needs their numbers")
	c.log.Register(flags)
	c.cluster.register(flags)
	if err := parse(flags, args, stderr); err != nil {
		return nil, err
	}
	for _, arg := range flags.Args() {
		number, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || number == 0 {
			return nil, errors.New("after the flags there must be nothing but numbers of dead letters") // not quoted: it may be a URL
		}
		c.numbers = append(c.numbers, number)
	}
	if c.discard && (c.requeue || len(c.numbers) == 0) {
		return nil, errors.New("-discard needs the numbers of dead letters, and excludes -requeue")
	}
	return c, nil
}

func runDead(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseDead(args, stderr)
	if err != nil {
		return err
	}
	logger, stop := c.log.Open(ctx, stderr, causeOf)
	defer stop()
	nc, err := connect(c.cluster, "dead letters", logger)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc.Conn)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, deadName)
	if errors.Is(err, jetstream.ErrStreamNotFound) && len(c.numbers) == 0 {
		return nil // nothing has died here yet
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", deadName, err)
	}
	return c.each(ctx, stream, func(letter *jetstream.RawStreamMsg) error {
		printLetter(ctx, stdout, letter)
		switch {
		case c.requeue:
			return requeue(ctx, js, stream, letter)
		case c.discard:
			return stream.DeleteMsg(ctx, letter.Sequence)
		}
		return nil
	})
}

// each calls f for each dead letter that it is about, the oldest first.
func (c *deadCommand) each(ctx context.Context, stream jetstream.Stream, f func(*jetstream.RawStreamMsg) error) error {
	last := stream.CachedInfo().State.LastSeq // what dies meanwhile may be what was put back
	missing := slices.Clone(c.numbers)
	for number := uint64(1); number <= last; number++ {
		letter, err := stream.GetMsg(ctx, number, jetstream.WithGetMsgSubject(deadSubject)) // or the next one that is there
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && letter.Sequence > last {
			break
		}
		if err == nil {
			number = letter.Sequence
			if len(c.numbers) > 0 && !slices.Contains(c.numbers, number) {
				continue
			}
			missing = slices.DeleteFunc(missing, func(n uint64) bool { return n == number })
			err = f(letter)
		}
		if err != nil {
			return fmt.Errorf("dead letter %d: %w", number, err)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %v", errNoLetter, missing)
	}
	return nil
}

// printLetter says no more of a delivery than a log may, and quotes as a log does:
// names and causes are other people's text, which could write to a terminal.
func printLetter(ctx context.Context, out io.Writer, letter *jetstream.RawStreamMsg) {
	line := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{} // those of a log
		}
		return a
	}}))
	about := slog.String("delivery", "none")
	d := new(cloudinaryhook.Delivery)
	if d.UnmarshalJSON(letter.Data) == nil {
		about = slog.Any("delivery", d)
	}
	line.LogAttrs(ctx, slog.LevelInfo, "", slog.Uint64("number", letter.Sequence), slog.Time("died", letter.Time.UTC()),
		slog.String("tries", letter.Header.Get(triesHeader)), slog.String("cause", letter.Header.Get(causeHeader)), about)
}

// requeue moves a dead letter back. Its message ID is a new one, since the stream
// may know the delivery's still and would drop it; interrupted and run again, it
// is dropped then, or a duplicate to the worker's store.
func requeue(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, letter *jetstream.RawStreamMsg) error {
	id := fmt.Sprintf("%s/%d", deadName, letter.Sequence)
	_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: letter.Data},
		jetstream.WithMsgID(id), jetstream.WithExpectStream(streamName))
	if err != nil {
		return err
	}
	return stream.DeleteMsg(ctx, letter.Sequence)
}
