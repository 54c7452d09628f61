package accounts_test

import (
	"context"
	"fmt"
	"strings"
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

// admin may revoke.
var admin = auth.Claims{Subject: "root", Roles: []wire.Role{wire.RoleAdmin}}

// newRevocations is a node's list, loaded.
func newRevocations(t testing.TB, rdb redis.UniversalClient, prefix string, change ...func(*accounts.RevocationsConfig)) *accounts.Revocations {
	t.Helper()
	cfg := accounts.RevocationsConfig{Redis: rdb, Prefix: prefix, StaleAfter: patience}
	for _, f := range change {
		f(&cfg)
	}
	r, err := accounts.NewRevocations(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRevocations revokes on one node and checks on another, which verified every
// token before, and on a third that starts later.
func TestRevocations(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx := t.Context()
		accounts := newAccounts(t, rdb, prefix, cheap)
		tokens, err := auth.NewHS256(secret, "", "")
		if err != nil {
			t.Fatal(err)
		}
		here := newRevocations(t, rdb, prefix)
		node := auth.Guard(tokens, here)
		login := func(user string) (string, auth.Claims) {
			t.Helper()
			a, err := accounts.Authenticate(ctx, user, password, auth.Turn{})
			if err != nil {
				t.Fatal(err)
			}
			token, c, err := tokens.IssueFor(a, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := node.Verify(ctx, token); err != nil {
				t.Fatalf("a fresh token of %s: %v", user, err)
			}
			return token, c
		}
		for _, user := range []string{"alice", "bob", "carol"} {
			if err := accounts.Add(ctx, user, password, []wire.Role{wire.RoleParticipant}, false); err != nil {
				t.Fatal(err)
			}
		}
		one, oneClaims := login("alice")
		two, _ := login("alice")
		bobs, _ := login("bob")
		carols, _ := login("carol")
		seconds := time.Now().Unix()
		foreign := raw(secret, hsHeader, fmt.Sprintf(`{"sub":"alice","iat":%d,"exp":%d}`, seconds, seconds+60))
		undated := raw(secret, hsHeader, fmt.Sprintf(`{"sub":"alice","exp":%d}`, seconds+60))
		later := raw(secret, hsHeader, fmt.Sprintf(`{"sub":"alice","iat":%d,"exp":%d}`, seconds+9, seconds+60))
		want := func(when string, good map[string]bool) {
			t.Helper()
			if err := here.Load(ctx); err != nil {
				t.Fatal(err)
			}
			late := auth.Guard(tokens, newRevocations(t, rdb, prefix))
			for token, ok := range good {
				for name, v := range map[string]auth.Verifier{"a node": node, "a node that starts now": late} {
					c, err := v.Verify(ctx, token)
					if ok && err != nil || !ok && (wire.AsError(err) != auth.ErrRevoked || c.Subject != "") {
						t.Errorf("%s, %s: token %d gives %+v, %v", when, name, strings.Count(token, ""), c, err)
					}
				}
			}
		}
		want("before", map[string]bool{one: true, two: true, bobs: true, carols: true, foreign: true, undated: true, later: true})
		if err := accounts.Revoke(ctx, admin, oneClaims.ID, "", "laptop lost"); err != nil {
			t.Fatal(err)
		}
		want("one token revoked", map[string]bool{one: false, two: true, bobs: true, foreign: true, undated: true})
		if err := accounts.Revoke(ctx, admin, "", "alice", "left"); err != nil {
			t.Fatal(err)
		}
		// Another issuer's clock may be ahead: tokens dated a little later end too.
		want("all of alice's revoked", map[string]bool{one: false, two: false, bobs: true, foreign: false, undated: false, later: false})
		three, _ := login("alice")
		want("logged in again in the same second", map[string]bool{three: true, two: false})

		if err := accounts.SetPassword(ctx, "alice", password); err != nil {
			t.Fatal(err)
		}
		want("password changed", map[string]bool{three: false, bobs: true})
		if err := accounts.Add(ctx, "bob", password, []wire.Role{wire.RoleCoordinator}, true); err != nil {
			t.Fatal(err)
		}
		want("roles replaced", map[string]bool{bobs: false, carols: true})

		// Disabled, a user is barred with any issuer's token, however late.
		if err := accounts.SetDisabled(ctx, "carol", true); err != nil {
			t.Fatal(err)
		}
		muchLater := raw(secret, hsHeader, fmt.Sprintf(`{"sub":"carol","iat":%d,"exp":%d,"gen":99}`, seconds+9, seconds+60))
		want("carol disabled", map[string]bool{carols: false, muchLater: false})
		if err := accounts.SetDisabled(ctx, "carol", false); err != nil {
			t.Fatal(err)
		}
		again, _ := func() (string, error) { err := here.Load(ctx); s, _ := login("carol"); return s, err }()
		want("carol enabled", map[string]bool{carols: false, muchLater: true, again: true})

		// The operator's view.
		entries, err := rdb.XRange(ctx, prefix+"revoked", "-", "+").Result()
		if err != nil || len(entries) != 6 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		for field, value := range map[string]string{"token": oneClaims.ID, "by": "root", "reason": "laptop lost"} {
			if entries[0].Values[field] != value {
				t.Errorf("entry %v, want %s %s", entries[0].Values, field, value)
			}
		}
		if v := entries[1].Values; v["user"] != "alice" || v["generation"] != "2" || v["token"] != nil {
			t.Errorf("entry %v", v)
		}
		if ttl := rdb.PTTL(ctx, prefix+"revoked").Val(); ttl < auth.MaxTTL-time.Hour || ttl > auth.MaxTTL {
			t.Errorf("kept for %s", ttl)
		}
	})
}

// TestRevocationsReach: a node learns of a revocation by itself, is notified once,
// and closes the affected sockets within a second.
func TestRevocationsReach(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		var changes atomic.Int64
		there := newRevocations(t, rdb, prefix)
		here := newRevocations(t, rdb, prefix, func(cfg *accounts.RevocationsConfig) { cfg.Changed = func() { changes.Add(1) } })
		ctx, cancel := contextThatEnds(t)
		var wg sync.WaitGroup
		wg.Go(func() { _ = here.Run(ctx) })
		for n := range 3 {
			jti := fmt.Sprint("t-", n)
			begin := time.Now()
			if err := there.RevokeToken(ctx, jti, "root", ""); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the other node knows", func() bool { return here.Check(auth.Claims{ID: jti}) == auth.ErrRevoked })
			t.Logf("known after %s", time.Since(begin))
			eventually(t, "it was told", func() bool { return changes.Load() == int64(n+1) })
		}
		// Repeating it is no news.
		if err := there.RevokeToken(ctx, "t-0", "root", ""); err != nil {
			t.Fatal(err)
		}
		if err := there.RevokeToken(ctx, "last", "root", ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the last is known", func() bool { return here.Check(auth.Claims{ID: "last"}) == auth.ErrRevoked })
		cancel()
		wg.Wait()
		if n := changes.Load(); n > 4 {
			t.Errorf("told %d times of 4 things", n)
		}
	})
}

// TestRevocationsOutliveRedis: a node keeps entries it has read when Redis loses
// them, and sees new ones even with lower ids.
func TestRevocationsOutliveRedis(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx, key := t.Context(), prefix+"revoked"
		r := newRevocations(t, rdb, prefix)
		revoked := func(jti string) bool { return r.Check(auth.Claims{ID: jti}) == auth.ErrRevoked }
		now := time.Now().UnixMilli()
		add := func(ms int64, jti string) {
			t.Helper()
			if err := rdb.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: fmt.Sprintf("%d-0", ms), Values: []string{"token", jti}}).Err(); err != nil {
				t.Fatal(err)
			}
			if err := r.Load(ctx); err != nil {
				t.Fatal(err)
			}
		}
		add(now-20, "a")
		add(now-10, "b")
		// A master that has lost the newest entry gives its next one a lower id.
		if err := rdb.Del(ctx, key).Err(); err != nil {
			t.Fatal(err)
		}
		add(now-20, "a")
		add(now-15, "c")
		// And new entries may lie on both sides of the lost one.
		add(now-5, "last")
		if err := rdb.Del(ctx, key).Err(); err != nil {
			t.Fatal(err)
		}
		if err := rdb.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: fmt.Sprintf("%d-0", now-8), Values: []string{"token", "x"}}).Err(); err != nil {
			t.Fatal(err)
		}
		add(now-3, "y")
		for _, jti := range []string{"a", "b", "c", "x", "y"} {
			if !revoked(jti) {
				t.Errorf("%s is good again", jti)
			}
		}
		if err := rdb.Del(ctx, key).Err(); err != nil {
			t.Fatal(err)
		}
		if err := r.Load(ctx); err != nil || !revoked("c") {
			t.Errorf("after all is gone: %v, %v", revoked("c"), err)
		}
		add(now-30, "d")
		if !revoked("d") {
			t.Error("d is not known")
		}
		// Invalid entries do no harm, and hide nothing.
		for _, values := range [][]string{{"x", "y"}, {"token", ""}, {"user", "eve", "generation", "many"}} {
			if err := rdb.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: values}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.RevokeToken(ctx, "e", "root", ""); err != nil {
			t.Fatal(err)
		}
		if err := r.Load(ctx); err != nil || !revoked("e") {
			t.Errorf("e: %v, %v", revoked("e"), err)
		}
		if r.Check(auth.Claims{Subject: "eve", IssuedAt: time.Now()}) != auth.ErrRevoked {
			t.Error("a generation that cannot be read lets a token through")
		}
	})
}

