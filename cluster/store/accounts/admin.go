package accounts

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// The methods in this file are for admins, over the web. Each acts for by, the
// claims of a verified token, and returns a *wire.Error with CodeForbidden unless
// by has the role admin.

const (
	adminsLockFor = 10 * time.Second
	adminsWithin  = 5 * time.Second // for the work under the lock, and for acquiring it
	adminsPause   = 20 * time.Millisecond
)

// errLastAdmin is returned for a change that would leave no account able to make an
// admin over the web.
var errLastAdmin = wire.Errorf(wire.CodeConflict, "you are the last admin who can log in; add another first")

func mayManage(by auth.Claims) error {
	if !by.Has(wire.RoleAdmin) {
		return wire.Errorf(wire.CodeForbidden, "only an admin may manage accounts")
	}
	return nil
}

// Account returns one account that can log in, or a *wire.Error with CodeNotFound.
func (s *Store) Account(ctx context.Context, by auth.Claims, user string) (auth.Account, error) {
	if err := mayManage(by); err != nil {
		return auth.Account{}, err
	}
	known, err := s.Get(ctx, user)
	if err == nil && !known.LogsIn {
		return auth.Account{}, errNoAccount()
	}
	return known, err
}

// Page returns up to limit accounts by user, after a user, and whether there may be
// more. It scans every key of the store.
func (s *Store) Page(ctx context.Context, by auth.Claims, f auth.AccountFilter, after string, limit int) (list []auth.Account, more bool, err error) {
	if err := mayManage(by); err != nil {
		return nil, false, err
	}
	keys, err := s.accountKeys(ctx)
	if err != nil {
		return nil, false, unavailable("list accounts", err)
	}
	var users []string
	for _, key := range keys {
		user := strings.TrimSuffix(strings.TrimPrefix(key, s.prefix+"account:{"), "}")
		if user > after && strings.HasPrefix(user, f.Prefix) {
			users = append(users, user)
		}
	}
	slices.Sort(users) // braces in keys distort their own order
	for some := range slices.Chunk(users, accountsAtOnce) {
		accounts, err := s.loadAll(ctx, some)
		if err != nil {
			return nil, false, err
		}
		for _, known := range accounts {
			if !f.Selects(known) {
				continue
			}
			if len(list) == limit {
				return list, true, nil
			}
			list = append(list, known)
		}
	}
	return list, false, nil
}

// Create makes an account. Without a password it generates one, valid for one login
// within auth.OneTimeFor, and returns it. Errors are those of Add.
func (s *Store) Create(ctx context.Context, by auth.Claims, user, password string, roles []wire.Role) (oneTime string, err error) {
	if err := mayManage(by); err != nil {
		return "", err
	}
	if err := s.nameable(ctx, user, false); err != nil {
		return "", err
	}
	password, oneTime, once := s.oneTime(password)
	return oneTime, s.add(ctx, user, password, roles, false, once)
}

// ChangePassword sets an account's password, or, without one, generates one as
// Create does, and ends the account's tokens. Errors are those of SetPassword.
func (s *Store) ChangePassword(ctx context.Context, by auth.Claims, user, password string) (oneTime string, err error) {
	if err := mayManage(by); err != nil {
		return "", err
	}
	password, oneTime, once := s.oneTime(password)
	return oneTime, s.setPassword(ctx, user, password, once, by.Subject)
}

// oneTime returns given, or a generated password if it is empty, then also as made,
// with the time before which it is valid as once.
func (s *Store) oneTime(given string) (password, made, once string) {
	if given != "" {
		return given, "", ""
	}
	made = rand.Text()
	return made, made, s.now().UTC().Add(auth.OneTimeFor).Format(time.RFC3339)
}

// ChangeRoles sets an account's roles, and ends its tokens, which state the old
// ones. The last admin who can log in cannot give up the role: CodeConflict.
func (s *Store) ChangeRoles(ctx context.Context, by auth.Claims, user string, roles []wire.Role) error {
	if err := mayManage(by); err != nil {
		return err
	}
	names, err := roleNames(roles)
	if err != nil {
		return err
	}
	change := func(ctx context.Context) error { return s.setRoles(ctx, user, names, by.Subject) }
	if slices.Contains(roles, wire.RoleAdmin) {
		return change(ctx)
	}
	return s.losing(ctx, by, user, change)
}

// Bar disables or re-enables an account, as SetDisabled does. The last admin who
// can log in cannot disable themselves: CodeConflict.
func (s *Store) Bar(ctx context.Context, by auth.Claims, user string, disabled bool, reason string) error {
	if err := mayManage(by); err != nil {
		return err
	}
	if err := checkReason(reason); err != nil {
		return err
	}
	change := func(ctx context.Context) error { return s.setDisabled(ctx, user, disabled, by.Subject, reason) }
	if !disabled {
		return change(ctx)
	}
	return s.losing(ctx, by, user, change)
}

