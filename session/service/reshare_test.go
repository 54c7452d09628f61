package service_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestReshare: a key goes through epochs with other committees and thresholds, and signs
// in each. Everyone gets the certificates, which make a lineage.
func TestReshare(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		m := w.members(v, "alice", "bob", "carol", "dave", "erin")
		m.attestedKey("vault")
		m.signs("vault", "in epoch 1")
		for i, tc := range []struct {
			threshold int
			users     []string
		}{{2, []string{"alice", "bob", "dave"}}, {3, []string{"erin", "bob", "dave", "alice"}}, {2, []string{"bob", "erin"}}} {
			m.send("boss", reshareRequest("vault", tc.threshold, tc.users...), fmt.Sprint("reshare ", i))
			m.act()
			k := m.inEpoch("vault", i+2, tc.threshold, tc.users...)
			if k.Reshare != "" {
				t.Errorf("epoch %d: a reshare is still open: %s", i+2, k.Reshare)
			}
			m.signs("vault", fmt.Sprint("in epoch ", i+2))
		}
		confirm, ok := m.outcomes()[2].(*wire.ReshareConfirm)
		if !ok || confirm.Epoch != 2 || confirm.Certificate == "" || confirm.PublicKey != theKey.Public {
			t.Errorf("the coordinator is told %+v", confirm)
		}
		if len(m.seen["carol"]) != 1 || len(m.seen["alice"]) != 3 || len(m.seen["erin"]) != 2 {
			t.Errorf("certificates were sent to %v", m.seen)
		}
		var chain []*statement.Certificate
		for n := 1; n <= 4; n++ {
			chain = append(chain, m.certificate("vault", n))
		}
		if _, err := statement.VerifyLineage(chain); err != nil {
			t.Error(err)
		}
		// Sealed copies of lower epochs are gone, those of the present one are there.
		for epoch, want := range map[int]int{1: 0, 2: 0, 3: 0, 4: 2} {
			shares, err := w.store.Shares(w.ctx, "vault", epoch, 1, 2)
			if got := len(slices.DeleteFunc(shares, func(s string) bool { return s == "" })); err != nil || got != want {
				t.Errorf("epoch %d: %d shares are kept, want %d, %v", epoch, got, want, err)
			}
		}
		// The same requests again have the outcomes that they had.
		reply, err := w.sayAs(v, member("boss"), reshareRequest("vault", 2, "alice", "bob", "dave"), "reshare 0")
		if c, ok := reply.(*wire.ReshareConfirm); err != nil || !ok || c.Epoch != 2 {
			t.Errorf("the first request again: %+v, %v", reply, err)
		}
		w.refusedAs(v, member("boss"), func() wire.Payload {
			p := reshareRequest("vault", 2, "bob", "alice")
			p.SessionID = confirm.SessionID
			return p
		}(), wire.CodeConflict)
		// So has the keygen.
		reply, err = w.sayAs(v, member("boss"), keygenRequest("vault"), "")
		if c, ok := reply.(*wire.KeygenConfirm); err != nil || !ok || len(c.Attestations) != 3 {
			t.Errorf("the keygen's request again: %+v, %v", reply, err)
		}
		// A client asks for the certificates that it lacks.
		m.mail.boxes["carol"], m.read["carol"] = nil, 0
		m.send("carol", &wire.CertificateGet{KeyID: "vault", Epoch: 2}, "")
		if types := m.mail.types("carol"); !slices.Equal(types, []wire.Type{wire.TypeEpochCertified, wire.TypeEpochCertified}) {
			t.Errorf("carol gets %v", types)
		}
		w.refusedAs(v, member("frank"), &wire.CertificateGet{KeyID: "vault"}, wire.CodeNotFound)
		w.settled()
	})
}

