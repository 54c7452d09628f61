// Package accounts keeps on Redis who may log in and which logins and tokens are
// valid: accounts, limits of failed logins, renewable logins, and revocations.
//
// Start here: [New] makes the [Store] of accounts, with Store.Add and
// Store.Authenticate; [NewRevocations] the list of revoked tokens that every node
// reads and passes to auth.Guard. [NewRenewals] and [NewLoginThrottle] are for
// nodes that log users in.
//
// Methods without a by are for the cluster's operator, who may do everything.
// Methods that take the claims of a token act for its bearer and refuse users who
// are not admins. The package verifies no tokens and decides nothing about keys and
// sessions; tokens, passwords and the values passed to the edges are package
// auth's. Its errors for clients are *wire.Error, with CodeUnavailable and
// CodeStorageFull where Redis does not answer or is full.
//
// # Keys
//
// All begin with the configured prefix. keys.go has the functions.
//
//	account:{<user>}        hash    password_hash, roles, identity, disabled, created_at, once, generation; the last alone of one that was removed
//	accounts:lock           string  token of a change that may take an admin away; TTL adminsLockFor
//	accounts:disabled       hash    user to since when (RFC 3339): whose tokens no node takes
//	logins:{<user>}         hash    login to JSON: number of the next refresh token, label, began, renewed, until_ms; TTL until none can be renewed
//	known:{<user>}          zset    hashes of the networks of the last logins, by ms; TTL knownFor
//	login:{<bucket>}        hash    budgets of failed logins of some accounts: field to when it is whole again, ms; TTL until all are
//	login-from:{<network>}  hash    the budget of failed logins of one network, by its hash; TTL until it is whole
//	revoked                 stream  token or user, generation, by, at, reason; the id is when, by Redis's clock, ms; TTL auth.MaxTTL
//
// # Goroutines and locks
//
// The package starts none. [Revocations.Run] blocks until its context ends.
// Revocations.mu guards the known revocations and is never held during I/O.
// Everything in the package is safe for concurrent use, except a login in progress.
package accounts

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

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// DefaultPrefix begins every key in Redis unless configured otherwise.
const DefaultPrefix = "conclave:"

// operator is the author, in revocations, of changes made with conclaved user.
const operator = "operator"

// spentHash replaces the hash of a one-time password once used.
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

	addScript      = redisx.NewScript(accountAdd)
	setScript      = redisx.NewScript(accountSet)
	identifyScript = redisx.NewScript(accountIdentify)
	barScript      = redisx.NewScript(accountBar)
	lockScript     = redisx.NewScript(accountsLock)
	spendScript    = redisx.NewScript(accountSpend)
	removeScript   = redisx.NewScript(accountRemove)
	unlockScript   = redisx.NewScript(accountsUnlock)
)

// Config configures [New].
type Config struct {
	// Redis keeps the accounts. Required.
	Redis redis.UniversalClient
	// Prefix begins every key. Zero value means DefaultPrefix.
	Prefix string
	// Cost applies to new password hashes. Zero value means auth.DefaultCost.
	Cost auth.Cost
	// Revocations receives the tokens that an account's change ends, and keeps them
	// in its own Redis. Nil means one on Redis and Prefix.
	Revocations *Revocations
	// Concurrency limits concurrent password hashes, each taking Cost.MemoryKiB.
	// Zero value means one a core, at most 4.
	Concurrency int
	// Now replaces time.Now if not nil.
	Now func() time.Time
}

// Store keeps the accounts that may log in: one hash per user under account:{user},
// with the fields password_hash (argon2id, PHC format), roles (separated by
// commas), identity (public, opaque here), disabled (true or false), created_at
// (RFC 3339), generation (one more than the number of times its tokens were
// revoked) and once (RFC 3339: its password is valid for one login before then; its
// password_hash is ! after that). A hash without password_hash holds the identity
// of a user whose tokens another issuer makes, or the generation of a removed
// account, and cannot be used to log in.
//
// A change of an account changes its hash first and then notifies all nodes, in
// separate steps. After an error, repeating the change completes it.
type Store struct {
	rdb     redis.UniversalClient
	prefix  string
	now     func() time.Time
	hasher  hasher
	revoked *Revocations
}

// hasher computes password hashes; [auth.Hasher] is one.
type hasher interface {
	Hash(ctx context.Context, password string) (string, error)
	Check(ctx context.Context, stored, password string, turn auth.Turn) (bool, error)
}

