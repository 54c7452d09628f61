package share_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

func seal(t *testing.T, s *share.Share, owner *identity.Identity, more ...age.Recipient) string {
	t.Helper()
	out, err := s.Seal(owner.Recipient(), more...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	for _, curve := range []pubkey.Curve{pubkey.Ed25519, pubkey.Secp256k1} {
		t.Run(string(curve), func(t *testing.T) {
			t.Parallel()
			c, shares := someKey(t, curve)
			backup, err := age.GenerateHybridIdentity()
			if err != nil {
				t.Fatal(err)
			}
			text := seal(t, shares[1], c.Identities[1], backup.Recipient())
			if strings.Contains(text, share.Secret(shares[1])) {
				t.Fatal("the secret is in the clear")
			}
			public, err := share.ParsePublic(text)
			if err != nil {
				t.Fatal(err)
			}
			if public.PartIndex != 2 || public.User != "user-2" || public.Threshold != 2 || public.TotalParts != len(c.Members) ||
				public.Parties[0] != c.Members[0] || public.PublicKey != shares[0].Public().PublicKey || public.Created.IsZero() {
				t.Errorf("got public part %+v", public)
			}
			var opened []*share.Share
			for _, id := range []age.Identity{c.Identities[1], backup} {
				s, err := share.Open(text, id)
				if err != nil {
					t.Fatal(err)
				}
				opened = append(opened, s)
			}
			if share.Secret(opened[0]) != share.Secret(shares[1]) || share.Secret(opened[1]) != share.Secret(shares[1]) {
				t.Error("sealing and opening changed the secret")
			}
			for _, id := range []age.Identity{c.Identities[0], partytest.Identity(t)} {
				if _, err := share.Open(text, id); err == nil {
					t.Error("another opens the share")
				}
			}
			// The opened share signs with the other party's original.
			digest := digestOf(curve, "after opening")
			for _, sig := range c.Sign(t, []*share.Share{shares[0], opened[0]}, []int{1, 2}, digest) {
				verify(t, shares[0], digest, sig)
			}
			classical, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := shares[0].Seal(c.Identities[0].Recipient(), classical.Recipient()); err == nil {
				t.Error("a share is sealed to a key that is not post-quantum")
			}
			if _, err := shares[0].Seal(nil); err == nil {
				t.Error("a share is sealed to nobody")
			}
		})
	}
}

// TestPublicPartIsSealedToo changes the part outside the seal.
func TestPublicPartIsSealedToo(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	text := seal(t, shares[0], c.Identities[0])
	other := partytest.NewCommittee(t, 2).Keygen(t, pubkey.Ed25519, 2)[0].Public()
	for name, change := range map[string]func(map[string]any){
		"version":           func(m map[string]any) { m["version"] = 3 },
		"the first version": func(m map[string]any) { m["version"] = 1; delete(m, "epoch") },
		"epoch":             func(m map[string]any) { m["epoch"] = 2 },
		"no epoch":          func(m map[string]any) { delete(m, "epoch") },
		"key_id":            func(m map[string]any) { m["key_id"] = "another" },
		"user_id":           func(m map[string]any) { m["user_id"] = "user-2" },
		"part_index":        func(m map[string]any) { m["part_index"], m["user_id"] = 2, "user-2" },
		"threshold":         func(m map[string]any) { m["threshold"] = 1 },
		"total_parts":       func(m map[string]any) { m["total_parts"] = 4 },
		"curve":             func(m map[string]any) { m["curve"] = "secp256k1" },
		"public_key":        func(m map[string]any) { m["public_key"] = other.PublicKey },
		"key, address":      func(m map[string]any) { m["public_key"], m["account_addr"] = other.PublicKey, other.AccountAddr },
		"upper case":        func(m map[string]any) { m["public_key"] = "0x" + strings.ToUpper(m["public_key"].(string)[2:]) },
		"account_addr":      func(m map[string]any) { m["account_addr"] = other.AccountAddr },
		"created":           func(m map[string]any) { m["created"] = "2020-01-01T00:00:00Z" },
		"parties":           func(m map[string]any) { m["parties"] = m["parties"].([]any)[:1] },
		"a party": func(m map[string]any) {
			m["parties"].([]any)[1].(map[string]any)["identity"] = partytest.Identity(t).Public().String()
		},
		"an extra field": func(m map[string]any) { m["note"] = "x" },
		"not sealed":     func(m map[string]any) { m["sealed"] = "{}" },
		"nothing sealed": func(m map[string]any) { delete(m, "sealed") },
		"cut off":        func(m map[string]any) { s := m["sealed"].(string); m["sealed"] = s[:len(s)/2] },
	} {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		changed, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := share.Open(string(changed), c.Identities[0]); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, bad := range []string{"", "null", "{}", "[]", text + "{}", text[1:], strings.Repeat(" ", 5<<20)} {
		if _, err := share.Open(bad, c.Identities[0]); err == nil {
			t.Errorf("accepted %.20q", bad)
		}
		if _, err := share.ParsePublic(bad); err == nil {
			t.Errorf("parsed %.20q", bad)
		}
	}
}

// TestBrokenSecret seals shares with a wrong secret part.
func TestBrokenSecret(t *testing.T) {
	t.Parallel()
	plus := func(n any, d int64) json.Number {
		x, _ := new(big.Int).SetString(n.(json.Number).String(), 10)
		return json.Number(x.Add(x, big.NewInt(d)).String())
	}
	type object = map[string]any
	common := map[string]func(save object){
		"another secret":     func(s object) { s["Xi"] = plus(s["Xi"], 1) },
		"no secret":          func(s object) { s["Xi"] = nil },
		"zero":               func(s object) { s["Xi"] = 0 },
		"negative":           func(s object) { s["Xi"] = json.Number("-" + s["Xi"].(json.Number).String()) },
		"another's place":    func(s object) { s["ShareID"] = plus(s["ShareID"], 1) },
		"no place":           func(s object) { s["ShareID"] = nil },
		"a party less":       func(s object) { s["Ks"] = s["Ks"].([]any)[:1] },
		"another party":      func(s object) { k := s["Ks"].([]any); k[0] = plus(k[0], 1) },
		"an unknown party":   func(s object) { s["Ks"].([]any)[1] = nil },
		"a point less":       func(s object) { s["BigXj"] = s["BigXj"].([]any)[:1] },
		"no point":           func(s object) { s["BigXj"].([]any)[0] = nil },
		"points swapped":     func(s object) { x := s["BigXj"].([]any); x[0], x[1] = x[1], x[0] },
		"a point twice":      func(s object) { x := s["BigXj"].([]any); x[0] = x[1] },
		"a point off curve":  func(s object) { s["BigXj"].([]any)[0] = object{"Curve": "ed25519", "Coords": []int{2, 3}} },
		"a point unknown":    func(s object) { s["BigXj"].([]any)[0] = object{"Curve": "p-1", "Coords": []int{2, 3}} },
		"a point incomplete": func(s object) { s["BigXj"].([]any)[0] = object{"Curve": "ed25519", "Coords": []any{nil, nil}} },
		"a stranger":         func(s object) { s["Extra"] = 1 },
	}
	eddsa := map[string]func(object){
		"no key":      func(s object) { s["EDDSAPub"] = nil },
		"another key": func(s object) { s["EDDSAPub"] = s["BigXj"].([]any)[0] },
	}
	ecdsa := map[string]func(object){
		"no key":            func(s object) { s["ECDSAPub"] = nil },
		"no Paillier key":   func(s object) { s["PaillierSK"] = nil },
		"Paillier prime":    func(s object) { sk := s["PaillierSK"].(object); sk["P"] = plus(sk["P"], 2) },
		"small Paillier":    func(s object) { s["PaillierPKs"].([]any)[0].(object)["N"] = 15 },
		"no Paillier":       func(s object) { s["PaillierPKs"].([]any)[1] = nil },
		"own Paillier":      func(s object) { p := s["PaillierPKs"].([]any); p[0], p[1] = p[1], p[0] },
		"small NTilde":      func(s object) { s["NTildej"].([]any)[1] = 15 },
		"NTildes swapped":   func(s object) { p := s["NTildej"].([]any); p[0], p[1] = p[1], p[0] },
		"h1 is one":         func(s object) { s["H1j"].([]any)[1] = 1 },
		"no h2":             func(s object) { s["H2j"].([]any)[1] = nil },
		"a list too short":  func(s object) { s["H2j"] = s["H2j"].([]any)[:1] },
		"own h1 another's":  func(s object) { s["H1i"] = plus(s["H1i"], 1) },
		"points of another": func(s object) { s["BigXj"].([]any)[0] = object{"Curve": "ed25519", "Coords": []int{0, 1}} },
	}
	for _, curve := range []pubkey.Curve{pubkey.Ed25519, pubkey.Secp256k1} {
		t.Run(string(curve), func(t *testing.T) {
			t.Parallel()
			c, shares := someKey(t, curve)
			name, own := "eddsa", eddsa
			if curve == pubkey.Secp256k1 {
				name, own = "ecdsa", ecdsa
			}
			try := func(what string, spoil func(plain, save object)) {
				plain := share.Plain(shares[0])
				spoil(plain, plain["secret"].(object)[name].(object))
				text := share.SealPlain(shares[0].Public(), plain, c.Identities[0].Recipient())
				_, err := share.Open(text, c.Identities[0])
				if (err == nil) != (what == "") {
					t.Errorf("%s: got %v", what, err)
				}
				if err != nil && strings.Contains(err.Error(), share.Secret(shares[0])[:12]) {
					t.Errorf("%s: the error shows the secret", what)
				}
			}
			try("", func(object, object) {})
			for _, cases := range []map[string]func(object){common, own} {
				for what, spoil := range cases {
					try(what, func(_, save object) { spoil(save) })
				}
			}
			try("nothing", func(plain, _ object) { plain["secret"] = object{} })
			try("no secret part", func(plain, _ object) { plain["secret"] = nil })
			try("the other curve's", func(plain, save object) { plain["secret"] = object{"ecdsa": object{}, "eddsa": save} })
			try("a text", func(plain, _ object) { plain["secret"] = share.Secret(shares[0]) })
			try("another public part", func(plain, _ object) { plain["public"].(object)["created"] = "2020-01-01T00:00:00Z" })
		})
	}
}

func TestShareIsRedacted(t *testing.T) {
	t.Parallel()
	_, shares := someKey(t, pubkey.Ed25519)
	s := shares[0]
	data, err := json.Marshal(map[string]any{"share": s, "copy": *s})
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		text += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, *s) + fmt.Sprintf(verb, []any{s, *s}) +
			fmt.Sprintf(verb, struct{ s share.Share }{*s}) + fmt.Sprintf(verb, struct{ s *share.Share }{s})
	}
	secret := share.Secret(s)
	n, _ := new(big.Int).SetString(secret, 10)
	for _, form := range []string{secret, n.Text(16), strings.ToUpper(n.Text(16))} {
		if strings.Contains(text, form[:12]) {
			t.Errorf("the secret is shown as %.4s…", form)
		}
	}
	if !strings.Contains(text, "part 1 of key") {
		t.Error("it is not said which share it is")
	}
}

