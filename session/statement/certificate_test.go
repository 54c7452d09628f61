package statement

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// generation is an epoch with the identities of its members.
type generation struct {
	*Certificate
	ids []*identity.Identity
}

// firstGeneration is epoch 1 of 2 of 3 parties, as a keygen attests it.
func firstGeneration(t testing.TB) generation {
	t.Helper()
	a := attest(t)
	var texts []string
	for _, one := range a.list {
		texts = append(texts, one.String())
	}
	c, err := FirstCertificate(a.key, texts)
	if err != nil {
		t.Fatal(err)
	}
	return generation{c, a.ids}
}

// points returns n different points of the curve.
func points(t testing.TB, curve pubkey.Curve, n int) []string {
	t.Helper()
	var list []string
	for range n {
		if curve == pubkey.Secp256k1 {
			key, err := secp256k1.GeneratePrivateKey()
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, pubkey.Encode(key.PubKey().SerializeCompressed()))
			continue
		}
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, pubkey.Encode(pub))
	}
	return list
}

// after returns the content of an epoch that follows g: the same committee, with the
// given number, then changed.
func (g generation) after(t testing.TB, number int, change func(*Epoch)) *Epoch {
	t.Helper()
	e := *g.Epoch
	link := g.Link()
	e.Number, e.Parent, e.SessionID = number, &link, fmt.Sprintf("rs-%d", number)
	e.Points = points(t, e.Curve, len(e.Members))
	if change != nil {
		change(&e)
	}
	return &e
}

// certify signs an epoch that follows g: by all new members, whose identities are ids,
// and by those members of g.
func (g generation) certify(t testing.TB, e *Epoch, ids []*identity.Identity, consenting ...int) generation {
	t.Helper()
	c := &Certificate{Epoch: e}
	for _, id := range ids {
		text, err := e.Attest(id)
		if err != nil {
			t.Fatal(err)
		}
		c.Attestations = append(c.Attestations, text)
	}
	for _, part := range consenting {
		text, err := e.Consent(g.ids[part-1], g.Epoch)
		if err != nil {
			t.Fatal(err)
		}
		c.Consents = append(c.Consents, PartConsent{part, text})
	}
	return generation{c, ids}
}

// refreshed returns a certified refresh of g.
func (g generation) refreshed(t testing.TB, number int, consenting ...int) generation {
	t.Helper()
	next := g.certify(t, g.after(t, number, nil), g.ids, consenting...)
	if err := next.Verify(g.Certificate); err != nil {
		t.Fatal(err)
	}
	return next
}

