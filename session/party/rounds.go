package party

import (
	"fmt"
	"slices"
	"strings"

	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	ecdsasigning "github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// round is one type of round message. The table below, not the wire, says which
// are broadcast and which go to one party.
type round struct {
	code   byte   // on the wire, distinct within a protocol
	name   string // signed and sealed with the message
	number int    // of tss-lib's round that sends it
	p2p    bool
	max    int                       // bytes of content, with room above what tss-lib sends
	make   func() tss.MessageContent // nil in an echo
}

// echo reports whether the round is not tss-lib's but ours: what its sender has
// got of the broadcasts of the same number.
func (r *round) echo() bool { return r.make == nil }

// protobufName is what tss-lib's Message.Type returns for the round's messages.
func (r *round) protobufName() string { return string(proto.MessageName(r.make())) }

const (
	maxProofs  = 192 << 10 // two discrete-log proofs of 128 iterations over 2048 bits
	maxModulus = 64 << 10  // a proof of 163 residues
	maxSmall   = 16 << 10  // a few residues or curve elements
)

// content makes a constructor of an empty T.
func content[T any, P interface {
	*T
	tss.MessageContent
}]() tss.MessageContent {
	return P(new(T))
}

var (
	ecdsaKeygenRounds = []round{
		{1, "ecdsa/keygen/1", 1, false, maxProofs, content[ecdsakeygen.KGRound1Message]},
		{2, "ecdsa/keygen/2-share", 2, true, maxSmall, content[ecdsakeygen.KGRound2Message1]},
		{3, "ecdsa/keygen/2", 2, false, maxModulus, content[ecdsakeygen.KGRound2Message2]},
		{4, "ecdsa/keygen/3", 3, false, maxSmall, content[ecdsakeygen.KGRound3Message]},
	}
	ecdsaSignRounds = []round{
		{1, "ecdsa/sign/1-mta", 1, true, maxSmall, content[ecdsasigning.SignRound1Message1]},
		{2, "ecdsa/sign/1", 1, false, maxSmall, content[ecdsasigning.SignRound1Message2]},
		{3, "ecdsa/sign/2-mta", 2, true, maxSmall, content[ecdsasigning.SignRound2Message]},
		{4, "ecdsa/sign/3", 3, false, maxSmall, content[ecdsasigning.SignRound3Message]},
		{5, "ecdsa/sign/4", 4, false, maxSmall, content[ecdsasigning.SignRound4Message]},
		{6, "ecdsa/sign/5", 5, false, maxSmall, content[ecdsasigning.SignRound5Message]},
		{7, "ecdsa/sign/6", 6, false, maxSmall, content[ecdsasigning.SignRound6Message]},
		{8, "ecdsa/sign/7", 7, false, maxSmall, content[ecdsasigning.SignRound7Message]},
		{9, "ecdsa/sign/8", 8, false, maxSmall, content[ecdsasigning.SignRound8Message]},
		{10, "ecdsa/sign/9", 9, false, maxSmall, content[ecdsasigning.SignRound9Message]},
	}
	eddsaKeygenRounds = []round{
		{1, "eddsa/keygen/1", 1, false, maxSmall, content[eddsakeygen.KGRound1Message]},
		{2, "eddsa/keygen/2-share", 2, true, maxSmall, content[eddsakeygen.KGRound2Message1]},
		{3, "eddsa/keygen/2", 2, false, maxModulus, content[eddsakeygen.KGRound2Message2]},
	}
	eddsaSignRounds = []round{
		{1, "eddsa/sign/1", 1, false, maxSmall, content[eddsasigning.SignRound1Message]},
		{2, "eddsa/sign/2", 2, false, maxSmall, content[eddsasigning.SignRound2Message]},
		{3, "eddsa/sign/3", 3, false, maxSmall, content[eddsasigning.SignRound3Message]},
	}
)

// roundsOf returns the message types of a protocol, in order of sending.
func roundsOf(k kind, c pubkey.Curve) []round {
	switch {
	case k == kindKeygen && c == pubkey.Secp256k1:
		return ecdsaKeygenRounds
	case k == kindSign && c == pubkey.Secp256k1:
		return ecdsaSignRounds
	case k == kindKeygen:
		return eddsaKeygenRounds
	default:
		return eddsaSignRounds
	}
}

// echoCode marks the codes of echo messages; the rest is the round's number.
const echoCode = 0x80

// roundsAmong returns the message types of a run with that many parties: with
// more than two, each round with a broadcast has an echo besides. Two parties
// have nobody with whom to compare.
func roundsAmong(k kind, c pubkey.Curve, parties int) []round {
	base := roundsOf(k, c)
	if parties <= 2 {
		return base
	}
	protocol := base[0].name[:strings.LastIndexByte(base[0].name, '/')]
	var all []round
	for number := 1; number <= base[len(base)-1].number; number++ {
		broadcasts := 0
		for _, rd := range base {
			if rd.number != number {
				continue
			}
			all = append(all, rd)
			if !rd.p2p {
				broadcasts++
			}
		}
		if broadcasts > 0 {
			all = append(all, round{
				code: echoCode | byte(number), name: fmt.Sprintf("%s/echo-%d", protocol, number), number: number,
				max: broadcasts * (parties - 1) * echoEntry,
			})
		}
	}
	return all
}

func roundByName(rounds []round, name string) *round {
	if i := slices.IndexFunc(rounds, func(rd round) bool { return rd.name == name }); i >= 0 {
		return &rounds[i]
	}
	return nil
}
