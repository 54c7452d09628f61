package party

import (
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"

	"github.com/bnb-chain/tss-lib/v2/common"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	tsslib "github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// Forge signs, and seals if the round requires it, any content as the run's own party,
// as a malicious party can.
func Forge(r *Run, code byte, to int, content []byte) (Message, error) {
	return r.envelope.pack(roundByCode(r.envelope.rounds, code), to, content)
}

// Unguard disables the guard of a run that is not started: the named rules, or all of
// them without names.
func Unguard(r *Run, rules ...string) {
	r.guard.TestingOnlySkip = func(rule string) bool { return len(rules) == 0 || slices.Contains(rules, rule) }
}

// Malicious lets a run that is not started ignore the others' echoes, so that a test
// can send messages in its name.
func Malicious(r *Run) { r.testingOnlyTrusting = true }

// Content opens a message as the run's own party does.
func Content(r *Run, m Message) ([]byte, error) {
	rd, err := r.envelope.authenticate(&m)
	if err != nil {
		return nil, err
	}
	return r.envelope.open(rd, &m)
}

// Resign puts another body into one of the run's own messages and signs it.
func Resign(r *Run, m Message, body []byte) Message {
	m.Body = body
	rd := roundByCode(r.envelope.rounds, body[1])
	m.Sig = r.envelope.identity.Sign(r.envelope.signed(rd, &m))
	return m
}

// Opens reports whether the run's own party can open a body, signed by any party.
func Opens(r *Run, m Message) bool {
	_, err := r.envelope.open(roundByCode(r.envelope.rounds, m.Body[1]), &m)
	return err == nil
}

// RoundTrip decodes a round message's content and, if that works, encodes and decodes
// it again, which must give the same.
func RoundTrip(protocol, code byte, content []byte) error {
	tables := [][]round{
		roundsOf(kindKeygen, pubkey.Secp256k1), roundsOf(kindSign, pubkey.Secp256k1),
		roundsOf(kindKeygen, pubkey.Ed25519), roundsOf(kindSign, pubkey.Ed25519),
		roundsOf(kindReshare, pubkey.Secp256k1), roundsOf(kindReshare, pubkey.Ed25519),
	}
	rounds := tables[int(protocol)%len(tables)]
	rd := roundByCode(rounds, code)
	if rd == nil {
		return nil
	}
	from := tsslib.NewPartyID("1", "part 1", big.NewInt(1))
	from.Index = 0
	msg, err := rd.Decode(from, !rd.P2P, content)
	if err != nil {
		return nil
	}
	if msg.IsBroadcast() == rd.P2P {
		return fmt.Errorf("%s: broadcast flag is %v", rd.Name, msg.IsBroadcast())
	}
	encoded, err := proto.Marshal(msg.Content())
	if err != nil {
		return err
	}
	again, err := rd.Decode(from, !rd.P2P, encoded)
	if err != nil {
		return fmt.Errorf("%s: what was encoded does not decode: %w", rd.Name, err)
	}
	if !proto.Equal(again.Content(), msg.Content()) {
		return fmt.Errorf("%s: encoding changed the content", rd.Name)
	}
	return nil
}

// RoundOf returns the message type of a code in a run, empty if there is none.
func RoundOf(r *Run, code byte) string {
	if rd := roundByCode(r.envelope.rounds, code); rd != nil {
		return rd.Name
	}
	return ""
}

// CodeOf is the inverse of RoundOf.
func CodeOf(r *Run, name string) byte { return roundByName(r.envelope.rounds, name).Code }

// IsEcho reports whether a message is an echo.
func IsEcho(m Message) bool { return m.Body[1]&statement.EchoCode != 0 }

// ParseContent decodes the content of a message type.
func ParseContent(r *Run, name string, content []byte) (tss.MessageContent, error) {
	m := roundByName(r.envelope.rounds, name).New()
	return m, proto.Unmarshal(content, m)
}

// GuardAnew gives a run that is not started an empty guard.
func GuardAnew(r *Run) { r.guard = r.guard.Anew() }

// GuardFile stores a message unchecked in the guard of a run that is not started.
func GuardFile(r *Run, from int, m tss.MessageContent) { r.guard.Own(from, m) }

// GuardTake passes another party's message to the guard of a run that is not started.
// It returns the rule that does not hold, if any, and the parties of which one is at
// fault.
func GuardTake(r *Run, name string, from int, m tss.MessageContent) (rule string, between []int) {
	refused := r.guard.Check(name, from, m)
	switch {
	case refused == nil:
		return "", nil
	case refused.Between == nil:
		return refused.Rule, []int{from}
	}
	return refused.Rule, refused.Between
}

// Session is the session value that tss-lib binds a party's key generation proofs to.
func Session(r *Run, part int) []byte {
	c := tss.Curve(r.run.Curve).Params()
	com, err := tss.NewCommittee(r.run.Curve, r.run.KeyID, r.run.Epoch, r.run.Parties)
	if err != nil {
		panic(err)
	}
	list := append([]*big.Int{c.P, c.N, c.Gx, c.Gy}, com.Sorted.Keys()...)
	ssid := common.SHA512_256i(append(list, big.NewInt(1), big.NewInt(0))...)
	return common.AppendBigIntToBytesSlice(ssid.Bytes(), big.NewInt(int64(com.ByPart[part].Index)))
}

// KeyOf is the x coordinate of a party's share.
func KeyOf(r *Run, part int) *big.Int { return r.places.ID(part).KeyInt() }

// IndexOf is tss-lib's index of a party.
func IndexOf(r *Run, part int) int { return r.places.ID(part).Index }

// Contribution is what a party of a quorum of two has to give in a reshare, and in a
// signing: its secret number times its Lagrange coefficient.
func Contribution(r *Run, s *share.Share, part, other int) *big.Int {
	order := tss.Order(r.run.Curve)
	mine, theirs := KeyOf(r, part), KeyOf(r, other)
	c := new(big.Int).Sub(theirs, mine)
	c.Mod(c.Mul(theirs, c.ModInverse(c, order)), order)
	if e := s.Secret().EdDSA; e != nil {
		return c.Mod(c.Mul(c, e.Xi), order)
	}
	return c.Mod(c.Mul(c, s.Secret().ECDSA.Xi), order)
}

// ForMe reports whether a message is for the run's own party.
func ForMe(r *Run, m Message) bool { return r.envelope.ours(roundByCode(r.envelope.rounds, m.Body[1])) }

// ForgeEcho signs an echo of a round as the run's own party, of the messages given, in
// an echo's order.
func ForgeEcho(r *Run, number int, of ...Message) (Message, error) {
	var content []byte
	for _, m := range of {
		hash := sha256.Sum256(m.Body)
		content = append(append(content, hash[:]...), m.Sig...)
	}
	return r.envelope.pack(roundByCode(r.envelope.rounds, statement.EchoCode|byte(number)), 0, content)
}

// WithoutEcho makes a run that is not started neither send nor require echoes.
func WithoutEcho(r *Run) { r.envelope.rounds = roundsOf(kind(r.run.Kind), r.run.Curve) }

// IsPoint reports whether the guard of a run accepts coordinates as a point.
func IsPoint(r *Run, x, y []byte) bool { return r.guard.IsPoint(x, y) }

// Rules lists the guard's rules, by message type.
func Rules() map[string][]string { return tss.Rules() }

// Params returns the numbers of pre-parameters, which are then used.
func Params(p *preparams.Set) *tss.PreParams {
	numbers, err := p.Take()
	if err != nil {
		panic(err)
	}
	return numbers
}

// Save is tss-lib's data of a share.
func Save(s *share.Share) *ecdsakeygen.LocalPartySaveData { return s.Secret().ECDSA }

// Place is the position of a party's numbers in tss-lib's lists of a whole committee.
func Place(s *share.Share, part int) int {
	k := s.Key()
	key := tss.PartyKey(k.Curve, k.ID, k.Epoch, k.Parties[part-1].User, part)
	return slices.IndexFunc(s.Secret().ECDSA.Ks, func(n *big.Int) bool { return n.Cmp(key) == 0 })
}
