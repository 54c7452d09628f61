package participant

import (
	"errors"
	"testing"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

// TestParticipantDoesNotGuess: a signer refuses an invitation without a hash for 32
// bytes that are a transaction.
func TestParticipantDoesNotGuess(t *testing.T) {
	inv := Invitation{Kind: request.KindSign, KeyID: "k", Curve: pubkey.Secp256k1, Data: shortTransaction}
	if got, err := digested(inv); !errors.Is(err, pubkey.ErrTransaction) {
		t.Errorf("without a hash: %+v, %v", got, err)
	}
	inv.Hash = "keccak256"
	if got, err := digested(inv); err != nil || got.Digest == shortTransaction {
		t.Errorf("with keccak256: %+v, %v", got, err)
	}
}

// shortTransaction is an unsigned Ethereum transaction of 32 bytes.
const shortTransaction = "0xdf80018252089435353535353535353535353535353535353535350180018080"
