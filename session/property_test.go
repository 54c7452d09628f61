package session

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestAnySequence sends a session random events, most of them by permitted senders, at
// advancing times, and checks each step with stepFault: only the graph's transitions,
// ends that are final, exactly one outcome, session_ended exactly once to each of the
// invited, culprits within range.
func TestAnySequence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, now := drawSession(t)
		steps := rapid.IntRange(0, 60).Draw(t, "steps")
		told := 0
		for range steps {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 5, 25, 61}).Draw(t, "seconds")) * time.Second)
			s = step(t, s, drawEvent(t, s), now, &told)
		}
		if s.Attempt > MaxAttempts {
			t.Fatalf("%d attempts", s.Attempt)
		}

		// Without further messages, time alone ends it.
		for range 4 * MaxAttempts {
			now = now.Add(time.Minute)
			if s.AllReported() {
				s = step(t, s, KeyStored{}, now, &told)
				break
			}
			if above, wants := s.WantsNumber(); wants && rapid.Bool().Draw(t, "numbered") {
				s = step(t, s, Numbered{Number: above + rapid.IntRange(1, 3).Draw(t, "skipped")}, now, &told)
			}
			s = step(t, s, Tick{}, now, &told)
		}
		if !s.Phase.Final() || told != 1 {
			t.Fatalf("after %s of silence: %s, %d outcomes", now.Sub(s.CreatedAt), s.Phase, told)
		}
		if !s.EndedAt.After(s.CreatedAt) && !s.EndedAt.Equal(s.CreatedAt) || s.NextDue(now) != (time.Time{}) {
			t.Fatalf("began %s, ended %s, next due %s", s.CreatedAt, s.EndedAt, s.NextDue(now))
		}
		if len(s.Reason) > wire.MaxReasonBytes {
			t.Fatalf("reason of %d bytes", len(s.Reason))
		}
	})
}

// TestHonestQuorumSigns checks the purpose of attempts: as long as threshold parties
// are honest, stay and answer, and the coordinator does not cancel, the signing
// succeeds, regardless of the others.
func TestHonestQuorumSigns(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 5).Draw(t, "n")
		threshold := rapid.IntRange(2, n).Draw(t, "threshold")
		users := []string{"alice", "bob", "carol", "dave", "erin"}[:n]
		parts := []int{1, 2, 3, 4, 5}[:n]
		s, _ := Begin(newSigning(threshold, n, users...), began)
		honest := rapid.Permutation(parts).Draw(t, "honest")[:threshold]
		slices.Sort(honest)
		now, told := began, 0

		for _, i := range rapid.Permutation(parts).Draw(t, "answers") {
			ev := s.accept(i)
			if !slices.Contains(honest, i) {
				ev.Accept = rapid.Bool().Draw(t, "accepts")
			}
			s = step(t, s, ev, now, &told)
		}
		for range MaxAttempts {
			if s.Phase.Final() {
				break
			}
			now = now.Add(time.Second)
			if len(s.Signers) > 0 && !slices.ContainsFunc(s.Signers, func(i int) bool { return !slices.Contains(honest, i) }) {
				s = step(t, s, s.signed(s.Signers[0], theKey), now, &told)
				break
			}
			s, now = misbehave(t, s, honest, now, &told)
		}
		if s.Phase != Completed {
			t.Fatalf("honest parties %v could not sign: %s, %s, tried %v", honest, s.Phase, s.Reason, s.Quorums)
		}
		for _, c := range s.Culprits {
			if slices.Contains(honest, c) {
				t.Fatalf("honest part %d is named a culprit", c)
			}
		}
	})
}

