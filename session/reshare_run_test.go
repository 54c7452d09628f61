package session

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// stepAll steps s through events at one time, none of which may be refused, and returns
// what was said.
func stepAll(t testing.TB, s Session, now time.Time, events ...Event) (Session, []Outgoing) {
	t.Helper()
	var said []Outgoing
	for _, ev := range events {
		next, out, err := Step(s, ev, now)
		if err != nil {
			t.Fatalf("%T %+v in %s: %v", ev, ev, s.Phase, err)
		}
		if fault := stepFault(s, next, out); fault != nil {
			t.Fatalf("%T: %v", ev, fault)
		}
		s, said = next, append(said, out...)
	}
	return s, said
}

// paramsOf returns the parameters among messages, by user.
func paramsOf(said []Outgoing) map[string]*wire.ReshareParams {
	params := map[string]*wire.ReshareParams{}
	for _, o := range said {
		if p, ok := o.Payload.(*wire.ReshareParams); ok {
			params[o.To] = p
		}
	}
	return params
}

// running returns a reshare that all have accepted, in its first attempt.
func runningReshare(t testing.TB, s Session) Session {
	t.Helper()
	s, _ = Begin(s, began)
	for _, user := range s.users() {
		s, _ = stepAll(t, s, began, s.answer(user))
	}
	if s.Phase != Running || s.Attempt != 1 || s.Epoch != 2 {
		t.Fatalf("%s, attempt %d, number %d", s.Phase, s.Attempt, s.Epoch)
	}
	return s
}

// TestReshareReplacesAnOldParty: an old party that fails is replaced by another, in an
// attempt with another number, which only the store can give.
func TestReshareReplacesAnOldParty(t *testing.T) {
	t.Parallel()
	s := runningReshare(t, newReshare(2, []string{"alice", "bob", "carol"}, 2, "alice", "dave"))
	first := s
	s, said := stepAll(t, s, began, s.failed(2))
	above, wants := s.WantsNumber()
	if len(s.Signers) > 0 || !wants || above != 2 || len(paramsOf(said)) > 0 || !s.NextDue(began).Equal(began) {
		t.Fatalf("%s with %v, wants a number: %t, above %d", s.Phase, s.Signers, wants, above)
	}
	s, said = stepAll(t, s, began, Numbered{Number: 7})
	params := paramsOf(said)
	if s.Attempt != 2 || s.Epoch != 7 || len(params) != 3 || params["bob"] != nil || params["alice"].Epoch != 7 {
		t.Fatalf("attempt %d, number %d, parameters %v", s.Attempt, s.Epoch, params)
	}
	if p := params["alice"]; len(p.From.Parties) != 2 || p.From.Parties[1].UserID != "carol" || p.From.TotalParts != 3 || len(p.To.Parties) != 2 || !slices.Equal(p.Places, []int{1, 4}) {
		t.Errorf("alice gets %+v", p)
	}
	// What belongs to the first attempt has no place in this one.
	for _, ev := range []Event{first.reshared(1, 1), first.consented(1)} {
		if next, _, err := Step(s, ev, began); err == nil || !next.Same(s) {
			t.Errorf("a late %T is taken", ev)
		}
	}
	s, _ = stepAll(t, s, began, s.reshared(1, 1), s.reshared(2, 1))
	s, _ = stepAll(t, s, began, s.consented(3), s.consented(1))
	if s.Certificate() == nil || s.Certificate().Number() != 7 || len(s.Certificate().Consents) != 2 {
		t.Fatalf("%s, certificate %v", s.Phase, s.Certificate())
	}
	s, said = stepAll(t, s, began, KeyStored{})
	if s.Phase != Completed || len(s.Culprits) > 0 {
		t.Errorf("%s, blames %v", s.Phase, s.Culprits)
	}
	confirm := said[len(said)-5].Payload.(*wire.ReshareConfirm) // before it: a certificate to each of four users
	if confirm.Epoch != 7 || confirm.Certificate != s.Certified() || confirm.Status != wire.StatusSuccess {
		t.Errorf("the coordinator gets %+v", confirm)
	}
}

