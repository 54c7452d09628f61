package wsconn_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// later is a wsconn.Pending that is done when the test says so.
type later struct {
	name string
	ctx  context.Context
	done chan struct{}
	err  error
	slow chan struct{} // Answer waits for it, unless it is nil
}

func (l *later) Done() <-chan struct{} { return l.done }

func (l *later) Answer() (wire.Payload, error) {
	if l.ctx.Err() != nil {
		panic("the context has ended before the answer")
	}
	if l.slow != nil {
		<-l.slow
	}
	return &wire.Ack{SessionID: l.name}, l.err
}

// rounds is a harness whose Handler only begins to process round messages. The
// channel returns these; other messages go to others.
func rounds(t *testing.T, edit func(*wsconn.Config)) (h *harness, begun chan *later, others chan wire.Type) {
	h = serve(t, edit)
	begun, others = make(chan *later, 1<<10), make(chan wire.Type, 1<<10)
	h.handler.begin = func(ctx context.Context, p wire.Payload) (wsconn.Pending, error) {
		l := &later{name: p.(*wire.TSSMessage).SessionID, ctx: ctx, done: make(chan struct{})}
		begun <- l
		return l, nil
	}
	h.handler.receive = func(_ context.Context, _ *wsconn.Conn, m wire.Message, _ wire.Payload) (wire.Payload, error) {
		others <- m.Type
		return nil, nil
	}
	return h, begun, others
}

func (c *client) sendRound(user, name string, bytes int) {
	c.t.Helper()
	c.send(message(user, token(user, "participant", time.Hour),
		&wire.TSSMessage{SessionID: name, Attempt: 1, From: 1, To: 2, Body: strings.Repeat("A", bytes)}))
}

// beginRounds sends round messages, each when the previous one has begun.
func (c *client) beginRounds(user string, begun chan *later, names ...string) (all []*later) {
	c.t.Helper()
	for _, name := range names {
		c.sendRound(user, name, 8)
		all = append(all, await(c.t, begun))
	}
	return all
}

// wantAcks reads acks of round messages, in that order.
func (c *client) wantAcks(names ...string) {
	c.t.Helper()
	var got []string
	for range names {
		m, p := c.next()
		ack, ok := p.(*wire.Ack)
		if !ok || m.RequestID != "req-tss_message" {
			c.t.Fatalf("got %s %s, want an ack", m.Type, m.Payload)
		}
		got = append(got, ack.SessionID)
	}
	if !slices.Equal(got, names) {
		c.t.Fatalf("acks of %v, want %v", got, names)
	}
}

// nothing checks that nothing arrives for a moment.
func nothing[T any](t *testing.T, ch <-chan T, what string) {
	t.Helper()
	select {
	case v := <-ch:
		t.Fatalf("%s: %v", what, v)
	case <-time.After(50 * time.Millisecond):
	}
}

// Round messages do not wait for each other, and are answered in their order
// whichever is done first.
func TestRoundsOverlap(t *testing.T) {
	t.Parallel()
	h, begun, _ := rounds(t, nil)
	c, _ := h.join(t, "alice")
	all := c.beginRounds("alice", begun, "a", "b", "c")
	close(all[2].done)
	close(all[1].done)
	close(all[0].done)
	c.wantAcks("a", "b", "c")
	c.lives("alice")
}

// Other messages wait until all before them are answered, except an acknowledgement
// of the mailbox.
func TestOthersWaitForRounds(t *testing.T) {
	t.Parallel()
	h, begun, others := rounds(t, nil)
	c, _ := h.join(t, "alice")
	tok := token("alice", "participant", time.Hour)
	c.sendRound("alice", "a", 8)
	l := await(t, begun)
	c.send(message("alice", tok, &wire.Ack{Seq: 1}))
	if got := await(t, others); got != wire.TypeAck {
		t.Fatalf("got %s, want ack", got)
	}
	c.send(message("alice", tok, &wire.SessionCancel{SessionID: "s"}))
	nothing(t, others, "received while a round message was under way")
	close(l.done)
	if got := await(t, others); got != wire.TypeSessionCancel {
		t.Fatalf("got %s, want session_cancel", got)
	}
	c.wantAcks("a")
}