// misbehave spoils the running attempt as one of its bad signers.
func misbehave(t *rapid.T, s Session, honest []int, now time.Time, told *int) (Session, time.Time) {
	bad := slices.DeleteFunc(slices.Clone(s.Signers), func(i int) bool { return slices.Contains(honest, i) })
	i := rapid.SampledFrom(bad).Draw(t, "bad signer")
	switch rapid.IntRange(0, 5).Draw(t, "how") {
	case 0:
		return step(t, s, s.signed(i, anotherKey), now, told), now
	case 1:
		return step(t, s, s.failed(i), now, told), now
	case 2: // leaves
		s = step(t, s, Tick{Offline: []int{i}}, now, told)
		now = now.Add(s.Terms.Grace)
		return step(t, s, Tick{Offline: []int{i}}, now, told), now
	case 3: // accuses everyone
		return step(t, s, s.failed(i, 1, 2), now, told), now
	case 4: // says nothing, so that no signer has a result
		now = s.Deadline
		return step(t, s, Tick{}, now, told), now
	default: // the others notice that it cheats
		for _, j := range s.Signers {
			if slices.Contains(honest, j) {
				return step(t, s, s.failed(j, i), now, told), now
			}
		}
		return step(t, s, s.failed(i), now, told), now
	}
}

func step(t *rapid.T, s Session, ev Event, now time.Time, told *int) Session {
	before := s.clone()
	next, out, err := Step(s, ev, now)
	if !before.Same(s) {
		t.Fatalf("%T changed the session that it was given", ev)
	}
	if err != nil && (!next.Same(s) || len(out) > 0) {
		t.Fatalf("%T was refused and changed something: %v", ev, err)
	}
	if err := stepFault(s, next, out); err != nil {
		t.Fatalf("%T: %v", ev, err)
	}
	for _, o := range out {
		switch o.Payload.(type) {
		case *wire.KeygenConfirm, *wire.SignComplete, *wire.ReshareConfirm:
			*told++
		}
		if err := o.Payload.Validate(); err != nil {
			t.Fatalf("%T says what does not validate: %v", ev, err)
		}
	}
	return next
}

func drawSession(t *rapid.T) (Session, time.Time) {
	users := []string{"alice", "bob", "carol", "dave", "erin"}
	n := rapid.IntRange(2, len(users)).Draw(t, "n")
	threshold := rapid.IntRange(2, n).Draw(t, "threshold")
	s := newKeygen(threshold, users[:n]...)
	switch rapid.SampledFrom(Kinds()).Draw(t, "kind") {
	case Sign:
		s = newSigning(threshold, rapid.IntRange(threshold, n).Draw(t, "invited"), users[:n]...)
	case Reshare:
		s = newReshare(threshold, users[:n], 2, rapid.Permutation(append(users, "frank")).Draw(t, "new")[:rapid.IntRange(2, 4).Draw(t, "new parts")]...)
	}
	if rapid.Bool().Draw(t, "expires") {
		s.ExpiresAt = began.Add(time.Duration(rapid.IntRange(1, 300).Draw(t, "expires in")) * time.Second)
	}
	s, _ = Begin(s, began)
	return s, began
}

func drawEvent(t *rapid.T, s Session) Event {
	part := rapid.IntRange(1, len(s.Parties)).Draw(t, "part")
	if s.Old > 0 {
		return drawReshareEvent(t, s, part)
	}
	key := theKey
	if rapid.IntRange(0, 4).Draw(t, "lie") == 0 {
		key = anotherKey
	}
	parts := rapid.SliceOfN(rapid.IntRange(1, len(s.Parties)), 0, 3)
	switch rapid.IntRange(0, 12).Draw(t, "event") {
	case 0, 1, 2, 3:
		return s.accept(part)
	case 4:
		return s.decline(part)
	case 5, 6, 7:
		if s.Kind == Keygen {
			return s.generated(part, key)
		}
		return s.signed(part, key)
	case 8:
		return s.failed(part, parts.Draw(t, "culprits")...)
	case 9, 10:
		return Tick{Offline: parts.Draw(t, "offline")}
	case 11:
		return rapid.SampledFrom([]Event{Cancel{From: boss}, Cancel{From: "eve"}, Undeliverable{User: "bob"}, Undeliverable{User: boss}, Undeliverable{User: "bob", Payer: "alice", Party: 1, Attempt: s.Attempt}, KeyLost{}}).Draw(t, "rare")
	default:
		if s.Kind == Keygen {
			return KeyStored{}
		}
		return s.accept(part)
	}
}
