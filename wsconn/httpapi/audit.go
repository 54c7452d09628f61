package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/limit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Auditor records decisions; it does not make its caller wait.
type Auditor interface{ Record(d audit.Decision) }

// Trail reads the recorded decisions.
type Trail interface {
	// Read returns up to limit entries after a position, which is empty for the
	// beginning, and the position of the last of them. Its errors are *wire.Error,
	// or faults.
	Read(ctx context.Context, after string, limit int) (entries []audit.Fields, next string, err error)
}

const (
	auditPage    = 500
	maxAuditPage = 1000
)

func (a *api) record(d audit.Decision) {
	if a.cfg.Audit != nil {
		a.cfg.Audit.Record(d)
	}
}

// refused records that a request of that kind was refused; the session service
// records granted requests itself. A temporary failure is not a decision and is not
// recorded.
func (a *api) refused(r *http.Request, what string, e *wire.Error) {
	request := what == string(wire.TypeKeygenRequest) || what == string(wire.TypeSignRequest)
	switch {
	case e.Code == wire.CodeInternal, e.Code == wire.CodeUnavailable, e.Code == wire.CodeStorageFull, e.Code != wire.CodeForbidden && !request:
		return
	}
	d := audit.Decision{
		Who: caller(r).User, What: what, Outcome: outcome(e), Key: e.KeyID, Session: e.SessionID, Code: string(e.Code), Detail: e.Message,
	}
	if id, err := pathID(r, "key_id"); err == nil {
		d.Key = id
	}
	if id, err := pathID(r, "session_id"); err == nil {
		d.Session = id
	}
	a.record(d)
}

// Limits on the audit entries a minute caused by unauthenticated clients of a node:
// all together, and from one address.
const (
	strangersEntries = 10
	strangerEntries  = 4
)

// strangers bounds the audit entries of clients without a valid token: anyone can
// be one, at any rate.
type strangers struct {
	all, each *limit.Throttle
	omitted   *atomic.Int64 // since the last recorded one
}

func newStrangers() strangers {
	perMinute := func(n int) *limit.Throttle { return limit.NewThrottle(float64(n)/60, n) }
	return strangers{perMinute(strangersEntries), perMinute(strangerEntries), new(atomic.Int64)}
}

// admit reports whether there is room for an entry of a client in a network.
func (s strangers) admit(network string) bool {
	if s.all.Take("", 1) > 0 {
		return false
	}
	if s.each.Take(network, 1) > 0 {
		s.all.GiveBack("", 1)
		return false
	}
	return true
}

// unauthenticated logs why a request was not authenticated, and records it if it
// carried a token. No name is recorded for such a client.
func (a *api) unauthenticated(r *http.Request, err error) {
	a.report(r, err)
	e := wire.AsError(err)
	if r.Header.Get("Authorization") != "" && e.Code != wire.CodeInternal && e.Code != wire.CodeUnavailable {
		a.stranger(r, err)
	}
}

// stranger records that a client has shown an invalid token, unless there were too
// many recently.
func (a *api) stranger(r *http.Request, err error) {
	e := wire.AsError(err)
	if e.Code != wire.CodeUnauthenticated && e.Code != wire.CodeTokenExpired {
		return
	}
	if !a.strangers.admit(limit.Network(a.address(r))) {
		a.strangers.omitted.Add(1)
		return
	}
	d := audit.Decision{What: audit.TokenCheck, Outcome: audit.Refused, Code: string(e.Code), Detail: e.Message}
	if n := a.strangers.omitted.Swap(0); n > 0 {
		d.Detail += fmt.Sprintf(" (and %d before it that were not recorded)", n)
	}
	a.record(d)
}

// outcome distinguishes rate-limited from refused requests.
func outcome(e *wire.Error) string {
	if e.Code == wire.CodeRateLimited {
		return audit.Throttled
	}
	return audit.Refused
}

// recordLogin records a login as user. A refused one is recorded with the user only
// if the account exists: people type passwords into the wrong field. A rate-limited
// one is recorded without, since the lookup would cost as much as the limit saves;
// the refusals before it have the name.
func (a *api) recordLogin(ctx context.Context, user string, err error) {
	d := audit.Decision{Who: user, What: audit.Login, Outcome: audit.OK}
	if err != nil {
		e := wire.AsError(err)
		d.Who, d.Outcome, d.Code, d.Detail = "", outcome(e), string(e.Code), e.Message
		if e.Code == wire.CodeInternal || e.Code == wire.CodeUnavailable {
			return
		}
		// This lookup is made for existing and other names alike, so that its
		// duration does not reveal which accounts exist.
		if d.Outcome == audit.Refused {
			if known, err := a.cfg.Logins.Get(ctx, user); err == nil && known.LogsIn {
				d.Who = user
			}
		}
	}
	a.record(d)
}

// readAudit returns a page of the audit to an admin.
func (a *api) readAudit(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if !isAdmin(r) {
		return 0, nil, wire.Errorf(wire.CodeForbidden, "your token does not have the role %s", wire.RoleAdmin)
	}
	if a.cfg.Trail == nil {
		return 0, nil, wire.Errorf(wire.CodeNotFound, "this server has no audit")
	}
	q := r.URL.Query()
	limit, err := limitOf(q, auditPage, maxAuditPage)
	if err != nil {
		return 0, nil, err
	}
	entries, next, err := a.cfg.Trail.Read(r.Context(), q.Get("after"), limit)
	if err != nil {
		return 0, nil, err
	}
	if entries == nil {
		entries = []audit.Fields{}
	}
	return http.StatusOK, audit.Page{Items: entries, Next: next}, nil
}