// New returns the accounts kept in cfg.Redis. It does no I/O.
func New(cfg Config) (*Store, error) {
	if cfg.Redis == nil {
		return nil, errors.New("accounts: no redis client")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if cfg.Cost == (auth.Cost{}) {
		cfg.Cost = auth.DefaultCost
	}
	if !cfg.Cost.Valid() {
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
	return &Store{
		rdb: cfg.Redis, prefix: cfg.Prefix, now: cfg.Now, hasher: auth.NewHasher(cfg.Cost, cfg.Concurrency), revoked: cfg.Revocations,
	}, nil
}

func (s *Store) key(user string) string { return accountKey(s.prefix, user) }

// unavailable wraps a failure of Redis so that clients are told to retry and the
// log has the cause.
func unavailable(doing string, err error) error {
	if redis.HasErrorPrefix(err, "OOM") {
		return fmt.Errorf("%s: %w: %w", doing, wire.Errorf(wire.CodeStorageFull, "Redis has no memory for another account; make room, or raise its maxmemory"), err)
	}
	return fmt.Errorf("%s: %w: %w", doing, wire.Errorf(wire.CodeUnavailable, "the account store does not answer; try again"), err)
}

// Add makes an account, or with replace sets the password and roles of an existing
// one, leaving its identity and whether it is disabled, and revokes its tokens,
// which state the old roles. Its errors for the caller are *wire.Error:
// CodeBadRequest for an invalid id, password or role, CodeConflict for an account
// that exists, CodeUnavailable.
func (s *Store) Add(ctx context.Context, user, password string, roles []wire.Role, replace bool) error {
	if err := s.nameable(ctx, user, replace); err != nil {
		return err
	}
	return s.add(ctx, user, password, roles, replace, "")
}

// add is Add for a valid name; once is the time before which the password is valid
// for one login, "" for an ordinary one.
func (s *Store) add(ctx context.Context, user, password string, roles []wire.Role, replace bool, once string) error {
	if err := auth.CheckPassword(password); err != nil {
		return err
	}
	names, err := roleNames(roles)
	if err != nil {
		return err
	}
	h, err := s.hasher.Hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	flag := "0"
	if replace {
		flag = "1"
	}
	created, err := addScript.Run(ctx, s.rdb, []string{s.key(user)}, h, names, s.now().UTC().Format(time.RFC3339), flag, once).Int()
	switch {
	case err != nil:
		return unavailable("add account "+user, err)
	case created == 0:
		return wire.Errorf(wire.CodeConflict, "account %s exists already", user)
	case created == accountReplaced:
		return s.RevokeTokens(ctx, user, operator, "password and roles replaced")
	}
	return nil
}

// roleNames returns an account's roles as stored.
func roleNames(roles []wire.Role) (string, error) {
	if len(roles) == 0 {
		return "", wire.Errorf(wire.CodeBadRequest, "an account needs a role: coordinator, participant or admin")
	}
	var names []string
	for _, r := range roles {
		if !r.Valid() {
			return "", wire.Errorf(wire.CodeBadRequest, "no such role: %.64q; the roles are coordinator, participant and admin", r)
		}
		if !slices.Contains(names, string(r)) {
			names = append(names, string(r))
		}
	}
	return strings.Join(names, ","), nil
}

// nameable refuses invalid names for new accounts. An account older than the naming
// rule keeps its own.
func (s *Store) nameable(ctx context.Context, user string, replace bool) error {
	if strings.HasPrefix(user, wire.SubjectPrefix) {
		return wire.Errorf(wire.CodeBadRequest, "user must not begin with %s, the prefix of other issuers' user ids", wire.SubjectPrefix)
	}
	if wire.ValidID(user) {
		return nil
	}
	if replace && wire.StoredID(user) {
		known, err := s.Get(ctx, user)
		if err == nil && known.LogsIn || err != nil && wire.AsError(err).Code != wire.CodeNotFound {
			return err
		}
	}
	return wire.Errorf(wire.CodeBadRequest, "user %s", wire.IDRule)
}

// Authenticate returns the account of a user who gave the right password. Turn sets
// the login's place in the queue when many log in at once. Whether the user does
// not exist, is disabled or gave a wrong password, the error is the same
// *wire.Error with CodeUnauthenticated and takes the same time. Other errors are
// CodeRateLimited when too many log in at once, CodeUnavailable, and ctx's.
func (s *Store) Authenticate(ctx context.Context, user, password string, turn auth.Turn) (auth.Account, error) {
	refused := wire.Errorf(wire.CodeUnauthenticated, "wrong user name or password")
	known, stored := auth.Account{}, ""
	if wire.StoredID(user) {
		var err error
		if known, stored, err = s.load(ctx, user); err != nil {
			return auth.Account{}, err
		}
	}
	if known.Spent {
		stored = ""
	}
	match, err := s.hasher.Check(ctx, stored, password, turn)
	switch {
	case errors.Is(err, auth.ErrBadHash):
		return auth.Account{}, fmt.Errorf("account %s: %w", user, err)
	case err != nil:
		return auth.Account{}, fmt.Errorf("check password: %w", err)
	case !match || !known.LogsIn || known.Disabled || known.Spent:
		return auth.Account{}, refused
	case known.Once.IsZero():
		return known, nil
	case !s.now().Before(known.Once):
		return auth.Account{}, refused
	}
	taken, err := spendScript.Run(ctx, s.rdb, []string{s.key(user)}, stored, spentHash).Int()
	switch {
	case err != nil:
		return auth.Account{}, unavailable("use password of "+user, err)
	case taken == 0:
		return auth.Account{}, refused
	}
	return known, nil
}

// Get returns a user's stored account, or a *wire.Error with CodeNotFound.
func (s *Store) Get(ctx context.Context, user string) (auth.Account, error) {
	if wire.StoredID(user) {
		known, _, err := s.load(ctx, user)
		if err != nil || known.User != "" {
			return known, err
		}
	}
	return auth.Account{}, wire.Errorf(wire.CodeNotFound, "no such account")
}

// Exist returns the users with a stored record: an account that logs in, or an
// identity. It returns a *wire.Error with CodeUnavailable.
func (s *Store) Exist(ctx context.Context, users ...string) (map[string]bool, error) {
	found := make([]*redis.SliceCmd, len(users))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, user := range users {
			found[i] = p.HMGet(ctx, s.key(user), "password_hash", "identity")
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

// load returns the zero Account if nothing is stored for user.
func (s *Store) load(ctx context.Context, user string) (auth.Account, string, error) {
	fields, err := s.rdb.HGetAll(ctx, s.key(user)).Result()
	if err != nil {
		return auth.Account{}, "", unavailable("read account "+user, err)
	}
	return readAccount(user, fields)
}

// readAccount reads an account's hash, and returns its password hash beside it. It
// returns the zero Account if there is nothing, or only the remains of a removed
// one.
func readAccount(user string, fields map[string]string) (known auth.Account, stored string, err error) {
	if fields["password_hash"] == "" && fields["identity"] == "" {
		return auth.Account{}, "", nil
	}
	known = auth.Account{
		User:     user,
		Identity: fields["identity"],
		LogsIn:   fields["password_hash"] != "",
		Spent:    fields["password_hash"] == spentHash,
		// Anything but a plain "false" disables the account.
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
			return auth.Account{}, "", fmt.Errorf("read account %s: generation is not a number", user)
		}
	}
	for field, at := range map[string]*time.Time{"created_at": &known.CreatedAt, "once": &known.Once} {
		if fields[field] == "" {
			continue
		}
		if *at, err = time.Parse(time.RFC3339, fields[field]); err != nil {
			return auth.Account{}, "", fmt.Errorf("read account %s: %s is not a time", user, field)
		}
	}
	return known, fields["password_hash"], nil
}

// SetIdentity stores the public identity of a user's client. The user needs no
// account and does not get one that can log in.
func (s *Store) SetIdentity(ctx context.Context, user, identity string) error {
	switch {
	case !wire.StoredID(user):
		return wire.Errorf(wire.CodeBadRequest, "not a valid user id")
	case len(identity) > wire.MaxIdentityBytes:
		return wire.Errorf(wire.CodeTooLarge, "identity is longer than %d bytes", wire.MaxIdentityBytes)
	case strings.ContainsFunc(identity, unicode.IsControl) || !utf8.ValidString(identity):
		return wire.Errorf(wire.CodeBadRequest, "identity has control characters")
	}
	if err := identifyScript.Run(ctx, s.rdb, []string{s.key(user)}, identity).Err(); err != nil {
		return unavailable("keep identity of "+user, err)
	}
	return nil
}
