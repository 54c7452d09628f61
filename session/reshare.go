package session

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A reshare makes the shares of a key's next epoch. Its parties are those of the old
// committee, then those of the new one, so that a user in both is two parties; the
// number of a party is its place. Threshold parties of the old committee, the quorum,
// and all of the new one take part in an attempt. An attempt that an old party spoils is
// followed by one with another quorum, as in a signing; one that a new party spoils ends
// the reshare. Every attempt has an epoch number of its own, above all that the key and
// its members have seen.
//
// A running attempt has three parts:
//
//  1. The new parties report one statement, the content of the epoch's certificate, each
//     with its attestation.
//  2. Threshold old parties consent to it. All that accepted are asked, not the quorum
//     alone.
//  3. The certificate is stored, and then the reshare is complete.
//
// Until then nothing of the key has changed.

// Errors that a client sees.
var (
	ErrIdentity  = wire.Errorf(wire.CodeForbidden, "the request names another identity for this place: take part with the device that has it")
	ErrPlaces    = wire.Errorf(wire.CodeBadRequest, "places names a place that is not one of yours")
	ErrStatement = wire.Errorf(wire.CodeBadRequest, "the statement is not one of this attempt")
)

// reshareRules: threshold of the old parties and all of the new ones.
var reshareRules = rules{
	request: wire.TypeReshareRequest, response: wire.TypeReshareResponse,
	makesEpoch: true,

	invite:   reshareInvite,
	accepted: (*machine).gather,
	declined: func(m *machine, reason string) {
		if len(m.Signers) == 0 && len(m.possible()) < m.Threshold {
			m.end(Rejected, reason, nil)
			return
		}
		m.gather()
	},
	attempt:  (*machine).reshareAttempt,
	ready:    func(m *machine) bool { return m.newAccepted() },
	failed:   (*machine).reshareFailed,
	hindered: func(m *machine, reason string) { m.retry(reason, nil) },
	unreachable: func(m *machine, ev Undeliverable, reason string) {
		m.reshareUnreachable(ev, reason)
	},
	gone:    (*machine).reshareGone,
	overdue: (*machine).reshareOverdue,
	settled: func(s Session) bool { return s.Statement != "" && s.consents() >= s.Threshold },
	own: func(m *machine, ev Event) error {
		switch ev := ev.(type) {
		case Answered:
			return m.answered(ev)
		case Numbered:
			return m.numbered(ev)
		case Reshared:
			return m.reshared(ev)
		case Consented:
			return m.consented(ev)
		case KeyStored:
			return m.epochStored()
		case KeyLost:
			return m.epochLost()
		case Moved:
			return m.overtaken(ev)
		}
		return ErrKind
	},

	outcome: func(s Session) wire.Payload {
		c := &wire.ReshareConfirm{
			KeyID: s.KeyID, SessionID: s.ID, Epoch: s.Epoch, Status: s.Phase.Status(), AccountAddr: s.AccountAddr,
			PublicKey: s.PublicKey, Reason: s.Reason, Culprits: s.Culprits,
		}
		if s.Phase == Completed {
			c.Certificate = s.Certified()
		}
		return c
	},
	quorum: true,
	grown:  2*wire.MaxAttestationBytes + hashBytes,
	extra:  reshareBytes,
	fill: func(s *Session) {
		s.Old = len(s.Parties)
		s.Parties = append(s.Parties, s.Parties...)
	},
}

// hashBytes is the length of a hash as text.
const hashBytes = 2 + 64

// NewReshare returns coordinator's reshare of k, without an id and a number, not yet
// begun. Parent is the hash of the certificate of k's epoch. It checks p against the
// key; the caller has validated p and checked that the coordinator may request it.
// Errors are *wire.Error.
func NewReshare(k Key, parent, coordinator string, p *wire.ReshareRequest, terms Terms) (Session, error) {
	s := Session{
		Kind: Reshare, KeyID: k.ID, Coordinator: coordinator, Curve: k.Curve, Threshold: k.Threshold, ToThreshold: p.Threshold,
		Old: len(k.Participants), FromEpoch: k.Epoch, Parent: parent, Origin: k.Origin,
		AccountAddr: k.AccountAddr, PublicKey: k.PublicKey, SignedRequest: p.SignedRequest, Terms: terms,
	}
	if s.Origin == "" {
		s.Origin = statement.Generated
	}
	s.Parties = Committee(k.Participants)
	print := []string{coordinator, k.ID, strconv.Itoa(p.Threshold)} // not the epoch: the request may be repeated when it has led to the next
	for _, m := range p.Participants {
		s.Parties = append(s.Parties, Party{User: m.UserID, Identity: m.Identity})
		print = append(print, m.UserID, m.Identity)
	}
	for i := range s.Parties {
		s.Parties[i].Invited = true
	}
	members, err := s.newMembers()
	if err == nil {
		err = identity.CheckMembers(members, len(members))
	}
	if err != nil {
		return Session{}, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("participants: %s", err), KeyID: k.ID}
	}
	s.Fingerprint = wire.Fingerprint("reshare", print...)
	return s, nil
}

