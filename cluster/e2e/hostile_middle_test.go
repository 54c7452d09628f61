package e2e_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestFirstContact is a man-in-the-middle attack. The attacker poses as carol and dave
// to bob, at bob's first contact with them, and runs a keygen with him; only their
// fingerprints can reveal it. If bob has pinned carol's, or requires pins, he
// refuses; otherwise he refuses the true ones later, as their identities differ.
func TestFirstContact(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(h *hostile)
		reason  string
	}{
		"nobody pinned": {func(*hostile) {}, ""},
		"carol pinned": {func(h *hostile) {
			if err := h.p["bob"].store.Pin("carol", h.p["carol"].cfg.Identity.Public().Fingerprint()); err != nil {
				h.t.Fatal(err)
			}
		}, "carol (part 2) is not trusted: client: the identity has changed"},
		"everybody to be pinned": {func(h *hostile) {
			h.p["bob"].stop()
			h.p["bob"].part.Trust.PinnedOnly = true
			h.enter("bob")
		}, "carol (part 2) is not trusted: client: the identity is not pinned"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := captured(t, true)
			tc.prepare(h)
			m := &middle{h: h, carol: partytest.Identity(t), dave: partytest.Identity(t)}
			h.attack(m.meddle)
			mark := h.mark()
			ended := make(chan error, 1)
			go func() { _, err := h.keygen(pubkey.Ed25519, 0); ended <- err }()
			if tc.reason == "" { // nothing else ends it soon
				eventually(t, "bob reports a key", func() bool { return len(sentBy[wire.KeygenComplete](h, mark, "bob")) == 1 })
				session := toldTo[wire.KeygenParams](h, mark, "bob")[0].SessionID
				if err := h.alice.Cancel(t.Context(), session); err != nil {
					t.Error(err)
				}
			}
			err := <-ended
			var out *request.OutcomeError
			if !errors.As(err, &out) {
				t.Errorf("got %v, want no key", err)
			}
			if tc.reason != "" {
				if failed := sentBy[wire.PartyFailed](h, mark, "bob"); len(failed) != 1 || !strings.Contains(failed[0].Reason, tc.reason) {
					t.Errorf("bob says %v, want %q", failed, tc.reason)
				}
				if list, _ := h.p["bob"].store.List(t.Context()); len(list) != 0 {
					t.Error("bob has a share")
				}
				return
			}
			list, _ := h.p["bob"].store.List(t.Context())
			if len(list) != 1 {
				t.Fatalf("bob has %d shares: the attack does not work, and the table in deploy/docs/SECURITY.md can say so", len(list))
			}
			for _, p := range list[0].Parties[1:] {
				if p.Identity == h.p[p.User].cfg.Identity.Public() {
					t.Errorf("%s is the true one", p.User)
				}
			}
			h.attack(nil)
			if _, err := h.keygen(pubkey.Ed25519, 0); !errors.As(err, &out) || !strings.Contains(out.Reason, "the identity has changed: carol") {
				t.Errorf("when the true ones come: got %v, want bob to refuse them", err)
			}
		})
	}
}

// middle plays carol and dave to bob.
type middle struct {
	h           *hostile
	carol, dave *identity.Identity
	runs        map[int]*party.Run
}

func (m *middle) meddle(f frame) []wire.Message {
	if f.user != "bob" {
		return []wire.Message{f.m}
	}
	if p, ok := read[wire.KeygenParams](f.m); ok && !f.up {
		p.Parties[1].Identity, p.Parties[2].Identity = m.carol.Public().String(), m.dave.Public().String()
		m.begin(p)
		return []wire.Message{write(f.m, p)}
	}
	r, ok := read[wire.TSSMessage](f.m)
	if !ok || m.runs == nil {
		return []wire.Message{f.m}
	}
	if f.up {
		for part, run := range m.runs {
			if msg := roundOf(r); msg.To == 0 || msg.To == part {
				_ = run.Accept(msg)
			}
		}
	}
	return nil // nothing passes between bob and the true ones
}

// begin starts the attacker's two runs.
func (m *middle) begin(p *wire.KeygenParams) {
	b := party.Binding{SessionID: p.SessionID, Attempt: p.Attempt, KeyID: p.KeyID, Curve: pubkey.Curve(p.Curve), Threshold: p.Threshold, TotalParts: p.TotalParts}
	for _, w := range p.Parties {
		id, err := identity.ParsePublic(w.Identity)
		if err != nil {
			m.h.t.Error(err)
			return
		}
		b.Parties = append(b.Parties, identity.Member{Index: w.PartIndex, User: w.UserID, Identity: id})
	}
	m.runs = map[int]*party.Run{}
	for part, id := range map[int]*identity.Identity{2: m.carol, 3: m.dave} {
		b.Self = part
		run, err := party.NewKeygen(party.KeygenConfig{Binding: b, Identity: id})
		if err != nil {
			m.h.t.Error(err)
			return
		}
		m.runs[part] = run
	}
	for part, run := range m.runs {
		m.h.t.Cleanup(run.Close)
		if err := run.Start(); err != nil {
			m.h.t.Error(err)
		}
		other := m.runs[5-part]
		go func() {
			for msg := range run.Out() {
				if msg.To == 0 || msg.To == 5-part {
					_ = other.Accept(msg)
				}
				if msg.To == 0 || msg.To == 1 {
					m.h.tell("bob", write(wire.Message{}, wireRound(p.SessionID, p.Attempt, msg)))
				}
			}
		}()
	}
}
