package share_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"github.com/decred/dcrd/dcrec/edwards/v2"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// pick returns the shares of some parts, in that order.
func pick(shares []*share.Share, parts ...int) []*share.Share {
	var out []*share.Share
	for _, part := range parts {
		out = append(out, shares[part-1])
	}
	return out
}

// number is the private key in k.Secret's output.
func number(t *testing.T, curve pubkey.Curve, k *share.PrivateKey) *big.Int {
	t.Helper()
	raw, err := hex.DecodeString(strings.TrimPrefix(k.Secret(), "0x"))
	if err != nil || len(raw) != 32 {
		t.Fatalf("secret of %d bytes, %v", len(raw), err)
	}
	if curve == pubkey.Ed25519 {
		slices.Reverse(raw)
	}
	return new(big.Int).SetBytes(raw)
}

// TestRecover rebuilds the key from every quorum and more, in any order. The number is
// checked against the public key with tss-lib, which did not compute it, and by its
// signatures with the standard library's ed25519.
func TestRecover(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		key     func() []*share.Share
		quorums [][]int
	}{
		"ed25519 2 of 3":   {func() []*share.Share { _, s := someKey(t, pubkey.Ed25519); return s }, [][]int{{1, 2}, {2, 1}, {1, 3}, {2, 3}, {1, 2, 3}}},
		"ed25519 3 of 5":   {func() []*share.Share { return partytest.NewCommittee(t, 5).Keygen(t, pubkey.Ed25519, 3) }, [][]int{{1, 2, 3}, {5, 3, 1}, {2, 4, 5}, {1, 2, 3, 4, 5}}},
		"secp256k1 2 of 3": {func() []*share.Share { _, s := partytest.Key(t); return s }, [][]int{{1, 2}, {3, 1}, {2, 3}, {3, 2, 1}}},
	} {
		shares := tc.key()
		public := shares[0].Public()
		curve := tss.S256()
		if public.Curve == pubkey.Ed25519 {
			curve = tss.Edwards()
		}
		for _, quorum := range tc.quorums {
			key, err := share.Recover(pick(shares, quorum...))
			if err != nil {
				t.Fatalf("%s, parts %v: %v", name, quorum, err)
			}
			point := crypto.ScalarBaseMult(curve, number(t, public.Curve, key))
			pub := edwards.NewPublicKey(point.X(), point.Y()).Serialize()
			if public.Curve == pubkey.Secp256k1 {
				var x, y secp256k1.FieldVal
				x.SetByteSlice(point.X().Bytes())
				y.SetByteSlice(point.Y().Bytes())
				pub = secp256k1.NewPublicKey(&x, &y).SerializeCompressed()
			}
			if pubkey.Encode(pub) != public.PublicKey {
				t.Errorf("%s, parts %v: the number is not the key's", name, quorum)
			}
			digest := digestOf(public.Curve, "recovered")
			sig, err := key.Sign(digest)
			if err != nil {
				t.Fatal(err)
			}
			verify(t, shares[0], digest, sig)
			again, err := share.ParsePrivateKey(public.Curve, public.PublicKey, key.Secret())
			if err != nil || again.Secret() != key.Secret() {
				t.Errorf("%s: reading it back: %v", name, err)
			}
			key.Wipe()
			if strings.Trim(key.Secret(), "0x") != "" {
				t.Errorf("%s: still there after Wipe", name)
			}
			if _, err := key.Sign(digest); err == nil {
				t.Errorf("%s: signs after Wipe", name)
			}
		}
	}
}

// TestNoncesDiffer: two messages with a long common prefix, and one message twice,
// never get the same nonce.
func TestNoncesDiffer(t *testing.T) {
	t.Parallel()
	_, shares := someKey(t, pubkey.Ed25519)
	key, err := share.Recover(shares)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, end := range []string{"a", "b", "b"} {
		sig, err := key.Sign([]byte(strings.Repeat("x", 200) + end))
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(sig[:32])] {
			t.Fatal("a nonce was used twice")
		}
		seen[string(sig[:32])] = true
	}
}

