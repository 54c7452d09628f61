package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/pipeline"
)

// A try may take a second. Pauses between tries start at the shorter and double up
// to the longer. Each is cut by up to a half, by chance: those who wait for one lock
// do not come back together.
const (
	tryWithin      = time.Second
	lockPauseFirst = time.Millisecond
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
func (n *Node) Lock(ctx context.Context, id string) (*Lock, error) { return n.LockWith(ctx, id, nil) }

// LockWith is Lock, and sends the command that with returns right behind each
// try, in the same round trip: the last one that it has returned before Lock is
// successful was carried out under the lock (but for a slot of Redis Cluster that
// is just moving to another server). It is of the same slot. Nil means none.
func (n *Node) LockWith(ctx context.Context, id string, with func() redis.Cmder) (*Lock, error) {
	if !validID(id) {
		return nil, fmt.Errorf("lock %q: %w", id, ErrBadID)
	}
	wait, cancel := context.WithTimeout(ctx, n.cfg.LockWait)
	defer cancel()
	client := &tries{line: n.cfg.Pipeline, with: with, caller: ctx}
	held, err := redislock.New(client).Obtain(wait, n.keys.lock(id), n.cfg.LockTTL, &redislock.Options{
		// The token names its holder to whoever looks at the key.
		Token:         n.cfg.NodeID + "/" + rand.Text(),
		RetryStrategy: &pauses{next: lockPauseFirst},
	})
	client.with, client.caller = nil, nil // nothing goes with the release
	switch {
	case err == nil:
		return &Lock{held}, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("lock %s: %w", id, ctx.Err())
	case errors.Is(err, pipeline.ErrLeft): // Redis does not answer
		return nil, fmt.Errorf("lock %s: %w", id, err)
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
	pause := p.next - mathrand.N(p.next/2)
	p.next = min(2*p.next, lockPauseMost)
	return pause
}

// tries is what redislock needs of a client, by way of a pipeline.
type tries struct {
	redis.Scripter // of what redislock never calls
	line           *pipeline.Client
	with           func() redis.Cmder // nil for none
	// Caller is, while a lock is taken, the context of whoever asks for it. A try
	// that is on its way when LockWait ends is waited for a little longer: given up,
	// it might be successful all the same, and the lock be nobody's for all its life.
	caller context.Context
}

// EvalSha implements redis.Scripter.
func (t *tries) EvalSha(ctx context.Context, hash string, keys []string, args ...any) *redis.Cmd {
	return t.try(ctx, "evalsha", hash, keys, args)
}

// Eval implements redis.Scripter. It follows EvalSha where Redis does not have
// the script, and so did nothing.
func (t *tries) Eval(ctx context.Context, text string, keys []string, args ...any) *redis.Cmd {
	return t.try(ctx, "eval", text, keys, args)
}

func (t *tries) try(ctx context.Context, name, script string, keys []string, args []any) *redis.Cmd {
	all := append([]any{name, script, len(keys)}, keys[0])
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(3)
	cmds := []redis.Cmder{cmd}
	if t.with != nil {
		cmds = append(cmds, t.with())
	}
	if t.caller != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(t.caller, tryWithin)
		defer cancel()
	}
	if err := t.line.Do(ctx, cmds...); errors.Is(err, pipeline.ErrLeft) {
		left := redis.NewCmd(ctx) // the other may still be written to
		left.SetErr(err)
		return left
	}
	return cmd
}
