package cloudinaryhooktest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cloudinaryhook/cloudinaryhook"
)

func TestMemoryStoreKeepsTheContract(t *testing.T) {
	TestStore(t, func(*testing.T) cloudinaryhook.Store { return new(MemoryStore) })
}

// Store has no method that returns the cause, so each store has a test of its
// own for it.
func TestMemoryStoreKeepsTheFirstCause(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	for _, causes := range [][]error{{first, second, nil}, {nil, second}} {
		t.Run(fmt.Sprint(causes), func(t *testing.T) {
			store, d := new(MemoryStore), newDelivery(t)
			save(t, store, d, cloudinaryhook.StateNew)
			for _, cause := range causes {
				complete(t, store, d.ID, cause)
			}
			if got := store.Rejected(d.ID); got != causes[0] { //nolint:errorlint // the very error
				t.Errorf("Rejected got %v, want %v", got, causes[0])
			}
		})
	}
}

// A store that pages correctly, by time and ID.
func TestPagingStoreKeepsTheContract(t *testing.T) {
	compare := func(a, b *cloudinaryhook.Delivery) int {
		return cmp.Or(a.ReceivedAt.Compare(b.ReceivedAt), cmp.Compare(a.ID, b.ID))
	}
	TestStore(t, func(*testing.T) cloudinaryhook.Store {
		s := &broken{MemoryStore: new(MemoryStore)}
		s.paged(func(all []*cloudinaryhook.Delivery, last *cloudinaryhook.Delivery, _ int) []*cloudinaryhook.Delivery {
			slices.SortFunc(all, compare)
			for last != nil && len(all) > 0 && compare(all[0], last) <= 0 {
				all = all[1:]
			}
			return all
		})
		return s
	})
}

func TestGoodCreatorKeepsTheContract(t *testing.T) {
	TestImageCreator(t, func(*testing.T) (cloudinaryhook.ImageCreator, func() int) {
		c := new(creator)
		return c, c.count
	})
}

// An app has its albums in a database and gives the test their IDs with
// ForClaims.
func TestCreatorForClaims(t *testing.T) {
	albums := map[string]bool{"1": true, "2": true}
	TestImageCreator(t, func(*testing.T) (cloudinaryhook.ImageCreator, func() int) {
		c := new(creator)
		return cloudinaryhook.ImageCreatorFunc(func(ctx context.Context, img *cloudinaryhook.Image) error {
			if !albums[img.Claims.AlbumID] {
				return fmt.Errorf("there is no album %q", img.Claims.AlbumID)
			}
			return c.CreateImage(ctx, img)
		}), c.count
	}, ForClaims(&cloudinaryhook.Claims{AlbumID: "1"}, &cloudinaryhook.Claims{AlbumID: "2"}))
}

// queue only knows which deliveries are new.
type queue struct{ *MemoryStore }

func (queue) Complete(context.Context, string, error) error {
	return errors.New("a queue completes nothing")
}

func TestQueueKeepsTheDeferredContract(t *testing.T) {
	TestDeferredStore(t, func(*testing.T) cloudinaryhook.Store { return queue{new(MemoryStore)} })
}

// broken is a store that breaks one clause. Its fields replace methods of a
// correct store.
type broken struct {
	*MemoryStore
	save     func(context.Context, *cloudinaryhook.Delivery) (cloudinaryhook.State, error)
	complete func(context.Context, string, error) error
	pending  func(context.Context, time.Time) iter.Seq2[*cloudinaryhook.Delivery, error]
}

func (b *broken) Save(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	if b.save != nil {
		return b.save(ctx, d)
	}
	return b.MemoryStore.Save(ctx, d)
}

func (b *broken) Complete(ctx context.Context, id string, cause error) error {
	if b.complete != nil {
		return b.complete(ctx, id, cause)
	}
	return b.MemoryStore.Complete(ctx, id, cause)
}

func (b *broken) Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
	if b.pending != nil {
		return b.pending(ctx, before)
	}
	return b.MemoryStore.Pending(ctx, before)
}

