package clienttest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// reshare is one open reshare of a [Server].
type reshare struct {
	ask         *wire.ReshareRequest
	coordinator string
	requestID   string
	from, to    wire.Committee
	parent      *statement.Certificate
	accepted    map[string][]int // places by user
	attempt     int
	number      int
	quorum      []int // places of the old committee, in this attempt
	complete    map[int]*wire.ReshareComplete
	consents    map[int]string
	attested    bool
	over        bool
}

// Certify makes a certificate a key's current one, as a completed reshare does. Mu is
// held.
func (f *Server) Certify(c *statement.Certificate) {
	e := c.Epoch
	f.Lineages[e.KeyID] = append(f.Lineages[e.KeyID], c)
	f.highest[e.KeyID] = max(f.highest[e.KeyID], e.Number)
	key := f.Keys[e.KeyID]
	key.Threshold, key.Parties = e.Threshold, nil
	for _, m := range e.Members {
		key.Parties = append(key.Parties, session.Party{User: m.User})
	}
	f.Keys[e.KeyID] = key
}

// head returns a key's current certificate, nil if it has none.
func (f *Server) head(keyID string) *statement.Certificate {
	list := f.Lineages[keyID]
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1]
}

// Number returns the number for the next attempt of a key. Mu is held.
func (f *Server) Number(keyID string) int {
	f.highest[keyID]++
	return f.highest[keyID]
}

func (f *Server) requestReshare(user, requestID string, p *wire.ReshareRequest) (wire.Payload, *wire.Error) {
	if f.reshares[p.SessionID] != nil {
		return &wire.Ack{SessionID: p.SessionID, KeyID: p.KeyID}, nil
	}
	parent := f.head(p.KeyID)
	if parent == nil {
		return nil, wire.Errorf(wire.CodeNotFound, "no such key")
	}
	e := parent.Epoch
	r := &reshare{
		ask: p, coordinator: user, requestID: requestID, parent: parent, accepted: map[string][]int{},
		from: wire.Committee{Epoch: e.Number, Threshold: e.Threshold, TotalParts: len(e.Members)},
		to:   wire.Committee{Threshold: p.Threshold, TotalParts: len(p.Participants), Parties: p.Participants},
	}
	for _, m := range e.Members {
		r.from.Parties = append(r.from.Parties, wire.Party{PartIndex: m.Index, UserID: m.User})
	}
	f.reshares[p.SessionID] = r
	r.number = f.Number(p.KeyID)
	for user, places := range r.places() {
		f.Mail(user, "", &wire.ReshareInvite{
			KeyID: p.KeyID, SessionID: p.SessionID, Epoch: r.number, Curve: string(e.Curve), AccountAddr: e.AccountAddr, PublicKey: e.PublicKey,
			From: r.from, To: r.to, Places: places, Coordinator: r.coordinator, Certificate: parent.Hash().String(), Origin: e.Origin,
			SignedRequest: p.SignedRequest,
		})
	}
	return &wire.Ack{SessionID: p.SessionID, KeyID: p.KeyID}, nil
}

// places returns the places of each user.
func (r *reshare) places() map[string][]int {
	all := map[string][]int{}
	for _, party := range r.from.Parties {
		all[party.UserID] = append(all[party.UserID], party.PartIndex)
	}
	for _, party := range r.to.Parties {
		all[party.UserID] = append(all[party.UserID], r.from.TotalParts+party.PartIndex)
	}
	return all
}

// user returns the user of a place.
func (r *reshare) user(place int) string {
	if place <= r.from.TotalParts {
		return r.from.Parties[place-1].UserID
	}
	return r.to.Parties[place-r.from.TotalParts-1].UserID
}

func (f *Server) reshareAnswer(user string, p *wire.ReshareResponse) (wire.Payload, *wire.Error) {
	r := f.reshares[p.SessionID]
	if r == nil || r.over {
		return nil, session.ErrEnded
	}
	ack := &wire.Ack{SessionID: p.SessionID, KeyID: p.KeyID}
	f.highest[p.KeyID] = max(f.highest[p.KeyID], p.Highest)
	if !*p.Response {
		f.endReshare(r, wire.StatusRejected, user+" declined: "+p.Reason, nil)
		return ack, nil
	}
	r.accepted[user] = p.Places
	f.tryAttempt(r)
	return ack, nil
}

