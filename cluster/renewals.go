package cluster

import (
	"sync"
	"time"
)

// renewals remembers of which mailboxes this node has renewed the time to live
// lately: within the sixteenth part of it. To renew it with each message, or to
// ask how much is left, would be a quarter of what an append costs Redis, and
// what is renewed goes into the append-only file as well.
type renewals struct {
	life time.Duration

	mu   sync.Mutex
	last map[renewal]time.Time
}

// renewal is a mailbox, and whether what was appended had ids: only then is
// there a set of them that must live as long.
type renewal struct {
	member string
	ids    bool
}

const mostRenewals = 64 << 10 // remembered; more, and all are forgotten

// due reports whether the caller is to renew, and notes that it does.
func (r *renewals) due(member string, ids bool, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := renewal{member, ids}
	if at, ok := r.last[key]; ok && now.Sub(at) < r.life/16 {
		return false
	}
	if r.last == nil || len(r.last) >= mostRenewals {
		r.last = map[renewal]time.Time{}
	}
	r.last[key] = now
	return true
}

// forget undoes due: the renewal may not have taken place.
func (r *renewals) forget(member string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, renewal{member, false})
	delete(r.last, renewal{member, true})
}
