package e2e_test

import (
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// history is what all users observed of a run: each user's sent and received
// messages, and the final content of Redis. The checker judges it; see check.
type history struct {
	users  []*userHistory
	stored storedState
	within time.Duration // from a request's acceptance to its outcome, at most
	waits  bool          // mail may also wait for an open socket: Redis did not know of it for a while
}

// userHistory is one user's side, over all of its sockets, in the order in which its
// application learned things.
type userHistory struct {
	user     string
	discreet bool // its mail is not in the history: a real client's

	mu     sync.Mutex
	events []event
}

// happening is the kind of an event.
type happening int8

const (
	registered happening = iota // conn reported to the server that the user has up to seq
	mailed                      // conn brought a mailbox message
	asked                       // a message with a request id was given to be sent
	answered                    // the server answered it: effect, outcome or refusal
	reported                    // the application of a discreet user got the outcome of its request
	confirmed                   // the server reported seq to conn as the mailbox's newest
)

// event is one thing that happened to a user. Fields that do not apply are zero.
type event struct {
	what    happening
	at      time.Time
	conn    int
	seq     uint64
	request string // id; of mail: that of the request whose outcome it is
	kind    wire.Type
	key     string
	session string
	part    int         // part index of the sender or recipient
	attempt int         // of parameters and round messages
	status  wire.Status // of outcomes
	code    wire.Code   // of refusals
	value   string      // signature, address, share or answer: told, or expected
	digest  uint64      // of the payload
}

func (h *userHistory) note(e event) {
	e.at = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

// describe fills in the fields of a payload.
func (e event) describe(p wire.Payload, raw []byte) event {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(p.Type()))
	_, _ = sum.Write(raw)
	e.kind, e.digest = p.Type(), sum.Sum64()
	switch p := p.(type) {
	case *wire.KeygenInvite:
		e.key, e.session, e.part = p.KeyID, p.SessionID, p.PartIndex
	case *wire.KeygenResponse:
		e.key, e.session, e.part, e.value = p.KeyID, p.SessionID, p.PartIndex, saidOf(p.Response)
	case *wire.KeygenParams:
		e.key, e.session, e.part, e.attempt = p.KeyID, p.SessionID, p.PartIndex, p.Attempt
	case *wire.KeygenComplete:
		e.key, e.session, e.part, e.value = p.KeyID, p.SessionID, p.PartIndex, p.ShareJSON
	case *wire.KeygenConfirm:
		e.key, e.session, e.status, e.value = p.KeyID, p.SessionID, p.Status, p.AccountAddr
	case *wire.SignInvite:
		e.key, e.session, e.part = p.KeyID, p.SessionID, p.PartIndex
	case *wire.SignResponse:
		e.key, e.session, e.part, e.value = p.KeyID, p.SessionID, p.PartIndex, saidOf(p.Response)
	case *wire.SignResult:
		e.key, e.session, e.part, e.value = p.KeyID, p.SessionID, p.PartIndex, p.Signature
	case *wire.SignParams:
		e.key, e.session, e.part, e.attempt, e.value = p.KeyID, p.SessionID, p.PartIndex, p.Attempt, p.ShareJSON
	case *wire.SignComplete:
		e.key, e.session, e.status, e.value = p.KeyID, p.SessionID, p.Status, p.Signature
	case *wire.SessionEnded:
		e.key, e.session, e.status = p.KeyID, p.SessionID, p.Status
	case *wire.TSSMessage:
		e.session, e.part, e.attempt = p.SessionID, p.From, p.Attempt
	case *wire.Ack:
		e.key, e.session = p.KeyID, p.SessionID
	case *wire.ErrorPayload:
		e.key, e.session, e.code = p.KeyID, p.SessionID, p.Code
	}
	return e
}

// saidOf is an answer to an invitation, in the words of a session's record.
func saidOf(response *bool) string {
	if response != nil && *response {
		return "accepted"
	}
	return "declined"
}

func (e event) isRequest() bool {
	return e.kind == wire.TypeKeygenRequest || e.kind == wire.TypeSignRequest
}

func (e event) isOutcome() bool {
	return e.kind == wire.TypeKeygenConfirm || e.kind == wire.TypeSignComplete
}

func (e event) String() string {
	return fmt.Sprintf("%s seq %d conn %d session %s attempt %d part %d status %q request %q",
		e.kind, e.seq, e.conn, e.session, e.attempt, e.part, e.status, e.request)
}

// storedState is the final content of Redis.
type storedState struct {
	sessions  map[string]storedSession
	keys      map[string]storedKey
	mailboxes map[string]storedMailbox // by user
	leftovers []string                 // keys that should not have been left behind, with the reason
}

type storedSession struct {
	kind, phase, coordinator, request, value string // value: signature or address
	invited                                  []string
	answers                                  map[int]string // to invitations, by part: "accepted" or "declined"
}

type storedKey struct {
	status, session, address string
	parts                    int
	open                     []string
	shares                   map[int]string
}

// storedMailbox holds counts; both are 0 for a user who never had mail.
type storedMailbox struct {
	newest   uint64 // seq
	appended uint64 // messages ever
	left     int    // unacknowledged
}

// status is a final phase's name on the wire, "" for an open session.
func (s storedSession) status() wire.Status {
	switch s.phase {
	case "completed":
		return wire.StatusSuccess
	case "rejected", "expired", "failed", "cancelled":
		return wire.Status(s.phase)
	}
	return ""
}