// tryAttempt begins the first attempt when all new places and a threshold of old ones
// have accepted, and OldToo, if set, are among them.
func (f *Server) tryAttempt(r *reshare) {
	var all []int
	for _, places := range r.accepted {
		all = append(all, places...)
	}
	slices.Sort(all)
	news := slices.DeleteFunc(slices.Clone(all), func(place int) bool { return place <= r.from.TotalParts })
	old := slices.DeleteFunc(all, func(place int) bool { return place > r.from.TotalParts })
	if r.attempt > 0 || len(news) < r.to.TotalParts || len(old) < max(r.from.Threshold, f.OldFirst) {
		return
	}
	r.quorum = old[:r.from.Threshold]
	f.beginAttempt(r)
}

func (f *Server) beginAttempt(r *reshare) {
	r.attempt++
	r.complete, r.consents, r.attested = map[int]*wire.ReshareComplete{}, map[int]string{}, false
	from := r.from
	from.Parties = nil
	for _, place := range r.quorum {
		m := r.parent.Epoch.Members[place-1]
		from.Parties = append(from.Parties, wire.Party{PartIndex: place, UserID: m.User, Identity: m.Identity.String()})
	}
	for user, places := range f.running(r) {
		f.Mail(user, "", &wire.ReshareParams{
			KeyID: r.ask.KeyID, SessionID: r.ask.SessionID, Attempt: r.attempt, Epoch: r.number, From: from, To: r.to, Places: places,
			Certificate: r.parent.Hash().String(),
		})
	}
}

// running returns the places of an attempt by user.
func (f *Server) running(r *reshare) map[string][]int {
	all := map[string][]int{}
	for _, place := range r.quorum {
		all[r.user(place)] = append(all[r.user(place)], place)
	}
	for i, party := range r.to.Parties {
		all[party.UserID] = append(all[party.UserID], r.from.TotalParts+i+1)
	}
	return all
}

// reshareFailed begins another attempt under another number.
func (f *Server) reshareFailed(p *wire.PartyFailed) (wire.Payload, *wire.Error) {
	r := f.reshares[p.SessionID]
	ack := &wire.Ack{SessionID: p.SessionID}
	if r.over || p.Attempt != r.attempt {
		return ack, nil
	}
	if r.attempt >= 3 {
		f.endReshare(r, wire.StatusFailed, p.Reason, p.Culprits)
		return ack, nil
	}
	r.number = f.Number(r.ask.KeyID)
	f.beginAttempt(r)
	return ack, nil
}

func (f *Server) reshareRelay(user string, p *wire.TSSMessage) (wire.Payload, *wire.Error) {
	r := f.reshares[p.SessionID]
	if r.over {
		return nil, session.ErrEnded
	}
	if p.Attempt == r.attempt && user != f.Mute {
		for to, places := range f.running(r) {
			if to != user && (p.To == 0 || slices.Contains(places, p.To)) {
				f.Mail(to, "", p)
			}
		}
	}
	return &wire.Ack{SessionID: p.SessionID}, nil
}

func (f *Server) reshareComplete(p *wire.ReshareComplete) (wire.Payload, *wire.Error) {
	r := f.reshares[p.SessionID]
	if r == nil || r.over {
		return nil, session.ErrEnded
	}
	ack := &wire.Ack{SessionID: p.SessionID, KeyID: p.KeyID}
	if p.Epoch != r.number {
		return ack, nil
	}
	r.complete[p.PartIndex] = p
	if len(r.complete) < r.to.TotalParts || r.attested {
		return ack, nil
	}
	r.attested = true
	m := &wire.ReshareAttested{KeyID: p.KeyID, SessionID: p.SessionID, Attempt: r.attempt, Epoch: r.number, Statement: p.Statement}
	for _, part := range slices.Sorted(maps.Keys(r.complete)) {
		if r.complete[part].Statement != p.Statement {
			f.t.Errorf("part %d states\n%s\nand not\n%s", part, r.complete[part].Statement, p.Statement)
		}
		m.Attestations = append(m.Attestations, r.complete[part].Attestation)
	}
	for user, places := range r.accepted {
		if places[0] <= r.from.TotalParts {
			f.Mail(user, "", m)
		}
	}
	return ack, nil
}

