package service_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestMailboxesFail has all mailboxes fail during a whole keygen: the sweeper delivers
// all messages, once and in order.
func TestMailboxesFail(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.mail.setFail(func(service.Delivery) error { return errors.New("out of order") })
		w.must(v, "boss", keygenRequest("vault"))
		c := w.cast(v, true)
		for i, user := range committee {
			w.must(v, user, &wire.KeygenResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
		}
		for i, user := range committee {
			w.must(v, user, c.answer(user, &wire.KeygenParams{KeyID: "vault", PartIndex: i + 1}))
		}
		if k, err := w.store.Key(w.ctx, "vault"); err != nil || k.Status != session.KeyActive {
			w.Fatalf("%+v, %v", k, err)
		}
		w.sweepAll(v)
		w.mail.setFail(func(d service.Delivery) error {
			if d.To == "bob" {
				return errors.New("still out of order")
			}
			return nil
		})
		w.sweepAll(v)
		if len(w.mail.of("alice")) != 3 || len(w.mail.of("bob")) != 0 {
			w.Fatalf("alice has %v, bob %v", w.mail.types("alice"), w.mail.types("bob"))
		}
		w.mail.setFail(nil)
		w.sweepAll(v)
		w.sweepAll(v)
		want := []wire.Type{wire.TypeKeygenInvite, wire.TypeKeygenParams, wire.TypeSessionEnded}
		for _, user := range committee {
			if diff := cmp.Diff(want, w.mail.types(user)); diff != "" {
				w.Errorf("%s: %s", user, diff)
			}
		}
		w.toldOnce()
		w.settled()
	})
}

// TestMailboxFull fails a keygen, which needs every party, with an error, and blames no
// one. The key can be tried again. A party that was not notified of the keygen is not
// notified of its end either.
func TestMailboxFull(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.mail.setFail(func(d service.Delivery) error {
			if d.To == "bob" {
				return service.ErrMailboxFull
			}
			return nil
		})
		w.must(v, "boss", keygenRequest("vault"))
		v.Sweep(w.ctx) // at once, without waiting
		told := w.outcomes()
		if len(told) != 1 {
			w.Fatalf("%d outcomes", len(told))
		}
		c := told[0].(*wire.KeygenConfirm)
		if c.Status != wire.StatusFailed || c.Reason != "the mailbox of bob is full" || len(c.Culprits) > 0 {
			w.Fatalf("got %+v", c)
		}
		if k, err := w.store.Key(w.ctx, "vault"); err != nil || k.Status != session.KeyFailed {
			w.Fatalf("%+v, %v", k, err)
		}
		w.sweepAll(v)
		if n := len(w.outcomes()); n != 1 {
			w.Fatalf("%d outcomes", n)
		}
		w.mail.setFail(nil)
		w.sweepAll(v)
		if got := w.mail.types("bob"); len(got) > 0 {
			w.Errorf("bob was told %v", got)
		}
		w.settled()
	})
}

// TestMailboxFullOfSeveral has more than one message wait for the same mailbox: the
// second, which is not sent after the first has failed, is not another failure.
func TestMailboxFullOfSeveral(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		lost := func(err error) {
			w.mail.setFail(func(d service.Delivery) error { return map[string]error{"bob": err}[d.To] })
		}
		lost(errDead)
		w.must(v, "boss", signRequest("vault", "hello", "alice", "bob"))
		for i, user := range committee[:2] {
			w.must(v, user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
		}
		lost(service.ErrMailboxFull)
		w.sweepAll(v)
		if s := w.the(session.Sign); s.Phase != session.Failed || s.Attempt != 1 {
			w.Fatalf("%s after %d attempts", s.Phase, s.Attempt)
		}
		lost(nil)
		w.sweepAll(v)
		if got := w.mail.types("bob")[3:]; len(got) > 0 {
			w.Errorf("bob was told %v of what was over before he heard of it", got)
		}
		w.settled()
	})
}