// reread is a certificate after a journey as text.
func reread(t testing.TB, c *Certificate) *Certificate {
	t.Helper()
	again, err := ParseCertificate(c.String())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, c) || again.Hash() != c.Hash() {
		t.Fatal("the text form gives something else")
	}
	return again
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	first := firstGeneration(t)
	if err := reread(t, first.Certificate).Verify(nil); err != nil {
		t.Fatal(err)
	}
	// 2 of 3 becomes 3 of 4, with one member's new device and one new member.
	device, eve := fresh(t), fresh(t)
	second := first.certify(t, first.after(t, 5, func(e *Epoch) {
		e.Threshold = 3
		e.Members = append(slices.Clone(e.Members), identity.Member{Index: 4, User: "eve", Identity: eve.Public()})
		e.Members[1].Identity = device.Public()
		e.Points = points(t, e.Curve, 4)
	}), []*identity.Identity{first.ids[0], device, first.ids[2], eve}, 1, 3)
	if err := reread(t, second.Certificate).Verify(first.Certificate); err != nil {
		t.Fatal(err)
	}
	third := second.refreshed(t, 6, 1, 2, 4)
	l, err := VerifyLineage([]*Certificate{first.Certificate, second.Certificate, third.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	if l.Epoch().Number != 6 || l.Head() != third.Certificate || len(l.Certificates()) != 3 || l.Certificates()[0] != first.Certificate {
		t.Errorf("the lineage is of epoch %d with %d certificates", l.Epoch().Number, len(l.Certificates()))
	}
	text, err := third.Epoch.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if e, err := ParseEpoch(text); err != nil || !reflect.DeepEqual(e, third.Epoch) {
		t.Errorf("the statement's text gives something else: %v", err)
	}
}

// TestConsentsDoNotNameACertificate: who has consented is no part of the hash, so that
// the next epoch does not depend on it.
func TestConsentsDoNotNameACertificate(t *testing.T) {
	t.Parallel()
	first := firstGeneration(t)
	e := first.after(t, 2, nil)
	a, b := first.certify(t, e, first.ids, 1, 2), first.certify(t, e, first.ids, 2, 3)
	if a.Hash() != b.Hash() || a.String() == b.String() {
		t.Error("the hash depends on the consents")
	}
	third := a.refreshed(t, 3, 1, 2)
	if _, err := VerifyLineage([]*Certificate{first.Certificate, b.Certificate, third.Certificate}); err != nil {
		t.Error(err)
	}
}

// TestCertificateIsRefused breaks one rule after the other; everything else of each
// certificate is signed as it should be.
func TestCertificateIsRefused(t *testing.T) {
	t.Parallel()
	first := firstGeneration(t)
	stranger := firstGeneration(t)
	secp := points(t, pubkey.Secp256k1, 4)
	address, err := pubkey.Secp256k1.Address(unhex(t, secp[0][2:]))
	if err != nil {
		t.Fatal(err)
	}
	good := first.certify(t, first.after(t, 3, nil), first.ids, 1, 2)
	changed := func(change func(*Epoch)) generation {
		return first.certify(t, first.after(t, 3, change), first.ids, 1, 2)
	}
	unsigned := func(change func(*Epoch)) generation { // signed before it is changed
		e := first.after(t, 3, nil)
		g := first.certify(t, e, first.ids, 1, 2)
		change(e)
		return g
	}
	with := func(change func(*Certificate)) generation {
		c := Certificate{Epoch: good.Epoch, Attestations: slices.Clone(good.Attestations), Consents: slices.Clone(good.Consents)}
		change(&c)
		return generation{&c, good.ids}
	}
	other := first.certify(t, first.after(t, 3, nil), first.ids, 1, 2)
	foreign := stranger.certify(t, stranger.after(t, 3, nil), stranger.ids, 1, 2)
	mixedIDs := []*identity.Identity{first.ids[0], first.ids[2], first.ids[1]}
	for name, tc := range map[string]struct {
		c    generation
		want string
	}{
		"mixed attestations":           {with(func(c *Certificate) { c.Attestations[1] = other.Attestations[1] }), "carol"},
		"attestations exchanged":       {first.certify(t, first.after(t, 3, nil), mixedIDs, 1, 2), "carol"},
		"one attestation twice":        {with(func(c *Certificate) { c.Attestations[1] = c.Attestations[0] }), "carol"},
		"an attestation too few":       {with(func(c *Certificate) { c.Attestations = c.Attestations[:2] }), "2 attestations of 3"},
		"an attestation too many":      {with(func(c *Certificate) { c.Attestations = append(c.Attestations, c.Attestations[0]) }), "4 attestations of 3"},
		"an attestation of a keygen":   {with(func(c *Certificate) { c.Attestations[0] = first.Attestations[0] }), "conclave-att3."},
		"a consent for an attestation": {with(func(c *Certificate) { c.Attestations[0] = c.Consents[0].Consent }), "conclave-att3."},
		"too few consents":             {first.certify(t, first.after(t, 3, nil), first.ids, 2), "1 members have consented"},
		"no consents":                  {first.certify(t, first.after(t, 3, nil), first.ids), "0 members have consented"},
		"one consent twice":            {first.certify(t, first.after(t, 3, nil), first.ids, 1, 1), "twice"},
		"one consent under two parts":  {with(func(c *Certificate) { c.Consents[1].Consent = c.Consents[0].Consent }), "signed by carol"},
		"consents out of order":        {first.certify(t, first.after(t, 3, nil), first.ids, 2, 1), "out of order"},
		"a consent of part 0":          {with(func(c *Certificate) { c.Consents[0].Part = 0 }), "part 0"},
		"a consent of part 4":          {with(func(c *Certificate) { c.Consents[1].Part = 4 }), "no part 4"},
		"a foreign consent":            {with(func(c *Certificate) { c.Consents[1] = foreign.Consents[1] }), "signed by carol"},
		"a consent to another session": {with(func(c *Certificate) { c.Consents[1] = other.Consents[1] }), "signed by carol"},
		"a bad consent beside enough":  {with(func(c *Certificate) { c.Consents = append(c.Consents, PartConsent{3, other.Consents[1].Consent}) }), "signed by dave"},
		"an attestation for a consent": {with(func(c *Certificate) { c.Consents[1].Consent = c.Attestations[1] }), "conclave-con1."},
		"no parent":                    {unsigned(func(e *Epoch) { e.Parent = nil }), "must have a parent"},
		"another number":               {changed(func(e *Epoch) { e.Parent.Number = 2 }), "it follows number 2"},
		"another parent":               {changed(func(e *Epoch) { e.Parent.Hash[0] ^= 1 }), "it follows number 1"},
		"the parent's own number":      {unsigned(func(e *Epoch) { e.Number = 1 }), "cannot follow"},
		"another key":                  {unsigned(func(e *Epoch) { e.KeyID = "key-2" }), "signed by bob"},
		"another curve and address": {changed(func(e *Epoch) {
			e.Curve, e.PublicKey, e.AccountAddr, e.Points = pubkey.Secp256k1, secp[0], address, secp[1:]
		}), "about the key"},
		"another public key": {changed(func(e *Epoch) {
			e.PublicKey, e.AccountAddr = stranger.Epoch.PublicKey, stranger.Epoch.AccountAddr
		}), "about the key"},
		"another address":     {unsigned(func(e *Epoch) { e.AccountAddr = stranger.Epoch.AccountAddr }), "address is not that"},
		"another chain code":  {changed(func(e *Epoch) { e.ChainCode = "0x" + strings.Repeat("ab", 32) }), "the key's chain code"},
		"another origin":      {changed(func(e *Epoch) { e.Origin = Imported }), "the key's origin"},
		"another session":     {unsigned(func(e *Epoch) { e.SessionID = "rs-4" }), "signed by bob"},
		"another coordinator": {unsigned(func(e *Epoch) { e.Coordinator = "mallory" }), "signed by bob"},
		"another threshold":   {unsigned(func(e *Epoch) { e.Threshold = 3 }), "signed by bob"},
		"another member": {unsigned(func(e *Epoch) {
			e.Members = slices.Clone(e.Members)
			e.Members[2].Identity = stranger.ids[2].Public()
		}), "signed by bob"},
		"another user": {unsigned(func(e *Epoch) {
			e.Members = slices.Clone(e.Members)
			e.Members[2].User = "mallory"
		}), "signed by bob"},
		"another point":    {unsigned(func(e *Epoch) { e.Points[0] = points(t, e.Curve, 1)[0] }), "signed by bob"},
		"one point twice":  {unsigned(func(e *Epoch) { e.Points[1] = e.Points[0] }), "part 2"},
		"no points":        {unsigned(func(e *Epoch) { e.Points = nil }), "0 share points"},
		"a point too few":  {unsigned(func(e *Epoch) { e.Points = e.Points[:2] }), "2 share points"},
		"of another key":   {foreign, "it follows number 1"},
		"no epoch":         {generation{&Certificate{}, nil}, "either an epoch"},
		"an unknown curve": {unsigned(func(e *Epoch) { e.Curve = "p256" }), "curve"},
	} {
		err := tc.c.Verify(first.Certificate)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, tc.want)
		}
	}
	if err := good.Verify(first.Certificate); err != nil {
		t.Error(err)
	}
	if err := good.Verify(nil); err == nil {
		t.Error("an epoch with a parent is the first")
	}
}

