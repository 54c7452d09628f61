package session

import (
	"context"
	"fmt"
)

// maxAtWork is how many messages and requests of one node work on sessions at one
// time; the others wait in their order. What is at work so holds a session's lock
// for a moment, however many ask: without a bound a crowd makes each step slow,
// and then gives up waiting for locks. A node's pool of connections to the store
// should be larger. Round messages take no turn; the mailboxes bound those.
const maxAtWork = 32

// turn waits until this node may work on another session. Done gives the turn
// back. Whoever has one must not wait for another.
func (v *Service) turn(ctx context.Context) (done func(), err error) {
	select {
	case v.atWork <- struct{}{}:
		return v.turnDone, nil
	default:
	}
	select {
	case v.atWork <- struct{}{}:
		return v.turnDone, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn: %w: %w", ErrUnavailable, ctx.Err())
	}
}

func (v *Service) turnDone() { <-v.atWork }