// TestSignsWithoutAFullMailbox has no room for a holder that a signing does not need:
// the others sign, at once, without culprits, and the holder's messages are not retried
// for ever.
func TestSignsWithoutAFullMailbox(t *testing.T) {
	for _, why := range []error{service.ErrMailboxFull, service.ErrShareUsed} {
		t.Run(why.(*wire.Error).Error(), func(t *testing.T) {
			each(t, func(w *world) {
				v := w.node(nil)
				w.keygen(v, "vault", false)
				tries := 0
				w.mail.setFail(func(d service.Delivery) error {
					if d.To != "carol" {
						return nil
					}
					tries++
					return why
				})
				w.must(v, "boss", signRequest("vault", "hello"))
				v.Sweep(w.ctx)
				v.Sweep(w.ctx)
				if tries > 3 { // at first, by the sweeper, and after the session got Undeliverable
					w.Errorf("%d tries at once", tries)
				}
				for i, user := range committee[:2] {
					w.must(v, user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
				}
				s := w.the(session.Sign)
				if s.Phase != session.Running || !slices.Equal(s.Signers, []int{1, 2}) {
					w.Fatalf("%s with %v", s.Phase, s.Signers)
				}
				w.must(v, "alice", &wire.SignResult{KeyID: "vault", PartIndex: 1, Signature: theKey.Sign(s.Digest), SessionID: s.ID})
				if s = w.the(session.Sign); s.Phase != session.Completed || len(s.Culprits) > 0 || s.Attempt != 1 {
					w.Errorf("%s: %s, culprits %v, %d attempts", s.Phase, s.Reason, s.Culprits, s.Attempt)
				}
				w.sweepAll(v)
				if n := w.rdb.ZCard(w.ctx, w.prefix+"sessions:due").Val(); n != 0 {
					w.Errorf("%d sessions are still due", n)
				}
				w.settled()
			})
		})
	}
}

// TestStuckMailboxHoldsNobodyUp leaves more entries undelivered for users without room
// than one read of the outbox returns: later entries are delivered all the same, and
// the stuck ones later, in order.
func TestStuckMailboxHoldsNobodyUp(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		w.must(v, "boss", signRequest("vault", "hello"))
		s := w.the(session.Sign)
		before := len(w.mail.of("alice"))
		w.mail.setFail(func(d service.Delivery) error { return map[string]error{"carol": service.ErrMailboxFull}[d.To] })
		outbox := w.prefix + "session:{" + s.ID + "}:outbox"
		add := func(to string, n int) {
			frame, err := wire.Frame(to, &wire.TSSMessage{SessionID: s.ID, Attempt: 1, From: 1, Body: "YQ=="}, fmt.Sprint(n))
			if err != nil {
				w.Fatal(err)
			}
			if err := w.rdb.XAdd(w.ctx, &redis.XAddArgs{Stream: outbox, Values: []any{"to", to, "message", frame}}).Err(); err != nil {
				w.Fatal(err)
			}
		}
		for n := range 300 {
			add("carol", n)
		}
		add("alice", 300)
		w.sweepAll(v)
		if got := len(w.mail.of("alice")) - before; got != 1 {
			w.Errorf("alice got %d messages from behind those for carol, want 1", got)
		}
		w.mail.setFail(nil)
		w.sweepAll(v)
		carol := w.mail.of("carol")
		for n, m := range carol[len(carol)-300:] {
			if m.RequestID != fmt.Sprint(n) {
				w.Fatalf("message %d for carol is %s", n, m.RequestID)
			}
		}
	})
}

// TestRelayFailureNamesItsSession: when a round message is known to have failed, its
// content is gone; its sender still gets its session.
func TestRelayFailureNamesItsSession(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		w.must(v, "boss", signRequest("vault", "hello", "alice", "bob"))
		for i, user := range committee[:2] {
			w.must(v, user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
		}
		s := w.the(session.Sign)
		for _, lost := range []error{errDead, service.ErrMailboxFull} {
			w.mail.setFail(func(service.Delivery) error { return lost })
			p := &wire.TSSMessage{SessionID: s.ID, Attempt: s.Attempt, From: 1, To: 2, Body: "AAAA"}
			on, err := v.Relay(context.Background(), caller("alice"), wire.Message{}, p)
			if err != nil {
				w.Fatal(err)
			}
			<-on.Done()
			_, err = on.Answer()
			var told *wire.Error
			if !errors.As(err, &told) || told.SessionID != s.ID {
				w.Errorf("%v: got %v, want an error that names the session", lost, err)
			}
		}
	})
}

