package auth

import (
	"context"
	"slices"
	"sync"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Turn is a login's place while it waits for its password to be hashed: behind
// others from its network, while the networks take turns. The zero value is an
// operator's, without a network.
type Turn struct {
	Network string
	Known   bool // the account has had a login from there
}

// turns gives a bounded number of slots to waiting callers, by networks in turn:
// however many wait from one network, the next slot but one is another's. Networks
// that an account knows have every other slot. When too many wait, one of the
// network with the most waiting is refused.
//
// It starts no goroutine and is safe for concurrent use.
type turns struct {
	slots int
	most  int // limit of waiting callers

	mu      sync.Mutex
	busy    int
	waiting int
	lanes   [2]lane // unknown, known
	last    int     // the lane that the last slot went to
}

// lane holds waiting callers, by network.
type lane struct {
	queues map[string][]*waiting // none is empty
	order  []string              // of networks: the first is next
}

type waiting struct {
	turn  Turn
	ready chan error // has room for one; nil for a slot
}

func errTooManyLogins() *wire.Error {
	return wire.Errorf(wire.CodeRateLimited, "too many logins at this moment; try again")
}

// acquire waits for a slot. Its errors are a *wire.Error with
// wire.CodeRateLimited when too many wait already, and ctx's.
func (q *turns) acquire(ctx context.Context, t Turn) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	if q.busy < q.slots { // then no caller waits
		q.busy++
		q.mu.Unlock()
		return nil
	}
	if q.waiting >= q.most && !q.makeRoom(t) {
		q.mu.Unlock()
		return errTooManyLogins()
	}
	w := &waiting{turn: t, ready: make(chan error, 1)}
	q.lane(t).push(w)
	q.waiting++
	q.mu.Unlock()
	select {
	case err := <-w.ready:
		return err
	case <-ctx.Done():
	}
	q.mu.Lock()
	left := q.lane(t).remove(w)
	if left {
		q.waiting--
	}
	q.mu.Unlock()
	if !left && <-w.ready == nil { // it got a slot at this very moment
		q.release()
	}
	return ctx.Err()
}

// release returns a slot, or passes it to the next waiting caller.
func (q *turns) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range q.lanes {
		q.last = (q.last + 1) % len(q.lanes)
		if w := q.lanes[q.last].shift(); w != nil {
			q.waiting--
			w.ready <- nil
			return
		}
	}
	q.busy--
}

func (q *turns) lane(t Turn) *lane {
	if t.Known {
		return &q.lanes[1]
	}
	return &q.lanes[0]
}

// makeRoom refuses the last caller of the network with the most waiting, unless
// that is t's own: unknown networks first.
func (q *turns) makeRoom(t Turn) bool {
	l := &q.lanes[0]
	if len(l.order) == 0 {
		l = &q.lanes[1]
	}
	if len(l.order) == 0 {
		return false
	}
	crowd := slices.MaxFunc(l.order, func(a, b string) int { return len(l.queues[a]) - len(l.queues[b]) })
	if l == q.lane(t) && len(l.queues[t.Network])+1 >= len(l.queues[crowd]) || l == &q.lanes[1] && !t.Known {
		return false
	}
	w := l.queues[crowd][len(l.queues[crowd])-1]
	l.remove(w)
	q.waiting--
	w.ready <- errTooManyLogins()
	return true
}

func (l *lane) push(w *waiting) {
	if l.queues == nil {
		l.queues = make(map[string][]*waiting)
	}
	if len(l.queues[w.turn.Network]) == 0 {
		l.order = append(l.order, w.turn.Network)
	}
	l.queues[w.turn.Network] = append(l.queues[w.turn.Network], w)
}

// shift takes the first caller of the next network, nil if none waits.
func (l *lane) shift() *waiting {
	if len(l.order) == 0 {
		return nil
	}
	network := l.order[0]
	w := l.queues[network][0]
	l.order = append(l.order[1:], network)
	l.remove(w)
	return w
}

// remove removes w, and reports whether it was waiting.
func (l *lane) remove(w *waiting) bool {
	queue := l.queues[w.turn.Network]
	i := slices.Index(queue, w)
	if i < 0 {
		return false
	}
	if queue = slices.Delete(queue, i, i+1); len(queue) > 0 {
		l.queues[w.turn.Network] = queue
		return true
	}
	delete(l.queues, w.turn.Network)
	l.order = slices.DeleteFunc(l.order, func(n string) bool { return n == w.turn.Network })
	return true
}
