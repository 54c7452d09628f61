package sessions

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
)

var (
	//go:embed quota.lua
	quotaSource string
	//go:embed reserve.lua
	reserveSource string
	//go:embed release.lua
	releaseSource string
	//go:embed charge.lua
	chargeSource string
	//go:embed refund.lua
	refundSource string

	reserveScript = redisx.NewScript(quotaSource, reserveSource)
	releaseScript = redisx.NewScript(quotaSource, releaseSource)
	chargeScript  = redisx.NewScript(quotaSource, chargeSource)
	refundScript  = redisx.NewScript(refundSource)
)

// First result of the scripts.
const (
	granted = "granted"
	refused = "refused"
	brief   = "brief"
)

// briefly is the retention of brief sessions.
func (s *Store) briefly() time.Duration { return min(session.BriefRetention, s.retention) }

// countsLive is how long an account's counts live after its last request: longer
// than anything they count.
func (s *Store) countsLive() int64 {
	return (2*max(s.retention, session.ReservedFor) + longestSession).Milliseconds()
}

// mostKept returns the limits of long and brief retention.
func (s *Store) mostKept() (long, brief int64) {
	long = s.quota.EndedBytes
	return long, session.BriefFactor * long
}

// quotaKeys returns the keys of what user stores, all in one slot.
func (s *Store) quotaKeys(user string) []string {
	return []string{s.keys.quota(user), s.keys.quotaOpen(user), s.keys.quotaKeys(user)}
}

// reserveArgs returns the arguments of reserve in quota.lua.
func (s *Store) reserveArgs(r service.Reservation) []any {
	long, brief := s.mostKept()
	return []any{
		r.SessionID, r.Open, r.Kept, r.Key, r.Overdue.Milliseconds(),
		s.quota.OpenSessions, s.quota.OpenBytes, long, brief, s.quota.KeyBytes, s.countsLive(),
	}
}

// Reserve implements service.Quotas.
func (s *Store) Reserve(ctx context.Context, r service.Reservation) (service.Grant, error) {
	doing := "reserve for session " + r.SessionID
	call := reserveScript.Call(s.quotaKeys(r.User), s.reserveArgs(r)...)
	if err := s.do(ctx, doing, call); err != nil {
		return service.Grant{}, err
	}
	reply, err := call.Slice()
	if err != nil || len(reply) < 3 {
		return service.Grant{}, fmt.Errorf("%s: unexpected reply", doing)
	}
	if reply[0] != granted {
		return service.Grant{}, quotaError(reply)
	}
	return grantOf(reply[1], reply[2]), nil
}

// grantOf parses a script's reply on a reservation.
func grantOf(fresh, tier any) service.Grant {
	return service.Grant{Fresh: fresh == int64(1), Brief: tier == brief}
}

// quotaError parses the result of refused in quota.lua.
func quotaError(reply []any) error {
	list, err := texts(reply[1:])
	if err != nil {
		return err
	}
	wait, err := strconv.ParseInt(list[1], 10, 64)
	if err != nil {
		return fmt.Errorf("sessions: time of a refusal: %w", err)
	}
	return &service.QuotaError{Limit: session.Limit(list[0]), RetryAfter: time.Duration(wait) * time.Millisecond, Overdue: list[2:]}
}

// Release implements service.Quotas.
func (s *Store) Release(ctx context.Context, list ...service.Release) error {
	cmds := make([]redis.Cmder, len(list))
	for i, r := range list {
		cmds[i] = s.release(r)
	}
	return s.do(ctx, "release reservations", cmds...)
}

func (s *Store) release(r service.Release) redis.Cmder {
	life := s.retention
	if r.KeyFailed {
		life = max(life, reservedFor)
	}
	if r.Reason == service.ReleaseLonger {
		life = r.Overdue
	}
	regrown := 0
	if r.Regrown {
		regrown = 1
	}
	return releaseScript.Call(s.quotaKeys(r.User), r.SessionID, string(r.Reason), life.Milliseconds(), s.briefly().Milliseconds(), r.Key, s.countsLive(), regrown)
}

// Charge implements service.Quotas.
func (s *Store) Charge(ctx context.Context, user string, bytes int64, life time.Duration) (bool, func(context.Context) error, error) {
	mostLong, mostBrief := s.mostKept()
	keys := []string{s.keys.quota(user)}
	call := chargeScript.Call(keys, bytes, life.Milliseconds(), min(s.briefly(), life).Milliseconds(), mostLong, mostBrief, s.countsLive())
	if err := s.do(ctx, "charge "+user, call); err != nil {
		return false, nil, err
	}
	reply, err := call.Slice()
	if err != nil || len(reply) < 3 {
		return false, nil, fmt.Errorf("charge %s: unexpected reply", user)
	}
	if reply[0] != granted {
		return false, nil, quotaError(reply)
	}
	refund := func(ctx context.Context) error {
		return s.do(ctx, "refund "+user, refundScript.Call(keys, reply[1], bytes))
	}
	return reply[2] == brief, refund, nil
}