// Remove removes an account, with its identity, and ends its tokens and logins.
// Keys and sessions stay, under the name: a new account of that name is that user
// again. The last admin who can log in cannot remove themselves: CodeConflict.
func (s *Store) Remove(ctx context.Context, by auth.Claims, user, reason string) error {
	if err := mayManage(by); err != nil {
		return err
	}
	if err := checkReason(reason); err != nil {
		return err
	}
	return s.losing(ctx, by, user, func(ctx context.Context) error { return s.remove(ctx, user, by.Subject, reason) })
}

func (s *Store) remove(ctx context.Context, user, by, reason string) error {
	if !wire.StoredID(user) {
		return errNoAccount()
	}
	generation, err := removeScript.Run(ctx, s.rdb, []string{s.key(user)}).Int64()
	switch {
	case err != nil:
		return unavailable("remove account "+user, err)
	case generation == 0:
		return errNoAccount()
	}
	// Even for an account already removed: the next steps may have failed then.
	before := generation < 0
	for _, key := range []string{knownKey(s.prefix, user), loginsOfKey(s.prefix, user)} {
		if err := s.rdb.Del(ctx, key).Err(); err != nil {
			return unavailable("remove account "+user, err)
		}
	}
	if err := s.rdb.HDel(ctx, disabledKey(s.revoked.cfg.Prefix), user).Err(); err != nil {
		return unavailable("tell the nodes of account "+user, err)
	}
	if reason == "" {
		reason = "account removed"
	}
	if err := s.revoked.append(ctx, auth.Revocation{User: user, Generation: max(generation, -generation), By: by, Reason: reason}); err != nil {
		return err
	}
	if before {
		return errNoAccount()
	}
	return nil
}

// losing carries out a change that may end user's admin role, one at a time in the
// cluster, so that two admins cannot remove each other: by must still be an admin
// then, and so remains one, unless the change is about by; then there must be
// another.
func (s *Store) losing(ctx context.Context, by auth.Claims, user string, change func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, adminsWithin)
	defer cancel()
	unlock, err := s.lockAdmins(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.remains(ctx, by, user); err != nil {
		return err
	}
	return change(ctx)
}

// remains returns an error unless there is an admin besides user.
func (s *Store) remains(ctx context.Context, by auth.Claims, user string) error {
	admin := func(known auth.Account) bool {
		return known.LogsIn && !known.Disabled && slices.Contains(known.Roles, wire.RoleAdmin)
	}
	if by.Subject != user {
		if by.Generation == 0 || by.Key != "" {
			return nil // not an account here
		}
		known, err := s.Get(ctx, by.Subject)
		if err != nil && wire.AsError(err).Code != wire.CodeNotFound {
			return err
		}
		if !admin(known) || known.Generation > by.Generation {
			return auth.ErrRevoked
		}
		return nil
	}
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(all, func(known auth.Account) bool {
		late := !known.Once.IsZero() && !s.now().Before(known.Once)
		return !admin(known) || known.Spent || late || known.User == user
	})
	if len(others) == 0 {
		return errLastAdmin
	}
	return nil
}

// lockAdmins returns the lock's release. It expires after adminsLockFor.
func (s *Store) lockAdmins(ctx context.Context) (unlock func(), err error) {
	key, token := accountsLockKey(s.prefix), rand.Text()
	for {
		taken, err := lockScript.Run(ctx, s.rdb, []string{key}, token, adminsLockFor.Milliseconds()).Bool()
		if err != nil {
			return nil, unavailable("lock the accounts", err)
		}
		if taken {
			break
		}
		select {
		case <-time.After(adminsPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("lock the accounts: %w: %w", wire.Errorf(wire.CodeUnavailable, "another admin is being changed; try again"), ctx.Err())
		}
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminsWithin)
		defer cancel()
		_ = unlockScript.Run(ctx, s.rdb, []string{key}, token).Err() // it expires
	}, nil
}

// checkReason rejects an invalid reason before any work.
func checkReason(reason string) error {
	if len(reason) > wire.MaxReasonBytes || !auth.IsText(reason) {
		return wire.Errorf(wire.CodeBadRequest, "reason must be up to %d bytes of text", wire.MaxReasonBytes)
	}
	return nil
}

// SetRoles is ChangeRoles for the operator, who may remove the last admin.
func (s *Store) SetRoles(ctx context.Context, user string, roles []wire.Role) error {
	names, err := roleNames(roles)
	if err != nil {
		return err
	}
	return s.setRoles(ctx, user, names, operator)
}

// Delete is Remove for the operator, who may remove the last admin.
func (s *Store) Delete(ctx context.Context, user string) error {
	return s.remove(ctx, user, operator, "")
}

func (s *Store) setRoles(ctx context.Context, user, names, by string) error {
	generation, err := s.set(ctx, user, "roles", names)
	if err != nil {
		return err
	}
	return s.revoked.append(ctx, auth.Revocation{User: user, Generation: generation, By: by, Reason: "roles changed"})
}
