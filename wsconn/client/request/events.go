package request

import (
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Kind is the kind of a session.
type Kind string

// The kinds of session.
const (
	KindKeygen  Kind = "keygen"
	KindSign    Kind = "sign"
	KindReshare Kind = "reshare"
)

// Event is an event of a client, for display. It is one of the types below.
type Event interface{ IsEvent() }

// Requested reports that a keygen or signing requested by this client has begun.
type Requested struct {
	Kind             Kind
	SessionID, KeyID string
}

// IdentityChanged reports that a user was refused because its identity is not the
// known one.
type IdentityChanged struct {
	Kind             Kind
	SessionID, KeyID string
	trust.IdentityError
}

// Ended reports that a session has its outcome.
type Ended struct {
	Kind             Kind
	SessionID, KeyID string
	Status           wire.Status
	Reason           string
	Culprits         []int
}

func (Requested) IsEvent() {}

func (Ended) IsEvent() {}

func (IdentityChanged) IsEvent() {}
