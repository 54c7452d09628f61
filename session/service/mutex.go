package service

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session"
)

// lock takes a session's lock for an event: first this node's own, then, for an
// event of a client, a turn, then the cluster's; and loads the session. Whoever
// has it sees that it is released, then calls unlock.
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
	if ofClient(ev) {
		done, err := v.turn(ctx)
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
	if err != nil { // there is nothing to change
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

// keyedMutex is a mutex per key that costs nothing for keys not in use. The zero
// value is ready.
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
