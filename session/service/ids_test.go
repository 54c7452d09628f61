package service_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// oldClientsID is the session_id that clients of version 0.1 send.
func oldClientsID(user, keyID, requestID string) string {
	sum := sha256.Sum256([]byte(user + " " + keyID + " " + requestID))
	return "sg-" + hex.EncodeToString(sum[:16])
}

// vaults makes an active key for each of two coordinators.
func vaults(w *world, v *service.Service) {
	w.Helper()
	w.keygen(v, "vault", false)
	w.must(v, "other-boss", keygenRequest("their-vault"))
	w.must(v, "alice", &wire.KeygenResponse{KeyID: "their-vault", PartIndex: 1, Response: &yes})
	w.must(v, "bob", &wire.KeygenResponse{KeyID: "their-vault", PartIndex: 2, Response: &yes})
	w.must(v, "carol", &wire.KeygenResponse{KeyID: "their-vault", PartIndex: 3, Response: &yes})
	for i, user := range committee {
		w.must(v, user, &wire.KeygenComplete{
			KeyID: "their-vault", PartIndex: i + 1, AccountAddr: theKey.Address, ShareJSON: shareOf(user, false),
		})
	}
}

// TestSessionIDsCannotBeTaken has another coordinator request a signing on its own key
// under every session_id that the first one may use later.
func TestSessionIDsCannotBeTaken(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		vaults(w, v)
		handedOut := reserve(w, v, signRequest("vault", "pay bob"))
		for _, id := range []string{
			wire.SigningID("boss", "vault", "order 1"),
			oldClientsID("boss", "vault", "order 1"),
			handedOut, "sg-1", "kg-1", "sg-" + strings.Repeat("A", 26),
		} {
			for _, requestID := range []string{"", "order 1", "another"} {
				p := signRequest("their-vault", "pay mallory")
				p.SessionID = id
				if s, err := v.RequestSign(w.ctx, caller("other-boss"), p, requestID); err == nil {
					w.Errorf("another coordinator has taken session_id %s, as %s", id, s.ID)
				}
			}
		}
		// Its owner gets each of its own ids, and repeats the request.
		for requestID, id := range map[string]string{
			"order 1": wire.SigningID("boss", "vault", "order 1"), "order 2": oldClientsID("boss", "vault", "order 2"), "": handedOut,
		} {
			for range 2 {
				p := signRequest("vault", "pay bob")
				p.SessionID = id
				if s, err := v.RequestSign(w.ctx, caller("boss"), p, requestID); err != nil || s.ID != p.SessionID {
					w.Errorf("session_id %s with request_id %q: %s, %v", p.SessionID, requestID, s.ID, err)
				}
			}
		}
	})
}

// TestOwnSessionIDs: a session_id that a coordinator makes up, not in a server's form,
// names its signing, and is then refused to other coordinators.
func TestOwnSessionIDs(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		vaults(w, v)
		p := signRequest("vault", "pay bob")
		p.SessionID = "order-1"
		for range 2 {
			if s, err := v.RequestSign(w.ctx, caller("boss"), p, ""); err != nil || s.ID != "order-1" {
				w.Errorf("its own session_id: %q, %v", s.ID, err)
			}
		}
		theirs := signRequest("their-vault", "pay mallory")
		theirs.SessionID = "order-1"
		w.refused(v, "other-boss", theirs, wire.CodeBadRequest)
	})
}

// TestSessionIDsTellNothing: the session_id of another coordinator's session is refused
// exactly like an unused one.
func TestSessionIDsTellNothing(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		vaults(w, v)
		w.must(v, "boss", signRequest("vault", "pay bob"))
		if _, err := w.say(v, "boss", signRequest("vault", "pay carol"), "order 1"); err != nil {
			w.Fatal(err)
		}
		kg, err := w.store.Key(w.ctx, "vault")
		if err != nil {
			w.Fatal(err)
		}
		said := map[string]bool{}
		for _, id := range []string{kg.Session, wire.SigningID("boss", "vault", "order 1"), wire.SigningID("boss", "vault", "order 2")} {
			p := signRequest("their-vault", "x")
			p.SessionID = id
			_, err := w.say(v, "other-boss", p, "order 1")
			var e *wire.Error
			if !errors.As(err, &e) {
				w.Fatalf("%s: %v", id, err)
			}
			said[string(e.Code)+e.Message+e.KeyID+e.SessionID] = true
		}
		if len(said) != 1 {
			w.Errorf("answers differ: %v", said)
		}
	})
}

