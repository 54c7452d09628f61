package client

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func newCourier() *courier {
	c := &courier{}
	c.init()
	return c
}

// sendable takes all that may be sent now.
func (c *courier) sendable(now time.Time) []string {
	var ids []string
	for {
		p, _, _ := c.next(now)
		if p == nil {
			return ids
		}
		ids = append(ids, p.requestID)
	}
}

func TestCourierKeepsOrder(t *testing.T) {
	c, now := newCourier(), time.Now()
	var told []string
	for _, id := range []string{"a", "b", "c", "b"} {
		err := c.add(id, &wire.Ping{}, "", func(_ wire.Ack, e *wire.Error) { told = append(told, fmt.Sprint(id, " ", e == nil)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	clienttest.Want(t, "first", c.sendable(now), []string{"a", "b", "c"})
	clienttest.Want(t, "nothing twice", c.sendable(now), nil)
	c.acked("b", wire.Ack{})
	c.acked("b", wire.Ack{})
	c.acked("unknown", wire.Ack{})
	c.reset()
	clienttest.Want(t, "after a reconnect", c.sendable(now), []string{"a", "c"})
	c.refused("a", wire.Errorf(wire.CodeForbidden, "no"), now)
	c.refused("c", wire.Errorf(wire.CodeUnavailable, "later"), now)
	clienttest.Want(t, "too soon", c.sendable(now), nil)
	if _, at, _ := c.next(now); !at.Equal(now.Add(retryFirst)) {
		t.Errorf("next at %v", at.Sub(now))
	}
	clienttest.Want(t, "after a pause", c.sendable(now.Add(retryFirst)), []string{"c"})
	clienttest.Want(t, "told", told, []string{"b true", "a false"})
}

func TestCourierWindow(t *testing.T) {
	c, now := newCourier(), time.Now()
	for i := range windowSize + 5 {
		_ = c.add(fmt.Sprint(i), &wire.Ping{}, "", nil)
	}
	if got := len(c.sendable(now)); got != windowSize {
		t.Errorf("%d sent at once, want %d", got, windowSize)
	}
	c.acked("0", wire.Ack{})
	clienttest.Want(t, "room for one", c.sendable(now), []string{fmt.Sprint(windowSize)})
	// The server read none of them.
	c.putOff("", now)
	if got := c.sendable(now.Add(retryMost)); len(got) != windowSize || got[0] != "1" {
		t.Errorf("sent again: %v", got)
	}
	if _, _, overdue := c.next(now.Add(retryMost + answerWithin)); !overdue {
		t.Error("an unanswered message is not overdue")
	}
}

func TestCourierDrops(t *testing.T) {
	c := newCourier()
	for i, attempt := range []int{1, 2, 2} {
		_ = c.add(fmt.Sprint("tss", i), &wire.TSSMessage{SessionID: "s", Attempt: attempt}, "s", nil)
	}
	_ = c.add("other", &wire.TSSMessage{SessionID: "t", Attempt: 1}, "t", nil)
	_ = c.add("result", &wire.SignResult{SessionID: "s"}, "s", nil)
	_ = c.add("request", &wire.SignRequest{}, "", nil)
	c.drop("s", 2)
	clienttest.Want(t, "older attempts", c.sendable(time.Now()), []string{"tss1", "tss2", "other", "result", "request"})
	c.drop("s", 0)
	c.drop("", 0)
	c.reset()
	clienttest.Want(t, "a session", c.sendable(time.Now()), []string{"other", "request"})
}

func TestInbox(t *testing.T) {
	b := &inbox{}
	b.init()
	now := time.Now().Add(time.Hour)
	due := func(what string, want uint64) {
		t.Helper()
		if got, _ := b.due(now, false); got != want {
			t.Errorf("%s: acknowledges %d, want %d", what, got, want)
		}
	}
	b.reset(0, false)
	due("nothing", 0)
	for seq := uint64(5); seq <= 8; seq++ { // earlier ones were acknowledged by another process
		if !b.fresh(seq) {
			t.Errorf("%d is not fresh", seq)
		}
		if seq == 7 {
			b.hold(seq)
		}
		b.took(seq)
	}
	if b.fresh(8) || b.last() != 8 {
		t.Error("8 was taken")
	}
	due("up to what is held", 6)
	due("nothing new", 0)
	b.release(7)
	due("released", 8)
	b.took(9)
	if got, at := b.due(time.Now(), false); got != 0 || at.IsZero() {
		t.Errorf("one message: acknowledges %d, at %v; want a little later", got, at)
	}
	if got, _ := b.due(time.Now(), true); got != 9 {
		t.Errorf("flush: acknowledges %d, want 9", got)
	}
	b.reset(20, false)
	due("again on a new connection", 9)
	b.reset(3, true)
	if b.last() != 9 || b.fresh(9) {
		t.Errorf("rolled back: has %d; what it has had is to stay so, the numbers go on above", b.last())
	}
	b.reset(3, false)
	if b.last() != 3 || !b.fresh(4) {
		t.Errorf("lost mailbox: has %d", b.last())
	}
}

// For a request, a lack of room is reported at once; a message of a begun session
// waits for room.
func TestCourierWithoutRoom(t *testing.T) {
	c, now := newCourier(), time.Now()
	var told []string
	for id, p := range map[string]wire.Payload{
		"keygen": &wire.KeygenRequest{}, "sign": &wire.SignRequest{}, "round": &wire.TSSMessage{}, "share": &wire.KeygenComplete{},
	} {
		if err := c.add(id, p, "", func(wire.Ack, *wire.Error) { told = append(told, id) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range c.sendable(now) {
		c.refused(id, wire.Errorf(wire.CodeStorageFull, "no room"), now)
	}
	slices.Sort(told)
	clienttest.Want(t, "told", told, []string{"keygen", "sign"})
	again := c.sendable(now.Add(retryMost))
	slices.Sort(again)
	clienttest.Want(t, "said again", again, []string{"round", "share"})
}
