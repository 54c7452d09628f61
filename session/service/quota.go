package service

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// QuotaError is returned by a [Store] that refuses a reservation; nothing has changed
// then.
type QuotaError struct {
	Limit      session.Limit
	RetryAfter time.Duration // there will be room by then; zero if unknown
	// Overdue are sessions that hold open reservations of the account and should have
	// ended: perhaps a node died before it created them.
	Overdue []string
}

// Error implements error.
func (e *QuotaError) Error() string { return "session: over the limit " + string(e.Limit) }

// clientError returns e as a client sees it.
func (e *QuotaError) clientError() *wire.Error {
	told := wire.Errorf(wire.CodeQuotaExceeded, "%s", map[session.Limit]string{
		session.LimitSessions: "too many of your sessions are open (--max-open-sessions): wait until some end, or cancel them",
		session.LimitOpen:     "your open sessions take too much memory (--max-open-bytes): wait until some end, or cancel them",
		session.LimitEnded:    "you have started too many sessions in the last 15 minutes (--max-ended-bytes): wait until they are deleted",
		session.LimitKeys:     "your keys take too much memory (--max-key-bytes)",
	}[e.Limit])
	told.RetryAfter = e.RetryAfter
	return told
}

// Reservation is the part of its coordinator's quota that a session may use, from
// before it is created until it is forgotten.
type Reservation struct {
	User      string
	SessionID string
	Open      int64         // bytes while it is open
	Kept      int64         // bytes after its end
	Key       int64         // bytes of the key that it may make
	Overdue   time.Duration // by then it has ended or was never created
}

// Grant is the result of a reservation.
type Grant struct {
	Fresh bool // it had not been made before
	Brief bool // keep the session for BriefRetention only
}

// ReleaseReason says why an open session's reservation ends.
type ReleaseReason string

// The reasons.
const (
	ReleaseEnded  ReleaseReason = "ended"  // it ended, and is kept for a time
	ReleaseNever  ReleaseReason = "never"  // it was not created
	ReleaseLonger ReleaseReason = "longer" // not yet: it is still open
)

// Release ends a reservation. It may be repeated.
type Release struct {
	User      string
	SessionID string
	Reason    ReleaseReason
	Key       int64         // bytes of the key that it made, counted permanently
	Regrown   bool          // Key is what it has added to a key that was there before; may be negative
	KeyFailed bool          // its key's record stays for ReservedFor
	Overdue   time.Duration // of ReleaseLonger: the new time by which it should have ended
}

// Quotas counts what accounts store.
type Quotas interface {
	// Reserve makes a reservation. *QuotaError.
	Reserve(ctx context.Context, r Reservation) (Grant, error)
	// Release ends reservations.
	Release(ctx context.Context, r ...Release) error
	// Charge counts bytes that a user stores for up to life besides sessions, and
	// reports whether to keep them for BriefRetention only. Refund undoes that.
	// *QuotaError.
	Charge(ctx context.Context, user string, bytes int64, life time.Duration) (brief bool, refund func(context.Context) error, err error)
}

// reservation returns the reservation for s. Shares are the bytes of its key's shares,
// or of those that its keygen may store.
func (v *Service) reservation(s session.Session, shares int64) Reservation {
	r := Reservation{
		User: s.Coordinator, SessionID: s.ID, Open: s.OpenBytes(shares), Kept: s.KeptBytes(), Overdue: s.Terms.Longest() + overdueSlack,
	}
	if s.Kind.MakesKey() {
		r.Key = session.Key{ID: s.KeyID, Participants: s.Users()}.KeyBytes(0)
	}
	if s.Kind.MakesEpoch() {
		r.Key = s.EpochBytes()
	}
	return r
}

// overdueSlack is how long a reservation holds after its session's longest duration.
const overdueSlack = 10 * time.Second

// reserve makes s's reservation, and sets s.Brief from it.
func (v *Service) reserve(ctx context.Context, s *session.Session, shares int64) (Grant, error) {
	grant, err := reserved(ctx, v, s.Coordinator, func() (Grant, error) {
		return v.cfg.Store.Reserve(ctx, v.reservation(*s, shares))
	})
	s.Brief = grant.Brief
	return grant, err
}

// reserved calls do, which reserves something of user's quota, and retries once if some
// of it was held for sessions that no longer exist.
func reserved[T any](ctx context.Context, v *Service, user string, do func() (T, error)) (T, error) {
	got, err := do()
	var over *QuotaError
	if errors.As(err, &over) && len(over.Overdue) > 0 && v.releaseOverdue(ctx, user, over.Overdue) {
		got, err = do()
	}
	if errors.As(err, &over) {
		v.cfg.Observer.Denied(string(over.Limit))
		err = over.clientError()
	}
	return got, err
}

// Targets of errors.Is.
var (
	errOverQuota   = wire.Errorf(wire.CodeQuotaExceeded, "over the quota")
	errUnknownUser = wire.Errorf(wire.CodeUnknownUser, "unknown user")
)

