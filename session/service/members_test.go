package service_test

import (
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// member returns a user's Caller with its identity, in the role of its name.
func member(user string) service.Caller {
	c := caller(user)
	c.Identity = sessiontest.Identity(user).Public().String()
	return c
}

// members are clients with identities: they attest keys and epochs, and consent.
type members struct {
	*world
	users []string
	read  map[string]int
	seen  map[string]map[int]*statement.Certificate // by user and number
	send  func(user string, p wire.Payload, requestID string)
	// change returns the answer that a user gives in place of its own: nil for none.
	change func(user string, asked, answer wire.Payload) wire.Payload
}

func (w *world) members(v *service.Service, users ...string) *members {
	m := &members{world: w, users: users, read: map[string]int{}, seen: map[string]map[int]*statement.Certificate{}}
	m.send = func(user string, p wire.Payload, requestID string) {
		w.Helper()
		if _, err := w.sayAs(v, member(user), p, requestID); err != nil {
			w.Fatalf("%s: %s: %v", user, p.Type(), err)
		}
	}
	return m
}

// sayAs is say for a caller.
func (w *world) sayAs(v *service.Service, c service.Caller, p wire.Payload, requestID string) (wire.Payload, error) {
	w.Helper()
	m, err := wire.New(c.User, p)
	if err != nil {
		w.Fatal(err)
	}
	m.RequestID = requestID
	q, err := m.DecodePayload()
	if err != nil {
		return nil, err
	}
	return v.Handle(w.ctx, c, m, q)
}

// refusedAs is refused for a caller.
func (w *world) refusedAs(v *service.Service, c service.Caller, p wire.Payload, code wire.Code) {
	w.Helper()
	_, err := w.sayAs(v, c, p, "")
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != code {
		w.Errorf("%s: %s: got error %v, want %s", c.User, p.Type(), err, code)
	}
}

// act lets everyone react to new messages until there are no more, and reports whether
// there were any.
func (m *members) act() bool {
	m.Helper()
	any := false
	for again := true; again; {
		again = false
		for _, user := range append([]string{"boss"}, m.users...) {
			for _, msg := range m.mail.of(user)[m.read[user]:] {
				m.read[user]++
				any, again = true, true
				asked, err := msg.DecodePayload()
				if err != nil {
					m.Fatalf("%s is sent what does not decode: %v", user, err)
				}
				for i, answer := range m.answers(user, asked) {
					if m.change != nil {
						answer = m.change(user, asked, answer)
					}
					if answer != nil {
						m.send(user, answer, fmt.Sprintf("%s-%d-%d", user, m.read[user], i))
					}
				}
			}
		}
	}
	return any
}

func (m *members) answers(user string, p wire.Payload) []wire.Payload {
	id := sessiontest.Identity(user)
	switch p := p.(type) {
	case *wire.KeygenInvite:
		return []wire.Payload{&wire.KeygenResponse{KeyID: p.KeyID, PartIndex: p.PartIndex, Response: &yes, SessionID: p.SessionID}}
	case *wire.KeygenParams:
		k := statement.Attested{
			SessionID: p.SessionID, KeyID: p.KeyID, Epoch: 1, Coordinator: "boss", Curve: "secp256k1", Threshold: p.Threshold, AccountAddr: theKey.Address, PublicKey: theKey.Public,
		}
		var list []identity.Member
		for _, party := range p.Parties {
			k.Participants = append(k.Participants, party.UserID)
			list = append(list, identity.Member{Index: party.PartIndex, User: party.UserID, Identity: sessiontest.Identity(party.UserID).Public()})
		}
		a, err := k.Attest(id, list)
		if err != nil {
			m.Fatal(err)
		}
		return []wire.Payload{&wire.KeygenComplete{
			KeyID: p.KeyID, PartIndex: p.PartIndex, AccountAddr: theKey.Address, PublicKey: theKey.Public, ShareJSON: shareOf(user, false), SessionID: p.SessionID, Attestation: a.String(),
		}}
	case *wire.SignInvite:
		return []wire.Payload{&wire.SignResponse{KeyID: p.KeyID, PartIndex: p.PartIndex, Response: &yes, SessionID: p.SessionID}}
	case *wire.SignParams:
		return []wire.Payload{&wire.SignResult{KeyID: p.KeyID, PartIndex: p.PartIndex, Signature: theKey.Sign(p.Digest), SessionID: p.SessionID}}
	case *wire.ReshareInvite:
		return []wire.Payload{&wire.ReshareResponse{KeyID: p.KeyID, SessionID: p.SessionID, Response: &yes, Places: p.Places, Highest: p.From.Epoch}}
	case *wire.ReshareParams:
		return m.complete(user, p)
	case *wire.ReshareAttested:
		return m.consent(user, p)
	case *wire.EpochCertified:
		c, err := statement.ParseCertificate(p.Certificate)
		if err != nil || c.Number() != p.Epoch {
			m.Fatalf("%s is told of epoch %d: %v", user, p.Epoch, err)
		}
		if m.seen[user] == nil {
			m.seen[user] = map[int]*statement.Certificate{}
		}
		m.seen[user][p.Epoch] = c
	}
	return nil
}

// complete reports for each new place of a user.
func (m *members) complete(user string, p *wire.ReshareParams) (list []wire.Payload) {
	for _, place := range p.Places {
		part := place - p.From.TotalParts
		if part < 1 {
			continue
		}
		e := m.epoch(p)
		text, err := e.Marshal()
		if err != nil {
			m.Fatal(err)
		}
		attestation, err := e.Attest(sessiontest.Identity(user))
		if err != nil {
			m.Fatal(err)
		}
		list = append(list, &wire.ReshareComplete{
			KeyID: p.KeyID, SessionID: p.SessionID, Attempt: p.Attempt, Epoch: p.Epoch, PartIndex: part, AccountAddr: theKey.Address,
			ShareJSON: shareOf(fmt.Sprintf("%s in epoch %d", user, p.Epoch), false), Statement: string(text), Attestation: attestation,
		})
	}
	return list
}

// epoch is the statement of an attempt.
func (m *members) epoch(p *wire.ReshareParams) *statement.Epoch {
	hash, err := statement.ParseHash(p.Certificate)
	if err != nil {
		m.Fatal(err)
	}
	e := &statement.Epoch{
		KeyID: p.KeyID, SessionID: p.SessionID, Curve: "secp256k1", Number: p.Epoch, Parent: &statement.Parent{Number: p.From.Epoch, Hash: hash},
		Threshold: p.To.Threshold, AccountAddr: theKey.Address, PublicKey: theKey.Public, Origin: statement.Generated, Coordinator: "boss",
	}
	for i, party := range p.To.Parties {
		id, err := identity.ParsePublic(party.Identity)
		if err != nil {
			m.Fatal(err)
		}
		e.Members = append(e.Members, identity.Member{Index: i + 1, User: party.UserID, Identity: id})
		e.Points = append(e.Points, sessiontest.NewSoloKey(byte(8*(p.Epoch%30)+i+3)).Public)
	}
	return e
}

// consent is that of a user's old place.
func (m *members) consent(user string, p *wire.ReshareAttested) []wire.Payload {
	e, err := statement.ParseEpoch([]byte(p.Statement))
	if err != nil {
		m.Fatal(err)
	}
	if err := e.VerifyAttestations(p.Attestations); err != nil {
		m.Fatal(err)
	}
	parent := m.certificate(p.KeyID, e.Parent.Number)
	part := 1 + slices.IndexFunc(parent.Epoch.Members, func(one identity.Member) bool { return one.User == user })
	text, err := e.Consent(sessiontest.Identity(user), parent.Epoch)
	if err != nil {
		m.Fatal(err)
	}
	return []wire.Payload{&wire.ReshareConsent{KeyID: p.KeyID, SessionID: p.SessionID, Epoch: p.Epoch, PartIndex: part, AttestationsHash: e.Hash().String(), Sig: text}}
}

// certificate returns one of a key's certificates, from the store or the keygen.
func (m *members) certificate(key string, number int) *statement.Certificate {
	m.Helper()
	list, err := m.store.Lineage(m.ctx, key, number-1, 1)
	if err != nil {
		m.Fatal(err)
	}
	if len(list) == 1 && list[0].Number == number {
		c, err := statement.ParseCertificate(list[0].Text)
		if err != nil {
			m.Fatal(err)
		}
		return c
	}
	k, err := m.store.Key(m.ctx, key)
	if err != nil {
		m.Fatal(err)
	}
	attestations, err := m.store.Attestations(m.ctx, key, len(k.Participants))
	if err != nil {
		m.Fatal(err)
	}
	c, err := statement.FirstCertificate(statement.Attested{
		SessionID: k.Session, KeyID: key, Epoch: 1, Coordinator: "boss", Curve: k.Curve, Threshold: k.Threshold, Participants: k.Participants,
		AccountAddr: k.AccountAddr, PublicKey: k.PublicKey,
	}, attestations)
	if err != nil {
		m.Fatal(err)
	}
	return c
}

// reshareRequest asks for a key to be reshared to users.
func reshareRequest(key string, threshold int, users ...string) *wire.ReshareRequest {
	p := &wire.ReshareRequest{KeyID: key, Threshold: threshold, TotalParts: len(users), SignedRequest: "signed"}
	for i, u := range users {
		p.Participants = append(p.Participants, wire.Party{PartIndex: i + 1, UserID: u, Identity: sessiontest.Identity(u).Public().String()})
	}
	return p
}

// attestedKey makes a key that its parties have attested.
func (m *members) attestedKey(key string) {
	m.Helper()
	m.send("boss", keygenRequest(key), "")
	m.act()
	if k, err := m.store.Key(m.ctx, key); err != nil || k.Status != session.KeyActive {
		m.Fatalf("keygen of %s: %+v, %v", key, k, err)
	}
}

// inEpoch checks that a key is in that epoch with its committee, and returns its record.
func (m *members) inEpoch(key string, epoch, threshold int, users ...string) session.Key {
	m.Helper()
	k, err := m.store.Key(m.ctx, key)
	if err != nil || k.Epoch != epoch || k.Threshold != threshold || !slices.Equal(k.Participants, users) || k.AccountAddr != theKey.Address {
		m.Fatalf("the key is in epoch %d, %d of %v (%v), want %d, %d of %v", k.Epoch, k.Threshold, k.Participants, err, epoch, threshold, users)
	}
	return k
}

// signs checks that a key signs.
func (m *members) signs(key, data string) {
	m.Helper()
	before := len(m.outcomes())
	m.send("boss", signRequest(key, data), "sign "+data)
	m.act()
	told := m.outcomes()[before:]
	done, ok := told[len(told)-1].(*wire.SignComplete)
	if !ok || done.Status != wire.StatusSuccess || done.Data != data {
		m.Fatalf("signing %s ends with %+v", data, told)
	}
}
