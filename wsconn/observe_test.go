package wsconn_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// observed records an Observer's calls, as text.
type observed struct {
	mu   sync.Mutex
	told []string
}

func (o *observed) add(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, fmt.Sprintf(format, args...))
}

func (o *observed) Handled(t wire.Type, refused wire.Code, took time.Duration) {
	o.add("handled %s %s %v", t, refused, took >= 0)
}
func (o *observed) Written(frame []byte, sent time.Time) {
	o.add("written %t %v", len(frame) > 0, !sent.IsZero())
}
func (o *observed) TurnedAway()     { o.add("turned away") }
func (o *observed) Closed(code int) { o.add("closed %d", code) }

func (o *observed) has(what string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.told, what)
}

// TestObserver causes each event that an Observer reports, each with its own socket.
func TestObserver(t *testing.T) {
	var o observed
	h := serve(t, func(cfg *wsconn.Config) { cfg.Observer, cfg.QueueMessages, cfg.RateLimit = &o, 4, 20 })
	h.handler.receive = func(context.Context, *wsconn.Conn, wire.Message, wire.Payload) (wire.Payload, error) {
		return nil, wire.ErrNotFound
	}
	c, conn := h.join(t, "alice")
	if h.Registered() != 1 {
		t.Errorf("%d are registered, want 1", h.Registered())
	}
	good := token("alice", "participant", time.Hour)
	c.lives("alice")
	c.send(message("alice", good, &wire.SessionCancel{SessionID: "s"}))
	c.send(message("alice", "no token", &wire.Ping{}))
	c.send(message("alice", token("alice", "participant", -time.Second), &wire.Ping{}))
	c.sendText(`{"type":"its own word","token":"` + good + `","payload":{}}`)
	c.sendText(`{`)
	if err := c.ws.WriteMessage(websocket.BinaryMessage, []byte{1}); err != nil {
		t.Fatal(err)
	}
	conn.Offer(7, frame(t, "alice", 1), time.Now())
	stranger := h.dial(t)
	stranger.send(message("bob", token("bob", "participant", time.Hour), &wire.Ping{}))
	stranger.wantClosed(wire.CloseNotRegister)
	flood, _ := h.join(t, "carol")
	for range 200 {
		if flood.ws.WriteMessage(websocket.TextMessage, []byte(`{}`)) != nil {
			break
		}
	}
	_, slow := h.join(t, "dave")
	stall(t, slow)
	slow.Close(wire.CloseSlow, "")
	for _, what := range []string{
		"handled register  true", "handled ping  true", "handled session_cancel not_found true", "handled ping unauthenticated true",
		"handled ping token_expired true", "handled its own word unknown_type true", "handled  bad_request true",
		"handled ping not_registered true", "handled  rate_limited true",
		"written true true", "written true false", "turned away",
		fmt.Sprint("closed ", wire.CloseNotRegister), fmt.Sprint("closed ", wire.CloseAbuse), fmt.Sprint("closed ", wire.CloseSlow),
	} {
		eventually(t, what, func() bool { return o.has(what) })
	}
	_ = c.ws.Close()
	eventually(t, "nobody is registered", func() bool { return h.Registered() == 0 })
}