// newMembers returns the new committee.
func (s Session) newMembers() ([]identity.Member, error) {
	var list []identity.Member
	for i, p := range s.Parties[s.Old:] {
		id, err := identity.ParsePublic(p.Identity)
		if err != nil {
			return nil, fmt.Errorf("the identity of part %d: %w", i+1, err)
		}
		list = append(list, identity.Member{Index: i + 1, User: p.User, Identity: id})
	}
	return list, nil
}

// Places returns a user's places in a reshare; in other kinds, its part index. Only
// those to which it was invited.
func (s Session) Places(user string) []int {
	var list []int
	for i, p := range s.Parties {
		if p.User == user && p.Invited {
			list = append(list, i+1)
		}
	}
	return list
}

// isNew reports whether a place belongs to the new committee.
func (s Session) isNew(place int) bool { return place > s.Old && s.Old > 0 }

// newAccepted reports whether all of the new committee have accepted.
func (m *machine) newAccepted() bool {
	return !slices.ContainsFunc(m.Parties[m.Old:], func(p Party) bool { return p.Response != Accepted })
}

// committees describes both committees, the old one by its parties at places.
func (m *machine) committees(places []int) (from, to wire.Committee) {
	from = wire.Committee{Epoch: m.FromEpoch, Threshold: m.Threshold, TotalParts: m.Old, Parties: m.wireParties(places)}
	to = wire.Committee{Threshold: m.ToThreshold, TotalParts: len(m.Parties) - m.Old}
	for i, p := range m.Parties[m.Old:] {
		to.Parties = append(to.Parties, wire.Party{PartIndex: i + 1, UserID: p.User, Identity: p.Identity})
	}
	return from, to
}

// oldPlaces returns the places of the old committee that f selects.
func (m *machine) oldPlaces(f func(Party) bool) []int {
	var list []int
	for i, p := range m.Parties[:m.Old] {
		if f(p) {
			list = append(list, i+1)
		}
	}
	return list
}

// reshareInvite invites a user with all its places.
func reshareInvite(m *machine, place int) wire.Payload {
	from, to := m.committees(m.oldPlaces(func(Party) bool { return true }))
	return &wire.ReshareInvite{
		KeyID: m.KeyID, SessionID: m.ID, Epoch: m.Next, Curve: string(m.Curve), AccountAddr: m.AccountAddr, PublicKey: m.PublicKey,
		From: from, To: to, Places: m.Places(m.party(place).User), Deadline: m.Deadline, Coordinator: m.Coordinator,
		Certificate: m.Parent, Origin: m.Origin, SignedRequest: m.SignedRequest,
	}
}

// answered takes a user's answer for all its places. It declines those that it does not
// name. A new party that declines ends the reshare.
func (m *machine) answered(ev Answered) error {
	places := m.Places(ev.From)
	if len(places) == 0 {
		return ErrNotParty
	}
	for _, i := range ev.Places {
		if !slices.Contains(places, i) {
			return ErrPlaces
		}
	}
	answer := func(i int) Response {
		if ev.Accept && slices.Contains(ev.Places, i) {
			return Accepted
		}
		return Declined
	}
	switch {
	case ev.Accept && len(ev.Places) == 0:
		return wire.Errorf(wire.CodeBadRequest, "places is missing: an acceptance names the places that it is for")
	case !slices.ContainsFunc(places, func(i int) bool { return m.party(i).Response != answer(i) }):
		return nil
	case m.Phase.Final():
		return ErrEnded
	case slices.ContainsFunc(places, func(i int) bool { return m.party(i).Response != Unanswered }):
		return ErrAnswered
	}
	for _, i := range places {
		if m.isNew(i) && answer(i) == Accepted && ev.Identity != m.party(i).Identity {
			return ErrIdentity
		}
	}
	var declined []int
	refused := false // by a new party
	for _, i := range places {
		p := m.party(i)
		p.Response, p.NoRoom = answer(i), false
		switch {
		case p.Response == Declined:
			declined, refused = append(declined, i), refused || m.isNew(i)
		case !m.isNew(i):
			p.Identity = ev.Identity
		}
		p.Highest = max(p.Highest, ev.Highest)
	}
	reason := m.names(declined) + " declined"
	if ev.Reason != "" {
		reason += ": " + ev.Reason
	}
	switch {
	case refused:
		m.end(Rejected, reason, nil)
	case m.attested():
		if !m.AllReported() {
			m.askConsent(ev.From)
		}
	case len(declined) > 0:
		m.rules.declined(m, reason)
	default:
		m.rules.accepted(m)
	}
	return nil
}

