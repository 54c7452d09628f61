package session

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Quota bounds what one account, as the coordinator of sessions, may store in
// the cluster at a time, over all nodes. A negative field means no limit, zero
// the default.
type Quota struct {
	// OpenSessions is how many of its sessions may be open. Zero means
	// DefaultOpenSessions.
	OpenSessions int
	// OpenBytes is how many bytes these may take, with what they have said and may
	// still say to others ([Session.OpenBytes]). Zero means DefaultOpenBytes.
	OpenBytes int64
	// EndedBytes is how many bytes of what has ended are kept for the whole
	// retention. Beyond it, up to BriefFactor times as many are kept for
	// [BriefRetention], and beyond that nothing new may begin. Reserved key ids and
	// the notes of idempotency keys count too. Zero means DefaultEndedBytes.
	EndedBytes int64
	// KeyBytes is how many bytes its keys may take, which stay for ever. Zero means
	// DefaultKeyBytes.
	KeyBytes int64
}

// What Quota's zero values mean.
const (
	DefaultOpenSessions = 1024
	DefaultOpenBytes    = 64 << 20
	DefaultEndedBytes   = 8 << 20
	DefaultKeyBytes     = 256 << 20
)

const (
	// BriefRetention is how long an ended session is kept whose account has more of
	// them than its allowance; the store's retention if that is shorter.
	BriefRetention = 15 * time.Minute
	// ReservedFor is how long a reserved key id that nobody uses is kept, and what
	// was asked for under an idempotency key.
	ReservedFor = 7 * 24 * time.Hour
	// BriefFactor is how many times Quota.EndedBytes may be kept so briefly.
	BriefFactor = 4
)

// Complete returns q with its defaults in place of zeros.
func (q Quota) Complete() Quota {
	if q.OpenSessions == 0 {
		q.OpenSessions = DefaultOpenSessions
	}
	for _, f := range []struct {
		field  *int64
		preset int64
	}{{&q.OpenBytes, DefaultOpenBytes}, {&q.EndedBytes, DefaultEndedBytes}, {&q.KeyBytes, DefaultKeyBytes}} {
		if *f.field == 0 {
			*f.field = f.preset
		}
	}
	return q
}

// MostBytes is the largest number of bytes that one account makes Redis hold,
// but for its keys' and for entries of the audit; negative for no limit.
func (q Quota) MostBytes() int64 {
	q = q.Complete()
	if q.OpenBytes < 0 || q.EndedBytes < 0 {
		return -1
	}
	return q.OpenBytes + (1+BriefFactor)*q.EndedBytes
}

// Limit names a limit of a [Quota], for metrics and messages.
type Limit string

// The limits.
const (
	LimitSessions Limit = "open_sessions"
	LimitOpen     Limit = "open_bytes"
	LimitEnded    Limit = "ended_bytes"
	LimitKeys     Limit = "key_bytes"
)

// QuotaError is returned by a [Store] that refuses a reservation; nothing has
// changed then.
type QuotaError struct {
	Limit      Limit
	RetryAfter time.Duration // when there will be room, at the latest; zero if that is not known
	// Overdue are sessions that hold some of the account's open ones and should have
	// ended: perhaps a node died before it created them.
	Overdue []string
}

// Error implements error.
func (e *QuotaError) Error() string { return "session: over the limit " + string(e.Limit) }

// told is what a client sees of e.
func (e *QuotaError) told() *wire.Error {
	told := wire.Errorf(wire.CodeQuotaExceeded, "%s", map[Limit]string{
		LimitSessions: "too many of your sessions are open (--max-open-sessions): wait until some end, or cancel them",
		LimitOpen:     "your open sessions take too much room (--max-open-bytes): wait until some end, or cancel them",
		LimitEnded:    "you have begun too much in the last quarter of an hour (--max-ended-bytes): wait until it is forgotten",
		LimitKeys:     "your keys take too much room (--max-key-bytes)",
	}[e.Limit])
	told.RetryAfter = e.RetryAfter
	return told
}

