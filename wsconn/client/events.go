package client

import (
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Kind says what a session is for.
type Kind string

// The kinds of session.
const (
	KindKeygen Kind = "keygen"
	KindSign   Kind = "sign"
)

// Invitation is what a participant is asked to take part in. When an [Approver]
// sees it, its form has been checked, the digest is the one that this client
// computed, and if the client holds a share of the key, key, part and committee
// are the share's.
type Invitation struct {
	Kind         Kind         `json:"kind"`
	SessionID    string       `json:"session_id"`
	KeyID        string       `json:"key_id"`
	Coordinator  string       `json:"coordinator"`  // user id of who asks
	Curve        pubkey.Curve `json:"curve"`        // of a signing: as its account address, or the share, says
	Threshold    int          `json:"threshold"`    // of a signing: 0 without a share in the store
	PartIndex    int          `json:"part_index"`   // the own
	Participants []string     `json:"participants"` // user ids: of a keygen the committee, of a signing the invited
	Deadline     time.Time    `json:"deadline,omitzero"`

	// Of a signing.
	Data        string `json:"data,omitempty"`   // 0x hex, else text
	Hash        string `json:"hash,omitempty"`   // what is done to data; see pubkey.Digest
	Digest      string `json:"digest,omitempty"` // 0x hex, what is signed
	AccountAddr string `json:"account_addr,omitempty"`

	// SignedRequest is the coordinator's signature over all of the above but the
	// own part and the deadline, which are the server's; in a keygen so is the
	// session, in a signing the threshold is the key's.
	SignedRequest string `json:"signed_request,omitempty"`
	// Signer is who has signed it. Nil means that the request is not signed, so
	// that only the server says who asks.
	Signer *Signer `json:"signer,omitempty"`
}

// Event is something that happened to a client, for display. It is one of the
// types below.
type Event interface{ event() }

// Connected says that the client has registered with a node.
type Connected struct {
	URL  string // the socket's
	Node string
}

// Reconnecting says that the connection was lost, or not made, and when it will
// be tried again.
type Reconnecting struct {
	URL string // the socket's; empty if no server was reached
	Err error
	In  time.Duration
}

// Requested says that a keygen or signing that this client asked for has begun.
type Requested struct {
	Kind             Kind
	SessionID, KeyID string
}

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
	Kind             Kind
	SessionID, KeyID string
	Attempt          int
	Parties          []int // part indexes, ascending
}

// Round says that the MPC has come to round N of Of.
type Round struct {
	Kind             Kind
	SessionID, KeyID string
	Attempt          int
	N, Of            int
}

// Waiting says that the MPC cannot go on from a round for now, since others have
// not sent what it needs.
type Waiting struct {
	Kind             Kind
	SessionID, KeyID string
	Attempt          int
	N, Of            int      // the round, and how many there are
	Parts            []int    // part indexes of those who owe it a message, ascending
	Users            []string // their user ids, in that order
}

// Finished says that this client's MPC has succeeded; the session goes on until
// it is [Ended].
type Finished struct {
	Kind             Kind
	SessionID, KeyID string
	Attempt          int
	AccountAddr      string
}

// Failed says that this client could not go on with an attempt and has reported
// so.
type Failed struct {
	Kind             Kind
	SessionID, KeyID string
	Attempt          int
	Reason           string
	Culprits         []int // part indexes that it blames
}

// IdentityChanged says that a user was refused, who has come with another
// identity than the one that is known.
type IdentityChanged struct {
	Kind             Kind
	SessionID, KeyID string
	IdentityError
}

// Convicted says that a party has signed two different messages where it may sign
// one, and that the evidence was kept.
type Convicted struct {
	Kind             Kind
	SessionID, KeyID string
	Attempt          int
	PartIndex        int
	User             string
	Kept             string // where, as the store says; empty if there is no store for it
}

// Ended says that a session has its outcome.
type Ended struct {
	Kind             Kind
	SessionID, KeyID string
	Status           wire.Status
	Reason           string
	Culprits         []int
}

func (Connected) event()    {}
func (Reconnecting) event() {}
func (Requested) event()    {}
func (Invited) event()      {}
func (Answered) event()     {}
func (Preparing) event()    {}
func (Started) event()      {}
func (Round) event()        {}
func (Waiting) event()      {}
func (Finished) event()     {}
func (Failed) event()       {}
func (Ended) event()        {}

func (Crowded) event()         {}
func (IdentityChanged) event() {}
func (Convicted) event()       {}
