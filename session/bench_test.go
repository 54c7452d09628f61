package session

import "testing"

// One step of the state machine in the middle of a signing: an acceptance, the
// one that starts the parties, and a signature, which is verified.
func BenchmarkStep(b *testing.B) {
	asked := newSigning(2, 3, "alice", "bob", "carol")
	inviting, now := play(b, asked, at{0, asked.accept(1)})
	running, _ := play(b, asked, at{0, asked.accept(1)}, at{0, asked.accept(2)})
	for _, step := range []struct {
		name string
		from Session
		ev   Event
		to   Phase
	}{
		{"accept", inviting, asked.accept(2), Running},
		{"signature", running, running.signed(1, theKey), Completed},
		{"tick", running, Tick{}, Running},
	} {
		b.Run(step.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s, _, err := Step(step.from, step.ev, now)
				if err != nil || s.Phase != step.to {
					b.Fatalf("got phase %s (%v), want %s", s.Phase, err, step.to)
				}
			}
		})
	}
}
