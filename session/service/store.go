package service

import (
	"context"
	"errors"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Errors of a [Store]. Clients may see ErrNotFound and ErrUnavailable; the cause of the
// latter is wrapped beside it for the log.
var (
	ErrNotFound    = wire.Errorf(wire.CodeNotFound, "no such key or session, or not one of yours")
	ErrUnavailable = wire.Errorf(wire.CodeUnavailable, "the store does not answer, try again")
	// ErrStorageFull is returned for new or large writes while the store has no memory
	// for them.
	ErrStorageFull = wire.Errorf(wire.CodeStorageFull, "the cluster has no memory for new sessions; running ones continue; try again later")
	ErrStale       = errors.New("session: version or lock is no longer ours")
	ErrTooMany     = wire.Errorf(wire.CodeRateLimited, "too many signings are open on this key")
)

// Entry is a message in a session's outbox.
type Entry struct {
	ID    string // assigned by the store; ascending within a session
	To    string // user id
	Frame []byte // an encoded wire.Message without seq
}

// Receipt describes a commit's messages in the outbox.
type Receipt struct {
	IDs      []string // of the committed entries, in order
	Backlog  bool     // older entries are still undelivered; read the whole outbox
	Watchers []string // nodes to notify; see Sessions.Watch
}

// Mark is a session's place in the due list, set with a write. After By, by the store's
// clock, the write is refused: a store that cannot do both in one step sets the mark
// first, and by then it may be gone. The zero Mark leaves the list unchanged.
type Mark struct{ Due, By time.Time }

// Settlement is the follow-up write for a session after its messages are delivered. A
// zero part is left out. Each part may be repeated, and may be lost alone.
type Settlement struct {
	Delivered []string  // outbox entries to remove
	ClosedOn  string    // the key on which its signing or its reshare is no longer open
	From, To  time.Time // its place in the due list, and the next; see Due.Postpone
	Release   *Release  // the end of its reservation
}

// Loaded is a session as loaded from the store.
type Loaded struct {
	Session session.Session
	Now     time.Time // the store's time of loading
	Asked   time.Time // this node's time before loading
}

// Signing is an open signing in its key's record.
type Signing struct {
	SessionID   string
	Fingerprint string
	Coordinator string
}

// Opened is the result of OpenSigning.
type Opened struct {
	SessionID string
	Now       time.Time // of the server that holds the session, zero if that is not the key's
	Grant     Grant     // zero for an open signing that was found
}

// Page selects part of a list, newest first.
type Page struct {
	After Place // only what follows it; the zero Place for the start
	Limit int
}

// Place is an entry's position in a list: ordered by age, then by id, the greatest
// first.
type Place struct {
	ID string
	At time.Time // when it was made, to the microsecond
}

// Follows reports whether p comes after q, in the rest of a list that is read from q
// on.
func (p Place) Follows(q Place) bool {
	return q.At.IsZero() || p.At.Before(q.At) || p.At.Equal(q.At) && p.ID < q.ID
}

// Store keeps sessions, keys and the due list. Methods return ErrUnavailable (wrapped,
// with the cause) when the store does not answer, and are safe for concurrent use by
// any number of nodes. See cluster/store/sessions.
type Store interface {
	Sessions
	Keys
	Epochs
	Due
	Quotas
}

// Sessions keeps sessions with their outboxes.
type Sessions interface {
	// Now returns the store's clock, the one clock that all nodes share.
	Now(ctx context.Context) (time.Time, error)
	// Load returns a session and the store's time. ErrNotFound, with the time.
	Load(ctx context.Context, id string) (session.Session, time.Time, error)
	// Create stores s with its first outbox entries and its mark unless a session of
	// that id exists; created says which. ErrStale if it is too late.
	Create(ctx context.Context, s session.Session, out []Entry, m Mark) (r Receipt, created bool, err error)
	// Commit replaces the session whose version is s.Version, with the lock held by
	// token or free, and appends to its outbox, in one step. It releases the lock.
	// ErrStale, also if it is too late; then the lock is unchanged.
	Commit(ctx context.Context, s session.Session, token string, out []Entry, m Mark) (Receipt, error)
	// Outbox returns undelivered entries of a session, oldest first, as many as one
	// answer holds: from the beginning, or those that follow the entry after.
	Outbox(ctx context.Context, id, after string) ([]Entry, error)
	// Settle writes a settlement of session id.
	Settle(ctx context.Context, id string, r Settlement) error
	// SessionsOf lists the sessions that involve user, or, for the user "", all. Some
	// may have been forgotten.
	SessionsOf(ctx context.Context, user string, p Page) ([]Place, error)
	// LoadAll returns those of the sessions that exist, in that order.
	LoadAll(ctx context.Context, ids []string) ([]session.Session, error)
	// Watch subscribes node to a session's commits for ttl (see Receipt.Watchers), and
	// returns the session's version then. ErrNotFound.
	Watch(ctx context.Context, id, node string, ttl time.Duration) (version int64, err error)
	// Remember stores request under a name, unless something else is stored there
	// already, and returns what is stored. It is forgotten after BriefRetention if
	// brief is set, else after a week.
	Remember(ctx context.Context, name, request string, brief bool) (kept string, err error)
	// Remembered returns the request stored under a name, empty if there is none.
	Remembered(ctx context.Context, name string) (kept string, err error)
	// Forget removes the request stored under a name.
	Forget(ctx context.Context, name string) error
}

// Keys keeps key records, sealed shares, and each key's open signings.
type Keys interface {
	// Key returns a key record. ErrNotFound.
	Key(ctx context.Context, id string) (session.Key, error)
	// PutKey writes k if the stored version is k.Version (0: not stored). A reserved
	// key, and a failed one, without its shares, lives for ReservedFor, or for
	// BriefRetention if it is brief. ErrStale.
	PutKey(ctx context.Context, k session.Key) error
	// ListedKeys returns those of ids that are in a user's list of keys.
	ListedKeys(ctx context.Context, user string, ids []string) ([]string, error)
	// PutShare stores a share, and its party's attestation unless that is empty, while
	// session is the key's keygen and the key is not active. ErrStale.
	PutShare(ctx context.Context, key, session string, part int, share, attestation string) error
	// Shares returns the stored shares of those parts of an epoch, empty for a missing
	// one.
	Shares(ctx context.Context, key string, epoch int, parts ...int) ([]string, error)
	// ShareBytes returns the total size of an epoch's shares of parts 1 to parts.
	ShareBytes(ctx context.Context, key string, epoch, parts int) (int64, error)
	// Attestations returns the attestations of parts 1 to parts of epoch 1, empty for a
	// missing one. Those of later epochs are in their certificates.
	Attestations(ctx context.Context, key string, parts int) ([]string, error)
	// OpenSigning notes a signing of an active key, with its reservation, and returns
	// its session id: s.SessionID, or, if match is set, that of an open one with the
	// same fingerprint and coordinator, for which nothing is reserved. ErrTooMany,
	// ErrStale (the key is not active), *QuotaError. Signings noted longer ago than any
	// signing lasts do not count.
	OpenSigning(ctx context.Context, key string, s Signing, r Reservation, match bool) (Opened, error)
	// Signings returns a key record with its open signings, and the one that ended
	// last. ErrNotFound.
	Signings(ctx context.Context, key string) (k session.Key, open []Signing, last string, err error)
	// KeysOf lists the keys that involve user, or, for the user "", all.
	KeysOf(ctx context.Context, user string, p Page) ([]Place, error)
	// KeyRecords returns those of the keys that exist, in that order.
	KeyRecords(ctx context.Context, ids []string) ([]session.Key, error)
}

// Epochs keeps the epochs of a key: which of them is the key's, their certificates, and
// the shares of an attempt at the next.
type Epochs interface {
	// OpenReshare notes a session, that of the reservation, as the open reshare of a key
	// that is active and in that epoch, with its reservation. If another session is
	// noted already it returns that one, for which nothing is reserved. ErrStale,
	// *QuotaError. [Settlement].ClosedOn removes the note, and the shares of its
	// attempts that were not certified.
	OpenReshare(ctx context.Context, key string, epoch int, r Reservation) (OpenedReshare, error)
	// Number takes the next number for an attempt of the key's open reshare: greater
	// than every one used for the key before, and than above. A number is never given
	// twice. ErrStale if the session is not the open reshare.
	Number(ctx context.Context, key, session string, above int) (int, error)
	// PutEpochShare stores a share of an attempt of the key's open reshare; its number
	// was taken by Number and is above the key's epoch. ErrStale.
	PutEpochShare(ctx context.Context, key, session string, epoch, part int, share string) error
	// Certify makes an epoch the key's own, in one step. ErrStale.
	Certify(ctx context.Context, c Certification) error
	// EpochsOf returns the records of a key's certified epochs, ascending. Epoch 1 of a
	// key that was never reshared has none.
	EpochsOf(ctx context.Context, key string) ([]session.Epoch, error)
	// Lineage returns up to limit certificates of a key with numbers above after,
	// ascending. Epoch 1 of a key that was never reshared has none.
	Lineage(ctx context.Context, key string, after, limit int) ([]Certificate, error)
}

// OpenedReshare is the result of OpenReshare.
type OpenedReshare struct {
	SessionID string    // the session that is noted as open on the key
	Since     time.Time // when it was noted
	Now       time.Time // the store's time
	Grant     Grant     // zero if another session is open
}

// Certificate is the text of an entry in a key's lineage.
type Certificate struct {
	Number int
	Text   string
}

// Certification is what a certificate changes. The caller has verified it.
type Certification struct {
	// Key is the key's record from now on, in the version that it was read in: Version
	// is compared with the stored one. Its Reshare and ReshareSince are not written.
	Key session.Key
	// Session must be the key's open reshare, unless it is empty: a member may bring a
	// certificate of another time.
	Session string
	// Epochs and Certificates are added to those that are stored, or replace the one of
	// the same number: those of the new epoch, and of earlier ones that were missing.
	Epochs       []session.Epoch
	Certificates []Certificate
}

// Due is the list of sessions with something left to do, by time.
type Due interface {
	// Schedule sets when id is next looked at, to the microsecond.
	Schedule(ctx context.Context, id string, at time.Time) error
	// Postpone replaces the time from by to, the zero time for never, unless it has
	// been changed meanwhile: the newer value stays.
	Postpone(ctx context.Context, id string, from, to time.Time) error
	// Unschedule removes ids that have nothing left to do, ever.
	Unschedule(ctx context.Context, ids ...string) error
	// TakeDue returns up to limit due sessions and postpones each by hold, so that one
	// node at a time processes it, and another if that one dies.
	TakeDue(ctx context.Context, limit int, hold time.Duration) ([]Taken, error)
}

// Taken is a session taken from the due list.
type Taken struct {
	ID    string
	Until time.Time // it is due again then unless postponed
}

// Delivery is one frame for one user's mailbox.
type Delivery struct {
	To    string
	ID    string // the mailbox takes each ID once; empty: no such check
	Frame []byte
	Payer string // the user charged for it, against whose share of the mailbox it counts
	Group string // the session
	Ends  bool   // it makes all other entries of the session in the mailbox obsolete
}

// Errors of a [Sender] for a delivery that has no room.
var (
	// ErrMailboxFull: the recipient has too many unread messages.
	ErrMailboxFull = wire.Errorf(wire.CodeMailboxFull, "the recipient's mailbox is full")
	// ErrShareUsed: the payer has used up its share of the mailbox, in total or for one
	// session.
	ErrShareUsed = wire.Errorf(wire.CodeQuotaExceeded, "your share of the recipient's mailbox is used up")
)

// Sender puts frames into mailboxes, which deliver them to sockets on any node.
type Sender interface {
	// Send returns one error per delivery, nil if it is in the mailbox. After an error
	// no later delivery to the same user may be put there.
	Send(ctx context.Context, deliveries ...Delivery) []error
	// Begin is Send without the wait: deliveries begun in order by one goroutine arrive
	// in order, except those that fail. It ends at the latest with the deadline of ctx.
	Begin(ctx context.Context, deliveries ...Delivery) Sending
}

// Sending is the result of [Sender.Begin].
type Sending interface {
	// Done is closed when Errs is ready.
	Done() <-chan struct{}
	// Errs returns Send's result, once Done is closed.
	Errs() []error
}

// Outcomes sends sessions' outcomes to systems outside the cluster.
type Outcomes interface {
	// Ended records durably that s has ended. Nodes repeat it until it has succeeded
	// once; it may be called after that too.
	Ended(ctx context.Context, s session.Session) error
	// Again records durably that the end of s is to be sent again, at once; now is the
	// store's. Its error may be a *wire.Error.
	Again(ctx context.Context, s session.Session, now time.Time) error
}

// Presence reports which users have a live socket.
type Presence interface {
	// Online returns those of users that have one.
	Online(ctx context.Context, users ...string) (map[string]bool, error)
	// LastSeen returns when users without one last connected or disconnected, if known,
	// or a later time before which they may have had one unseen.
	LastSeen(ctx context.Context, users ...string) (map[string]time.Time, error)
}

// Lock is a held lock.
type Lock interface {
	Token() string
	Release(ctx context.Context) error
}

// Locker takes the lock of a session, waiting a bounded time, and then loads it.
type Locker interface {
	// Lock returns no lock if it could not take it; else the lock, with the session or
	// the error of loading it (as of Sessions.Load).
	Lock(ctx context.Context, id string) (Lock, Loaded, error)
}

// Waiting reads unacknowledged messages in mailboxes.
type Waiting interface {
	// Waiting returns the unacknowledged frames in a user's mailbox after the sequence
	// number after, the newest first, at most most.
	Waiting(ctx context.Context, user string, after uint64, most int) ([][]byte, error)
}
