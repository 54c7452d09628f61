package statement

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

const lineageVectorsFile = "testdata/lineage.json"

// lineageVectors are test vectors for other implementations: see
// deploy/docs/INTEGRATION.md.
type lineageVectors struct {
	About      string          `json:"about"`
	Identities []seeded        `json:"identities"`
	Lineages   []lineageVector `json:"lineages"`
	Refused    []refusedVector `json:"refused"`
	Reshares   []reshareVector `json:"reshares"`
}

// seeded is an identity. Its age key, which no statement shows, is arbitrary.
type seeded struct {
	Name        string `json:"name"`
	SignSeed    string `json:"sign_seed"` // Ed25519, hex
	SealSeed    string `json:"seal_seed"` // ML-KEM-768 with X25519 (X-Wing), hex
	Fingerprint string `json:"fingerprint"`
}

type lineageVector struct {
	Name         string              `json:"name"`
	Certificates []certificateVector `json:"certificates"`
	// The state after all of them.
	Epoch        int      `json:"epoch"`
	Coordinators []string `json:"coordinators"`
	Archived     bool     `json:"archived"`
	Destroyed    bool     `json:"destroyed"`
}

type certificateVector struct {
	Number      int    `json:"number"`
	Hash        string `json:"hash"`
	Certificate string `json:"certificate"`
}

// refusedVector is a lineage in which one certificate is changed or left out.
type refusedVector struct {
	Name        string `json:"name"`
	Lineage     int    `json:"lineage"`     // which of the lineages
	Certificate int    `json:"certificate"` // which of its certificates
	LeftOut     bool   `json:"left_out,omitempty"`
	From        string `json:"from,omitempty"` // what is replaced in its text
	To          string `json:"to,omitempty"`
	Instead     string `json:"instead,omitempty"` // another certificate, validly signed
}

type reshareVector struct {
	Name          string      `json:"name"`
	Request       reshareJSON `json:"request"`
	IssuedAt      int64       `json:"issued_at"`
	ExpiresAt     int64       `json:"expires_at"`
	Nonce         string      `json:"nonce"`     // hex
	Statement     string      `json:"statement"` // hex, the signed content
	SignedRequest string      `json:"signed_request"`
}

type reshareJSON struct {
	Coordinator string            `json:"coordinator"`
	SessionID   string            `json:"session_id"`
	KeyID       string            `json:"key_id"`
	Curve       pubkey.Curve      `json:"curve"`
	Epoch       int               `json:"epoch"`
	Threshold   int               `json:"threshold"`
	Members     []identity.Member `json:"members"`
	AccountAddr string            `json:"account_addr"`
	Parent      string            `json:"parent"`
}

// vectorMaker builds the vectors from fixed seeds.
type vectorMaker struct {
	t   *testing.T
	ids map[string]*identity.Identity
	all lineageVectors
}

func (m *vectorMaker) identity(name string, seed byte) {
	m.t.Helper()
	own, err := age.GenerateHybridIdentity()
	if err != nil {
		m.t.Fatal(err)
	}
	sign, seal := bytes.Repeat([]byte{seed}, 32), bytes.Repeat([]byte{seed + 1}, 32)
	id, err := identity.Parse(fmt.Sprintf("conclave-identity-v1\nsign %s\nseal %s\nage %s\n",
		base64.StdEncoding.EncodeToString(sign), base64.StdEncoding.EncodeToString(seal), own))
	if err != nil {
		m.t.Fatal(err)
	}
	m.ids[name] = id
	m.all.Identities = append(m.all.Identities, seeded{name, hex.EncodeToString(sign), hex.EncodeToString(seal), id.Public().Fingerprint()})
}

// fixedPoint is the public key of a private key whose bytes are all n.
func fixedPoint(curve pubkey.Curve, n byte) []byte {
	seed := bytes.Repeat([]byte{n}, 32)
	if curve == pubkey.Secp256k1 {
		return secp256k1.PrivKeyFromBytes(seed).PubKey().SerializeCompressed()
	}
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}

