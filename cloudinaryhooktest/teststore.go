package cloudinaryhooktest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// blocked is how long TestStore waits for a store before it calls it blocked.
var blocked = 20 * time.Second

// TestStore tests a Store against its contract, each clause in a subtest of its
// own. It calls open once for each; a store that is not empty, as one on a
// shared database, is no hindrance.
//
// If the store has a method
//
//	Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error]
//
// as the app needs one for Processor.Resume, that is tested too: what was saved
// must come back as it was, and the store be usable inside the loop. These
// clauses save more than a thousand deliveries and a body of 4 MiB.
func TestStore(t *testing.T, open func(t *testing.T) cloudinaryhook.Store) {
	for _, c := range storeClauses {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	for _, c := range pendingClauses {
		t.Run(c.name, func(t *testing.T) {
			store, ok := open(t).(pendingStore)
			if !ok {
				t.Skip("the store has no method Pending(context.Context, time.Time) iter.Seq2[*cloudinaryhook.Delivery, error]")
			}
			c.test(t, store)
		})
	}
}

type pendingStore interface {
	cloudinaryhook.Store
	Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error]
}

var storeClauses = []struct {
	name string
	test func(*testing.T, cloudinaryhook.Store)
}{
	{"SaveTellsNewPendingDone", testStates},
	{"ConcurrentSavesOneIsNew", testConcurrentSaves},
	{"SaveLeavesItsArgument", testArgument},
	{"CancelledContextIsAnError", testCancelled},
	{"CompleteUnknownIsAnError", testCompleteUnknown},
	{"CompleteTwiceIsNone", testCompleteTwice},
}

var pendingClauses = []struct {
	name string
	test func(*testing.T, pendingStore)
}{
	{"PendingBringsAllBack", testRoundTrip},
	{"PendingKeepsTheFirst", testFirstIsKept},
	{"PendingLeavesOutDone", testDoneIsLeftOut},
	{"PendingLeavesOutYounger", testYoungerIsLeftOut},
	{"PendingHoldsNothingWhileItYields", testWritingInsideTheLoop},
	{"PendingMayBeLeftEarly", testBreak},
	{"PendingPages", testPages},
	{"PendingCancelledIsAnError", testPendingCancelled},
}

// newDelivery is one that no store has seen.
func newDelivery(t *testing.T) *cloudinaryhook.Delivery {
	t.Helper()
	return deliveryOf(t, fmt.Sprintf(`{"notification_type":"upload","public_id":"a","version":1,"request_id":%q}`, rand.Text()))
}

