package cloudinaryhooktest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
)

// A MemoryStore is a cloudinaryhook.Store for tests. It loses everything when
// the process ends, so a 201 promises nothing. The zero value is ready, and all
// methods may be called concurrently. A MemoryStore must not be copied after its
// first use.
type MemoryStore struct {
	mu      sync.Mutex
	byID    map[string]*record
	arrived []*record
}

type record struct {
	delivery []byte // as JSON, so that nobody can change what is stored
	id       string
	received time.Time
	done     bool
	rejected error
}

// Save implements cloudinaryhook.Store. It keeps a copy. It refuses a delivery
// that was made by hand, not with NewDelivery or from JSON, because a durable
// store could not restore it.
func (s *MemoryStore) Save(ctx context.Context, d *cloudinaryhook.Delivery) (cloudinaryhook.State, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	data, err := d.MarshalJSON()
	if err != nil {
		return 0, err
	}
	r := &record{delivery: data, id: d.ID, received: d.ReceivedAt}
	if _, err := r.decode(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.byID[d.ID]; ok {
		return known.state(), nil
	}
	if s.byID == nil {
		s.byID = make(map[string]*record)
	}
	s.byID[d.ID] = r
	s.arrived = append(s.arrived, r)
	return cloudinaryhook.StateNew, nil
}

// Complete implements cloudinaryhook.Store. If it is called twice, the first
// cause is kept.
func (s *MemoryStore) Complete(ctx context.Context, id string, cause error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.byID[id]
	if !ok {
		return fmt.Errorf("cloudinaryhooktest: no delivery has the ID %s", id)
	}
	if !r.done {
		r.done, r.rejected = true, cause
	}
	return nil
}

// Pending returns the deliveries that are not completed and were received
// earlier than the given time, oldest first, for Processor.Resume. If a delivery
// is completed during the loop, before its turn, Pending leaves it out. It holds
// no lock while it yields.
func (s *MemoryStore) Pending(ctx context.Context, before time.Time) iter.Seq2[*cloudinaryhook.Delivery, error] {
	return func(yield func(*cloudinaryhook.Delivery, error) bool) {
		pending := s.list(func(r *record) bool { return !r.done && r.received.Before(before) })
		slices.SortStableFunc(pending, func(a, b *record) int { return a.received.Compare(b.received) })
		for _, r := range pending {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if s.State(r.id) == cloudinaryhook.StateDone {
				continue
			}
			if !yield(r.decode()) {
				return
			}
		}
	}
}

// Deliveries returns copies of all deliveries in the order in which they were
// saved.
func (s *MemoryStore) Deliveries() []*cloudinaryhook.Delivery {
	var deliveries []*cloudinaryhook.Delivery
	for _, r := range s.list(func(*record) bool { return true }) {
		d, err := r.decode()
		if err != nil {
			panic(err) // Save has decoded it before
		}
		deliveries = append(deliveries, d)
	}
	return deliveries
}

// State returns StatePending or StateDone, or the zero State for an unknown ID.
func (s *MemoryStore) State(id string) cloudinaryhook.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.byID[id]; ok {
		return r.state()
	}
	return 0
}

// Rejected returns the cause with which a delivery was completed. It returns
// nil if there was no cause, or if the delivery is unknown or not completed.
func (s *MemoryStore) Rejected(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.byID[id]; ok {
		return r.rejected
	}
	return nil
}

func (s *MemoryStore) list(wanted func(*record) bool) []*record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var records []*record
	for _, r := range s.arrived {
		if wanted(r) {
			records = append(records, r)
		}
	}
	return records
}

func (r *record) state() cloudinaryhook.State {
	if r.done {
		return cloudinaryhook.StateDone
	}
	return cloudinaryhook.StatePending
}

func (r *record) decode() (*cloudinaryhook.Delivery, error) {
	d := new(cloudinaryhook.Delivery)
	if err := d.UnmarshalJSON(r.delivery); err != nil {
		return nil, err
	}
	return d, nil
}
