package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// runDead lists the dead letters, or puts them back once what was wrong is
// mended.
func runDead(ctx context.Context, args []string, stdout, stderr io.Writer, logger *slog.Logger) error {
	var c clusterConfig
	flags := newFlags("dead", stderr)
	c.register(flags)
	again := flags.Bool("requeue", false, "have workers try them again")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	nc, err := connect(c, "dead letters", logger)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc.Conn)
	if err != nil {
		return err
	}
	return eachDead(ctx, js, func(stream jetstream.Stream, letter *jetstream.RawStreamMsg) error {
		printLetter(stdout, letter)
		if *again {
			return requeue(ctx, js, stream, letter)
		}
		return nil
	})
}

// eachDead calls f for each dead letter there is now, the oldest first.
func eachDead(ctx context.Context, js jetstream.JetStream, f func(jetstream.Stream, *jetstream.RawStreamMsg) error) error {
	stream, err := js.Stream(ctx, deadName)
	if err != nil {
		return fmt.Errorf("stream %s: %w", deadName, err)
	}
	state := stream.CachedInfo().State
	for number := state.FirstSeq; number <= state.LastSeq; number++ {
		letter, err := stream.GetMsg(ctx, number)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // put back before
		}
		if err == nil {
			err = f(stream, letter)
		}
		if err != nil {
			return fmt.Errorf("dead letter %d: %w", number, err)
		}
	}
	return nil
}

// printLetter says no more of a delivery than a log may.
func printLetter(out io.Writer, letter *jetstream.RawStreamMsg) {
	about := "not a delivery"
	d := new(cloudinaryhook.Delivery)
	if d.UnmarshalJSON(letter.Data) == nil {
		about = d.LogValue().String()
	}
	fmt.Fprintf(out, "%d  %s  tries %s  %s  %s\n", letter.Sequence, letter.Time.UTC().Format("2006-01-02 15:04:05"),
		letter.Header.Get(triesHeader), about, letter.Header.Get(causeHeader))
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