// highest is the greatest epoch number that is known to have been used.
func (s Session) highest() int {
	most := max(s.Epoch, s.FromEpoch)
	for _, p := range s.Parties {
		most = max(most, p.Highest)
	}
	return most
}

// WantsNumber reports whether a reshare could begin an attempt if it had a number above
// another one, which it returns. The caller takes it from the store and gives it to the
// session with Numbered.
func (s Session) WantsNumber() (above int, wants bool) {
	r := s.Kind.rules()
	if !r.makesEpoch || s.Phase.Final() || len(s.Signers) > 0 || s.Attempt >= MaxAttempts || s.Next > s.highest() {
		return 0, false
	}
	m := machine{Session: s, rules: r}
	if !m.newAccepted() {
		return 0, false
	}
	quorum, _ := m.chooseQuorum()
	return s.highest(), quorum != nil
}

// numbered takes a number for the next attempt.
func (m *machine) numbered(ev Numbered) error {
	if m.Phase.Final() || ev.Number <= max(m.Next, m.highest()) {
		return nil
	}
	if _, wants := m.WantsNumber(); !wants {
		return nil // it is burned
	}
	m.Next = ev.Number
	m.gather()
	return nil
}

// reshareAttempt begins an attempt of an old quorum with all of the new committee. If
// its number has been seen by a member it waits for another: see WantsNumber.
func (m *machine) reshareAttempt(quorum []int) {
	if m.Next <= m.highest() {
		if m.Phase == Running { // after a failed attempt, whose deadline may have passed
			m.Deadline = earlier(m.ExpiresAt, m.now.Add(m.Terms.Run))
		}
		return
	}
	m.move(Running)
	m.Attempt++
	m.Epoch = m.Next
	m.Quorums = append(m.Quorums, wire.FormatParts(quorum))
	m.Deadline = earlier(m.ExpiresAt, m.now.Add(m.Terms.Run))
	m.Signers = slices.Clone(quorum)
	for i := m.Old; i < len(m.Parties); i++ {
		m.Signers = append(m.Signers, i+1)
	}
	from, to := m.committees(quorum)
	for i := range m.Parties {
		m.Parties[i].AbsentSince = time.Time{}
	}
	m.toUsers(m.Signers, func(places []int) wire.Payload {
		return &wire.ReshareParams{
			KeyID: m.KeyID, SessionID: m.ID, Attempt: m.Attempt, Epoch: m.Epoch, From: from, To: to, Places: places, Certificate: m.Parent,
		}
	})
}

// toUsers sends each user at one of places one message, made for those of its places.
func (m *machine) toUsers(places []int, payload func(own []int) wire.Payload) {
	for _, i := range places {
		user := m.party(i).User
		own := slices.DeleteFunc(slices.Clone(places), func(j int) bool { return m.party(j).User != user })
		if own[0] == i {
			m.say(user, payload(own))
		}
	}
}

// forgetAttempt removes what belongs to the attempt that is over. A signing keeps its
// parties' results.
func (m *machine) forgetAttempt() {
	m.Signers = nil
	if m.Old > 0 {
		m.forgetReports()
	}
}

// forgetReports removes what the parties of a reshare have reported.
func (m *machine) forgetReports() {
	m.Statement = ""
	for i := range m.Parties {
		p := &m.Parties[i]
		p.Result, p.Attested, p.Consent = "", "", ""
	}
}

