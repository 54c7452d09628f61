package participant

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestRunsAreNotForgotten has the server end more sessions than are remembered. It
// must not make a participant repeat a run, and strangers must not displace
// sessions that others have ended.
func TestRunsAreNotForgotten(t *testing.T) {
	t.Parallel()
	l := NewLedger()
	end := func(id string, answer Answer, attempt int) {
		l.Set(Record{Invitation: Invitation{SessionID: id}, Answer: answer, Attempt: attempt, Ended: true})
	}
	known := func(id string) bool { _, ok := l.Get(id); return ok }
	end("declined", Declined, 0)
	end("never begun", Accepted, 0)
	end("signed in", Accepted, 1)
	for i := range maxDeclined {
		end(fmt.Sprint("declined ", i), Declined, 0)
	}
	if known("declined") || !known("declined 0") || !known("never begun") {
		t.Error("the window of declined sessions is not what it should be")
	}
	for i := range maxIdle {
		end(fmt.Sprint(i), Accepted, 0)
	}
	if known("never begun") {
		t.Error("everything is remembered for ever")
	}
	if r, known := l.Get("signed in"); !known || r.Attempt != 1 {
		t.Error("a session that was signed in is forgotten for others that were not")
	}
	for i := range maxBegun {
		end(fmt.Sprint("begun ", i), Accepted, 1)
	}
	if n := len(l.begun.attempts) + len(l.idle.attempts) + len(l.declined.attempts); known("signed in") || n != maxBegun+maxIdle+maxDeclined {
		t.Errorf("%d ended sessions are remembered, want %d", n, maxBegun+maxIdle+maxDeclined)
	}
	if first := firstOf(l.begun); first != SumOf("begun 0") {
		t.Error("a window does not begin with its oldest")
	}
}

func firstOf(w window) (first SessionSum) {
	for sum := range w.all() {
		return sum
	}
	return first
}

// TestFullOfClaims: when too many requests are recorded no other is taken, and none
// is removed.
func TestFullOfClaims(t *testing.T) {
	l := NewLedger()
	now := time.Now()
	for i := range maxClaims {
		l.claims[fmt.Sprint(i)] = Claim{"s", now.Add(time.Hour)}
	}
	if err := l.RoomForClaim(now); !errors.Is(err, errFull) {
		t.Errorf("got %v, want errFull", err)
	}
	if err := l.RoomForClaim(now.Add(2 * time.Hour)); err != nil || len(l.claims) != 0 {
		t.Errorf("got %v, with %d claims, want room when they have expired", err, len(l.claims))
	}
}