// TestReshareNeedsAllNewParties: without one of them it ends.
func TestReshareNeedsAllNewParties(t *testing.T) {
	t.Parallel()
	s := runningReshare(t, newReshare(2, []string{"alice", "bob", "carol"}, 2, "alice", "dave"))
	declines := s.answer("dave")
	declines.Accept = false
	begun, _ := Begin(newReshare(2, []string{"alice", "bob", "carol"}, 2, "alice", "dave"), began)
	oldOnly := begun.answer("alice")
	oldOnly.Places = oldOnly.Places[:1]
	for name, tc := range map[string]struct {
		from     Session
		events   []Event
		wait     time.Duration
		phase    Phase
		culprits []int
	}{
		"declines":         {begun, []Event{declines}, 0, Rejected, nil},
		"old place only":   {begun, []Event{oldOnly}, 0, Rejected, nil},
		"fails":            {s, []Event{s.failed(5)}, 0, Failed, []int{5}},
		"blames a new one": {s, []Event{s.failed(4, 5)}, 0, Failed, []int{5}},
		"leaves":           {s, []Event{Tick{Offline: []int{5}}, Tick{Offline: []int{5}}}, s.Terms.Grace, Failed, []int{5}},
		"mailbox is full":  {s, []Event{Undeliverable{User: "dave"}}, 0, Failed, nil},
		"floods":           {s, []Event{Undeliverable{User: "bob", Payer: "dave", Party: 5, Attempt: 1}}, 0, Failed, nil},
	} {
		end, now := tc.from, began
		for _, ev := range tc.events {
			end, _ = stepAll(t, end, now, ev)
			now = now.Add(tc.wait)
		}
		if end.Phase != tc.phase || !slices.Equal(end.Culprits, tc.culprits) {
			t.Errorf("%s: %s, blames %v: %s", name, end.Phase, end.Culprits, end.Reason)
		}
		if end.Statement != "" || strings.Contains(end.Reason, "part 5") {
			t.Errorf("%s: keeps %q, reason %s", name, end.Statement, end.Reason)
		}
	}
}

// TestReshareStatementsDiffer: the smaller side is named; of two equal sides, both.
func TestReshareStatementsDiffer(t *testing.T) {
	t.Parallel()
	three := runningReshare(t, newReshare(2, []string{"alice", "bob"}, 2, "alice", "bob", "dave"))
	two := runningReshare(t, newReshare(2, []string{"alice", "bob"}, 2, "alice", "dave"))
	end, _ := stepAll(t, three, began, three.reshared(1, 1), three.reshared(2, 1), three.reshared(3, 2))
	if end.Phase != Failed || !slices.Equal(end.Culprits, []int{5}) || !strings.Contains(end.Reason, "disagree on the epoch") {
		t.Errorf("%s, blames %v: %s", end.Phase, end.Culprits, end.Reason)
	}
	end, _ = stepAll(t, two, began, two.reshared(1, 1), two.reshared(2, 2))
	if end.Phase != Failed || !slices.Equal(end.Culprits, []int{3, 4}) {
		t.Errorf("%s, blames %v", end.Phase, end.Culprits)
	}
}

// TestReshareWithoutConsent: when the deadline for consents passes, or too few old
// parties are left who may give theirs, the number is given up; another attempt begins.
func TestReshareWithoutConsent(t *testing.T) {
	t.Parallel()
	s := runningReshare(t, newReshare(2, []string{"alice", "bob", "carol"}, 2, "alice", "dave"))
	attested, said := stepAll(t, s, began, s.reshared(1, 1), s.reshared(2, 1))
	asked := map[string]bool{}
	for _, o := range said {
		if p, ok := o.Payload.(*wire.ReshareAttested); ok {
			asked[o.To] = p.Epoch == 2 && len(p.Attestations) == 2 && p.Statement == attested.Statement
		}
	}
	if len(asked) != 3 || !asked["alice"] || !asked["bob"] || !asked["carol"] {
		t.Fatalf("asked for consent: %v", asked)
	}
	late, _ := stepAll(t, attested, began, attested.consented(3))
	late, _ = stepAll(t, late, late.Deadline, Tick{})
	few, _ := stepAll(t, attested, began, attested.failed(1), attested.failed(2))
	for name, next := range map[string]Session{"deadline": late, "refused": few} {
		above, wants := next.WantsNumber()
		if !wants || above != 2 || next.Statement != "" || next.consents() > 0 {
			t.Fatalf("%s: %s, wants a number: %t, above %d, %d consents", name, next.Phase, wants, above, next.consents())
		}
		next, _ = stepAll(t, next, late.Deadline, Numbered{Number: 3})
		if next.Epoch != 3 || next.Attempt != 2 {
			t.Errorf("%s: number %d", name, next.Epoch)
		}
		if _, _, err := Step(next, attested.consented(2), late.Deadline); err == nil {
			t.Errorf("%s: a consent to the number that was given up is taken", name)
		}
	}
	// Nobody is gone while consents are waited for: they may come until the deadline.
	away := Tick{Offline: []int{1, 2, 3, 5}}
	waiting, _ := stepAll(t, attested, began, away)
	waiting, _ = stepAll(t, waiting, began.Add(s.Terms.Grace), away)
	if waiting.Epoch != 2 || len(waiting.Culprits) > 0 {
		t.Errorf("%s, number %d, blames %v", waiting.Phase, waiting.Epoch, waiting.Culprits)
	}
}

