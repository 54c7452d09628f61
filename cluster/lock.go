package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// A try may take a second. Pauses between tries start at the shorter and double up
// to the longer. Each is cut by up to a half at random, so that waiters for one
// lock do not retry together.
const (
	tryWithin      = time.Second
	lockPauseFirst = time.Millisecond
	lockPauseMost  = 20 * time.Millisecond
)

// Lock is a lock in Redis, held. It expires after Config.LockTTL, so it only saves
// work: a caller that must be sure compares [Lock.Token] with the key's value in
// the script that writes. Safe for concurrent use.
type Lock struct {
	node  *Node
	key   string
	token string
}

// Guarded is Redis's reply when a lock was taken.
type Guarded struct {
	Asked time.Time // start of the successful try, by this process's clock
	// Reply is the time by Redis's clock, in seconds and microseconds, and then the
	// fields and values of the hash, if there is one.
	Reply []any
}

// Lock takes the lock on id: 1 to 128 bytes of letters, digits and _ . @ -.
// While another holds it, Lock tries again for up to Config.LockWait and then
// returns ErrLocked. It returns ErrBadID, the context's error, or Redis's.
func (n *Node) Lock(ctx context.Context, id string) (*Lock, error) {
	l, _, err := n.lock(ctx, id)
	return l, err
}

// LockAndLoad is Lock, and reads the hash that the lock guards in the same step:
// key is in the same slot as [Node.LockKey].
func (n *Node) LockAndLoad(ctx context.Context, id, key string) (*Lock, Guarded, error) {
	return n.lock(ctx, id, key)
}

func (n *Node) lock(ctx context.Context, id string, guarded ...string) (*Lock, Guarded, error) {
	if !validID(id) {
		return nil, Guarded{}, fmt.Errorf("lock %q: %w", id, ErrBadID)
	}
	wait, cancel := context.WithTimeout(ctx, n.cfg.LockWait)
	defer cancel()
	// The token shows the holder to a person inspecting the key.
	l := &Lock{node: n, key: n.keys.lock(id), token: n.cfg.NodeID + "/" + rand.Text()}
	keys := append([]string{l.key}, guarded...)
	for pause := lockPauseFirst; ; pause = min(2*pause, lockPauseMost) {
		got, err := n.tryLock(ctx, keys, l.token)
		if err != nil {
			return nil, Guarded{}, fmt.Errorf("lock %s: %w", id, err)
		}
		if len(got.Reply) > 0 {
			return l, got, nil
		}
		if !sleep(wait, pause-mathrand.N(pause/2)) {
			break
		}
	}
	if ctx.Err() != nil {
		return nil, Guarded{}, fmt.Errorf("lock %s: %w", id, ctx.Err())
	}
	return nil, Guarded{}, fmt.Errorf("lock %s: %w", id, ErrLocked)
}

// tryLock tries once; its reply is empty while another holds the lock. A try in
// flight when LockWait ends is waited for a little longer: if abandoned, it might
// still succeed, and the lock would be held unused until it expires.
func (n *Node) tryLock(ctx context.Context, keys []string, token string) (Guarded, error) {
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	got := Guarded{Asked: time.Now()}
	call := lockScript.Call(keys, token, n.cfg.LockTTL.Milliseconds())
	// The call's result may still be written after the caller has left.
	if err := n.cfg.Pipeline.Do(ctx, call); err != nil {
		return Guarded{}, err
	}
	var err error
	got.Reply, err = call.Slice()
	return got, err
}

// Token returns the value of the lock's key while the lock is held: the node's
// id, a slash, and random text.
func (l *Lock) Token() string { return l.token }

// Release gives the lock up. It returns ErrLockLost when the lock had already
// expired, so another may have held it meanwhile.
func (l *Lock) Release(ctx context.Context) error {
	call := unlockScript.Call([]string{l.key}, l.token)
	err := l.node.cfg.Pipeline.Do(ctx, call)
	if errors.Is(err, redisx.ErrLeft) {
		return fmt.Errorf("release lock: %w", err)
	}
	held, err := call.Int()
	switch {
	case err != nil:
		return fmt.Errorf("release lock: %w", err)
	case held == 0:
		return fmt.Errorf("release lock: %w", ErrLockLost)
	}
	return nil
}
