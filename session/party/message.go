package party

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/proto"
)

// Message is one round message as it travels: addressed, signed, and sealed if
// it is for one party. Whoever relays it needs only From and To.
type Message struct {
	// From and To are part indexes; To is 0 for all other parties of the run.
	From, To int
	// Body is the format's version, the round's code, and the content: tss-lib's
	// protobuf encoding, for point-to-point rounds within HPKE (the encapsulated
	// key, then the ciphertext); or, in an echo, hashes and signatures of the
	// round's broadcasts.
	Body []byte
	// Sig is the sender's Ed25519 signature over the run's binding, the round,
	// From, To and the SHA-256 of Body: with the hash alone, others can check
	// what somebody signed.
	Sig []byte
}

// MaxBodyBytes bounds a message's Body; nothing longer is sent or accepted.
const MaxBodyBytes = bodyHeader + maxProofs + sealOverhead

const (
	bodyVersion  = 1
	bodyHeader   = 2         // version and round code
	sealOverhead = 1120 + 16 // X-Wing encapsulation and Poly1305 tag
)

// envelope writes and reads a run's messages; it holds all they are bound to.
type envelope struct {
	context  [32]byte
	rounds   []round
	self     int
	identity *Identity
	peers    map[int]*peer // every other party of the run
}

type peer struct {
	sign ed25519.PublicKey
	seal hpke.PublicKey
}

func newEnvelope(k kind, b *Binding, identity *Identity, digest, publicKey []byte) (*envelope, error) {
	e := &envelope{
		context:  b.context(k, digest, publicKey),
		rounds:   roundsAmong(k, b.Curve, len(b.Parties)),
		self:     b.Self,
		identity: identity,
		peers:    make(map[int]*peer, len(b.Parties)-1),
	}
	for _, m := range b.Parties {
		if m.Index == b.Self {
			continue
		}
		seal, err := m.Identity.sealKey()
		if err != nil {
			return nil, fmt.Errorf("sealing key of part %d: %w", m.Index, err)
		}
		e.peers[m.Index] = &peer{sign: m.Identity.sign[:], seal: seal}
	}
	return e, nil
}

// signed is what a message's signature covers, info what its seal is bound to.
func (e *envelope) signed(rd *round, m *Message) []byte {
	return statement(e.context, rd.name, m.From, m.To, sha256.Sum256(m.Body))
}

func (e *envelope) info(rd *round, m *Message) []byte {
	return place("conclave/party/sealed/v1", e.context, rd.name, m.From, m.To).buf
}

// statement is what the sender of a message signs. It stands for the message
// itself: who has signed two different ones for one place has equivocated.
func statement(context [32]byte, round string, from, to int, hash [sha256.Size]byte) []byte {
	t := place("conclave/party/message/v1", context, round, from, to)
	t.bytes(hash[:])
	return t.buf
}

// place encodes where in which run a message belongs.
func place(purpose string, context [32]byte, round string, from, to int) *transcript {
	t := &transcript{buf: make([]byte, 0, 192)}
	t.text(purpose)
	t.bytes(context[:])
	t.text(round)
	t.number(from)
	t.number(to)
	return t
}

// pack turns the content of one of our round messages into a message to part
// to, or to everyone if to is 0.
func (e *envelope) pack(rd *round, to int, content []byte) (Message, error) {
	m := Message{From: e.self, To: to}
	if len(content) > rd.max {
		return m, fmt.Errorf("%s: %d bytes are more than a message may hold", rd.name, len(content))
	}
	m.Body = append(m.Body, bodyVersion, rd.code)
	if rd.p2p {
		p := e.peers[to]
		if p == nil {
			return m, fmt.Errorf("%s: part %d is nobody to seal to", rd.name, to)
		}
		sealed, err := hpke.Seal(p.seal, sealKDF(), sealAEAD(), e.info(rd, &m), content)
		if err != nil {
			return m, fmt.Errorf("%s: seal to part %d: %w", rd.name, to, err)
		}
		content = sealed
	}
	m.Body = append(m.Body, content...)
	m.Sig = ed25519.Sign(e.identity.keys().sign, e.signed(rd, &m))
	return m, nil
}

