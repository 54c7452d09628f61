package pubkey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// curveOf selects a curve by a byte.
func curveOf(b byte) Curve { return []Curve{Secp256k1, Ed25519, "", "p256"}[b%4] }

// FuzzDigest: data to be signed has a digest or an error, the digest has the length its
// curve signs, and no two forms of one text are confused.
func FuzzDigest(f *testing.F) {
	for i, data := range []string{"pay bob", "0x", "0x12", "0x123", "0X12", "", "0x" + strings.Repeat("ab", 32), "\x00\xff", shortTransaction, "0XDF", "pay \xff\xfe"} {
		for _, hash := range []string{"", "none", "keccak256", "sha256", "sha256d", "eip191", "md5"} {
			f.Add(byte(i), data, hash)
		}
	}
	f.Fuzz(func(t *testing.T, curve byte, data, hash string) {
		c := curveOf(curve)
		digest, used, err := Digest(c, data, hash)
		if err != nil {
			return
		}
		if c == Secp256k1 && len(digest) != 32 || c == Ed25519 && (len(digest) == 0 || used != HashNone) || hash != "" && string(used) != hash {
			t.Errorf("%s %q %q: %d bytes, hash %q", c, data, hash, len(digest), used)
		}
		if !utf8.ValidString(data) || hash == "" && used == HashNone && c == Secp256k1 && IsTransaction(digest) {
			t.Errorf("%s %q: signed by a guess", c, data)
		}
		if again, _, err := Digest(c, data, string(used)); err != nil || !bytes.Equal(again, digest) {
			t.Errorf("%s %q: the hash it says it used gives another digest: %v", c, data, err)
		}
	})
}

// FuzzParse: public keys, addresses and hex that parse are written back in one form,
// and match each other.
func FuzzParse(f *testing.F) {
	key := secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{0x46}, 32)).PubKey().SerializeCompressed()
	f.Add(byte(0), Encode(key))
	f.Add(byte(0), "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F")
	f.Add(byte(0), "0x9D8A62F656A8D1615C1294FD71E9CFB3E4855A4F")
	f.Add(byte(1), "586Z7H2vpX9qNhN2T4e9Utugie3ogjbxzGaMtM3E6HR5")
	f.Add(byte(1), "0x3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
	f.Add(byte(2), "1111")
	f.Fuzz(func(t *testing.T, curve byte, text string) {
		c := curveOf(curve)
		if raw, err := Decode(text); err == nil && Encode(raw) != strings.ToLower(text) {
			t.Errorf("%q is read as %x", text, raw)
		}
		if pub, err := c.ParseKey(text); err == nil {
			address, err := c.Address(pub)
			if err != nil {
				t.Fatalf("a key without an address: %v", err)
			}
			if again, err := c.ParseAddress(address); err != nil || again != address {
				t.Errorf("the address %s of a key is read as %s, %v", address, again, err)
			}
		}
		if address, err := c.ParseAddress(text); err == nil {
			if again, err := c.ParseAddress(address); err != nil || again != address {
				t.Errorf("%q is %s and then %s, %v", text, address, again, err)
			}
		}
	})
}

// FuzzComplete: every accepted signature is returned in the one strict form, which
// verifies under the key, with the key recovered from it.
func FuzzComplete(f *testing.F) {
	private := secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{0x46}, 32))
	digest := sha256.Sum256([]byte("pay bob"))
	compact := ecdsa.SignCompact(private, digest[:], false)
	f.Add(byte(0), private.PubKey().SerializeCompressed(), digest[:], append(compact[1:], compact[0]))
	f.Add(byte(0), private.PubKey().SerializeCompressed(), digest[:], compact[1:])
	seed := ed25519.NewKeyFromSeed(make([]byte, 32))
	f.Add(byte(1), []byte(seed.Public().(ed25519.PublicKey)), []byte("pay bob"), ed25519.Sign(seed, []byte("pay bob")))
	f.Add(byte(0), []byte{2}, make([]byte, 32), make([]byte, 65))
	f.Fuzz(func(t *testing.T, curve byte, pub, digest, sig []byte) {
		c := curveOf(curve)
		whole, err := c.Complete(pub, digest, sig)
		if err != nil {
			if c.Verify(pub, digest, sig) == nil {
				t.Error("verifies what cannot be completed")
			}
			return
		}
		if err := c.Verify(pub, digest, whole); err != nil {
			t.Errorf("what was completed does not verify: %v", err)
		}
		address, err := c.Address(pub)
		if err != nil {
			t.Fatal(err)
		}
		if again, found, err := c.CompleteFor(address, digest, whole); err != nil || !bytes.Equal(again, whole) || !bytes.Equal(found, pub) {
			t.Errorf("by the address: %x, %x, %v", again, found, err)
		}
	})
}
