package node

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/limit"
)

// Defaults for the zero values of Config's limits.
const (
	DefaultRateLimit         = wsconn.DefaultRateLimit
	DefaultRateLimitBytes    = 2 << 20
	DefaultRequestLimit      = 50
	DefaultRegisterLimit     = 10
	DefaultLoginLimit        = 10
	DefaultLoginAddressLimit = 100
	DefaultLoginAccountLimit = 1000
	DefaultMaxUnregistered   = wsconn.DefaultMaxUnregistered
)

// registerBurst is the burst of registrations, in seconds of the rate: for a
// flapping network, or a client that restarts repeatedly.
const registerBurst = 10

const (
	// The burst of bytes, in seconds of the rate: the first rounds of a keygen of
	// 16 have some hundred KiB for each of the others.
	bytesBurst = 4
	// Below this many bytes a second one message might block a socket for longer
	// than clients wait for a sign of life.
	leastRateBytes = 256 << 10
)

// completeLimits checks cfg's limits and sets defaults.
func (cfg *Config) completeLimits() error {
	for _, l := range []struct {
		field  *float64
		preset float64
	}{
		{&cfg.RateLimit, DefaultRateLimit}, {&cfg.RequestLimit, DefaultRequestLimit}, {&cfg.RegisterLimit, DefaultRegisterLimit},
	} {
		if *l.field == 0 {
			*l.field = l.preset
		}
	}
	for _, l := range []struct {
		field  *int
		preset int
	}{
		{&cfg.LoginLimit, DefaultLoginLimit}, {&cfg.LoginAddressLimit, DefaultLoginAddressLimit}, {&cfg.LoginAccountLimit, DefaultLoginAccountLimit},
		{&cfg.RateLimitBytes, max(DefaultRateLimitBytes, cfg.MaxMessageBytes/4)},
		{&cfg.MaxUnregistered, DefaultMaxUnregistered}, {&cfg.MaxConnections, socketsFor(openFiles())},
	} {
		if *l.field == 0 {
			*l.field = l.preset
		}
	}
	if err := cfg.completeQuota(); err != nil {
		return err
	}
	if least := max(leastRateBytes, cfg.MaxMessageBytes/4); cfg.RateLimitBytes > 0 && cfg.RateLimitBytes < least {
		return fmt.Errorf("rate limit bytes must be at least %d", least)
	}
	if cfg.MaxUnregistered < 0 {
		return errors.New("max unregistered is negative")
	}
	for _, text := range cfg.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(text); err == nil {
				p = netip.PrefixFrom(addr, addr.BitLen())
			}
		}
		if err != nil {
			return fmt.Errorf("trusted proxy %q: must be an address or a network like 10.0.0.0/8", text)
		}
		cfg.proxies = append(cfg.proxies, p)
	}
	return nil
}

// completeQuota checks a user's storage limits.
func (cfg *Config) completeQuota() error {
	switch cfg.UnknownUsers {
	case "":
		cfg.UnknownUsers = UnknownAuto
	case UnknownAuto, UnknownRefuse, UnknownAllow:
	default:
		return fmt.Errorf("unknown users %q: must be %s, %s or %s", cfg.UnknownUsers, UnknownAuto, UnknownRefuse, UnknownAllow)
	}
	largest := session.LargestSession(cfg.MaxParties)
	switch {
	case cfg.MaxOpenBytes == 0:
		cfg.MaxOpenBytes = max(session.DefaultOpenBytes, largest)
	case cfg.MaxOpenBytes > 0 && cfg.MaxOpenBytes < largest:
		return fmt.Errorf("max open bytes must be at least %d, the size of the largest session with max parties", largest)
	}
	return nil
}

// quota returns a user's storage limits.
func (cfg *Config) quota() session.Quota {
	return session.Quota{OpenSessions: cfg.MaxOpenSessions, OpenBytes: cfg.MaxOpenBytes, EndedBytes: cfg.MaxEndedBytes, KeyBytes: cfg.MaxKeyBytes}
}

// socketsFor is how many sockets a node with that many open files accepts: an
// eighth, and some, are for Redis, web calls and closing connections. 0 means no
// limit.
func socketsFor(files uint64) int {
	const most = 1 << 20 // beyond it the limit is not by files
	switch {
	case files == 0 || files > most:
		return 0
	case files < 512:
		return int(files) / 2
	}
	return int(files-files/8) - 128
}

// limits are those of one user, one account and one address on this node.
type limits struct {
	messages, requests, registers *limit.Throttle
	bytes                         *limit.Throttle // in KiB
	logins                        *accounts.LoginThrottle
}

func newLimits(cfg *Config, rdb redis.UniversalClient) limits {
	return limits{
		messages:  limit.NewThrottle(cfg.RateLimit, int(2*cfg.RateLimit)),
		bytes:     limit.NewThrottle(float64(cfg.RateLimitBytes)/1024, bytesBurst*cfg.RateLimitBytes/1024),
		requests:  limit.NewThrottle(cfg.RequestLimit, int(2*cfg.RequestLimit)),
		registers: limit.NewThrottle(cfg.RegisterLimit, int(registerBurst*cfg.RegisterLimit)),
		logins: accounts.NewLoginThrottle(accounts.LoginConfig{
			Redis: rdb, Prefix: cfg.RedisPrefix, Key: cfg.JWTSecret, Log: cfg.Log,
			Limits: accounts.LoginLimits{Pair: cfg.LoginLimit, Network: cfg.LoginAddressLimit, Account: cfg.LoginAccountLimit},
		}),
	}
}

// requestCharge charges a user for requesting a keygen or a signing.
func (l *limits) requestCharge(user string) error {
	return auth.Charge(l.requests, user, 1, "too many keygen and sign requests")
}

// webConns closes new connections when there are too many of those that are, or may
// become, web calls. Sockets are bounded more tightly, so that some connections are
// always left for calls.
type webConns struct {
	sockets func() int
	most    int // 0 for no limit
	open    atomic.Int64
}

// maxStreams is how many of those calls may be event streams, which are long-lived;
// 0 for no limit.
func maxStreams(maxConnections int) int {
	if maxConnections <= 0 {
		return 0
	}
	return webReserve(maxConnections) / 2
}

// webReserve is how many connections are left for calls beside that many sockets.
func webReserve(maxConnections int) int { return maxConnections/16 + 32 }

func newWebConns(maxConnections int, sockets func() int) *webConns {
	w := &webConns{sockets: sockets}
	if maxConnections > 0 {
		w.most = maxConnections + webReserve(maxConnections)
	}
	return w
}

// state is an http.Server's ConnState.
func (w *webConns) state(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		if n := w.open.Add(1); w.most > 0 && int(n)+w.sockets() > w.most {
			_ = c.Close() // its goroutine sees the close, and StateClosed follows
		}
	case http.StateHijacked, http.StateClosed:
		w.open.Add(-1)
	}
}
