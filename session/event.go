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
	Party    int    // part index, as the client states it
	Accept   bool
	Reason   string
	Identity string // public identity of the answering client
}

// Answered is a user's answer to its invitation to a reshare.
type Answered struct {
	From     string // user id, from the token
	Accept   bool
	Places   []int // that it accepts; it declines its others
	Reason   string
	Identity string // public identity of the answering client
	Highest  int    // greatest epoch number of the key that it has seen
}

// Numbered gives a reshare the number of its next attempt, which the store has given to
// no other. See Session.WantsNumber.
type Numbered struct{ Number int }

// Reshared is a new party's report of its finished reshare. Its share is stored before
// the event is committed.
type Reshared struct {
	From        string
	Party       int // part index in the new committee
	Attempt     int
	Epoch       int
	AccountAddr string
	Statement   string // statement.Epoch in JSON
	Attestation string // the party's signature over it
	Share       string // in its stored form, not read here
}

// Consented is an old party's consent to the epoch that all new parties have attested.
// The caller has verified it.
type Consented struct {
	From    string
	Party   int // part index in the old committee
	Epoch   int
	Hash    string // of the statement, 0x hex
	Consent string
}

// Moved says that a key is in another epoch than an open signing, with its record. A
// signing without a running attempt begins again with the new committee; Stopped says
// that a signer has stopped the running one for that reason.
type Moved struct {
	Key Key

	// The next three are zero unless a signer has reported it.
	From    string
	Party   int
	Stopped int // number of the attempt
}

// Generated is a party's report of its finished keygen. Its share is stored
// before the event is committed.
type Generated struct {
	From        string
	Party       int
	AccountAddr string
	PublicKey   string // 0x hex, or empty if the client does not report it
	Attestation string // the party's signed statement about the key, stored and passed on unread; may be empty
	Share       string // in its stored form, not read here
}

// KeyStored says that the key record and all shares are durable.
type KeyStored struct{}

// ShareRefused is a party's report whose share may not be stored: it is not sealed and
// this cluster has no key to encrypt it with. The party's client cannot seal, so the
// keygen ends.
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

	checked *checked // the result of Verify; nil if it was not called
}

// PartyFailed is a party's report that its MPC cannot go on.
type PartyFailed struct {
	From     string
	Party    int
	Attempt  int // 0 for the current one
	Reason   string
	Culprits []int
	Full     bool // the store was full during the session: a timeout is then no party's fault
	Moved    bool // it stopped because its key is in another epoch than the session's; no party is blamed
}

// Cancel is a request of the coordinator or an admin to end the session.
type Cancel struct {
	From   string
	Admin  bool
	Reason string
}

// Undeliverable says that a recipient's mailbox has no room for a message of the
// session.
type Undeliverable struct {
	User  string // the recipient
	Payer string // whose share of the mailbox is used up; empty if the mailbox is full

	// Of a round message: its attempt and, with Payer, that party's part index.
	Attempt, Party int
}

// Tick is the passing of time.
type Tick struct {
	Offline []int // parties without a live socket
	// Seen is when each of those last connected or disconnected, by the store's clock,
	// if known: a party that was online between two ticks has not been absent
	// throughout.
	Seen map[int]time.Time
	Full bool // the store was full during the session: messages may have come late or been lost
}

func (Responded) event()     {}
func (Answered) event()      {}
func (Numbered) event()      {}
func (Reshared) event()      {}
func (Consented) event()     {}
func (Moved) event()         {}
func (Generated) event()     {}
func (KeyStored) event()     {}
func (ShareRefused) event()  {}
func (KeyLost) event()       {}
func (Signed) event()        {}
func (PartyFailed) event()   {}
func (Cancel) event()        {}
func (Undeliverable) event() {}
func (Tick) event()          {}

// Outgoing is a message that a step sends.
type Outgoing struct {
	To        string // user id
	Payload   wire.Payload
	RequestID string
}