// TestReshareRequestsRefused: who may ask, for which keys, and one at a time.
func TestReshareRequestsRefused(t *testing.T) {
	best(t, func(w *world) {
		v := w.node(func(c *service.Config) { c.Users = onlyUsers{"alice", "bob", "carol", "dave"} })
		m := w.members(v, "alice", "bob", "carol")
		m.attestedKey("vault")
		w.keygen(v, "plain", false) // its attestations are no certificate
		request := reshareRequest("vault", 2, "alice", "bob", "dave")
		w.refusedAs(v, member("other-boss"), request, wire.CodeNotFound)
		w.refusedAs(v, member("alice"), request, wire.CodeForbidden)
		w.refusedAs(v, member("boss"), reshareRequest("none", 2, "alice", "bob"), wire.CodeNotFound)
		w.refusedAs(v, member("boss"), reshareRequest("plain", 2, "alice", "bob"), wire.CodeConflict)
		w.refusedAs(v, member("boss"), reshareRequest("vault", 2, "alice", "mallory"), wire.CodeUnknownUser)
		twice := reshareRequest("vault", 2, "alice", "bob")
		twice.Participants[1].Identity = twice.Participants[0].Identity
		w.refusedAs(v, member("boss"), twice, wire.CodeBadRequest)
		named := reshareRequest("vault", 2, "alice", "bob")
		named.SessionID = wire.ReshareID("someone", "vault", "r")
		w.refusedAs(v, member("boss"), named, wire.CodeBadRequest)
		if k := m.inEpoch("vault", 1, 2, "alice", "bob", "carol"); k.Reshare != "" || k.Highest != 1 {
			t.Errorf("a refused request leaves %+v", k)
		}

		m.send("boss", request, "")
		open := w.the(session.Reshare)
		w.refusedAs(v, member("admin"), reshareRequest("vault", 2, "alice", "bob"), wire.CodeConflict)
		w.refusedAs(v, member("boss"), reshareRequest("vault", 3, "alice", "bob", "dave"), wire.CodeConflict)
		m.send("boss", request, "") // the same one
		if w.the(session.Reshare).ID != open.ID {
			t.Error("the same request has begun another session")
		}
		// Of an invited user, only the requested identity may take part.
		stranger := member("dave")
		stranger.Identity = sessiontest.Identity("eve").Public().String()
		answer := &wire.ReshareResponse{KeyID: "vault", SessionID: open.ID, Response: &yes, Places: []int{6}}
		w.refusedAs(v, stranger, answer, wire.CodeForbidden)
		answer.Highest = 1003
		w.refusedAs(v, member("dave"), answer, wire.CodeBadRequest)
		w.refusedAs(v, member("eve"), answer, wire.CodeNotFound)
		m.send("boss", &wire.SessionCancel{SessionID: open.ID}, "")
		if k := m.inEpoch("vault", 1, 2, "alice", "bob", "carol"); k.Reshare != "" {
			t.Errorf("after its cancellation it is still noted: %s", k.Reshare)
		}
	})
}

// onlyUsers are the users of a cluster.
type onlyUsers []string

func (u onlyUsers) Unknown(_ context.Context, _ string, users []string) (string, error) {
	for _, one := range users {
		if !slices.Contains(u, one) {
			return one, nil
		}
	}
	return "", nil
}

// TestForgedConsents: a consent counts only if an old member has signed this statement.
func TestForgedConsents(t *testing.T) {
	best(t, func(w *world) {
		v := w.node(nil)
		m := w.members(v, "alice", "bob", "carol", "dave")
		m.attestedKey("vault")
		var consents []*wire.ReshareConsent
		m.change = func(_ string, _, answer wire.Payload) wire.Payload {
			if p, ok := answer.(*wire.ReshareConsent); ok {
				consents = append(consents, p)
				return nil
			}
			return answer
		}
		m.send("boss", reshareRequest("vault", 2, "alice", "bob", "dave"), "")
		m.act()
		if len(consents) != 3 {
			t.Fatalf("%d were asked for their consent", len(consents))
		}
		alice, bob := *consents[0], *consents[1]
		swapped, otherHash := alice, alice
		swapped.Sig = bob.Sig
		otherHash.AttestationsHash = "0x" + strings.Repeat("00", 32)
		foreign := alice
		foreign.PartIndex = bob.PartIndex
		w.refusedAs(v, member("alice"), &swapped, wire.CodeInvalidSignature)
		w.refusedAs(v, member("alice"), &otherHash, wire.CodeBadRequest)
		w.refusedAs(v, member("alice"), &foreign, wire.CodeInvalidSignature)
		w.refusedAs(v, member("dave"), &alice, wire.CodeForbidden)
		m.inEpoch("vault", 1, 2, "alice", "bob", "carol")
		m.send("alice", &alice, "")
		m.inEpoch("vault", 1, 2, "alice", "bob", "carol")
		m.send("alice", &alice, "") // again: it counts once
		m.inEpoch("vault", 1, 2, "alice", "bob", "carol")
		m.send("bob", &bob, "")
		m.inEpoch("vault", 2, 2, "alice", "bob", "dave")
		m.send("carol", consents[2], "") // one more than is needed
	})
}

