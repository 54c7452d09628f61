package session

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A signing survives the loss of signers. Each acceptor has strikes, a measure of
// suspicion: one for an attempt that it gave up or was silent in, two for one that
// another of its signers blames on it. A new attempt takes an untried quorum of those
// with the fewest strikes, so that a party that fails, hangs or lies is avoided as soon
// as others suffice. Strikes exclude no party: an honest party that was accused falsely
// is tried again, and liars cannot prevent enough honest parties from signing (as long
// as there are fewer quorums than MaxAttempts). A party that left for good or sent an
// invalid signature is excluded.
//
// The outcome names all parties that were blamed or silent; after a success, only those
// that did not take part in it. These are claims, not proof: evidence, if any, stays
// with the parties that have it.
const (
	maxTries  = 4    // of one quorum
	maxSearch = 1000 // quorums looked at one by one
)

// MaxAttempts bounds the attempts of a signing, whatever its parties do.
const MaxAttempts = 16

// Results of a signer, in Party.Result.
const (
	resultVerified = "verified"
	resultInvalid  = "invalid"
)

// signRules: any threshold parties suffice, and a failed attempt is followed by one
// with others.
var signRules = rules{
	request: wire.TypeSignRequest, response: wire.TypeSignResponse,
	opensOnKey: true,

	invite:   signInvite,
	accepted: (*machine).gather,
	declined: func(m *machine, reason string) {
		if len(m.Signers) == 0 && len(m.possible()) < m.Threshold { // the current attempt may still succeed
			m.end(Rejected, reason, nil)
			return
		}
		m.gather()
	},
	ready:    func(*machine) bool { return true },
	attempt:  (*machine).signAttempt,
	failed:   (*machine).signerFailed,
	hindered: func(m *machine, reason string) { m.retry(reason, nil) },
	unreachable: func(m *machine, ev Undeliverable, reason string) {
		m.passOver(m.PartIndex(ev.User), ev.Party, reason)
	},
	gone: func(m *machine, parts []int, reason string) {
		for _, i := range parts {
			m.party(i).Out = true
		}
		m.blame(parts...)
		m.retry(reason, parts)
	},
	overdue: (*machine).attemptOverdue,
	own: func(m *machine, ev Event) error {
		switch ev := ev.(type) {
		case Signed:
			return m.signed(ev)
		case Moved:
			return m.moved(ev)
		}
		return ErrKind
	},
	settled: func(Session) bool { return false },

	outcome: func(s Session) wire.Payload {
		return &wire.SignComplete{
			KeyID: s.KeyID, Status: s.Phase.Status(), Signature: s.Signature, Data: s.Data, AccountAddr: s.AccountAddr,
			SessionID: s.ID, PublicKey: s.PublicKey, Reason: s.Reason, Culprits: s.Culprits,
		}
	},
	quorum: true,
	extra:  func(Session) (said, record int64) { return 0, 0 },
	fill: func(s *Session) {
		s.Data = strings.Repeat(`"`, wire.MaxDataBytes) // each takes two bytes, the most possible
		s.Digest = strings.Repeat("0", 2*wire.MaxDataBytes+2)
	},
}

