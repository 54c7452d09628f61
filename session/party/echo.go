package party

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/statement"
)

// A tss-lib broadcast must be the same for all: a party that sends different
// commitments to different parties can learn secrets, or leave them with keys that do
// not match. The relay is not trusted and the sender may cheat. So a party that has all
// broadcasts of a round sends everyone an echo, the hash and the sender's signature of
// each broadcast, and gives nothing to tss-lib until all echoes agree. Any two honest
// parties exchange echoes, so they have the same broadcasts or detect the difference.
//
// Since the echo carries signatures, a difference can be judged at once: either the
// sender has signed both, which proves its fault, or the echo contains a message that
// was never signed, which is the echoing party's fault.
//
// In a reshare the broadcasts go to the new committee, whose members echo them to each
// other. Acknowledgements are not echoed: they have no content.

// echoEntry is the size of a hash and a signature.
const echoEntry = sha256.Size + ed25519.SignatureSize

// copied is an echo's entry about one broadcast of one party.
type copied struct {
	round *round
	from  int
	hash  [sha256.Size]byte
	sig   []byte
}

// echoed lists the broadcasts in an echo by a party, in order: by round type, then by
// part, without the echoing party's own.
func (r *Run) echoed(number, by int) []copied {
	var list []copied
	for i := range r.envelope.rounds {
		rd := &r.envelope.rounds[i]
		if rd.Number != number || !rd.Echoed() {
			continue
		}
		for _, m := range r.run.Parties {
			if m.Index != by && rd.SentBy(r.run.Side(m.Index)) {
				list = append(list, copied{round: rd, from: m.Index})
			}
		}
	}
	return list
}

// decodeEcho reads the content of an echo by a party.
func (r *Run) decodeEcho(rd *round, by int, content []byte) ([]copied, error) {
	list := r.echoed(rd.Number, by)
	if len(content) != len(list)*echoEntry {
		return nil, errors.New("echo does not cover each broadcast once")
	}
	for i := range list {
		content = content[copy(list[i].hash[:], content):]
		list[i].sig = bytes.Clone(content[:ed25519.SignatureSize])
		content = content[ed25519.SignatureSize:]
	}
	return list, nil
}

// sendEcho sends the others an echo of a round's broadcasts.
func (r *Run) sendEcho(rd *round, s *stage) error {
	list := r.echoed(rd.Number, r.self)
	content := make([]byte, 0, len(list)*echoEntry)
	for _, c := range list {
		in := s.broadcast(c.round, c.from)
		content = append(append(content, in.hash[:]...), in.sig...)
	}
	m, err := r.envelope.pack(rd, 0, content)
	if err != nil {
		return &Error{Reason: "send: " + err.Error(), Err: err}
	}
	r.out <- m // has room for every message of a run
	return nil
}

// hasAll reports whether all broadcasts to be echoed have arrived.
func (s *stage) hasAll(list []copied) bool {
	for _, c := range list {
		if s.broadcast(c.round, c.from) == nil {
			return false
		}
	}
	return true
}

// broadcast finds a party's broadcast among the messages of a round.
func (s *stage) broadcast(rd *round, from int) *inbound {
	for i := range s.content {
		if in := &s.content[i]; in.round == rd && in.from == from {
			return in
		}
	}
	return nil
}

// compare compares an echo with the broadcasts that this party received and sent.
func (r *Run) compare(echo *inbound, s *stage) error {
	if r.testingOnlyTrusting {
		return nil
	}
	for _, c := range echo.echo {
		own := c.from == r.self
		ours := r.sent[c.round.Code]
		if !own {
			ours = s.broadcast(c.round, c.from).hash
		}
		if c.hash == ours {
			continue
		}
		signed := r.member(c.from).Identity.Verify(r.envelope.place(c.round, c.from, 0).Message(c.hash), c.sig)
		switch {
		case !signed:
			return &Error{
				Reason:   fmt.Sprintf("%s: part %d vouches for a message that part %d has not signed", c.round.Name, echo.from, c.from),
				Culprits: []int{echo.from},
				Evidence: r.kept(slot{echo.from, echo.round.Code}),
			}
		case own:
			return &Error{
				Reason:   fmt.Sprintf("%s: part %d has got another message than ours, signed with our identity", c.round.Name, echo.from),
				Evidence: r.kept(slot{echo.from, echo.round.Code}),
			}
		}
		evidence := r.kept(slot{c.from, c.round.Code}, slot{echo.from, echo.round.Code})
		return &Error{
			Reason:   fmt.Sprintf("%s: two different messages from one sender, the other to part %d", c.round.Name, echo.from),
			Culprits: []int{c.from},
			Evidence: evidence,
			Proof: r.evidence(c.round, c.from, 0, signedCopy(&evidence[0]),
				statement.SignedCopy{Hash: bytes.Clone(c.hash[:]), Sig: bytes.Clone(c.sig)}),
		}
	}
	return nil
}

// kept returns copies of the first messages in some places, all of them filled.
func (r *Run) kept(places ...slot) []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Message, 0, len(places))
	for _, place := range places {
		m := r.first[place]
		out = append(out, m.clone())
	}
	return out
}

// member returns the party with a part index, which must be in the run.
func (r *Run) member(part int) *identity.Member { return r.run.Member(part) }

func signedCopy(m *Message) statement.SignedCopy {
	hash := sha256.Sum256(m.Body)
	return statement.SignedCopy{Hash: hash[:], Sig: bytes.Clone(m.Sig), Body: bytes.Clone(m.Body)}
}

// proofOf makes evidence of two authentic messages for one place.
func (r *Run) proofOf(a, b *Message) *statement.Evidence {
	return r.evidence(roundByCode(r.envelope.rounds, a.Body[1]), a.From, a.To, signedCopy(a), signedCopy(b))
}

func (r *Run) evidence(rd *round, from, to int, first, second statement.SignedCopy) *statement.Evidence {
	return statement.NewEvidence(r.run, r.envelope.place(rd, from, to), first, second)
}
