package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// parentHash is the hash of the certificate of epoch 1, of which the sessions here need
// nothing else.
var parentHash = "0x" + strings.Repeat("1f", 32)

// newReshare returns a reshare of theKey from epoch 1 with the number 2, to users of
// whom any threshold can sign.
func newReshare(threshold int, old []string, to int, users ...string) Session {
	k := Key{ID: "vault", Status: KeyActive, Curve: pubkey.Secp256k1, AccountAddr: theKey.Address, PublicKey: theKey.Public, Epoch: 1, Threshold: threshold, Participants: old}
	p := &wire.ReshareRequest{KeyID: k.ID, Threshold: to, TotalParts: len(users), SignedRequest: "signed"}
	for i, u := range users {
		p.Participants = append(p.Participants, wire.Party{PartIndex: i + 1, UserID: u, Identity: sessiontest.Identity(u).Public().String()})
	}
	s, err := NewReshare(k, parentHash, boss, p, terms)
	if err != nil {
		panic(err)
	}
	s.ID, s.Version, s.Next, s.RequestID = "rs-1", 1, 2, "r1"
	return s
}

// answer is a user's acceptance of all its places.
func (s Session) answer(user string) Answered {
	return Answered{From: user, Accept: true, Places: s.Places(user), Identity: sessiontest.Identity(user).Public().String(), Highest: 1}
}

// epoch is the statement of the running attempt; variant chooses its share points.
func (s Session) epoch(variant byte) *statement.Epoch {
	e := &statement.Epoch{
		KeyID: s.KeyID, SessionID: s.ID, Curve: s.Curve, Number: max(s.Epoch, 2), Threshold: s.ToThreshold, AccountAddr: s.AccountAddr,
		PublicKey: s.PublicKey, Origin: statement.Generated, Coordinator: s.Coordinator,
	}
	hash, err := statement.ParseHash(s.Parent)
	if err != nil {
		panic(err)
	}
	e.Parent = &statement.Parent{Number: s.FromEpoch, Hash: hash}
	for i, p := range s.Parties[s.Old:] {
		e.Members = append(e.Members, identity.Member{Index: i + 1, User: p.User, Identity: sessiontest.Identity(p.User).Public()})
		e.Points = append(e.Points, sessiontest.NewSoloKey(10*variant+byte(i)+1).Public)
	}
	return e
}

// reshared is a new party's report.
func (s Session) reshared(part int, variant byte) Reshared {
	e := s.epoch(variant)
	text, err := e.Marshal()
	if err != nil {
		panic(err)
	}
	user := s.Parties[s.Old+part-1].User
	attestation, err := e.Attest(sessiontest.Identity(user))
	if err != nil {
		panic(err)
	}
	return Reshared{
		From: user, Party: part, Attempt: max(s.Attempt, 1), Epoch: max(s.Epoch, 2), AccountAddr: s.AccountAddr, Statement: string(text), Attestation: attestation,
	}
}

// consented is an old party's consent, which no test of this package verifies.
func (s Session) consented(part int) Consented {
	return Consented{From: s.Parties[part-1].User, Party: part, Epoch: max(s.Epoch, 2), Hash: s.epoch(1).Hash().String(), Consent: fmt.Sprint("consent of ", part)}
}

// numberFault checks a step of a reshare: each attempt has a number above all that were
// seen before it, everyone is told of the certificate once, and consents and statements
// do not outlive their attempt.
func numberFault(s, next Session, out []Outgoing) error {
	if s.Old == 0 {
		return nil
	}
	if next.Attempt > s.Attempt {
		if next.Epoch <= s.highest() || next.Epoch != s.Next && next.Epoch != next.Next {
			return fmt.Errorf("attempt %d has number %d, and %d was seen", next.Attempt, next.Epoch, s.highest())
		}
	} else if next.Epoch != s.Epoch {
		return fmt.Errorf("the number changed from %d to %d within an attempt", s.Epoch, next.Epoch)
	}
	if next.consents() > 0 && next.Statement == "" || next.Attempt != s.Attempt && (next.Statement != "" || next.consents() > 0) {
		return errors.New("a statement or consent is of an attempt that is over")
	}
	certified := map[string]int{}
	for _, o := range out {
		if p, ok := o.Payload.(*wire.EpochCertified); ok && p.Epoch == next.Epoch && p.Certificate != "" {
			certified[o.To]++
		}
	}
	for _, user := range s.users() {
		if want := next.Phase == Completed && s.Phase != Completed; want != (certified[user] == 1) {
			return fmt.Errorf("%s is told of the certificate %d times", user, certified[user])
		}
	}
	return nil
}