// TestManyRevocations reads more than one page, at once and in steps, and drops
// entries that no token outlives.
func TestManyRevocations(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx, key := t.Context(), prefix+"revoked"
		early := newRevocations(t, rdb, prefix)
		const n = 2500
		begin := time.Now().UnixMilli()
		pipe := rdb.Pipeline()
		old := time.Now().Add(-auth.MaxTTL - time.Minute).UnixMilli()
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: fmt.Sprintf("%d-0", old), Values: []string{"token", "old"}})
		for i := range n {
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: fmt.Sprintf("%d-%d", begin, i+1), Values: []string{"token", fmt.Sprint("t-", i)}})
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if err := early.Load(ctx); err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]*accounts.Revocations{"a node from before": early, "a node from after": newRevocations(t, rdb, prefix)} {
			for i := range n {
				if r.Check(auth.Claims{ID: fmt.Sprint("t-", i)}) != auth.ErrRevoked {
					t.Fatalf("%s does not know the %dth", name, i)
				}
			}
			if err := r.Check(auth.Claims{ID: "old"}); err != nil {
				t.Errorf("%s remembers what no token outlives: %v", name, err)
			}
		}
		if err := early.RevokeToken(ctx, "last", "root", ""); err != nil {
			t.Fatal(err)
		}
		if got := rdb.XLen(ctx, key).Val(); got != n+1 {
			t.Errorf("%d entries, want %d: the old one is not trimmed", got, n+1)
		}
	})
}

