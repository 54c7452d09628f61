package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/bsm/redislock"
)

// Waiting for a lock starts at the shorter pause and doubles up to the longer.
const (
	lockPauseFirst = 2 * time.Millisecond
	lockPauseMost  = 20 * time.Millisecond
)

// Lock is a lock in Redis that its holder has taken. It ends by itself after
// Config.LockTTL, so it saves work and proves nothing: whoever must be sure
// compares [Lock.Token] with the key's value in the script that writes.
// Safe for concurrent use.
type Lock struct{ held *redislock.Lock }

// Lock takes the lock on id: 1 to 128 bytes of letters, digits and _ . @ -.
// While another holds it, Lock tries again for up to Config.LockWait and then
// returns ErrLocked. It returns ErrBadID, the context's error, or Redis's.
func (n *Node) Lock(ctx context.Context, id string) (*Lock, error) {
	if !validID(id) {
		return nil, fmt.Errorf("lock %q: %w", id, ErrBadID)
	}
	wait, cancel := context.WithTimeout(ctx, n.cfg.LockWait)
	defer cancel()
	held, err := n.locks.Obtain(wait, n.keys.lock(id), n.cfg.LockTTL, &redislock.Options{
		// The token names its holder to whoever looks at the key.
		Token:         n.cfg.NodeID + "/" + rand.Text(),
		RetryStrategy: &pauses{next: lockPauseFirst},
	})
	switch {
	case err == nil:
		return &Lock{held}, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("lock %s: %w", id, ctx.Err())
	case errors.Is(err, redislock.ErrNotObtained), wait.Err() != nil && errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("lock %s: %w", id, ErrLocked)
	default:
		return nil, fmt.Errorf("lock %s: %w", id, err)
	}
}

// Token returns the value of the lock's key while the lock is held: the node's
// id, a slash, and random text.
func (l *Lock) Token() string { return l.held.Token() }

// Release gives the lock up. It returns ErrLockLost when the lock had ended
// before, which says that another may have held it meanwhile.
func (l *Lock) Release(ctx context.Context) error {
	err := l.held.Release(ctx)
	if errors.Is(err, redislock.ErrLockNotHeld) {
		return fmt.Errorf("release lock: %w", ErrLockLost)
	}
	if err != nil {
		return fmt.Errorf("release lock: %w", err)
	}
	return nil
}

// pauses implements redislock.RetryStrategy for one Obtain; the context ends it.
type pauses struct{ next time.Duration }

// NextBackoff implements redislock.RetryStrategy.
func (p *pauses) NextBackoff() time.Duration {
	pause := p.next
	p.next = min(2*p.next, lockPauseMost)
	return pause
}