// epoch is the content of an epoch of members with those users and identities.
func (m *vectorMaker) epoch(key string, curve pubkey.Curve, threshold int, users ...string) *Epoch {
	pub := fixedPoint(curve, 0xc0)
	address, err := curve.Address(pub)
	if err != nil {
		m.t.Fatal(err)
	}
	e := &Epoch{
		KeyID: key, SessionID: "kg-1", Curve: curve, Number: 1, Threshold: threshold,
		AccountAddr: address, PublicKey: pubkey.Encode(pub), Origin: Generated, Coordinator: "alice",
	}
	for i, name := range users {
		user, _, _ := strings.Cut(name, ", ")
		e.Members = append(e.Members, identity.Member{Index: i + 1, User: user, Identity: m.ids[name].Public()})
	}
	return e
}

// follow makes an epoch the next of a lineage.
func (m *vectorMaker) follow(l *Lineage, e *Epoch, number int) *Epoch {
	link := l.Head().Link()
	e.Number, e.Parent, e.SessionID = number, &link, fmt.Sprint("rs-", number)
	for i := range e.Members {
		e.Points = append(e.Points, pubkey.Encode(fixedPoint(e.Curve, byte(16*number+i))))
	}
	return e
}

// of finds the identity of a member.
func (m *vectorMaker) of(member identity.Member) *identity.Identity {
	for _, id := range m.ids {
		if id.Public() == member.Identity {
			return id
		}
	}
	m.t.Fatalf("no identity of %s", member.User)
	return nil
}

// attested is an epoch with the attestations of its members: of a keygen, in that
// format, if it has no points.
func (m *vectorMaker) attested(e *Epoch, v1 bool) *Certificate {
	c := &Certificate{Epoch: e}
	k := Attested{
		SessionID: e.SessionID, KeyID: e.KeyID, Epoch: e.Number, Coordinator: e.Coordinator, Curve: e.Curve, Threshold: e.Threshold,
		AccountAddr: e.AccountAddr, PublicKey: e.PublicKey,
	}
	for _, member := range e.Members {
		if e.Points != nil {
			text, err := e.Attest(m.of(member))
			if err != nil {
				m.t.Fatal(err)
			}
			c.Attestations = append(c.Attestations, text)
			continue
		}
		statement, err := k.statement(e.Members, v1)
		if err != nil {
			m.t.Fatal(err)
		}
		a := Attestation{Identity: member.Identity, v1: v1}
		copy(a.sig[:], m.of(member).Sign(statement))
		c.Attestations = append(c.Attestations, a.String())
	}
	return c
}

// consented adds the consents of those parts of the current committee.
func (m *vectorMaker) consented(l *Lineage, c *Certificate, parts ...int) *Certificate {
	for _, part := range parts {
		id := m.of(l.Epoch().Members[part-1])
		text, err := "", error(nil)
		if c.Epoch != nil {
			text, err = c.Epoch.Consent(id, l.Epoch())
		} else {
			text, err = c.Entry.Consent(id, l.Epoch())
		}
		if err != nil {
			m.t.Fatal(err)
		}
		c.Consents = append(c.Consents, PartConsent{part, text})
	}
	return c
}

func (m *vectorMaker) entry(l *Lineage, kind EntryType, user string, parts ...int) *Certificate {
	e := &Entry{
		KeyID: l.Epoch().KeyID, AccountAddr: l.Epoch().AccountAddr, SessionID: "en-1", Number: l.Head().Number() + 1, Parent: l.Head().Link(),
		Type: kind, User: user, Coordinator: "alice",
	}
	return m.consented(l, &Certificate{Entry: e}, parts...)
}

