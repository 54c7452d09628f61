package accounts_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var someLimits = accounts.LoginLimits{Pair: 3, Network: 8, Account: 25} // 5 at once

func throttleOn(rdb redis.UniversalClient, prefix string, limits accounts.LoginLimits) *accounts.LoginThrottle {
	return accounts.NewLoginThrottle(accounts.LoginConfig{Redis: rdb, Prefix: prefix, Key: []byte("test-only"), Limits: limits})
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}) }

// let tries to log in, with a wrong password or the right one, and reports whether
// the password was checked.
func let(t *testing.T, l *accounts.LoginThrottle, account string, from auth.LoginFrom, right bool) bool {
	t.Helper()
	try, err := l.Begin(t.Context(), account, from)
	if err != nil {
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != wire.CodeRateLimited || e.RetryAfter <= 0 || !e.Temporary {
			t.Fatalf("got %#v", err)
		}
		return false
	}
	if right {
		try.Succeeded(t.Context())
	} else {
		try.Failed()
	}
	return true
}

// failures counts the tries with a wrong password that are let through.
func failures(t *testing.T, l *accounts.LoginThrottle, tries int, account func(i int) string, from func(i int) netip.Addr) (n int) {
	t.Helper()
	for i := range tries {
		if let(t, l, account(i), auth.LoginFrom{Addr: from(i)}, false) {
			n++
		}
	}
	return n
}

// TestLoginBudgets: guesses at one account, from one address, and from many, are
// bounded, on all nodes together, and never lock the account's owner out.
func TestLoginBudgets(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		l, other := throttleOn(rdb, prefix, someLimits), throttleOn(rdb, prefix, someLimits)
		always := func(name string) func(int) string { return func(int) string { return name } }
		at := func(n int) func(int) netip.Addr { return func(int) netip.Addr { return addr(n) } }
		home, abroad := auth.LoginFrom{Addr: addr(1)}, auth.LoginFrom{Addr: addr(2)}
		for range 20 { // successful logins cost nothing
			if !let(t, l, "alice", home, true) {
				t.Fatal("a login with the right password is refused")
			}
		}
		if n := failures(t, l, 20, always("alice"), at(66)) + failures(t, other, 20, always("alice"), at(66)); n != someLimits.Pair {
			t.Errorf("%d guesses from one address, over two nodes, want %d", n, someLimits.Pair)
		}
		if !let(t, l, "alice", abroad, true) {
			t.Error("guesses from one address keep the owner out at another")
		}
		if !let(t, l, "bob", auth.LoginFrom{Addr: addr(66)}, true) {
			t.Error("guesses at one account keep another's owner out, who has the same address")
		}
		// From many addresses: the rest of the account's burst, and its owner can
		// log in from a known address, also after a mistake.
		most := someLimits.Account / 5
		if n := failures(t, l, 50, always("alice"), func(i int) netip.Addr { return addr(1000 + i) }); n != most-someLimits.Pair {
			t.Errorf("%d guesses from 50 addresses, want %d", n, most-someLimits.Pair)
		}
		if let(t, l, "alice", auth.LoginFrom{Addr: addr(2000)}, true) {
			t.Error("the account's budget is not spent")
		}
		for _, from := range []auth.LoginFrom{home, abroad, {Addr: addr(2000), Token: "an earlier token"}, {Addr: addr(66), Token: "another"}} {
			if !let(t, other, "alice", from, false) || !let(t, l, "alice", from, true) {
				t.Errorf("the owner is kept out from %+v", from)
			}
		}
		if n := failures(t, l, 20, always("alice"), at(1)); n != someLimits.Pair-1 && n != someLimits.Pair {
			t.Errorf("%d guesses from an address that alice has been at, want %d", n, someLimits.Pair)
		}
		// Many accounts from one address, whether or not they exist.
		if n := failures(t, l, 50, func(i int) string { return fmt.Sprint("user ", i) }, at(3)); n != someLimits.Network {
			t.Errorf("%d guesses from one address at 50 accounts, want %d", n, someLimits.Network)
		}
		v6 := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:1:2:%x::1", i)) }
		if n := failures(t, l, 50, func(i int) string { return fmt.Sprint("v6-", i) }, v6); n != someLimits.Network {
			t.Errorf("%d guesses from one /64, want %d", n, someLimits.Network)
		}
		if accounts, networks := l.Refused(); accounts == 0 || networks == 0 {
			t.Errorf("refused %d and %d", accounts, networks)
		}
	})
}

// TestLoginMemory: the stored data is bounded, reveals no address, and expires.
func TestLoginMemory(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		l := throttleOn(rdb, prefix, accounts.LoginLimits{Pair: 3, Network: 1000, Account: 1000})
		for i := range 40 {
			let(t, l, "alice", auth.LoginFrom{Addr: addr(i)}, true)
		}
		known := prefix + "known:{alice}"
		if n := rdb.ZCard(t.Context(), known).Val(); n != 16 {
			t.Errorf("%d addresses of alice are remembered, want 16", n)
		}
		for _, name := range rdb.ZRange(t.Context(), known, 0, -1).Val() {
			if len(name) != 24 {
				t.Errorf("an address is kept as %q", name)
			}
		}
		for i := range 300 {
			let(t, l, "bob", auth.LoginFrom{Addr: addr(i)}, false)
		}
		keys := 0
		for it := rdb.Scan(t.Context(), 0, prefix+"*", 500).Iterator(); it.Next(t.Context()); keys++ {
			if life := rdb.PTTL(t.Context(), it.Val()).Val(); life == -1 || life > 91*24*time.Hour { // -2: it has expired
				t.Errorf("%s lives for %s", it.Val(), life)
			}
		}
		if keys == 0 {
			t.Fatal("nothing is kept")
		}
		// Another secret does not match it, and a new password deletes it.
		a := newAccounts(t, rdb, prefix, cheap)
		if err := a.Add(t.Context(), "alice", password, []wire.Role{wire.RoleCoordinator}, false); err != nil {
			t.Fatal(err)
		}
		if err := a.SetPassword(t.Context(), "alice", password+"!"); err != nil {
			t.Fatal(err)
		}
		if n := rdb.Exists(t.Context(), known).Val(); n != 0 {
			t.Error("addresses are remembered over a change of the password")
		}
	})
}

// TestLoginWithoutRedis: a node whose Redis refuses writes counts by itself.
func TestLoginWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.StartMini(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	for name, l := range map[string]*accounts.LoginThrottle{"closed": throttleOn(rdb, "", someLimits), "none": throttleOn(nil, "", someLimits)} {
		if name == "closed" {
			server.Close()
		}
		n := failures(t, l, 20, func(int) string { return "alice" }, func(int) netip.Addr { return addr(1) })
		if n != someLimits.Pair {
			t.Errorf("%s: %d guesses, want %d", name, n, someLimits.Pair)
		}
		if !let(t, l, "alice", auth.LoginFrom{Addr: addr(2)}, true) {
			t.Errorf("%s: the owner is kept out", name)
		}
	}
	var unlimited *accounts.LoginThrottle
	if unlimited != throttleOn(nil, "", accounts.LoginLimits{Pair: -1}) {
		t.Error("no limit is one")
	}
	if n := failures(t, unlimited, 100, func(int) string { return "alice" }, func(int) netip.Addr { return addr(1) }); n != 100 {
		t.Errorf("without a limit %d of 100", n)
	}
}
