package cloudinaryhooktest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// blocked is how long TestStore waits for a store before it calls it blocked.
var blocked = 10 * time.Second

// TestStore tests a Store against its contract. It has a subtest for each clause
// of the contract. It calls open once for each subtest, and once more to see
// which methods the store has. The store need not be empty.
//
// Up to 64 calls run at the same time. If they save one delivery, one of them
// returns StateNew. If they save different deliveries, each gets the state of its
// own, and none is lost. If some save a delivery while another completes it, it
// stays completed.
//
// If the store has a method
//
//	Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error]
//
// which an app needs for Processor.Resume, TestStore tests it too. Pending must
// yield the deliveries that are not completed and were received earlier than the
// given time, in any order. They must come back unchanged, and the store must be
// usable inside the loop. If Pending cannot read a delivery, it should yield an
// error and go on. If ctx is canceled, it must yield an error: otherwise the
// caller would think that nothing is pending. The subtests of Pending save more
// than a thousand deliveries and a body of 4 MiB. If Pending has another type,
// the subtest Pending fails. If there is no Pending, that subtest is skipped.
//
// TestStore cannot test that saved deliveries outlive the process. For that,
// write a test that kills your process.
func TestStore(t *testing.T, open func(t *testing.T) cloudinaryhook.Store) {
	for _, c := range storeClauses {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	store := open(t)
	if _, ok := store.(pendingStore); !ok {
		t.Run("Pending", func(t *testing.T) { noPending(t, store) })
		return
	}
	for i, c := range pendingClauses {
		if !t.Run(c.name, func(t *testing.T) { c.test(t, open(t).(pendingStore)) }) && i == 0 {
			return // the others would fail too, with less useful messages
		}
	}
}

// TestDeferredStore tests a Store that only passes deliveries on, such as a
// queue, behind a Deferred receiver. Such a store cannot know what workers have
// done, so it never returns StateDone, and its Complete is not called. It must
// know by its ID a delivery that it has already. A queue may forget IDs after a
// while, but not during this test. Up to 64 Saves run at the same time, of one
// delivery or of different ones.
//
// It does not test the deliveries that workers get, and your tests need not
// compare them. json.Marshal writes all of a delivery, and json.Unmarshal
// refuses one whose body or claims do not fit its ID.
func TestDeferredStore(t *testing.T, open func(t *testing.T) cloudinaryhook.Store) {
	for _, c := range storeClauses {
		if c.deferred {
			t.Run(c.name, func(t *testing.T) { c.test(t, deferredStore{open(t)}) })
		}
	}
}

// deferredStore does not pass Complete on to its store.
type deferredStore struct{ cloudinaryhook.Store }

func (deferredStore) Complete(ctx context.Context, _ string, _ error) error { return ctx.Err() }

type pendingStore interface {
	cloudinaryhook.Store
	Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error]
}

// noPending fails if Pending has another type, because it would not be tested.
// It skips if there is no Pending.
func noPending(t *testing.T, s cloudinaryhook.Store) {
	want := reflect.TypeFor[func(context.Context, time.Time) iter.Seq2[*cloudinaryhook.Delivery, error]]()
	if m := reflect.ValueOf(s).MethodByName("Pending"); m.IsValid() {
		t.Fatalf("the store's Pending is a %v, want a %v", m.Type(), want)
	}
	t.Skipf("not tested: the store has no method Pending, a %v", want)
}

type storeClause struct {
	name     string
	test     func(*testing.T, cloudinaryhook.Store)
	deferred bool // also for a Store that only passes deliveries on
}

var storeClauses = []storeClause{
	{"SaveTellsNewPendingDone", testStates, false},
	{"SaveGoesByID", testIdentity, true},
	{"ConcurrentSavesOneIsNew", testConcurrentSaves, true},
	{"ConcurrentSavesKeepAll", testConcurrentOthers, true},
	{"SaveBesideCompleteStaysDone", testSaveBesideComplete, false},
	{"SaveLeavesItsArgument", testArgument, true},
	{"CanceledContextIsAnError", testCanceled, true},
	{"CompleteUnknownIsAnError", testCompleteUnknown, false},
	{"CompleteTwiceIsNone", testCompleteTwice, false},
}

