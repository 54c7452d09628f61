package accounts_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// staff holds accounts on an adjustable clock, and an admin of them.
type staff struct {
	*testing.T
	*accounts.Store
	ctx     context.Context
	ahead   atomic.Int64 // seconds the clock was advanced
	revoked *accounts.Revocations
}

func eachStaff(t *testing.T, test func(s *staff)) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		s := &staff{T: t, ctx: t.Context()}
		var err error
		if s.revoked, err = accounts.NewRevocations(accounts.RevocationsConfig{Redis: rdb, Prefix: prefix}); err != nil {
			t.Fatal(err)
		}
		now := func() time.Time { return epoch.Add(time.Duration(s.ahead.Load()) * time.Second) }
		if s.Store, err = accounts.New(accounts.Config{Redis: rdb, Prefix: prefix, Cost: cheap, Revocations: s.revoked, Now: now}); err != nil {
			t.Fatal(err)
		}
		test(s)
	})
}

func (s *staff) add(user string, roles ...wire.Role) {
	s.Helper()
	s.ok(s.Add(s.ctx, user, password, roles, false))
}

func (s *staff) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// is compares codes; "" means no error.
func (s *staff) is(what string, err error, want wire.Code) {
	s.Helper()
	got := wire.Code("")
	if err != nil {
		got = codeOf(err)
	}
	if got != want {
		s.Errorf("%s: %v, want %q", what, err, want)
	}
}

func (s *staff) login(user, password string) (auth.Account, error) {
	return s.Authenticate(s.ctx, user, password, auth.Turn{})
}

// claims returns those of a login of the account now.
func (s *staff) claims(user string) auth.Claims {
	s.Helper()
	known, err := s.Get(s.ctx, user)
	s.ok(err)
	return auth.Claims{Subject: user, Roles: known.Roles, Generation: known.Generation, IssuedAt: epoch, ExpiresAt: epoch.Add(time.Hour)}
}

// good reports whether the nodes accept a token.
func (s *staff) good(c auth.Claims) bool {
	s.Helper()
	s.ok(s.revoked.Load(s.ctx))
	return s.revoked.Check(c) == nil
}

// root holds the claims of an admin without an account here.
var root = auth.Claims{Subject: "root", Roles: []wire.Role{wire.RoleAdmin}}

// TestOneTimePassword: a generated password is valid for one login, however many
// are concurrent, and expires after three days.
func TestOneTimePassword(t *testing.T) {
	eachStaff(t, func(s *staff) {
		made, err := s.Create(s.ctx, root, "bob", "", []wire.Role{wire.RoleParticipant})
		s.ok(err)
		if len(made) < 20 {
			s.Fatalf("made %q", made)
		}
		_, err = s.login("bob", "wrong password")
		s.is("a wrong password", err, wire.CodeUnauthenticated) // which does not use it up
		var good atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if known, err := s.login("bob", made); err == nil && known.User == "bob" {
					good.Add(1)
				}
			})
		}
		all.Wait()
		if good.Load() != 1 {
			s.Errorf("%d logins with it, want 1", good.Load())
		}
		for _, word := range []string{made, "!", ""} {
			_, err = s.login("bob", word)
			s.is("after that, with "+word, err, wire.CodeUnauthenticated)
		}
		known, err := s.Account(s.ctx, root, "bob")
		if err != nil || !known.Spent || !known.LogsIn || !known.Once.IsZero() {
			s.Errorf("then %+v, %v", known, err)
		}

		made, err = s.ChangePassword(s.ctx, root, "bob", "")
		s.ok(err)
		s.ahead.Add(int64(auth.OneTimeFor / time.Second))
		_, err = s.login("bob", made)
		s.is("after three days", err, wire.CodeUnauthenticated)

		for name, set := range map[string]func() error{
			"another":        func() error { _, err := s.ChangePassword(s.ctx, root, "bob", password); return err },
			"the operator's": func() error { return s.SetPassword(s.ctx, "bob", password) },
			"a replacement":  func() error { return s.Add(s.ctx, "bob", password, []wire.Role{wire.RoleParticipant}, true) },
		} {
			if _, err := s.ChangePassword(s.ctx, root, "bob", ""); err != nil {
				s.Fatal(err)
			}
			s.ok(set())
			for range 2 {
				_, err = s.login("bob", password)
				s.is("with "+name, err, "")
			}
		}
	})
}