// reshared takes a new party's report. Its statement must be of this attempt, and all
// must report the same one.
func (m *machine) reshared(ev Reshared) error {
	place := m.Old + ev.Party
	if ev.Party < 1 {
		place = 0
	}
	if err := m.member(ev.From, place); err != nil {
		return err
	}
	p := m.party(place)
	switch {
	case m.Phase.Final():
		return ErrEnded
	case m.Phase == Inviting, ev.Attempt > m.Attempt:
		return ErrNotYet
	case ev.Attempt < m.Attempt || len(m.Signers) == 0 || ev.Epoch != m.Epoch:
		return wire.Errorf(wire.CodeConflict, "the attempt is over")
	}
	hash, err := m.checkStatement(ev)
	switch {
	case err != nil:
		return err
	case p.Result == hash:
		return nil
	case p.Result != "":
		return ErrReported
	}
	p.Result, p.Attested = hash, ev.Attestation
	if reason, culprits := m.disagreement(m.Old, "epoch"); reason != "" {
		m.end(Failed, reason, culprits)
		return nil
	}
	m.Statement = ev.Statement
	if m.attested() {
		m.Deadline = earlier(m.ExpiresAt, m.now.Add(m.Terms.Run))
		m.askConsent("")
	}
	return nil
}

// checkStatement checks a reported statement against the session and returns its hash.
func (m *machine) checkStatement(ev Reshared) (hash string, err error) {
	bad := func(what string) error {
		return &wire.Error{Code: wire.CodeBadRequest, Message: "statement: " + what}
	}
	e, err := statement.ParseEpoch([]byte(ev.Statement))
	if err != nil {
		return "", bad(err.Error())
	}
	members, err := m.newMembers()
	if err != nil {
		return "", bad(err.Error())
	}
	switch {
	case e.KeyID != m.KeyID || e.SessionID != m.ID || e.Coordinator != m.Coordinator:
		return "", bad("it is of another key, session or coordinator")
	case e.Number != m.Epoch:
		return "", bad(fmt.Sprintf("it is of epoch %d, and this attempt makes %d", e.Number, m.Epoch))
	case e.Parent == nil || e.Parent.Number != m.FromEpoch || e.Parent.Hash.String() != m.Parent:
		return "", bad("it does not follow the key's certificate")
	case e.Threshold != m.ToThreshold || !slices.Equal(e.Members, members):
		return "", bad("it names another committee than the request")
	case e.Curve != m.Curve || e.AccountAddr != m.AccountAddr || m.PublicKey != "" && e.PublicKey != m.PublicKey || e.Origin != m.Origin:
		return "", bad("it is of another public key, account or origin")
	case ev.AccountAddr != e.AccountAddr:
		return "", wire.Errorf(wire.CodeBadRequest, "account_addr is not that of the statement")
	case len(e.Points) == 0:
		return "", bad("it has no share points")
	}
	if err := e.VerifyAttestation(ev.Party, ev.Attestation); err != nil {
		return "", wire.Errorf(wire.CodeBadRequest, "attestation: %s", err)
	}
	return e.Hash().String(), nil
}

// attested reports whether all new parties have reported, so that consents are asked
// for.
func (s Session) attested() bool {
	return s.Phase == Running && len(s.Signers) > 0 &&
		!slices.ContainsFunc(s.Parties[s.Old:], func(p Party) bool { return p.Result == "" })
}

// askConsent asks the old parties that have accepted for their consent, or one of them.
func (m *machine) askConsent(user string) {
	attestations := make([]string, len(m.Parties)-m.Old)
	for i, p := range m.Parties[m.Old:] {
		attestations[i] = p.Attested
	}
	places := m.oldPlaces(func(p Party) bool { return p.Response == Accepted && (user == "" || p.User == user) })
	m.toUsers(places, func([]int) wire.Payload {
		return &wire.ReshareAttested{
			KeyID: m.KeyID, SessionID: m.ID, Attempt: m.Attempt, Epoch: m.Epoch, Statement: m.Statement, Attestations: attestations,
		}
	})
}

// consents is how many old parties have consented.
func (s Session) consents() (n int) {
	for _, p := range s.Parties[:s.Old] {
		if p.Consent != "" {
			n++
		}
	}
	return n
}

// consented takes an old party's consent, which the caller has verified. When there are
// enough, more of them change nothing.
func (m *machine) consented(ev Consented) error {
	if ev.Party > m.Old {
		return ErrNotParty
	}
	if err := m.member(ev.From, ev.Party); err != nil {
		return err
	}
	p := m.party(ev.Party)
	switch {
	case m.Phase == Completed && ev.Epoch == m.Epoch:
		return nil
	case m.Phase.Final():
		return ErrEnded
	case ev.Epoch > m.Epoch || ev.Epoch == m.Epoch && !m.attested():
		return ErrNotYet
	case ev.Epoch < m.Epoch:
		return wire.Errorf(wire.CodeConflict, "the number %d was given up", ev.Epoch)
	case p.Response != Accepted:
		return wire.Errorf(wire.CodeForbidden, "this party has not accepted with its old place")
	case ev.Hash != m.Parties[m.Old].Result:
		return ErrStatement
	case p.Consent != "" || m.AllReported():
		return nil
	}
	p.Consent, p.AbsentSince = ev.Consent, time.Time{}
	return nil
}

