// Package session is the state machine of a keygen, a signing or a reshare. It is pure: no I/O, no
// clock, no goroutine. Package session/service runs it on a store and talks to clients.
//
// # Start here
//
// [Begin] makes a session of a request and returns its invitations. [Step] applies an
// [Event] at a given time and returns the next [Session] with the messages to send; a
// refused event changes nothing. [Outcome] is the result message for the coordinator.
//
// # The state machine
//
// The graph is data ([transitions]):
//
//	inviting --> running --> completed
//	    |           |
//	    +-----------+------> rejected | expired | failed | cancelled
//
// The last five phases are final; a session reaches one of them exactly once. A keygen
// runs when all its participants have accepted and completes when all report the same
// key. A signing runs as soon as threshold participants have accepted. If a signer
// fails, leaves or goes silent, the signing stays running and begins a new attempt with
// other acceptors while enough are left. A reshare does so for parties of the old
// committee, needs all of the new one, and completes when the new epoch's certificate is
// stored (reshare.go).
//
// # What it does not do
//
// It does not check permissions to send a message (session/service does), store
// sessions, deliver messages to sockets or compute with shares. It verifies signatures
// with session/pubkey.
package session

import (
	"reflect"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Phase is a session's state.
type Phase string

// The phases. All but the first two are final.
const (
	Inviting  Phase = "inviting"  // participants are being asked
	Running   Phase = "running"   // the MPC runs, or a signing waits for another acceptor
	Completed Phase = "completed" // the key is stored, or the signature verified
	Rejected  Phase = "rejected"  // too many declined
	Expired   Phase = "expired"   // the deadline passed before enough had answered
	Failed    Phase = "failed"    // the MPC could not be completed
	Cancelled Phase = "cancelled" // by the coordinator or an admin
)

// transitions is the whole graph. Running leads to itself when a signing begins
// another attempt.
var transitions = map[Phase][]Phase{
	Inviting: {Running, Rejected, Expired, Failed, Cancelled},
	Running:  {Running, Completed, Rejected, Expired, Failed, Cancelled},
}

// Final reports whether p is an end.
func (p Phase) Final() bool { return len(transitions[p]) == 0 }

func (p Phase) leadsTo(next Phase) bool { return slices.Contains(transitions[p], next) }

// Status returns the wire name of a final phase; empty for the others.
func (p Phase) Status() wire.Status {
	switch p {
	case Completed:
		return wire.StatusSuccess
	case Rejected, Expired, Failed, Cancelled:
		return wire.Status(p)
	}
	return ""
}

// Response is a party's answer to its invitation.
type Response string

// The answers.
const (
	Unanswered Response = ""
	Accepted   Response = "accepted"
	Declined   Response = "declined"
)

// Party is one participant's part in a session.
type Party struct {
	User     string // user id; the party's part index is its position in Session.Parties plus one; in a reshare that is its place
	Invited  bool
	Response Response
	Identity string // public identity as its client registered it when it answered; of a new party in a reshare the one requested; empty once the session has ended
	Result   string // keygen: the reported account address; sign: "verified" or "invalid"; reshare: hash of the reported statement
	Key      string // keygen: the reported public key, 0x hex, or empty
	Attested string // keygen: the party's attestation of it, opaque here; reshare: of the statement; or empty
	Consent  string // reshare: an old party's consent to the new epoch
	Highest  int    // reshare: greatest epoch number of the key that the party has seen
	Strikes  int    // suspicion; see sign.go
	Out      bool   // excluded from further attempts
	NoRoom   bool   // its mailbox had no room for its invitation, or for a message it needed as a signer; not its fault

	AbsentSince time.Time // since when a needed socket has been missing; zero if it is there
}

// Terms are the durations that a session runs under, fixed when it is made.
type Terms struct {
	Invite time.Duration // for the invitations to be answered
	Run    time.Duration // for a keygen, or for one attempt of a signing
	Grace  time.Duration // how long a needed party's socket may be missing
}

// Longest is the duration of a session under t in which at most one attempt fails. A
// longer session's reservation is released only after its state was read.
func (t Terms) Longest() time.Duration { return t.Invite + 2*t.Run }

// Session is one run of keygen, sign or reshare. It is a value: Step returns a changed
// copy. Times are UTC.
type Session struct {
	ID          string
	Kind        Kind
	Phase       Phase
	Version     int64 // bumped by the store with every commit; 0 before the first
	Attempt     int   // 1 for the first run; 0 while inviting
	KeyID       string
	Coordinator string
	Curve       pubkey.Curve
	Threshold   int     // how many must sign, 2 to len(Parties)
	Parties     []Party // the key's committee, by part index less one; reshare: the old one, then the new one
	Signers     []int   // part indexes of the running attempt, ascending; empty while waiting for acceptors
	Quorums     []string
	Data        string // sign: as requested
	Hash        pubkey.Hash
	Digest      string // sign: 0x hex
	AccountAddr string // sign: the key's; keygen: the new key's, once completed
	PublicKey   string // likewise, 0x hex; empty where no party reported it
	Signature   string // sign: 0x hex, once completed
	RequestID   string // of the request, echoed in the outcome
	Fingerprint string // of the request's content; equal requests have equal ones

	// Epochs. A reshare's are explained in reshare.go.
	Epoch       int    // sign: the key's; reshare: the number of the latest attempt, 0 before the first
	MinEpoch    int    // sign: as requested, or 0
	Named       bool   // sign: the request named the users to invite
	Old         int    // reshare: how many of Parties are the old committee; else 0
	FromEpoch   int    // reshare: the epoch that it begins with
	Next        int    // reshare: the number for the next attempt, if greater than all that were seen
	ToThreshold int    // reshare: of the new committee; Threshold is the old one's
	Parent      string // hash of the certificate of the epoch that signs or is followed, 0x hex; or empty
	Origin      string // reshare: of the key
	Statement   string // reshare: what the new parties report

	SignedRequest string // the coordinator's signature over its request, passed on unread; empty once the session has ended
	Web           bool   // requested over HTTP: the coordinator may never have a socket
	Brief         bool   // kept for BriefRetention only, since its coordinator has many; see Quota

	Terms     Terms
	CreatedAt time.Time
	Deadline  time.Time // of the phase, or of the attempt
	ExpiresAt time.Time // of the whole session, where the request set one; else zero
	EndedAt   time.Time
	Reason    string
	Culprits  []int // part indexes
}

// Users returns the committee's user ids by part index less one.
func (s Session) Users() []string {
	users := make([]string, len(s.Parties))
	for i, p := range s.Parties {
		users[i] = p.User
	}
	return users
}

// InvitedUsers returns the user ids of the invited, by part index.
func (s Session) InvitedUsers() []string {
	var users []string
	for _, p := range s.Parties {
		if p.Invited {
			users = append(users, p.User)
		}
	}
	return users
}

// PartIndex returns user's part index in the session, 0 if it has none or was
// not invited. In a reshare it is the first of the user's places.
func (s Session) PartIndex(user string) int {
	for i, p := range s.Parties {
		if p.User == user && p.Invited {
			return i + 1
		}
	}
	return 0
}

// Involves reports whether user requested the session or was invited to it.
func (s Session) Involves(user string) bool {
	return s.Coordinator == user || s.PartIndex(user) != 0
}

// Attestations returns the attestations of a completed key's parties, by part index
// less one, empty for a party without one; nil if no party sent any.
func (s Session) Attestations() []string {
	if !s.Kind.MakesKey() || s.Phase != Completed {
		return nil
	}
	list, any := make([]string, len(s.Parties)), false
	for i, p := range s.Parties {
		list[i], any = p.Attested, any || p.Attested != ""
	}
	if !any {
		return nil
	}
	return list
}

// NextDue is when a node should process s again, the zero time if never.
func (s Session) NextDue(now time.Time) time.Time {
	switch {
	case s.Phase.Final():
		return time.Time{}
	case s.AllReported():
		return now // only the key record is missing
	case wantsNumber(s):
		return now
	case s.Phase == Running:
		return earlier(s.Deadline, now.Add(s.Terms.Grace/4))
	}
	return s.Deadline
}

// AllReported reports whether a running session has all that it needs from its parties,
// so that only its result, a key record or an epoch's certificate, is left to be stored
// before it completes.
func (s Session) AllReported() bool {
	r := s.Kind.rules()
	return s.Phase == Running && r.settled != nil && r.settled(s)
}

func (s Session) clone() Session {
	s.Parties = slices.Clone(s.Parties)
	s.Signers = slices.Clone(s.Signers)
	s.Quorums = slices.Clone(s.Quorums)
	s.Culprits = slices.Clone(s.Culprits)
	return s
}

// Same reports whether s and t are equal.
func (s Session) Same(t Session) bool { return reflect.DeepEqual(s, t) }

func (s *Session) party(index int) *Party { return &s.Parties[index-1] }

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