// change makes Pending change each delivery with f. If f returns nil, the
// delivery is left out.
func (b *broken) change(f func(i int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery) {
	b.pending = func(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
		return func(yield func(*cloudinaryhook.Delivery, error) bool) {
			i := 0
			for d, err := range b.MemoryStore.Pending(ctx, before) {
				if err == nil {
					if d = f(i, d); d == nil {
						continue
					}
				}
				i++
				if !yield(d, err) {
					return
				}
			}
		}
	}
}

// paged makes Pending list page by page. next picks a page from all pending
// deliveries; it gets the last delivery of the page before and the number of
// deliveries so far.
func (b *broken) paged(next func(all []*cloudinaryhook.Delivery, last *cloudinaryhook.Delivery, n int) []*cloudinaryhook.Delivery) {
	const size = 200
	b.pending = func(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
		return func(yield func(*cloudinaryhook.Delivery, error) bool) {
			var last *cloudinaryhook.Delivery
			for n := 0; ; {
				var all []*cloudinaryhook.Delivery
				for d, err := range b.MemoryStore.Pending(ctx, before) {
					if err != nil {
						yield(nil, err)
						return
					}
					all = append(all, d)
				}
				page := next(all, last, n)
				if len(page) == 0 {
					return
				}
				for _, last = range page[:min(size, len(page))] {
					if n++; !yield(last, nil) {
						return
					}
				}
			}
		}
	}
}

// rebuilt makes a delivery again from the fields of Claims, as a store with a
// column for each of them does.
func rebuilt(d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
	claims := cloudinaryhook.Claims{OrganizationID: d.Claims.OrganizationID, AlbumID: d.Claims.AlbumID}
	again, err := cloudinaryhook.NewDelivery(d.Body, &claims, d.SignedAt)
	if err != nil {
		panic(err)
	}
	again.ReceivedAt = d.ReceivedAt
	return again
}

// listless stores have no Pending, or one that does not fit Processor.Resume.
var listless = map[string]cloudinaryhook.Store{
	"no list":      struct{ cloudinaryhook.Store }{new(MemoryStore)},
	"another list": anotherList{new(MemoryStore)},
}

type anotherList struct{ cloudinaryhook.Store }

func (anotherList) Pending(context.Context, time.Duration) iter.Seq2[*cloudinaryhook.Delivery, error] {
	return nil
}

var brokenStores = []struct {
	name, clause string
	breakIt      func(*broken)
}{
	{"always new", "SaveTellsNewPendingDone", func(b *broken) {
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			_, err := b.MemoryStore.Save(ctx, d)
			return cloudinaryhook.StateNew, err
		}
	}},
	{"done looks pending", "SaveTellsNewPendingDone", func(b *broken) {
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			state, err := b.MemoryStore.Save(ctx, d)
			return min(state, cloudinaryhook.StatePending), err
		}
	}},
	{"a cause keeps it pending", "SaveTellsNewPendingDone", func(b *broken) {
		b.complete = func(ctx context.Context, id string, cause error) error {
			if cause != nil {
				return nil
			}
			return b.MemoryStore.Complete(ctx, id, nil)
		}
	}},
	{"complete completes all", "SaveTellsNewPendingDone", func(b *broken) {
		b.complete = func(ctx context.Context, id string, cause error) error {
			for _, d := range b.Deliveries() {
				_ = b.MemoryStore.Complete(ctx, d.ID, cause)
			}
			return b.MemoryStore.Complete(ctx, id, cause)
		}
	}},
	{"done only once", "SaveTellsNewPendingDone", func(b *broken) {
		var told sync.Map
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			state, err := b.MemoryStore.Save(ctx, d)
			if state == cloudinaryhook.StateDone {
				if _, again := told.LoadOrStore(d.ID, true); again {
					state = cloudinaryhook.StatePending
				}
			}
			return state, err
		}
	}},
	{"a cause must be text", "SaveTellsNewPendingDone", func(b *broken) {
		b.complete = func(ctx context.Context, id string, cause error) error {
			if cause != nil && !utf8.ValidString(cause.Error()) {
				return errors.New("invalid byte sequence")
			}
			return b.MemoryStore.Complete(ctx, id, cause)
		}
	}},
	{"goes by the body", "SaveGoesByID", func(b *broken) {
		var bodies sync.Map
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			if id, known := bodies.LoadOrStore(string(d.Body), d.ID); known && id != d.ID {
				return cloudinaryhook.StatePending, ctx.Err()
			}
			return b.MemoryStore.Save(ctx, d)
		}
	}},
	{"goes by the signature", "SaveGoesByID", func(b *broken) {
		var signatures sync.Map
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			state, err := b.MemoryStore.Save(ctx, d)
			if _, known := signatures.LoadOrStore(d.SignedAt.String()+d.ID, true); !known {
				state = cloudinaryhook.StateNew
			}
			return state, err
		}
	}},
	{"reads, then writes", "ConcurrentSavesOneIsNew", func(b *broken) {
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			known := b.State(d.ID)
			if known == 0 {
				runtime.Gosched() // another reader comes between
				_, err := b.MemoryStore.Save(ctx, d)
				return cloudinaryhook.StateNew, err
			}
			return known, nil
		}
	}},
	{"changes the body", "SaveLeavesItsArgument", func(b *broken) {
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			state, err := b.MemoryStore.Save(ctx, d)
			d.Body[0] = '['
			return state, err
		}
	}},
	{"changes the claims", "SaveLeavesItsArgument", func(b *broken) {
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			state, err := b.MemoryStore.Save(ctx, d)
			d.Claims.UserID = "somebody"
			return state, err
		}
	}},
	{"puts the first into its argument", "SaveLeavesItsArgument", func(b *broken) {
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			state, err := b.MemoryStore.Save(ctx, d)
			for _, known := range b.Deliveries() {
				if known.ID == d.ID {
					*d = *known
				}
			}
			return state, err
		}
	}},
	{"writes one document under a lock for each ID", "ConcurrentSavesKeepAll", func(b *broken) {
		var locks sync.Map
		var document atomic.Pointer[map[string]bool]
		document.Store(new(map[string]bool))
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			lock, _ := locks.LoadOrStore(d.ID, new(sync.Mutex))
			lock.(*sync.Mutex).Lock()
			defer lock.(*sync.Mutex).Unlock()
			saved := *document.Load()
			if saved[d.ID] {
				return cloudinaryhook.StatePending, ctx.Err()
			}
			changed := map[string]bool{d.ID: true}
			maps.Copy(changed, saved)
			runtime.Gosched() // another writer comes between
			document.Store(&changed)
			return cloudinaryhook.StateNew, ctx.Err()
		}
	}},
	{"swaps the states of one commit", "ConcurrentSavesKeepAll", func(b *broken) {
		type answer struct {
			state cloudinaryhook.State
			other chan cloudinaryhook.State
		}
		commit := make(chan answer)
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			state, err := b.MemoryStore.Save(ctx, d)
			mine := answer{state, make(chan cloudinaryhook.State, 1)}
			select {
			case commit <- mine:
				state = <-mine.other
			case first := <-commit:
				first.other <- state
				state = first.state
			case <-time.After(time.Millisecond): // alone
			}
			return state, err
		}
	}},
	{"writes back what it has read", "SaveBesideCompleteStaysDone", func(b *broken) {
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			read := b.State(d.ID)
			runtime.Gosched() // Complete comes between
			state, err := b.MemoryStore.Save(ctx, d)
			if read == cloudinaryhook.StatePending && err == nil {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.byID[d.ID].done, state = false, read
			}
			return state, err
		}
	}},
	{"changes the time", "SaveLeavesItsArgument", func(b *broken) {
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			state, err := b.MemoryStore.Save(ctx, d)
			d.ReceivedAt = d.ReceivedAt.Truncate(time.Second)
			return state, err
		}
	}},
	{"save ignores its context", "CanceledContextIsAnError", func(b *broken) {
		b.save = func(_ context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			return b.MemoryStore.Save(context.Background(), d)
		}
	}},
	{completeIgnoresContext, "CanceledContextIsAnError", func(b *broken) {
		b.complete = func(_ context.Context, id string, cause error) error {
			return b.MemoryStore.Complete(context.Background(), id, cause)
		}
	}},
	{"complete takes any ID", "CompleteUnknownIsAnError", func(b *broken) {
		b.complete = func(ctx context.Context, id string, cause error) error {
			_ = b.MemoryStore.Complete(ctx, id, cause)
			return ctx.Err()
		}
	}},
	{"complete with a cause takes any ID", "CompleteUnknownIsAnError", func(b *broken) {
		b.complete = func(ctx context.Context, id string, cause error) error {
			err := b.MemoryStore.Complete(ctx, id, cause)
			if cause != nil {
				err = ctx.Err()
			}
			return err
		}
	}},
	{"the second complete at the same time fails", "CompleteTwiceIsNone", func(b *broken) {
		var working sync.Map
		b.complete = func(ctx context.Context, id string, cause error) error {
			if _, busy := working.LoadOrStore(id, true); busy {
				return errors.New("somebody else is at it")
			}
			defer working.Delete(id)
			time.Sleep(time.Millisecond) // lets the other calls in
			return b.MemoryStore.Complete(ctx, id, cause)
		}
	}},
	{"the second complete fails", "CompleteTwiceIsNone", func(b *broken) {
		b.complete = func(ctx context.Context, id string, cause error) error {
			if b.State(id) == cloudinaryhook.StateDone {
				return errors.New("already done")
			}
			return b.MemoryStore.Complete(ctx, id, cause)
		}
	}},
	{"rebuilds from columns", "PendingKeepsTheID", func(b *broken) {
		b.change(func(_ int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			return rebuilt(d)
		})
	}},
	{"rebuilds with another time", "PendingKeepsTheID", func(b *broken) {
		b.change(func(_ int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			again, err := cloudinaryhook.NewDelivery(d.Body, d.Claims, d.ReceivedAt)
			if err != nil {
				panic(err)
			}
			return again
		})
	}},
	{"lists nothing", "PendingKeepsTheID", func(b *broken) {
		b.change(func(int, *cloudinaryhook.Delivery) *cloudinaryhook.Delivery { return nil })
	}},
	{"keeps text for a body", "PendingBringsAllBack", func(b *broken) {
		b.change(func(_ int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			d.Body = bytes.ToValidUTF8(d.Body, []byte("\ufffd"))
			return d
		})
	}},
	{"encodes the body anew", "PendingBringsAllBack", func(b *broken) {
		b.change(func(_ int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			var compact bytes.Buffer
			if json.Compact(&compact, d.Body) == nil {
				d.Body = compact.Bytes()
			}
			return d
		})
	}},
	{"keeps the known claims only", "PendingBringsAllBack", func(b *broken) {
		b.change(func(_ int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			again := rebuilt(d)
			again.ID = d.ID
			return again
		})
	}},
	{"forgets when it was signed", "PendingBringsAllBack", func(b *broken) {
		b.change(func(_ int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			d.SignedAt = d.ReceivedAt
			return d
		})
	}},
	{"drops large bodies", "PendingBringsAllBack", func(b *broken) {
		b.change(func(_ int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			if len(d.Body) > 1<<20 {
				return nil
			}
			return d
		})
	}},
	{"overwrites the first", "PendingKeepsTheFirst", func(b *broken) {
		var last sync.Map
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			last.Store(d.ID, d.ReceivedAt)
			return b.MemoryStore.Save(ctx, d)
		}
		b.change(func(_ int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			received, _ := last.Load(d.ID)
			d.ReceivedAt = received.(time.Time)
			return d
		})
	}},
	{"overwrites the claims", "PendingKeepsTheFirst", func(b *broken) {
		var last sync.Map
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			last.Store(d.ID, d.Claims)
			return b.MemoryStore.Save(ctx, d)
		}
		b.change(func(_ int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			claims, _ := last.Load(d.ID)
			d.Claims = claims.(*cloudinaryhook.Claims)
			return d
		})
	}},
	{"lists what is done", "PendingLeavesOutDone", func(b *broken) {
		b.pending = func(context.Context, time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
			return func(yield func(*cloudinaryhook.Delivery, error) bool) {
				for _, d := range b.Deliveries() {
					if !yield(d, nil) {
						return
					}
				}
			}
		}
	}},
	{"ignores before", "PendingLeavesOutYounger", func(b *broken) {
		b.pending = func(ctx context.Context, _ time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
			return b.MemoryStore.Pending(ctx, later())
		}
	}},
	{"locks while it yields", "PendingHoldsNothingWhileItYields", func(b *broken) {
		var lock sync.Mutex
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			lock.Lock()
			defer lock.Unlock()
			return b.MemoryStore.Save(ctx, d)
		}
		b.pending = func(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
			return func(yield func(*cloudinaryhook.Delivery, error) bool) {
				lock.Lock()
				defer lock.Unlock()
				b.MemoryStore.Pending(ctx, before)(yield)
			}
		}
	}},
	{"has one connection", "PendingHoldsNothingWhileItYields", func(b *broken) {
		connections := make(chan struct{}, 1)
		b.save = func(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
			select {
			case connections <- struct{}{}:
				defer func() { <-connections }()
				return b.MemoryStore.Save(ctx, d)
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		b.pending = func(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
			return func(yield func(*cloudinaryhook.Delivery, error) bool) {
				connections <- struct{}{}
				defer func() { <-connections }()
				b.MemoryStore.Pending(ctx, before)(yield)
			}
		}
	}},
	{"leaks a connection of ten", "PendingMayBeLeftEarly", func(b *broken) {
		connections := make(chan struct{}, 10)
		b.pending = func(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
			return func(yield func(*cloudinaryhook.Delivery, error) bool) {
				connections <- struct{}{}
				for d, err := range b.MemoryStore.Pending(ctx, before) {
					if !yield(d, err) {
						return // without releasing the connection
					}
				}
				<-connections
			}
		}
	}},
	{"one page only", "PendingPages", func(b *broken) {
		b.change(func(i int, d *cloudinaryhook.Delivery) *cloudinaryhook.Delivery {
			if i >= 1000 {
				return nil
			}
			return d
		})
	}},
	{"pages by time alone", "PendingPages", func(b *broken) {
		b.paged(func(all []*cloudinaryhook.Delivery, last *cloudinaryhook.Delivery, _ int) []*cloudinaryhook.Delivery {
			for last != nil && len(all) > 0 && !all[0].ReceivedAt.After(last.ReceivedAt) {
				all = all[1:]
			}
			return all
		})
	}},
	{"asks for the first page for ever", "PendingPages", func(b *broken) {
		b.paged(func(all []*cloudinaryhook.Delivery, _ *cloudinaryhook.Delivery, _ int) []*cloudinaryhook.Delivery {
			return all
		})
	}},
	{"pages by count", "PendingPages", func(b *broken) {
		b.paged(func(all []*cloudinaryhook.Delivery, _ *cloudinaryhook.Delivery, n int) []*cloudinaryhook.Delivery {
			return all[min(n, len(all)):]
		})
	}},
	{"counts on its rows being done", "PendingPages", func(b *broken) {
		first := ""
		b.paged(func(all []*cloudinaryhook.Delivery, _ *cloudinaryhook.Delivery, n int) []*cloudinaryhook.Delivery {
			if len(all) == 0 || n > 0 && all[0].ID == first {
				return nil // no row was done: it takes this for the end
			}
			first = all[0].ID
			return all
		})
	}},
	{"repeats a row", "PendingPages", func(b *broken) {
		b.pending = func(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
			return func(yield func(*cloudinaryhook.Delivery, error) bool) {
				first := true
				for d, err := range b.MemoryStore.Pending(ctx, before) {
					if first && !yield(d, err) || !yield(d, err) {
						return
					}
					first = false
				}
			}
		}
	}},
	{"listing ignores its context", "PendingCanceledIsAnError", func(b *broken) {
		b.pending = func(_ context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
			return b.MemoryStore.Pending(context.Background(), before)
		}
	}},
}

// creator makes one image for each key. Its fields break that.
type creator struct {
	mu    sync.Mutex
	keys  map[string]bool
	extra atomic.Int64
	again error                                  // the error of the second call
	key   func(img *cloudinaryhook.Image) string // nil: Image.Key
	racy  bool                                   // reads before it writes
	lossy bool                                   // writes back all that it has read
	quiet bool                                   // makes nothing and returns nil if its context has ended
}

func (c *creator) CreateImage(ctx context.Context, img *cloudinaryhook.Image) error {
	if c.quiet && ctx.Err() != nil {
		return nil
	}
	if c.lossy {
		c.mu.Lock()
		read := maps.Clone(c.keys)
		c.mu.Unlock()
		runtime.Gosched() // another writer comes between
		c.mu.Lock()
		c.keys = read
		c.mu.Unlock()
	}
	key := img.Key
	if c.key != nil {
		key = c.key(img)
	}
	if c.racy {
		c.mu.Lock()
		known := c.keys[key]
		c.mu.Unlock()
		runtime.Gosched() // another reader comes between
		if !known {
			c.extra.Add(1)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys[key] {
		return c.again
	}
	if c.keys == nil {
		c.keys = make(map[string]bool)
	}
	c.keys[key] = true
	return ctx.Err()
}

func (c *creator) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.racy {
		return int(c.extra.Load())
	}
	return len(c.keys)
}

var brokenCreators = []struct {
	name, clause string
	open         func() *creator
}{
	{"an error for the second", "TheSameAgainMakesOne", func() *creator { return &creator{again: errors.New("exists")} }},
	{"looks before it writes", "TheSameAtTheSameTimeMakesOne", func() *creator { return &creator{racy: true} }},
	{"unique by delivery", "AnotherNotificationOfItMakesOne", func() *creator {
		return &creator{key: func(img *cloudinaryhook.Image) string { return img.Delivery.ID }}
	}},
	{"unique without the delivery type", "OthersAreOthers", func() *creator {
		return &creator{key: func(img *cloudinaryhook.Image) string {
			return fmt.Sprintf("%s %s %s %d", img.Claims.OrganizationID, img.Claims.AlbumID, img.PublicID, img.Version)
		}}
	}},
	{"unique without the organization", "OthersAreOthers", func() *creator {
		return &creator{key: func(img *cloudinaryhook.Image) string {
			return fmt.Sprintf("%s %s %s %d", img.Claims.AlbumID, img.DeliveryType, img.PublicID, img.Version)
		}}
	}},
	{"writes one document", "OthersAtTheSameTimeAreMade", func() *creator { return &creator{lossy: true} }},
	{"nil although nothing was made", "NilMeansThatItIsThere", func() *creator { return &creator{quiet: true} }},
	{"unique by public ID", "OthersAreOthers", func() *creator {
		return &creator{key: func(img *cloudinaryhook.Image) string { return img.PublicID }}
	}},
}

const (
	brokenVariable = "CLOUDINARYHOOKTEST_BROKEN"
	deferredPrefix = "deferred: " // before the name of a store that TestDeferredStore must reject

	completeIgnoresContext = "complete ignores its context" // TestDeferredStore cannot find this one
)

// TestBrokenAreFound runs each clause on a store that breaks it. Each run has a
// process of its own, because the clause's test must fail there.
func TestBrokenAreFound(t *testing.T) {
	type item struct{ name, clause string }
	var items []item
	for _, b := range brokenStores {
		items = append(items, item{b.name, b.clause})
		if slices.ContainsFunc(storeClauses, func(c storeClause) bool { return c.name == b.clause && c.deferred }) && b.name != completeIgnoresContext {
			items = append(items, item{deferredPrefix + b.name, b.clause})
		}
	}
	for _, b := range brokenCreators {
		items = append(items, item{b.name, b.clause})
	}
	for _, b := range items {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			out, failed := runBroken(b.name, "^"+b.clause+"$")
			if !failed || !strings.Contains(out, "--- FAIL: TestBrokenChild/"+b.clause+" ") || strings.Contains(out, "panic:") {
				t.Errorf("the store that breaks %s (%s) got failed %v, want a failure with that name:\n%s", b.clause, b.name, failed, out)
			}
		})
	}
}

