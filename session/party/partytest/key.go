package partytest

import (
	"encoding/json"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/share"
)

// storedKey is a key's committee and shares in testdata, with the identities that open
// them: this key is public.
type storedKey struct {
	Warning    string   `json:"warning"`
	Identities []string `json:"identities"`
	Shares     []string `json:"shares"`
}

// Key returns a pre-generated 2-of-3 key, for tests that sign on secp256k1 and cannot
// spend seconds on a key generation. It is always the same; ed25519 has no such key,
// because generating one is fast.
func Key(tb testing.TB) (*Committee, []*share.Share) {
	tb.Helper()
	data, err := fixtures.ReadFile("testdata/key-test-only-secp256k1.json")
	if err != nil {
		tb.Fatal(err)
	}
	var stored storedKey
	if err := json.Unmarshal(data, &stored); err != nil {
		tb.Fatal(err)
	}
	c := &Committee{}
	var shares []*share.Share
	for i, text := range stored.Identities {
		id, err := identity.Parse(text)
		if err != nil {
			tb.Fatal(err)
		}
		held, err := share.Open(stored.Shares[i], id)
		if err != nil {
			tb.Fatal(err)
		}
		c.Identities, shares = append(c.Identities, id), append(shares, held)
	}
	c.Members = shares[0].Public().Parties
	return c, shares
}

// StoreKey encodes a key in the form that [Key] reads, to renew the one in testdata.
func StoreKey(tb testing.TB, c *Committee, shares []*share.Share) []byte {
	tb.Helper()
	stored := storedKey{Warning: "public and worthless: for tests only"}
	for i, id := range c.Identities {
		secret, err := id.Secret()
		if err != nil {
			tb.Fatal(err)
		}
		sealed, err := shares[i].Seal(id.Recipient())
		if err != nil {
			tb.Fatal(err)
		}
		stored.Identities, stored.Shares = append(stored.Identities, secret), append(stored.Shares, sealed)
	}
	out, err := json.MarshalIndent(stored, "", "  ")
	if err != nil {
		tb.Fatal(err)
	}
	return append(out, '\n')
}