// TestManyHandsOneOutcome has every party send every message at once, repeatedly,
// through two nodes that sweep at the same time.
func TestManyHandsOneOutcome(t *testing.T) {
	each(t, func(w *world) {
		nodes := []*service.Service{w.node(nil), w.node(nil)}
		for _, v := range nodes {
			w.run(v)
		}
		w.keygen(nodes[0], "vault", false)
		w.must(nodes[0], "boss", signRequest("vault", "hello"))
		s := w.the(session.Sign)
		var wg sync.WaitGroup
		for i, user := range committee {
			for n := range 4 {
				wg.Go(func() {
					v := nodes[(i+n)%2]
					for range 3 {
						for _, p := range []wire.Payload{
							&wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes, SessionID: s.ID},
							&wire.SignResult{KeyID: "vault", PartIndex: i + 1, Signature: theKey.Sign(s.Digest), SessionID: s.ID},
						} {
							var e *wire.Error
							if _, err := w.say(v, user, p, "r"); err != nil && !errors.As(err, &e) {
								w.Errorf("%s: %v", user, err)
							}
						}
					}
				})
			}
		}
		wg.Wait()
		w.eventually("nothing is due", func() bool { return w.rdb.ZCard(w.ctx, w.prefix+"sessions:due").Val() == 0 })
		if s = w.the(session.Sign); s.Phase != session.Completed || s.Attempt != 1 {
			w.Fatalf("%s after %d attempts", s.Phase, s.Attempt)
		}
		w.toldOnce()
		w.settled()
	})
}

// TestDeadlines lets a session expire, and another fail for a party that has left, with
// only a sweeper running.
func TestDeadlines(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		hasty := w.node(func(c *service.Config) {
			c.InviteTimeout, c.SignTimeout, c.AbsenceGrace, c.SweepEvery = 300*time.Millisecond, 20*time.Second, 40*time.Millisecond, 5*time.Millisecond
		})
		w.run(hasty)
		w.must(hasty, "boss", signRequest("vault", "one"))
		w.eventually("an outcome", func() bool { return len(w.outcomes()) == 2 })
		if c := w.outcomes()[1].(*wire.SignComplete); c.Status != wire.StatusExpired || !slices.Equal(c.Culprits, []int{1, 2, 3}) {
			w.Fatalf("got %+v", c)
		}

		w.must(hasty, "boss", signRequest("vault", "two", "alice", "bob"))
		w.away.leave("bob")
		for i, user := range committee[:2] {
			w.must(v, user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
		}
		w.eventually("an outcome", func() bool { return len(w.outcomes()) == 3 })
		if c := w.outcomes()[2].(*wire.SignComplete); c.Status != wire.StatusFailed || !slices.Equal(c.Culprits, []int{2}) {
			w.Fatalf("got %+v", c)
		}

		soon := signRequest("vault", "three")
		soon.ExpiresIn = 1
		w.must(v, "boss", soon)
		w.eventually("an outcome", func() bool { return len(w.outcomes()) == 4 })
		if c := w.outcomes()[3].(*wire.SignComplete); c.Status != wire.StatusExpired {
			w.Fatalf("got %+v", c)
		}
		w.eventually("nothing is due", func() bool { return w.rdb.ZCard(w.ctx, w.prefix+"sessions:due").Val() == 0 })
		w.settled()
	})
}

// slowStore calls a hook before it writes in the due list or commits.
type slowStore struct {
	service.Store
	settle, commit func()
}

func (s slowStore) Settle(ctx context.Context, id string, r service.Settlement) error {
	if s.settle != nil && !r.From.IsZero() {
		s.settle()
	}
	return s.Store.Settle(ctx, id, r)
}

func (s slowStore) Commit(ctx context.Context, x session.Session, token string, out []service.Entry, m service.Mark) (service.Receipt, error) {
	if s.commit != nil {
		s.commit()
	}
	return s.Store.Commit(ctx, x, token, out, m)
}

// TestNoLostWakeup has one node settle a session just after another has committed a
// later change and died before delivering it. The first must not postpone the second's
// pending work until the deadline.
func TestNoLostWakeup(t *testing.T) {
	each(t, func(w *world) {
		dying := &mortal{diesAt: 1 << 40}
		second := dying.node(w)
		w.keygen(w.node(nil), "vault", false)
		accept := func(part int) *wire.SignResponse {
			return &wire.SignResponse{KeyID: "vault", PartIndex: part, Response: &yes}
		}
		once := sync.OnceFunc(func() {
			w.mail.setFail(func(service.Delivery) error { return errDead })
			for i, user := range []string{"alice", "bob"} {
				if _, err := w.say(second, user, accept(i+1), ""); err != nil {
					w.Error(err)
				}
			}
			w.mail.setFail(nil)
		})
		first := w.node(func(c *service.Config) { c.Store = slowStore{Store: c.Store, settle: once} })
		w.must(first, "boss", signRequest("vault", "hello", "alice", "bob"))
		if s := w.the(session.Sign); s.Phase != session.Running {
			w.Fatalf("phase %s", s.Phase)
		}
		w.run(w.node(nil))
		w.eventually("the signers have their parameters", func() bool {
			return slices.Contains(w.mail.types("alice"), wire.TypeSignParams)
		})
		if s := w.the(session.Sign); s.Attempt != 1 || time.Since(s.CreatedAt) > 15*time.Second {
			w.Errorf("that took %s and %d attempts", time.Since(s.CreatedAt), s.Attempt)
		}
	})
}