// TestReshareIDs: a reshare's id depends on all three of its inputs, has the form of a
// server's, and is not a signing's.
func TestReshareIDs(t *testing.T) {
	t.Parallel()
	id := wire.ReshareID("boss", "vault", "order 1")
	if !wire.HasSessionForm(id) || !wire.ValidID(id) || !wire.IsReshareID(id, "boss", "vault", "order 1") || wire.IsSigningID(id, "boss", "vault", "order 1") {
		t.Errorf("the id is %s", id)
	}
	for _, other := range []string{
		wire.ReshareID("boss2", "vault", "order 1"), wire.ReshareID("boss", "vault2", "order 1"), wire.ReshareID("boss", "vault", "order 2"),
		wire.SigningID("boss", "vault", "order 1"), wire.ReshareIDPrefix + wire.SigningID("boss", "vault", "order 1")[len(wire.SignIDPrefix):],
	} {
		if other == id || wire.IsReshareID(other, "boss", "vault", "order 1") {
			t.Errorf("%s is taken for %s", other, id)
		}
	}
	if wire.IsReshareID(wire.ReshareID("boss", "vault", ""), "boss", "vault", "") {
		t.Error("an id without a request_id is accepted")
	}
}

// TestKeyIDsCannotBeTaken has another coordinator request a keygen under the key_id
// derived from the first one's Idempotency-Key.
func TestKeyIDsCannotBeTaken(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		id := wire.TaskKeyID("boss", "order 1")
		for _, requestID := range []string{"", "order 1"} {
			if _, err := w.say(v, "other-boss", keygenRequest(id), requestID); !errors.Is(err, wire.ErrConflict) {
				w.Errorf("another coordinator asks for it with request_id %q: %v", requestID, err)
			}
			if _, _, err := v.KeygenTask(w.ctx, caller("other-boss"), keygenRequest(id), service.Task{Start: true, Once: requestID}); !errors.Is(err, wire.ErrConflict) {
				w.Errorf("another coordinator starts it under %q: %v", requestID, err)
			}
		}
		_, free := w.say(v, "other-boss", keygenRequest(id), "")
		keyID, s, err := v.KeygenTask(w.ctx, caller("boss"), keygenRequest(""), service.Task{Start: true, Once: "order 1"})
		if err != nil || keyID != id || s.KeyID != id {
			w.Errorf("its owner: %s, %v", keyID, err)
		}
		if _, taken := w.say(v, "other-boss", keygenRequest(id), ""); free == nil || taken == nil || free.Error() != taken.Error() {
			w.Errorf("free it is refused with %v, taken with %v", free, taken)
		}
		// Any other id belongs to the first that requests it, including a seed client.
		w.must(v, "other-boss", keygenRequest("key-of-my-own"))
		w.must(v, "other-boss", keygenRequest("key-"+strings.Repeat("A", 26)))
		// Reserved first, it may be started over a WebSocket, without a request_id.
		reserved, _, err := v.KeygenTask(w.ctx, caller("boss"), keygenRequest(""), service.Task{Once: "order 2"})
		if err != nil {
			w.Fatal(err)
		}
		w.must(v, "boss", keygenRequest(reserved))
	})
}

// TestFailedKeyIDsAreFreed: the record of a failed keygen, and its stored shares, are
// kept for its coordinator for a week and not for ever.
func TestFailedKeyIDsAreFreed(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.must(v, "other-boss", keygenRequest("treasury"))
		key := w.prefix + "key:{treasury}"
		if life := w.rdb.TTL(w.ctx, key).Val(); life > 0 {
			w.Errorf("while it is made its record has %s to live", life)
		}
		w.must(v, "bob", &wire.KeygenResponse{KeyID: "treasury", PartIndex: 2, Response: &no})
		w.refused(v, "boss", keygenRequest("treasury"), wire.CodeConflict)
		if life := w.rdb.TTL(w.ctx, key).Val(); life <= 0 || life > 7*24*time.Hour {
			w.Errorf("the record of the failed keygen has %s to live, want a week", life)
		}
		w.must(v, "other-boss", keygenRequest("treasury"))
		if life := w.rdb.TTL(w.ctx, key).Val(); life > 0 {
			w.Errorf("tried again, its record has %s to live", life)
		}
		w.must(v, "bob", &wire.KeygenResponse{KeyID: "treasury", PartIndex: 2, Response: &no})
		w.rdb.Del(w.ctx, key) // as after the week
		w.must(v, "boss", keygenRequest("treasury"))
	})
}
