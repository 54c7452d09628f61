package participant

import "github.com/conclave-mpc/conclave/wsconn/client/request"

// Invited says that an invitation has come and has been checked: its Signer is who
// has signed it, as for an [Approver].
type Invited struct {
	Invitation
	// Refused is why it is declined without asking, "" if it is not. Where that is
	// for its check, nothing in it has been verified and Signer is nil, whether it is
	// signed or not.
	Refused string
}

// Answered says what was answered to an invitation.
type Answered struct {
	Invitation
	Accepted bool
	Reason   string
}

// Crowded says that invitations were declined, which nobody was asked about and
// for which there were no events of their own: there were too many.
type Crowded struct{ Declined int }

// Preparing says how far the pre-parameters for a keygen are: how many safe
// primes were found of how many needed. Found equals Of when they are ready.
type Preparing struct{ Found, Of int }

// Started says that the MPC of an attempt begins.
type Started struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	Parties          []int // part indexes, ascending
}

// Round says that the MPC has come to round N of Of.
type Round struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	N, Of            int
}

// Waiting says that the MPC cannot go on from a round for now, since others have
// not sent what it needs.
type Waiting struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	N, Of            int      // the round, and how many there are
	Parts            []int    // part indexes of those who owe it a message, ascending
	Users            []string // their user ids, in that order
}

// Finished says that this client's MPC has succeeded; the session goes on until
// it is [request.Ended].
type Finished struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	AccountAddr      string
}

// Failed says that this client could not go on with an attempt and has reported
// so.
type Failed struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	Reason           string
	Culprits         []int // part indexes that it blames
}

// Convicted says that a party has signed two different messages where it may sign
// one, and that the evidence was kept.
type Convicted struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	PartIndex        int
	User             string
	Kept             string // where, as the store says; empty if there is no store for it
}

func (Invited) IsEvent()   {}
func (Answered) IsEvent()  {}
func (Preparing) IsEvent() {}
func (Started) IsEvent()   {}
func (Round) IsEvent()     {}
func (Waiting) IsEvent()   {}
func (Finished) IsEvent()  {}
func (Failed) IsEvent()    {}

func (Crowded) IsEvent() {}

func (Convicted) IsEvent() {}
