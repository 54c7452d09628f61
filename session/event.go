package session

import (
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Event is something that happens to a session.
type Event interface{ event() }

// Responded is a participant's answer to its invitation.
type Responded struct {
	Kind     Kind   // of the message: an answer to the other kind of invitation is refused
	From     string // user id, from the token
	Party    int    // part index, as claimed
	Accept   bool
	Reason   string
	Identity string // public identity of the answering client
}

// Generated is a party's report of its finished keygen. Its share is stored
// before the event is committed.
type Generated struct {
	From        string
	Party       int
	AccountAddr string
	PublicKey   string // 0x hex, or empty from clients that do not tell
	Attestation string // what the party has signed about the key, kept and passed on unread; may be empty
	Share       string // as it is stored, not read here
}

// KeyStored says that the key record and all shares are durable.
type KeyStored struct{}

// ShareRefused is a party's report whose share may not be stored, since it is not
// sealed and this cluster has no key to encrypt it with. The party's client cannot
// do otherwise, so that the keygen is over.
type ShareRefused struct {
	From  string
	Party int
}

// KeyLost says that there is no key record of this keygen to make active.
type KeyLost struct{}

// Signed is a party's signature.
type Signed struct {
	From      string
	Party     int
	Signature string // 0x hex

	checked *checked // what Verify has found; nil if it was not called
}

// PartyFailed is a party's word that its MPC cannot go on.
type PartyFailed struct {
	From     string
	Party    int
	Attempt  int // 0 for the running one
	Reason   string
	Culprits []int
	Full     bool // the store was full in the session's life: who waited waited for nobody's fault
}

// Cancel is the coordinator's, or an admin's, wish to end the session.
type Cancel struct {
	From   string
	Admin  bool
	Reason string
}

// Undeliverable says that a recipient's mailbox has no room for what the session
// says.
type Undeliverable struct {
	User  string // the recipient
	Payer string // whose share of the mailbox is used up; empty where the mailbox is full

	// Of a round message: the attempt that it is of, and, with Payer, the part index
	// of that party.
	Attempt, Party int
}

// Tick is the passing of time.
type Tick struct {
	Offline []int // parties without a live socket
	// Seen is when those came or went last, by the store's clock, as far as that is
	// known: a party that was there between two ticks has not been absent all the time.
	Seen map[int]time.Time
	Full bool // the store was full in the session's life, so that messages may have come late, or not at all
}

func (Responded) event()     {}
func (Generated) event()     {}
func (KeyStored) event()     {}
func (ShareRefused) event()  {}
func (KeyLost) event()       {}
func (Signed) event()        {}
func (PartyFailed) event()   {}
func (Cancel) event()        {}
func (Undeliverable) event() {}
func (Tick) event()          {}

// Outgoing is something that a step says to somebody.
type Outgoing struct {
	To        string // user id
	Payload   wire.Payload
	RequestID string
}