// TestRemovedAccount: a removed account's tokens and logins are no longer valid,
// even when there is another of its name, whose tokens are.
func TestRemovedAccount(t *testing.T) {
	eachStaff(t, func(s *staff) {
		s.add("bob", wire.RoleParticipant)
		s.ok(s.SetIdentity(s.ctx, "bob", "id-1"))
		for range 3 {
			s.ok(s.RevokeTokens(s.ctx, "bob", "root", ""))
		}
		old := s.claims("bob")
		foreign := auth.Claims{Subject: "bob", IssuedAt: epoch} // of another issuer
		if !s.good(old) || old.Generation != 4 {
			s.Fatal("its token is not good")
		}
		s.ok(s.Bar(s.ctx, root, "bob", true, ""))
		s.ok(s.Remove(s.ctx, root, "bob", "left"))
		if s.good(old) || s.good(foreign) {
			s.Error("a removed account's token is good")
		}
		_, err := s.login("bob", password)
		s.is("login", err, wire.CodeUnauthenticated)
		_, err = s.Get(s.ctx, "bob")
		s.is("get", err, wire.CodeNotFound)
		if known, err := s.Exist(s.ctx, "bob"); err != nil || known["bob"] {
			s.Errorf("it is known: %v, %v", known, err)
		}
		if all, err := s.List(s.ctx); err != nil || len(all) != 0 {
			s.Errorf("it is listed: %v, %v", all, err)
		}
		for what, err := range map[string]error{
			"removed again": s.Remove(s.ctx, root, "bob", ""), "enabled": s.Bar(s.ctx, root, "bob", false, ""), "never there": s.Remove(s.ctx, root, "nobody", ""),
			"roles": s.ChangeRoles(s.ctx, root, "bob", []wire.Role{wire.RoleAdmin}), "no name": s.Remove(s.ctx, root, "{bob}", ""),
			"password": func() error { _, err := s.ChangePassword(s.ctx, root, "bob", password); return err }(),
		} {
			s.is(what, err, wire.CodeNotFound)
		}
		s.add("bob", wire.RoleCoordinator)
		again := s.claims("bob")
		if s.good(old) || !s.good(again) || again.Generation <= old.Generation {
			s.Errorf("its old token is of generation %d, the new account's of %d: good %v and %v", old.Generation, again.Generation, s.good(old), s.good(again))
		}
		if known, err := s.Get(s.ctx, "bob"); err != nil || known.Identity != "" || known.Disabled {
			s.Errorf("the new account is %+v, %v", known, err)
		}
	})
}

// TestLastAdmin: no admin who can log in can remove the last one, alone or
// concurrently with another.
func TestLastAdmin(t *testing.T) {
	eachStaff(t, func(s *staff) {
		admin, participant := []wire.Role{wire.RoleAdmin}, []wire.Role{wire.RoleParticipant}
		s.add("ann", admin...)
		s.add("bob", participant...)
		s.add("barred", admin...)
		s.ok(s.SetDisabled(s.ctx, "barred", true))
		_, err := s.Create(s.ctx, root, "late", "", admin)
		s.ok(err)
		s.ahead.Add(int64(auth.OneTimeFor / time.Second)) // too late for any login
		_, err = s.Create(s.ctx, root, "spent", "", admin)
		s.ok(err)
		ann := s.claims("ann")
		spend, err := s.ChangePassword(s.ctx, ann, "spent", "")
		s.ok(err)
		_, err = s.login("spent", spend)
		s.ok(err)
		for what, err := range map[string]error{
			"remove": s.Remove(s.ctx, ann, "ann", ""), "disable": s.Bar(s.ctx, ann, "ann", true, ""), "roles": s.ChangeRoles(s.ctx, ann, "ann", participant),
		} {
			s.is(what, err, wire.CodeConflict)
		}
		s.ok(s.Bar(s.ctx, ann, "ann", false, ""))
		ann = s.claims("ann")
		s.ok(s.Remove(s.ctx, ann, "bob", ""))
		for i := range 4 {
			other := fmt.Sprint("other-", i)
			s.add(other, admin...)
			left, both := s.claims("ann"), sync.WaitGroup{}
			right := s.claims(other)
			var errs [2]error
			both.Go(func() { errs[0] = s.Remove(s.ctx, left, other, "") })
			both.Go(func() { errs[1] = s.Bar(s.ctx, right, "ann", true, "") })
			both.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				s.Errorf("two admins took each other away: %v, %v", errs[0], errs[1])
			}
			for _, err := range errs {
				if err != nil {
					s.is("the one who came late", err, wire.CodeUnauthenticated)
				}
			}
			if errs[1] == nil { // ann is disabled
				s.ok(s.SetDisabled(s.ctx, "ann", false))
				s.ok(s.Delete(s.ctx, other))
			}
		}
		s.add("other", admin...)
		s.ok(s.Remove(s.ctx, s.claims("ann"), "ann", ""))
		s.is("the last one", s.Remove(s.ctx, s.claims("other"), "other", ""), wire.CodeConflict)
	})
}

