// Package service runs sessions on a cluster: it applies clients' messages to the state
// machine of package session, stores the result and delivers the step's messages. Any
// number of nodes run one on the same store.
//
// # Start here
//
// [New] makes a [Service] from its ports ([Config]); [Service.Run] sweeps until its
// context ends. [Service.Handle] carries out one message of a client, and
// [Service.Relay] passes a round message on. The web API uses [Service.KeygenTask],
// [Service.SignTask], [Service.Session], [Service.Key] and [Service.Follow].
//
// # One event
//
// For each event the service takes the session's lock, loads, steps and commits. The
// commit is one script: it compares the version and the lock token, writes the session,
// appends the step's messages to the session's outbox and releases the lock, so that a
// change and its messages are never apart. Delivery from the outbox to the recipients'
// mailboxes follows; if this node dies in between, the sweeper of any node repeats it.
// A mailbox takes each outbox entry once. Correctness rests on the version; the lock
// only saves work.
//
// Writes to other slots of Redis are made before the commit if it depends on them (a
// share before its party's result, the key record before the confirmation), else after
// it; each may be repeated. A session stays in the due list until nothing is left to do
// for it, including the audit entry of its end ([Auditor]).
//
// # Followers
//
// A [Follower] sees a session's states as they are committed on any node: it
// notes in the store that its node follows the session, the script of each commit
// returns the nodes that do, and the committing node notifies them ([Notifier]). The end of
// a session is sent outside the cluster too ([Outcomes]). An [Observer] counts what
// happens to sessions, and a [Tracer] follows the work on them through the nodes.
//
// # What it does not do
//
// The package does not compute with shares and cannot: it sees them sealed, or encrypted
// under the operator's key ([ShareKeeper]). It does not know how a message reaches a
// socket ([Sender]) nor how Redis is laid out ([Store]).
//
// # Goroutines
//
// [Service.Run] is the sweeper. Nothing else is started. Service is safe for concurrent
// use.
package service

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Caller is the sender of a message or HTTP request, according to its token.
type Caller struct {
	User     string
	Roles    []wire.Role
	Identity string // public identity its client registered, may be empty
	Web      bool   // uses HTTP and may have no socket
	Has      uint64 // the newest message of its mailbox known to have reached its socket; 0 for none
}

func (c Caller) has(r wire.Role) bool { return slices.Contains(c.Roles, r) }

// Config holds a Service's ports and settings. The first five fields are required.
type Config struct {
	Store    Store
	Locker   Locker
	Sender   Sender
	Presence Presence
	Shares   *ShareKeeper

	InviteTimeout time.Duration // zero means 2 minutes
	KeygenTimeout time.Duration // zero means 5 minutes
	SignTimeout   time.Duration // of one attempt; zero means 1 minute
	AbsenceGrace  time.Duration // how long a needed party may be without a socket; zero means 20 seconds
	SweepEvery    time.Duration // zero means 250 milliseconds
	MaxParties    int           // zero means wire.DefaultMaxParties

	NodeID   string          // this node's name for other nodes
	Storage  Storage         // nil: there is always room
	Notifier Notifier        // nil: followers on other nodes see changes late
	Users    Users           // nil: any user may be named
	Waiting  Waiting         // nil: a request without an id is new once an equal one has ended
	Outcomes Outcomes        // nil: outcomes are not sent outside
	Audit    Auditor         // nil means none
	Observer Observer        // nil means none
	Tracer   Tracer          // nil means none
	Log      *zerolog.Logger // nil means none
}

const (
	commitTries   = 8                      // lost races against other nodes before giving up
	commitWithin  = time.Second / 2        // from scheduling a session; later it may have been taken from the due list
	redeliverIn   = 3 * time.Second / 4    // a commit's messages are delivered again if its node has not by then
	retryFullIn   = 5 * time.Second        // least pause before another try at a mailbox without room
	retryFullMost = 10 * time.Minute       // the longest
	retryEndIn    = 5 * time.Second        // pause before an end is given to the audit again
	freshFor      = 100 * time.Millisecond // a session not found so recently may be created without another look
	sweepHold     = 2 * time.Second        // a due session belongs to one node for this long
	sweepBatch    = 64                     // due sessions taken at once
	releaseWithin = 500 * time.Millisecond // for clean-up after a caller's context has ended
)

// Service carries out Step's decisions. See the package comment.
type Service struct {
	cfg     Config
	log     zerolog.Logger
	slots   chan struct{} // see acquireSlot
	local   keyedMutex    // one event of a session at a time on this node, before the cluster's lock
	relays  relayCache
	ended   idSet // the sweeper takes them off the due list
	follows follows
}

