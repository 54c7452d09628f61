package httpapi

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// Cost of a call in messages of Config.Users: the answer is a document, not a
	// frame. A list costs one more for each possible entry.
	callCost = 10

	// Concurrent calls of one user: each may hold a body and, waiting for a
	// session's end, take its time.
	maxBusy = 256

	// Those of them that follow a session's events, for as long as it lasts.
	maxStreams = 32

	// Minimum and maximum delay of the answer to a call refused for its rate: a client
	// that retries at once, as most that flood do, costs little then. maxSlowed is how
	// many calls of one user wait so; further ones are answered at once.
	leastPause, mostPause = 100 * time.Millisecond, time.Second
	maxSlowed             = 64

	// Maximum age of an answer of /readyz. It is open to anyone, and each answer queries Redis.
	readyFor = 100 * time.Millisecond
)

// limited passes the calls of users who keep to their rate. Their token has been
// verified, and their body not been read.
func (a *api) limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := caller(r).User
		err := auth.Charge(a.cfg.Users, user, callCost, "too many calls")
		if err == nil {
			err = auth.Charge(a.cfg.Bytes, user, a.bodyKiB(r), "too many bytes in calls and messages")
		}
		if err != nil {
			a.slow(r, err)
			auth.WriteProblem(w, err)
			return
		}
		if !a.busy.enter(user) {
			auth.WriteProblem(w, wire.Errorf(wire.CodeRateLimited, "more than %d concurrent calls", a.busy.most))
			return
		}
		defer a.busy.leave(user)
		next.ServeHTTP(w, r)
	})
}

// slow delays the answer to a call refused for its rate.
func (a *api) slow(r *http.Request, err error) {
	e, user := wire.AsError(err), caller(r).User
	if e.Code != wire.CodeRateLimited || !a.slowed.enter(user) {
		return
	}
	defer a.slowed.leave(user)
	pause := time.NewTimer(min(max(e.RetryAfter, leastPause), mostPause))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-r.Context().Done(): // the client has left
	case <-a.cfg.Draining:
	}
}

// bodyKiB is the cost of a call in Config.Bytes: its declared body length, beyond
// which it is not read, or the maximum.
func (a *api) bodyKiB(r *http.Request) int {
	most := a.cfg.MaxBytes
	if r.ContentLength >= 0 {
		most = min(most, r.ContentLength)
	}
	return int((most + 1023) / 1024)
}

// request charges a user for requesting a keygen or a signing.
func (a *api) request(r *http.Request) error {
	return auth.Charge(a.cfg.Requests, caller(r).User, 1, "too many keygen and sign requests")
}

// busy counts the calls in progress, by user.
type busy struct {
	most int // of one user
	all  int // of all of them; 0 for no limit

	mu    sync.Mutex
	calls map[string]int // no zeros
	total int
}

func (b *busy) enter(user string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls == nil {
		b.calls = make(map[string]int)
	}
	if b.calls[user] >= b.most || b.all > 0 && b.total >= b.all {
		return false
	}
	b.calls[user]++
	b.total++
	return true
}

func (b *busy) leave(user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total--
	if b.calls[user]--; b.calls[user] == 0 {
		delete(b.calls, user)
	}
}

// readiness checks whether the node is ready, once for all concurrent callers.
type readiness struct {
	ask func(context.Context) error

	mu  sync.Mutex // held during the check: the others wait for the answer
	at  time.Time
	err error
}

func (c *readiness) get(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) >= readyFor {
		// Not under the context of one caller, who may leave.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWithin)
		defer cancel()
		c.err = c.ask(ctx)
		c.at = time.Now()
	}
	return c.err
}

// address returns the client's address: the connection's, or, if that is a trusted
// proxy, the one that the proxy names in X-Forwarded-For. Entries written by the
// client itself precede it and are ignored.
func (a *api) address(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	from := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && a.trusted(from); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		from = hop.Unmap()
	}
	return from
}

func (a *api) trusted(from netip.Addr) bool {
	for _, p := range a.cfg.TrustedProxies {
		if p.Contains(from) {
			return true
		}
	}
	return false
}
