package service_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestNodeDiesAnywhere lets the node that everyone uses die at every single call that
// it makes to Redis, the lock and the mailboxes, before and after the call takes
// effect. Its clients connect to another node and resend unacknowledged messages, and
// the other node's sweeper does the rest. There is one outcome, sent once to each user,
// and no work is left. Entries that the dying node had queued for the audit are lost
// with it; each end is recorded all the same, once. The sample has every fifth call,
// from a random one of the first five.
func TestNodeDiesAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ seed, after bool }{
		"before a call, seed clients":    {seed: true},
		"after a call, extended clients": {after: true},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(w *world) {
				stride := sample.Or[int64](5, 1)
				if testing.Short() {
					stride = 9
				}
				for n := 1 + rand.Int64N(stride); w.lives(n, c.seed, c.after); n += stride {
					if w.Failed() {
						w.Fatalf("at call %d", n)
					}
				}
			})
		})
	}
}

// lives runs a keygen and a signing with a node that dies at its n-th call, in its own
// world. It reports whether the node died.
func (w *world) lives(n int64, seed, after bool) bool {
	w.Helper()
	life := &world{
		T: w.T, ctx: w.ctx, rdb: w.rdb, prefix: w.prefix + redistest.Prefix(), away: w.away,
		mail: &mailboxes{taken: map[string]bool{}, boxes: map[string][]wire.Message{}},
	}
	life.store = w.storeAt(life.prefix)
	life.audit = life.openAudit("second")
	ctx, cancel := context.WithCancel(w.ctx)
	written := make(chan struct{})
	go func() { defer close(written); _ = life.audit.Run(ctx) }()
	defer func() { cancel(); <-written }()
	doomed := &mortal{diesAt: n, after: after}
	first, second := doomed.node(life), life.node(nil)
	c := life.cast(first, seed)
	c.send = func(user string, p wire.Payload, requestID string) {
		if _, err := life.say(first, user, p, requestID); err == nil {
			return
		}
		if !doomed.dead() {
			life.Fatalf("call %d: %s: %s refused by a living node", n, user, p.Type())
		}
		if _, err := life.say(second, user, p, requestID); err != nil {
			life.Fatalf("call %d: %s: %s: %v", n, user, p.Type(), err)
		}
	}
	for i, request := range []wire.Payload{keygenRequest("vault"), signRequest("vault", "hello")} {
		c.send("boss", request, c.request(fmt.Sprint("boss-", i)))
		for tries := 0; len(life.outcomes()) <= i; tries++ {
			if c.act(); len(life.outcomes()) > i {
				break
			}
			if tries == 10 {
				life.Fatalf("call %d: %s has no outcome", n, request.Type())
			}
			life.sweepAll(second)
		}
		c.act()
	}
	life.eventually("nothing is left to do", func() bool {
		life.sweepAll(second)
		return life.rdb.ZCard(life.ctx, life.prefix+"sessions:due").Val() == 0
	})
	cancel()
	<-written
	life.endsAudited(2)
	told := life.outcomes()
	if len(told) != 2 || told[0].(*wire.KeygenConfirm).Status != wire.StatusSuccess || told[1].(*wire.SignComplete).Status != wire.StatusSuccess {
		life.Errorf("call %d: outcomes %+v", n, told)
	}
	if k, err := life.store.Key(life.ctx, "vault"); err != nil || k.Status != session.KeyActive {
		life.Errorf("call %d: key %+v, %v", n, k, err)
	}
	if _, open, _, err := life.store.Signings(life.ctx, "vault"); err != nil || len(open) > 0 {
		life.Errorf("call %d: open %v, %v", n, open, err)
	}
	life.toldOnce()
	life.settled()
	return doomed.dead()
}

// endsAudited checks that the audit's chain is valid and has the end of each of boss's
// sessions once.
func (w *world) endsAudited(want int) {
	w.Helper()
	entries, _, err := w.audit.Read(w.ctx, "", 1000)
	if err != nil {
		w.Fatal(err)
	}
	v, err := audit.NewVerifier("")
	if err != nil {
		w.Fatal(err)
	}
	ends := map[string]string{}
	for _, f := range entries {
		if err := v.Add(f); err != nil {
			w.Fatal(err)
		}
		if f["what"] != audit.Ended {
			continue
		}
		if ends[f["session"]] != "" {
			w.Errorf("the end of %s is in the audit twice", f["session"])
		}
		ends[f["session"]] = f["outcome"]
	}
	places, err := w.store.SessionsOf(w.ctx, "boss", service.Page{})
	if err != nil {
		w.Fatal(err)
	}
	found := 0
	for _, place := range places {
		id := place.ID
		if s, _, err := w.store.Load(w.ctx, id); err == nil {
			found++
			if ends[id] != string(s.Phase) {
				w.Errorf("%s is %s, the audit says %q", id, s.Phase, ends[id])
			}
		}
	}
	if found != want || len(ends) != want {
		w.Errorf("%d sessions and %d ends in the audit, want %d", found, len(ends), want)
	}
}

// TestDyingKeygenFails lets the node die at every call of a keygen that one party
// declines: the key is never active, and everyone gets the reason.
func TestDyingKeygenFails(t *testing.T) {
	each(t, func(w *world) {
		for n := int64(1); ; n++ {
			life := &world{
				T: w.T, ctx: w.ctx, rdb: w.rdb, prefix: w.prefix + redistest.Prefix(), away: w.away,
				mail: &mailboxes{taken: map[string]bool{}, boxes: map[string][]wire.Message{}},
			}
			life.store = w.storeAt(life.prefix)
			doomed := &mortal{diesAt: n}
			first, second := doomed.node(life), life.node(nil)
			for _, m := range []struct {
				user string
				p    wire.Payload
			}{
				{"boss", keygenRequest("vault")},
				{"alice", &wire.KeygenResponse{KeyID: "vault", PartIndex: 1, Response: &yes}},
				{"bob", &wire.KeygenResponse{KeyID: "vault", PartIndex: 2, Response: &no}},
			} {
				if _, err := life.say(first, m.user, m.p, ""); err != nil {
					if _, err := life.say(second, m.user, m.p, ""); err != nil {
						w.Fatalf("call %d: %s: %v", n, m.user, err)
					}
				}
			}
			for range 3 {
				life.sweepAll(second)
			}
			told := life.outcomes()
			if len(told) != 1 || told[0].(*wire.KeygenConfirm).Status != wire.StatusRejected {
				w.Errorf("call %d: outcomes %+v", n, told)
			}
			if k, err := life.store.Key(life.ctx, "vault"); err != nil || k.Status != session.KeyFailed {
				w.Errorf("call %d: key %+v, %v", n, k, err)
			}
			life.toldOnce()
			life.settled()
			if !doomed.dead() {
				return
			}
			if w.Failed() {
				w.FailNow()
			}
		}
	})
}

// TestSweepersShareTheWork has several nodes sweep the sessions of a dead one.
func TestSweepersShareTheWork(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		w.mail.setFail(func(service.Delivery) error { return errDead })
		for i := range 40 {
			w.must(v, "boss", signRequest("vault", fmt.Sprint("data ", i)))
		}
		w.mail.setFail(nil)
		for range 3 {
			w.run(w.node(nil))
		}
		due := w.prefix + "sessions:due"
		for _, id := range w.rdb.ZRange(w.ctx, due, 0, -1).Val() {
			w.rdb.ZAddXX(w.ctx, due, redis.Z{Score: 1, Member: id})
		}
		w.eventually("every invitation is delivered", func() bool { return len(w.mail.of("carol")) == 3+40 })
		w.toldOnce()
	})
}
