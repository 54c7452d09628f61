package session

import (
	"slices"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Kind is the purpose of a session.
type Kind string

// The kinds of session. Each has a file with its rules, and a row in [kinds].
const (
	Keygen  Kind = "keygen"  // makes a key
	Sign    Kind = "sign"    // makes a signature with a key
	Reshare Kind = "reshare" // makes the next epoch of a key
)

// rules holds the differences between the kinds. The machine has checked the event
// before it calls a function: its sender is a party, and the session has not ended.
type rules struct {
	request  wire.Type // of the message that asks for a session
	response wire.Type // of the message that answers its invitation

	// makesKey says that the session makes its key: it completes when the key's record
	// is stored; if it fails, so does the record.
	makesKey bool
	// opensOnKey says that the session is listed with its key while it is open.
	opensOnKey bool
	// makesEpoch says that the session makes an epoch of its key: it completes when the
	// epoch's certificate is stored.
	makesEpoch bool

	invite   func(m *machine, part int) wire.Payload // the invitation of a party
	accepted func(m *machine)                        // a party has accepted: start, if enough have
	ready    func(m *machine) bool                   // nothing is missing for an attempt but a quorum
	attempt  func(m *machine, quorum []int)          // start the MPC with these parties
	declined func(m *machine, reason string)         // a party has declined
	// failed: a party of the running attempt cannot go on, and blames culprits.
	failed func(m *machine, party int, culprits []int, reason string)
	// hindered: the store may have refused messages of the run. No party is blamed.
	hindered func(m *machine, reason string)
	// unreachable: a mailbox had no room. See Undeliverable.
	unreachable func(m *machine, ev Undeliverable, reason string)
	// gone: parties that are needed have had no socket for longer than the grace.
	gone func(m *machine, parts []int, reason string)
	// overdue: the deadline has passed while the session ran.
	overdue func(m *machine, offline []int)
	// own applies an event that only this kind has; it returns ErrKind for others.
	own func(m *machine, ev Event) error
	// settled: a running session has what it needs, so that only its result is left to be
	// stored before it completes.
	settled func(s Session) bool

	outcome func(s Session) wire.Payload // the result message for the coordinator
	quorum  bool                         // threshold parties at a time get parameters, not all
	grown   int64                        // bytes that a party's report adds, at most
	// extra is how many bytes the session sends, and has in its record, beyond what
	// sessions of every kind do.
	extra func(s Session) (said, record int64)
	fill  func(s *Session) // sets the fields that only this kind has to their greatest lengths
}

// kinds has the rules of every kind. init sets it, since the rules call functions that
// use it.
var kinds map[Kind]*rules

func init() {
	kinds = map[Kind]*rules{
		Keygen:  &keygenRules,
		Sign:    &signRules,
		Reshare: &reshareRules,
	}
}

// Kinds returns every kind, in order of their names.
func Kinds() []Kind {
	list := make([]Kind, 0, len(kinds))
	for k := range kinds {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// Known reports whether k is a kind of session. A store may hold kinds of later
// versions.
func (k Kind) Known() bool { return kinds[k] != nil }

// Request is the type of the message that requests a session of this kind; empty for an
// unknown kind.
func (k Kind) Request() wire.Type { return k.rules().request }

// Response is the type of the message that answers an invitation to a session of this
// kind; empty for an unknown kind.
func (k Kind) Response() wire.Type { return k.rules().response }

// rules returns the rules of k; zero for an unknown kind.
func (k Kind) rules() *rules {
	if r := kinds[k]; r != nil {
		return r
	}
	return &rules{}
}

// MakesKey reports whether a session of this kind makes its key: the key's record is
// reserved for it, becomes active before it completes, and fails if it does not.
func (k Kind) MakesKey() bool { return k.rules().makesKey }

// MakesEpoch reports whether a session of this kind makes an epoch of its key: it is
// noted as the key's open reshare, needs numbers ([Session.WantsNumber]), and completes
// when its certificate is stored.
func (k Kind) MakesEpoch() bool { return k.rules().makesEpoch }

// OpensOnKey reports whether a session of this kind is listed with its key while it is
// open.
func (k Kind) OpensOnKey() bool { return k.rules().opensOnKey }
