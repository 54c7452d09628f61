package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// keygenRules: every party is needed, and all must report the same key. Any failure
// ends the keygen.
var keygenRules = rules{
	request: wire.TypeKeygenRequest, response: wire.TypeKeygenResponse,
	makesKey: true,

	invite: keygenInvite,
	accepted: func(m *machine) {
		if m.Phase == Inviting && m.rules.ready(m) {
			m.rules.attempt(m, nil)
		}
	},
	ready:    func(m *machine) bool { return m.all(Accepted) },
	attempt:  func(m *machine, _ []int) { m.startKeygen() },
	declined: func(m *machine, reason string) { m.end(Rejected, reason, nil) },
	failed: func(m *machine, party int, culprits []int, reason string) {
		if len(culprits) == 0 {
			culprits = []int{party}
		}
		m.end(Failed, reason, culprits)
	},
	hindered:    func(m *machine, reason string) { m.end(Failed, reason, nil) },
	unreachable: func(m *machine, _ Undeliverable, reason string) { m.end(Failed, reason, nil) },
	gone:        func(m *machine, parts []int, reason string) { m.end(Failed, reason, parts) },
	overdue:     func(m *machine, _ []int) { m.end(Failed, "the deadline passed"+m.owing(), m.silent()) },
	own:         keygenEvent,
	settled: func(s Session) bool {
		return !slices.ContainsFunc(s.Parties, func(p Party) bool { return p.Result == "" })
	},

	outcome: func(s Session) wire.Payload {
		return &wire.KeygenConfirm{
			KeyID: s.KeyID, Status: s.Phase.Status(), AccountAddr: s.AccountAddr,
			SessionID: s.ID, PublicKey: s.PublicKey, Reason: s.Reason, Culprits: s.Culprits, Attestations: s.Attestations(),
		}
	},
	grown: wire.MaxAttestationBytes,
	extra: func(Session) (said, record int64) { return 0, 0 },
	fill:  func(*Session) {},
}

// NewKeygen returns the session that makes k for its coordinator, not yet begun. The
// caller has checked the request.
func NewKeygen(k Key, terms Terms) Session {
	s := Session{
		ID: k.Session, Kind: Keygen, KeyID: k.ID, Coordinator: k.Coordinator, Curve: k.Curve, Threshold: k.Threshold,
		Parties: Committee(k.Participants), Fingerprint: k.Fingerprint(), Terms: terms,
	}
	for i := range s.Parties {
		s.Parties[i].Invited = true
	}
	return s
}

// Made returns the session that made k, an active key, with its outcome as far as the
// key's record and the attestations, by part index less one, contain it.
func (k Key) Made(attestations []string) Session {
	s := Session{
		ID: k.Session, Kind: Keygen, Phase: Completed, KeyID: k.ID, Coordinator: k.Coordinator,
		Curve: k.Curve, AccountAddr: k.AccountAddr, PublicKey: k.PublicKey, Parties: Committee(k.Participants),
	}
	for i := range s.Parties {
		s.Parties[i].Attested = attestations[i]
	}
	return s
}

// keygenEvent applies the events of a keygen.
func keygenEvent(m *machine, ev Event) error {
	switch ev := ev.(type) {
	case Generated:
		return m.generated(ev)
	case ShareRefused:
		return m.shareRefused(ev)
	case KeyStored:
		return m.keyStored()
	case KeyLost:
		return m.keyLost()
	}
	return ErrKind
}

func keygenInvite(m *machine, index int) wire.Payload {
	return &wire.KeygenInvite{
		KeyID: m.KeyID, Threshold: m.Threshold, TotalParts: len(m.Parties), PartIndex: index, Participants: m.Users(),
		SessionID: m.ID, Coordinator: m.Coordinator, Curve: string(m.Curve), Deadline: m.Deadline, SignedRequest: m.SignedRequest,
	}
}

// startKeygen sends every party its parameters: all have accepted.
func (m *machine) startKeygen() {
	m.move(Running)
	m.Attempt = 1
	m.Deadline = earlier(m.ExpiresAt, m.now.Add(m.Terms.Run))
	m.Signers = make([]int, len(m.Parties))
	for i := range m.Parties {
		m.Signers[i] = i + 1
	}
	parties := m.wireParties(m.Signers)
	for i, p := range m.Parties {
		m.say(p.User, &wire.KeygenParams{
			KeyID: m.KeyID, Threshold: m.Threshold, TotalParts: len(m.Parties), PartIndex: i + 1,
			OutputFile: fmt.Sprintf("%s.part%d.json", m.KeyID, i+1),
			SessionID:  m.ID, Attempt: m.Attempt, Curve: string(m.Curve), Parties: parties,
		})
	}
}