var pendingClauses = []struct {
	name string
	test func(*testing.T, pendingStore)
}{
	{"PendingKeepsTheID", testIDIsKept},
	{"PendingBringsAllBack", testRoundTrip},
	{"PendingKeepsTheFirst", testFirstIsKept},
	{"PendingLeavesOutDone", testDoneIsLeftOut},
	{"PendingLeavesOutYounger", testYoungerIsLeftOut},
	{"PendingHoldsNothingWhileItYields", testWritingInsideTheLoop},
	{"PendingMayBeLeftEarly", testBreak},
	{"PendingPages", testPages},
	{"PendingCanceledIsAnError", testPendingCanceled},
}

// newDelivery returns a delivery that no store has seen.
func newDelivery(t *testing.T) *cloudinaryhook.Delivery {
	t.Helper()
	return deliveryOf(t, fmt.Sprintf(`{"notification_type":"upload","public_id":"a","version":1,"request_id":%q}`, rand.Text()))
}

func deliveryOf(t *testing.T, body string) *cloudinaryhook.Delivery {
	t.Helper()
	d, err := cloudinaryhook.NewDelivery([]byte(body), verifiedClaims(t, nil), time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// variant returns a delivery of the same body, signed and received later, with
// a token that has these claims too.
func variant(t *testing.T, d *cloudinaryhook.Delivery, claims jwt.MapClaims) *cloudinaryhook.Delivery {
	t.Helper()
	v, err := cloudinaryhook.NewDelivery(bytes.Clone(d.Body), verifiedClaims(t, claims), d.SignedAt.Add(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	v.ReceivedAt = d.ReceivedAt.Add(20 * time.Second)
	return v
}

// again returns the same notification with a new token. It has the same ID.
func again(t *testing.T, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
	t.Helper()
	v := variant(t, d, jwt.MapClaims{"jti": "another", "iat": 1700000001})
	if v.ID != d.ID {
		t.Fatalf("a notification that came again has ID %s, want %s", v.ID, d.ID)
	}
	return v
}

// verifiedClaims returns claims with more members than the fields of Claims,
// and with numbers that a float64 cannot hold.
func verifiedClaims(t *testing.T, more jwt.MapClaims) *cloudinaryhook.Claims {
	t.Helper()
	claims := jwt.MapClaims{
		"iss": "an issuer", "sub": "a subject", "aud": []string{"one", "two"}, "jti": "a token", "iat": 1700000000,
		"organization_id": json.Number("9007199254740993"), "album_id": "<album> & \u2028", "exp": time.Now().Add(time.Hour).Unix(),
		"tenant": map[string]any{"shard": json.Number("9007199254740995"), "rate": json.Number("1.0"), "note": "a\x00b"},
	}
	maps.Copy(claims, more)
	token, err := cloudinaryhook.SignToken([]byte(DefaultKey), claims)
	if err != nil {
		t.Fatal(err)
	}
	v := &cloudinaryhook.TokenVerifier{Keys: [][]byte{[]byte(DefaultKey)}}
	verified, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	return verified
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
		t.Errorf("Complete with cause %q got %v, want nil", fmt.Sprint(cause), err)
	}
}

// atOnce calls f with 0 to n-1 at the same time.
func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// The app's error may quote a file name in Latin-1, or another text that a text
// column refuses. If the store could not complete a delivery for that reason,
// the delivery would be retried for ever.
func testStates(t *testing.T, s cloudinaryhook.Store) {
	for _, cause := range []error{nil, errors.New("the app rejected it"), errors.New(""), errors.New("caf\xe9\x00")} {
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

// A store that uses only the body or its request ID loses the other tenant's
// delivery. A store that uses the token or the signature recognizes no
// duplicate.
func testIdentity(t *testing.T, s cloudinaryhook.Store) {
	d := newDelivery(t)
	save(t, s, d, cloudinaryhook.StateNew)
	save(t, s, again(t, d), cloudinaryhook.StatePending)
	save(t, s, variant(t, d, jwt.MapClaims{"organization_id": "another"}), cloudinaryhook.StateNew)
}

func testConcurrentSaves(t *testing.T, s cloudinaryhook.Store) {
	for range 20 {
		d := newDelivery(t)
		states := make([]cloudinaryhook.State, 16)
		atOnce(len(states), func(i int) {
			var err error
			if states[i], err = s.Save(t.Context(), d); err != nil {
				t.Errorf("Save at the same time got %v, want nil", err)
			}
		})
		count := make(map[cloudinaryhook.State]int)
		for _, state := range states {
			count[state]++
		}
		if count[cloudinaryhook.StateNew] != 1 || count[cloudinaryhook.StatePending] != len(states)-1 {
			t.Fatalf("of %d Saves of one ID at the same time got %v, want exactly one new and the others pending", len(states), count)
		}
	}
}

// A store that locks each ID and writes a file of all loses what another call
// saves at the same time. A store that gathers calls for one commit may answer a
// call with the state of another.
func testConcurrentOthers(t *testing.T, s cloudinaryhook.Store) {
	deliveries := make([]*cloudinaryhook.Delivery, 64) // known ones and new ones in turn
	want := []cloudinaryhook.State{cloudinaryhook.StatePending, cloudinaryhook.StateNew}
	for i := range deliveries {
		if deliveries[i] = newDelivery(t); i%2 == 0 {
			save(t, s, deliveries[i], cloudinaryhook.StateNew)
		}
	}
	atOnce(len(deliveries), func(i int) { save(t, s, deliveries[i], want[i%2]) })
	for _, d := range deliveries {
		if state, err := s.Save(t.Context(), d); state != cloudinaryhook.StatePending || err != nil {
			t.Fatalf("after %d Saves at the same time, Save of one again got %v and %v, want pending and nil", len(deliveries), state, err)
		}
	}
}

// A store that writes back what it has read undoes a Complete that came between.
// Then Resume processes the delivery again.
func testSaveBesideComplete(t *testing.T, s cloudinaryhook.Store) {
	for range 20 {
		d := newDelivery(t)
		save(t, s, d, cloudinaryhook.StateNew)
		atOnce(9, func(i int) {
			if i == 4 {
				complete(t, s, d.ID, nil)
			} else if state, err := s.Save(t.Context(), d); state != cloudinaryhook.StatePending && state != cloudinaryhook.StateDone || err != nil {
				t.Errorf("Save beside Complete got %v and %v, want pending or done, and nil", state, err)
			}
		})
		if state, err := s.Save(t.Context(), d); state != cloudinaryhook.StateDone || err != nil {
			t.Fatalf("after Saves and Complete at the same time, Save got %v and %v, want done and nil", state, err)
		}
	}
}

func testArgument(t *testing.T, s cloudinaryhook.Store) {
	first := newDelivery(t)
	second := again(t, first)
	for _, d := range []*cloudinaryhook.Delivery{first, second, second} {
		d = clone(t, d) // so that a copy of it has exactly the same text of the claims
		before := clone(t, d)
		if _, err := s.Save(t.Context(), d); err != nil {
			t.Errorf("Save got %v, want nil", err)
		}
		if !bytes.Equal(d.Body, before.Body) {
			t.Errorf("Save changed the body of its argument: got %q, want %q", d.Body, before.Body)
		}
		if !reflect.DeepEqual(d, before) {
			t.Errorf("Save changed its argument: got times %v and %v, claims %+v, notification %+v, want %v and %v, %+v, %+v",
				d.ReceivedAt, d.SignedAt, d.Claims, d.Notification, before.ReceivedAt, before.SignedAt, before.Claims, before.Notification)
		}
		if err := s.Complete(t.Context(), second.ID, nil); err != nil {
			t.Errorf("Complete got %v, want nil", err)
		}
	}
}

// clone returns a copy that shares no memory with d, so that a change behind a
// pointer shows too.
func clone(t *testing.T, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
	t.Helper()
	data, err := d.MarshalJSON()
	c := new(cloudinaryhook.Delivery)
	if err == nil {
		err = c.UnmarshalJSON(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testCanceled(t *testing.T, s cloudinaryhook.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	d := newDelivery(t)
	save(t, s, d, cloudinaryhook.StateNew)
	cancel()
	if state, err := s.Save(ctx, newDelivery(t)); err == nil {
		t.Errorf("Save with a canceled context got %v and nil, want an error", state)
	}
	if err := s.Complete(ctx, d.ID, nil); err == nil {
		t.Error("Complete with a canceled context got nil, want an error")
	}
}

func testCompleteUnknown(t *testing.T, s cloudinaryhook.Store) {
	save(t, s, newDelivery(t), cloudinaryhook.StateNew)
	for _, cause := range []error{nil, errors.New("the app rejected it")} {
		if err := s.Complete(t.Context(), newDelivery(t).ID, cause); err == nil {
			t.Errorf("Complete of an unknown ID with cause %v got nil, want an error", cause)
		}
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
	for range 10 {
		d := newDelivery(t)
		save(t, s, d, cloudinaryhook.StateNew)
		atOnce(8, func(int) { complete(t, s, d.ID, nil) })
	}
}

// pending collects those of these deliveries that Pending yields, by ID. It
// stops if one comes twice, because Pending may then never end. It also stops
// if a body comes back with another ID, as from a store that keeps only some of
// the claims.
func pending(t *testing.T, s pendingStore, before time.Time, of ...*cloudinaryhook.Delivery) map[string][]*cloudinaryhook.Delivery {
	t.Helper()
	wanted, bodies := make(map[string]bool), make(map[string]bool)
	for _, d := range of {
		wanted[d.ID] = true
		bodies[string(d.Body)] = true
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
			if len(found[d.ID]) > 1 {
				t.Error("Pending yielded a delivery twice, want each once")
				return found
			}
		case bodies[string(d.Body)]:
			t.Error("Pending yielded a delivery with the body that was saved and another ID: " +
				"its claims or times are others; store json.Marshal of the delivery, which has all of it")
			return found
		}
	}
	return found
}

func later() time.Time { return time.Now().Add(time.Hour) }

// An ID depends on the body, the claims and, if the body does not identify
// itself, on the time of the signature.
func testIDIsKept(t *testing.T, s pendingStore) {
	d := deliveryOf(t, fmt.Sprintf(`{"notification_type":"create_folder","folder_name":%q}`, rand.Text()))
	save(t, s, d, cloudinaryhook.StateNew)
	if found := pending(t, s, later(), d); len(found) != 1 && !t.Failed() {
		t.Error("Pending yielded nothing with the ID of what was saved, nor with its body; the other clauses about Pending wait for that")
	}
}

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
	save(t, s, first, cloudinaryhook.StateNew)
	save(t, s, again(t, first), cloudinaryhook.StatePending)
	found := pending(t, s, later(), first)[first.ID]
	if len(found) != 1 {
		t.Fatalf("after a second Save Pending brought back %d deliveries, want the first", len(found))
	}
	sameDelivery(t, found[0], first)
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

// inTime runs f with a context that ends after limit. If f still does not
// return, it fails the test and leaves f behind, so f must not use t.
func inTime(t *testing.T, clause string, limit time.Duration, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", clause, err)
		}
	case <-time.After(2 * limit):
		t.Fatalf("%s: blocked for %v, although its context has ended", clause, 2*limit)
	}
}

// write does the same with a delivery as Processor.Resume.
func write(ctx context.Context, s cloudinaryhook.Store, d *cloudinaryhook.Delivery) error {
	state, err := s.Save(ctx, d)
	if err != nil {
		return fmt.Errorf("Save got %w, want nil", err)
	}
	if state != cloudinaryhook.StatePending {
		return fmt.Errorf("Save got %v, want pending", state)
	}
	if err := s.Complete(ctx, d.ID, nil); err != nil {
		return fmt.Errorf("Complete got %w, want nil", err)
	}
	return nil
}

func testWritingInsideTheLoop(t *testing.T, s pendingStore) {
	first, second, more := newDelivery(t), newDelivery(t), newDelivery(t)
	save(t, s, first, cloudinaryhook.StateNew)
	save(t, s, second, cloudinaryhook.StateNew)
	seen := 0
	inTime(t, "writing to the store inside a loop over Pending, which must hold no lock or connection while it yields", blocked, func(ctx context.Context) error {
		for d, err := range s.Pending(ctx, later()) {
			if err != nil {
				return fmt.Errorf("Pending yielded the error %w, want none", err)
			}
			if d.ID != first.ID && d.ID != second.ID {
				continue
			}
			seen++
			if err := write(ctx, s, d); err != nil {
				return err
			}
			if _, err := s.Save(ctx, more); err != nil {
				return fmt.Errorf("Save of another got %w, want nil", err)
			}
		}
		return nil
	})
	if seen != 2 {
		t.Errorf("with writes inside the loop Pending yielded %d of 2 deliveries", seen)
	}
}

func testBreak(t *testing.T, s pendingStore) {
	d, other := newDelivery(t), newDelivery(t)
	save(t, s, d, cloudinaryhook.StateNew)
	save(t, s, other, cloudinaryhook.StateNew)
	inTime(t, "using the store after a loop over Pending was left early", blocked, func(ctx context.Context) error {
		for range 20 { // one leak may not show
			for _, err := range s.Pending(ctx, later()) {
				if err != nil {
					return fmt.Errorf("Pending yielded the error %w, want none", err)
				}
				break
			}
		}
		return write(ctx, s, d)
	})
	if found := pending(t, s, later(), other); len(found[other.ID]) != 1 {
		t.Errorf("after a loop was left early Pending brought back %d deliveries, want 1", len(found[other.ID]))
	}
}

// saveMany saves more deliveries than a page is likely to have. Many share a
// time, and no round number of rows ends where a time ends. So a store that
// pages by time alone skips some.
func saveMany(t *testing.T, s pendingStore) []*cloudinaryhook.Delivery {
	t.Helper()
	deliveries := make([]*cloudinaryhook.Delivery, 1100)
	received := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	for i := range deliveries {
		deliveries[i] = newDelivery(t)
		deliveries[i].ReceivedAt = received.Add(time.Duration(i/107) * time.Second)
	}
	var wg sync.WaitGroup
	for share := range slices.Chunk(deliveries, len(deliveries)/16) { // at the same time, so that a store may commit them together
		wg.Go(func() {
			for _, d := range share {
				save(t, s, d, cloudinaryhook.StateNew)
			}
		})
	}
	wg.Wait()
	return deliveries
}

// Completed rows leave the list, so a store that counts rows to find the next
// page skips some. Rows whose work failed stay, so a store that asks for the
// first page again never ends.
func testPages(t *testing.T, s pendingStore) {
	left := make(map[string]bool) // to be yielded
	deliveries := saveMany(t, s)
	for _, d := range deliveries {
		left[d.ID] = true
	}
	failed := 0
	seen := make(map[string]bool)
	inTime(t, "a loop over many that writes to the store", 12*blocked, func(ctx context.Context) error {
		for d, err := range s.Pending(ctx, later()) {
			switch {
			case err != nil:
				return fmt.Errorf("Pending yielded the error %w, want none", err)
			case seen[d.ID]:
				return errors.New("Pending yielded a delivery twice, want each once")
			case left[d.ID] && len(left)%10 == 0:
				failed++
			case left[d.ID]:
				if err := s.Complete(ctx, d.ID, nil); err != nil {
					return fmt.Errorf("Complete got %w, want nil", err)
				}
			}
			seen[d.ID] = true
			delete(left, d.ID)
		}
		return nil
	})
	if len(left) > 0 {
		t.Fatalf("with writes inside the loop Pending left out %d of %d deliveries, want none", len(left), len(deliveries))
	}
	if found := pending(t, s, later(), deliveries...); len(found) != failed {
		t.Errorf("after most of the deliveries were completed Pending yielded %d, want %d", len(found), failed)
	}
}

func testPendingCanceled(t *testing.T, s pendingStore) {
	save(t, s, newDelivery(t), cloudinaryhook.StateNew)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	failed := false
	for _, err := range s.Pending(ctx, later()) {
		failed = failed || err != nil
	}
	if !failed {
		t.Error("Pending with a canceled context yielded no error: the caller would think that nothing is pending")
	}
}
