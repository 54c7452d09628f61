package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// truth is a crew with the real client that makes real ed25519 signatures in an
// arena, beside the scripted groups. Its coordinator's outcomes go into a separate
// history, without the mail, which the client does not expose.
type truth struct {
	a    *arena
	crew *crew
	key  client.Key
	past *userHistory
	over sync.WaitGroup
}

func (a *arena) truth() *truth {
	a.t.Helper()
	h := &truth{a: a, crew: a.c.crew(), past: &userHistory{user: "alice", discreet: true}}
	a.users = append(a.users, h.past)
	h.key = h.crew.keygen(pubkey.Ed25519)
	return h
}

// sign makes signatures one after another until ctx ends.
func (h *truth) sign(ctx context.Context) {
	h.over.Go(func() {
		for n := 1; ctx.Err() == nil && h.signOne(n); n++ {
			continue
		}
	})
}

var storageFull = &wire.Error{Code: wire.CodeStorageFull}

// signOne reports whether the client can continue.
func (h *truth) signOne(n int) bool {
	id, data := fmt.Sprintf("truth-%d", n), fmt.Sprintf("the truth, %d", n)
	h.past.note(event{what: asked, request: id, kind: wire.TypeSignRequest, key: h.key.KeyID})
	within, cancel := context.WithTimeout(h.a.life, h.a.within)
	defer cancel()
	req := client.SignRequest{KeyID: h.key.KeyID, AccountAddr: h.key.AccountAddr, Data: data, RequestID: id}
	sig, err := h.crew.asks.Sign(within, req)
	for errors.Is(err, storageFull) && waitFor(within, 200*time.Millisecond) {
		sig, err = h.crew.asks.Sign(within, req)
	}
	e := event{what: reported, request: id, kind: wire.TypeSignComplete, key: h.key.KeyID}
	var other *request.OutcomeError
	switch {
	case err == nil:
		independent(h.a.t, h.key, data, sig.Signature)
		e.session, e.status, e.value = sig.SessionID, wire.StatusSuccess, sig.Signature
	case errors.As(err, &other):
		e.session, e.status = other.SessionID, other.Status
	default:
		h.a.t.Errorf("the real client could not make signature %d: %v", n, err)
		return false
	}
	h.a.figures.outcome("real ed25519 sign", e.status)
	h.past.note(e)
	return true
}

// close ends the crew, and adds the client's actions under a request id that it does
// not expose.
func (h *truth) close(stored storedState) {
	kg := stored.sessions[h.key.SessionID]
	h.past.note(event{what: asked, request: kg.request, kind: wire.TypeKeygenRequest, key: h.key.KeyID, value: h.key.AccountAddr})
	h.past.note(event{
		what: reported, request: kg.request, kind: wire.TypeKeygenConfirm, key: h.key.KeyID, session: h.key.SessionID,
		status: wire.StatusSuccess, value: h.key.AccountAddr,
	})
}