// charge counts bytes that user stores besides sessions.
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

// releaseOverdue releases the reservations of those sessions that have ended or do not
// exist, and reports whether there were any.
func (v *Service) releaseOverdue(ctx context.Context, user string, ids []string) bool {
	open, err := v.cfg.Store.LoadAll(ctx, ids)
	if err != nil {
		return false
	}
	there := make(map[string]session.Session, len(open))
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
			r.Reason, r.KeyFailed, any = ReleaseEnded, keyFailed(s), true
		default:
			r.Reason, r.Overdue = ReleaseLonger, s.Terms.Longest()
		}
		releases[i] = r
	}
	return v.cfg.Store.Release(ctx, releases...) == nil && any
}

// keyFailed reports whether s, which has ended, failed to make its key.
func keyFailed(s session.Session) bool { return s.Kind.MakesKey() && s.Phase != session.Completed }

// cancelReservation returns the grant of s, which was not created. If that fails, the
// reservation becomes overdue.
func (v *Service) cancelReservation(ctx context.Context, s session.Session, g Grant) {
	if !g.Fresh {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	if err := v.cfg.Store.Release(ctx, Release{User: s.Coordinator, SessionID: s.ID, Reason: ReleaseNever}); err != nil {
		withSession(s, v.log.Warn()).Err(err).Msg("reservation not given back, it will be overdue")
	}
}

// releaseOf returns the release of the reservation of s, which has ended.
func (v *Service) releaseOf(ctx context.Context, s session.Session) (*Release, error) {
	r := &Release{User: s.Coordinator, SessionID: s.ID, Reason: ReleaseEnded, KeyFailed: keyFailed(s)}
	if s.Kind.MakesKey() && s.Phase == session.Completed {
		k, err := v.cfg.Store.Key(ctx, s.KeyID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if err == nil && k.Session == s.ID {
			r.Key = k.KeyBytes(k.ShareBytes)
		}
	}
	if s.Kind.MakesEpoch() && s.Phase == session.Completed {
		epochs, err := v.cfg.Store.EpochsOf(ctx, s.KeyID)
		if err != nil {
			return nil, err
		}
		for _, e := range epochs {
			if e.Session == s.ID {
				r.Key, r.Regrown = e.Bytes, true
			}
		}
	}
	return r, nil
}

// Users is the cluster's list of users.
type Users interface {
	// Unknown returns the first of users that this cluster does not know, empty if it
	// knows them all or need not, for a request of asker's. ErrUnavailable.
	Unknown(ctx context.Context, asker string, users []string) (string, error)
}

// unknownUser is the Observer's reason for a request that names an unknown user.
const unknownUser = "unknown_user"

// RefusalReasons are the reasons that [Observer].Denied gets.
var RefusalReasons = []string{string(session.LimitSessions), string(session.LimitOpen), string(session.LimitEnded), string(session.LimitKeys), unknownUser}

// checkUsers returns an error that names the first unknown user.
func (v *Service) checkUsers(ctx context.Context, c Caller, users []string) error {
	if v.cfg.Users == nil {
		return nil
	}
	user, err := v.cfg.Users.Unknown(ctx, c.User, users)
	if err != nil || user == "" {
		return err
	}
	v.cfg.Observer.Denied(unknownUser)
	return wire.Errorf(wire.CodeUnknownUser, "unknown user %s", strconv.Quote(user))
}

// Storage reports whether the store has room.
type Storage interface {
	// Room returns ErrStorageFull while nothing new may begin, so that running sessions
	// and their ends find room.
	Room() error
	// FullWithin reports whether the store has refused a write for lack of room in the
	// last d, as far as this node knows.
	FullWithin(d time.Duration) bool
}

// checkRoom returns ErrStorageFull if nothing new may begin.
func (v *Service) checkRoom() error {
	if v.cfg.Storage == nil {
		return nil
	}
	return v.cfg.Storage.Room()
}

// wasFull reports whether messages may have been refused in the last d.
func (v *Service) wasFull(d time.Duration) bool {
	return v.cfg.Storage != nil && v.cfg.Storage.FullWithin(d)
}

// levelOf is the log level of a failure that will be repaired. A full store is logged
// once by its watcher ([Storage]), not for each session.
func levelOf(err error) zerolog.Level {
	if errors.Is(err, ErrStorageFull) {
		return zerolog.DebugLevel
	}
	return zerolog.WarnLevel
}

// checkRoomForSigning is checkRoom for a signing. With match, an equal one already open
// under another id needs no room.
func (v *Service) checkRoomForSigning(ctx context.Context, s session.Session, match bool) error {
	full := v.checkRoom()
	if full == nil || !match {
		return full
	}
	_, open, _, err := v.cfg.Store.Signings(ctx, s.KeyID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(open, func(o Signing) bool { return o.Fingerprint == s.Fingerprint && o.Coordinator == s.Coordinator }) {
		return nil
	}
	return full
}