// epochStored completes a reshare whose certificate is stored.
func (m *machine) epochStored() error {
	switch {
	case m.Phase == Completed:
		return nil
	case m.Phase.Final():
		return ErrEnded
	case !m.AllReported():
		return ErrNotYet
	}
	m.Culprits = slices.DeleteFunc(m.Culprits, func(i int) bool { return slices.Contains(m.Signers, i) })
	text := m.Certified()
	for _, user := range m.everyone() {
		m.say(user, &wire.EpochCertified{KeyID: m.KeyID, Epoch: m.Epoch, Certificate: text})
	}
	m.end(Completed, "", nil)
	return nil
}

// epochLost ends a reshare that its key's record does not name as the open one: it gets
// no number, and its certificate has no place there.
func (m *machine) epochLost() error {
	_, wants := m.WantsNumber()
	switch {
	case m.Phase.Final():
		return nil
	case !wants && !m.AllReported():
		return ErrNotYet
	}
	m.end(Failed, "the key's record was lost, or is another's", nil)
	return nil
}

// overtaken ends a reshare whose key is in another epoch than it began with.
func (m *machine) overtaken(ev Moved) error {
	k := ev.Key
	if m.Phase.Final() || m.AllReported() || k.ID != m.KeyID || k.Status != KeyActive || k.Epoch <= m.FromEpoch {
		return nil
	}
	m.end(Failed, fmt.Sprintf("the key is in epoch %d now; request the reshare again", k.Epoch), nil)
	return nil
}

// Certificate returns the certificate of the epoch that a reshare has made, not
// verified; nil before all have reported and enough have consented.
func (s Session) Certificate() *statement.Certificate {
	if !s.Kind.MakesEpoch() || s.Phase != Completed && !s.AllReported() {
		return nil
	}
	e, err := statement.ParseEpoch([]byte(s.Statement))
	if err != nil {
		return nil
	}
	c := &statement.Certificate{Epoch: e}
	for _, p := range s.Parties[s.Old:] {
		c.Attestations = append(c.Attestations, p.Attested)
	}
	for i, p := range s.Parties[:s.Old] {
		if p.Consent != "" {
			c.Consents = append(c.Consents, statement.PartConsent{Part: i + 1, Consent: p.Consent})
		}
	}
	return c
}

// Certified returns the text of Certificate, empty without one.
func (s Session) Certified() string {
	if c := s.Certificate(); c != nil {
		return c.String()
	}
	return ""
}

// reshareFailed handles a party's report that it cannot go on. No other can take the
// place of a new party. In the third part of an attempt, a party that refuses only
// withholds its consent.
func (m *machine) reshareFailed(party int, blamed []int, reason string) {
	if m.attested() {
		m.withoutConsent(party, reason)
		return
	}
	old := slices.DeleteFunc(slices.Clone(blamed), m.isNew)
	switch {
	case m.isNew(party) && len(blamed) == 0:
		m.end(Failed, reason, []int{party})
		return
	case m.isNew(party) && len(old) == 0:
		m.end(Failed, reason, blamed)
		return
	}
	m.strike(party, 1)
	for _, c := range blamed {
		m.strike(c, 2)
	}
	m.blame(blamed...)
	switch {
	case len(blamed) == 0:
		m.retry(reason, []int{party})
	case len(old) == 0:
		m.retryAfresh(reason, blamed) // if another quorum blames the same, it is the fault of a new party
	default:
		m.retry(reason, blamed)
	}
}

// withoutConsent notes that a party will not consent, and gives the attempt up if too
// few are left.
func (m *machine) withoutConsent(party int, reason string) {
	if m.isNew(party) {
		return // its attestation stands
	}
	m.strike(party, 1)
	m.party(party).Result = refusedConsent
	left := m.oldPlaces(func(p Party) bool { return p.Response == Accepted && p.Result != refusedConsent })
	waiting := m.oldPlaces(func(p Party) bool { return p.Response == Unanswered && !p.NoRoom })
	if len(left)+len(waiting) < m.Threshold {
		m.retry(reason, []int{party})
	}
}