func (m *vectorMaker) next(l *Lineage, c *Certificate) *Lineage {
	m.t.Helper()
	l, err := l.Next(c)
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

func (m *vectorMaker) add(name string, l *Lineage) {
	v := lineageVector{Name: name, Epoch: l.Epoch().Number, Coordinators: l.Coordinators(), Archived: l.Archived(), Destroyed: l.Destroyed()}
	for _, c := range l.Certificates() {
		v.Certificates = append(v.Certificates, certificateVector{c.Number(), c.Hash().String(), c.String()})
	}
	m.all.Lineages = append(m.all.Lineages, v)
}

func makeLineageVectors(t *testing.T) *vectorMaker {
	t.Helper()
	m := &vectorMaker{t: t, ids: map[string]*identity.Identity{}}
	m.all.About = "Test vectors of certificates, entries and requests to reshare. The seeds are public: never use these identities."
	for i, name := range []string{"alice", "bob", "carol", "dave", "dave, new device", "参与方1"} {
		m.identity(name, byte(2*i+1))
	}
	m.add("generated in the first format", m.next(nil, m.attested(m.epoch("payroll", pubkey.Ed25519, 2, "bob", "carol"), true)))
	m.whole()
	m.imported()
	return m
}

// whole is a key from its keygen to its end.
func (m *vectorMaker) whole() {
	l := m.next(nil, m.attested(m.epoch("treasury", pubkey.Ed25519, 2, "bob", "carol", "dave"), false))
	l = m.next(l, m.entry(l, AddCoordinator, "zoe", 1, 3))
	m.reshare("a new device, a new member and a higher threshold", l, 3, "bob", "carol", "dave, new device", "参与方1")
	e := m.follow(l, m.epoch("treasury", pubkey.Ed25519, 3, "bob", "carol", "dave, new device", "参与方1"), 4)
	e.Coordinator = "zoe"
	l = m.next(l, m.consented(l, m.attested(e, false), 1, 2))
	l = m.next(l, m.entry(l, RemoveCoordinator, "alice", 1, 2, 4))
	l = m.next(l, m.entry(l, Archive, "", 2, 3, 4))
	m.add("archived", l)
	l = m.next(l, m.entry(l, Unarchive, "", 1, 2, 3))
	end := m.entry(l, Destroy, "", 1, 2, 3, 4)
	for _, part := range []int{1, 4} {
		text, err := end.Entry.Delete(m.of(l.Epoch().Members[part-1]), l.Epoch())
		if err != nil {
			m.t.Fatal(err)
		}
		end.Deletions = append(end.Deletions, PartDeletion{part, text})
	}
	m.add("destroyed", m.next(l, end))
}

// reshare adds a request of alice.
func (m *vectorMaker) reshare(name string, l *Lineage, threshold int, users ...string) {
	old := l.Epoch()
	v := reshareVector{
		Name: name, IssuedAt: 1795444900, ExpiresAt: 1795448500, Nonce: strings.Repeat("40", nonceSize),
		Request: reshareJSON{
			Coordinator: "alice", SessionID: "rs-4", KeyID: old.KeyID, Curve: old.Curve, Epoch: l.Head().Number(), Threshold: threshold,
			Members: m.epoch(old.KeyID, old.Curve, threshold, users...).Members, AccountAddr: old.AccountAddr, Parent: l.Head().Hash().String(),
		},
	}
	s, statement := v.signed(m.t, m.ids["alice"])
	v.Statement, v.SignedRequest = hex.EncodeToString(statement), s.String()
	m.all.Reshares = append(m.all.Reshares, v)
}

func (v reshareVector) request() Request {
	r := v.Request
	return Request{
		Kind: Reshare, Coordinator: r.Coordinator, SessionID: r.SessionID, KeyID: r.KeyID, Epoch: r.Epoch, Curve: r.Curve, Threshold: r.Threshold,
		Members: r.Members, AccountAddr: r.AccountAddr, Parent: r.Parent,
	}
}

func (v reshareVector) signed(t *testing.T, id *identity.Identity) (SignedRequest, []byte) {
	t.Helper()
	s := SignedRequest{Identity: id.Public(), IssuedAt: time.Unix(v.IssuedAt, 0).UTC(), ExpiresAt: time.Unix(v.ExpiresAt, 0).UTC()}
	copy(s.Nonce[:], unhex(t, v.Nonce))
	statement := s.statement(v.request())
	copy(s.sig[:], id.Sign(statement))
	return s, statement
}

// imported is an imported key with a refresh, and what must be refused in its place.
func (m *vectorMaker) imported() {
	content := func() *Epoch {
		e := m.epoch("savings", pubkey.Secp256k1, 2, "bob", "carol")
		e.Origin, e.ChainCode = Imported, "0x"+strings.Repeat("5a", 32)
		return e
	}
	root := content()
	root.Number, root.SessionID = 2, "rs-2"
	root.Points = []string{pubkey.Encode(fixedPoint(root.Curve, 1)), pubkey.Encode(fixedPoint(root.Curve, 2))}
	before := m.next(nil, m.attested(root, false))
	good := m.consented(before, m.attested(m.follow(before, content(), 3), false), 1, 2)
	m.add("imported", m.next(before, good))
	at := len(m.all.Lineages) - 1
	refuse := func(name string, change func(r *refusedVector)) {
		r := refusedVector{Name: name, Lineage: at, Certificate: 1}
		change(&r)
		m.all.Refused = append(m.all.Refused, r)
	}
	edit := func(name, from, to string) {
		refuse(name, func(r *refusedVector) { r.From, r.To = from, to })
	}
	resigned := func(name string, change func(e *Epoch), parts ...int) {
		e := m.follow(before, content(), 3)
		change(e)
		refuse(name, func(r *refusedVector) { r.Instead = m.consented(before, m.attested(e, false), parts...).String() })
	}
	edit("attestations mixed", good.Attestations[1], good.Attestations[0])
	edit("attestation of the parent", good.Attestations[0], before.Head().Attestations[0])
	edit("consents of one member under two parts", good.Consents[1].Consent, good.Consents[0].Consent)
	edit("another session", `"rs-3"`, `"rs-4"`)
	edit("another coordinator", `"coordinator":"alice"`, `"coordinator":"mallory"`)
	edit("another member", `"user_id":"carol"`, `"user_id":"mallory"`)
	edit("another share point", good.Epoch.Points[0], pubkey.Encode(fixedPoint(good.Epoch.Curve, 9)))
	edit("an unknown field", `"version":1`, `"version":1,"more":1`)
	edit("a field twice", `"version":1`, `"version":1,"version":1`)
	edit("a later version", `"version":1`, `"version":2`)
	edit("a deletion of an epoch", `"consents":[`, `"deletions":[],"consents":[`)
	resigned("one consent", func(*Epoch) {}, 1)
	resigned("one consent twice", func(*Epoch) {}, 1, 1)
	resigned("consents out of order", func(*Epoch) {}, 2, 1)
	resigned("another parent", func(e *Epoch) { e.Parent.Hash[0] ^= 1 }, 1, 2)
	resigned("another chain code", func(e *Epoch) { e.ChainCode = "" }, 1, 2)
	resigned("another origin", func(e *Epoch) { e.Origin = Generated }, 1, 2)
	resigned("another key of the same name", func(e *Epoch) {
		pub := fixedPoint(e.Curve, 0xc1)
		e.PublicKey = pubkey.Encode(pub)
		e.AccountAddr, _ = e.Curve.Address(pub)
	}, 1, 2)
	refuse("no first certificate", func(r *refusedVector) { r.Certificate, r.LeftOut = 0, true })
	m.all.Refused = append(m.all.Refused, refusedVector{Name: "a gap", Lineage: 2, Certificate: 1, LeftOut: true},
		refusedVector{Name: "an attestation of another keygen", Lineage: 0, From: `"session_id":"kg-1"`, To: `"session_id":"kg-2"`})
}

// TestLineageVectors: the format described in INTEGRATION is the one in use, and the
// published file is what the code verifies.
func TestLineageVectors(t *testing.T) {
	t.Parallel()
	m := makeLineageVectors(t)
	want, err := json.MarshalIndent(m.all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if *updateVectors {
		if err := os.WriteFile(lineageVectorsFile, append(want, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(lineageVectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, append(want, '\n')) {
		t.Error("the file has something else than the code makes; run the test with -update-vectors if that is meant")
	}
	var all lineageVectors
	if err := json.Unmarshal(file, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all.Lineages {
		l, err := v.verify()
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if l.Epoch().Number != v.Epoch || l.Archived() != v.Archived || l.Destroyed() != v.Destroyed || !slices.Equal(l.Coordinators(), v.Coordinators) {
			t.Errorf("%s: another state", v.Name)
		}
		for i, c := range l.Certificates() {
			if c.Hash().String() != v.Certificates[i].Hash || c.Number() != v.Certificates[i].Number {
				t.Errorf("%s: certificate %d has the hash %s", v.Name, c.Number(), c.Hash())
			}
		}
	}
	for _, r := range all.Refused {
		v := r.apply(t, all.Lineages[r.Lineage])
		if _, err := v.verify(); err == nil {
			t.Errorf("%s: verified", r.Name)
		}
	}
	for _, v := range all.Reshares {
		s, err := ParseSignedRequest(v.SignedRequest)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(v.request(), nil); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}

// apply changes a lineage as the vector says.
func (r refusedVector) apply(t *testing.T, v lineageVector) lineageVector {
	t.Helper()
	v.Certificates = slices.Clone(v.Certificates)
	switch c := &v.Certificates[r.Certificate]; {
	case r.LeftOut:
		v.Certificates = slices.Delete(v.Certificates, r.Certificate, r.Certificate+1)
	case r.Instead != "":
		c.Certificate = r.Instead
	default:
		if !strings.Contains(c.Certificate, r.From) {
			t.Errorf("%s: there is nothing to change", r.Name)
		}
		c.Certificate = strings.Replace(c.Certificate, r.From, r.To, 1)
	}
	return v
}

func (v lineageVector) verify() (*Lineage, error) {
	var list []*Certificate
	for _, c := range v.Certificates {
		parsed, err := ParseAnyCertificate(c.Certificate)
		if err != nil {
			return nil, err
		}
		list = append(list, parsed)
	}
	return VerifyLineage(list)
}

// TestLineageInJavaScript: a program of a few dozen lines, which shares no code with
// this one, verifies the same vectors and refuses the same.
func TestLineageInJavaScript(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CONCLAVE_REQUIRE_REAL") == "1" {
			t.Fatalf("%v and CONCLAVE_REQUIRE_REAL=1", err)
		}
		t.Skip(err)
	}
	out, err := exec.Command(node, "testdata/verify-vectors.mjs").CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), " checks, 0 bad\n") {
		t.Errorf("%v: %s", err, out)
	}
	last := makeLineageVectors(t).all.Lineages[3]
	for _, good := range []bool{true, false} {
		list := slices.Clone(last.Certificates)
		if !good {
			list[1].Certificate = strings.Replace(list[1].Certificate, `"coordinator":"`, `"coordinator":"x`, 1)
		}
		input, err := json.Marshal(map[string]any{"items": list})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(node, "testdata/verify-lineage.mjs")
		cmd.Stdin = bytes.NewReader(input)
		out, err := cmd.CombinedOutput()
		if said := strings.HasPrefix(string(out), "good  key "); said != good || (err == nil) != good {
			t.Errorf("good %t: %v: %s", good, err, out)
		}
	}
}
