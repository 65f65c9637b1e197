package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

// TestFullDisks: nodes with full disks acknowledge nothing, and the receiver is
// not ready. After a restart the nodes still have everything that they had
// acknowledged. A limit on the size of their files plays the full disk.
func TestFullDisks(t *testing.T) {
	t.Parallel()
	c := startTestCluster(t)
	c.open(clusterConfig{replicas: 3, maxBytes: 1 << 30})
	q := mustQueue(t, dial(t, urls(c.nodes)), publishTry)
	mustSave(t, q, announced(t, "before"))
	for _, p := range c.processes {
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 64 << 10, Max: unix.RLIM_INFINITY}, nil); err != nil {
			t.Fatal(err)
		}
	}
	saved := uint64(1)
	wait(t, "a refusal", func(ctx context.Context) error {
		if _, err := q.Save(ctx, announced(t, "full")); err == nil {
			saved++
			return errors.New("it was saved")
		}
		return nil
	})
	if err := q.ready(); !errors.Is(err, errNotSaved) {
		t.Errorf("ready got %v, want errNotSaved", err)
	}
	for i, p := range c.processes {
		p.kill()
		c.start(i)
	}
	wait(t, "the next to be saved", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := q.Save(ctx, announced(t, "after"))
		return err
	})
	c.ask("what was acknowledged", func(ctx context.Context, js jetstream.JetStream) error {
		info, err := streamInfo(ctx, js)
		if err == nil && info.State.Msgs < saved+1 {
			err = fmt.Errorf("the stream has %d of %d messages", info.State.Msgs, saved+1)
		}
		return err
	})
}
