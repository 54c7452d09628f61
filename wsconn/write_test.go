package wsconn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestOffer pumps a mailbox through a small queue as the cluster does: offer, and
// wait for room when refused. All frames arrive, once, in order, numbered.
func TestOffer(t *testing.T) {
	for name, limits := range map[string]struct{ messages, bytes int }{
		"few messages": {3, 1 << 20},
		"few bytes":    {100, 5000},
		"one byte":     {100, 1}, // each frame alone fits an empty queue
	} {
		t.Run(name, func(t *testing.T) {
			h := serve(t, func(cfg *wsconn.Config) { cfg.QueueMessages, cfg.QueueBytes = limits.messages, limits.bytes })
			c, conn := h.join(t, "alice")
			const count = 500
			done := make(chan error, 1)
			go func() {
				for seq := uint64(1); seq <= count; {
					if conn.Offer(seq, frame(t, "alice", int(seq)%512), time.Time{}) {
						seq++
					} else if err := conn.Room(t.Context()); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
			for seq := uint64(1); seq <= count; seq++ {
				m, p := c.next()
				if m.Seq != seq || len(p.(*wire.SessionCancel).Reason) != int(seq)%512 || m.UserID != "alice" {
					t.Fatalf("got seq %d, want %d: %s", m.Seq, seq, m.Payload)
				}
			}
			if err := await(t, done); err != nil {
				t.Error(err)
			}
		})
	}
}

// stall fills the socket's buffers: the client does not read. It returns the seq
// that was refused first.
func stall(t *testing.T, conn *wsconn.Conn) uint64 {
	t.Helper()
	big := bytes.Replace(frame(t, "alice", 0), []byte(`"s"`), []byte(`"`+strings.Repeat("s", 256<<10)+`"`), 1)
	timedOut := false
	for seq := uint64(1); ; {
		if conn.Offer(seq, big, time.Time{}) {
			seq, timedOut = seq+1, false
			continue
		}
		if timedOut {
			return seq
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := conn.Room(ctx)
		cancel()
		if timedOut = errors.Is(err, context.DeadlineExceeded); err != nil && !timedOut {
			t.Fatal(err)
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.QueueMessages, cfg.QueueBytes = 4, 64<<20 })
	c, conn := h.join(t, "alice")
	refused := stall(t, conn)
	if conn.Offer(refused, frame(t, "alice", 1), time.Time{}) {
		t.Error("offered beyond the bound")
	}
	room := make(chan error, 1)
	go func() { room <- conn.Room(context.Background()) }()
	for seq := uint64(1); seq < refused; seq++ {
		_ = c.ws.SetReadDeadline(time.Now().Add(patience))
		if _, _, err := c.ws.ReadMessage(); err != nil {
			t.Fatal(err)
		}
	}
	if err := await(t, room); err != nil {
		t.Errorf("room once it was read: %v", err)
	}
	if !conn.Offer(refused, frame(t, "alice", 1), time.Time{}) {
		t.Error("no room though the queue was read")
	}
	if m, _ := c.next(); m.Seq != refused {
		t.Errorf("got seq %d, want %d", m.Seq, refused)
	}
}

// TestSlow: a client that does not read is closed when a write takes too long; a
// caller that waits for room gets an error.
func TestSlow(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.QueueMessages, cfg.WriteTimeout = 4, time.Second })
	_, conn := h.join(t, "alice")
	refused := stall(t, conn)
	if err := conn.Room(context.Background()); !errors.Is(err, wsconn.ErrClosed) {
		t.Errorf("Room: %v", err)
	}
	if await(t, h.handler.ended) != conn {
		t.Error("another ended")
	}
	if conn.Offer(refused, frame(t, "alice", 1), time.Time{}) {
		t.Error("offered to a closed socket")
	}
	eventually(t, "it is logged as slow", func() bool { return strings.Contains(h.log.String(), fmt.Sprintf(`"code":%d`, wire.CloseSlow)) })
}

// TestRepliesAreBounded: a client that sends without end and never reads is no
// longer read from, and closed.
func TestRepliesAreBounded(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.WriteTimeout, cfg.RateLimit = 1500*time.Millisecond, -1 })
	var received atomic.Int64
	h.handler.receive = func(context.Context, *wsconn.Conn, wire.Message, wire.Payload) (wire.Payload, error) {
		received.Add(1)
		return &wire.ErrorPayload{Error: strings.Repeat("x", 64<<10)}, nil
	}
	c, _ := h.join(t, "alice")
	m, _ := message("alice", token("alice", "participant", time.Hour), &wire.Ack{Seq: 1}).Encode()
	for c.ws.WriteMessage(websocket.TextMessage, m) == nil {
	}
	await(t, h.handler.ended)
	if n := received.Load(); n > 600 { // the kernel's buffers, and a few
		t.Errorf("%d messages were handled", n)
	}
}