func deliveryOf(t *testing.T, body string) *cloudinaryhook.Delivery {
	t.Helper()
	d, err := cloudinaryhook.NewDelivery([]byte(body), verifiedClaims(t), time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// verifiedClaims hold more than the fields of Claims, and numbers that a
// float64 cannot.
func verifiedClaims(t *testing.T) *cloudinaryhook.Claims {
	t.Helper()
	token, err := cloudinaryhook.SignToken([]byte(DefaultKey), jwt.MapClaims{
		"organization_id": json.Number("9007199254740993"), "album_id": "<album> & \u2028", "exp": time.Now().Add(time.Hour).Unix(),
		"tenant": map[string]any{"shard": json.Number("9007199254740995"), "rate": json.Number("1.0")},
	})
	if err != nil {
		t.Fatal(err)
	}
	v := &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(DefaultKey)}}
	claims, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func save(t *testing.T, s cloudinaryhook.Store, d *cloudinaryhook.Delivery, want cloudinaryhook.State) {
	t.Helper()
	if got, err := s.Save(t.Context(), d); got != want || err != nil {
		t.Errorf("Save got %v and %v, want %v and nil", got, err, want)
	}
}

func complete(t *testing.T, s cloudinaryhook.Store, id string, cause error) {
	t.Helper()
	if err := s.Complete(t.Context(), id, cause); err != nil {
		t.Errorf("Complete with cause %v got %v, want nil", cause, err)
	}
}

func testStates(t *testing.T, s cloudinaryhook.Store) {
	for _, cause := range []error{nil, errors.New("the app rejected it")} {
		d, other := newDelivery(t), newDelivery(t)
		save(t, s, d, cloudinaryhook.StateNew)
		save(t, s, d, cloudinaryhook.StatePending)
		save(t, s, other, cloudinaryhook.StateNew)
		complete(t, s, d.ID, cause)
		save(t, s, d, cloudinaryhook.StateDone)
		save(t, s, d, cloudinaryhook.StateDone)
		save(t, s, other, cloudinaryhook.StatePending)
	}
}

func testConcurrentSaves(t *testing.T, s cloudinaryhook.Store) {
	for range 20 {
		d := newDelivery(t)
		var wg sync.WaitGroup
		start := make(chan struct{})
		states := make([]cloudinaryhook.State, 16)
		for i := range states {
			wg.Go(func() {
				<-start
				var err error
				if states[i], err = s.Save(t.Context(), d); err != nil {
					t.Errorf("Save at the same time got %v, want nil", err)
				}
			})
		}
		close(start)
		wg.Wait()
		count := make(map[cloudinaryhook.State]int)
		for _, state := range states {
			count[state]++
		}
		if count[cloudinaryhook.StateNew] != 1 || count[cloudinaryhook.StatePending] != len(states)-1 {
			t.Fatalf("of %d Saves of one ID at the same time got %v, want exactly one new and the others pending", len(states), count)
		}
	}
}

func testArgument(t *testing.T, s cloudinaryhook.Store) {
	d := newDelivery(t)
	before, body := *d, bytes.Clone(d.Body)
	save(t, s, d, cloudinaryhook.StateNew)
	save(t, s, d, cloudinaryhook.StatePending)
	if !bytes.Equal(d.Body, body) {
		t.Errorf("Save changed the body of its argument: got %q, want %q", d.Body, body)
	}
	if !reflect.DeepEqual(*d, before) {
		t.Errorf("Save changed its argument: got %+v, want %+v", *d, before)
	}
}

func testCancelled(t *testing.T, s cloudinaryhook.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	d := newDelivery(t)
	save(t, s, d, cloudinaryhook.StateNew)
	cancel()
	if state, err := s.Save(ctx, newDelivery(t)); err == nil {
		t.Errorf("Save with a cancelled context got %v and nil, want an error", state)
	}
	if err := s.Complete(ctx, d.ID, nil); err == nil {
		t.Error("Complete with a cancelled context got nil, want an error")
	}
}

func testCompleteUnknown(t *testing.T, s cloudinaryhook.Store) {
	if err := s.Complete(t.Context(), newDelivery(t).ID, nil); err == nil {
		t.Error("Complete of an unknown ID got nil, want an error")
	}
}

func testCompleteTwice(t *testing.T, s cloudinaryhook.Store) {
	for _, causes := range [][2]error{{nil, nil}, {errors.New("a"), errors.New("b")}, {nil, errors.New("b")}, {errors.New("a"), nil}} {
		d := newDelivery(t)
		save(t, s, d, cloudinaryhook.StateNew)
		complete(t, s, d.ID, causes[0])
		complete(t, s, d.ID, causes[1])
		save(t, s, d, cloudinaryhook.StateDone)
	}
}

// pending collects what Pending yields of these deliveries, by ID.
func pending(t *testing.T, s pendingStore, before time.Time, of ...*cloudinaryhook.Delivery) map[string][]*cloudinaryhook.Delivery {
	t.Helper()
	wanted := make(map[string]bool)
	for _, d := range of {
		wanted[d.ID] = true
	}
	found := make(map[string][]*cloudinaryhook.Delivery)
	for d, err := range s.Pending(t.Context(), before) {
		switch {
		case err != nil:
			t.Errorf("Pending yielded the error %v, want none", err)
		case d == nil:
			t.Error("Pending yielded nil and no error")
		case wanted[d.ID]:
			found[d.ID] = append(found[d.ID], d)
		}
	}
	return found
}

func later() time.Time { return time.Now().Add(time.Hour) }

func testRoundTrip(t *testing.T, s pendingStore) {
	unique := func(members string) string { return fmt.Sprintf(`{"request_id":%q,%s}`, rand.Text(), members) }
	bodies := map[string]string{
		"an image":             unique(`"notification_type":"upload","public_id":"a/b","version":1741079726`),
		"no identity":          fmt.Sprintf(`{"notification_type":"create_folder","folder_name":%q}`, rand.Text()),
		"white space":          " \n" + unique(`"a" : [ 1 , 2 ]`) + "\r\n",
		"an escaped NUL":       unique(`"public_id":"a\u0000b","notification_type":"upload"`),
		"invalid UTF-8":        unique("\"original_filename\":\"caf\xe9\xff\""),
		"U+2028":               unique("\"public_id\":\"a\u2028b\""),
		"a repeated name":      unique(`"image_metadata":{"Make":"a","Make":"b"}`),
		"a large integer":      unique(`"x":18446744073709551615`),
		"HTML":                 unique(`"public_id":"<b>&amp;</b>'\""`),
		"a body of 4 MiB":      unique(`"x":"` + strings.Repeat("é", 2<<20-40) + `"`),
		"a wrong kind":         unique(`"version":"one","public_id":7`),
		"an escape in a name":  unique(`"public\u005fid":"a"`),
		"a lone surrogate":     unique(`"public_id":"\ud800"`),
		"a type that is a map": unique(`"notification_type":{}`),
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			want := deliveryOf(t, body)
			save(t, s, want, cloudinaryhook.StateNew)
			found := pending(t, s, later(), want)[want.ID]
			if len(found) != 1 {
				t.Fatalf("Pending brought %d deliveries back, want the one that was saved", len(found))
			}
			sameDelivery(t, found[0], want)
			complete(t, s, want.ID, nil)
		})
	}
}

