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
	errUnsafeStream = errors.New("the stream could lose acknowledged notifications")
	errNoQuorum     = errors.New("most of its nodes are down or cut off")
	errFull         = errors.New("the stream is full")
)

// streams returns the configurations of both streams. The first has the
// notifications that wait for a worker. The second has those that no worker
// could process.
//
// A message leaves the first stream only when a worker acknowledges it. There
// is no age limit. A full stream refuses new messages and never drops old ones,
// because those were answered 201.
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

// open creates the missing streams, and returns the information about both. It
// does not change existing streams, because an operator may have tuned them. It
// refuses a stream that could lose acknowledged notifications.
func (c clusterConfig) open(ctx context.Context, js jetstream.JetStream) (infos []*jetstream.StreamInfo, err error) {
	for _, want := range c.streams() {
		stream, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, want) // another program may create it at the same time
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

// explain adds the setting to an error that only says that there is not enough
// storage. JetStream reserves a stream's size when it creates the stream.
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

// checkNodes returns an error if the stream's leader has no contact to a
// majority of the nodes. Such a leader still answers questions for a while.
func checkNodes(info *jetstream.StreamInfo) error {
	if info.Cluster == nil {
		return nil // the node is alone
	}
	const silent = 5 * time.Second // the nodes of a stream send messages every second
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

// checkRoom returns an error if the stream may have no room for the next
// notification.
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

// checkStream compares the settings that durability depends on. A client cannot
// see whether the nodes sync each write to disk; see the README.
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
		problem = "when it is full, it drops old messages"
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
