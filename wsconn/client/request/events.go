package request

import (
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Kind says what a session is for.
type Kind string

// The kinds of session.
const (
	KindKeygen Kind = "keygen"
	KindSign   Kind = "sign"
)

// Event is something that happened to a client, for display. It is one of the
// types below.
type Event interface{ IsEvent() }

// Requested says that a keygen or signing that this client asked for has begun.
type Requested struct {
	Kind             Kind
	SessionID, KeyID string
}

// IdentityChanged says that a user was refused because its identity is not the one
// that is known.
type IdentityChanged struct {
	Kind             Kind
	SessionID, KeyID string
	trust.IdentityError
}

// Ended says that a session has its outcome.
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
