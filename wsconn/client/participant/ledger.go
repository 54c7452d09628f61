package participant

import (
	"crypto/sha256"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// How many ended sessions are remembered, oldest removed first. A server can end,
// and have declined, any number that were never begun; it must not thereby make a
// participant forget a run, since running the same attempt twice means signing two
// messages for one place.
const (
	maxBegun    = 100_000 // with an attempt
	maxIdle     = 65_536  // without one, of coordinators known here
	maxDeclined = 16_384  // declined, or strangers' and never begun
	maxClaims   = 65_536  // unexpired requests
)

// errFull is returned by RoomForClaim.
var errFull = errors.New("too many requests are noted that have not expired")

// SessionSum stands for an ended session. The server may choose ids of any length.
type SessionSum [16]byte

// SumOf returns the sum of a session id.
func SumOf(sessionID string) SessionSum {
	sum := sha256.Sum256([]byte(sessionID))
	return SessionSum(sum[:len(SessionSum{})])
}

// window holds the newest ended sessions of a kind.
type window struct {
	most     int
	attempts map[SessionSum]int
	ring     []SessionSum // oldest first from next on
	next     int          // position of the oldest once the ring is full
}

func newWindow(most int) window { return window{most: most, attempts: map[SessionSum]int{}} }

func (w *window) add(sum SessionSum, attempt int) {
	w.attempts[sum] = attempt
	if len(w.ring) < w.most {
		w.ring = append(w.ring, sum)
		return
	}
	delete(w.attempts, w.ring[w.next])
	w.ring[w.next] = sum
	w.next = (w.next + 1) % w.most
}

// all returns the sessions, oldest first, with their attempts.
func (w *window) all() iter.Seq2[SessionSum, int] {
	return func(yield func(SessionSum, int) bool) {
		for i := range w.ring {
			sum := w.ring[(w.next+i)%len(w.ring)]
			if !yield(sum, w.attempts[sum]) {
				return
			}
		}
	}
}

// Ledger is the part of a [Journal] that is in memory: the open sessions, the
// remembered ended ones, and the claimed requests. It is for implementations of
// Journal, and not safe for concurrent use. Make it with [NewLedger].
type Ledger struct {
	open     map[SessionSum]Record
	begun    window
	idle     window
	declined window

	claims map[string]Claim // by request id
}

// Claim is a used request.
type Claim struct {
	SessionID string
	Until     time.Time
}

// NewLedger returns a ledger without sessions.
func NewLedger() *Ledger {
	return &Ledger{
		open: map[SessionSum]Record{}, begun: newWindow(maxBegun), idle: newWindow(maxIdle), declined: newWindow(maxDeclined),
		claims: map[string]Claim{},
	}
}

// Set stores a record in place of the session's earlier one. It reports false if
// nothing changes: an ended session stays so.
func (l *Ledger) Set(r Record) bool {
	sum := SumOf(r.Invitation.SessionID)
	if _, ended := l.ended(sum); ended {
		return false
	}
	if r.Ended {
		l.end(sum, r)
		return true
	}
	l.open[sum] = r.slim()
	return true
}

// end adds a session that is not in a window to the one of its kind.
func (l *Ledger) end(sum SessionSum, r Record) {
	delete(l.open, sum)
	switch {
	case r.Attempt != 0:
		l.begun.add(sum, r.Attempt)
	case r.Answer == Declined:
		l.declined.add(sum, 0)
	default:
		l.idle.add(sum, 0)
	}
}

// ended returns the remembered state of an ended session.
func (l *Ledger) ended(sum SessionSum) (Record, bool) {
	if attempt, ok := l.begun.attempts[sum]; ok {
		return Record{Attempt: attempt, Ended: true}, true
	}
	if _, ok := l.declined.attempts[sum]; ok {
		return Record{Answer: Declined, Ended: true}, true
	}
	_, ok := l.idle.attempts[sum]
	return Record{Ended: ok}, ok
}

// Get returns a session's record, and whether there is one.
func (l *Ledger) Get(id string) (Record, bool) {
	sum := SumOf(id)
	if r, ok := l.open[sum]; ok {
		return r, true
	}
	r, ok := l.ended(sum)
	r.Invitation.SessionID = id
	return r, ok
}

// slim reduces a declined record to the data for declining again.
func (r Record) slim() Record {
	if r.Answer == Declined {
		inv := &r.Invitation
		inv.Data, inv.Digest, inv.SignedRequest, inv.Participants, inv.Signer, inv.Reshare = "", "", "", nil, nil, nil
	}
	return r
}

// RoomForClaim removes expired requests, if there are too many, and returns an
// error if there still are.
func (l *Ledger) RoomForClaim(now time.Time) error {
	if len(l.claims) < maxClaims {
		return nil
	}
	l.Expire(now)
	if len(l.claims) >= maxClaims {
		return errFull
	}
	return nil
}

// Expire removes the expired requests.
func (l *Ledger) Expire(now time.Time) {
	maps.DeleteFunc(l.claims, func(_ string, c Claim) bool { return now.After(c.Until) })
}

// Open returns the records that have not ended, by session id.
func (l *Ledger) Open() []Record {
	list := make([]Record, 0, len(l.open))
	for _, r := range l.open {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(a.Invitation.SessionID, b.Invitation.SessionID) })
	return list
}

// Restore remembers an ended session by its sum, as Ended has returned it, unless
// the session is already known to have ended.
func (l *Ledger) Restore(sum SessionSum, r Record) {
	if _, ended := l.ended(sum); !ended {
		l.end(sum, r)
	}
}

// Ended returns the ended sessions, in the order of their removal, with the
// remembered state of each: attempt, and whether it was declined.
func (l *Ledger) Ended() iter.Seq2[SessionSum, Record] {
	return func(yield func(SessionSum, Record) bool) {
		for sum := range l.declined.all() {
			if !yield(sum, Record{Answer: Declined, Ended: true}) {
				return
			}
		}
		for sum := range l.idle.all() {
			if !yield(sum, Record{Ended: true}) {
				return
			}
		}
		for sum, attempt := range l.begun.all() {
			if !yield(sum, Record{Attempt: attempt, Ended: true}) {
				return
			}
		}
	}
}

// Len returns how many ended sessions and claims are remembered.
func (l *Ledger) Len() (ended, claims int) {
	return len(l.begun.ring) + len(l.idle.ring) + len(l.declined.ring), len(l.claims)
}

// Claimed returns the claim of a request, and whether there is one.
func (l *Ledger) Claimed(requestID string) (Claim, bool) {
	c, ok := l.claims[requestID]
	return c, ok
}

// AddClaim records the claim of a request.
func (l *Ledger) AddClaim(requestID string, c Claim) { l.claims[requestID] = c }

// Claims returns all claims, by request id, in no order.
func (l *Ledger) Claims() iter.Seq2[string, Claim] { return maps.All(l.claims) }