// refusedConsent is the Result of an old party that will not consent in this attempt.
const refusedConsent = "refused"

// reshareUnreachable handles a mailbox without room: an old party is passed over, a new
// one ends the reshare.
func (m *machine) reshareUnreachable(ev Undeliverable, reason string) {
	places := m.Places(ev.User)
	if slices.ContainsFunc(append(places, ev.Party), m.isNew) {
		if !m.attested() {
			m.end(Failed, reason, nil)
		}
		return
	}
	if len(places) > 0 && !m.attested() {
		m.passOver(places[0], ev.Party, reason)
	}
}

// reshareGone handles parties that left. Those that are asked for consent may come back
// until the deadline.
func (m *machine) reshareGone(parts []int, reason string) {
	if m.attested() {
		return
	}
	if lost := slices.DeleteFunc(slices.Clone(parts), func(i int) bool { return !m.isNew(i) }); len(lost) > 0 {
		m.end(Failed, reason, lost)
		return
	}
	for _, i := range parts {
		m.party(i).Out = true
	}
	m.blame(parts...)
	m.retry(reason, parts)
}

// reshareOverdue handles a deadline that passed. Silence in the first part of an attempt
// is the fault of an old party, or of a new one: another quorum is tried, and then the
// new parties without a report are named if others have reported.
func (m *machine) reshareOverdue(offline []int) {
	if len(m.Signers) == 0 {
		m.end(Failed, "the deadline passed before others accepted", m.struck())
		return
	}
	if m.attested() {
		silent := m.oldPlaces(func(p Party) bool { return p.Response == Accepted && p.Consent == "" })
		for _, i := range silent {
			m.strike(i, 1)
		}
		m.retry("the deadline passed without the consent of "+m.names(silent), silent)
		return
	}
	silent := slices.DeleteFunc(m.silent(), func(i int) bool { return !m.isNew(i) })
	reason := "the deadline passed without a report from " + m.names(silent)
	if len(silent) == len(m.Parties)-m.Old {
		silent = nil // the cause is with the others as well
	}
	quorum := slices.DeleteFunc(slices.Clone(m.Signers), m.isNew)
	for _, i := range quorum {
		m.strike(i, 1)
		if slices.Contains(offline, i) {
			m.party(i).Out = true
			m.blame(i)
		}
	}
	m.retryAfresh(reason, silent)
}

// reshareBytes bounds what a reshare sends besides the parameters that every kind has,
// and what its record has besides its parties' own.
func reshareBytes(s Session) (said, record int64) {
	n, old := len(s.Parties)-s.Old, s.Old
	member := int64(wire.MaxIdentityBytes + wire.MaxIDBytes + 64)
	both := int64(n+old) * member
	statement, certificate := int64(wire.StatementLimit(n)), int64(wire.CertificateLimit(n, old))
	users := int64(len(s.users()))
	// Invitations in the outbox and in mailboxes, parameters, requests for consent, and
	// the certificate to everyone and to the coordinator.
	said = users*2*both + users*both + int64(old)*(statement+int64(n)*wire.MaxAttestationBytes) + 2*(users+1)*certificate
	return said, int64(n)*member + statement
}

// NewShares is the most bytes that the shares of a reshare's new epoch may take.
func (s Session) NewShares() int64 {
	n := len(s.Parties) - s.Old
	return int64(n * wire.ShareLimit(n))
}

// EpochBytes bounds what a reshare adds to its key's permanent size, without shares.
func (s Session) EpochBytes() int64 {
	n := len(s.Parties) - s.Old
	return Key{ID: s.KeyID, Participants: s.Users()[s.Old:]}.KeyBytes(0) + allocated(wire.CertificateLimit(n, s.Old), wire.CertificateLimit(s.Old, 0))
}

// users returns the invited users, each once.
func (s Session) users() []string {
	var list []string
	for i, p := range s.Parties {
		if p.Invited && s.PartIndex(p.User) == i+1 {
			list = append(list, p.User)
		}
	}
	return list
}

// describePlace names a party's place for people.
func (s Session) describePlace(place int) string {
	if s.isNew(place) {
		return "new part " + strconv.Itoa(place-s.Old)
	}
	return "part " + strconv.Itoa(place)
}

// wantsNumber is WantsNumber without the number.
func wantsNumber(s Session) bool {
	_, wants := s.WantsNumber()
	return wants
}
