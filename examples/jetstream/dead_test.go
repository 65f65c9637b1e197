package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

// TestRequeue: what died once may die again, and live in the end; it is never in
// neither place.
func TestRequeue(t *testing.T) {
	q := openQueue(t)
	d := announced(t, "dead")
	mustSave(t, q, d)
	var mended atomic.Bool
	creator := newImages(func(*cloudinaryhook.Image, int) error {
		if !mended.Load() {
			return errors.New("broken")
		}
		return nil
	})
	startWorker(t, newTestWorker(new(cloudinaryhooktest.MemoryStore), creator), q.conn)
	dead := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		args = append([]string{"dead", "-nats", q.conn.ConnectedUrl()}, args...)
		if err := run(t.Context(), args, os.Getenv, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	deadLetters(t, q.js, 1)
	listed := dead()
	for _, want := range []string{d.ID, d.PublicID, "tries 3", "creating the image failed: broken"} {
		if !strings.Contains(listed, want) {
			t.Errorf("the list is %q, and does not say %q", listed, want)
		}
	}
	if dead() != listed {
		t.Error("a list changed the dead letters")
	}
	dead("-requeue")
	waitEmpty(t, q.js)
	if again := dead(); !strings.Contains(again, d.ID) || again == listed {
		t.Errorf("after another death the list is %q, want a new letter", again)
	}
	mended.Store(true)
	dead("-requeue")
	waitEmpty(t, q.js)
	if rest := dead(); rest != "" || creator.count() != 1 {
		t.Errorf("in the end there are %d images and the dead letters %q, want 1 and none", creator.count(), rest)
	}
}
