package wsconn_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/limit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestBytesArePaced has a user exceed the limit in bytes: its sent messages are
// received, the next ones wait, others continue, and its close is not delayed.
func TestBytesArePaced(t *testing.T) {
	// A KiB a second, so slow that the test never sees the end of a pause.
	limit := limit.NewThrottle(1, 110)
	h := serve(t, func(cfg *wsconn.Config) { cfg.Bytes = limit })
	from := make(chan string, 10)
	h.handler.receive = func(_ context.Context, c *wsconn.Conn, _ wire.Message, _ wire.Payload) (wire.Payload, error) {
		from <- c.UserID()
		return nil, nil
	}
	send := func(c *client, user string, bytes int) {
		b, err := message(user, token(user, "participant", time.Hour), &wire.SessionCancel{SessionID: "s-1"}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		c.sendText(string(b) + strings.Repeat(" ", bytes))
	}
	alice, conn := h.join(t, "alice")
	bob, _ := h.join(t, "bob")
	for range 3 {
		send(alice, "alice", 50<<10)
		if got := await(t, from); got != "alice" {
			t.Fatalf("a message of %s came, want alice's", got)
		}
	}
	send(alice, "alice", 0)
	for range 3 {
		send(bob, "bob", 0)
		if got := await(t, from); got != "bob" {
			t.Fatalf("a message of %s came, want bob's", got)
		}
	}
	// The pause begins after the message has been handed on.
	eventually(t, "one pause", func() bool { return limit.Refused() == 1 })
	conn.Close(wire.CloseUnavailable, "over")
	if ended := await(t, h.handler.ended); ended != conn {
		t.Errorf("%s ended, want alice's", ended.UserID())
	}
}
