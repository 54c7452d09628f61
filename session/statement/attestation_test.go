package statement

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// attesting is three parties with a key, and the content of their attestations.
type attesting struct {
	ids     []*identity.Identity
	members []identity.Member
	key     Attested
	list    []Attestation
}

func attest(t testing.TB) attesting {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	address, err := pubkey.Ed25519.Address(pub)
	if err != nil {
		t.Fatal(err)
	}
	a := attesting{key: Attested{
		SessionID: "kg-1", KeyID: "key-1", Epoch: 1, Coordinator: "alice", Curve: pubkey.Ed25519, Threshold: 2,
		Participants: []string{"bob", "carol", "dave"}, AccountAddr: address, PublicKey: pubkey.Encode(pub),
	}}
	for i, user := range a.key.Participants {
		a.ids = append(a.ids, fresh(t))
		a.members = append(a.members, identity.Member{Index: i + 1, User: user, Identity: a.ids[i].Public()})
	}
	for _, id := range a.ids {
		one, err := a.key.Attest(id, a.members)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseAttestation(one.String())
		if err != nil || again != one {
			t.Fatalf("the text form gives something else: %v", err)
		}
		a.list = append(a.list, again)
	}
	return a
}

// TestNothingAttested: without parties there is no key to attest.
func TestNothingAttested(t *testing.T) {
	t.Parallel()
	k := attest(t).key
	k.Participants = nil
	if k.Verify(nil) == nil {
		t.Error("a key of no parties is attested")
	}
}

