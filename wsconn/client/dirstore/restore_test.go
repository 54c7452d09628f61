package dirstore

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
)

// TestRestoreBesideALaterEpoch: a backup of epoch 1 is restored beside the share of the
// current epoch and does not take its place; another file of epoch 1 is not replaced.
func TestRestoreBesideALaterEpoch(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 2)
	shares := c.Keygen(t, pubkey.Ed25519, 2)
	seal := func() string {
		t.Helper()
		text, err := shares[0].Seal(c.Identities[0].Recipient())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	text, another := seal(), seal()
	public := shares[0].Public()
	later := strings.Replace(text, `"epoch":1,`, `"epoch":2,`, 1)
	first := c.FirstCertificate(t, shares)
	second := c.Refreshed(t, first, 2)
	eachEpochStore(t, func(t *testing.T, s participant.EpochStore) {
		ctx := context.Background()
		if err := errors.Join(s.Put(ctx, later), s.PutCertificate(ctx, first), s.PutCertificate(ctx, second)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := participant.RestoreShare(ctx, s, text, c.Identities[0]); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.Get(ctx, public.KeyID, public.AccountAddr); err != nil || got != later {
			t.Errorf("the current share is another: %v", err)
		}
		if _, err := participant.RestoreShare(ctx, s, another, c.Identities[0]); err == nil {
			t.Error("another file of epoch 1 is replaced")
		}
		if got, err := s.GetEpoch(ctx, public.KeyID, public.AccountAddr, 1); err != nil || got != text {
			t.Errorf("the share of epoch 1: %v", err)
		}
	})
}