func TestRecoverRefuses(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	called := func(id string) []*share.Share { return c.KeygenCalled(t, pubkey.Ed25519, 2, id) }
	one, again, other := called("one"), called("one"), called("other")
	for name, tc := range map[string]struct {
		shares []*share.Share
		says   string
	}{
		"nothing":                     {nil, "missing"},
		"no share":                    {[]*share.Share{one[0], nil}, "missing"},
		"an empty share":              {[]*share.Share{{}, one[0]}, "missing"},
		"too few":                     {pick(one, 2), `1 of the shares of key "one" given, 2 needed`},
		"one twice":                   {pick(one, 2, 2), "part 2 was given twice"},
		"one twice beside enough":     {pick(one, 1, 3, 1), "part 1 was given twice"},
		"of two keys":                 {[]*share.Share{one[0], other[1]}, `different keys: "one" and "other"`},
		"of two keygens of one key":   {[]*share.Share{one[0], again[1]}, "the other for " + again[0].Public().AccountAddr},
		"a foreign one beside enough": {[]*share.Share{one[0], one[1], again[2]}, "parts 1 and 3 are of different key generations"},
	} {
		if _, err := share.Recover(tc.shares); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want it to say %q", name, err, tc.says)
		}
	}
	// Two shares with equal public parts, one with a wrong point of another party.
	misled := 0
	for i, s := range one {
		if spoilt := mislead(t, s); spoilt != nil {
			misled++
			if _, err := share.Recover([]*share.Share{one[(i+1)%3], spoilt}); err == nil || !strings.Contains(err.Error(), "different key generations") {
				t.Errorf("shares that know different points: got %v", err)
			}
		}
	}
	if misled != 2 {
		t.Errorf("%d shares could be misled, want 2", misled)
	}
	// The check of the result comes last, and does not depend on the others.
	key, err := share.Recover(one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := share.ParsePrivateKey(pubkey.Ed25519, other[0].Public().PublicKey, key.Secret()); err == nil {
		t.Error("took it for the private key of another")
	}
	zeros := "0x" + strings.Repeat("00", 32)
	for _, curve := range []pubkey.Curve{pubkey.Ed25519, pubkey.Secp256k1} {
		public := one[0].Public().PublicKey
		if curve == pubkey.Secp256k1 {
			_, shares := partytest.Key(t)
			public = shares[0].Public().PublicKey
		}
		for _, bad := range []string{"", "0x", zeros, zeros[:64], "0x" + strings.Repeat("ff", 32), "0x" + strings.Repeat("0f", 32), strings.Repeat("x", 66)} {
			if _, err := share.ParsePrivateKey(curve, public, bad); err == nil || len(bad) > 2 && strings.Contains(err.Error(), bad[2:]) {
				t.Errorf("%s %.8q…: got %v", curve, bad, err)
			}
		}
	}
}

func TestPrivateKeyIsRedacted(t *testing.T) {
	t.Parallel()
	_, shares := someKey(t, pubkey.Ed25519)
	key, err := share.Recover(shares)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{"key": key, "copy": *key})
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		text += fmt.Sprintf(verb, key) + fmt.Sprintf(verb, *key) + fmt.Sprintf(verb, struct{ k share.PrivateKey }{*key})
	}
	n := number(t, pubkey.Ed25519, key)
	for _, form := range []string{key.Secret()[2:], n.Text(16), strings.ToUpper(n.Text(16)), n.String(), strings.Trim(fmt.Sprint(n.Bytes()), "[]")} {
		if strings.Contains(text, form[:12]) {
			t.Errorf("the key is shown as %.4s…", form)
		}
	}
	if !strings.Contains(text, shares[0].Public().PublicKey) {
		t.Error("it is not said whose it is")
	}
}

// spoil changes the plaintext of a share, which still opens.
func spoil(t *testing.T, s *share.Share, name string, change func(save map[string]any)) *share.Share {
	t.Helper()
	plain := share.Plain(s)
	change(plain["secret"].(map[string]any)[name].(map[string]any))
	data, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	spoilt, err := share.OpenPlain(data, s.Public())
	if err != nil {
		t.Fatalf("%v, spoilt, does not open: %v", s, err)
	}
	return spoilt
}

// mislead gives a share of a 2-of-3 key a wrong point of the party outside the first
// quorum; it returns nil if that is the share's own.
func mislead(t *testing.T, s *share.Share) *share.Share {
	t.Helper()
	save := share.Plain(s)["secret"].(map[string]any)["eddsa"].(map[string]any)
	if save["Ks"].([]any)[2] == save["ShareID"] {
		return nil
	}
	return spoil(t, s, "eddsa", func(save map[string]any) {
		points := save["BigXj"].([]any)
		points[2] = points[0]
	})
}

// TestVerifyShare: a share that opens and would sign with the first quorum, but not
// with every other.
func TestVerifyShare(t *testing.T) {
	t.Parallel()
	_, shares := someKey(t, pubkey.Ed25519)
	_, fixed := partytest.Key(t)
	for _, s := range append(shares[:len(shares):len(shares)], fixed...) {
		if err := s.Verify(); err != nil {
			t.Errorf("%v: %v", s, err)
		}
	}
	for _, s := range shares {
		if spoilt := mislead(t, s); spoilt != nil {
			if err := spoilt.Verify(); err == nil || !strings.Contains(err.Error(), "does not fit") {
				t.Errorf("a wrong point of a party outside the first quorum: got %v", err)
			}
		}
	}
	err := spoil(t, fixed[0], "ecdsa", func(save map[string]any) {
		n, _ := new(big.Int).SetString(save["Alpha"].(json.Number).String(), 10)
		save["Alpha"] = json.Number(n.Add(n, big.NewInt(1)).String())
	}).Verify()
	if err == nil || !strings.Contains(err.Error(), "not powers of each other") {
		t.Errorf("a wrong exponent between h1 and h2: got %v", err)
	}
}