// TestOnlyAdmins: users without the role admin change and see no account.
func TestOnlyAdmins(t *testing.T) {
	eachStaff(t, func(s *staff) {
		s.add("bob", wire.RoleParticipant)
		for _, by := range []auth.Claims{{}, {Subject: "bob", Roles: []wire.Role{wire.RoleCoordinator, wire.RoleParticipant}}} {
			_, page := func() (int, error) { l, _, err := s.Page(s.ctx, by, auth.AccountFilter{}, "", 9); return len(l), err }()
			_, account := s.Account(s.ctx, by, "bob")
			_, create := s.Create(s.ctx, by, "eve", "", []wire.Role{wire.RoleAdmin})
			_, word := s.ChangePassword(s.ctx, by, "bob", "")
			for what, err := range map[string]error{
				"page": page, "account": account, "create": create, "password": word, "roles": s.ChangeRoles(s.ctx, by, "bob", []wire.Role{wire.RoleAdmin}),
				"disable": s.Bar(s.ctx, by, "bob", true, ""), "enable": s.Bar(s.ctx, by, "bob", false, ""), "remove": s.Remove(s.ctx, by, "bob", ""),
			} {
				s.is(what, err, wire.CodeForbidden)
			}
		}
		if all, err := s.List(s.ctx); err != nil || len(all) != 1 {
			s.Errorf("accounts %v, %v", all, err)
		}
	})
}

// TestAccountPages: each account is on one page, in order, and filters apply.
func TestAccountPages(t *testing.T) {
	eachStaff(t, func(s *staff) {
		var want []string
		for i := range 7 {
			user, role := fmt.Sprintf("u%d", i), wire.RoleParticipant
			if i%3 == 0 {
				role = wire.RoleCoordinator
			}
			s.add(user, role)
			want = append(want, user)
		}
		s.add("u1-b", wire.RoleAdmin)
		s.ok(s.SetIdentity(s.ctx, "u3-elsewhere", "id"))
		s.ok(s.SetDisabled(s.ctx, "u4", true))
		want = slices.Insert(want, 2, "u1-b")
		list := func(f auth.AccountFilter, limit int) (users []string) {
			s.Helper()
			for after, more := "", true; more; {
				var page []auth.Account
				var err error
				page, more, err = s.Page(s.ctx, root, f, after, limit)
				s.ok(err)
				if len(page) > limit || more && len(page) < limit {
					s.Fatalf("a page of %d, more: %v", len(page), more)
				}
				for _, known := range page {
					users = append(users, known.User)
					after = known.User
				}
			}
			return users
		}
		yes, no := true, false
		for _, tc := range []struct {
			f    auth.AccountFilter
			want []string
		}{
			{auth.AccountFilter{}, want},
			{auth.AccountFilter{Prefix: "u1"}, []string{"u1", "u1-b"}},
			{auth.AccountFilter{Role: wire.RoleCoordinator}, []string{"u0", "u3", "u6"}},
			{auth.AccountFilter{Disabled: &yes}, []string{"u4"}},
			{auth.AccountFilter{Disabled: &no, Role: wire.RoleParticipant}, []string{"u1", "u2", "u5"}},
			{auth.AccountFilter{Prefix: "v"}, nil},
		} {
			for _, limit := range []int{1, 3, 100} {
				if got := list(tc.f, limit); !slices.Equal(got, tc.want) {
					s.Errorf("%+v by %d: %v, want %v", tc.f, limit, got, tc.want)
				}
			}
		}
	})
}