// NewSigning returns coordinator's signing of p with k, without an id, not yet begun.
// It checks p against the key; the caller has validated p and checked that the
// coordinator may sign with k. Errors are *wire.Error.
func NewSigning(k Key, coordinator string, p *wire.SignRequest, terms Terms) (Session, error) {
	bad := func(format string, args ...any) error {
		return &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf(format, args...), KeyID: p.KeyID}
	}
	if p.AccountAddr != "" {
		if addr, err := k.Curve.ParseAddress(p.AccountAddr); err != nil || addr != k.AccountAddr {
			return Session{}, bad("account_addr is not that of the key")
		}
	}
	digest, hash, err := pubkey.Digest(k.Curve, p.Data, p.Hash)
	if err != nil {
		return Session{}, bad("%s", err)
	}
	s := Session{
		Kind: Sign, KeyID: k.ID, Coordinator: coordinator, Curve: k.Curve, Threshold: k.Threshold, Parties: Committee(k.Participants),
		Data: p.Data, Hash: hash, Digest: pubkey.Encode(digest), AccountAddr: k.AccountAddr, PublicKey: k.PublicKey,
		Epoch: max(k.Epoch, 1), MinEpoch: p.MinEpoch, Named: len(p.Participants) > 0, Parent: k.Certificate,
		SignedRequest: p.SignedRequest, Terms: terms,
	}
	if s.MinEpoch > s.Epoch {
		return Session{}, &wire.Error{
			Code: wire.CodeConflict, Message: fmt.Sprintf("the key is in epoch %d here, and the request is for %d or later", s.Epoch, s.MinEpoch), KeyID: k.ID,
		}
	}
	for _, user := range p.Participants {
		i := k.PartIndex(user)
		if i == 0 {
			return Session{}, bad("participant %s holds no part of the key", user)
		}
		s.Parties[i-1].Invited = true
	}
	for i := range s.Parties {
		s.Parties[i].Invited = s.Parties[i].Invited || len(p.Participants) == 0
	}
	if n := len(s.InvitedUsers()); n < k.Threshold {
		return Session{}, bad("%d participants cannot sign, the key's threshold is %d", n, k.Threshold)
	}
	s.Fingerprint = wire.Fingerprint("sign", append([]string{coordinator, k.ID, p.Data, string(hash)}, s.InvitedUsers()...)...)
	return s, nil
}

func signInvite(m *machine, index int) wire.Payload {
	return &wire.SignInvite{
		KeyID: m.KeyID, Data: m.Data, AccountAddr: m.AccountAddr, PartIndex: index, Participants: m.InvitedUsers(),
		SessionID: m.ID, Coordinator: m.Coordinator, Hash: string(m.Hash), Digest: m.Digest,
		Epoch: m.Epoch, MinEpoch: m.MinEpoch, Deadline: m.Deadline, SignedRequest: m.SignedRequest,
	}
}

// gather begins an attempt if none runs and enough have accepted.
func (m *machine) gather() {
	if len(m.Signers) > 0 || !m.rules.ready(m) {
		return
	}
	if quorum, _ := m.chooseQuorum(); quorum != nil && m.Attempt < MaxAttempts {
		m.rules.attempt(m, quorum)
	}
}

// signAttempt starts the MPC among quorum.
func (m *machine) signAttempt(quorum []int) {
	m.move(Running)
	m.Attempt++
	m.Signers = quorum
	m.Quorums = append(m.Quorums, wire.FormatParts(quorum))
	m.Deadline = earlier(m.ExpiresAt, m.now.Add(m.Terms.Run))
	parties := m.wireParties(quorum)
	for _, i := range quorum {
		p := m.party(i)
		p.Result, p.AbsentSince = "", time.Time{}
		m.say(p.User, &wire.SignParams{
			KeyID: m.KeyID, Data: m.Data, PartIndex: i, Participants: wire.FormatParts(quorum),
			SessionID: m.ID, Attempt: m.Attempt, Hash: string(m.Hash), Digest: m.Digest, Parties: parties,
			Epoch: m.Epoch, Certificate: m.Parent,
		})
	}
}