// Scenes of a reshare from 2 of alice, bob and carol to 2 of alice, bob and dave (places
// 1 to 3 and 4 to 6): inviting (alice has accepted); unnumbered (all but carol have, and
// dave has seen the number 9); running (all but carol have accepted, and alice has
// reported); attested (all have reported, and alice has consented); stored (bob has
// too); completed; rejected (by dave); expired; failed (dave, after alice had reported);
// cancelled (alice had accepted).
const reshareTable = `
                       inviting unnumbered running attested stored completed rejected expired failed cancelled
accept        alice      .        .         .       .       .      .         .        .       .      .
accept        bob        +        .         .       .       .      .         E        E       .      E
accept        carol      +        +         +       +       +      E         E        E       E      E
accept        dave       +        .         .       .       .      .         E        E       .      E
accept        strangers     F        F         F       F       F      F         F        F       F      F
accept-old    bob        +        C         C       C       C      E         E        E       E      E
accept-new    bob        +        C         C       C       C      E         E        E       E      E
accept-none   bob        B        B         B       B       B      B         B        B       B      B
accept-other  bob        B        B         B       B       B      B         B        B       B      B
accept-stranger dave     F        .         .       .       .      .         E        E       .      E
decline       alice      C        C         C       C       C      E         E        E       E      E
decline       bob        +        C         C       C       C      E         E        E       E      E
decline       carol      +        +         +       +       +      E         E        E       E      E
decline       dave       +        C         C       C       C      E         .        E       E      E
decline       strangers     F        F         F       F       F      F         F        F       F      F
accept-sign   all        B        B         B       B       B      B         B        B       B      B
number        server     .        +         .       .       .      .         .        .       .      .
number-seen   server     .        .         .       .       .      .         .        .       .      .
report        alice      C        C         .       .       .      E         E        E       E      E
report        bob        C        C         +       .       .      E         E        E       E      E
report        carol      F        F         F       F       F      F         F        F       F      F
report        dave       C        C         +       .       .      E         E        E       E      E
report-other  alice      C        C         C       C       C      E         E        E       E      E
report-other  bob        C        C         +       C       C      E         E        E       E      E
report-late   bob        C        C         C       C       C      E         E        E       E      E
report-bad    bob        C        C         B       B       B      E         E        E       E      E
report-forged bob        C        C         B       B       B      E         E        E       E      E
consent       alice      C        C         C       .       .      .         E        E       E      E
consent       bob        C        C         C       +       .      .         E        E       E      E
consent       carol      C        C         C       F       F      .         E        E       E      E
consent       dave       F        F         F       F       F      F         F        F       F      F
consent       strangers     F        F         F       F       F      F         F        F       F      F
consent-other bob        C        C         C       B       B      .         E        E       E      E
consent-old   bob        C        C         C       C       C      E         E        E       E      E
fail          alice      C        C         +       +       .      .         .        .       .      .
fail          carol      C        C         .       .       .      .         .        .       .      .
fail          dave       C        C         +       .       .      .         .        .       .      .
blame-nobody  alice      B        B         B       B       B      B         B        B       B      B
cancel        boss       +        +         +       +       C      E         E        E       E      .
cancel        admin      +        +         +       +       C      E         E        E       E      .
cancel        alice      F        F         F       F       F      F         F        F       F      F
cancel        eve        F        F         F       F       F      F         F        F       F      F
key-stored    server     C        C         C       C       +      .         E        E       E      E
key-lost      server     C        +         C       C       +      .         .        .       .      .
moved         server     +        +         +       +       .      .         .        .       .      .
sign          all        B        B         B       B       B      B         B        B       B      B
mailbox-old   server     +        +         +       .       .      .         .        .       .      .
mailbox-new   server     +        +         +       .       .      .         .        .       .      .
tick-early    server     .        .         .       .       .      .         .        .       .      .
tick-offline  server     .        .         +       +       .      .         .        .       .      .
tick-late     server     +        +         +       +       .      .         .        .       .      .
`