// TestOpenSigningsMove: a signing that waits is asked of the new committee when the key
// moves on, one that runs when a signer says so.
func TestOpenSigningsMove(t *testing.T) {
	best(t, func(w *world) {
		v := w.node(nil)
		m := w.members(v, "alice", "bob", "carol", "dave")
		m.attestedKey("vault")
		hold := true
		m.change = func(_ string, asked, answer wire.Payload) wire.Payload {
			switch asked.(type) {
			case *wire.SignInvite, *wire.SignParams:
				if hold {
					return nil
				}
			}
			return answer
		}
		m.send("boss", signRequest("vault", "waits"), "waits")
		m.send("boss", signRequest("vault", "runs"), "runs")
		m.act()
		runs := wire.SigningID("boss", "vault", "runs")
		for i, user := range []string{"alice", "bob"} {
			m.send(user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes, SessionID: runs}, "")
		}
		m.act()
		m.send("boss", reshareRequest("vault", 2, "dave", "carol"), "")
		m.act()
		m.inEpoch("vault", 2, 2, "dave", "carol")
		hold = false
		epoch := func(id string) int {
			s, _, err := w.store.Load(w.ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			return s.Epoch
		}
		waits := wire.SigningID("boss", "vault", "waits")
		if epoch(waits) != 2 || epoch(runs) != 1 {
			t.Fatalf("the waiting one is in epoch %d, the running one in %d", epoch(waits), epoch(runs))
		}
		m.send("alice", &wire.PartyFailed{SessionID: runs, Attempt: 1, PartIndex: 1, Moved: true}, "")
		if epoch(runs) != 2 {
			t.Fatalf("the stopped one is in epoch %d", epoch(runs))
		}
		for _, user := range []string{"dave", "carol"} {
			for _, msg := range m.mail.of(user) {
				if p, err := msg.DecodePayload(); err == nil {
					if invite, ok := p.(*wire.SignInvite); ok && invite.Epoch == 2 {
						for _, answer := range m.answers(user, invite) {
							m.send(user, answer, "")
						}
					}
				}
			}
		}
		m.act()
		for _, id := range []string{waits, runs} {
			if s, _, err := w.store.Load(w.ctx, id); err != nil || s.Phase != session.Completed {
				t.Errorf("%s: %s, %s, %v", id, s.Phase, s.Reason, err)
			}
		}
	})
}