// TestRevocationsWithoutRedis: a node that cannot check accepts no token.
func TestRevocationsWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.StartMini(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	tokens, err := auth.NewHS256(secret, "", "")
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := tokens.Issue("alice", []wire.Role{wire.RoleParticipant}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var stale, told atomic.Int64
	r, err := accounts.NewRevocations(accounts.RevocationsConfig{
		Redis: rdb, Every: time.Millisecond, StaleAfter: 100 * time.Millisecond,
		Stale: func() { stale.Add(1) }, Report: func(error) { told.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	v := auth.Guard(tokens, r)
	code := func() wire.Code { _, err := v.Verify(context.Background(), token); return codeOf(err) }
	if got := code(); got != wire.CodeUnavailable {
		t.Errorf("before anything is known: %q", got)
	}
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextThatEnds(t)
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	eventually(t, "tokens are taken", func() bool { return code() == "" })
	server.Close()
	eventually(t, "no token is taken", func() bool { return code() == wire.CodeUnavailable })
	eventually(t, "the node is told", func() bool { return stale.Load() > 0 && told.Load() > 0 })
	if r.Ready() == nil {
		t.Error("ready")
	}
	if err := r.RevokeToken(t.Context(), "x", "root", ""); codeOf(err) != wire.CodeUnavailable {
		t.Errorf("revoked without Redis: %v", err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "tokens are taken again", func() bool { return code() == "" })
	cancel()
	wg.Wait()
}

func TestRevokeRefuses(t *testing.T) {
	t.Parallel()
	ctx, rdb := t.Context(), redistest.Mini(t)
	a := newAccounts(t, rdb, "", cheap)
	long := strings.Repeat("x", 1000)
	user := auth.Claims{Subject: "alice", Roles: []wire.Role{wire.RoleCoordinator, wire.RoleParticipant}}
	for _, tt := range []struct {
		name              string
		by                auth.Claims
		jti, user, reason string
		want              wire.Code
	}{
		{"who is no admin", user, "t", "", "", wire.CodeForbidden},
		{"who is no admin, of oneself", user, "", "alice", "", wire.CodeForbidden},
		{"nobody", auth.Claims{}, "t", "", "", wire.CodeForbidden},
		{"nothing", admin, "", "", "", wire.CodeBadRequest},
		{"both", admin, "t", "alice", "", wire.CodeBadRequest},
		{"a long jti", admin, long, "", "", wire.CodeBadRequest},
		{"a jti with a line break", admin, "a\nb", "", "", wire.CodeBadRequest},
		{"a jti not UTF-8", admin, "\xff", "", "", wire.CodeBadRequest},
		{"a user with braces", admin, "", "{a}", "", wire.CodeBadRequest},
		{"a long reason", admin, "t", "", long, wire.CodeBadRequest},
		{"a reason with an escape", admin, "t", "", "\x1b[2J", wire.CodeBadRequest},
	} {
		if err := a.Revoke(ctx, tt.by, tt.jti, tt.user, tt.reason); codeOf(err) != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	if keys := rdb.Keys(ctx, "*").Val(); len(keys) != 0 {
		t.Errorf("what was refused left %v", keys)
	}
	if _, err := accounts.NewRevocations(accounts.RevocationsConfig{}); err == nil {
		t.Error("revocations without redis")
	}
}