// BenchmarkVerify is a coordinator's cost of the attestations of the largest key.
func BenchmarkVerify(b *testing.B) {
	a := attest(b)
	for i := len(a.ids); i < identity.MaxParties; i++ {
		user := "user-" + strconv.Itoa(i)
		a.ids = append(a.ids, fresh(b))
		a.members = append(a.members, identity.Member{Index: i + 1, User: user, Identity: a.ids[i].Public()})
		a.key.Participants = append(a.key.Participants, user)
	}
	statement, err := a.key.statement(a.members, false)
	if err != nil {
		b.Fatal(err)
	}
	a.list = nil
	for _, id := range a.ids {
		one := Attestation{Identity: id.Public()}
		copy(one.sig[:], id.Sign(statement))
		a.list = append(a.list, one)
	}
	for b.Loop() {
		if err := a.key.Verify(a.list); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAttestation(t *testing.T) {
	t.Parallel()
	a := attest(t)
	if err := a.key.Verify(a.list); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(k *Attested){
		"no session":     func(k *Attested) { k.SessionID = "" },
		"no coordinator": func(k *Attested) { k.Coordinator = "" },
	} {
		k := a.key
		change(&k)
		if _, err := k.Attest(a.ids[0], a.members); err == nil {
			t.Errorf("%s: attested", name)
		}
	}
	for name, id := range map[string]*identity.Identity{"no identity": nil, "an empty identity": {}, "a stranger's identity": fresh(t)} {
		if _, err := a.key.Attest(id, a.members); err == nil {
			t.Errorf("%s: attested", name)
		}
	}
}

// TestEveryFieldIsAttested changes each attested field.
func TestEveryFieldIsAttested(t *testing.T) {
	t.Parallel()
	a := attest(t)
	members := a.members
	good, err := a.key.statement(members, false)
	if err != nil {
		t.Fatal(err)
	}
	all := changes(reflect.ValueOf(a.key), nil)
	delete(all, "Epoch less") // 0 means 1
	for name, change := range all {
		k := a.key
		k.Participants = slices.Clone(k.Participants)
		change(reflect.ValueOf(&k).Elem())
		if err := k.Verify(a.list); err == nil {
			t.Errorf("%s: it verifies", name)
		}
		if statement, err := k.statement(members, false); err == nil && !strings.HasPrefix(name, "Participants") && slices.Equal(statement, good) {
			t.Errorf("%s: the same is signed", name)
		}
	}
	// A key of the server's own, complete and consistent.
	other := attest(t).key
	for name, change := range map[string]func(k *Attested){
		"another key":     func(k *Attested) { k.AccountAddr, k.PublicKey = other.AccountAddr, other.PublicKey },
		"another epoch":   func(k *Attested) { k.Epoch = 2 },
		"another session": func(k *Attested) { k.SessionID = "kg-2" },
		"another order":   func(k *Attested) { k.Participants = []string{"carol", "bob", "dave"} },
		"3 of 3":          func(k *Attested) { k.Threshold = 3 },
		"a letter moved":  func(k *Attested) { k.SessionID, k.KeyID = k.SessionID+k.KeyID[:1], k.KeyID[1:] },
	} {
		k := a.key
		change(&k)
		if err := k.Verify(a.list); err == nil || !strings.Contains(err.Error(), "something else than this has been signed by") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgedAttestations: each party's, by the identities that all of them know.
func TestForgedAttestations(t *testing.T) {
	t.Parallel()
	a, other := attest(t), attest(t)
	stranger := fresh(t)
	forged := func(change func(list []Attestation)) []Attestation {
		list := slices.Clone(a.list)
		change(list)
		return list
	}
	// An attacker can sign as an identity of its own making, but not for the others.
	signs := func(id *identity.Identity, members ...identity.Member) Attestation {
		statement, err := a.key.statement(members, false)
		if err != nil {
			t.Fatal(err)
		}
		one := Attestation{Identity: id.Public()}
		copy(one.sig[:], id.Sign(statement))
		return one
	}
	members := slices.Clone(a.members)
	members[2].Identity = stranger.Public()
	// The signing key of dave, with another's sealing key.
	resealed := mixed(t, a.ids[2], stranger)
	for name, list := range map[string][]Attestation{
		"none":                     nil,
		"one fewer":                a.list[:2],
		"one more":                 append(slices.Clone(a.list), a.list[2]),
		"one empty":                forged(func(l []Attestation) { l[1] = Attestation{} }),
		"one twice":                forged(func(l []Attestation) { l[2] = l[1] }),
		"in another order":         forged(slices.Reverse),
		"another key's":            other.list,
		"one of another key's":     forged(func(l []Attestation) { l[1] = other.list[1] }),
		"a stranger's for dave's":  forged(func(l []Attestation) { l[2] = signs(stranger, members...) }),
		"of the other format":      forged(func(l []Attestation) { l[0].v1 = true }),
		"another signature":        forged(func(l []Attestation) { l[0].sig = l[1].sig }),
		"another sealing key":      forged(func(l []Attestation) { l[2].Identity = resealed.Public() }),
		"one bit of the signature": forged(func(l []Attestation) { l[0].sig[7] ^= 4 }),
	} {
		if err := a.key.Verify(list); err == nil {
			t.Errorf("%s: it verifies", name)
		}
	}
}

func TestParseAttestation(t *testing.T) {
	t.Parallel()
	good := attest(t).list[0].String()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(good, attestationPrefix))
	if err != nil || len(good) != attestationTextSize {
		t.Fatalf("%d bytes of text: %v", len(good), err)
	}
	raw[len(raw)-ed25519.SignatureSize-1] ^= 1 // the last byte of the identity's proof
	for name, text := range map[string]string{
		"empty":               "",
		"cut":                 good[:len(good)-1],
		"longer":              good + "A",
		"another prefix":      strings.Replace(good, "att2", "att3", 1),
		"a request's prefix":  strings.Replace(good, attestationPrefix, requestPrefix, 1),
		"a line break":        good[:100] + "\n" + good[101:],
		"standard base64":     good[:100] + "+" + good[101:],
		"an identity of none": attestationPrefix + base64.RawURLEncoding.EncodeToString(raw),
		"zeros":               attestationPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, attestationSize)),
	} {
		if _, err := ParseAttestation(text); err == nil {
			t.Errorf("%s: it parses", name)
		}
	}
}

// FuzzAttestation: text that parses is unique, and attests only the key that it was
// made for.
func FuzzAttestation(f *testing.F) {
	a := attest(f)
	good := a.list[1].String()
	f.Add(good, a.key.SessionID, a.key.KeyID)
	f.Add(good[:len(good)-1]+"A", a.key.SessionID, a.key.KeyID)
	f.Add(good, "kg-2", a.key.KeyID)
	f.Add(attestationPrefix, "", "")
	f.Fuzz(func(t *testing.T, text, session, key string) {
		one, err := ParseAttestation(text)
		if err != nil {
			return
		}
		if one.String() != text {
			t.Error("two texts for one attestation")
		}
		k := a.key
		k.SessionID, k.KeyID = session, key
		list := []Attestation{a.list[0], one, a.list[2]}
		if err := k.Verify(list); err == nil && (text != good || session != a.key.SessionID || key != a.key.KeyID) {
			t.Error("a forgery verifies")
		}
	})
}
