package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/cloudinaryhooktest"
)

func runDeadLetters(t *testing.T, q *queue, args ...string) (out string, err error) {
	t.Helper()
	var stdout bytes.Buffer
	err = run(t.Context(), append([]string{"dead", "-nats", q.conn.ConnectedUrl()}, args...), os.Getenv, &stdout, io.Discard)
	return stdout.String(), err
}

// bury publishes a dead letter, as a worker does.
func bury(t *testing.T, q *queue, data []byte, cause string) {
	t.Helper()
	letter := nats.NewMsg(deadSubject)
	letter.Data = data
	letter.Header.Set(causeHeader, cause)
	if _, err := q.js.PublishMsg(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
}

// TestNoDeadLetters: the stream does not exist yet, is new, or was emptied.
func TestNoDeadLetters(t *testing.T) {
	tests := map[string]func(t *testing.T, q *queue) error{
		"no stream": func(t *testing.T, q *queue) error { return q.js.DeleteStream(t.Context(), deadName) },
		"new":       func(*testing.T, *queue) error { return nil },
		"emptied": func(t *testing.T, q *queue) error {
			bury(t, q, []byte("a"), "broken")
			stream, err := q.js.Stream(t.Context(), deadName)
			return errors.Join(err, stream.Purge(t.Context()))
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			q := openQueue(t)
			if err := prepare(t, q); err != nil {
				t.Fatal(err)
			}
			for _, flag := range []string{"-requeue=false", "-requeue"} {
				if out, err := runDeadLetters(t, q, flag); out != "" || err != nil {
					t.Errorf("%s got %q and %v, want nothing", flag, out, err)
				}
			}
			if _, err := runDeadLetters(t, q, "-discard", "1"); err == nil {
				t.Error("discarding a letter that is not there got nil, want an error")
			}
		})
	}
}

// TestSomeDeadLetters: with numbers, only these letters are discarded or put
// back.
func TestSomeDeadLetters(t *testing.T) {
	q := openQueue(t)
	for i := range 5 {
		bury(t, q, fmt.Append(nil, "letter ", i+1), "broken")
	}
	steps := []struct {
		args, printed string
		err           error
		left          string
	}{
		{"2", "2", nil, "1 2 3 4 5"},
		{"-discard 2 4", "2 4", nil, "1 3 5"},
		{"-discard 3 4", "3", errNoLetter, "1 5"},
		{"-requeue 5", "5", nil, "1"},
		{"-requeue 5", "", errNoLetter, "1"},
		{"-discard 1", "1", nil, ""},
	}
	number := regexp.MustCompile(`(?m)^number=(\d+) .*cause=broken delivery=none$`)
	numbers := func(out string) string {
		var all []string
		for _, match := range number.FindAllStringSubmatch(out, -1) {
			all = append(all, match[1])
		}
		return strings.Join(all, " ")
	}
	for _, step := range steps {
		out, err := runDeadLetters(t, q, strings.Fields(step.args)...)
		if got := numbers(out); got != step.printed || !errors.Is(err, step.err) {
			t.Errorf("dead %s got %q and %v, want %q and %v", step.args, got, err, step.printed, step.err)
		}
		left, err := runDeadLetters(t, q)
		if got := numbers(left); got != step.left || err != nil {
			t.Errorf("after dead %s there are %q (%v), want %q", step.args, got, err, step.left)
		}
	}
	if info, err := streamInfo(t.Context(), q.js); err != nil || info.State.Msgs != 1 {
		t.Errorf("%d messages were put back (%v), want 1", info.State.Msgs, err)
	}
}

// TestOutsideTextIsQuoted: other people write names and causes. They must not
// be able to write lines or commands to the terminal.
func TestOutsideTextIsQuoted(t *testing.T) {
	q := openQueue(t)
	const attack = "\x1b]0;owned\a\u202e\u0085 number=7"
	body, err := json.Marshal(map[string]string{"notification_type": "upload" + attack, "public_id": "cat" + attack, "request_id": attack})
	if err != nil {
		t.Fatal(err)
	}
	data, err := delivery(t, body).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	bury(t, q, data, "failed: "+attack)
	out, err := runDeadLetters(t, q)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(out, "\n"); lines != 1 || !strings.Contains(out, `cause="failed: `) || !strings.Contains(out, "cat") {
		t.Errorf("got %d lines, %q, want one with the cause quoted and the name", lines, out)
	}
	for _, r := range strings.TrimSuffix(out, "\n") {
		if !strconv.IsPrint(r) {
			t.Errorf("%q is printed as it is in %q", r, out)
		}
	}
}

// TestRequeue: a message may become a dead letter again after it was put back,
// and succeed in the end. At every moment it is in at least one of the two
// streams.
func TestRequeue(t *testing.T) {
	q := openQueue(t)
	d := announced(t, "dead")
	mustSave(t, q, d)
	var fixed atomic.Bool
	creator := newImages(func(*cloudinaryhook.Image, int) error {
		if !fixed.Load() {
			return errors.New("broken")
		}
		return nil
	})
	startWorker(t, newTestWorker(new(cloudinaryhooktest.MemoryStore), creator), q.conn)
	dead := func(args ...string) string {
		t.Helper()
		out, err := runDeadLetters(t, q, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	deadLetters(t, q.js, 1)
	listed := dead()
	for _, want := range []string{d.ID, d.PublicID, "tries=3", "creating the image failed: broken"} {
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
	fixed.Store(true)
	dead("-requeue")
	waitEmpty(t, q.js)
	if rest := dead(); rest != "" || creator.count() != 1 {
		t.Errorf("in the end there are %d images and the dead letters %q, want 1 and none", creator.count(), rest)
	}
}

// TestStreamMadeAgain: the numbers of a stream that was deleted and made again
// begin at 1 again. The other stream must not drop its messages as duplicates of
// the old ones.
func TestStreamMadeAgain(t *testing.T) {
	q := openQueue(t)
	makeAgain := func(name string) {
		t.Helper()
		if err := q.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if _, err := one.open(t.Context(), q.js); err != nil {
			t.Fatal(err)
		}
	}
	w := newTestWorker(new(cloudinaryhooktest.MemoryStore), newImages(func(*cloudinaryhook.Image, int) error { return errors.New("broken") }))
	for i := range uint64(2) {
		mustSave(t, q, announced(t, fmt.Sprint("failed ", i)))
		stop := startWorker(t, w, q.conn)
		waitEmpty(t, q.js)
		stop()
		if got := messages(t, q.js, deadName); got != i+1 {
			t.Errorf("after %d failed deliveries there are %d dead letters", i+1, got)
		}
		makeAgain(streamName)
	}
	makeAgain(deadName)
	for i := range uint64(2) {
		bury(t, q, fmt.Append(nil, "letter ", i), "broken")
		if _, err := runDeadLetters(t, q, "-requeue"); err != nil {
			t.Fatal(err)
		}
		if got := messages(t, q.js, streamName); got != i+1 {
			t.Errorf("after %d letters were put back there are %d messages", i+1, got)
		}
		makeAgain(deadName)
	}
}

func messages(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}