// TestRestoredStoreIsHealed: a store that has lost an epoch gets it back from a member's
// certificate, and refuses one that is forged.
func TestRestoredStoreIsHealed(t *testing.T) {
	best(t, func(w *world) {
		v := w.node(nil)
		m := w.members(v, "alice", "bob", "carol", "dave")
		m.attestedKey("vault")
		key := w.prefix + "key:{vault}"
		saved := map[string]string{}
		for _, part := range []string{"", ":shares", ":epochs", ":lineage"} {
			saved[part] = w.rdb.Dump(w.ctx, key+part).Val()
		}
		m.send("boss", reshareRequest("vault", 2, "alice", "bob", "dave"), "")
		m.act()
		m.inEpoch("vault", 2, 2, "alice", "bob", "dave")
		good := m.certificate("vault", 2)
		for part, dump := range saved {
			w.rdb.Del(w.ctx, key+part)
			if dump != "" {
				if err := w.rdb.RestoreReplace(w.ctx, key+part, 0, dump).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		m.inEpoch("vault", 1, 2, "alice", "bob", "carol")
		// A request that needs the later epoch is refused until it is known again.
		later := signRequest("vault", "later")
		later.MinEpoch = 2
		w.refusedAs(v, member("boss"), later, wire.CodeConflict)
		brings := func(c *statement.Certificate) {
			m.change = func(user string, asked, answer wire.Payload) wire.Payload {
				p, ok := answer.(*wire.SignResponse)
				switch {
				case !ok || asked.(*wire.SignInvite).Epoch != 1:
				case user == "carol":
					return nil // she would be told that she has no part in it, once it has moved
				case user == "alice":
					p.Certificate = c.String()
				}
				return answer
			}
		}
		forged := *good
		forged.Consents = []statement.PartConsent{good.Consents[0], {Part: 3, Consent: good.Consents[1].Consent}}
		brings(&forged)
		m.signs("vault", "forged")
		m.inEpoch("vault", 1, 2, "alice", "bob", "carol")
		few := *good
		few.Consents = good.Consents[:1]
		brings(&few)
		m.signs("vault", "few")
		m.inEpoch("vault", 1, 2, "alice", "bob", "carol")
		brings(good)
		m.signs("vault", "good")
		k := m.inEpoch("vault", 2, 2, "alice", "bob", "dave")
		if k.Certificate != good.Hash().String() || k.Highest < 2 {
			t.Errorf("the record is %+v", k)
		}
		m.change = nil
		m.send("boss", later, "later")
		m.act()
		m.signs("vault", "after it")
	})
}

// TestReshareNodeDiesAnywhere lets the node that everyone uses die at every call of a
// reshare to Redis, the lock and the mailboxes, before and after the call takes effect.
// It ends certified, in one epoch, and the key signs; no work is left.
func TestReshareNodeDiesAnywhere(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before a call": false, "after a call": true} {
		t.Run(name, func(t *testing.T) {
			best(t, func(w *world) {
				stride := sample.Or[int64](6, 1)
				if testing.Short() {
					stride = 12
				}
				for n := 1 + rand.Int64N(stride); w.reshareLives(n, after); n += stride {
					if w.Failed() {
						w.Fatalf("at call %d", n)
					}
				}
			})
		})
	}
}

// reshareLives runs a reshare with a node that dies at its n-th call, in its own world,
// and reports whether it died.
func (w *world) reshareLives(n int64, after bool) bool {
	w.Helper()
	life := &world{
		T: w.T, ctx: w.ctx, rdb: w.rdb, prefix: w.prefix + redistest.Prefix(), away: w.away,
		mail: &mailboxes{taken: map[string]bool{}, boxes: map[string][]wire.Message{}},
	}
	life.store = w.storeAt(life.prefix)
	second := life.node(nil)
	m := life.members(second, "alice", "bob", "carol", "dave")
	m.attestedKey("vault")
	doomed := &mortal{diesAt: n, after: after}
	first := doomed.node(life)
	m.send = func(user string, p wire.Payload, requestID string) {
		if _, err := life.sayAs(first, member(user), p, requestID); err == nil {
			return
		}
		if !doomed.dead() {
			life.Fatalf("call %d: %s: %s refused by a living node", n, user, p.Type())
		}
		_, err := life.sayAs(second, member(user), p, requestID)
		var e *wire.Error
		if err != nil && !(errors.As(err, &e) && e.Code == wire.CodeSessionEnded) {
			life.Fatalf("call %d: %s: %s: %v", n, user, p.Type(), err)
		}
	}
	m.send("boss", reshareRequest("vault", 2, "alice", "bob", "dave"), "boss-1")
	for tries := 0; len(life.outcomes()) < 2; tries++ {
		if m.act(); len(life.outcomes()) >= 2 {
			break
		}
		if tries == 10 {
			life.Fatalf("call %d: the reshare has no outcome: %+v", n, life.the(session.Reshare))
		}
		life.sweepAll(second)
	}
	m.act()
	life.eventually("nothing is left to do", func() bool {
		life.sweepAll(second)
		return life.rdb.ZCard(life.ctx, life.prefix+"sessions:due").Val() == 0
	})
	if c, ok := life.outcomes()[1].(*wire.ReshareConfirm); !ok || c.Status != wire.StatusSuccess {
		life.Errorf("call %d: the outcome is %+v", n, life.outcomes()[1])
	}
	k, err := life.store.Key(life.ctx, "vault")
	if err != nil || k.Epoch < 2 || k.Reshare != "" || !slices.Equal(k.Participants, []string{"alice", "bob", "dave"}) {
		life.Errorf("call %d: key %+v, %v", n, k, err)
	}
	for _, user := range m.users {
		if len(m.seen[user]) != 1 || m.seen[user][k.Epoch] == nil {
			life.Errorf("call %d: %s has the certificates %v of epoch %d", n, user, m.seen[user], k.Epoch)
		}
	}
	shares, err := life.store.Shares(life.ctx, "vault", k.Epoch, 1, 2, 3)
	if err != nil || slices.Contains(shares, "") {
		life.Errorf("call %d: a share is missing, %v", n, err)
	}
	m.send = func(user string, p wire.Payload, requestID string) {
		if _, err := life.sayAs(second, member(user), p, requestID); err != nil {
			life.Fatalf("call %d: %s: %s: %v", n, user, p.Type(), err)
		}
	}
	m.signs("vault", "after it")
	life.settled()
	return doomed.dead()
}
