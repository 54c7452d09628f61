package client

import (
	"context"
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
	// Ended says that the session has its outcome.
	Ended bool `json:"ended,omitempty"`
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
	// ended only the session id, the attempt and that it has ended must be kept,
	// and those as long as is possible.
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

// maxEnded is how many ended sessions are remembered of those that were begun,
// and as many of the others, oldest forgotten first. A server can end as many as
// it likes that were never begun; it must not make a participant forget a run by
// that, for to run the same attempt twice is to sign two messages for one place.
const maxEnded = 100_000

// ledger is the part of a journal that is in memory.
type ledger struct {
	open  map[string]Record
	ended map[string]int // session id -> newest attempt begun
	begun []string       // of ended, those with an attempt, oldest first
	idle  []string       // the rest, likewise

	claims map[string]claim // by request id
}

// claim is a request that was used.
type claim struct {
	session string
	until   time.Time
}

func newLedger() ledger {
	return ledger{open: map[string]Record{}, ended: map[string]int{}, claims: map[string]claim{}}
}

// set reports false for what changes nothing: an ended session stays so.
func (l *ledger) set(r Record) bool {
	id := r.Invitation.SessionID
	if _, ended := l.ended[id]; ended {
		return false
	}
	if !r.Ended {
		l.open[id] = r
		return true
	}
	delete(l.open, id)
	l.ended[id] = r.Attempt
	list := &l.begun
	if r.Attempt == 0 {
		list = &l.idle
	}
	*list = append(*list, id)
	if len(*list) > maxEnded {
		delete(l.ended, (*list)[0])
		*list = (*list)[1:]
	}
	return true
}

func (l *ledger) get(id string) (Record, bool) {
	if r, ok := l.open[id]; ok {
		return r, true
	}
	attempt, ok := l.ended[id]
	return Record{Invitation: Invitation{SessionID: id}, Attempt: attempt, Ended: ok}, ok
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