// TestShareAttests: a share attests its own key, as its own party only.
func TestShareAttests(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	p := shares[0].Public()
	k := statement.Attested{
		SessionID: "kg-1", KeyID: p.KeyID, Coordinator: "alice", Curve: p.Curve, Threshold: p.Threshold,
		Participants: []string{"user-1", "user-2", "user-3"}, AccountAddr: p.AccountAddr, PublicKey: p.PublicKey,
	}
	var list []statement.Attestation
	for i, s := range shares {
		a, err := s.Attest(c.Identities[i], "kg-1", "alice")
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	if err := k.Verify(list); err != nil {
		t.Error(err)
	}
	for name, try := range map[string]func() (statement.Attestation, error){
		"another identity": func() (statement.Attestation, error) { return shares[0].Attest(c.Identities[1], "kg-1", "alice") },
		"no identity":      func() (statement.Attestation, error) { return shares[0].Attest(nil, "kg-1", "alice") },
		"no session":       func() (statement.Attestation, error) { return shares[0].Attest(c.Identities[0], "", "alice") },
		"no coordinator":   func() (statement.Attestation, error) { return shares[0].Attest(c.Identities[0], "kg-1", "") },
	} {
		if _, err := try(); err == nil {
			t.Errorf("%s: attested", name)
		}
	}
}
