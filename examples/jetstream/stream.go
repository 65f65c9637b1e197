package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

var (
	errUnsafeStream = errors.New("the stream does not keep what the receivers promise")
	errNoQuorum     = errors.New("most of its nodes are away")
	errFull         = errors.New("the stream is full")
)

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
	_, err := c.open(ctx, js)
	return err
}

// open is openStreams, and returns what the cluster says about both streams.
func (c clusterConfig) open(ctx context.Context, js jetstream.JetStream) (infos []*jetstream.StreamInfo, err error) {
	for _, want := range c.streams() {
		stream, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, want) // another may have at the same time
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				stream, err = js.Stream(ctx, want.Name)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", want.Name, c.explain(err))
		}
		info := stream.CachedInfo()
		if err := checkStream(info.Config, want); err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// explain names the setting behind an error that says only that there is not
// enough storage. JetStream reserves a stream's size when it creates the stream.
func (c clusterConfig) explain(err error) error {
	const accountLimits = 10002
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || api.ErrorCode != accountLimits && !strings.Contains(api.Description, "insufficient storage") {
		return err
	}
	const gib = 1 << 30
	return fmt.Errorf("-max-bytes %d reserves %.2f GiB on each node, and an eighth of that for dead letters; a node does not have that much free: give a smaller -max-bytes, or raise the nodes' max_file_store: %w",
		c.maxBytes, float64(c.maxBytes)/gib, err)
}

// checkNodes refuses a stream whose leader has not heard of enough other nodes
// for a majority. Such a leader still answers questions for a while.
func checkNodes(info *jetstream.StreamInfo) error {
	if info.Cluster == nil {
		return nil // the node stands alone
	}
	const silent = 5 * time.Second // nodes of a stream talk every second
	here := 0
	for _, replica := range info.Cluster.Replicas {
		if !replica.Offline && replica.Active < silent {
			here++
		}
	}
	if info.Cluster.Leader != "" {
		here++
	}
	if here <= info.Config.Replicas/2 {
		return fmt.Errorf("stream %s: %w", info.Config.Name, errNoQuorum)
	}
	return nil
}

// checkRoom refuses a stream that may not take the next notification.
func checkRoom(info *jetstream.StreamInfo) error {
	limit, used := info.Config.MaxBytes, info.State.Bytes
	if limit > 0 && used+largestMessage > uint64(limit) {
		return fmt.Errorf("%w: %d of %d bytes are in use", errFull, used, limit)
	}
	if limit := info.Config.MaxMsgs; limit > 0 && info.State.Msgs >= uint64(limit) {
		return fmt.Errorf("%w: it holds %d messages", errFull, info.State.Msgs)
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
