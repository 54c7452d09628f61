package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/cluster/clustertest"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/redisstore"
)

// A right is withdrawn while sessions go on: what a script could not do as a whole is
// undone, and done when the right is back. No session is lost, and none changes
// without what it has to say.
func TestWithdrawnRights(t *testing.T) {
	t.Parallel()
	rdb := clustertest.StartRedis(t).Client(t)
	b := bench{T: t, ctx: context.Background(), rdb: rdb, prefix: clustertest.Prefix()}
	b.Store = redisstore.New(redisstore.Config{Redis: rdb, Prefix: b.prefix, Retention: time.Hour})
	right := func(rule string) { b.ok(rdb.Do(b.ctx, "acl", "setuser", "default", rule).Err()) }
	for _, command := range []string{"xadd", "hset", "zadd", "del", "hdel"} {
		s := b.newSession("commit-" + command)
		_, _, err := b.Create(b.ctx, s, say("alice"), b.mark())
		b.ok(err)
		s.Version = 1
		s.Parties[0].Response = session.Accepted
		right("-" + command)
		if _, err := b.Commit(b.ctx, s, "", say("bob", "alice"), b.mark()); err == nil {
			b.Errorf("-%s: committed", command)
		}
		right("+" + command)
		got, _, err := b.Load(b.ctx, s.ID)
		b.ok(err)
		out, err := b.Outbox(b.ctx, s.ID, "")
		b.ok(err)
		if got.Version != 1 || got.Parties[0].Response == session.Accepted || len(out) != 1 {
			b.Errorf("-%s: version %d, response %v, %d in the outbox; want all as before", command, got.Version, got.Parties[0].Response, len(out))
		}
		_, err = b.Commit(b.ctx, s, "", say("bob", "alice"), b.mark())
		b.ok(err)
		s.Version = 2
		got, _, err = b.Load(b.ctx, s.ID)
		b.ok(err)
		if diff := cmp.Diff(s, got); diff != "" {
			b.Errorf("-%s and back (-want +got):\n%s", command, diff)
		}
	}
	for _, command := range []string{"xadd", "hset", "zadd"} {
		s := b.newSession("create-" + command)
		right("-" + command)
		if _, _, err := b.Create(b.ctx, s, say("alice"), b.mark()); err == nil {
			b.Errorf("-%s: created", command)
		}
		right("+" + command)
		r, created, err := b.Create(b.ctx, s, say("alice"), b.mark())
		b.ok(err)
		if !created || len(r.IDs) != 1 || r.Backlog {
			b.Errorf("-%s and back: got %+v, created %t", command, r, created)
		}
	}
}