// signed takes a signature from any party that was asked to sign, in this attempt or an
// earlier one: a valid signature completes the signing, whichever party sends it.
func (m *machine) signed(ev Signed) error {
	if err := m.member(ev.From, ev.Party); err != nil {
		return err
	}
	switch {
	case m.Phase == Inviting:
		return ErrNotYet
	case !m.hasSigned(ev.Party):
		return wire.Errorf(wire.CodeForbidden, "this party was not chosen to sign")
	case m.Phase == Completed:
		return nil // the other signers' results, after the first
	case m.Phase.Final():
		return ErrEnded
	}
	if found := ev.verified(m.Session); found.ok {
		m.party(ev.Party).Result = resultVerified
		m.Signature, m.PublicKey = found.signature, found.key
		m.Culprits = slices.DeleteFunc(m.Culprits, func(i int) bool {
			return m.party(i).Result != resultInvalid && (i == ev.Party || slices.Contains(m.Signers, i))
		})
		m.end(Completed, "", nil)
		return nil
	}
	p := m.party(ev.Party)
	if p.Out && p.Result == resultInvalid {
		return nil
	}
	p.Result, p.Out = resultInvalid, true
	m.blame(ev.Party)
	if len(m.Signers) == 0 || slices.Contains(m.Signers, ev.Party) {
		m.afterInvalid(ev.Party)
	}
	return nil
}

// Invalid reports whether the last message of party index was an invalid signature; its
// sender is told so.
func (s Session) Invalid(index int) bool {
	return s.Kind == Sign && index >= 1 && index <= len(s.Parties) && s.Parties[index-1].Result == resultInvalid
}

// checked is the result of one verification. It includes its input, so that it is not
// used for another.
type checked struct {
	curve                  pubkey.Curve
	address, digest, given string
	signature, key         string
	ok                     bool
}

// Verify returns ev with the result of verifying its signature under the key of s, so
// that Step need not verify it again, and whether it is valid.
func (ev Signed) Verify(s Session) (Signed, bool) {
	found := ev.verified(s)
	ev.checked = &found
	return ev, found.ok
}

// verified returns the result of verifying the signature for s, from Verify if it was
// called.
func (ev Signed) verified(s Session) checked {
	c := ev.checked
	if c != nil && c.curve == s.Curve && c.address == s.AccountAddr && c.digest == s.Digest && c.given == ev.Signature {
		return *c
	}
	return s.check(ev.Signature)
}

// check completes a signature and finds the key that it verifies under.
func (s Session) check(text string) checked {
	c := checked{curve: s.Curve, address: s.AccountAddr, digest: s.Digest, given: text}
	if s.Phase == Completed && text == s.Signature { // usual for the other signers' results
		c.signature, c.key, c.ok = s.Signature, s.PublicKey, true
		return c
	}
	sig, err1 := pubkey.Decode(text)
	digest, err2 := pubkey.Decode(s.Digest)
	if err1 != nil || err2 != nil {
		return c
	}
	whole, pub, err := s.Curve.CompleteFor(s.AccountAddr, digest, sig)
	if err == nil {
		c.signature, c.key, c.ok = pubkey.Encode(whole), pubkey.Encode(pub), true
	}
	return c
}

// afterInvalid continues after an invalid signature: with other acceptors if there are
// enough, else with what the attempt's other signers may still send.
func (m *machine) afterInvalid(party int) {
	reason := m.name(party) + " sent a signature that does not verify"
	if quorum, _ := m.chooseQuorum(); quorum != nil && m.Attempt < MaxAttempts {
		m.rules.attempt(m, quorum)
		return
	}
	if len(m.silent()) == 0 {
		m.Signers = nil
		m.waitOrFail(reason, []int{party})
	}
}

// signerFailed handles a party's own report that it cannot go on.
func (m *machine) signerFailed(party int, blamed []int, reason string) {
	m.strike(party, 1)
	for _, c := range blamed {
		m.strike(c, 2)
	}
	m.blame(blamed...)
	if len(blamed) == 0 {
		blamed = []int{party}
	}
	m.retry(reason, blamed)
}

// passOver continues without party to, whose mailbox has no room: while it has not
// answered it is absent; a signer has left. If its sender, party from unless 0, has
// sent too many round messages, that one is suspected instead.
func (m *machine) passOver(to, from int, reason string) {
	switch {
	case from != 0:
		if slices.Contains(m.Signers, from) {
			m.strike(from, 1)
			m.retry(reason, nil)
		}
	case to == 0:
	case slices.Contains(m.Signers, to):
		m.party(to).NoRoom = true
		m.retry(reason, nil)
	case m.party(to).Response == Unanswered:
		m.party(to).NoRoom = true
	}
}

