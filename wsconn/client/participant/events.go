package participant

import "github.com/conclave-mpc/conclave/wsconn/client/request"

// Invited reports that an invitation has arrived and has been checked: its Signer
// is set as for an [Approver].
type Invited struct {
	Invitation
	// Refused is why it is declined without a question, "" if it is not. If its
	// check failed, nothing in it has been verified and Signer is nil, whether it
	// is signed or not.
	Refused string
}

// Answered reports the answer to an invitation.
type Answered struct {
	Invitation
	Accepted bool
	Reason   string
}

// Crowded reports that too many invitations came: they were declined without a
// question and without events of their own.
type Crowded struct{ Declined int }

// Preparing reports the progress of the pre-parameters for a keygen: how many of
// the safe primes needed were found. Found equals Of when they are ready.
type Preparing struct{ Found, Of int }

// Started reports that the MPC of an attempt begins.
type Started struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	Parties          []int // part indexes, ascending
}

// Round reports that the MPC has reached round N of Of.
type Round struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	N, Of            int
}

// Waiting reports that the MPC cannot leave a round for now, because messages from
// others are missing.
type Waiting struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	N, Of            int      // the round, and the number of rounds
	Parts            []int    // part indexes of those whose message is missing, ascending
	Users            []string // their user ids, in that order
}

// Finished reports that this client's MPC has succeeded; the session continues
// until it is [request.Ended].
type Finished struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	AccountAddr      string
}

// Failed reports that this client could not continue an attempt and has reported
// so.
type Failed struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	Reason           string
	Culprits         []int // part indexes that it blames
}

// Convicted reports that a party has signed two different messages where it may
// sign one, and that the evidence was kept.
type Convicted struct {
	Kind             request.Kind
	SessionID, KeyID string
	Attempt          int
	PartIndex        int
	User             string
	Kept             string // where, by the store; empty without a store for it
}

// Certified reports that a certificate of a key's epoch was verified and stored.
type Certified struct {
	KeyID, AccountAddr string
	Epoch              int
}

// ShareMissing reports that this party is a member of a certified epoch of which its
// share is not here, or does not belong to the certificate. It keeps its older shares.
type ShareMissing struct {
	KeyID, AccountAddr string
	Epoch              int
	Err                error
}

func (Certified) IsEvent()    {}
func (ShareMissing) IsEvent() {}

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