// TestHonestQuorumReshares: as long as all new parties and threshold old ones are
// honest, the reshare completes, regardless of the other old parties.
func TestHonestQuorumReshares(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 5).Draw(t, "n")
		threshold := rapid.IntRange(2, n).Draw(t, "threshold")
		old := []string{"alice", "bob", "carol", "dave", "erin"}[:n]
		s, _ := Begin(newReshare(threshold, old, 2, "frank", "grace"), began)
		honest := rapid.Permutation([]int{1, 2, 3, 4, 5}[:n]).Draw(t, "honest")[:threshold]
		now, told := began, 0
		for _, user := range rapid.Permutation(s.users()).Draw(t, "answers") {
			ev := s.answer(user)
			ev.Highest = rapid.IntRange(0, 5).Draw(t, "highest")
			s = step(t, s, ev, now, &told)
		}
		for range 4 * MaxAttempts {
			if above, wants := s.WantsNumber(); wants {
				s = step(t, s, Numbered{Number: above + 1}, now, &told)
			}
			if s.Phase.Final() {
				break
			}
			now = now.Add(time.Second)
			bad := slices.DeleteFunc(slices.Clone(s.Signers), func(i int) bool { return s.isNew(i) || slices.Contains(honest, i) })
			if len(bad) > 0 {
				i := rapid.SampledFrom(bad).Draw(t, "bad")
				s = step(t, s, s.failed(i, rapid.SampledFrom([][]int{nil, honest, {n + 1}}).Draw(t, "blames")...), now, &told)
				continue
			}
			s = step(t, s, s.reshared(1, 1), now, &told)
			s = step(t, s, s.reshared(2, 1), now, &told)
			for _, i := range honest {
				s = step(t, s, s.consented(i), now, &told)
			}
			s = step(t, s, KeyStored{}, now, &told)
		}
		if s.Phase != Completed || told != 1 {
			t.Fatalf("honest %v of %d: %s after %d attempts: %s; tried %v", honest, n, s.Phase, s.Attempt, s.Reason, s.Quorums)
		}
	})
}

// TestReshareRequests: NewReshare refuses a committee that cannot be.
func TestReshareRequests(t *testing.T) {
	t.Parallel()
	k := Key{ID: "vault", Threshold: 2, Participants: []string{"alice", "bob"}}
	id := func(user string) string { return sessiontest.Identity(user).Public().String() }
	for name, identities := range map[string][]string{
		"one identity twice": {id("alice"), id("alice")}, "not an identity": {id("alice"), "conclave-id1.x"},
	} {
		p := &wire.ReshareRequest{KeyID: k.ID, Threshold: 2, TotalParts: 2, Participants: []wire.Party{{PartIndex: 1, UserID: "alice", Identity: identities[0]}, {PartIndex: 2, UserID: "bob", Identity: identities[1]}}}
		if _, err := NewReshare(k, parentHash, boss, p, terms); err == nil || errorLetter(err) != "B" {
			t.Errorf("%s: %v", name, err)
		}
	}
	one, other := newReshare(2, []string{"alice", "bob"}, 2, "alice", "bob"), newReshare(2, []string{"alice", "bob"}, 2, "bob", "alice")
	if one.Fingerprint == other.Fingerprint || one.Fingerprint != newReshare(2, []string{"alice", "bob"}, 2, "alice", "bob").Fingerprint {
		t.Error("the fingerprint is not that of the request")
	}
}