func (m *machine) strike(party, n int) { m.party(party).Strikes += n }

// retry gives up the running attempt and begins another, waits for more acceptors, or
// fails.
func (m *machine) retry(reason string, culprits []int) {
	m.forgetAttempt()
	if quorum, _ := m.chooseQuorum(); quorum != nil && m.Attempt < MaxAttempts {
		m.rules.attempt(m, quorum)
		return
	}
	m.waitOrFail(reason, culprits)
}

// waitOrFail decides when no quorum is available now: parties that have not answered
// may still complete one.
func (m *machine) waitOrFail(reason string, culprits []int) {
	if m.Attempt < MaxAttempts && m.anyUnanswered() && len(m.possible()) >= m.Threshold {
		m.Deadline = earlier(m.ExpiresAt, m.CreatedAt.Add(m.Terms.Invite))
		if m.now.Before(m.Deadline) {
			return
		}
	}
	m.end(Failed, reason, culprits)
}

// attemptOverdue handles silence: every party that owes a result gets a strike, and
// another quorum is tried.
func (m *machine) attemptOverdue(offline []int) {
	if len(m.Signers) == 0 {
		m.end(Failed, "the deadline passed before others accepted", m.struck())
		return
	}
	silent := m.silent()
	reason := "the deadline passed" + m.owing()
	for _, i := range silent {
		m.strike(i, 1)
		if slices.Contains(offline, i) {
			m.party(i).Out = true
		}
	}
	m.blame(silent...)
	m.retryAfresh(reason, silent)
}

// retryAfresh gives up the running attempt and begins another if a quorum is left that
// has not been tried.
func (m *machine) retryAfresh(reason string, culprits []int) {
	m.forgetAttempt()
	quorum, fresh := m.chooseQuorum()
	if quorum != nil && fresh && m.Attempt < MaxAttempts {
		m.rules.attempt(m, quorum)
		return
	}
	m.waitOrFail(reason, culprits)
}

// moved continues under a later epoch of the key: it asks the new committee, or those of
// it whom the request names. A running attempt ends under its own epoch, unless one of
// its signers has stopped it.
func (m *machine) moved(ev Moved) error {
	k := ev.Key
	if ev.Stopped != 0 {
		if err := m.member(ev.From, ev.Party); err != nil {
			return err
		}
	}
	switch {
	case m.Phase.Final() || k.ID != m.KeyID || k.Status != KeyActive || k.Epoch <= max(m.Epoch, 1):
		return nil
	case len(m.Signers) > 0 && (ev.Stopped != m.Attempt || !slices.Contains(m.Signers, ev.Party)):
		return nil
	}
	// Sessions begun before epochs do not say whether their users were named.
	named := m.Named || slices.ContainsFunc(m.Parties, func(p Party) bool { return !p.Invited })
	parties := Committee(k.Participants)
	for _, user := range m.InvitedUsers() {
		i := k.PartIndex(user)
		if i == 0 && named {
			m.end(Failed, fmt.Sprintf("%s holds no part of the key any more, which is in epoch %d now", user, k.Epoch), nil)
			return nil
		}
		if i > 0 {
			parties[i-1].Invited = true
		}
	}
	if !named {
		for i := range parties {
			parties[i].Invited = true
		}
	}
	if invited := len(m.InvitedUsers()); named && invited < k.Threshold {
		m.end(Failed, fmt.Sprintf("%d participants cannot sign in the key's epoch %d, whose threshold is %d", invited, k.Epoch, k.Threshold), nil)
		return nil
	}
	m.Epoch, m.Parent, m.Threshold, m.Parties = k.Epoch, k.Certificate, k.Threshold, parties
	m.Signers, m.Quorums, m.Culprits = nil, nil, nil
	m.Deadline = earlier(m.ExpiresAt, m.now.Add(m.Terms.Invite))
	m.inviteAll()
	return nil
}

