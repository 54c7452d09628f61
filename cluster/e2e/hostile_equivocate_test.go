package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// twoFaced is carol and the server together: she makes her run of a signing twice,
// and dave gets the second version of her first-round broadcast.
type twoFaced struct {
	h     *hostile
	share *share.Share
	other *wire.TSSMessage // to dave
}

func (c *twoFaced) meddle(f frame) []wire.Message {
	if p, ok := read[wire.SignParams](f.m); ok && !f.up && f.user == "carol" {
		c.twin(p)
	}
	m, ok := read[wire.TSSMessage](f.m)
	if !ok || f.up || f.user != "dave" || c.other == nil || m.From != 2 || roundCode(m) != roundCode(c.other) {
		return []wire.Message{f.m}
	}
	return []wire.Message{write(f.m, c.other)}
}

// twin makes the other version.
func (c *twoFaced) twin(p *wire.SignParams) {
	digest, err := pubkey.Decode(p.Digest)
	if err != nil {
		c.h.t.Error(err)
		return
	}
	public := c.share.Public()
	run, err := party.NewSign(party.SignConfig{
		Identity: c.h.p["carol"].cfg.Identity, Share: c.share, Digest: digest,
		Binding: party.Binding{
			SessionID: p.SessionID, Attempt: p.Attempt, KeyID: p.KeyID, Curve: public.Curve, Threshold: public.Threshold,
			TotalParts: public.TotalParts, Parties: public.Parties, Self: public.PartIndex,
		},
	})
	if err == nil {
		c.h.t.Cleanup(run.Close)
		err = run.Start()
	}
	if err != nil {
		c.h.t.Error(err)
		return
	}
	c.other = wireRound(p.SessionID, p.Attempt, <-run.Out())
}

// TestEquivocationInASigning: carol signs two different messages for one place of a
// signing, and the server delivers each to a different party. Their echoes differ:
// nothing is signed, carol is named, and the evidence they have kept convicts her to
// any verifier.
func TestEquivocationInASigning(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	ctx, cancel := context.WithTimeout(t.Context(), mpcWithin)
	defer cancel()
	key, err := h.alice.Keygen(ctx, client.KeygenRequest{Threshold: 3, Participants: partUsers, Curve: pubkey.Ed25519})
	if err != nil {
		t.Fatal(err)
	}
	sealed, _ := h.share("carol", key)
	c := &twoFaced{h: h}
	if c.share, err = share.Open(sealed, h.p["carol"].cfg.Identity); err != nil {
		t.Fatal(err)
	}
	h.attack(c.meddle)
	mark := h.mark()
	sig, err := h.sign(key, "to be or not to be", 0, partUsers...)
	var out *request.OutcomeError
	if !errors.As(err, &out) || out.Status != wire.StatusFailed || !slices.Equal(out.Culprits, []int{2}) {
		t.Fatalf("got %v, %v, want it failed, by part 2", sig, err)
	}
	if n := len(sentBy[wire.SignResult](h, mark, "")); n != 0 {
		t.Errorf("%d have signed", n)
	}
	// A party that was told the end first may have found nothing.
	found := map[string][]*statement.Evidence{}
	eventually(t, "somebody keeps evidence", func() bool {
		for _, user := range []string{"bob", "dave"} {
			found[user] = h.p[user].store.Evidence()
		}
		return len(found["bob"])+len(found["dave"]) > 0
	})
	for _, failed := range append(sentBy[wire.PartyFailed](h, mark, "bob"), sentBy[wire.PartyFailed](h, mark, "dave")...) {
		if !slices.Equal(failed.Culprits, []int{2}) || !strings.Contains(failed.Reason, "two different messages from one sender") {
			t.Errorf("part %d says %q, and blames %v", failed.PartIndex, failed.Reason, failed.Culprits)
		}
	}
	reader := &cli{t: t, binary: conclaveBinary(t), home: filepath.Join(t.TempDir(), "home")}
	reader.run("", "trust", "add", "carol", h.p["carol"].cfg.Identity.Public().Fingerprint())
	for user, list := range found {
		for _, e := range list {
			text, err := e.Marshal()
			file := filepath.Join(t.TempDir(), "evidence.json")
			if err = errors.Join(err, os.WriteFile(file, text, 0o600)); err != nil {
				t.Fatal(err)
			}
			var verdict struct {
				Convicted bool   `json:"convicted"`
				User      string `json:"user_id"`
				Part      int    `json:"part_index"`
				Trust     string `json:"trust"`
				Protocol  string `json:"protocol"`
				SessionID string `json:"session_id"`
			}
			decode(t, reader.run("", "verify", "--evidence", file, "-json"), &verdict)
			if !verdict.Convicted || verdict.User != "carol" || verdict.Part != 2 || verdict.Trust != "pinned" ||
				verdict.Protocol != "sign" || verdict.SessionID != out.SessionID {
				t.Errorf("what %s has kept: %+v", user, verdict)
			}
		}
	}
	// Without equivocation the same three sign.
	h.attack(nil)
	if sig, err = h.sign(key, "to be", 0, partUsers...); err != nil {
		t.Fatalf("sign after the attack: %v", err)
	}
	independent(t, key, "to be", sig.Signature)
}
