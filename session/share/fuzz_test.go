package share_test

import (
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// FuzzParse: text that parses as the public part of a share is consistent.
func FuzzParse(f *testing.F) {
	c, shares := someKey(f, pubkey.Ed25519)
	held := shares[0]
	text, err := held.Seal(c.Identities[0].Recipient())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(`{"version":1,"sealed":"-----BEGIN AGE ENCRYPTED FILE-----\n"}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := share.ParsePublic(text)
		if err != nil {
			return
		}
		if p.PartIndex < 1 || p.PartIndex > len(p.Parties) || p.Threshold < 2 || p.Threshold > p.TotalParts {
			t.Errorf("parsed %+v", p)
		}
		if _, err := p.Curve.ParseKey(p.PublicKey); err != nil {
			t.Errorf("parsed a key that is none: %v", err)
		}
		_, _ = share.Open(text, c.Identities[0])
	})
}

// FuzzOpened gives the check of a share's plaintext any content of an age file to its
// owner: anyone who knows the recipient can make one.
func FuzzOpened(f *testing.F) {
	_, shares := someKey(f, pubkey.Ed25519)
	held := shares[0]
	f.Add(share.PlainJSON(held))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		s, err := share.OpenPlain(plain, held.Public())
		if err == nil && s.Public().KeyID != held.Public().KeyID {
			t.Error("opened another share")
		}
	})
}

// FuzzParsePrivateKey: text accepted as a key's private half signs for it.
func FuzzParsePrivateKey(f *testing.F) {
	_, shares := partytest.Key(f) // stored, so that all of the fuzzer's processes use the same
	public := shares[0].Public()
	key, err := share.Recover(shares)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(true, public.PublicKey, key.Secret())
	f.Add(true, public.PublicKey, "0x00")
	f.Add(false, public.PublicKey, key.Secret())
	f.Add(false, "0x5866666666666666666666666666666666666666666666666666666666666666", "0x0100000000000000000000000000000000000000000000000000000000000000")
	f.Fuzz(func(t *testing.T, secp256k1 bool, publicKey, secret string) {
		curve := pubkey.Ed25519
		if secp256k1 {
			curve = pubkey.Secp256k1
		}
		key, err := share.ParsePrivateKey(curve, publicKey, secret)
		if err != nil {
			return
		}
		if _, err := key.Sign(digestOf(curve, "fuzz")); err != nil {
			t.Errorf("took for a private key what cannot sign: %v", err)
		}
		if key.Secret() != strings.ToLower(secret) {
			t.Error("the key is not written as it was read")
		}
	})
}