// New returns a Service. It starts nothing; see [Service.Run].
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Locker == nil || cfg.Sender == nil || cfg.Presence == nil || cfg.Shares == nil {
		return nil, errors.New("session: a store, locker, sender, presence and share keeper are required")
	}
	orElse := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	orElse(&cfg.InviteTimeout, 2*time.Minute)
	orElse(&cfg.KeygenTimeout, 5*time.Minute)
	orElse(&cfg.SignTimeout, time.Minute)
	orElse(&cfg.AbsenceGrace, 20*time.Second)
	orElse(&cfg.SweepEvery, 250*time.Millisecond)
	if cfg.MaxParties == 0 {
		cfg.MaxParties = wire.DefaultMaxParties
	}
	if cfg.Observer == nil {
		cfg.Observer = noObserver{}
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noTracer{}
	}
	log := zerolog.Nop()
	if cfg.Log != nil {
		log = *cfg.Log
	}
	return &Service{cfg: cfg, log: log, slots: make(chan struct{}, maxSlots)}, nil
}

// Handle carries out one message of a registered client; p is its validated payload
// (see wire.Message.DecodePayload). It returns the direct reply, nil if there is none:
// an ack once the message has taken effect durably, if the sender named a request_id,
// or the outcome, if the request was answered before. Round messages go to
// [Service.Relay] instead. Errors that are not *wire.Error are faults of the server.
func (v *Service) Handle(ctx context.Context, c Caller, m wire.Message, p wire.Payload) (wire.Payload, error) {
	var s session.Session
	var err error
	switch p := p.(type) {
	case *wire.KeygenRequest:
		return v.requested(m.RequestID)(v.RequestKeygen(ctx, c, p, m.RequestID))
	case *wire.SignRequest:
		return v.requested(m.RequestID)(v.RequestSign(ctx, c, p, m.RequestID))
	case *wire.KeygenResponse:
		s, err = v.respond(ctx, c, session.Keygen, (*answer)(p))
	case *wire.SignResponse:
		s, err = v.respondSigning(ctx, c, p)
	case *wire.KeygenComplete:
		s, err = v.complete(ctx, c, p)
	case *wire.SignResult:
		s, err = v.result(ctx, c, p)
	case *wire.ReshareRequest:
		return v.requested(m.RequestID)(v.RequestReshare(ctx, c, p, m.RequestID))
	case *wire.ReshareResponse:
		s, err = v.respondReshare(ctx, c, p)
	case *wire.ReshareComplete:
		s, err = v.completeReshare(ctx, c, p)
	case *wire.ReshareConsent:
		s, err = v.consent(ctx, c, p)
	case *wire.CertificateGet:
		return v.sendCertificates(ctx, c, m, p)
	case *wire.PartyFailed:
		s, err = v.partyFailed(ctx, c, p)
	case *wire.SessionCancel:
		s, err = v.Cancel(ctx, c, p.SessionID, p.Reason)
	default:
		return nil, wire.Errorf(wire.CodeUnknownType, "%s is not a message that a client sends", p.Type())
	}
	if err != nil || m.RequestID == "" {
		return nil, err
	}
	return &wire.Ack{KeyID: s.KeyID, SessionID: s.ID}, nil
}

// requested returns the direct reply to a request: the outcome if there is one already,
// else an ack if a request_id was named.
func (v *Service) requested(requestID string) func(session.Session, error) (wire.Payload, error) {
	return func(s session.Session, err error) (wire.Payload, error) {
		switch {
		case err != nil:
			return nil, err
		case s.Phase.Final():
			return session.Outcome(s), nil
		case requestID != "":
			return &wire.Ack{KeyID: s.KeyID, SessionID: s.ID}, nil
		}
		return nil, nil
	}
}

