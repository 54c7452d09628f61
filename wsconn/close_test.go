package wsconn_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func TestClose(t *testing.T) {
	h := serve(t, nil)
	for name, tt := range map[string]struct {
		close  func(*wsconn.Conn)
		code   int
		reason string
	}{
		"superseded": {(*wsconn.Conn).Supersede, wire.CloseSuperseded, "a newer connection of this user took over"},
		"first cause": {func(c *wsconn.Conn) {
			c.Close(wire.CloseUnavailable, "first")
			c.Close(wire.CloseAbuse, "second")
		}, wire.CloseUnavailable, "first"},
		"long reason": {func(c *wsconn.Conn) { c.Close(wire.CloseAbuse, strings.Repeat("é", 100)) }, wire.CloseAbuse, strings.Repeat("é", 61)},
	} {
		c, conn := h.join(t, "alice")
		tt.close(conn)
		_ = c.ws.SetReadDeadline(time.Now().Add(patience))
		_, _, err := c.ws.ReadMessage()
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != tt.code || closed.Text != tt.reason {
			t.Errorf("%s: got %v", name, err)
		}
		if conn.Offer(1, frame(t, "alice", 1), time.Time{}) {
			t.Errorf("%s: takes messages", name)
		}
		await(t, h.handler.ended)
	}
}

// TestCloseIgnored: a client that does not close its side is not waited for.
func TestCloseIgnored(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.CloseGrace = 50 * time.Millisecond })
	_, conn := h.join(t, "alice") // never reads
	conn.Supersede()
	await(t, h.handler.ended)
}

// TestCloseAll: as when the node has lost Redis. It goes on accepting.
func TestCloseAll(t *testing.T) {
	h := serve(t, nil)
	clients := []*client{h.dial(t)}
	for _, user := range []string{"alice", "bob", "carol"} {
		c, _ := h.join(t, user)
		clients = append(clients, c)
	}
	h.Close(wire.CloseUnavailable)
	for _, c := range clients {
		c.wantClosed(wire.CloseUnavailable)
	}
	for range 3 {
		await(t, h.handler.ended)
	}
	c, _ := h.join(t, "alice")
	c.lives("alice")
}

func TestDrain(t *testing.T) {
	const spread = 300 * time.Millisecond
	h := serve(t, func(cfg *wsconn.Config) { cfg.DrainSpread = spread })
	began, finish := make(chan struct{}), make(chan struct{})
	h.handler.receive = func(ctx context.Context, _ *wsconn.Conn, _ wire.Message, _ wire.Payload) (wire.Payload, error) {
		close(began)
		<-finish
		return &wire.Ack{}, ctx.Err()
	}
	busy, _ := h.join(t, "busy")
	busy.send(message("", token("busy", "participant", time.Hour), &wire.SessionCancel{SessionID: "s"}))
	await(t, began)

	const others = 6
	ended := make(chan time.Time, others)
	for range others {
		c, _ := h.join(t, "alice")
		go func() {
			if code, _ := c.closed(); code != websocket.CloseGoingAway {
				t.Errorf("closed with %d", code)
			}
			ended <- time.Now()
		}()
	}
	drained := make(chan error, 1)
	go func() { drained <- h.Drain(context.Background()) }()

	var times []time.Time
	for range others {
		times = append(times, await(t, ended))
	}
	slices.SortFunc(times, time.Time.Compare)
	if took := times[others-1].Sub(times[0]); took < spread/3 {
		t.Errorf("all were closed within %s", took)
	}
	if resp, p := get(t, h, "", nil); resp.StatusCode != http.StatusServiceUnavailable || p.Code != wire.CodeUnavailable {
		t.Errorf("while draining: status %d, %+v", resp.StatusCode, p)
	}
	select {
	case err := <-drained:
		t.Fatalf("drained with a message still being handled: %v", err)
	default:
	}
	close(finish)
	if err := await(t, drained); err != nil {
		t.Error(err)
	}
	if h.Count() != 0 || len(h.handler.ended) != others+1 {
		t.Errorf("%d sockets left, %d handlers told", h.Count(), len(h.handler.ended))
	}
	if err := h.Drain(t.Context()); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// TestDrainGivesUp: sockets that do not end in time are cut off, and their context ends.
func TestDrainGivesUp(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.CloseGrace = time.Minute })
	began, ended := make(chan struct{}), make(chan error, 1)
	h.handler.receive = func(ctx context.Context, _ *wsconn.Conn, _ wire.Message, _ wire.Payload) (wire.Payload, error) {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}
	c, _ := h.join(t, "alice")
	h.join(t, "bob") // never reads
	c.send(message("", token("alice", "participant", time.Hour), &wire.SessionCancel{SessionID: "s"}))
	await(t, began)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := await(t, ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context: %v", err)
	}
	eventually(t, "all are gone", func() bool { return h.Count() == 0 })
}

// A client that closes is answered with its own code, also while frames are being
// written to it, and after them.
func TestCloseIsAnswered(t *testing.T) {
	t.Parallel()
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprint("busy=", busy), func(t *testing.T) {
			t.Parallel()
			h := serve(t, nil)
			for range 20 {
				c, conn := h.join(t, "alice")
				if busy {
					for seq := uint64(1); seq <= 100; seq++ {
						conn.Offer(seq, frame(t, "alice", 1<<10), time.Time{})
					}
				}
				err := c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, "bye"), time.Now().Add(patience))
				if err != nil {
					t.Fatal(err)
				}
				c.wantClosed(websocket.CloseGoingAway)
				await(t, h.handler.ended)
			}
		})
	}
}