func TestStepReshare(t *testing.T) {
	t.Parallel()
	const second = time.Second
	s := newReshare(2, []string{"alice", "bob", "carol"}, 2, "alice", "bob", "dave")
	seen := s.answer("dave")
	seen.Highest = 9
	some := []at{{0, s.answer("alice")}, {0, s.answer("bob")}}
	all := append(some[:2:2], at{second, s.answer("dave")})
	running, _ := play(t, s, all...)
	ran := append(all[:3:3], at{2 * second, running.reshared(1, 1)})
	reported := append(ran[:4:4], at{3 * second, running.reshared(2, 1)}, at{3 * second, running.reshared(3, 1)}, at{4 * second, running.consented(1)})
	stored := append(reported[:7:7], at{5 * second, running.consented(2)})
	refused := s.answer("dave")
	refused.Accept = false
	paths := map[string][]at{
		"inviting": some[:1], "unnumbered": append(some[:2:2], at{second, seen}), "running": ran, "attested": reported, "stored": stored,
		"completed": append(stored[:8:8], at{5 * second, KeyStored{}}), "rejected": append(some[:1:1], at{second, refused}),
		"expired": append(some[:1:1], at{3 * time.Minute, Tick{}}), "failed": append(ran[:4:4], at{5 * second, running.failed(6)}),
		"cancelled": append(some[:1:1], at{second, Cancel{From: boss}}),
	}
	lines := strings.Split(strings.TrimSpace(reshareTable), "\n")
	columns := strings.Fields(lines[0])
	scenes := map[string]scene{}
	for _, column := range columns {
		s, now := play(t, s, paths[column]...)
		phase := strings.NewReplacer("unnumbered", "inviting", "attested", "running", "stored", "running").Replace(column)
		if string(s.Phase) != phase {
			t.Fatalf("scene %s is in phase %s: %s", column, s.Phase, s.Reason)
		}
		scenes[column] = scene{s, now}
	}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for _, sender := range senders(cells[1]) {
			for i, column := range columns {
				s, now := scenes[column].s, scenes[column].now
				ev, now := reshareEvent(s, now, cells[0], sender)
				checkCell(t, fmt.Sprintf("%s: %s by %s", column, cells[0], sender), cells[2+i], s, ev, now)
			}
		}
	}
}

// reshareEvent makes the named event as sender would send it. Others claim part 1.
func reshareEvent(s Session, now time.Time, name, sender string) (Event, time.Time) {
	answer := s.answer(sender)
	old, new := 1, 1
	for i, p := range s.Parties {
		switch {
		case p.User == sender && i < s.Old:
			old = i + 1
		case p.User == sender:
			new = i + 1 - s.Old
		}
	}
	report := s.reshared(new, 1)
	report.From = sender
	consent := s.consented(old)
	consent.From = sender
	switch name {
	case "accept":
		if len(answer.Places) == 0 {
			answer.Places = []int{1}
		}
		return answer, now
	case "accept-old":
		answer.Places = answer.Places[:1]
		return answer, now
	case "accept-new":
		answer.Places = answer.Places[1:]
		return answer, now
	case "accept-none":
		answer.Places = nil
		return answer, now
	case "accept-other":
		answer.Places = []int{3}
		return answer, now
	case "accept-stranger":
		answer.Identity = sessiontest.Identity("eve").Public().String()
		return answer, now
	case "decline":
		answer.Accept, answer.Places = false, nil
		return answer, now
	case "number":
		return Numbered{Number: 10}, now
	case "number-seen":
		return Numbered{Number: 2}, now
	case "report":
		return report, now
	case "report-other":
		other := s.reshared(new, 2)
		other.From = sender
		return other, now
	case "report-late":
		report.Attempt, report.Epoch = 0, 1
		return report, now
	case "report-bad":
		report.Statement = strings.Replace(report.Statement, `"epoch":2`, `"epoch":3`, 1)
		return report, now
	case "report-forged":
		report.Attestation = s.reshared(new%3+1, 1).Attestation
		return report, now
	case "consent":
		return consent, now
	case "consent-other":
		consent.Hash = parentHash
		return consent, now
	case "consent-old":
		consent.Epoch = 1
		return consent, now
	case "moved":
		return Moved{Key: Key{ID: s.KeyID, Status: KeyActive, Epoch: 9}}, now
	case "mailbox-old":
		return Undeliverable{User: "carol"}, now
	case "mailbox-new":
		return Undeliverable{User: "dave"}, now
	case "fail":
		place := old
		if sender == "dave" {
			place = 6
		}
		return PartyFailed{From: sender, Party: place, Reason: "broken"}, now
	}
	return event(scene{s, now}, name, sender)
}

