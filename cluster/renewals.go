package cluster

import (
	"sync"
	"time"
)

// renewals records the mailboxes whose time to live this node renewed recently:
// within a sixteenth of it. Renewing it with each message, or reading how much is
// left, would be a quarter of an append's cost in Redis, and each renewal goes into
// the append-only file as well.
type renewals struct {
	life time.Duration

	mu   sync.Mutex
	last map[renewal]time.Time
}

// renewal is a mailbox, and whether its appended messages had ids: only then is
// there a set of ids that must live as long.
type renewal struct {
	member string
	ids    bool
}

const mostRenewals = 64 << 10 // remembered; beyond that, all are forgotten

// due reports whether the caller must renew, and records that it does.
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
