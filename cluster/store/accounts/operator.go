package accounts

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// set changes fields of an account, given as alternating names and values, and
// begins a new generation of its tokens. It also forgets the account's known
// networks, since another person may have known its password.
func (s *Store) set(ctx context.Context, user string, fields ...any) (generation int64, err error) {
	if !wire.StoredID(user) {
		return 0, errNoAccount()
	}
	generation, err = setScript.Run(ctx, s.rdb, []string{s.key(user)}, fields...).Int64()
	switch {
	case err != nil:
		return 0, unavailable("change account "+user, err)
	case generation == 0:
		return 0, errNoAccount()
	}
	if err := s.rdb.Del(ctx, knownKey(s.prefix, user)).Err(); err != nil {
		return 0, unavailable("change account "+user, err)
	}
	return generation, nil
}

func errNoAccount() *wire.Error { return wire.Errorf(wire.CodeNotFound, "no such account") }

// SetPassword sets an account's password and revokes its tokens. It returns a
// *wire.Error with CodeNotFound if there is no such account, and with
// CodeBadRequest for an invalid password.
func (s *Store) SetPassword(ctx context.Context, user, password string) error {
	return s.setPassword(ctx, user, password, "", operator)
}

func (s *Store) setPassword(ctx context.Context, user, password, once, by string) error {
	if err := auth.CheckPassword(password); err != nil {
		return err
	}
	if known, err := s.Get(ctx, user); err != nil { // before the expensive hash
		return err
	} else if !known.LogsIn {
		return errNoAccount()
	}
	h, err := s.hasher.Hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	fields := []any{"password_hash", h, "once", once}
	if once != "" { // first, or the password would never expire if the rest failed
		fields = []any{"once", once, "password_hash", h}
	}
	generation, err := s.set(ctx, user, fields...)
	if err != nil {
		return err
	}
	return s.revoked.append(ctx, auth.Revocation{User: user, Generation: generation, By: by, Reason: "password changed"})
}

// SetDisabled disables or re-enables an account. While it is disabled it cannot log
// in and no node accepts a token of that user, from any issuer; its earlier tokens
// stay revoked when it is re-enabled. It returns a *wire.Error with CodeNotFound if
// there is no such account.
func (s *Store) SetDisabled(ctx context.Context, user string, disabled bool) error {
	return s.setDisabled(ctx, user, disabled, operator, "")
}

func (s *Store) setDisabled(ctx context.Context, user string, disabled bool, by, why string) error {
	generation, err := s.set(ctx, user, "disabled", strconv.FormatBool(disabled))
	if err != nil {
		return err
	}
	reason := "account enabled"
	if disabled {
		reason = "account disabled"
		err = barScript.Run(ctx, s.rdb, []string{disabledKey(s.revoked.cfg.Prefix)}, user, s.now().UTC().Format(time.RFC3339)).Err()
	} else {
		err = s.rdb.HDel(ctx, disabledKey(s.revoked.cfg.Prefix), user).Err()
	}
	if err != nil {
		return unavailable("tell the nodes of account "+user, err)
	}
	if why != "" {
		reason = why
	}
	return s.revoked.append(ctx, auth.Revocation{User: user, Generation: generation, By: by, Reason: reason})
}

// Revoke ends one token, by its jti, or all of a user's current tokens. It returns
// a *wire.Error with CodeForbidden if by is no admin, or CodeBadRequest.
func (s *Store) Revoke(ctx context.Context, by auth.Claims, jti, user, reason string) error {
	switch {
	case !by.Has(wire.RoleAdmin):
		return wire.Errorf(wire.CodeForbidden, "only an admin may revoke tokens")
	case (jti == "") == (user == ""):
		return wire.Errorf(wire.CodeBadRequest, "name one of jti and user")
	case jti != "":
		return s.revoked.RevokeToken(ctx, jti, by.Subject, reason)
	}
	return s.RevokeTokens(ctx, user, by.Subject, reason)
}

// RevokeTokens ends all current tokens of a user, from this cluster and from other
// issuers. The user needs no account here. By is the requester.
func (s *Store) RevokeTokens(ctx context.Context, user, by, reason string) error {
	if !wire.StoredID(user) {
		return wire.Errorf(wire.CodeBadRequest, "user must be 1 to %d bytes of letters, digits and _ . @ -", wire.MaxIDBytes)
	}
	generation, err := s.set(ctx, user)
	if err != nil && wire.AsError(err).Code != wire.CodeNotFound {
		return err
	}
	return s.revoked.append(ctx, auth.Revocation{User: user, Generation: generation, By: by, Reason: reason})
}

// List returns all accounts that can log in, by user. It scans every key of the
// store, and is for operators.
func (s *Store) List(ctx context.Context) ([]auth.Account, error) {
	keys, err := s.accountKeys(ctx)
	if err != nil {
		return nil, unavailable("list accounts", err)
	}
	var users []string
	for _, key := range keys {
		users = append(users, strings.TrimSuffix(strings.TrimPrefix(key, s.prefix+"account:{"), "}"))
	}
	var all []auth.Account
	for some := range slices.Chunk(users, accountsAtOnce) {
		accounts, err := s.loadAll(ctx, some)
		if err != nil {
			return nil, err
		}
		all = append(all, accounts...)
	}
	slices.SortFunc(all, func(x, y auth.Account) int { return strings.Compare(x.User, y.User) })
	return all, nil
}

// accountsAtOnce is how many accounts are read in one round trip.
const accountsAtOnce = 200

// loadAll returns the accounts of those users that can log in, in the users' order.
func (s *Store) loadAll(ctx context.Context, users []string) (list []auth.Account, err error) {
	hashes := make([]*redis.MapStringStringCmd, len(users))
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, user := range users {
			hashes[i] = p.HGetAll(ctx, s.key(user))
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("read accounts", err)
	}
	for i, user := range users {
		known, _, err := readAccount(user, hashes[i].Val())
		if err != nil {
			return nil, err
		}
		if known.LogsIn {
			list = append(list, known)
		}
	}
	return list, nil
}

// accountKeys scans each master of a cluster, or the single server.
func (s *Store) accountKeys(ctx context.Context) ([]string, error) {
	scan := func(ctx context.Context, one redis.Cmdable) (keys []string, err error) {
		it := one.Scan(ctx, 0, escapePattern(s.prefix)+"account:{*}", 1000).Iterator()
		for it.Next(ctx) {
			keys = append(keys, it.Val())
		}
		return keys, it.Err()
	}
	var all []string
	if cluster, ok := s.rdb.(*redis.ClusterClient); ok {
		var mu sync.Mutex // ForEachMaster calls concurrently
		err := cluster.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error {
			keys, err := scan(ctx, one)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, keys...)
			return err
		})
		slices.Sort(all)
		return slices.Compact(all), err
	}
	all, err := scan(ctx, s.rdb)
	slices.Sort(all)
	return slices.Compact(all), err // a scan may yield a key twice
}

// escapePattern makes a glob pattern that matches s alone.
func escapePattern(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
