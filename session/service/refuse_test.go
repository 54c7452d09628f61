package service_test

import (
	"errors"
	"testing"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestRefusals tries each role's forbidden calls; in the end nothing has changed.
func TestRefusals(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(func(c *service.Config) { c.MaxParties = 3 })
		w.keygen(v, "vault", false)
		w.must(v, "boss", signRequest("vault", "hello", "alice", "bob"))
		s := w.the(session.Sign)
		kg := w.the(session.Keygen)

		accept := func(part int, id string) *wire.SignResponse {
			return &wire.SignResponse{KeyID: "vault", PartIndex: part, Response: &yes, SessionID: id}
		}
		result := func(part int) *wire.SignResult {
			return &wire.SignResult{KeyID: "vault", PartIndex: part, Signature: theKey.Sign(s.Digest), SessionID: s.ID}
		}
		done := &wire.KeygenComplete{KeyID: "vault", PartIndex: 1, AccountAddr: theKey.Address, ShareJSON: shareOf("alice", false), SessionID: kg.ID}
		wrongKey := accept(1, s.ID)
		wrongKey.KeyID = "another"
		elsewhere := signRequest("vault", "hello", "alice", "mallory")
		address := signRequest("vault", "hello")
		address.AccountAddr = anotherKey.Address
		oddHex, hash := signRequest("vault", "0x123"), signRequest("vault", "hello")
		hash.Hash = "none"
		four := keygenRequest("new")
		four.TotalParts, four.Participants = 4, []string{"alice", "bob", "carol", "dave"}
		curve := keygenRequest("new")
		curve.Curve = "p256"

		for _, c := range []struct {
			what, user string
			p          wire.Payload
			want       wire.Code
		}{
			{"participants do not ask for keys", "alice", keygenRequest("new"), wire.CodeForbidden},
			{"nor for signatures", "alice", signRequest("vault", "x"), wire.CodeForbidden},
			{"coordinators hold no shares", "boss", accept(1, s.ID), wire.CodeForbidden},
			{"nor sign", "boss", result(1), wire.CodeForbidden},
			{"nor report keys", "boss", done, wire.CodeForbidden},
			{"nor fail", "boss", &wire.PartyFailed{SessionID: s.ID, PartIndex: 1}, wire.CodeForbidden},
			{"nor send round messages", "boss", &wire.TSSMessage{SessionID: s.ID, Attempt: 1, From: 1, Body: "eA=="}, wire.CodeForbidden},
			{"another's part_index", "bob", accept(1, s.ID), wire.CodeForbidden},
			{"another's part_index, without a session", "bob", accept(1, ""), wire.CodeForbidden},
			{"a part that nobody has", "bob", accept(99, s.ID), wire.CodeForbidden},
			{"a holder who was not invited", "carol", accept(3, s.ID), wire.CodeNotFound},
			{"the same without a session", "carol", accept(3, ""), wire.CodeNotFound},
			{"a stranger", "mallory", accept(1, s.ID), wire.CodeNotFound},
			{"a stranger without a session", "mallory", accept(1, ""), wire.CodeNotFound},
			{"the wrong kind of answer", "alice", &wire.KeygenResponse{KeyID: "vault", PartIndex: 1, Response: &yes, SessionID: s.ID}, wire.CodeBadRequest},
			{"an answer to another key's session", "alice", wrongKey, wire.CodeConflict},
			{"an unknown session", "alice", accept(1, "nowhere"), wire.CodeNotFound},
			{"an unknown key", "boss", signRequest("nowhere", "x"), wire.CodeNotFound},
			{"an unknown key's answer", "alice", &wire.SignResponse{KeyID: "nowhere", PartIndex: 1, Response: &yes}, wire.CodeNotFound},
			{"another coordinator's key", "other-boss", signRequest("vault", "x"), wire.CodeNotFound},
			{"another coordinator's session", "other-boss", &wire.SessionCancel{SessionID: s.ID}, wire.CodeNotFound},
			{"a party does not cancel", "alice", &wire.SessionCancel{SessionID: s.ID}, wire.CodeForbidden},
			{"a result before it runs", "alice", result(1), wire.CodeConflict},
			{"a round message before it runs", "alice", &wire.TSSMessage{SessionID: s.ID, Attempt: 1, From: 1, Body: "eA=="}, wire.CodeConflict},
			{"in another's name", "bob", &wire.TSSMessage{SessionID: s.ID, Attempt: 1, From: 1, Body: "eA=="}, wire.CodeForbidden},
			{"a participant without a share", "boss", elsewhere, wire.CodeBadRequest},
			{"too few participants", "boss", signRequest("vault", "x", "alice"), wire.CodeBadRequest},
			{"another account", "boss", address, wire.CodeBadRequest},
			{"half a byte of hex", "boss", oddHex, wire.CodeBadRequest},
			{"text for a digest", "boss", hash, wire.CodeBadRequest},
			{"more parties than allowed", "boss", four, wire.CodeBadRequest},
			{"an unknown curve", "boss", curve, wire.CodeBadRequest},
			{"what clients do not send", "boss", &wire.SessionEnded{SessionID: s.ID, KeyID: "vault", Status: wire.StatusFailed}, wire.CodeUnknownType},
		} {
			w.Log(c.what)
			w.refused(v, c.user, c.p, c.want)
		}
		if now := w.the(session.Sign); now.Version != s.Version {
			w.Errorf("the session went from version %d to %d", s.Version, now.Version)
		}

		// An admin may do both.
		w.must(v, "admin", signRequest("vault", "by admin"))
		w.must(v, "admin", &wire.SessionCancel{SessionID: s.ID})
		if now := w.the(session.Sign); now.Phase != session.Cancelled {
			w.Errorf("phase %s", now.Phase)
		}
	})
}

