package participant

import (
	"context"
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
