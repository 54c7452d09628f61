package wsconn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestNoSecretsInLogs sends recognisable secrets in every field that can hold one,
// valid and invalid, and searches the log at its finest level for them.
func TestNoSecretsInLogs(t *testing.T) {
	const canary = "c4n4ry"
	h256, err := auth.NewHS256([]byte(strings.Repeat("k", 32)), "", "")
	if err != nil {
		t.Fatal(err)
	}
	h := serve(t, func(cfg *wsconn.Config) { cfg.Verifier, cfg.MaxRefused, cfg.MaxMessageBytes = h256, 100, 64<<10 })
	h.handler.receive = func(_ context.Context, _ *wsconn.Conn, _ wire.Message, p wire.Payload) (wire.Payload, error) {
		switch p := p.(type) {
		case *wire.KeygenComplete:
			return nil, errors.New("store share: no space left")
		case *wire.PartyFailed:
			panic("cannot handle " + p.Reason)
		case *wire.SignRequest:
			return nil, wire.Errorf(wire.CodeNotFound, "no such key")
		}
		return &wire.Ack{}, nil
	}
	tok, _, err := h256.Issue("alice", []wire.Role{wire.RoleParticipant}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	forged := tok[:len(tok)-8] + canary + "AA"
	reg := &wire.Register{UserID: "alice", Role: wire.RoleParticipant, Identity: canary}

	// Registers that fail.
	for _, first := range []string{
		`{"type":"register","token":"` + canary + `","payload":{"user_id":"alice","role":"participant"}}`,
		`{"type":"register","token":"` + forged + `","payload":{"user_id":"alice","role":"participant"}}`,
		`{"type":"` + canary + `","token":"` + tok + `"}`,
	} {
		c := h.dial(t)
		c.sendText(first)
		c.closed()
	}

	c := h.dial(t)
	c.sendText(`{"type":"register","token":["` + canary + `"]}`)
	c.next()
	c.send(message("alice", tok, reg))
	c.next()
	conn := await(t, h.handler.started)
	for _, text := range []string{
		canary, `{"type":"ping","token":"` + canary + `"}`, `{"type":"ping","token":"` + forged + `"}`, `{"type":"` + canary + `","token":"` + tok + `"}`,
		`{"type":"` + tok + `","token":"` + tok + `"}`, `{"type":"ping","user_id":"` + canary + `","token":"` + tok + `"}`,
		`{"type":"keygen_complete","token":"` + tok + `","payload":{"share_json":{"secret":"` + canary + `"}}}`,
		`{"type":"ack","token":"` + tok + `","payload":{"seq":"` + canary + `"}}`,
		`{"type":"ping","request_id":"` + canary + `","token":"` + tok + `","payload":{}}`,
	} {
		c.sendText(text)
		c.next()
	}
	for _, p := range []wire.Payload{
		&wire.KeygenComplete{KeyID: "k", PartIndex: 1, AccountAddr: canary, ShareJSON: canary},
		&wire.TSSMessage{SessionID: "s", Attempt: 1, From: 1, Body: canary, Sig: canary},
		&wire.SignRequest{KeyID: "k", Data: canary},
		&wire.SignResult{KeyID: "k", PartIndex: 1, Signature: canary},
	} {
		c.send(message("alice", tok, p))
		c.next()
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, []byte(canary)); err != nil {
		t.Fatal(err)
	}
	c.next()
	m, _ := wire.New("alice", &wire.SignParams{KeyID: "k", ShareJSON: canary})
	f, _ := m.Encode()
	conn.Offer(1, f, time.Time{})
	if _, _, err := c.ws.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	c.send(message("alice", tok, &wire.PartyFailed{SessionID: "s", PartIndex: 1, Reason: canary}))
	c.next()
	c.wantClosed(websocket.CloseInternalServerErr)

	// The client's own text in its close frame, and too much of it.
	c, _ = func() (*client, *wsconn.Conn) {
		c := h.dial(t)
		c.send(message("alice", tok, reg))
		c.next()
		return c, await(t, h.handler.started)
	}()
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4999, canary), time.Now().Add(patience))
	c.closed()
	c = h.dial(t)
	c.send(message("alice", tok, reg))
	c.next()
	c.sendText(fmt.Sprintf(`{"x":"%s"}`, strings.Repeat(canary, 20_000)))
	c.closed()
	eventually(t, "all are gone", func() bool { return h.Count() == 0 })

	log := h.log.String()
	for _, secret := range []string{canary, tok, tok[strings.LastIndex(tok, ".")+1:], strings.Split(tok, ".")[1]} {
		if i := strings.Index(log, secret); i >= 0 {
			t.Errorf("in the log: …%s…", log[max(0, i-200):min(len(log), i+50)])
		}
	}
	// The log is still not empty.
	for _, want := range []string{"message refused", `"level":"debug"`, "registered", "handler panicked", "no space left", "socket closed", `"account":"alice"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}