// answer is the common form of keygen_response and sign_response.
type answer struct {
	KeyID     string `json:"key_id"`
	PartIndex int    `json:"part_index"`
	Response  *bool  `json:"response"`
	SessionID string `json:"session_id,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

func (v *Service) respond(ctx context.Context, c Caller, kind session.Kind, a *answer) (session.Session, error) {
	if !c.has(wire.RoleParticipant) {
		return session.Session{}, errRole(wire.RoleParticipant)
	}
	message := addressed{kind: kind, keyID: a.KeyID, sessionID: a.SessionID, waits: func(s session.Session) bool {
		i := s.PartIndex(c.User)
		return i > 0 && s.Parties[i-1].Response == session.Unanswered
	}}
	return v.deliverTo(ctx, c, message, change{by: &c, keyID: a.KeyID, ev: session.Responded{
		Kind: kind, From: c.User, Party: a.PartIndex, Accept: *a.Response, Reason: a.Reason, Identity: c.Identity,
	}})
}

func (v *Service) complete(ctx context.Context, c Caller, p *wire.KeygenComplete) (session.Session, error) {
	if !c.has(wire.RoleParticipant) {
		return session.Session{}, errRole(wire.RoleParticipant)
	}
	share, refused := v.cfg.Shares.Protect(p.KeyID, p.PartIndex, p.ShareJSON)
	if refused != nil && !errors.Is(refused, ErrShareNotSealed) {
		return session.Session{}, refused
	}
	to, err := v.resolve(ctx, c, addressed{kind: session.Keygen, keyID: p.KeyID, sessionID: p.SessionID})
	if err != nil {
		return session.Session{}, err
	}
	if refused != nil {
		// End the keygen, so that its coordinator learns the reason at once.
		_, err := v.advance(ctx, change{target: to, by: &c, keyID: p.KeyID, ev: session.ShareRefused{From: c.User, Party: p.PartIndex}})
		if err == nil {
			err = refused
		}
		return session.Session{}, err
	}
	s, err := v.advance(ctx, change{target: to, by: &c, keyID: p.KeyID, ev: session.Generated{
		From: c.User, Party: p.PartIndex, AccountAddr: p.AccountAddr, PublicKey: p.PublicKey, Attestation: p.Attestation, Share: share,
	}})
	if err == nil && s.AllReported() {
		// The party's report is durable; if this fails the sweeper completes it.
		if done, err := v.storeKey(ctx, s); err == nil {
			return done, nil
		}
	}
	return s, err
}

func (v *Service) result(ctx context.Context, c Caller, p *wire.SignResult) (session.Session, error) {
	if !c.has(wire.RoleParticipant) {
		return session.Session{}, errRole(wire.RoleParticipant)
	}
	ev := session.Signed{From: c.User, Party: p.PartIndex, Signature: p.Signature}
	message := addressed{kind: session.Sign, keyID: p.KeyID, sessionID: p.SessionID, result: &ev, waits: func(s session.Session) bool {
		i := s.PartIndex(c.User)
		return slices.Contains(s.Signers, i) && s.Parties[i-1].Result == ""
	}}
	s, err := v.deliverTo(ctx, c, message, change{by: &c, keyID: p.KeyID})
	if err == nil && s.Invalid(p.PartIndex) && !verifies(s, p.Signature) {
		return s, &wire.Error{
			Code: wire.CodeInvalidSignature, Message: "the signature does not verify under the key",
			KeyID: s.KeyID, SessionID: s.ID,
		}
	}
	return s, err
}

func (v *Service) partyFailed(ctx context.Context, c Caller, p *wire.PartyFailed) (session.Session, error) {
	if !c.has(wire.RoleParticipant) {
		return session.Session{}, errRole(wire.RoleParticipant)
	}
	if p.Moved {
		return v.partyMoved(ctx, c, p)
	}
	return v.advance(ctx, change{target: target{id: p.SessionID}, by: &c, ev: session.PartyFailed{
		From: c.User, Party: p.PartIndex, Attempt: p.Attempt, Reason: p.Reason, Culprits: p.Culprits, Full: v.wasFull(v.cfg.KeygenTimeout),
	}})
}

// Cancel ends a session of the caller's, or any if the caller is an admin. It returns
// ErrNotFound, also to a user without a part in the session, ErrNotMine, ErrEnded or
// ErrUnavailable.
func (v *Service) Cancel(ctx context.Context, c Caller, id, reason string) (session.Session, error) {
	return v.advance(ctx, change{target: target{id: id}, by: &c, ev: session.Cancel{From: c.User, Admin: c.has(wire.RoleAdmin), Reason: reason}})
}

// Errors of [Service.Resend].
var (
	// ErrNoOutcomes: this cluster sends no outcomes outside.
	ErrNoOutcomes = wire.Errorf(wire.CodeNotFound, "no webhook is configured")
	// ErrNotEnded: there is no outcome yet.
	ErrNotEnded = wire.Errorf(wire.CodeConflict, "the session is still running; its outcome is sent when it ends")
)

// Resend sends the outcome of a session of the caller's, or of any if the caller is an
// admin, outside again ([Outcomes]), and returns the session. It returns ErrNotFound,
// also to a user without a part in the session, ErrNotMine, ErrNotEnded, ErrNoOutcomes
// or ErrUnavailable.
func (v *Service) Resend(ctx context.Context, c Caller, id string) (session.Session, error) {
	if !wire.StoredID(id) {
		return session.Session{}, ErrNotFound
	}
	s, now, err := v.cfg.Store.Load(ctx, id)
	switch {
	case err != nil:
		return session.Session{}, err
	case !s.Involves(c.User) && !c.has(wire.RoleAdmin):
		return session.Session{}, ErrNotFound
	case s.Coordinator != c.User && !c.has(wire.RoleAdmin):
		return session.Session{}, session.ErrNotMine
	case !s.Phase.Final():
		return session.Session{}, ErrNotEnded
	case v.cfg.Outcomes == nil:
		return session.Session{}, ErrNoOutcomes
	}
	return s, v.cfg.Outcomes.Again(ctx, s, now)
}

func errRole(r wire.Role) error {
	return wire.Errorf(wire.CodeForbidden, "your token does not have the role %s", r)
}