func runBroken(name, clauses string) (out string, failed bool) {
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^TestBrokenChild$/"+clauses, "-test.timeout=60s")
	cmd.Env = append(os.Environ(), brokenVariable+"="+name, "GORACE=atexit_sleep_ms=0") // otherwise a second each
	b, err := cmd.CombinedOutput()
	_, failed = errors.AsType[*exec.ExitError](err)
	return string(b), failed
}

// TestPendingSaysOnceWhatIsWrong: if one fault would fail every clause about
// Pending, it is reported only once.
func TestPendingSaysOnceWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ store, want, says string }{
		{"rebuilds from columns", "FAIL: TestBrokenChild/PendingKeepsTheID ", "its claims or times are others"},
		{"rebuilds with another time", "FAIL: TestBrokenChild/PendingKeepsTheID ", "its claims or times are others"},
		{"lists nothing", "FAIL: TestBrokenChild/PendingKeepsTheID ", "nor with its body"},
		{"another list", "FAIL: TestBrokenChild/Pending ", "the store's Pending is a func(context.Context, time.Duration)"},
		{"no list", "SKIP: TestBrokenChild/Pending ", "the store has no method Pending"},
	} {
		t.Run(tt.store, func(t *testing.T) {
			t.Parallel()
			out, failed := runBroken(tt.store, "^Pending")
			if failed != strings.HasPrefix(tt.want, "FAIL") || !strings.Contains(out, "--- "+tt.want) {
				t.Errorf("got failed %v, want %q:\n%s", failed, tt.want, out)
			}
			// Whose line it is depends on the Go version: the listing's loop calls back.
			if strings.Count(out, tt.says) != 1 || len(regexp.MustCompile(`(?m)^ +\w+\.go:\d+: `).FindAllString(out, -1)) != 1 {
				t.Errorf("got more or less than one line, want %q:\n%s", tt.says, out)
			}
		})
	}
}

