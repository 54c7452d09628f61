package auth

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// DefaultPrefix begins every key in Redis unless configured otherwise.
const DefaultPrefix = "conclave:"

// operator is who did it where no token says so: whoever may run conclaved user.
const operator = "operator"

// spentHash stands in place of the hash of a password that was good for one login.
const spentHash = "!"

// accountReplaced is what account_add.lua returns for an account that existed.
const accountReplaced = 2

var (
	//go:embed account_add.lua
	accountAdd string
	//go:embed account_set.lua
	accountSet string
	//go:embed account_identify.lua
	accountIdentify string
	//go:embed account_bar.lua
	accountBar string
	//go:embed accounts_lock.lua
	accountsLock string
	//go:embed account_spend.lua
	accountSpend string
	//go:embed account_remove.lua
	accountRemove string
	//go:embed accounts_unlock.lua
	accountsUnlock string

	addScript      = redis.NewScript(accountAdd)
	setScript      = redis.NewScript(accountSet)
	identifyScript = redis.NewScript(accountIdentify)
	barScript      = redis.NewScript(accountBar)
	lockScript     = redis.NewScript(accountsLock)
	spendScript    = redis.NewScript(accountSpend)
	removeScript   = redis.NewScript(accountRemove)
	unlockScript   = redis.NewScript(accountsUnlock)
)

// AccountsConfig is what [NewAccounts] needs.
type AccountsConfig struct {
	// Redis keeps the accounts. Required.
	Redis redis.UniversalClient
	// Prefix begins every key. Zero value means DefaultPrefix.
	Prefix string
	// Cost is that of new password hashes. Zero value means DefaultCost.
	Cost Cost
	// Revocations is told of the tokens that an account's change ends, and keeps
	// them in its own Redis. Nil means one on Redis and Prefix.
	Revocations *Revocations
	// Concurrency is how many password hashes are computed at the same time, each
	// taking Cost.MemoryKiB. Zero value means one a core, at most 4.
	Concurrency int
	// Now replaces time.Now where not nil.
	Now func() time.Time
}

// Accounts keeps who may log in: one hash a user under account:{user}, with the
// fields password_hash (argon2id, PHC format), roles (separated by commas),
// identity (public, opaque here), disabled (true or false), created_at (RFC
// 3339), generation (how often its tokens have been revoked, and one) and once
// (RFC 3339: its password is good for one login before then; its password_hash is !
// after that). A hash without password_hash holds the identity of a user whose
// tokens another issuer makes, or the generation of an account that was removed,
// and nobody logs in by it.
//
// What changes an account changes its hash first and then tells all nodes, in
// separate steps: after an error the same again completes it.
type Accounts struct {
	rdb     redis.UniversalClient
	prefix  string
	now     func() time.Time
	hasher  *hasher
	revoked *Revocations
}

// Account is one account as others may see it: without its password.
type Account struct {
	User      string
	Roles     []wire.Role
	Identity  string // public identity as the user's client registered it; "" before that
	Disabled  bool
	LogsIn    bool      // has a password; false where only an identity is known
	CreatedAt time.Time // zero where only an identity is known
	Once      time.Time // its password is good for one login, before then; zero for any other
	Spent     bool      // its password was, and that login has been
	// Generation is what a token issued now belongs to; the account's earlier
	// tokens have a lesser one.
	Generation int64
}