// TestImplicitAck: a client without acks has received the frames before an answered
// ping, and never those that it has not read.
func TestImplicitAck(t *testing.T) {
	acks := make(chan uint64, 100)
	h := serve(t, nil)
	h.handler.acked = func(seq uint64) { acks <- seq }
	c, conn := h.join(t, "alice")
	for seq := uint64(5); seq <= 7; seq++ {
		conn.Offer(seq, frame(t, "alice", 1), time.Time{})
	}
	// Its own messages prove nothing: they may have crossed. Neither do pongs that
	// answer no ping, or one that was never sent.
	tok := token("alice", "participant", time.Hour)
	for _, data := range []string{"", "x", "8", "-1", "18446744073709551615"} {
		if err := c.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	c.send(message("alice", tok, &wire.SessionCancel{SessionID: "s"}))
	c.send(message("alice", tok, &wire.Pong{}))
	select {
	case seq := <-acks:
		t.Errorf("acked %d unread", seq)
	case <-time.After(50 * time.Millisecond):
	}
	// Reading answers the pings.
	go func() {
		for {
			if _, _, err := c.ws.ReadMessage(); err != nil {
				return
			}
		}
	}()
	last := uint64(0)
	for last != 7 {
		seq := await(t, acks)
		if seq <= last || seq > 7 {
			t.Fatalf("acked %d after %d", seq, last)
		}
		last = seq
	}
	conn.Offer(8, frame(t, "alice", 1), time.Time{})
	if seq := await(t, acks); seq != 8 {
		t.Errorf("acked %d, want 8", seq)
	}
}

// TestExplicitAck: a client that resumes or has sent an ack acknowledges itself.
func TestExplicitAck(t *testing.T) {
	h := serve(t, nil)
	h.handler.acked = func(seq uint64) { t.Errorf("acked %d for it", seq) }
	resumes := h.dial(t)
	resumes.register("alice", "participant", time.Hour, &wire.Resume{})
	resumes.next()
	resumed := await(t, h.handler.started)
	acksLater, acked := h.join(t, "bob")
	acksLater.send(message("bob", token("bob", "participant", time.Hour), &wire.Ack{Seq: 1}))
	acksLater.next()
	for c, sock := range map[*client]*wsconn.Conn{resumes: resumed, acksLater: acked} {
		pinged := false
		c.ws.SetPingHandler(func(string) error { pinged = true; return nil })
		for seq := uint64(1); seq <= 3; seq++ {
			sock.Offer(seq, frame(t, "x", 1), time.Time{})
			c.next()
		}
		c.lives(sock.UserID())
		if pinged {
			t.Error("asked for what it says by itself")
		}
	}
}

// TestPing: a silent client that answers pings stays, one that does not goes,
// and a client's own pings are answered.
func TestPing(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.PingEvery, cfg.PongWait = 20*time.Millisecond, 200*time.Millisecond })
	answers, there := h.join(t, "alice")
	pings := make(chan struct{}, 1000)
	reply := answers.ws.PingHandler()
	answers.ws.SetPingHandler(func(data string) error { pings <- struct{}{}; return reply(data) })
	pongs := make(chan string, 1)
	answers.ws.SetPongHandler(func(data string) error { pongs <- data; return nil })
	if err := answers.ws.WriteControl(websocket.PingMessage, []byte("echo"), time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _, _ = answers.ws.ReadMessage() }()
	if got := await(t, pongs); got != "echo" {
		t.Errorf("got pong %q", got)
	}

	dead, gone := h.join(t, "bob")
	dead.ws.SetPingHandler(func(string) error { return nil })
	go func() { _, _, _ = dead.ws.ReadMessage() }()
	if await(t, h.handler.ended) != gone {
		t.Error("the one that answers is gone")
	}
	for range 15 { // 300 ms of them: longer than the wait for a pong
		await(t, pings)
	}
	if h.Count() != 1 || !there.Offer(1, frame(t, "alice", 1), time.Time{}) {
		t.Error("the one that answers is gone")
	}
}

func TestReveal(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) {
		cfg.Reveal = func(user string, frame []byte) []byte {
			if bytes.Contains(frame, []byte("lost")) {
				return nil
			}
			return bytes.ReplaceAll(frame, []byte("sealed"), []byte("plain for "+user))
		}
	})
	c, conn := h.join(t, "alice")
	m, _ := wire.New("alice", &wire.SessionCancel{SessionID: "s", Reason: "sealed"})
	sealed, _ := m.Encode()
	before := string(sealed)
	conn.Offer(3, sealed, time.Time{})
	if m, p := c.next(); m.Seq != 3 || p.(*wire.SessionCancel).Reason != "plain for alice" {
		t.Errorf("got %+v", p)
	}
	if string(sealed) != before {
		t.Error("the frame in the mailbox's hands was changed")
	}
	conn.Offer(4, bytes.ReplaceAll(sealed, []byte("sealed"), []byte("lost")), time.Time{})
	conn.Offer(5, sealed, time.Time{})
	if rest := c.wantClosed(wire.CloseUnavailable); len(rest) != 0 {
		t.Errorf("after one that cannot be read came %v", rest)
	}
}

// TestAbrupt: a client that vanishes is noticed.
func TestAbrupt(t *testing.T) {
	h := serve(t, nil)
	c, conn := h.join(t, "alice")
	_ = c.ws.NetConn().(*net.TCPConn).SetLinger(0)
	c.ws.NetConn().Close()
	if await(t, h.handler.ended) != conn {
		t.Error("another ended")
	}
	if conn.Offer(1, frame(t, "alice", 1), time.Time{}) || !errors.Is(conn.Room(context.Background()), wsconn.ErrClosed) {
		t.Error("a closed socket takes messages")
	}
	conn.Close(websocket.CloseNormalClosure, "late")
	conn.Supersede()
}