// generated takes a party's report. Reports must agree; the first difference
// fails the keygen and names both sides.
func (m *machine) generated(ev Generated) error {
	if err := m.member(ev.From, ev.Party); err != nil {
		return err
	}
	addr, key, err := m.reported(ev)
	if err != nil {
		return err
	}
	p := m.party(ev.Party)
	switch {
	case p.Result != "" && p.Result == addr && p.Key == key:
		return nil
	case m.Phase.Final():
		return ErrEnded
	case m.Phase == Inviting:
		return ErrNotYet
	case p.Result != "":
		return ErrReported
	}
	p.Result, p.Key, p.Attested = addr, key, ev.Attestation
	if p.Key != "" && m.PublicKey == "" {
		m.PublicKey = p.Key
	}
	if reason, culprits := m.disagreement(0, "key"); reason != "" {
		m.PublicKey = ""
		m.end(Failed, reason, culprits)
	}
	return nil
}

// reported brings a report to canonical form and checks that its public key, if
// it has one, belongs to its address.
func (m *machine) reported(ev Generated) (addr, key string, err error) {
	addr, err = m.Curve.ParseAddress(ev.AccountAddr)
	if err != nil {
		return "", "", wire.Errorf(wire.CodeBadRequest, "account_addr: %s", err)
	}
	if ev.PublicKey == "" {
		return addr, "", nil
	}
	pub, err := m.Curve.ParseKey(ev.PublicKey)
	if err != nil {
		return "", "", wire.Errorf(wire.CodeBadRequest, "public_key: %s", err)
	}
	if of, err := m.Curve.Address(pub); err != nil || of != addr {
		return "", "", wire.Errorf(wire.CodeBadRequest, "public_key is not the key of account_addr")
	}
	return addr, strings.ToLower(ev.PublicKey), nil
}

// disagreement compares the results of the parties after the first skipped ones. Of a
// keygen only addresses are compared: each public key was checked against its address.
// The side with fewer parties is blamed; of equal sides, both.
func (m *machine) disagreement(skipped int, on string) (reason string, culprits []int) {
	sides := map[string][]int{}
	var order []string
	for i, p := range m.Parties {
		if p.Result == "" || i < skipped {
			continue
		}
		if sides[p.Result] == nil {
			order = append(order, p.Result)
		}
		sides[p.Result] = append(sides[p.Result], i+1)
	}
	if len(order) < 2 {
		return "", nil
	}
	most := 0
	for _, parts := range sides {
		most = max(most, len(parts))
	}
	var told []string
	majorities := 0
	for _, addr := range order {
		told = append(told, fmt.Sprintf("%s reported %s", m.names(sides[addr]), addr))
		if len(sides[addr]) == most {
			majorities++
		} else {
			culprits = append(culprits, sides[addr]...)
		}
	}
	if majorities > 1 {
		culprits = nil
		for _, parts := range sides {
			culprits = append(culprits, parts...)
		}
	}
	slices.Sort(culprits)
	return "the parties disagree on the " + on + ": " + strings.Join(told, ", "), culprits
}

// keyStored completes a keygen whose key record and shares are durable.
func (m *machine) keyStored() error {
	switch {
	case m.Phase == Completed:
		return nil
	case m.Phase.Final():
		return ErrEnded
	case !m.AllReported():
		return ErrNotYet
	}
	m.AccountAddr = m.Parties[0].Result
	m.end(Completed, "", nil)
	return nil
}

// keyLost fails a keygen whose key record is missing or belongs to another keygen: the
// parties' shares can never sign.
func (m *machine) keyLost() error {
	switch {
	case m.Phase.Final():
		return nil
	case !m.AllReported():
		return ErrNotYet
	}
	m.PublicKey = ""
	m.end(Failed, "the key's record was lost", nil)
	return nil
}

// wireParties describes parts to the parties themselves.
func (m *machine) wireParties(parts []int) []wire.Party {
	list := make([]wire.Party, 0, len(parts))
	for _, i := range parts {
		p := m.party(i)
		list = append(list, wire.Party{PartIndex: i, UserID: p.User, Identity: p.Identity})
	}
	return list
}

// shareRefused ends a keygen in which a party's share may not be stored. The cause is
// the cluster's configuration; no party is blamed.
func (m *machine) shareRefused(ev ShareRefused) error {
	if err := m.member(ev.From, ev.Party); err != nil {
		return err
	}
	switch {
	case m.Phase.Final() || m.party(ev.Party).Result != "":
		return nil
	case m.Phase == Inviting:
		return ErrNotYet
	}
	m.PublicKey = ""
	m.end(Failed, fmt.Sprintf("the share of %s is not sealed, and without CONCLAVE_SHARE_KEK the servers store only sealed shares", m.name(ev.Party)), nil)
	return nil
}