// TestStrangersLearnNothing checks the errors for a user without a part in a session,
// and the contents of the views.
func TestStrangersLearnNothing(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		w.must(v, "boss", signRequest("vault", "hello", "alice", "bob"))
		id := w.the(session.Sign).ID
		_, err := w.say(v, "mallory", &wire.SessionCancel{SessionID: id}, "")
		var e *wire.Error
		if !errors.As(err, &e) || e.KeyID != "" {
			w.Errorf("mallory is told of key %q: %v", e.KeyID, err)
		}
		for user, sees := range map[string][2]bool{
			"boss": {true, true}, "admin": {true, true}, "alice": {true, true}, "carol": {true, false}, "mallory": {}, "other-boss": {},
		} {
			_, err := v.Key(w.ctx, caller(user), "vault")
			if (err == nil) != sees[0] || err != nil && !errors.Is(err, service.ErrNotFound) {
				w.Errorf("%s and the key: %v", user, err)
			}
			_, err = v.Session(w.ctx, caller(user), id)
			if (err == nil) != sees[1] || err != nil && !errors.Is(err, service.ErrNotFound) {
				w.Errorf("%s and the session: %v", user, err)
			}
		}
		keys, _, err := v.Keys(w.ctx, caller("carol"), service.KeyFilter{}, service.Page{Limit: 10})
		if err != nil || len(keys) != 1 {
			w.Errorf("carol has keys %v, %v", keys, err)
		}
		sessions, _, err := v.Sessions(w.ctx, caller("carol"), service.Filter{}, service.Page{Limit: 10})
		if err != nil || len(sessions) != 1 {
			w.Errorf("carol has %d sessions, %v", len(sessions), err)
		}
	})
}

// TestBadIDsReachNoKey uses ids that would be other keys of the store.
func TestBadIDsReachNoKey(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		before := w.rdb.Keys(w.ctx, w.prefix+"*").Val()
		for _, id := range []string{"", "vault}", "{vault}:shares", "a:b", "a b", "x\x00", string(make([]byte, 200))} {
			_, err1 := v.Key(w.ctx, caller("admin"), id)
			_, err2 := v.Session(w.ctx, caller("admin"), id)
			_, err3 := v.Cancel(w.ctx, caller("admin"), id, "")
			for _, err := range []error{err1, err2, err3} {
				if !errors.Is(err, service.ErrNotFound) {
					w.Errorf("id %q: %v", id, err)
				}
			}
			w.refused(v, "boss", keygenRequest(id), wire.CodeBadRequest)
		}
		if after := w.rdb.Keys(w.ctx, w.prefix+"*").Val(); len(after) != len(before) {
			w.Errorf("keys before %v, after %v", before, after)
		}
	})
}
