package service

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session"
)

// lock takes a session's lock for an event: first this node's own, then a slot if a
// client caused the event, then the cluster's; and loads the session. The caller
// releases the lock, then calls unlock.
func (v *Service) lock(ctx context.Context, id string, ev session.Event) (lock Lock, l Loaded, unlock func(), err error) {
	asked := time.Now()
	ctx, done := v.cfg.Tracer.Begin(ctx, id, partLock)
	taken := func(err error) {
		done(err)
		v.cfg.Observer.Locked(time.Since(asked), err)
	}
	defer func() {
		if lock == nil {
			taken(err)
		}
	}()
	unlock, err = v.local.lock(ctx, id)
	if err != nil {
		return nil, l, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if isClientEvent(ev) {
		done, err := v.acquireSlot(ctx)
		if err != nil {
			unlock()
			return nil, l, nil, err
		}
		own := unlock
		unlock = func() { done(); own() }
	}
	lock, l, err = v.cfg.Locker.Lock(ctx, id)
	if lock == nil {
		unlock()
		return nil, l, nil, fmt.Errorf("lock session %s: %w: %w", id, ErrUnavailable, err)
	}
	taken(nil)
	if err != nil { // nothing to change
		v.release(ctx, id, lock)
		unlock()
	}
	return lock, l, unlock, err
}

func (v *Service) release(ctx context.Context, id string, lock Lock) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	if err := lock.Release(ctx); err != nil {
		v.cfg.Observer.LockLost()
		v.log.Debug().Err(err).Str("session", id).Msg("lock had expired before its release")
	}
}

// keyedMutex is a mutex per key that uses no memory for unused keys. The zero value is
// ready.
type keyedMutex struct {
	mu   sync.Mutex
	held map[string]*keyedLock
}

type keyedLock struct {
	turn  chan struct{} // holds one token while unlocked
	users int           // holder and waiters; guarded by keyedMutex.mu
}

// lock waits for key's turn or ctx's end, and returns what unlocks it.
func (k *keyedMutex) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = make(map[string]*keyedLock)
	}
	l := k.held[key]
	if l == nil {
		l = &keyedLock{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		k.held[key] = l
	}
	l.users++
	k.mu.Unlock()

	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.held, key)
		}
	}
	select {
	case <-l.turn:
		return func() { l.turn <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

const (
	// maxSlots limits concurrent client operations per node; the others wait in order.
	// Each holds its session's lock briefly. Without a limit, load makes each step so
	// slow that clients time out waiting for locks. A node's pool of connections to the
	// store should be larger. Round messages and the sweeper take no slot.
	maxSlots = 32
	// slotTimeout bounds the wait for a slot, so that some of the caller's time is left to
	// finish the operation.
	slotTimeout = 20 * time.Second
)

// acquireSlot waits until this node may work on another session; done releases the
// slot. The holder of a slot must not wait for another.
func (v *Service) acquireSlot(ctx context.Context) (done func(), err error) {
	select {
	case v.slots <- struct{}{}:
		return v.releaseSlot, nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	select {
	case v.slots <- struct{}{}:
		return v.releaseSlot, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn: %w: %w", ErrUnavailable, ctx.Err())
	}
}

func (v *Service) releaseSlot() { <-v.slots }

// isClientEvent reports whether a client caused an event. The others are this node's
// own; they finish what clients have begun.
func isClientEvent(ev session.Event) bool {
	switch ev.(type) {
	case session.Tick, session.KeyStored, session.KeyLost, session.Undeliverable:
		return false
	}
	return true
}