// TestEveryClauseIsBroken: for every clause there is a store or a creator that
// breaks it.
func TestEveryClauseIsBroken(t *testing.T) {
	broken := make(map[string]bool)
	for _, b := range brokenStores {
		broken[b.clause] = true
	}
	for _, c := range storeClauses {
		if !broken[c.name] {
			t.Errorf("no broken store breaks %s", c.name)
		}
	}
	for _, c := range pendingClauses {
		if !broken[c.name] {
			t.Errorf("no broken store breaks %s", c.name)
		}
	}
	for _, b := range brokenCreators {
		broken[b.clause] = true
	}
	for _, c := range creatorClauses {
		if !broken[c.name] {
			t.Errorf("no broken creator breaks %s", c.name)
		}
	}
}

func TestBrokenChild(t *testing.T) {
	name := os.Getenv(brokenVariable)
	if name == "" {
		return // only TestBrokenAreFound runs it, in a process of its own
	}
	blocked = 500 * time.Millisecond
	if s, ok := listless[name]; ok {
		TestStore(t, func(*testing.T) cloudinaryhook.Store { return s })
		return
	}
	name, deferred := strings.CutPrefix(name, deferredPrefix)
	test := TestStore
	if deferred {
		test = TestDeferredStore
	}
	for _, b := range brokenStores {
		if b.name == name {
			test(t, func(*testing.T) cloudinaryhook.Store {
				s := &broken{MemoryStore: new(MemoryStore)}
				b.breakIt(s)
				return s
			})
			return
		}
	}
	for _, b := range brokenCreators {
		if b.name == name {
			TestImageCreator(t, func(*testing.T) (cloudinaryhook.ImageCreator, func() int) {
				c := b.open()
				return c, c.count
			})
			return
		}
	}
	t.Logf("nothing broken is called %q", name)
}
