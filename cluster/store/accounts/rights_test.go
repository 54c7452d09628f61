package accounts_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// A permission is withdrawn in the middle of a script: existing data is not lost. A
// disabled user stays so, an identity stays known, a login can be renewed, and an
// account not yet made has no password.
func TestWithdrawnRights(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	ctx, prefix := context.Background(), redistest.Prefix()
	for _, c := range []struct {
		script, right string
		kind          string // type of the script's key
		args          []any
		again         []any // used while the permission is withdrawn
	}{
		{"account_bar", "hset", "hash", []any{"bob", "2030-01-02T03:04:05Z"}, nil},
		{"account_identify", "hset", "hash", []any{"one"}, []any{"another"}},
		{"account_add", "hsetnx", "none", nil, []any{"hash", "participant", "now", "0", "until"}},
		{"account_spend", "hset", "hash", nil, []any{"hash", "!"}},
		{"login_known", "zadd", "zset", []any{"network", 1, 60000}, nil},
		{"login_renew", "hset", "hash", []any{"login", 0, "a", "", 1, 60000, 1000, 4}, []any{"login", 1, "b", "", 1, 60000, 1000, 4}},
	} {
		source, err := os.ReadFile(c.script + ".lua")
		if err != nil {
			t.Fatal(err)
		}
		key, script := prefix+c.script, redis.NewScript(string(source))
		if c.script == "account_spend" {
			if err := rdb.HSet(ctx, key, "password_hash", "hash", "once", "until").Err(); err != nil {
				t.Fatal(err)
			}
		}
		if c.args != nil {
			if err := script.Run(ctx, rdb, []string{key}, c.args...).Err(); err != nil {
				t.Fatalf("%s: %v", c.script, err)
			}
		}
		content := func() string {
			switch c.kind {
			case "zset":
				return fmt.Sprint(rdb.ZRange(ctx, key, 0, -1).Val())
			case "hash":
				return fmt.Sprint(rdb.HGetAll(ctx, key).Val())
			}
			return fmt.Sprint(rdb.HExists(ctx, key, "password_hash").Val())
		}
		before := content()
		rights(t, rdb, "-"+c.right)
		if c.again == nil {
			c.again = c.args
		}
		err = script.Run(ctx, rdb, []string{key}, c.again...).Err()
		rights(t, rdb, "+"+c.right)
		if err == nil {
			t.Errorf("%s: went through without %s", c.script, c.right)
		}
		if after := content(); after != before {
			t.Errorf("%s: -%s left %s of %s", c.script, c.right, after, before)
		}
	}
}

func rights(t *testing.T, rdb redis.UniversalClient, rule string) {
	t.Helper()
	if err := rdb.Do(context.Background(), "acl", "setuser", "default", rule).Err(); err != nil {
		t.Fatal(err)
	}
}