// A client that does not wait for answers cannot exceed the node's limits of
// messages and bytes in flight.
func TestRoundsAreBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ bytes, sent, begun int }{
		"number": {8, 40, 32},
		"bytes":  {30 << 10, 8, 3},
		"one":    {200 << 10, 2, 1}, // longer than the bound, and alone
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, begun, _ := rounds(t, func(cfg *wsconn.Config) { cfg.QueueBytes = 100 << 10 })
			c, _ := h.join(t, "alice")
			for i := range test.sent {
				c.sendRound("alice", fmt.Sprint(i), test.bytes)
			}
			var all []*later
			for range test.begun {
				all = append(all, await(t, begun))
			}
			nothing(t, begun, "one more than the bound was begun")
			for i := range test.sent {
				close(all[i].done)
				if len(all) < test.sent {
					all = append(all, await(t, begun))
				}
				c.wantAcks(fmt.Sprint(i))
			}
		})
	}
}

// A later failure is reported like an immediate one, in its turn; a later panic of
// the Handler closes the socket.
func TestRoundFailsLater(t *testing.T) {
	t.Parallel()
	h, begun, _ := rounds(t, nil)
	c, _ := h.join(t, "alice")
	all := c.beginRounds("alice", begun, "a", "b", "c")
	all[1].err = wire.Errorf(wire.CodeMailboxFull, "full")
	for _, l := range all {
		close(l.done)
	}
	c.wantAcks("a")
	if m, e := c.refusal(); e.Code != wire.CodeMailboxFull || e.RequestType != wire.TypeTSSMessage || m.RequestID != "req-tss_message" {
		t.Errorf("got %+v of %s, want mailbox_full of the round message", e, m.RequestID)
	}
	c.wantAcks("c")

	c.sendRound("alice", "d", 8)
	l := await(t, begun)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	l.ctx = gone // which makes Answer panic
	close(l.done)
	if _, e := c.refusal(); e.Code != wire.CodeInternal {
		t.Errorf("got %+v, want internal", e)
	}
	c.wantClosed(websocket.CloseInternalServerErr)
}

// Answers written together do not wait for room that only writing them would free.
func TestRoundsAndManyReplies(t *testing.T) {
	t.Parallel()
	h, begun, _ := rounds(t, nil)
	c, _ := h.join(t, "alice")
	c.sendRound("alice", "a", 8)
	c.sendRound("alice", "b", 8)
	first, second := await(t, begun), await(t, begun)
	first.slow = make(chan struct{})
	close(first.done)
	close(second.done)
	const bad = 31 // with the answers, more than the reply queue can hold
	for range bad {
		c.sendText("{")
	}
	time.Sleep(50 * time.Millisecond) // for most of them to be queued
	close(first.slow)
	acks, refusals := 0, 0
	for range bad + 2 {
		switch m, _ := c.next(); m.Type {
		case wire.TypeAck:
			acks++
		case wire.TypeError:
			refusals++
		}
	}
	if acks != 2 || refusals != bad {
		t.Errorf("%d acks and %d errors, want 2 and %d", acks, refusals, bad)
	}
}

// A socket that closes lets its Handler finish before it is told.
func TestDisconnectedAfterRounds(t *testing.T) {
	t.Parallel()
	h, begun, _ := rounds(t, nil)
	c, conn := h.join(t, "alice")
	c.sendRound("alice", "a", 8)
	l := await(t, begun)
	c.ws.Close()
	eventually(t, "the socket closes", func() bool { return !conn.Offer(1, frame(t, "alice", 8), time.Time{}) })
	nothing(t, h.handler.ended, "Disconnected was called while a message was under way")
	close(l.done)
	await(t, h.handler.ended)
}