// drawReshareEvent draws an event, most often one that may have an effect.
func drawReshareEvent(t *rapid.T, s Session, place int) Event {
	user := s.Parties[place-1].User
	answer := s.answer(user)
	answer.Highest = rapid.SampledFrom([]int{0, 1, 1, 1, 2, 5}).Draw(t, "highest")
	part := max(place-s.Old, 1)
	old := min(place, s.Old)
	parts := rapid.SliceOfN(rapid.IntRange(1, len(s.Parties)), 0, 3)
	switch rapid.IntRange(0, 16).Draw(t, "event") {
	case 0, 1, 2, 3, 4:
		return answer
	case 5:
		answer.Accept = rapid.Bool().Draw(t, "accepts")
		answer.Places = answer.Places[:rapid.IntRange(0, len(answer.Places)).Draw(t, "places")]
		return answer
	case 6, 7, 8, 9:
		return s.reshared(part, byte(rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, 1, 1, 2}).Draw(t, "variant")))
	case 10, 11, 12:
		return s.consented(old)
	case 13:
		return s.failed(place, parts.Draw(t, "culprits")...)
	case 14:
		return Tick{Offline: parts.Draw(t, "offline")}
	case 15:
		return rapid.SampledFrom([]Event{
			Cancel{From: boss}, Undeliverable{User: "bob"}, Undeliverable{User: "bob", Payer: "alice", Party: 1, Attempt: s.Attempt}, KeyLost{},
			PartyFailed{From: user, Party: place, Moved: true}, PartyFailed{From: user, Party: place, Full: true},
		}).Draw(t, "rare")
	default:
		return rapid.SampledFrom([]Event{KeyStored{}, Numbered{Number: s.highest() + rapid.IntRange(0, 3).Draw(t, "number")}}).Draw(t, "server's")
	}
}

// TestStatementOfAnotherReshare: a new party reports, with a valid attestation, a
// statement of which one field is not that of the attempt.
func TestStatementOfAnotherReshare(t *testing.T) {
	t.Parallel()
	s := newReshare(2, []string{"alice", "bob", "carol"}, 2, "alice", "bob", "dave")
	s, now := play(t, s, at{0, s.answer("alice")}, at{0, s.answer("bob")}, at{time.Second, s.answer("dave")})
	other := sessiontest.NewSoloKey(99)
	for field, change := range map[string]func(e *statement.Epoch){
		"key id":      func(e *statement.Epoch) { e.KeyID = "another" },
		"session id":  func(e *statement.Epoch) { e.SessionID = "another" },
		"coordinator": func(e *statement.Epoch) { e.Coordinator = "eve" },
		"number":      func(e *statement.Epoch) { e.Number++ },
		"no parent":   func(e *statement.Epoch) { e.Parent, e.Number, e.Points = nil, 1, nil },
		"parent":      func(e *statement.Epoch) { e.Parent = &statement.Parent{Number: 1} },
		"threshold":   func(e *statement.Epoch) { e.Threshold = 3 },
		"members":     func(e *statement.Epoch) { e.Members[2].Identity = sessiontest.Identity("eve").Public() },
		"a user":      func(e *statement.Epoch) { e.Members[2].User = "eve" },
		"public key":  func(e *statement.Epoch) { e.PublicKey, e.AccountAddr = other.Public, other.Address },
		"origin":      func(e *statement.Epoch) { e.Origin = statement.Imported },
	} {
		e := s.epoch(1)
		change(e)
		text, err := e.Marshal()
		if err != nil {
			t.Fatalf("%s: %v", field, err)
		}
		report := s.reshared(1, 1)
		report.Statement, report.AccountAddr = string(text), e.AccountAddr
		if report.Attestation, err = e.Attest(sessiontest.Identity("alice")); err != nil {
			t.Fatalf("%s: %v", field, err)
		}
		next, out, err := Step(s, report, now)
		var refused *wire.Error
		if !errors.As(err, &refused) || refused.Code != wire.CodeBadRequest || !strings.HasPrefix(refused.Message, "statement: ") || !next.Same(s) || out != nil {
			t.Errorf("%s: got %v, %d messages", field, err, len(out))
		}
	}
}