// authenticate finds the round of a message that came from outside and checks
// that the party it names as sender has signed it, for this run and for us. It
// looks at nothing that is inside; what it refuses blames nobody.
func (e *envelope) authenticate(m *Message) (*round, error) {
	p := e.peers[m.From]
	if p == nil || len(m.Body) < bodyHeader || len(m.Body) > MaxBodyBytes || m.Body[0] != bodyVersion {
		return nil, ErrNotAuthentic
	}
	rd := roundByCode(e.rounds, m.Body[1])
	if rd == nil {
		return nil, ErrNotAuthentic
	}
	to := 0
	if rd.p2p {
		to = e.self
	}
	if m.To != to || len(m.Sig) != ed25519.SignatureSize || !ed25519.Verify(p.sign, e.signed(rd, m), m.Sig) {
		return nil, ErrNotAuthentic
	}
	return rd, nil
}

// open returns the content of an authenticated message. Its errors are the
// sender's doing.
func (e *envelope) open(rd *round, m *Message) ([]byte, error) {
	content := m.Body[bodyHeader:]
	if rd.p2p {
		if len(content) > rd.max+sealOverhead {
			return nil, errors.New("body is too large")
		}
		opened, err := hpke.Open(e.identity.keys().seal, sealKDF(), sealAEAD(), e.info(rd, m), content)
		if err != nil {
			return nil, errors.New("body is not sealed to its recipient")
		}
		content = opened
	}
	if len(content) > rd.max {
		return nil, errors.New("content is too large")
	}
	return content, nil
}

func roundByCode(rounds []round, code byte) *round {
	for i := range rounds {
		if rounds[i].code == code {
			return &rounds[i]
		}
	}
	return nil
}

// decode parses the content of a round message from a party and runs tss-lib's
// own structural checks on it. Sender and broadcast flag are the caller's
// knowledge; nothing of the kind is in the content.
func decode(rd *round, from *tss.PartyID, content []byte) (msg tss.ParsedMessage, err error) {
	defer func() {
		if recover() != nil {
			msg, err = nil, errors.New("content makes the parser panic")
		}
	}()
	into := rd.make()
	if err := proto.Unmarshal(content, into); err != nil {
		return nil, errors.New("content does not parse")
	}
	if len(into.ProtoReflect().GetUnknown()) > 0 {
		return nil, errors.New("content has unknown fields")
	}
	if !into.ValidateBasic() {
		return nil, errors.New("content is incomplete")
	}
	routing := tss.MessageRouting{From: from, IsBroadcast: !rd.p2p}
	wrapper := &tss.MessageWrapper{From: from.MessageWrapper_PartyID, IsBroadcast: !rd.p2p}
	return tss.NewMessage(routing, into, wrapper), nil
}

// encode is the inverse of decode for one of our own messages.
func encode(rounds []round, msg tss.Message) (*round, []byte, error) {
	parsed, ok := msg.(tss.ParsedMessage)
	if !ok {
		return nil, nil, fmt.Errorf("tss-lib sent a %T", msg)
	}
	for i := range rounds {
		rd := &rounds[i]
		if rd.echo() || rd.protobufName() != msg.Type() {
			continue
		}
		if rd.p2p == msg.IsBroadcast() || rd.p2p != (len(msg.GetTo()) == 1) {
			return nil, nil, fmt.Errorf("tss-lib addresses %s differently", rd.name)
		}
		content, err := proto.MarshalOptions{Deterministic: true}.Marshal(parsed.Content())
		return rd, content, err
	}
	return nil, nil, fmt.Errorf("tss-lib sent an unknown %s", msg.Type())
}

// same reports whether two messages for one place say the same. The signature
// does not matter: a signer can make many for the same bytes.
func (m *Message) same(other *Message) bool { return bytes.Equal(m.Body, other.Body) }

func (m *Message) clone() Message {
	return Message{From: m.From, To: m.To, Body: bytes.Clone(m.Body), Sig: bytes.Clone(m.Sig)}
}
