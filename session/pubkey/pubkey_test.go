package pubkey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// exampleKey is the key 0x4646… of EIP-155's example, with its address.
func exampleKey(t *testing.T) *secp256k1.PrivateKey {
	t.Helper()
	return secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{0x46}, 32))
}

func TestAddress(t *testing.T) {
	got, err := Secp256k1.Address(exampleKey(t).PubKey().SerializeCompressed())
	if err != nil || got != "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F" {
		t.Errorf("Address = %s, %v; want EIP-155's 0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F", got, err)
	}
	zero := make([]byte, 32)
	got, err = Ed25519.Address(zero)
	if err != nil || got != strings.Repeat("1", 32) {
		t.Errorf("Address of 32 zero bytes = %s, %v; want 32 ones", got, err)
	}
	for name, pub := range map[string][]byte{
		"empty": nil, "short": zero[:31], "off curve": append([]byte{2}, bytes.Repeat([]byte{0xff}, 32)...),
		"uncompressed": exampleKey(t).PubKey().SerializeUncompressed(),
	} {
		if _, err := Secp256k1.Address(pub); !errors.Is(err, ErrPublicKey) {
			t.Errorf("%s: got %v, want ErrPublicKey", name, err)
		}
	}
	if _, err := Curve("p256").Address(zero); !errors.Is(err, ErrCurve) {
		t.Errorf("got %v, want ErrCurve", err)
	}
}

// The examples of EIP-55.
func TestChecksumAddress(t *testing.T) {
	for _, want := range []string{
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
	} {
		raw, err := hex.DecodeString(strings.ToLower(want[2:]))
		if err != nil {
			t.Fatal(err)
		}
		if got := checksumAddress(raw); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestDigest(t *testing.T) {
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	h32 := "0x" + strings.Repeat("ab", 32)
	for _, tc := range []struct {
		name, data, hash string
		curve            Curve
		want             string
		used             Hash
		err              error
	}{
		{"32 hex bytes are the digest", h32, "", Secp256k1, h32[2:], HashNone, nil},
		// keccak256 of EIP-155's example transaction, as the EIP gives it.
		{"other hex is a transaction", "0xec098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080018080", "", Secp256k1,
			"daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53", HashKeccak256, nil},
		// The personal_sign digest of "hello", as web3 and ethers print it.
		{"text is personal_sign", "hello", "", Secp256k1, "50b2c43fd39106bafbba0da34fc430e1f91e3c96ea2acee2bc34119f92b37750", HashEIP191, nil},
		{"sha256", "abc", "sha256", Secp256k1, sum("abc"), HashSHA256, nil},
		{"sha256d of hex", "0x616263", "sha256d", Secp256k1, "4f8b42c22dd3729b519ba6f68d2da7cc5b2d606d05daed5ad5128cc03e6c6358", HashSHA256d, nil},
		{"ed25519 text as it is", "abc", "", Ed25519, "616263", HashNone, nil},
		{"ed25519 hex as it is", "0x0102", "none", Ed25519, "0102", HashNone, nil},
		{"0x alone is no bytes", "0x", "", Ed25519, "", "", ErrNoData},
		{"odd hex", "0x123", "", Secp256k1, "", "", ErrHex},
		{"not hex", "0xzz", "", Secp256k1, "", "", ErrHex},
		{"none needs 32 bytes", "0x0102", "none", Secp256k1, "", "", ErrHashNone},
		{"unknown hash", "abc", "md5", Secp256k1, "", "", ErrHash},
		{"ed25519 does not prehash", "abc", "sha256", Ed25519, "", "", ErrHashEd},
		{"unknown curve", "abc", "", "p256", "", "", ErrCurve},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, used, err := Digest(tc.curve, tc.data, tc.hash)
			if !errors.Is(err, tc.err) {
				t.Fatalf("err = %v, want %v", err, tc.err)
			}
			if tc.err == nil && (hex.EncodeToString(got) != tc.want || used != tc.used) {
				t.Errorf("got %x %s, want %s %s", got, used, tc.want, tc.used)
			}
		})
	}
}

