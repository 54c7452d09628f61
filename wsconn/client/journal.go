package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Record is what a participant notes about one session.
type Record struct {
	Invitation Invitation `json:"invitation"`
	// At is when the invitation came.
	At time.Time `json:"at"`
	// Answer is what was answered; empty while it is being decided.
	Answer Answer `json:"answer,omitempty"`
	// Attempt is the newest attempt begun, 0 before the first. It is written
	// before the MPC begins, and neither it nor an earlier one is run again.
	Attempt int `json:"attempt,omitempty"`
	// Generated is the account address of the share that a keygen made, written
	// once the share is stored.
	Generated string `json:"generated,omitempty"`
	// Ended says that nothing more is to be done for the session.
	Ended bool `json:"ended,omitempty"`
	// Rank says whose places the session takes.
	Rank Rank `json:"rank,omitempty"`
}

// Answer is a participant's answer to an invitation.
type Answer string

// The answers.
const (
	Accepted Answer = "accepted"
	Declined Answer = "declined"
)

// Journal keeps Records over restarts. It is used by one client at a time and
// safe for concurrent use.
type Journal interface {
	// Write stores r, durably once it returns, in place of the session's earlier
	// record, unless that has ended: then nothing changes. Of a record that has
	// ended only the session id, the attempt, whether it was declined and that it
	// has ended must be kept, those with an attempt as long as is possible. What
	// was declined and has ended need not be durable at once: forgetting it costs
	// a question, and no more.
	Write(ctx context.Context, r Record) error
	// Read returns the session's record, and whether there is one.
	Read(ctx context.Context, sessionID string) (r Record, ok bool, err error)
	// Open returns the records that have not ended, by session id.
	Open(ctx context.Context) ([]Record, error)
	// Claim notes, durably once it returns and at least until a time, that a
	// request was made for a session, and returns the session that has it: the
	// first to claim it.
	Claim(ctx context.Context, requestID, sessionID string, until time.Time) (first string, err error)
}

// How many sessions that have ended are remembered, oldest forgotten first. A
// server can end, and have declined, as many as it likes that were never begun;
// it must not make a participant forget a run by that, for to run the same
// attempt twice is to sign two messages for one place.
const (
	maxBegun    = 100_000 // with an attempt
	maxIdle     = 65_536  // without one, of coordinators that are known here
	maxDeclined = 16_384  // declined, or strangers' and never begun
	maxClaims   = 65_536  // requests that have not expired
)

// errFull is returned by Claim.
var errFull = errors.New("too many requests are noted that have not expired")

// sessionSum stands for a session that has ended. Its id may be as long as the
// server likes.
type sessionSum [16]byte

func sumOf(sessionID string) sessionSum {
	sum := sha256.Sum256([]byte(sessionID))
	return sessionSum(sum[:len(sessionSum{})])
}

// window is the newest ended sessions of a kind.
type window struct {
	most     int
	attempts map[sessionSum]int
	ring     []sessionSum // oldest first from next on
	next     int          // where the oldest is once the ring is full
}

func newWindow(most int) window { return window{most: most, attempts: map[sessionSum]int{}} }

func (w *window) add(sum sessionSum, attempt int) {
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
func (w *window) all() iter.Seq2[sessionSum, int] {
	return func(yield func(sessionSum, int) bool) {
		for i := range w.ring {
			sum := w.ring[(w.next+i)%len(w.ring)]
			if !yield(sum, w.attempts[sum]) {
				return
			}
		}
	}
}

// ledger is the part of a journal that is in memory.
type ledger struct {
	open     map[sessionSum]Record
	begun    window
	idle     window
	declined window

	claims map[string]claim // by request id
}

// claim is a request that was used.
type claim struct {
	session string
	until   time.Time
}

func newLedger() ledger {
	return ledger{
		open: map[sessionSum]Record{}, begun: newWindow(maxBegun), idle: newWindow(maxIdle), declined: newWindow(maxDeclined),
		claims: map[string]claim{},
	}
}

// set reports false for what changes nothing: an ended session stays so.
func (l *ledger) set(r Record) bool {
	sum := sumOf(r.Invitation.SessionID)
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

// end puts a session that is not in a window into the one of its kind.
func (l *ledger) end(sum sessionSum, r Record) {
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

// ended returns what is remembered of an ended session.
func (l *ledger) ended(sum sessionSum) (Record, bool) {
	if attempt, ok := l.begun.attempts[sum]; ok {
		return Record{Attempt: attempt, Ended: true}, true
	}
	if _, ok := l.declined.attempts[sum]; ok {
		return Record{Answer: Declined, Ended: true}, true
	}
	_, ok := l.idle.attempts[sum]
	return Record{Ended: ok}, ok
}

func (l *ledger) get(id string) (Record, bool) {
	sum := sumOf(id)
	if r, ok := l.open[sum]; ok {
		return r, true
	}
	r, ok := l.ended(sum)
	r.Invitation.SessionID = id
	return r, ok
}

// slim leaves of a declined record what it takes to say so again.
func (r Record) slim() Record {
	if r.Answer == Declined {
		inv := &r.Invitation
		inv.Data, inv.Digest, inv.SignedRequest, inv.Participants, inv.Signer = "", "", "", nil, nil
	}
	return r
}

// roomForClaim forgets requests that have expired, if there are too many, and
// returns errFull if there still are.
func (l *ledger) roomForClaim(now time.Time) error {
	if len(l.claims) < maxClaims {
		return nil
	}
	l.expire(now)
	if len(l.claims) >= maxClaims {
		return errFull
	}
	return nil
}

func (l *ledger) expire(now time.Time) {
	maps.DeleteFunc(l.claims, func(_ string, c claim) bool { return now.After(c.until) })
}

func (l *ledger) list() []Record {
	list := make([]Record, 0, len(l.open))
	for _, r := range l.open {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(a.Invitation.SessionID, b.Invitation.SessionID) })
	return list
}

// memJournal is a Journal in memory. The zero value is ready.
type memJournal struct {
	journal sync.Mutex
	ledger  ledger
}

// Write implements [Journal].
func (j *memJournal) Write(_ context.Context, r Record) error {
	j.journal.Lock()
	defer j.journal.Unlock()
	j.init()
	j.ledger.set(r)
	return nil
}

func (j *memJournal) init() {
	if j.ledger.open == nil {
		j.ledger = newLedger()
	}
}

// Claim implements [Journal].
func (j *memJournal) Claim(_ context.Context, requestID, sessionID string, until time.Time) (string, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	j.init()
	if c, ok := j.ledger.claims[requestID]; ok {
		return c.session, nil
	}
	if err := j.ledger.roomForClaim(time.Now()); err != nil {
		return "", err
	}
	j.ledger.claims[requestID] = claim{sessionID, until}
	return sessionID, nil
}

// Read implements [Journal].
func (j *memJournal) Read(_ context.Context, sessionID string) (Record, bool, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	r, ok := j.ledger.get(sessionID)
	return r, ok, nil
}

// Open implements [Journal].
func (j *memJournal) Open(context.Context) ([]Record, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	return j.ledger.list(), nil
}
