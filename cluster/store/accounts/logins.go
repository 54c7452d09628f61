package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/limit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var (
	//go:embed login_take.lua
	loginTake string
	//go:embed login_give.lua
	loginGive string
	//go:embed login_known.lua
	loginKnown string

	takeScript  = redisx.NewScript(loginTake)
	giveScript  = redisx.NewScript(loginGive)
	knownScript = redisx.NewScript(loginKnown)
)

const (
	// knownNetworks is how many networks of an account are remembered, and knownFor
	// how long after the account's last login.
	knownNetworks = 16
	knownFor      = 90 * 24 * time.Hour
	// knownFaster is how many times faster the budget of a known network refills
	// than that of an unknown one.
	knownFaster = 6

	// loginBuckets bounds how many keys made-up account names create in Redis:
	// accounts share a budget with few others, usually none.
	loginBuckets = 1 << 16
	accountField = "account"
	networkField = "network"

	settleWithin = 2 * time.Second // to record a successful login
)

// LoginLimits sets how many failed logins are allowed. A field that is not positive
// limits nothing.
type LoginLimits struct {
	// Pair is how many failures one account may have from one network (an IPv4
	// address or an IPv6 /64) at once, and then as many an hour; from a network
	// that the account has logged in from, as many each 10 minutes.
	Pair int
	// Network is how many failures one network may have a minute, and at once, on
	// all accounts for which it is unknown.
	Network int
	// Account is how many failures one account may have a day from all unknown
	// networks, plus a fifth of that at once.
	Account int
}

// LoginConfig configures [NewLoginThrottle].
type LoginConfig struct {
	// Redis keeps the budgets, shared by all nodes. Nil means this node's memory.
	Redis redis.UniversalClient
	// Prefix begins every key. Zero value means DefaultPrefix.
	Prefix string
	// Key makes hashes of networks and account names, so that a reader of Redis
	// learns neither. It should be the same on all nodes. Nil means a random one.
	Key    []byte
	Limits LoginLimits
	// Log receives failures of Redis. Nil means none.
	Log *zerolog.Logger
}

// LoginThrottle bounds password guessing. It counts failed logins: a successful one
// costs nothing. There are three budgets: one for each account and network
// together, so that guesses from elsewhere cannot lock an account's owner out; one
// for each network over all accounts; and one for each account over all networks
// that are unknown to it, which bounds guesses from many networks. Networks of the
// account's last logins, and clients that show an earlier token of the account, are
// bounded by their own budget alone.
//
// The budgets are in Redis and shared by all nodes. While Redis refuses writes each
// node counts in its own memory.
//
// Unknown accounts are treated like existing ones. A nil LoginThrottle limits
// nothing. Safe for concurrent use.
type LoginThrottle struct {
	rdb    redis.UniversalClient
	prefix string
	key    []byte
	limits LoginLimits
	log    zerolog.Logger
	local  localBudgets

	accounts, networks atomic.Uint64 // refused
}

// localBudgets holds one node's own budgets.
type localBudgets struct{ pair, known, network, account *limit.Throttle }

// NewLoginThrottle returns a LoginThrottle, or nil if nothing is limited. It does
// no I/O.
func NewLoginThrottle(cfg LoginConfig) *LoginThrottle {
	limits := cfg.Limits
	if limits.Pair <= 0 && limits.Network <= 0 && limits.Account <= 0 {
		return nil
	}
	l := &LoginThrottle{rdb: cfg.Redis, prefix: cfg.Prefix, limits: limits, log: zerolog.Nop()}
	if l.prefix == "" {
		l.prefix = DefaultPrefix
	}
	if cfg.Log != nil {
		l.log = *cfg.Log
	}
	secret := cfg.Key
	if secret == nil {
		secret = make([]byte, sha256.Size)
		rand.Read(secret)
	}
	// A derived key, since the secret has other uses.
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("conclave login throttle"))
	l.key = h.Sum(nil)
	local := func(b budget) *limit.Throttle {
		return limit.NewThrottle(float64(time.Second)/float64(b.costs), int(b.ahead/b.costs))
	}
	if limits.Pair > 0 {
		l.local.pair, l.local.known = local(l.pair("", false)), local(l.pair("", true))
	}
	if limits.Network > 0 {
		l.local.network = local(l.network())
	}
	if limits.Account > 0 {
		l.local.account = local(l.account(""))
	}
	return l
}