// struck lists the parties under suspicion.
func (m *machine) struck() []int {
	var list []int
	for i, p := range m.Parties {
		if p.Strikes > 0 || p.Out {
			list = append(list, i+1)
		}
	}
	return list
}

// pool is the parties from which quorums are chosen: the committee; in a reshare, the
// old one.
func (m *machine) pool() []Party {
	if m.Old > 0 {
		return m.Parties[:m.Old]
	}
	return m.Parties
}

func (m *machine) anyUnanswered() bool {
	return slices.ContainsFunc(m.pool(), func(p Party) bool { return p.Invited && p.Response == Unanswered })
}

// possible lists the parties of the pool that have accepted or still may.
func (m *machine) possible() []int {
	var list []int
	for i, p := range m.pool() {
		if p.Invited && p.Response != Declined && !p.Out && !(p.NoRoom && p.Response == Accepted) {
			list = append(list, i+1)
		}
	}
	return list
}

// chooseQuorum picks threshold acceptors: an untried quorum if there is one, then the
// least suspected, then the lowest part indexes; nil if all have been tried maxTries
// times. Fresh says that it was untried. It examines every quorum or, if there are more
// than maxSearch, the least suspected parties and every exchange of one of them.
func (m *machine) chooseQuorum() (quorum []int, fresh bool) {
	var pool []int
	for i, p := range m.pool() {
		if p.Response == Accepted && !p.Out && !p.NoRoom {
			pool = append(pool, i+1)
		}
	}
	if len(pool) < m.Threshold {
		return nil, false
	}
	slices.SortStableFunc(pool, func(a, b int) int { return m.party(a).Strikes - m.party(b).Strikes })
	best, bestScore := []int(nil), score{}
	consider := func(candidate []int) {
		candidate = slices.Sorted(slices.Values(candidate))
		if sc := m.score(candidate); best == nil || sc.less(bestScore) {
			best, bestScore = candidate, sc
		}
	}
	if !combinations(pool, m.Threshold, maxSearch, consider) {
		chosen, rest := pool[:m.Threshold], pool[m.Threshold:]
		for i := range chosen {
			for _, other := range rest {
				swapped := slices.Clone(chosen)
				swapped[i] = other
				consider(swapped)
			}
		}
	}
	if bestScore.tried >= maxTries {
		return nil, false
	}
	return best, bestScore.tried == 0
}

// combinations calls f with every choice of k of pool, in ascending order, and reports
// whether there were at most limit; it stops there.
func combinations(pool []int, k, limit int, f func([]int)) bool {
	at := make([]int, k) // places in pool, ascending
	for i := range at {
		at[i] = i
	}
	for ; limit > 0; limit-- {
		choice := make([]int, k)
		for i, p := range at {
			choice[i] = pool[p]
		}
		f(choice)
		i := k - 1
		for i >= 0 && at[i] == len(pool)-k+i {
			i--
		}
		if i < 0 {
			return true
		}
		at[i]++
		for j := i + 1; j < k; j++ {
			at[j] = at[j-1] + 1
		}
	}
	return false
}

type score struct{ tried, strikes int }

func (s score) less(t score) bool {
	if s.tried != t.tried {
		return s.tried < t.tried
	}
	return s.strikes < t.strikes
}

func (m *machine) score(quorum []int) score {
	var sc score
	name := wire.FormatParts(quorum)
	for _, q := range m.Quorums {
		if q == name {
			sc.tried++
		}
	}
	for _, i := range quorum {
		sc.strikes += m.party(i).Strikes
	}
	return sc
}

// hasSigned reports whether party was in any attempt's quorum.
func (m *machine) hasSigned(party int) bool {
	for _, q := range m.Quorums {
		parts, err := wire.ParseParts(q)
		if err == nil && slices.Contains(parts, party) {
			return true
		}
	}
	return false
}
