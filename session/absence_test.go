package session

import (
	"testing"
	"time"
)

// ticked is s after a tick with part 2 offline, last seen at a given time.
func ticked(t *testing.T, s Session, seen, now time.Time) Session {
	t.Helper()
	s, _, err := Step(s, Tick{Offline: []int{2}, Seen: map[int]time.Time{2: seen}}, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A party that was online between two ticks, both of which saw it offline, has not been
// absent throughout: its grace starts when it was last online.
func TestAbsenceIsWithoutABreak(t *testing.T) {
	t.Parallel()
	const second = time.Second
	for _, s := range []Session{newKeygen(2, "alice", "bob", "carol"), newSigning(2, 3, "alice", "bob", "carol", "dave")} {
		path := []at{{0, s.accept(1)}, {second, s.accept(2)}}
		if s.Kind == Keygen {
			path = append(path, at{second, s.accept(3)})
		}
		s, now := play(t, s, path...)
		begun, left := now, now
		for tick := now; tick.Sub(begun) <= 30*second; tick = tick.Add(5 * second) {
			if tick.Sub(left) >= 14*second { // it is back briefly
				left = tick.Add(-second)
			}
			s = ticked(t, s, left, tick)
			now = tick
			if s.Phase != Running || s.Attempt != 1 {
				break
			}
		}
		if s.Phase != Running || s.Attempt != 1 {
			t.Errorf("%s: %s, attempt %d, after %s: %s", s.Kind, s.Phase, s.Attempt, now.Sub(begun), s.Reason)
			continue
		}
		if s.Kind == Sign {
			continue // its own deadline is near
		}
		// A party that stays away is blamed when the grace is over.
		for end := now.Add(s.Terms.Grace + 5*second); now.Before(end) && s.Phase == Running && s.Attempt == 1; {
			now = now.Add(5 * second)
			s = ticked(t, s, left, now)
		}
		if len(s.Culprits) != 1 || s.Culprits[0] != 2 {
			t.Errorf("%s: %s, blamed %v, of one who left for good: %s", s.Kind, s.Phase, s.Culprits, s.Reason)
		}
	}
}

// A clock that is ahead does not hide a party's absence permanently.
func TestAbsenceIsNotInTheFuture(t *testing.T) {
	t.Parallel()
	s := newKeygen(2, "alice", "bob", "carol")
	s, now := play(t, s, at{0, s.accept(1)}, at{0, s.accept(2)}, at{0, s.accept(3)})
	s = ticked(t, s, now.Add(time.Minute), now)
	s = ticked(t, s, now.Add(time.Minute), now.Add(time.Second))
	if since := s.Parties[1].AbsentSince; since.After(now.Add(time.Second)) {
		t.Errorf("absent since %s, which is yet to come", since)
	}
}
