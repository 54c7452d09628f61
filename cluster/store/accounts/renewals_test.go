package accounts_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// renewing is a cluster of one node with the account bob, and a clock.
type renewing struct {
	*accounts.Renewals
	t        *testing.T
	rdb      redis.UniversalClient
	prefix   string
	accounts *accounts.Store
	revoked  *accounts.Revocations
	now      time.Time
	verifier auth.Verifier
}

func newRenewing(t *testing.T, rdb redis.UniversalClient, prefix string) *renewing {
	t.Helper()
	r := &renewing{t: t, rdb: rdb, prefix: prefix, accounts: newAccounts(t, rdb, prefix, cheap), now: time.Now()}
	r.revoked = newRevocations(t, rdb, prefix)
	if err := r.accounts.Add(t.Context(), "bob", password, []wire.Role{wire.RoleParticipant}, false); err != nil {
		t.Fatal(err)
	}
	tokens := r.tokens(secret, "conclave")
	r.verifier, r.Renewals = auth.Guard(tokens, r.revoked), r.with(tokens)
	return r
}

func (r *renewing) tokens(secret []byte, audience string, options ...auth.Option) *auth.HS256 {
	r.t.Helper()
	h, err := auth.NewHS256(secret, "", audience, append(options, auth.WithClock(func() time.Time { return r.now }))...)
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *renewing) with(tokens *auth.HS256) *accounts.Renewals {
	r.t.Helper()
	renewals, err := accounts.NewRenewals(accounts.RenewalsConfig{
		Redis: r.rdb, Prefix: r.prefix, Tokens: tokens, Accounts: r.accounts, Revoked: r.revoked, TokenTTL: time.Hour,
		Idle: 10 * 24 * time.Hour, Longest: 25 * 24 * time.Hour,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return renewals
}

// login begins a login.
func (r *renewing) login() auth.Renewed {
	r.t.Helper()
	account, err := r.accounts.Authenticate(r.t.Context(), "bob", password, auth.Turn{})
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := r.Begin(r.t.Context(), account, "a test")
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// renew renews, which must succeed.
func (r *renewing) renew(refresh, attempt string) auth.Renewed {
	r.t.Helper()
	out, err := r.Renew(r.t.Context(), refresh, attempt)
	if err != nil {
		r.t.Fatalf("renew: %v", err)
	}
	if c, err := r.verifier.Verify(r.t.Context(), out.Token); err != nil || c.Subject != "bob" || !c.Has(wire.RoleParticipant) {
		r.t.Fatalf("its token: %+v, %v", c, err)
	}
	return out
}

// refused renews, which must fail with that code and a text ending in says.
func (r *renewing) refused(refresh, attempt string, code wire.Code, says string) {
	r.t.Helper()
	_, err := r.Renew(r.t.Context(), refresh, attempt)
	if err == nil || wire.AsError(err).Code != code || !strings.Contains(err.Error(), says) {
		r.t.Fatalf("renew: got %v, want %s: %s", err, code, says)
	}
}

// heard waits until the node has read the revocations.
func (r *renewing) heard() {
	r.t.Helper()
	if err := r.revoked.Load(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func eachRenewing(t *testing.T, do func(t *testing.T, r *renewing)) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) { do(t, newRenewing(t, rdb, prefix)) })
}

// TestRenewals: a login lasts as long as it is renewed, up to its maximum.
func TestRenewals(t *testing.T) {
	eachRenewing(t, func(t *testing.T, r *renewing) {
		first := r.login()
		if c, err := r.verifier.Verify(t.Context(), first.Token); err != nil || !strings.HasPrefix(c.ID, first.Login+".") {
			t.Fatalf("token of the login: %+v, %v", c, err)
		}
		now := first
		for day := 1; day <= 24; day += 8 {
			r.now = r.now.Add(8 * 24 * time.Hour)
			now = r.renew(now.Refresh, fmt.Sprint(day))
		}
		if want := first.Claims.IssuedAt.Add(25 * 24 * time.Hour); now.Until.After(want.Add(time.Second)) {
			t.Errorf("it can be renewed until %s, want %s", now.Until, want)
		}
		away := r.now
		r.now = time.Now() // Redis's
		list, err := r.List(t.Context(), "bob")
		r.now = away
		if err != nil || len(list) != 1 || list[0].ID != first.Login || list[0].Label != "a test" || list[0].Count != 3 {
			t.Errorf("list: %+v, %v", list, err)
		}
		r.now = r.now.Add(2 * 24 * time.Hour)
		r.refused(now.Refresh, "x", wire.CodeTokenExpired, "not been renewed in time")
		idle := r.login()
		r.now = r.now.Add(11 * 24 * time.Hour)
		r.refused(idle.Refresh, "x", wire.CodeTokenExpired, "not been renewed in time")
	})
}

// TestRenewalAnswerLost: a repeated attempt gets the same answer, at any time,
// until the next token has been used; after that it changes nothing.
func TestRenewalAnswerLost(t *testing.T) {
	eachRenewing(t, func(t *testing.T, r *renewing) {
		first := r.login()
		lost := r.renew(first.Refresh, "attempt-1")
		r.now = r.now.Add(5 * 24 * time.Hour) // the client was switched off meanwhile
		r.renew(first.Refresh, "attempt-1")
		second := r.renew(first.Refresh, "attempt-1")
		third := r.renew(second.Refresh, "attempt-2")
		r.refused(lost.Refresh, "attempt-x", wire.CodeUnauthenticated, "used twice") // it is the same as second
		r.heard()
		r.refused(third.Refresh, "attempt-3", wire.CodeUnauthenticated, "has been ended")

		first = r.login()
		second = r.renew(first.Refresh, "attempt-1")
		third = r.renew(second.Refresh, "attempt-2")
		r.refused(first.Refresh, "attempt-1", wire.CodeConflict, "by another request") // delayed by a hung node
		r.renew(third.Refresh, "attempt-3")
	})
}

// TestRenewalWithoutAttempt: once within a minute.
func TestRenewalWithoutAttempt(t *testing.T) {
	eachRenewing(t, func(t *testing.T, r *renewing) {
		first := r.login()
		r.renew(first.Refresh, "")
		again := r.renew(first.Refresh, "")
		r.renew(again.Refresh, "")

		first = r.login()
		r.renew(first.Refresh, "")
		r.renew(first.Refresh, "")
		r.refused(first.Refresh, "", wire.CodeUnauthenticated, "used twice")
	})
}

// TestRefreshTokenReused: two holders of one token are detected, whichever uses it
// first, and both lose the login.
func TestRefreshTokenReused(t *testing.T) {
	eachRenewing(t, func(t *testing.T, r *renewing) {
		first := r.login()
		thief := r.renew(first.Refresh, "thief")
		r.refused(first.Refresh, "owner", wire.CodeUnauthenticated, "used twice")
		r.heard()
		r.refused(thief.Refresh, "thief-again", wire.CodeUnauthenticated, "has been ended")
		for _, token := range []string{first.Token, thief.Token} {
			if _, err := r.verifier.Verify(t.Context(), token); err == nil || wire.AsError(err) != auth.ErrRevoked {
				t.Errorf("a token of the login: %v, want revoked", err)
			}
		}
		if list, err := r.List(t.Context(), "bob"); err != nil || len(list) != 0 {
			t.Errorf("list: %+v, %v", list, err)
		}
	})
}

// TestRenewalEnds: everything that ends tokens ends their renewal.
func TestRenewalEnds(t *testing.T) {
	eachRenewing(t, func(t *testing.T, r *renewing) {
		ctx := t.Context()
		for name, end := range map[string]func(auth.Renewed) error{
			"password changed": func(auth.Renewed) error { return r.accounts.SetPassword(ctx, "bob", password) },
			"account disabled": func(auth.Renewed) error { return r.accounts.SetDisabled(ctx, "bob", true) },
			"roles replaced": func(auth.Renewed) error {
				return r.accounts.Add(ctx, "bob", password, []wire.Role{wire.RoleParticipant}, true)
			},
			"user's tokens revoked": func(auth.Renewed) error { return r.accounts.Revoke(ctx, admin, "", "bob", "") },
			"its token revoked":     func(l auth.Renewed) error { return r.accounts.Revoke(ctx, admin, l.Claims.ID, "", "") },
			"login revoked":         func(l auth.Renewed) error { return r.accounts.Revoke(ctx, admin, l.Login, "", "") },
			"logged out":            func(l auth.Renewed) error { return r.EndToken(ctx, l.Claims) },
			"logged out by refresh": func(l auth.Renewed) error { _, err := r.End(ctx, l.Refresh); return err },
		} {
			login := r.renew(r.login().Refresh, "a")
			if err := end(login); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			r.heard()
			if _, err := r.Renew(ctx, login.Refresh, "b"); err == nil || wire.AsError(err).Code != wire.CodeUnauthenticated {
				t.Errorf("%s: got %v, want a refusal", name, err)
			}
			if _, err := r.verifier.Verify(ctx, login.Token); wire.AsError(err) != auth.ErrRevoked {
				t.Errorf("%s: its token: %v, want revoked", name, err)
			}
			if err := r.accounts.SetDisabled(ctx, "bob", false); err != nil {
				t.Fatal(err)
			}
			r.heard()
		}
	})
}

// TestRenewalRedisForgets: a Redis that has lost its newest writes, or the whole
// login, locks no user out, and reuse is still detected.
func TestRenewalRedisForgets(t *testing.T) {
	eachRenewing(t, func(t *testing.T, r *renewing) {
		ctx := context.Background()
		key := r.prefix + "logins:{bob}"
		first := r.login()
		backup := r.rdb.HGetAll(ctx, key).Val()
		second := r.renew(first.Refresh, "1")
		third := r.renew(second.Refresh, "2")
		if len(backup) != 1 {
			t.Fatalf("logins of bob: %v", backup)
		}
		if err := r.rdb.HSet(ctx, key, backup).Err(); err != nil {
			t.Fatal(err)
		}
		fourth := r.renew(third.Refresh, "3")
		if err := r.rdb.Del(ctx, key).Err(); err != nil {
			t.Fatal(err)
		}
		fifth := r.renew(fourth.Refresh, "4")
		r.renew(fifth.Refresh, "5")
		r.refused(second.Refresh, "thief", wire.CodeUnauthenticated, "used twice")
		for _, value := range r.rdb.HGetAll(ctx, key).Val() {
			for _, token := range []string{first.Refresh, fifth.Refresh} {
				if strings.Contains(value, token[len(token)-20:]) {
					t.Errorf("Redis holds a refresh token: %s", value)
				}
			}
		}
	})
}

// TestRefreshTokensOfOthers: only this cluster's are valid, under a valid secret.
func TestRefreshTokensOfOthers(t *testing.T) {
	eachRenewing(t, func(t *testing.T, r *renewing) {
		login := r.login()
		other := []byte("another secret, which has 32 bytes too")
		good := login.Refresh
		r.Renewals = r.with(r.tokens(other, "conclave"))
		r.refused(good, "", wire.CodeUnauthenticated, "not valid")
		r.Renewals = r.with(r.tokens(secret, "staging"))
		r.refused(good, "", wire.CodeUnauthenticated, "not valid")
		r.Renewals = r.with(r.tokens(other, "conclave", auth.WithPrevious(secret)))
		tokens := r.tokens(other, "conclave")
		r.verifier = tokens
		good = r.renew(good, "1").Refresh // by the previous secret, for one by the new
		r.Renewals = r.with(tokens)
		r.renew(good, "2")
		for _, bad := range []string{"", "cr1.", "cr1..", good + "x", good[:len(good)-2], "cr1" + good[4:], login.Token, "cr1.e30." + good[len(good)-43:]} {
			r.refused(bad, "", wire.CodeUnauthenticated, "not valid")
		}
		if _, err := r.verifier.Verify(t.Context(), good); err == nil {
			t.Error("a refresh token is taken for a token")
		}
		r.refused(good, "not ASCII: ü", wire.CodeBadRequest, "attempt")
	})
}

// TestLoginsAreBounded: of too many logins the least recently renewed is no longer
// listed, but remains valid.
func TestLoginsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, redistest.Mini(t), "")
	account, err := r.accounts.Authenticate(t.Context(), "bob", password, auth.Turn{})
	if err != nil {
		t.Fatal(err)
	}
	first := r.login()
	for range 300 {
		if _, err := r.Begin(t.Context(), account, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.rdb.HLen(t.Context(), "conclave:logins:{bob}").Val(); n != 256 {
		t.Errorf("%d logins are noted, want 256", n)
	}
	r.renew(first.Refresh, "1")
	if _, err := r.Begin(t.Context(), account, strings.Repeat("x", 65)); err == nil || wire.AsError(err).Code != wire.CodeBadRequest {
		t.Errorf("a long label: %v", err)
	}
}

// TestLogoutsAreBounded: one account's revocations on all nodes are limited.
func TestLogoutsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, redistest.Mini(t), "")
	account, err := r.accounts.Authenticate(t.Context(), "bob", password, auth.Turn{})
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		login, err := r.Begin(t.Context(), account, "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.End(t.Context(), login.Refresh)
		if err != nil && wire.AsError(err).Code != wire.CodeRateLimited {
			t.Fatal(err)
		}
	}
	if n := r.rdb.XLen(t.Context(), "conclave:revoked").Val(); n != 20 {
		t.Errorf("%d revocations, want 20", n)
	}
}

// TestRenewalEndsAtOnce: also at a node that has not read it.
func TestRenewalEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, redistest.Mini(t), "")
	login := r.login()
	if err := r.accounts.SetPassword(t.Context(), "bob", password); err != nil {
		t.Fatal(err)
	}
	r.refused(login.Refresh, "1", wire.CodeUnauthenticated, "has been ended")
}
