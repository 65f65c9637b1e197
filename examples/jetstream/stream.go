package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamName  = "CLOUDINARY"
	subject     = "cloudinary.notifications"
	deadName    = "CLOUDINARY_DEAD"
	deadSubject = "cloudinary.dead"
	workersName = "workers" // the durable consumer that all workers share

	// Cloudinary's last retry comes about 18 minutes after the first try.
	dedupeWindow = 30 * time.Minute
)

var errUnsafeStream = errors.New("the stream does not keep what the receivers promise")

// streams are the configurations of both streams: of notifications that wait for
// a worker, and of those that no worker could process.
//
// A message leaves the first one only when a worker acknowledges it: there is no
// age limit, and a full stream refuses what is new instead of dropping what is
// old, since the old was answered 201.
func (c clusterConfig) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{{
		Name: streamName, Subjects: []string{subject},
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		Storage: jetstream.FileStorage, Replicas: c.replicas,
		MaxBytes: c.maxBytes, Duplicates: dedupeWindow,
	}, {
		Name: deadName, Subjects: []string{deadSubject},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		Storage: jetstream.FileStorage, Replicas: c.replicas,
		MaxBytes: c.maxBytes / 8, Duplicates: dedupeWindow,
	}}
}

// openStreams creates the streams that are missing. It changes none that exist,
// which an operator may have tuned, but refuses those that could lose what was
// acknowledged.
func openStreams(ctx context.Context, js jetstream.JetStream, c clusterConfig) error {
	for _, want := range c.streams() {
		stream, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, want) // another may have at the same time
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				stream, err = js.Stream(ctx, want.Name)
			}
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
		if err := checkStream(stream.CachedInfo().Config, want); err != nil {
			return err
		}
	}
	return nil
}

// checkStream compares what durability rests on. Whether nodes sync each write
// to disk is theirs to say, and no client can ask; see the README.
func checkStream(got, want jetstream.StreamConfig) error {
	var problem string
	switch {
	case got.Storage != jetstream.FileStorage:
		problem = "it is kept in memory"
	case got.Replicas < want.Replicas:
		problem = fmt.Sprintf("it has %d replicas, not %d", got.Replicas, want.Replicas)
	case got.Retention != want.Retention:
		problem = fmt.Sprintf("its retention is %v, not %v", got.Retention, want.Retention)
	case got.Discard != jetstream.DiscardNew:
		problem = "when full it drops what is old"
	case got.MaxAge != 0 || got.MaxMsgsPerSubject > 0:
		problem = "it drops messages by age or number"
	case got.NoAck:
		problem = "it acknowledges nothing"
	case got.PersistMode != jetstream.DefaultPersistMode:
		problem = "it acknowledges before it writes"
	case got.Duplicates < want.Duplicates:
		problem = fmt.Sprintf("its dedupe window is %v, not %v", got.Duplicates, want.Duplicates)
	default:
		return nil
	}
	return fmt.Errorf("%w: %s: %s", errUnsafeStream, got.Name, problem)
}