// NewAccounts returns the accounts kept in cfg.Redis. It does no I/O.
func NewAccounts(cfg AccountsConfig) (*Accounts, error) {
	if cfg.Redis == nil {
		return nil, errors.New("accounts: no redis client")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if cfg.Cost == (Cost{}) {
		cfg.Cost = DefaultCost
	}
	if !cfg.Cost.valid() {
		return nil, fmt.Errorf("accounts: password hash cost is out of range: %+v", cfg.Cost)
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = min(runtime.GOMAXPROCS(0), 4)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Revocations == nil {
		var err error
		if cfg.Revocations, err = NewRevocations(RevocationsConfig{Redis: cfg.Redis, Prefix: cfg.Prefix}); err != nil {
			return nil, err
		}
	}
	return &Accounts{
		rdb: cfg.Redis, prefix: cfg.Prefix, now: cfg.Now, hasher: newHasher(cfg.Cost, cfg.Concurrency), revoked: cfg.Revocations,
	}, nil
}

// key names a user's account: a hash that lives for ever, written and read here
// only. The user must be a wire.StoredID.
func (a *Accounts) key(user string) string { return a.prefix + "account:{" + user + "}" }

// unavailable wraps a failure of Redis so that clients are told to try again
// and the log has the cause.
func unavailable(doing string, err error) error {
	if redis.HasErrorPrefix(err, "OOM") {
		return fmt.Errorf("%s: %w: %w", doing, wire.Errorf(wire.CodeStorageFull, "Redis has no memory for another account; make room, or raise its maxmemory"), err)
	}
	return fmt.Errorf("%s: %w: %w", doing, wire.Errorf(wire.CodeUnavailable, "the account store does not answer; try again"), err)
}

// Add makes an account, or with replace sets the password and roles of one that
// exists, leaving its identity and whether it is disabled, and revokes its
// tokens, which speak of the old roles. Its errors for the caller are
// *wire.Error: CodeBadRequest for an id, password or role that is not acceptable,
// CodeConflict for an account that exists, CodeUnavailable.
func (a *Accounts) Add(ctx context.Context, user, password string, roles []wire.Role, replace bool) error {
	if err := a.nameable(ctx, user, replace); err != nil {
		return err
	}
	return a.add(ctx, user, password, roles, replace, "")
}

// add is Add of a name that is acceptable; once is when the password is good for one
// login before, "" for any other.
func (a *Accounts) add(ctx context.Context, user, password string, roles []wire.Role, replace bool, once string) error {
	if err := acceptable(password); err != nil {
		return err
	}
	names, err := roleNames(roles)
	if err != nil {
		return err
	}
	h, err := a.hasher.make(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	flag := "0"
	if replace {
		flag = "1"
	}
	created, err := addScript.Run(ctx, a.rdb, []string{a.key(user)}, h.String(), names, a.now().UTC().Format(time.RFC3339), flag, once).Int()
	switch {
	case err != nil:
		return unavailable("add account "+user, err)
	case created == 0:
		return wire.Errorf(wire.CodeConflict, "account %s exists already", user)
	case created == accountReplaced:
		return a.RevokeTokens(ctx, user, operator, "password and roles replaced")
	}
	return nil
}

// roleNames are an account's roles as they are stored.
func roleNames(roles []wire.Role) (string, error) {
	if len(roles) == 0 {
		return "", wire.Errorf(wire.CodeBadRequest, "an account needs a role: coordinator, participant or admin")
	}
	var names []string
	for _, r := range roles {
		if !r.Valid() {
			return "", wire.Errorf(wire.CodeBadRequest, "no such role: %.64q; there are coordinator, participant and admin", r)
		}
		if !slices.Contains(names, string(r)) {
			names = append(names, string(r))
		}
	}
	return strings.Join(names, ","), nil
}

// nameable refuses names that no new account may have. An account from before
// the rule for names keeps its own.
func (a *Accounts) nameable(ctx context.Context, user string, replace bool) error {
	if strings.HasPrefix(user, wire.SubjectPrefix) {
		return wire.Errorf(wire.CodeBadRequest, "user must not begin with %s, which begins the user ids of other issuers' subjects", wire.SubjectPrefix)
	}
	if wire.ValidID(user) {
		return nil
	}
	if replace && wire.StoredID(user) {
		known, err := a.Get(ctx, user)
		if err == nil && known.LogsIn || err != nil && wire.AsError(err).Code != wire.CodeNotFound {
			return err
		}
	}
	return wire.Errorf(wire.CodeBadRequest, "user %s", wire.IDRule)
}

// acceptable says what is wrong with a new password.
func acceptable(password string) error {
	if n := len(password); n < MinPasswordBytes || n > MaxPasswordBytes {
		return wire.Errorf(wire.CodeBadRequest, "password must have from %d to %d bytes", MinPasswordBytes, MaxPasswordBytes)
	}
	if !utf8.ValidString(password) { // no login over JSON could give it
		return wire.Errorf(wire.CodeBadRequest, "password is not UTF-8")
	}
	return nil
}

// Authenticate returns the account of a user who gave the right password. Turn
// says behind whom it waits when many log in at one time. Whether the user exists, is disabled or gave a wrong password, the error is
// the same *wire.Error with CodeUnauthenticated and takes as long to come.
// Others are CodeRateLimited when too many log in at once, CodeUnavailable, and
// ctx's.
func (a *Accounts) Authenticate(ctx context.Context, user, password string, turn Turn) (Account, error) {
	refused := wire.Errorf(wire.CodeUnauthenticated, "wrong user name or password")
	known, stored := Account{}, ""
	if wire.StoredID(user) {
		var err error
		if known, stored, err = a.load(ctx, user); err != nil {
			return Account{}, err
		}
	}
	h, broken := a.hasher.decoy, error(nil)
	if stored != "" && !known.Spent {
		if h, broken = parseHash(stored); broken != nil {
			h = a.hasher.decoy
		}
	}
	if len(password) > MaxPasswordBytes {
		password = "" // never a password, and costs the same
	}
	match, err := a.hasher.check(ctx, h, password, turn)
	switch {
	case err != nil:
		return Account{}, fmt.Errorf("check password: %w", err)
	case broken != nil:
		return Account{}, fmt.Errorf("account %s: %w", user, broken)
	case !match || !known.LogsIn || known.Disabled || known.Spent:
		return Account{}, refused
	case known.Once.IsZero():
		return known, nil
	case !a.now().Before(known.Once):
		return Account{}, refused
	}
	taken, err := spendScript.Run(ctx, a.rdb, []string{a.key(user)}, stored, spentHash).Int()
	switch {
	case err != nil:
		return Account{}, unavailable("use password of "+user, err)
	case taken == 0:
		return Account{}, refused
	}
	return known, nil
}

// Get returns what is known of a user, or a *wire.Error with CodeNotFound.
func (a *Accounts) Get(ctx context.Context, user string) (Account, error) {
	if wire.StoredID(user) {
		known, _, err := a.load(ctx, user)
		if err != nil || known.User != "" {
			return known, err
		}
	}
	return Account{}, wire.Errorf(wire.CodeNotFound, "no such account")
}

// Exist returns those of users of whom something is known: an account that logs
// in, or an identity. It returns a *wire.Error with CodeUnavailable.
func (a *Accounts) Exist(ctx context.Context, users ...string) (map[string]bool, error) {
	found := make([]*redis.SliceCmd, len(users))
	_, err := a.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, user := range users {
			found[i] = p.HMGet(ctx, a.key(user), "password_hash", "identity")
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("look for accounts", err)
	}
	known := make(map[string]bool, len(users))
	for i, user := range users {
		if slices.ContainsFunc(found[i].Val(), func(v any) bool { return v != nil }) {
			known[user] = true
		}
	}
	return known, nil
}

// load returns the zero Account if nothing is known of user.
func (a *Accounts) load(ctx context.Context, user string) (Account, string, error) {
	fields, err := a.rdb.HGetAll(ctx, a.key(user)).Result()
	if err != nil {
		return Account{}, "", unavailable("read account "+user, err)
	}
	return readAccount(user, fields)
}

// readAccount reads an account's hash, and returns its password hash beside it. It
// returns the zero Account where there is nothing, or what is left of one that was
// removed.
func readAccount(user string, fields map[string]string) (known Account, stored string, err error) {
	if fields["password_hash"] == "" && fields["identity"] == "" {
		return Account{}, "", nil
	}
	known = Account{
		User:     user,
		Identity: fields["identity"],
		LogsIn:   fields["password_hash"] != "",
		Spent:    fields["password_hash"] == spentHash,
		// Anything but a plain "false" keeps the door shut.
		Disabled: fields["password_hash"] != "" && fields["disabled"] != "false",
	}
	for name := range strings.SplitSeq(fields["roles"], ",") {
		if r := wire.Role(name); r.Valid() {
			known.Roles = append(known.Roles, r)
		}
	}
	known.Generation = 1
	if n := fields["generation"]; n != "" {
		if known.Generation, err = strconv.ParseInt(n, 10, 64); err != nil || known.Generation < 1 {
			return Account{}, "", fmt.Errorf("read account %s: generation is not a number", user)
		}
	}
	for field, at := range map[string]*time.Time{"created_at": &known.CreatedAt, "once": &known.Once} {
		if fields[field] == "" {
			continue
		}
		if *at, err = time.Parse(time.RFC3339, fields[field]); err != nil {
			return Account{}, "", fmt.Errorf("read account %s: %s is not a time", user, field)
		}
	}
	return known, fields["password_hash"], nil
}

// SetIdentity keeps the public identity of a user's client. The user needs no
// account and does not get one that can log in.
func (a *Accounts) SetIdentity(ctx context.Context, user, identity string) error {
	switch {
	case !wire.StoredID(user):
		return wire.Errorf(wire.CodeBadRequest, "not a valid user id")
	case len(identity) > wire.MaxIdentityBytes:
		return wire.Errorf(wire.CodeTooLarge, "identity is longer than %d bytes", wire.MaxIdentityBytes)
	case strings.ContainsFunc(identity, unicode.IsControl) || !utf8.ValidString(identity):
		return wire.Errorf(wire.CodeBadRequest, "identity has control characters")
	}
	if err := identifyScript.Run(ctx, a.rdb, []string{a.key(user)}, identity).Err(); err != nil {
		return unavailable("keep identity of "+user, err)
	}
	return nil
}