func sameDelivery(t *testing.T, got, want *cloudinaryhook.Delivery) {
	t.Helper()
	if !bytes.Equal(got.Body, want.Body) {
		t.Errorf("body got %.200q, want %.200q, byte for byte", got.Body, want.Body)
	}
	if !got.SignedAt.Equal(want.SignedAt) {
		t.Errorf("SignedAt got %v, want %v", got.SignedAt, want.SignedAt)
	}
	// A database may keep microseconds only.
	if got.ReceivedAt.Sub(want.ReceivedAt).Abs() > time.Millisecond {
		t.Errorf("ReceivedAt got %v, want %v", got.ReceivedAt, want.ReceivedAt)
	}
	if !reflect.DeepEqual(got.Notification, want.Notification) {
		t.Errorf("notification got %+v, want %+v", got.Notification, want.Notification)
	}
	if got, want := claimSet(t, got), claimSet(t, want); !reflect.DeepEqual(got, want) {
		t.Errorf("claims got %v, want %v, all of them", got, want)
	}
	gotImage, gotOK := got.Image()
	wantImage, wantOK := want.Image()
	if gotOK != wantOK || wantOK && gotImage.Key != wantImage.Key {
		t.Errorf("image got %+v (%v), want %+v (%v) with the same key", gotImage, gotOK, wantImage, wantOK)
	}
}

func claimSet(t *testing.T, d *cloudinaryhook.Delivery) (set any) {
	t.Helper()
	if d.Claims == nil {
		t.Fatal("claims got nil, want them all")
	}
	var raw json.RawMessage
	err := d.Claims.Decode(&raw)
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		err = dec.Decode(&set)
	}
	if err != nil {
		t.Fatalf("claims: %v", err)
	}
	return set
}

func testFirstIsKept(t *testing.T, s pendingStore) {
	first := newDelivery(t)
	first.ReceivedAt = first.ReceivedAt.Add(-time.Hour)
	again := *first
	again.ReceivedAt = again.ReceivedAt.Add(time.Minute)
	save(t, s, first, cloudinaryhook.StateNew)
	save(t, s, &again, cloudinaryhook.StatePending)
	found := pending(t, s, later(), first)[first.ID]
	if len(found) != 1 || found[0].ReceivedAt.Sub(first.ReceivedAt).Abs() > time.Millisecond {
		t.Errorf("after a second Save Pending brought back %v, want the first delivery, received at %v", found, first.ReceivedAt)
	}
}