func TestSignatureSecp256k1(t *testing.T) {
	key := exampleKey(t)
	pub := key.PubKey().SerializeCompressed()
	for i := range 16 { // both parities of R occur
		digest := sha256.Sum256([]byte{byte(i)})
		compact := ecdsa.SignCompact(key, digest[:], false)
		sig := append(bytes.Clone(compact[1:]), compact[0])
		if err := Secp256k1.Verify(pub, digest[:], sig); err != nil {
			t.Fatalf("good signature: %v", err)
		}
		var s secp256k1.ModNScalar
		s.SetByteSlice(sig[32:64])
		s.Negate()
		neg := s.Bytes()
		high := append(append(bytes.Clone(sig[:32]), neg[:]...), 27+28-sig[64])
		zeroV := append(bytes.Clone(sig[:64]), sig[64]-27)
		for name, form := range map[string][]byte{"64 bytes": sig[:64], "v from 0": zeroV, "high s": high, "high s without v": high[:64], "whole": sig} {
			got, err := Secp256k1.Complete(pub, digest[:], form)
			if err != nil || !bytes.Equal(got, sig) {
				t.Errorf("Complete(%s) = %x, %v; want %x", name, got, err, sig)
			}
			if name != "whole" && Secp256k1.Verify(pub, digest[:], form) == nil {
				t.Errorf("Verify accepted the %s form", name)
			}
		}
		bad := map[string][]byte{
			"wrong v": append(bytes.Clone(sig[:64]), 27+28-sig[64]), "v of 29": append(bytes.Clone(sig[:64]), 29),
			"zero r": append(make([]byte, 32), sig[32:]...), "empty": nil, "long": append(bytes.Clone(sig), 0),
			"r over the order": append(bytes.Repeat([]byte{0xff}, 32), sig[32:]...), "flipped": flip(sig, 40),
		}
		for name, form := range bad {
			if _, err := Secp256k1.Complete(pub, digest[:], form); !errors.Is(err, ErrSignature) {
				t.Errorf("%s: got %v, want ErrSignature", name, err)
			}
		}
		if err := Secp256k1.Verify(pub, digest[:31], sig); !errors.Is(err, ErrSignature) {
			t.Errorf("short digest: got %v", err)
		}
	}
}

func TestSignatureEd25519(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	msg := []byte("any length")
	sig := ed25519.Sign(key, msg)
	if err := Ed25519.Verify(pub, msg, sig); err != nil {
		t.Errorf("good signature: %v", err)
	}
	if got, err := Ed25519.Complete(pub, msg, sig); err != nil || !bytes.Equal(got, sig) {
		t.Errorf("Complete = %x, %v", got, err)
	}
	for name, bad := range map[string][]byte{"flipped": flip(sig, 3), "short": sig[:63], "empty": nil} {
		if err := Ed25519.Verify(pub, msg, bad); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got %v, want ErrSignature", name, err)
		}
	}
	if err := Ed25519.Verify(pub[:31], msg, sig); !errors.Is(err, ErrPublicKey) {
		t.Errorf("short key: got %v, want ErrPublicKey", err)
	}
}

func TestParseKey(t *testing.T) {
	text := Encode(exampleKey(t).PubKey().SerializeCompressed())
	if _, err := Secp256k1.ParseKey(text); err != nil {
		t.Errorf("good key: %v", err)
	}
	for _, bad := range []string{"", text[2:], text[:len(text)-2], "0xzz"} {
		if _, err := Secp256k1.ParseKey(bad); err == nil {
			t.Errorf("ParseKey(%q) accepted", bad)
		}
	}
}

func flip(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 1
	return c
}

func TestParseAddress(t *testing.T) {
	const canonical = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	for _, form := range []string{canonical, strings.ToLower(canonical), "0x" + strings.ToUpper(canonical[2:])} {
		if got, err := Secp256k1.ParseAddress(form); err != nil || got != canonical {
			t.Errorf("ParseAddress(%s) = %s, %v", form, got, err)
		}
	}
	for _, bad := range []string{"", canonical[2:], canonical[:40], "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", canonical + "00"} {
		if _, err := Secp256k1.ParseAddress(bad); !errors.Is(err, ErrAddress) {
			t.Errorf("ParseAddress(%q): got %v, want ErrAddress", bad, err)
		}
	}
	if _, err := Ed25519.ParseAddress("0OIl"); !errors.Is(err, ErrAddress) {
		t.Errorf("base58 with forbidden letters: got %v", err)
	}
}

func TestCompleteFor(t *testing.T) {
	key := exampleKey(t)
	pub := key.PubKey().SerializeCompressed()
	addr, err := Secp256k1.Address(pub)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		digest := sha256.Sum256([]byte{byte(i)})
		compact := ecdsa.SignCompact(key, digest[:], false)
		sig := append(bytes.Clone(compact[1:]), compact[0])
		whole, got, err := Secp256k1.CompleteFor(addr, digest[:], sig[:64])
		if err != nil || !bytes.Equal(whole, sig) || !bytes.Equal(got, pub) {
			t.Errorf("CompleteFor = %x, %x, %v", whole, got, err)
		}
		if _, _, err := Secp256k1.CompleteFor(addr, digest[:], flip(sig, 5)); !errors.Is(err, ErrSignature) {
			t.Errorf("flipped: got %v, want ErrSignature", err)
		}
	}
	edPub, edKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	edAddr, err := Ed25519.Address(edPub)
	if err != nil {
		t.Fatal(err)
	}
	if _, got, err := Ed25519.CompleteFor(edAddr, []byte("m"), ed25519.Sign(edKey, []byte("m"))); err != nil || !bytes.Equal(got, edPub) {
		t.Errorf("ed25519: %x, %v", got, err)
	}
}
