package service

import (
	"context"
	"errors"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Errors of a [Store]. Not found and unavailable are such that a client may see
// them; the cause of the latter is wrapped beside it for the log.
var (
	ErrNotFound    = wire.Errorf(wire.CodeNotFound, "no such key or session, or not one of yours")
	ErrUnavailable = wire.Errorf(wire.CodeUnavailable, "the store does not answer, try again")
	// ErrStorageFull is of what is new, and of what is bulky, while the store has no
	// memory for it.
	ErrStorageFull = wire.Errorf(wire.CodeStorageFull, "the cluster has no memory for new sessions; running ones continue; try again later")
	ErrStale       = errors.New("session: version or lock is no longer ours")
	ErrTooMany     = wire.Errorf(wire.CodeRateLimited, "too many signings are open on this key")
)

// Entry is a message in a session's outbox.
type Entry struct {
	ID    string // the store's; ascending within a session
	To    string // user id
	Frame []byte // an encoded wire.Message without seq
}

// Receipt is what a commit left in the outbox.
type Receipt struct {
	IDs      []string // of the committed entries, in order
	Backlog  bool     // older entries are still undelivered; read the whole outbox
	Watchers []string // nodes that want to be told; see Sessions.Watch
}

// Mark is a session's place in the due list, put there with a write. After By, of
// the store's clock, the write is refused: a store that cannot do both in one step
// makes the mark first, and by then it may be gone. The zero Mark leaves the list
// as it is.
type Mark struct{ Due, By time.Time }

// Settlement is what is left to write for a session after its messages are delivered.
// A part that is zero is left out. Each part may be repeated, and may be lost alone.
type Settlement struct {
	Delivered []string  // outbox entries to remove
	ClosedOn  string    // the key on which its signing is no longer open
	From, To  time.Time // its place in the due list, and the next; see Due.Postpone
	Release   *Release  // the end of its reservation
}

// Loaded is a session as the store had it.
type Loaded struct {
	Session session.Session
	Now     time.Time // of the store, then
	Asked   time.Time // of this node's clock, before
}

// Signing is an open signing as its key remembers it.
type Signing struct {
	SessionID   string
	Fingerprint string
	Coordinator string
}

// Opened is what OpenSigning has done.
type Opened struct {
	SessionID string
	Now       time.Time // of the server that holds the session, zero where that is not the key's
	Grant     Grant     // zero for an open signing that was found
}

// Page selects part of a list, newest first.
type Page struct {
	After Place // only what follows it; the zero Place for the newest
	Limit int
}

// Place is where something stands in a list: by its age, and of what is of one
// age by its id, the greatest first.
type Place struct {
	ID string
	At time.Time // when it was made, to the microsecond
}

// Follows reports whether p stands behind q, where a list that is read from q on
// goes on.
func (p Place) Follows(q Place) bool {
	return q.At.IsZero() || p.At.Before(q.At) || p.At.Equal(q.At) && p.ID < q.ID
}

// Store keeps sessions, keys and the list of what is due. Methods return
// ErrUnavailable (wrapped, with the cause) when the store does not answer, and
// are safe for concurrent use by any number of nodes. See cluster/store/sessions.
type Store interface {
	Sessions
	Keys
	Due
	Quotas
}

// Sessions keeps sessions with their outboxes.
type Sessions interface {
	// Now returns the store's clock, the one clock that all nodes share.
	Now(ctx context.Context) (time.Time, error)
	// Load returns a session and the store's time. ErrNotFound, with the time.
	Load(ctx context.Context, id string) (session.Session, time.Time, error)
	// Create stores s with its first outbox entries and its mark unless a session
	// of that id exists; created says which. ErrStale when it is too late.
	Create(ctx context.Context, s session.Session, out []Entry, m Mark) (r Receipt, created bool, err error)
	// Commit replaces the session whose version is s.Version, with the lock held
	// by token or by nobody, and appends to its outbox, in one step. It releases
	// the lock. ErrStale, and so when it is too late; then the lock is as it was.
	Commit(ctx context.Context, s session.Session, token string, out []Entry, m Mark) (Receipt, error)
	// Outbox returns what is undelivered of a session, oldest first, as much as
	// one answer holds: from the beginning, or what follows the entry after.
	Outbox(ctx context.Context, id, after string) ([]Entry, error)
	// Settle writes a settlement of session id.
	Settle(ctx context.Context, id string, r Settlement) error
	// SessionsOf lists the sessions that user is involved in, or, for the user "",
	// all. Some may have been forgotten.
	SessionsOf(ctx context.Context, user string, p Page) ([]Place, error)
	// LoadAll returns those of the sessions that exist, in that order.
	LoadAll(ctx context.Context, ids []string) ([]session.Session, error)
	// Watch notes for ttl that node wants to be told of a session's commits (see
	// Receipt.Watchers), and returns the session's version then. ErrNotFound.
	Watch(ctx context.Context, id, node string, ttl time.Duration) (version int64, err error)
	// Remember keeps what stands for a request under a name, unless something else
	// is kept there already, and returns what is kept. It is forgotten after
	// BriefRetention if brief is set, else after a week.
	Remember(ctx context.Context, name, request string, brief bool) (kept string, err error)
	// Remembered returns what is kept under a name, empty if nothing is.
	Remembered(ctx context.Context, name string) (kept string, err error)
	// Forget removes what is kept under a name.
	Forget(ctx context.Context, name string) error
}

// Keys keeps key records, sealed shares, and which signings are open on a key.
type Keys interface {
	// Key returns a key record. ErrNotFound.
	Key(ctx context.Context, id string) (session.Key, error)
	// PutKey writes k if the stored version is k.Version (0: there is none).
	// A reserved key, and a failed one, without its shares, lives for ReservedFor, or
	// for BriefRetention if it is brief. ErrStale.
	PutKey(ctx context.Context, k session.Key) error
	// ListedKeys returns those of ids that are in a user's list of keys.
	ListedKeys(ctx context.Context, user string, ids []string) ([]string, error)
	// PutShare stores a share, and its party's attestation unless that is empty,
	// while session is the key's keygen and it is not active. ErrStale.
	PutShare(ctx context.Context, key, session string, part int, share, attestation string) error
	// Shares returns the stored shares of those parts, empty where there is none.
	Shares(ctx context.Context, key string, parts ...int) ([]string, error)
	// ShareBytes returns how many bytes the shares of the first so many parts have.
	ShareBytes(ctx context.Context, key string, parts int) (int64, error)
	// Attestations returns those of the first so many parts, empty where there is
	// none.
	Attestations(ctx context.Context, key string, parts int) ([]string, error)
	// OpenSigning notes a signing of an active key, with its reservation, and
	// returns its session id: s.SessionID, or, if match is set, that of an open one
	// with the same fingerprint and coordinator, for which nothing is reserved.
	// ErrTooMany, ErrStale (the key is not active), *QuotaError. What was noted
	// longer ago than any signing lasts does not count.
	OpenSigning(ctx context.Context, key string, s Signing, r Reservation, match bool) (Opened, error)
	// Signings returns a key record with its open signings, and the one that
	// ended last. ErrNotFound.
	Signings(ctx context.Context, key string) (k session.Key, open []Signing, last string, err error)
	// KeysOf lists the keys that user is involved in, or, for the user "", all.
	KeysOf(ctx context.Context, user string, p Page) ([]Place, error)
	// KeyRecords returns those of the keys that exist, in that order.
	KeyRecords(ctx context.Context, ids []string) ([]session.Key, error)
}

// Due is the list of sessions with something left to do, by time.
type Due interface {
	// Schedule sets when id is next looked at, to the microsecond.
	Schedule(ctx context.Context, id string, at time.Time) error
	// Postpone changes that from one time to another, the zero time for never,
	// unless it has been changed meanwhile: then somebody knows better.
	Postpone(ctx context.Context, id string, from, to time.Time) error
	// Unschedule removes ids: nothing is left to do for them, ever.
	Unschedule(ctx context.Context, ids ...string) error
	// TakeDue returns up to limit sessions that are due and puts each off by
	// hold, so that one node at a time looks at it, and another if that one dies.
	TakeDue(ctx context.Context, limit int, hold time.Duration) ([]Taken, error)
}

// Taken is a session taken from the due list.
type Taken struct {
	ID    string
	Until time.Time // when it is due again unless it is postponed
}

// Delivery is one frame for one user's mailbox.
type Delivery struct {
	To    string
	ID    string // the mailbox takes each ID once; empty: always
	Frame []byte
	Payer string // the user who has caused it, of whose share of the mailbox it takes
	Group string // the session
	Ends  bool   // with it, whatever else the mailbox has of the session is worth nothing
}

// Errors of a [Sender] for a delivery that has no room.
var (
	// ErrMailboxFull: the recipient has too much unread.
	ErrMailboxFull = wire.Errorf(wire.CodeMailboxFull, "the recipient's mailbox is full")
	// ErrShareUsed: the payer has, of all that it may have there or of what it may
	// have there in one session.
	ErrShareUsed = wire.Errorf(wire.CodeQuotaExceeded, "your share of the recipient's mailbox is used up")
)

// Sender puts frames into mailboxes, from where they reach sockets on any node.
type Sender interface {
	// Send returns one error per delivery, nil where it is in the mailbox. After
	// an error nothing later for the same user may be put there.
	Send(ctx context.Context, deliveries ...Delivery) []error
	// Begin is Send without the wait: what one goroutine begins one after the other
	// arrives in that order, but for what fails. It ends at the latest with the
	// deadline of ctx.
	Begin(ctx context.Context, deliveries ...Delivery) Sending
}

// Sending is what [Sender.Begin] has begun.
type Sending interface {
	// Done is closed when Errs knows.
	Done() <-chan struct{}
	// Errs returns what Send would have, once Done is closed.
	Errs() []error
}

// Outcomes tells systems outside the cluster how sessions ended.
type Outcomes interface {
	// Ended notes durably that s has ended. Until that has succeeded once, any node
	// calls it again; it may be called after that too.
	Ended(ctx context.Context, s session.Session) error
	// Again notes durably that the end of s is to be sent once more, at once; now is
	// the store's. Its error may be a *wire.Error.
	Again(ctx context.Context, s session.Session, now time.Time) error
}

// Presence reports which users have a live socket.
type Presence interface {
	// Online returns the users of those asked who have one.
	Online(ctx context.Context, users ...string) (map[string]bool, error)
	// LastSeen returns when users who have none came or went last, as far as that is
	// known, or a later time before which they may have had one unseen.
	LastSeen(ctx context.Context, users ...string) (map[string]time.Time, error)
}

// Lock is a held lock.
type Lock interface {
	Token() string
	Release(ctx context.Context) error
}

// Locker takes the lock of a session, waiting a bounded time, and then loads it.
type Locker interface {
	// Lock returns no lock if it could not take it; else the session, or why that
	// could not be loaded (as Sessions.Load has it) beside the lock.
	Lock(ctx context.Context, id string) (Lock, Loaded, error)
}

// Waiting reads what is unacknowledged in mailboxes.
type Waiting interface {
	// Waiting returns the frames in a user's mailbox after the sequence number after,
	// which the user has not acknowledged, the newest first, at most so many.
	Waiting(ctx context.Context, user string, after uint64, most int) ([][]byte, error)
}