func testDoneIsLeftOut(t *testing.T, s pendingStore) {
	done, rejected, open := newDelivery(t), newDelivery(t), newDelivery(t)
	for _, d := range []*cloudinaryhook.Delivery{done, rejected, open} {
		save(t, s, d, cloudinaryhook.StateNew)
	}
	complete(t, s, done.ID, nil)
	complete(t, s, rejected.ID, errors.New("the app rejected it"))
	found := pending(t, s, later(), done, rejected, open)
	if len(found[done.ID]) != 0 || len(found[rejected.ID]) != 0 || len(found[open.ID]) != 1 {
		t.Errorf("Pending brought back %d done, %d rejected, %d open deliveries, want 0, 0, 1",
			len(found[done.ID]), len(found[rejected.ID]), len(found[open.ID]))
	}
}

func testYoungerIsLeftOut(t *testing.T, s pendingStore) {
	old, young := newDelivery(t), newDelivery(t)
	old.ReceivedAt = old.ReceivedAt.Add(-2 * time.Minute)
	save(t, s, young, cloudinaryhook.StateNew)
	save(t, s, old, cloudinaryhook.StateNew)
	found := pending(t, s, time.Now().Add(-time.Minute), old, young)
	if len(found[old.ID]) != 1 || len(found[young.ID]) != 0 {
		t.Errorf("Pending(a minute ago) brought back %d deliveries of two minutes ago and %d of now, want 1 and 0",
			len(found[old.ID]), len(found[young.ID]))
	}
}

// inTime runs f, and fails the test where it would hang.
func inTime(t *testing.T, clause string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(blocked):
		t.Fatalf("%s: blocked for %v", clause, blocked)
	}
}

func testWritingInsideTheLoop(t *testing.T, s pendingStore) {
	first, second := newDelivery(t), newDelivery(t)
	save(t, s, first, cloudinaryhook.StateNew)
	save(t, s, second, cloudinaryhook.StateNew)
	seen := 0
	inTime(t, "writing to the store inside a loop over Pending", func() {
		for d, err := range s.Pending(t.Context(), later()) {
			if err != nil {
				t.Errorf("Pending yielded the error %v, want none", err)
				return
			}
			if d.ID != first.ID && d.ID != second.ID {
				continue
			}
			seen++
			save(t, s, d, cloudinaryhook.StatePending)
			complete(t, s, d.ID, nil)
			save(t, s, newDelivery(t), cloudinaryhook.StateNew)
		}
	})
	if seen != 2 {
		t.Errorf("with writes inside the loop Pending yielded %d of 2 deliveries", seen)
	}
}

func testBreak(t *testing.T, s pendingStore) {
	d := newDelivery(t)
	save(t, s, d, cloudinaryhook.StateNew)
	save(t, s, newDelivery(t), cloudinaryhook.StateNew)
	inTime(t, "using the store after a loop over Pending was left", func() {
		for range 20 { // what leaks once may not show
			for range s.Pending(t.Context(), later()) {
				break
			}
		}
		save(t, s, newDelivery(t), cloudinaryhook.StateNew)
		complete(t, s, d.ID, nil)
	})
}

func testPages(t *testing.T, s pendingStore) {
	const rows = 1100
	deliveries := make([]*cloudinaryhook.Delivery, rows)
	received := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	for i := range deliveries {
		deliveries[i] = newDelivery(t)
		deliveries[i].ReceivedAt = received.Add(time.Duration(i/100) * time.Second) // many share a time
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < rows; i += 8 {
				save(t, s, deliveries[i], cloudinaryhook.StateNew)
			}
		})
	}
	wg.Wait()
	found := pending(t, s, later(), deliveries...)
	missing, repeated := 0, 0
	for _, d := range deliveries {
		switch n := len(found[d.ID]); {
		case n == 0:
			missing++
		case n > 1:
			repeated++
		}
	}
	if missing > 0 || repeated > 0 {
		t.Errorf("of %d pending deliveries Pending left out %d and repeated %d, want each once", rows, missing, repeated)
	}
}

func testPendingCancelled(t *testing.T, s pendingStore) {
	save(t, s, newDelivery(t), cloudinaryhook.StateNew)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	failed := false
	for _, err := range s.Pending(ctx, later()) {
		failed = failed || err != nil
	}
	if !failed {
		t.Error("Pending with a cancelled context yielded no error: nothing would look like nothing to do")
	}
}