// Reservation is what a session may take of its coordinator's quota, from before
// it is created until it is forgotten.
type Reservation struct {
	User      string
	SessionID string
	Open      int64         // bytes while it is open
	Kept      int64         // bytes after its end
	Key       int64         // bytes of the key that it may make
	Overdue   time.Duration // it should have ended by then, or was never created
}

// Grant is a reservation that was made.
type Grant struct {
	Fresh bool // it had not been made before
	Brief bool // the session is to be kept for BriefRetention only
}

// ReleaseReason says why an open session's reservation ends.
type ReleaseReason string

// The reasons.
const (
	ReleaseEnded  ReleaseReason = "ended"  // it is kept, for a time
	ReleaseNever  ReleaseReason = "never"  // it was not created
	ReleaseLonger ReleaseReason = "longer" // not at all: it is still open
)

// Release ends a reservation. The same again changes nothing.
type Release struct {
	User      string
	SessionID string
	Reason    ReleaseReason
	Key       int64         // bytes of the key that it has made, to be counted for ever
	KeyFailed bool          // its key's record stays for ReservedFor
	Overdue   time.Duration // of ReleaseLonger: by when it should have ended now
}

// Quotas counts what accounts store.
type Quotas interface {
	// Reserve makes a reservation. *QuotaError.
	Reserve(ctx context.Context, r Reservation) (Grant, error)
	// Release ends reservations.
	Release(ctx context.Context, r ...Release) error
	// Charge counts bytes that a user stores for up to life beside sessions, and
	// says whether they are to be kept for BriefRetention only. Refund takes that
	// back. *QuotaError.
	Charge(ctx context.Context, user string, bytes int64, life time.Duration) (brief bool, refund func(context.Context) error, err error)
}

// Estimates of what Redis takes beside the text itself: hash fields, stream
// entries, sorted sets' members. TestQuotaIsTrue holds them against a real Redis.
const (
	recordBytes = 1 << 10 // a session's or key's hash with its short fields
	partyBytes  = 192     // what a session's hash has of one party
	frameBytes  = 512     // a message's envelope and short fields
	listedBytes = 192     // an entry in one user's list
	noteBytes   = 512     // the note of an idempotency key
	minKept     = 2 << 10 // of any session: what it leaves in the audit counts too
)

// OpenBytes bounds the memory that s takes in Redis while it is open: its record
// and what its parties may add to it, the invitations in the outbox and in each
// mailbox, and the parameters of one attempt with the parties' shares, which
// have that many bytes together.
func (s Session) OpenBytes(shares int64) int64 {
	n, invited := int64(len(s.Parties)), int64(len(s.InvitedUsers()))
	content := jsonBytes(s.Data) + jsonBytes(s.Digest)
	said := 2 * invited * (frameBytes + content + jsonBytes(s.SignedRequest) + s.namesBytes())
	signers := n
	if s.Kind == Sign {
		signers = int64(s.Threshold)
	}
	said += signers*(frameBytes+content+signers*(wire.MaxIdentityBytes+wire.MaxIDBytes)) + shares
	grown := n * (wire.MaxIdentityBytes + wire.MaxReasonBytes)
	if s.Kind == Keygen {
		grown += n * wire.MaxAttestationBytes
	}
	return recordBytes + allocated(len(s.Data), len(s.Digest), len(s.SignedRequest)) + n*partyBytes + s.listBytes() + grown + allocated(int(said))
}

// KeptBytes bounds the memory that s takes in Redis after its end, with what a
// failed keygen leaves of its key.
func (s Session) KeptBytes() int64 {
	n := int64(len(s.Parties))
	kept := recordBytes + allocated(len(s.Data), len(s.Digest)) + n*partyBytes + s.listBytes() + wire.MaxReasonBytes
	if s.Kind == Keygen {
		kept += recordBytes + s.namesBytes() + n*wire.MaxAttestationBytes
	}
	return max(kept, minKept)
}

// allocated bounds what Redis allocates for texts of those lengths: a quarter more.
func allocated(lengths ...int) (sum int64) {
	for _, n := range lengths {
		sum += int64(n + n/4)
	}
	return sum
}

