// Package accountstest makes accounts for tests of logins, with password hashes
// that cost next to nothing. It does not test hashing itself, which the tests of
// package accounts cover at its real cost.
//
// The package is for tests only; no program of this module links it.
package accountstest

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// cheapest is argon2id's minimum: some 10 µs, where [auth.DefaultCost] is 64 MiB
// and a third of a second of CPU.
var cheapest = auth.Cost{MemoryKiB: 8, Time: 1, Threads: 1}

// AddUser makes an account in Redis under prefix, without an audit entry.
func AddUser(t testing.TB, rdb redis.UniversalClient, prefix, user, password string, roles ...wire.Role) {
	t.Helper()
	accounts, err := accounts.New(accounts.Config{Redis: rdb, Prefix: prefix, Cost: cheapest})
	if err != nil {
		t.Fatal(err)
	}
	if err := accounts.Add(t.Context(), user, password, roles, false); err != nil {
		t.Fatal(err)
	}
}
