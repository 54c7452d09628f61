package sessions_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
)

// A permission is withdrawn while sessions are in progress: a partly executed
// script is undone, and repeated when it is restored. No session is lost, and none
// changes without its outbox messages.
func TestWithdrawnRights(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	b := bench{T: t, ctx: context.Background(), rdb: rdb, prefix: redistest.Prefix()}
	b.Store = sessions.New(sessions.Config{Redis: rdb, Prefix: b.prefix, Retention: time.Hour})
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

// withoutRight runs do, which must fail, while a permission is withdrawn.
func (b bench) withoutRight(command, what string, do func() error) {
	b.Helper()
	b.ok(b.rdb.Do(b.ctx, "acl", "setuser", "default", "-"+command).Err())
	err := do()
	b.ok(b.rdb.Do(b.ctx, "acl", "setuser", "default", "+"+command).Err())
	if err == nil {
		b.Errorf("-%s: %s went through", command, what)
	}
}

// A permission is withdrawn while sessions are due: none leaves the list.
func TestWithdrawnRightsOfDue(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	b := bench{T: t, ctx: context.Background(), rdb: rdb, prefix: redistest.Prefix()}
	b.Store = sessions.New(sessions.Config{Redis: rdb, Prefix: b.prefix, Retention: time.Hour})
	past := b.now().Add(-time.Second)
	b.ok(b.Schedule(b.ctx, "s", past))
	b.withoutRight("zadd", "what is due", func() error { _, err := b.TakeDue(b.ctx, 1, time.Second); return err })
	b.withoutRight("zadd", "to postpone", func() error { return b.Postpone(b.ctx, "s", past, past.Add(time.Minute)) })
	b.withoutRight("zadd", "to schedule", func() error { return b.Schedule(b.ctx, "s", past.Add(time.Minute)) })
	taken, err := b.TakeDue(b.ctx, 1, time.Second)
	b.ok(err)
	if len(taken) != 1 || taken[0].ID != "s" {
		b.Errorf("due are %v, want s", taken)
	}
}

// A permission is withdrawn while an outcome is requested again: it keeps waiting.
func TestWithdrawnRightsOfOutcomes(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	b := bench{T: t, ctx: context.Background(), rdb: rdb, prefix: redistest.Prefix()}
	b.Store = sessions.New(sessions.Config{Redis: rdb, Prefix: b.prefix, Retention: time.Hour})
	_, err := b.PutOutcome(b.ctx, "s")
	b.ok(err)
	since, err := b.OutcomeSince(b.ctx, "s", b.now().Truncate(time.Microsecond))
	b.ok(err)
	b.withoutRight("zadd", "to send again", func() error { _, err := b.RepeatOutcome(b.ctx, "s", b.now()); return err })
	if n, oldest, err := b.OutcomesWaiting(b.ctx); err != nil || n != 1 || oldest.After(since) {
		b.Errorf("%d wait, since %s, want one since %s: %v", n, oldest, since, err)
	}
	if at, err := b.OutcomeSince(b.ctx, "s", b.now()); err != nil || !at.Equal(since) {
		b.Errorf("it waits since %s, want %s: %v", at, since, err)
	}
}

// A permission is withdrawn while a key is made: it is unchanged, and neither does
// a key that can sign expire nor is a share of its dropped.
func TestWithdrawnRightsOfKeys(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	b := bench{T: t, ctx: context.Background(), rdb: rdb, prefix: redistest.Prefix()}
	b.Store = sessions.New(sessions.Config{Redis: rdb, Prefix: b.prefix, Retention: time.Hour})
	put := func(k session.Key) func() error { return func() error { return b.PutKey(b.ctx, k) } }
	name := b.prefix + "key:{vault}"

	k := b.newKey("vault")
	k.Status, k.Session = session.KeyReserved, ""
	b.withoutRight("pexpire", "a reservation without an end", put(k))
	if n := rdb.Exists(b.ctx, name).Val(); n != 0 {
		b.Errorf("a reservation that was refused left %v", rdb.HGetAll(b.ctx, name).Val())
	}
	b.ok(b.PutKey(b.ctx, k))

	k.Version, k.Status, k.Session = 1, session.KeyGenerating, "kg-1"
	for _, command := range []string{"persist", "del", "hset"} {
		b.withoutRight(command, "a keygen", put(k))
		if got, err := b.Key(b.ctx, "vault"); err != nil || got.Status != session.KeyReserved || got.Version != 1 {
			b.Errorf("-%s: the key is %+v, %v", command, got, err)
		}
	}
	b.ok(b.PutKey(b.ctx, k))
	b.ok(b.PutShare(b.ctx, "vault", "kg-1", 1, "share", ""))
	b.ok(rdb.PExpire(b.ctx, name, time.Hour).Err()) // as after a refusal met by an older version
	k.Version, k.Status = 2, session.KeyActive
	b.withoutRight("persist", "the end of a keygen", put(k))
	if got, err := b.Key(b.ctx, "vault"); err != nil || got.Status != session.KeyGenerating {
		b.Errorf("the key is %+v, %v", got, err)
	}
	b.ok(b.PutKey(b.ctx, k))
	if ttl := rdb.PTTL(b.ctx, name).Val(); ttl > 0 {
		b.Errorf("a key that can sign expires in %s", ttl)
	}
	if shares, err := b.Shares(b.ctx, "vault", 1, 1); err != nil || shares[0] != "share" {
		b.Errorf("shares %v, %v", shares, err)
	}

	b.activeSigning("vault", k)
}

// activeSigning opens and closes a signing that the key must record as the last
// even if that was refused first.
func (b bench) activeSigning(key string, k session.Key) {
	b.Helper()
	_, err := b.open(key, service.Signing{SessionID: "sg-1", Fingerprint: "print", Coordinator: k.Coordinator}, false)
	b.ok(err)
	b.withoutRight("hset", "the end of a signing", func() error { return b.Settle(b.ctx, "sg-1", service.Settlement{ClosedOn: key}) })
	b.ok(b.Settle(b.ctx, "sg-1", service.Settlement{ClosedOn: key}))
	if last := b.rdb.HGet(b.ctx, b.prefix+"key:{"+key+"}", "last_signing").Val(); last != "sg-1" {
		b.Errorf("the last signing is %q, want sg-1", last)
	}
}
