package party

import (
	"slices"

	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	ecdsasigning "github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
)

// round is one type of round message, with what tss-lib and the sizes of its
// messages add to it.
type round struct {
	statement.Round
	max  int                       // bytes of content, with room above what tss-lib sends
	make func() tss.MessageContent // nil in an echo
}

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

// contents are the messages of tss-lib's rounds by name.
var contents = map[string]struct {
	max  int
	make func() tss.MessageContent
}{
	"ecdsa/keygen/1":       {maxProofs, content[ecdsakeygen.KGRound1Message]},
	"ecdsa/keygen/2-share": {maxSmall, content[ecdsakeygen.KGRound2Message1]},
	"ecdsa/keygen/2":       {maxModulus, content[ecdsakeygen.KGRound2Message2]},
	"ecdsa/keygen/3":       {maxSmall, content[ecdsakeygen.KGRound3Message]},
	"ecdsa/sign/1-mta":     {maxSmall, content[ecdsasigning.SignRound1Message1]},
	"ecdsa/sign/1":         {maxSmall, content[ecdsasigning.SignRound1Message2]},
	"ecdsa/sign/2-mta":     {maxSmall, content[ecdsasigning.SignRound2Message]},
	"ecdsa/sign/3":         {maxSmall, content[ecdsasigning.SignRound3Message]},
	"ecdsa/sign/4":         {maxSmall, content[ecdsasigning.SignRound4Message]},
	"ecdsa/sign/5":         {maxSmall, content[ecdsasigning.SignRound5Message]},
	"ecdsa/sign/6":         {maxSmall, content[ecdsasigning.SignRound6Message]},
	"ecdsa/sign/7":         {maxSmall, content[ecdsasigning.SignRound7Message]},
	"ecdsa/sign/8":         {maxSmall, content[ecdsasigning.SignRound8Message]},
	"ecdsa/sign/9":         {maxSmall, content[ecdsasigning.SignRound9Message]},
	"eddsa/keygen/1":       {maxSmall, content[eddsakeygen.KGRound1Message]},
	"eddsa/keygen/2-share": {maxSmall, content[eddsakeygen.KGRound2Message1]},
	"eddsa/keygen/2":       {maxModulus, content[eddsakeygen.KGRound2Message2]},
	"eddsa/sign/1":         {maxSmall, content[eddsasigning.SignRound1Message]},
	"eddsa/sign/2":         {maxSmall, content[eddsasigning.SignRound2Message]},
	"eddsa/sign/3":         {maxSmall, content[eddsasigning.SignRound3Message]},
}

// roundsOf returns the message types of a protocol, in order of sending.
func roundsOf(k kind, c pubkey.Curve) []round { return withContents(statement.Rounds(string(k), c), 0) }

// roundsAmong returns the message types of a run, echoes included.
func roundsAmong(run *statement.Run) []round { return withContents(run.Rounds(), len(run.Parties)) }

func withContents(list []statement.Round, parties int) []round {
	rounds := make([]round, len(list))
	for i, rd := range list {
		c := contents[rd.Name]
		rounds[i] = round{Round: rd, max: c.max, make: c.make}
		if rd.Echo() {
			for _, other := range list {
				if other.Number == rd.Number && !other.P2P && !other.Echo() {
					rounds[i].max += (parties - 1) * echoEntry
				}
			}
		}
	}
	return rounds
}

func roundByName(rounds []round, name string) *round {
	if i := slices.IndexFunc(rounds, func(rd round) bool { return rd.Name == name }); i >= 0 {
		return &rounds[i]
	}
	return nil
}