// namesBytes is what the names of all parties take.
func (s Session) namesBytes() int64 {
	sum := int64(0)
	for _, p := range s.Parties {
		sum += int64(len(p.User)) + 4
	}
	return sum
}

// listBytes is what s takes in the lists of everyone involved, and of all.
func (s Session) listBytes() int64 {
	return (int64(len(s.Parties)) + 2) * (listedBytes + int64(len(s.ID)))
}

// KeyBytes bounds the memory that a key takes for ever whose shares have that
// many bytes together.
func (k Key) KeyBytes(shares int64) int64 {
	n := int64(len(k.Participants))
	s := Session{ID: k.ID, Parties: committee(k.Participants)}
	return recordBytes + s.namesBytes() + s.listBytes() + n*wire.MaxAttestationBytes + shares + shares/4
}

// reservedBytes bounds the memory that k takes while it is but reserved.
func (k Key) reservedBytes() int64 {
	return recordBytes + Session{Parties: committee(k.Participants)}.namesBytes()
}

// LargestSession is what the largest session that a cluster of that many parties
// takes has for OpenBytes: a signing by all of the most data, or a keygen of the
// largest shares.
func LargestSession(parties int) int64 {
	if parties == 0 {
		parties = wire.DefaultMaxParties
	}
	name := string(slices.Repeat([]byte{'n'}, wire.MaxIDBytes))
	s := Session{ID: name, Kind: Sign, Threshold: parties, SignedRequest: string(slices.Repeat([]byte{'s'}, wire.MaxSignedRequestBytes))}
	for range parties {
		s.Parties = append(s.Parties, Party{User: name, Invited: true})
	}
	shares := int64(parties * wire.ShareLimit(parties))
	keygen := s
	keygen.Kind = Keygen
	s.Data = string(slices.Repeat([]byte{'"'}, wire.MaxDataBytes)) // each takes two, the most on the whole
	s.Digest = string(slices.Repeat([]byte{'0'}, 2*wire.MaxDataBytes+2))
	return max(s.OpenBytes(shares), keygen.OpenBytes(shares))
}

// jsonBytes is how long s is as a JSON string.
func jsonBytes(s string) int64 { return int64(wire.JSONBytes(s)) }

// reservation is what s needs. Shares are the bytes of its key's, or of those
// that its keygen may store.
func (v *Service) reservation(s Session, shares int64) Reservation {
	r := Reservation{
		User: s.Coordinator, SessionID: s.ID, Open: s.OpenBytes(shares), Kept: s.KeptBytes(), Overdue: s.Terms.longest() + overdueSlack,
	}
	if s.Kind == Keygen {
		r.Key = Key{ID: s.KeyID, Participants: s.Users()}.KeyBytes(0)
	}
	return r
}

// overdueSlack is how long a reservation holds beyond the time that its session
// may take.
const overdueSlack = 10 * time.Second

// longest is how long a session under t takes if only one attempt of it fails.
// One that takes longer is looked at before its reservation is given up.
func (t Terms) longest() time.Duration { return t.Invite + 2*t.Run }

// reserve makes s's reservation, and says so in s.
func (v *Service) reserve(ctx context.Context, s *Session, shares int64) (Grant, error) {
	grant, err := reserved(ctx, v, s.Coordinator, func() (Grant, error) {
		return v.cfg.Store.Reserve(ctx, v.reservation(*s, shares))
	})
	s.Brief = grant.Brief
	return grant, err
}

// reserved calls do, which reserves something of user's quota, once more where
// some of it was held for sessions that are no more.
func reserved[T any](ctx context.Context, v *Service, user string, do func() (T, error)) (T, error) {
	got, err := do()
	var over *QuotaError
	if errors.As(err, &over) && len(over.Overdue) > 0 && v.giveUp(ctx, user, over.Overdue) {
		got, err = do()
	}
	if errors.As(err, &over) {
		v.cfg.Observer.Denied(string(over.Limit))
		err = over.told()
	}
	return got, err
}

