package party_test

import (
	"flag"
	"os"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

var writeKey = flag.Bool("write-key", false, "make the key in partytest/testdata anew")

// TestStoredKey signs with the pre-generated key, or generates it.
func TestStoredKey(t *testing.T) {
	if *writeKey {
		c := partytest.NewCommittee(t, 3)
		data := partytest.StoreKey(t, c, c.Keygen(t, pubkey.Secp256k1, 2))
		if err := os.WriteFile("partytest/testdata/key-test-only-secp256k1.json", data, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	c, shares := partytest.Key(t)
	digest := digestOf(pubkey.Secp256k1, "stored")
	for _, sig := range c.Sign(t, shares, []int{1, 3}, digest) {
		verify(t, shares[0], digest, sig)
	}
}
