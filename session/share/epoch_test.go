package share_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// firstFormats is a key with everything in the formats before epochs.
type firstFormats struct {
	Identities   []string        `json:"identities"`
	Shares       []string        `json:"shares"`
	SessionID    string          `json:"session_id"`
	Coordinator  string          `json:"coordinator"`
	Attestations []string        `json:"attestations"`
	Evidence     json.RawMessage `json:"evidence"`
}

// TestFirstFormats reads shares, attestations and evidence in the formats before
// epochs: they are of epoch 1, and valid.
func TestFirstFormats(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/key-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var old struct {
		About string `json:"about"`
		firstFormats
	}
	if err := json.Unmarshal(data, &old); err != nil {
		t.Fatal(err)
	}
	var shares []*share.Share
	var list []statement.Attestation
	for i, text := range old.Shares {
		id, err := identity.Parse(old.Identities[i])
		if err != nil {
			t.Fatal(err)
		}
		public, err := share.ParsePublic(text)
		if err != nil || public.Epoch != 1 || public.Version != 2 {
			t.Fatalf("read as epoch %d of format %d: %v", public.Epoch, public.Version, err)
		}
		s, err := share.Open(text, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(); err != nil {
			t.Error(err)
		}
		shares = append(shares, s)

		// Sealed again it has the present format.
		again := seal(t, s, id)
		if !strings.HasPrefix(again, `{"version":2,`) || !strings.Contains(again, `"epoch":1,`) {
			t.Errorf("sealed again it is %.80s", again)
		}
		reopened, err := share.Open(again, id)
		if err != nil || share.Secret(reopened) != share.Secret(s) {
			t.Errorf("sealed again it is another share: %v", err)
		}
		// An epoch that is only claimed is refused.
		for _, claimed := range []string{
			strings.Replace(text, `"key_id":`, `"epoch":1,"key_id":`, 1),
			strings.Replace(strings.Replace(text, `"key_id":`, `"epoch":1,"key_id":`, 1), `"version":1`, `"version":2`, 1),
		} {
			if _, err := share.Open(claimed, id); err == nil || claimed == text {
				t.Errorf("opened with a claimed epoch: %.80s", claimed)
			}
		}

		a, err := statement.ParseAttestation(old.Attestations[i])
		if err != nil || a.String() != old.Attestations[i] {
			t.Fatalf("attestation: %v", err)
		}
		list = append(list, a)
	}
	if _, err := share.Recover(shares); err != nil {
		t.Error(err)
	}

	public := shares[0].Public()
	k := statement.Attested{
		SessionID: old.SessionID, KeyID: public.KeyID, Epoch: public.Epoch, Coordinator: old.Coordinator, Curve: public.Curve, Threshold: public.Threshold,
		Participants: []string{"user-1", "user-2", "user-3"}, AccountAddr: public.AccountAddr, PublicKey: public.PublicKey,
	}
	if err := k.Verify(list); err != nil {
		t.Error(err)
	}
	k.Epoch = 2
	if k.Verify(list) == nil {
		t.Error("attestations without an epoch are taken for those of epoch 2")
	}

	e, err := statement.ParseEvidence(old.Evidence)
	if err != nil {
		t.Fatal(err)
	}
	if culprit, err := e.Verify(); err != nil || culprit.Index != 2 {
		t.Errorf("evidence convicts part %d: %v", culprit.Index, err)
	}
	e.Epoch = 1
	if _, err := e.Verify(); err == nil {
		t.Error("evidence of the first format with an epoch is good")
	}
}