func (f *Server) reshareConsent(p *wire.ReshareConsent) (wire.Payload, *wire.Error) {
	r := f.reshares[p.SessionID]
	if r == nil || r.over {
		return nil, session.ErrEnded
	}
	ack := &wire.Ack{SessionID: p.SessionID, KeyID: p.KeyID}
	if p.Epoch != r.number || !r.attested {
		return ack, nil
	}
	r.consents[p.PartIndex] = p.Sig
	if len(r.consents) < r.from.Threshold {
		return ack, nil
	}
	e, err := statement.ParseEpoch([]byte(r.complete[1].Statement))
	if err != nil {
		f.t.Errorf("statement: %v", err)
		return ack, nil
	}
	c := &statement.Certificate{Epoch: e}
	for _, part := range slices.Sorted(maps.Keys(r.complete)) {
		c.Attestations = append(c.Attestations, r.complete[part].Attestation)
	}
	for _, part := range slices.Sorted(maps.Keys(r.consents)) {
		c.Consents = append(c.Consents, statement.PartConsent{Part: part, Consent: r.consents[part]})
	}
	if err := c.Verify(r.parent); err != nil {
		f.t.Errorf("certificate: %v", err)
		return ack, nil
	}
	f.Certify(c)
	for part, done := range r.complete {
		f.Shares[fmt.Sprint(p.KeyID, "/", part)] = done.ShareJSON
	}
	if f.Withhold {
		r.over = true
		return ack, nil
	}
	for user := range r.places() {
		f.Mail(user, "", &wire.EpochCertified{KeyID: p.KeyID, Epoch: e.Number, Certificate: c.String()})
	}
	f.endReshare(r, wire.StatusSuccess, "", c)
	return ack, nil
}

// endReshare tells everybody of the end.
func (f *Server) endReshare(r *reshare, status wire.Status, reason string, certificate any) {
	r.over = true
	e := r.parent.Epoch
	m := &wire.ReshareConfirm{
		KeyID: e.KeyID, SessionID: r.ask.SessionID, Epoch: r.number, Status: status, AccountAddr: e.AccountAddr, PublicKey: e.PublicKey, Reason: reason,
	}
	if c, ok := certificate.(*statement.Certificate); ok {
		m.Certificate = c.String()
	}
	f.Mail(r.coordinator, r.requestID, m)
	for user := range r.places() {
		f.Mail(user, "", &wire.SessionEnded{SessionID: r.ask.SessionID, KeyID: e.KeyID, Kind: "reshare", Status: status, Reason: reason})
	}
}

func (f *Server) certificates(user string, p *wire.CertificateGet) (wire.Payload, *wire.Error) {
	for _, c := range f.Lineages[p.KeyID] {
		if c.Number() > p.Epoch {
			f.Mail(user, "", &wire.EpochCertified{KeyID: p.KeyID, Epoch: c.Number(), Certificate: c.String()})
		}
	}
	return &wire.Ack{KeyID: p.KeyID}, nil
}

// first certifies epoch 1 of a key that was generated.
func (f *Server) first(s session.Session) {
	k := statement.Attested{
		SessionID: s.ID, KeyID: s.KeyID, Coordinator: s.Coordinator, Curve: s.Curve, Threshold: s.Threshold, Participants: s.Users(),
		AccountAddr: s.AccountAddr, PublicKey: s.PublicKey,
	}
	if c, err := statement.FirstCertificate(k, s.Attestations()); err == nil { // clients may attest nothing
		f.Certify(c)
	}
}

// epochs sets the epoch of messages about a signing.
func (f *Server) epochs(p wire.Payload) {
	switch p := p.(type) {
	case *wire.SignInvite:
		p.MinEpoch = f.minEpochs[p.SessionID]
		if c := f.head(p.KeyID); c != nil && p.Epoch == 0 {
			p.Epoch = c.Number()
		}
	case *wire.SignParams:
		if c := f.head(p.KeyID); c != nil && p.Epoch == 0 {
			p.Epoch, p.Certificate = c.Number(), c.Hash().String()
		}
	}
}
