package party

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/statement"
)

// Message is one round message in its wire form: addressed, signed, and sealed if it is
// for one party. A relay needs only From and To.
type Message struct {
	// From and To are part indexes, in a reshare places ([statement.Run]); To is 0 for
	// all other parties of the run.
	From, To int
	// Body is the format's version, the round's code, and the content: tss-lib's
	// protobuf encoding, for point-to-point rounds inside HPKE (the encapsulated key,
	// then the ciphertext); or, in an echo, hashes and signatures of the round's
	// broadcasts.
	Body []byte
	// Sig is the sender's Ed25519 signature over the run's binding, the round, From, To
	// and the SHA-256 of Body: others can verify it with the hash alone.
	Sig []byte
}

// MaxBodyBytes bounds a message's Body; longer ones are neither sent nor accepted.
const MaxBodyBytes = bodyHeader + tss.MaxContent + sealOverhead

const (
	bodyVersion  = 1
	bodyHeader   = 2 // version and round code
	sealOverhead = identity.SealOverhead
)

// envelope writes and reads a run's messages; it holds everything they are bound to.
type envelope struct {
	context  [sha256.Size]byte
	run      *statement.Run
	rounds   []round
	self     int
	identity *identity.Identity
	peers    map[int]*peer // every other party of the run
}

type peer struct {
	identity identity.Public
	seal     *identity.Sealer
}

func newEnvelope(run *statement.Run, self int, own *identity.Identity) (*envelope, error) {
	e := &envelope{
		context:  run.Context(),
		run:      run,
		rounds:   roundsAmong(run),
		self:     self,
		identity: own,
		peers:    make(map[int]*peer, len(run.Parties)-1),
	}
	for _, m := range run.Parties {
		if m.Index == self {
			continue
		}
		seal, err := m.Identity.Sealer()
		if err != nil {
			return nil, fmt.Errorf("sealing key of part %d: %w", m.Index, err)
		}
		e.peers[m.Index] = &peer{identity: m.Identity, seal: seal}
	}
	return e, nil
}

// senders returns how many other parties send a message of a round.
func (e *envelope) senders(rd *round) int {
	n := 0
	for part := range e.peers {
		if rd.SentBy(e.run.Side(part)) {
			n++
		}
	}
	return n
}

// ours reports whether a message of a round is for the own party.
func (e *envelope) ours(rd *round) bool { return rd.SentTo(e.run.Side(e.self)) }

// place returns a message's place in the run.
func (e *envelope) place(rd *round, from, to int) statement.Place {
	return statement.Place{Context: e.context, Round: rd.Name, From: from, To: to}
}

// signed returns the content of a message's signature, info its seal's context.
func (e *envelope) signed(rd *round, m *Message) []byte {
	return e.place(rd, m.From, m.To).Message(sha256.Sum256(m.Body))
}

func (e *envelope) info(rd *round, m *Message) []byte { return e.place(rd, m.From, m.To).Sealed() }

// pack turns the content of one of the own round messages into a message to part to, or
// to everyone if to is 0.
func (e *envelope) pack(rd *round, to int, content []byte) (Message, error) {
	m := Message{From: e.self, To: to}
	if len(content) > rd.Max {
		return m, fmt.Errorf("%s: %d bytes are more than a message may hold", rd.Name, len(content))
	}
	m.Body = append(m.Body, bodyVersion, rd.Code)
	if rd.P2P {
		p := e.peers[to]
		if p == nil {
			return m, fmt.Errorf("%s: part %d is not a recipient", rd.Name, to)
		}
		sealed, err := p.seal.Seal(e.info(rd, &m), content)
		if err != nil {
			return m, fmt.Errorf("%s: seal to part %d: %w", rd.Name, to, err)
		}
		content = sealed
	}
	m.Body = append(m.Body, content...)
	m.Sig = e.identity.Sign(e.signed(rd, &m))
	return m, nil
}

// authenticate finds the round of a message from outside and checks that its alleged
// sender signed it, for this run and this party. It does not read the content; a
// refusal names no culprit.
func (e *envelope) authenticate(m *Message) (*round, error) {
	p := e.peers[m.From]
	if p == nil || len(m.Body) < bodyHeader || len(m.Body) > MaxBodyBytes || m.Body[0] != bodyVersion {
		return nil, ErrNotAuthentic
	}
	rd := roundByCode(e.rounds, m.Body[1])
	if rd == nil || !rd.SentBy(e.run.Side(m.From)) {
		return nil, ErrNotAuthentic
	}
	to := 0
	if rd.P2P {
		if to = e.self; !e.ours(rd) {
			return nil, ErrNotAuthentic
		}
	}
	if m.To != to || len(m.Sig) != ed25519.SignatureSize || !p.identity.Verify(e.signed(rd, m), m.Sig) {
		return nil, ErrNotAuthentic
	}
	return rd, nil
}

// open returns the content of an authenticated message. Its errors are the sender's
// fault.
func (e *envelope) open(rd *round, m *Message) ([]byte, error) {
	content := m.Body[bodyHeader:]
	if rd.P2P {
		if len(content) > rd.Max+sealOverhead {
			return nil, errors.New("body is too large")
		}
		opened, err := e.identity.OpenSealed(e.info(rd, m), content)
		if err != nil {
			return nil, errors.New("body is not sealed to its recipient")
		}
		content = opened
	}
	if len(content) > rd.Max {
		return nil, errors.New("content is too large")
	}
	return content, nil
}

func roundByCode(rounds []round, code byte) *round {
	for i := range rounds {
		if rounds[i].Code == code {
			return &rounds[i]
		}
	}
	return nil
}

// encode finds the round of one of the own messages and encodes its content.
func encode(rounds []round, msg tss.Message) (*round, []byte, error) {
	parsed, ok := msg.(tss.ParsedMessage)
	if !ok {
		return nil, nil, fmt.Errorf("tss-lib sent a %T", msg)
	}
	for i := range rounds {
		rd := &rounds[i]
		if rd.Echo() || rd.MessageType() != msg.Type() {
			continue
		}
		if rd.P2P == msg.IsBroadcast() || rd.P2P && len(msg.GetTo()) != 1 {
			return nil, nil, fmt.Errorf("tss-lib addresses %s differently", rd.Name)
		}
		content, err := tss.Encode(parsed)
		return rd, content, err
	}
	return nil, nil, fmt.Errorf("tss-lib sent an unknown %s", msg.Type())
}

// same reports whether two messages for one place are equal, ignoring the signature: a
// signer can make many for the same bytes.
func (m *Message) same(other *Message) bool { return bytes.Equal(m.Body, other.Body) }

func (m *Message) clone() Message {
	return Message{From: m.From, To: m.To, Body: bytes.Clone(m.Body), Sig: bytes.Clone(m.Sig)}
}