// TestStalledNodeDoesNotCommit stops a node between loading a session and
// committing it for longer than its place in the due list holds.
func TestStalledNodeDoesNotCommit(t *testing.T) {
	each(t, func(w *world) {
		w.keygen(w.node(nil), "vault", false)
		w.must(w.node(nil), "boss", signRequest("vault", "hello"))
		loads := 0
		stall := sync.OnceFunc(func() { <-time.After(1100 * time.Millisecond) })
		v := w.node(func(c *service.Config) {
			c.Store = slowStore{Store: c.Store, commit: func() { loads++; stall() }}
		})
		w.must(w.node(nil), "alice", &wire.SignResponse{KeyID: "vault", PartIndex: 1, Response: &yes})
		w.must(v, "bob", &wire.SignResponse{KeyID: "vault", PartIndex: 2, Response: &yes})
		if s := w.the(session.Sign); loads != 2 || s.Version != 3 {
			w.Errorf("%d commits tried, version %d", loads, s.Version)
		}
	})
}

// TestRelay passes round messages to their recipients, once each.
func TestRelay(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		c := w.cast(v, false)
		c.acts = func(_ string, p wire.Payload) bool { _, params := p.(*wire.KeygenParams); return !params }
		w.must(v, "boss", keygenRequest("vault"))
		c.act()
		s := w.the(session.Keygen)
		c.skip()
		send := func(user string, p wire.TSSMessage, requestID string) error {
			p.SessionID = s.ID
			if p.Attempt == 0 {
				p.Attempt = 1
			}
			_, err := w.say(v, user, &p, requestID)
			return err
		}
		ok := func(err error) {
			w.Helper()
			if err != nil {
				w.Error(err)
			}
		}
		ok(send("alice", wire.TSSMessage{From: 1, Body: "YQ=="}, "r1"))
		ok(send("alice", wire.TSSMessage{From: 1, Body: "YQ=="}, "r1")) // again, after a reconnect
		ok(send("alice", wire.TSSMessage{From: 1, To: 3, Body: "Yg=="}, "r2"))
		ok(send("alice", wire.TSSMessage{From: 1, To: 3, Body: "Yw=="}, "r2")) // a client that does not number them
		ok(send("alice", wire.TSSMessage{From: 1, To: 3, Body: "Yw=="}, ""))
		ok(send("alice", wire.TSSMessage{From: 1, To: 3, Body: "Yw=="}, ""))
		var got []string
		for _, user := range committee {
			for _, m := range w.mail.of(user)[c.read[user]:] {
				var p wire.TSSMessage
				decode(w, m, &p)
				got = append(got, fmt.Sprintf("%s:%d>%d:%s", user, p.From, p.To, p.Body))
			}
		}
		want := "bob:1>0:YQ== carol:1>0:YQ== carol:1>3:Yg== carol:1>3:Yw== carol:1>3:Yw== carol:1>3:Yw=="
		if strings.Join(got, " ") != want {
			w.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
		}
		for what, err := range map[string]error{
			"another's name": send("bob", wire.TSSMessage{From: 1, Body: "YQ=="}, ""),
			"a stranger":     send("mallory", wire.TSSMessage{From: 1, Body: "YQ=="}, ""),
			"to nobody":      send("alice", wire.TSSMessage{From: 1, To: 9, Body: "YQ=="}, ""),
			"too early":      send("alice", wire.TSSMessage{From: 1, Attempt: 2, Body: "YQ=="}, ""),
		} {
			if err == nil {
				w.Errorf("%s: accepted", what)
			}
		}

		w.mail.setFail(func(service.Delivery) error { return errors.New("connection to 10.0.0.7 refused") })
		if err := send("alice", wire.TSSMessage{From: 1, To: 2, Body: "YQ=="}, "r3"); !errors.Is(err, service.ErrUnavailable) {
			w.Errorf("got error %v, want unavailable", err)
		}
		w.mail.setFail(func(d service.Delivery) error { return map[string]error{"bob": service.ErrMailboxFull}[d.To] })
		if err := send("alice", wire.TSSMessage{From: 1, To: 2, Body: "YQ=="}, "r4"); !errors.Is(err, service.ErrMailboxFull) {
			w.Errorf("got error %v, want mailbox_full", err)
		}
		if s = w.the(session.Keygen); s.Phase != session.Failed || len(s.Culprits) > 0 || s.Reason != "the mailbox of bob is full" {
			w.Errorf("%s, culprits %v", s.Phase, s.Culprits)
		}
	})
}