// budget is a field of a hash of budgets.
type budget struct {
	field        string
	costs, ahead time.Duration
}

func (l *LoginThrottle) pair(name string, known bool) budget {
	b := budget{field: name, costs: time.Hour / time.Duration(max(l.limits.Pair, 1))}
	if known {
		b.costs /= knownFaster
	}
	b.costs = max(b.costs, time.Millisecond)
	b.ahead = b.costs * time.Duration(l.limits.Pair)
	return b
}

func (l *LoginThrottle) network() budget {
	costs := max(time.Minute/time.Duration(max(l.limits.Network, 1)), time.Millisecond)
	return budget{networkField, costs, costs * time.Duration(l.limits.Network)}
}

func (l *LoginThrottle) account(name string) budget {
	costs := max(24*time.Hour/time.Duration(max(l.limits.Account, 1)), time.Millisecond)
	return budget{accountField + name, costs, costs * time.Duration(max(l.limits.Account/5, 1))}
}

// hash is a name for parts that does not reveal them.
func (l *LoginThrottle) hash(parts ...string) []byte {
	h := hmac.New(sha256.New, l.key)
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

func (l *LoginThrottle) name(parts ...string) string {
	return hex.EncodeToString(l.hash(parts...)[:12])
}

// loginTry implements [auth.LoginTry].
type loginTry struct {
	l       *LoginThrottle // nil for no limit
	account string
	from    string // network
	known   bool
	taken   []taken
}

// taken records the amounts taken from the budgets of one hash.
type taken struct {
	key     string
	budgets []budget
	local   []func() // return amounts to the node's own memory
}

// Begin is called before a password is checked, and takes a failure from the
// budgets in advance, since many may be checked at once. Its error is a *wire.Error
// with wire.CodeRateLimited, which does not reveal which budget is spent or whether
// the account exists; or the context's.
func (l *LoginThrottle) Begin(ctx context.Context, account string, from auth.LoginFrom) (auth.LoginTry, error) {
	t := &loginTry{account: account, from: limit.Network(from.Addr)}
	if l == nil {
		return t, nil
	}
	t.l = l
	who := "token:" + from.Token
	t.known = from.Token != ""
	if !t.known {
		who, t.known = "network:"+t.from, l.isKnown(ctx, account, t.from)
	}
	bucket := l.hash("account", account)
	key := loginsKey(l.prefix, strconv.FormatUint(uint64(binary.BigEndian.Uint32(bucket)%loginBuckets), 16))
	var budgets []budget
	if l.limits.Pair > 0 {
		budgets = append(budgets, l.pair(l.name("pair", account, who), t.known))
	}
	if l.limits.Account > 0 && !t.known {
		budgets = append(budgets, l.account(""))
	}
	if wait := t.take(ctx, key, budgets); wait > 0 {
		l.accounts.Add(1)
		return nil, tooManyLogins(wait)
	}
	if l.limits.Network > 0 && !t.known {
		if wait := t.take(ctx, loginsFromKey(l.prefix, l.name("network", t.from)), []budget{l.network()}); wait > 0 {
			l.networks.Add(1)
			t.Undone(ctx)
			return nil, tooManyLogins(wait)
		}
	}
	return t, ctx.Err()
}

func tooManyLogins(wait time.Duration) error {
	round := time.Second
	if wait > 2*time.Minute {
		round = time.Minute
	}
	e := wire.Errorf(wire.CodeRateLimited, "too many failed logins; try again in %s", (wait + round - 1).Truncate(round))
	e.RetryAfter = wait
	return e
}

// isKnown reports whether an account has logged in from a network.
func (l *LoginThrottle) isKnown(ctx context.Context, account, network string) bool {
	if l.rdb == nil || !wire.ValidID(account) {
		return false
	}
	_, err := l.rdb.ZScore(ctx, knownKey(l.prefix, account), l.name("known", account, network)).Result()
	return err == nil
}

// take takes a failure from budgets of one hash, or returns how long to wait.
func (t *loginTry) take(ctx context.Context, key string, budgets []budget) (wait time.Duration) {
	if len(budgets) == 0 {
		return 0
	}
	if t.l.rdb != nil {
		var args []any
		for _, b := range budgets {
			args = append(args, b.field, b.costs.Milliseconds(), b.ahead.Milliseconds())
		}
		ms, err := takeScript.Run(ctx, t.l.rdb, []string{key}, args...).Int64()
		if err == nil {
			if ms == 0 {
				t.taken = append(t.taken, taken{key: key, budgets: budgets})
			}
			return time.Duration(ms) * time.Millisecond
		}
		if ctx.Err() != nil {
			return 0
		}
		t.l.log.Warn().Err(err).Msg("failed logins counted by this node only: redis refuses writes")
	}
	return t.takeHere(key, budgets)
}

// takeHere is take in this node's memory.
func (t *loginTry) takeHere(key string, budgets []budget) (wait time.Duration) {
	var mine taken
	for _, b := range budgets {
		throttle := t.l.local.pair
		switch {
		case b.field == accountField:
			throttle = t.l.local.account
		case b.field == networkField:
			throttle = t.l.local.network
		case t.known:
			throttle = t.l.local.known
		}
		name := key + " " + b.field
		if wait := throttle.Take(name, 1); wait > 0 {
			for _, undo := range mine.local {
				undo()
			}
			return wait
		}
		mine.local = append(mine.local, func() { throttle.GiveBack(name, 1) })
	}
	t.taken = append(t.taken, mine)
	return 0
}

// Undone gives back what Begin took, for a login whose password was not checked.
func (t *loginTry) Undone(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	for _, of := range t.taken {
		for _, undo := range of.local {
			undo()
		}
		if len(of.budgets) == 0 {
			continue
		}
		var args []any
		for _, b := range of.budgets {
			args = append(args, b.field, b.costs.Milliseconds())
		}
		if err := giveScript.Run(ctx, t.l.rdb, []string{of.key}, args...).Err(); err != nil {
			t.l.log.Warn().Err(err).Msg("successful login counted as failed")
		}
	}
	t.taken = nil
}

// Failed is called for a login whose password was wrong.
func (t *loginTry) Failed() { t.taken = nil }

// Succeeded is called for a login whose password was right. It costs nothing, and
// its network is known to the account from then on: the last 16, until 90 days
// after its last login.
func (t *loginTry) Succeeded(ctx context.Context) {
	t.Undone(ctx)
	if t.l == nil || t.l.rdb == nil || !wire.ValidID(t.account) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	err := knownScript.Run(ctx, t.l.rdb, []string{knownKey(t.l.prefix, t.account)},
		t.l.name("known", t.account, t.from), knownNetworks, knownFor.Milliseconds()).Err()
	if err != nil {
		t.l.log.Warn().Err(err).Msg("address of login not recorded")
	}
}

// Turn is the login's place in the queue for password hashing.
func (t *loginTry) Turn() auth.Turn { return auth.Turn{Network: t.from, Known: t.known} }

// Refused returns how many logins were refused for their account, and how many
// for their network.
func (l *LoginThrottle) Refused() (accounts, networks uint64) {
	if l == nil {
		return 0, 0
	}
	return l.accounts.Load(), l.networks.Load()
}
