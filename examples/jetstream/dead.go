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
	"github.com/cloudinaryhook/cloudinaryhook/internal/flagset"
)

var errNoLetter = errors.New("no such dead letter")

// A deadCommand lists dead letters, makes workers try them again after the
// fault is fixed, or discards them.
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
		fmt.Fprint(stderr, "usage: jetstream dead [flags] [NUMBER...]\n\nWithout numbers, the command works on all dead letters.\n\n")
		flags.PrintDefaults()
	}
	flags.BoolVar(&c.requeue, "requeue", false, "make workers try them again")
	flags.BoolVar(&c.discard, "discard", false, "delete them for good; needs their numbers")
	c.log.Register(flags)
	c.cluster.register(flags)
	if err := flagset.Parse(flags, args, stderr); err != nil {
		return nil, err
	}
	for _, arg := range flags.Args() {
		number, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || number == 0 {
			return nil, errors.New("after the flags there must be only numbers of dead letters") // not quoted: it may be a URL
		}
		c.numbers = append(c.numbers, number)
	}
	if c.discard && (c.requeue || len(c.numbers) == 0) {
		return nil, errors.New("-discard needs the numbers of dead letters, and cannot be used with -requeue")
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
		return nil // there has been no dead letter yet
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

// each calls f for each selected dead letter, oldest first.
func (c *deadCommand) each(ctx context.Context, stream jetstream.Stream, f func(*jetstream.RawStreamMsg) error) error {
	last := stream.CachedInfo().State.LastSeq // a later letter may be one that this command has just put back
	missing := slices.Clone(c.numbers)
	for number := uint64(1); number <= last; number++ {
		letter, err := stream.GetMsg(ctx, number, jetstream.WithGetMsgSubject(deadSubject)) // or the next one that exists
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

// printLetter prints a letter as a log line, with no more of the delivery than
// a log may hold. It quotes names and causes, because other people wrote them
// and they could contain terminal commands.
func printLetter(ctx context.Context, out io.Writer, letter *jetstream.RawStreamMsg) {
	line := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{} // only for logs
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

// requeue moves a dead letter back to the first stream. It uses a new message
// ID, because the stream may still know the delivery's ID and would drop the
// message. If requeue is interrupted and run again, the stream drops the second
// message, or the worker's store sees a duplicate.
func requeue(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, letter *jetstream.RawStreamMsg) error {
	id := fmt.Sprintf("%s/%d/%d", deadName, letter.Sequence, letter.Time.UnixNano()) // the time, as in bury
	_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: letter.Data},
		jetstream.WithMsgID(id), jetstream.WithExpectStream(streamName))
	if err != nil {
		return err
	}
	return stream.DeleteMsg(ctx, letter.Sequence)
}
