package participant

import (
	"context"
	"time"
)

// Record is a participant's record of one session.
type Record struct {
	Invitation Invitation `json:"invitation"`
	// At is when the invitation arrived.
	At time.Time `json:"at"`
	// Answer is the answer given; empty while undecided.
	Answer Answer `json:"answer,omitempty"`
	// Attempt is the newest attempt begun, 0 before the first. It is written before
	// the MPC begins, and neither it nor an earlier one is run again.
	Attempt int `json:"attempt,omitempty"`
	// Generated is the account address of the share that a keygen or reshare made, written
	// once the share is stored.
	Generated string `json:"generated,omitempty"`
	// Epoch is, in a reshare, the number of the attempt in which Generated was made.
	Epoch int `json:"epoch,omitempty"`
	// Gave is the newest attempt of a reshare in which this party has given its old
	// share to a committee without it.
	Gave int `json:"gave,omitempty"`
	// Ended says that the session needs no further work.
	Ended bool `json:"ended,omitempty"`
	// Rank says which account's places the session takes.
	Rank Rank `json:"rank,omitempty"`
}

// Answer is a participant's answer to an invitation.
type Answer string

// The answers.
const (
	Accepted Answer = "accepted"
	Declined Answer = "declined"
)

// Journal keeps Records over restarts. It is used by one client at a time and safe
// for concurrent use.
type Journal interface {
	// Write stores r, durably once it returns, in place of the session's earlier
	// record, unless that has ended: then nothing changes. Of an ended record only
	// the session id, the attempt, whether it was declined and that it has ended
	// must be kept, those with an attempt as long as possible. Declined and ended
	// records need not be durable at once: losing one costs only a question.
	Write(ctx context.Context, r Record) error
	// Read returns the session's record, and whether there is one.
	Read(ctx context.Context, sessionID string) (r Record, ok bool, err error)
	// Open returns the records that have not ended, by session id.
	Open(ctx context.Context) ([]Record, error)
	// Claim records, durably once it returns and at least until a time, that a
	// request was made for a session, and returns the session that has it: the
	// first to claim it.
	Claim(ctx context.Context, requestID, sessionID string, until time.Time) (first string, err error)
}