// TestSigningMoves: a signing without a running attempt asks the committee of the key's
// new epoch.
func TestSigningMoves(t *testing.T) {
	t.Parallel()
	now := began.Add(time.Minute)
	key := Key{ID: "vault", Status: KeyActive, Epoch: 4, Threshold: 3, Participants: []string{"dave", "alice", "bob"}, Certificate: parentHash}
	everyone := newSigning(2, 3, "alice", "bob", "carol")
	everyone.Epoch = 1
	named, few := everyone, everyone
	named.Named = true
	few.Parties = slices.Clone(everyone.Parties)
	few.Parties[2].Invited = false
	accepted, _ := play(t, everyone, at{0, everyone.accept(1)})
	running, _ := play(t, everyone, at{0, everyone.accept(1)}, at{0, everyone.accept(2)})
	waiting, _ := stepAll(t, running, now, PartyFailed{From: "alice", Party: 1}, Tick{Offline: []int{1, 2}})
	stopped := Moved{Key: key, From: "alice", Party: 1, Stopped: 1}
	for name, tc := range map[string]struct {
		from  Session
		ev    Moved
		epoch int
		phase Phase
	}{
		"inviting":               {accepted, Moved{Key: key}, 4, Inviting},
		"running":                {running, Moved{Key: key}, 1, Running},
		"stopped":                {running, stopped, 4, Running},
		"stopped before":         {waiting, stopped, 1, Running},
		"not a later epoch":      {accepted, Moved{Key: Key{ID: "vault", Status: KeyActive, Epoch: 1}}, 1, Inviting},
		"another key":            {accepted, Moved{Key: Key{ID: "safe", Status: KeyActive, Epoch: 4}}, 1, Inviting},
		"a named user has left":  {named, Moved{Key: key}, 1, Failed},
		"too few were asked":     {few, Moved{Key: key}, 1, Failed},
		"stopped by an outsider": {running, Moved{Key: key, From: "carol", Party: 3, Stopped: 1}, 1, Running},
	} {
		s := tc.from
		if s.Phase == "" {
			s, _ = Begin(s, began)
		}
		next, said := stepAll(t, s, now, tc.ev)
		if next.Epoch != tc.epoch || next.Phase != tc.phase {
			t.Errorf("%s: epoch %d, %s: %s", name, next.Epoch, next.Phase, next.Reason)
			continue
		}
		if tc.epoch == 1 {
			continue
		}
		var invited []string
		for _, o := range said {
			if p, ok := o.Payload.(*wire.SignInvite); ok && p.Epoch == 4 {
				invited = append(invited, o.To)
			}
		}
		if !slices.Equal(invited, key.Participants) || next.Threshold != 3 || next.Parent != parentHash || next.Attempt != s.Attempt || len(next.struck()) > 0 {
			t.Errorf("%s: invited %v, threshold %d, attempt %d", name, invited, next.Threshold, next.Attempt)
		}
		for i, user := range key.Participants {
			next, _ = stepAll(t, next, now, Responded{Kind: Sign, From: user, Party: i + 1, Accept: true})
		}
		if len(next.Signers) != 3 || next.Attempt != s.Attempt+1 {
			t.Errorf("%s: attempt %d with %v", name, next.Attempt, next.Signers)
		}
	}
}

func (s Session) struck() []int {
	m := machine{Session: s}
	return m.struck()
}

// TestMovedIsNobodysFault: a signer that says that the key has moved, of which the
// servers know nothing, is not named; others are tried first.
func TestMovedIsNobodysFault(t *testing.T) {
	t.Parallel()
	s := newSigning(2, 3, "alice", "bob", "carol")
	s, _ = play(t, s, at{0, s.accept(1)}, at{0, s.accept(2)}, at{0, s.accept(3)})
	next, _ := stepAll(t, s, began, PartyFailed{From: "bob", Party: 2, Attempt: 1, Moved: true})
	if next.Attempt != 2 || !slices.Equal(next.Signers, []int{1, 3}) || len(next.Culprits) > 0 {
		t.Errorf("attempt %d with %v, blames %v", next.Attempt, next.Signers, next.Culprits)
	}
}

// TestMinEpoch: a request for a later epoch than the key's is refused.
func TestMinEpoch(t *testing.T) {
	t.Parallel()
	k := Key{ID: "vault", Status: KeyActive, Curve: "secp256k1", Epoch: 3, Threshold: 2, Participants: []string{"alice", "bob"}, AccountAddr: theKey.Address}
	for least, want := range map[int]string{0: "", 2: "", 3: "", 4: "C"} {
		s, err := NewSigning(k, boss, &wire.SignRequest{KeyID: "vault", Data: "pay", MinEpoch: least}, terms)
		if err == nil && (want != "" || s.Epoch != 3 || s.MinEpoch != least) || err != nil && errorLetter(err) != want {
			t.Errorf("min_epoch %d: %v, epoch %d", least, err, s.Epoch)
		}
	}
}