// TestFirstCertificateIsRefused: epoch 1 is what a keygen's parties have attested.
func TestFirstCertificateIsRefused(t *testing.T) {
	t.Parallel()
	first := firstGeneration(t)
	stranger := fresh(t)
	for name, change := range map[string]func(c *Certificate, e *Epoch){
		"another identity": func(_ *Certificate, e *Epoch) { e.Members[1].Identity = stranger.Public() },
		"another user":     func(_ *Certificate, e *Epoch) { e.Members[1].User = "eve" },
		"another number":   func(_ *Certificate, e *Epoch) { e.Number = 2 },
		"another session":  func(_ *Certificate, e *Epoch) { e.SessionID = "kg-2" },
		"imported":         func(_ *Certificate, e *Epoch) { e.Origin = Imported },
		"points":           func(_ *Certificate, e *Epoch) { e.Points = points(t, e.Curve, 3) },
		"a chain code":     func(_ *Certificate, e *Epoch) { e.ChainCode = "0x" + strings.Repeat("ab", 32) },
		"another threshold": func(_ *Certificate, e *Epoch) {
			e.Threshold = 3
		},
		"a consent":                func(c *Certificate, _ *Epoch) { c.Consents = []PartConsent{{1, "conclave-con1."}} },
		"an attestation exchanged": func(c *Certificate, _ *Epoch) { c.Attestations[0] = c.Attestations[1] },
		"an attestation too few":   func(c *Certificate, _ *Epoch) { c.Attestations = c.Attestations[:2] },
	} {
		e := *first.Epoch
		e.Members = slices.Clone(e.Members)
		c := &Certificate{Epoch: &e, Attestations: slices.Clone(first.Attestations)}
		change(c, &e)
		if err := c.Verify(nil); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	if err := first.Verify(nil); err != nil {
		t.Error(err)
	}
	// An imported key's first epoch is attested like a reshare's, whatever its number.
	imported := *first.Epoch
	imported.Number, imported.Origin, imported.Points = 3, Imported, points(t, imported.Curve, 3)
	g := first.certify(t, &imported, first.ids)
	if err := reread(t, g.Certificate).Verify(nil); err != nil {
		t.Error(err)
	}
	if next := g.refreshed(t, 4, 1, 2); next.Epoch.Origin != Imported {
		t.Error("the origin is lost")
	}
}

// TestEveryFieldOfEpochIsSigned changes each field of an epoch. It enumerates them, so
// that a new one cannot be forgotten.
func TestEveryFieldOfEpochIsSigned(t *testing.T) {
	t.Parallel()
	good := firstGeneration(t).after(t, 2, nil)
	hash := good.Hash()
	for i := range reflect.TypeFor[Epoch]().NumField() {
		e := *good
		name := reflect.TypeFor[Epoch]().Field(i).Name
		switch f := reflect.ValueOf(&e).Elem().Field(i); v := f.Interface().(type) {
		case string, pubkey.Curve:
			f.SetString(f.String() + "x")
		case int:
			f.SetInt(int64(v + 1))
		case *Parent:
			f.Set(reflect.ValueOf(&Parent{v.Number + 1, v.Hash}))
		case []identity.Member:
			f.Set(reflect.ValueOf(v[:2]))
		case []string:
			f.Set(reflect.ValueOf(append(slices.Clone(v), "")))
		default:
			t.Fatalf("%s is of a type that this test cannot change", name)
		}
		if e.Hash() == hash {
			t.Errorf("%s: another value has the same hash", name)
		}
	}
	for name, change := range map[string]func(m *identity.Member){
		"part":        func(m *identity.Member) { m.Index++ },
		"user":        func(m *identity.Member) { m.User += "x" },
		"identity":    func(m *identity.Member) { m.Identity = fresh(t).Public() },
		"sealing key": func(m *identity.Member) { m.Identity = identity.Public{} },
	} {
		e := *good
		e.Members = slices.Clone(e.Members)
		change(&e.Members[2])
		if e.Hash() == hash {
			t.Errorf("another %s of a member has the same hash", name)
		}
	}
	without := *good
	without.Parent = nil
	if without.Hash() == hash {
		t.Error("without a parent, the hash is the same")
	}
}

// TestWhoMaySign: only members attest, and only members of the committee before them
// consent.
func TestWhoMaySign(t *testing.T) {
	t.Parallel()
	first, stranger := firstGeneration(t), firstGeneration(t)
	e := first.after(t, 2, nil)
	if _, err := first.Epoch.Consent(first.ids[0], first.Epoch); err == nil {
		t.Error("a first epoch has got a consent")
	}
	foreign := *first.Epoch
	foreign.KeyID = "key-2"
	if _, err := e.Consent(first.ids[0], &foreign); err == nil {
		t.Error("the committee of another key has consented")
	}
	invalid := first.after(t, 2, func(e *Epoch) { e.Points = nil })
	for name, id := range map[string]*identity.Identity{"no identity": nil, "an empty one": {}, "a stranger's": stranger.ids[0]} {
		if _, err := e.Attest(id); err == nil {
			t.Errorf("%s has attested", name)
		}
		if _, err := e.Consent(id, first.Epoch); err == nil {
			t.Errorf("%s has consented", name)
		}
	}
	if _, err := invalid.Attest(first.ids[0]); err == nil {
		t.Error("an invalid epoch is attested")
	}
	if _, err := invalid.Consent(first.ids[0], first.Epoch); err == nil {
		t.Error("an invalid epoch is consented to")
	}
}

func TestCertificateText(t *testing.T) {
	t.Parallel()
	first := firstGeneration(t)
	text := first.refreshed(t, 2, 1, 3).String()
	spaced := strings.ReplaceAll(text, `,"`, ",\n  \"")
	if c, err := ParseCertificate(spaced); err != nil || c.String() != text {
		t.Errorf("with white space: %v", err)
	}
	for name, bad := range map[string]string{
		"nothing":            "",
		"no object":          "[]",
		"null":               "null",
		"cut":                text[:len(text)-1],
		"more":               text + "{}",
		"another version":    strings.Replace(text, `"version":1`, `"version":2`, 1),
		"an unknown field":   strings.Replace(text, `"version":1`, `"version":1,"x":1`, 1),
		"a field twice":      strings.Replace(text, `"version":1`, `"version":1,"version":1`, 1),
		"a capital":          strings.Replace(text, `"epoch":{`, `"Epoch":{`, 1),
		"another order":      `{"attestations":[],` + strings.Replace(text[1:], `"attestations"`, `"consents"`, 1),
		"no epoch":           `{"version":1,"attestations":[]}`,
		"an upper-case hash": strings.Replace(text, first.Hash().String(), "0x"+strings.ToUpper(first.Hash().String()[2:]), 1),
		"a needless escape":  strings.Replace(text, `"bob"`, `"\u0062ob"`, 1),
		"no UTF-8":           strings.Replace(text, `"bob"`, "\"b\xffb\"", 1),
		"an exponent":        strings.Replace(text, `"threshold":2`, `"threshold":2e0`, 1),
		"empty consents":     text[:strings.Index(text, `"consents"`)] + `"consents":[]}`,
		"too large":          text + strings.Repeat(" ", maxCertificateBytes),
	} {
		if bad == text {
			t.Errorf("%s: nothing is changed", name)
		}
		if _, err := ParseCertificate(bad); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	statement, err := first.Epoch.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"white space":   " " + string(statement),
		"nothing":       "",
		"a field twice": strings.Replace(string(statement), `{`, `{"epoch":1,`, 1),
		"invalid":       strings.Replace(string(statement), `"threshold":2`, `"threshold":1`, 1),
		"too large":     string(statement) + strings.Repeat(" ", maxEpochBytes),
	} {
		if _, err := ParseEpoch([]byte(bad)); err == nil {
			t.Errorf("statement: %s: read", name)
		}
	}
	// The largest certificate can be read.
	big := largest(t)
	if size := len(big.String()); size > maxCertificateBytes || size < maxCertificateBytes/2 {
		t.Errorf("the largest certificate has %d bytes, and may have %d", size, maxCertificateBytes)
	}
	if body, err := compactJSON(big.Epoch); err != nil || len(body) > maxEpochBytes || len(body) < maxEpochBytes/2 {
		t.Errorf("the largest epoch has %d bytes, and may have %d: %v", len(body), maxEpochBytes, err)
	}
}

// largest returns a certificate of the size of the largest possible one: all members
// have one identity, so it does not verify.
func largest(t testing.TB) *Certificate {
	t.Helper()
	first := firstGeneration(t)
	e := *first.Epoch
	e.Members, e.Points = nil, nil
	point := points(t, pubkey.Secp256k1, 1)[0]
	c := &Certificate{Epoch: &e}
	for i := range identity.MaxParties {
		user := strings.Repeat("u", identity.MaxNameBytes)
		e.Members = append(e.Members, identity.Member{Index: i + 1, User: user, Identity: first.ids[0].Public()})
		e.Points = append(e.Points, point)
		c.Attestations = append(c.Attestations, first.Attestations[0])
		c.Consents = append(c.Consents, PartConsent{i + 1, strings.Repeat("c", consentTextSize)})
	}
	return c
}

// FuzzCertificate: text that parses has one compact form and one hash, and verifies
// only if it is the certificate that was signed.
func FuzzCertificate(f *testing.F) {
	first := firstGeneration(f)
	good := first.refreshed(f, 2, 1, 2)
	f.Add(good.String())
	f.Add(first.String())
	f.Add(strings.Replace(good.String(), `"threshold":2`, `"threshold":3`, 1))
	f.Add(`{"version":1}`)
	f.Add(`{"version":1,"epoch":{},"attestations":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCertificate(text)
		if err != nil {
			return
		}
		again, err := ParseCertificate(c.String())
		if err != nil || again.String() != c.String() || again.Hash() != c.Hash() {
			t.Fatalf("a certificate is not written as it is read: %v", err)
		}
		// Anyone can sign as themselves, in a key of their own.
		if c.Verify(first.Certificate) == nil && c.Hash() != good.Hash() {
			t.Error("a forgery verifies")
		}
	})
}
