package service

import (
	"context"
	"fmt"
	"time"

	"github.com/conclave-mpc/conclave/session"
)

const (
	// maxAtWork is how many messages and requests of clients one node brings to
	// sessions at one time; the others wait in their order. What is at work so holds
	// its session's lock for a moment, however many ask: without a bound a crowd
	// makes each step slow, and then gives up waiting for locks. A node's pool of
	// connections to the store should be larger. Round messages and the sweeper take
	// no turn.
	maxAtWork = 32
	// turnWithin bounds the wait, so that of a caller's time there is some left to
	// finish what is begun.
	turnWithin = 20 * time.Second
)

// turn waits until this node may work on another session. Done gives the turn
// back. Whoever has one must not wait for another.
func (v *Service) turn(ctx context.Context) (done func(), err error) {
	select {
	case v.atWork <- struct{}{}:
		return v.turnDone, nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, turnWithin)
	defer cancel()
	select {
	case v.atWork <- struct{}{}:
		return v.turnDone, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn: %w: %w", ErrUnavailable, ctx.Err())
	}
}

func (v *Service) turnDone() { <-v.atWork }

// ofClient reports whether an event is a client's doing. The others are this
// node's own, which finish what others have begun.
func ofClient(ev session.Event) bool {
	switch ev.(type) {
	case session.Tick, session.KeyStored, session.KeyLost, session.Undeliverable:
		return false
	}
	return true
}