// Targets for errors.Is.
var (
	errOverQuota = wire.Errorf(wire.CodeQuotaExceeded, "over the quota")
	errNobody    = wire.Errorf(wire.CodeUnknownUser, "unknown user")
)

// charge counts bytes that user stores beside sessions.
func (v *Service) charge(ctx context.Context, user string, bytes int64, life time.Duration) (brief bool, refund func(context.Context), err error) {
	type charged struct {
		brief  bool
		refund func(context.Context) error
	}
	got, err := reserved(ctx, v, user, func() (c charged, err error) {
		c.brief, c.refund, err = v.cfg.Store.Charge(ctx, user, bytes, life)
		return c, err
	})
	refund = func(ctx context.Context) {
		if err := got.refund(ctx); err != nil {
			v.log.Warn().Err(err).Str("account", user).Msg("a charge was not taken back, it ends with its time")
		}
	}
	return got.brief, refund, err
}

// giveUp ends the reservations of those of the sessions that are no more, and
// reports whether there were any.
func (v *Service) giveUp(ctx context.Context, user string, ids []string) bool {
	open, err := v.cfg.Store.LoadAll(ctx, ids)
	if err != nil {
		return false
	}
	there := make(map[string]Session, len(open))
	for _, s := range open {
		there[s.ID] = s
	}
	releases, any := make([]Release, len(ids)), false
	for i, id := range ids {
		r := Release{User: user, SessionID: id, Reason: ReleaseNever}
		switch s, ok := there[id]; {
		case !ok:
			any = true
		case s.Phase.Final():
			r.Reason, r.KeyFailed, any = ReleaseEnded, s.Kind == Keygen && s.Phase != Completed, true
		default:
			r.Reason, r.Overdue = ReleaseLonger, s.Terms.longest()
		}
		releases[i] = r
	}
	return v.cfg.Store.Release(ctx, releases...) == nil && any
}

// unreserve gives back what s was granted, where it was not created. What is not
// given back is overdue some day.
func (v *Service) unreserve(ctx context.Context, s Session, g Grant) {
	if !g.Fresh {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	if err := v.cfg.Store.Release(ctx, Release{User: s.Coordinator, SessionID: s.ID, Reason: ReleaseNever}); err != nil {
		of(s, v.log.Warn()).Err(err).Msg("reservation not given back, it will be overdue")
	}
}

// released is the end of s's reservation, now that s has ended.
func (v *Service) released(ctx context.Context, s Session) (*Release, error) {
	r := &Release{User: s.Coordinator, SessionID: s.ID, Reason: ReleaseEnded, KeyFailed: s.Kind == Keygen && s.Phase != Completed}
	if s.Kind == Keygen && s.Phase == Completed {
		k, err := v.cfg.Store.Key(ctx, s.KeyID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if err == nil && k.Session == s.ID {
			r.Key = k.KeyBytes(k.ShareBytes)
		}
	}
	return r, nil
}

// Users knows who there is.
type Users interface {
	// Unknown returns the first of users whom this cluster does not know, empty if
	// it knows them all or need not, for a request of asker's. ErrUnavailable.
	Unknown(ctx context.Context, asker string, users []string) (string, error)
}

// unknownUser is the value for the Observer of a request that names nobody.
const unknownUser = "unknown_user"

// RefusalReasons are the words that an [Observer] is told with Denied.
var RefusalReasons = []string{string(LimitSessions), string(LimitOpen), string(LimitEnded), string(LimitKeys), unknownUser}

// known returns an error that names the first of users who is not known here.
func (v *Service) known(ctx context.Context, c Caller, users []string) error {
	if v.cfg.Users == nil {
		return nil
	}
	user, err := v.cfg.Users.Unknown(ctx, c.User, users)
	if err != nil || user == "" {
		return err
	}
	v.cfg.Observer.Denied(unknownUser)
	return wire.Errorf(wire.CodeUnknownUser, "there is no user %s here", strconv.Quote(user))
}
