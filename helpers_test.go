package cloudinaryhook

import (
	"context"
	"errors"
	"sync"
)

// memory is the smallest Store that keeps the contract. The tests of this
// package cannot use cloudinaryhooktest.MemoryStore, which imports it.
type memory struct {
	// What these return counts, unless it is zero. They may come from any goroutine.
	onSave     func(context.Context) (State, error)
	onComplete func(context.Context) error

	saveErr, doneErr error

	mu        sync.Mutex
	states    map[string]State
	causes    map[string]error
	saved     []*Delivery
	completes int
}

func (m *memory) Save(ctx context.Context, d *Delivery) (State, error) {
	if m.onSave != nil {
		if state, err := m.onSave(ctx); state != 0 || err != nil {
			return state, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(m.saveErr, ctx.Err()); err != nil {
		return 0, err
	}
	if state, ok := m.states[d.ID]; ok {
		return state, nil
	}
	if m.states == nil {
		m.states, m.causes = make(map[string]State), make(map[string]error)
	}
	m.states[d.ID] = StatePending
	m.saved = append(m.saved, d)
	return StateNew, nil
}

func (m *memory) Complete(ctx context.Context, id string, cause error) error {
	if m.onComplete != nil {
		if err := m.onComplete(ctx); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.completes++
	if err := errors.Join(m.doneErr, ctx.Err()); err != nil {
		return err
	}
	if _, ok := m.states[id]; !ok {
		return errors.New("unknown delivery")
	}
	m.states[id] = StateDone
	m.causes[id] = cause
	return nil
}

func (m *memory) state(id string) State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[id]
}

func (m *memory) cause(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.causes[id]
}
