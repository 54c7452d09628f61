package tss

import (
	"errors"

	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	ecdsaresharing "github.com/bnb-chain/tss-lib/v2/ecdsa/resharing"
	ecdsasigning "github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsaresharing "github.com/bnb-chain/tss-lib/v2/eddsa/resharing"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/proto"
)

const (
	// MaxContent bounds the content of every message in bytes: two discrete-log
	// proofs of 128 iterations over 2048 bits, and a proof of 163 residues.
	MaxContent = 192 << 10
	maxModulus = 64 << 10 // a proof of 163 residues
	maxSmall   = 16 << 10 // a few residues or curve elements
)

// Content is the content of one type of round message.
type Content struct {
	// Max bounds it in bytes, above the size that tss-lib sends.
	Max int
	// New returns an empty one.
	New func() MessageContent
}

// content makes a constructor of an empty T.
func content[T any, P interface {
	*T
	tss.MessageContent
}]() tss.MessageContent {
	return P(new(T))
}

// Contents are the messages of tss-lib's rounds by the names of package statement.
var Contents = map[string]Content{
	"ecdsa/keygen/1":       {MaxContent, content[ecdsakeygen.KGRound1Message]},
	"ecdsa/keygen/2-share": {maxSmall, content[ecdsakeygen.KGRound2Message1]},
	"ecdsa/keygen/2":       {maxModulus, content[ecdsakeygen.KGRound2Message2]},
	"ecdsa/keygen/3":       {maxSmall, content[ecdsakeygen.KGRound3Message]},

	"ecdsa/sign/1-mta": {maxSmall, content[ecdsasigning.SignRound1Message1]},
	"ecdsa/sign/1":     {maxSmall, content[ecdsasigning.SignRound1Message2]},
	"ecdsa/sign/2-mta": {maxSmall, content[ecdsasigning.SignRound2Message]},
	"ecdsa/sign/3":     {maxSmall, content[ecdsasigning.SignRound3Message]},
	"ecdsa/sign/4":     {maxSmall, content[ecdsasigning.SignRound4Message]},
	"ecdsa/sign/5":     {maxSmall, content[ecdsasigning.SignRound5Message]},
	"ecdsa/sign/6":     {maxSmall, content[ecdsasigning.SignRound6Message]},
	"ecdsa/sign/7":     {maxSmall, content[ecdsasigning.SignRound7Message]},
	"ecdsa/sign/8":     {maxSmall, content[ecdsasigning.SignRound8Message]},
	"ecdsa/sign/9":     {maxSmall, content[ecdsasigning.SignRound9Message]},

	"eddsa/keygen/1":       {maxSmall, content[eddsakeygen.KGRound1Message]},
	"eddsa/keygen/2-share": {maxSmall, content[eddsakeygen.KGRound2Message1]},
	"eddsa/keygen/2":       {maxModulus, content[eddsakeygen.KGRound2Message2]},

	"eddsa/sign/1": {maxSmall, content[eddsasigning.SignRound1Message]},
	"eddsa/sign/2": {maxSmall, content[eddsasigning.SignRound2Message]},
	"eddsa/sign/3": {maxSmall, content[eddsasigning.SignRound3Message]},

	"ecdsa/reshare/1":       {maxSmall, content[ecdsaresharing.DGRound1Message]},
	"ecdsa/reshare/2-ack":   {0, content[ecdsaresharing.DGRound2Message2]},
	"ecdsa/reshare/2":       {MaxContent, content[ecdsaresharing.DGRound2Message1]},
	"ecdsa/reshare/3-share": {maxSmall, content[ecdsaresharing.DGRound3Message1]},
	"ecdsa/reshare/3":       {maxSmall, content[ecdsaresharing.DGRound3Message2]},
	"ecdsa/reshare/4-proof": {maxSmall, content[ecdsaresharing.DGRound4Message1]},
	"ecdsa/reshare/4-ack":   {0, content[ecdsaresharing.DGRound4Message2]},

	"eddsa/reshare/1":       {maxSmall, content[eddsaresharing.DGRound1Message]},
	"eddsa/reshare/2-ack":   {0, content[eddsaresharing.DGRound2Message]},
	"eddsa/reshare/3-share": {maxSmall, content[eddsaresharing.DGRound3Message1]},
	"eddsa/reshare/3":       {maxSmall, content[eddsaresharing.DGRound3Message2]},
	"eddsa/reshare/4-ack":   {0, content[eddsaresharing.DGRound4Message]},
}

// Decode parses the content of a round message from a party and runs tss-lib's own
// structural checks on it. The caller supplies sender and broadcast flag; the content
// has neither. It never panics.
func (c Content) Decode(from *PartyID, broadcast bool, data []byte) (msg ParsedMessage, err error) {
	defer func() {
		if recover() != nil {
			msg, err = nil, errors.New("content makes the parser panic")
		}
	}()
	into := c.New()
	if err := proto.Unmarshal(data, into); err != nil {
		return nil, errors.New("content does not parse")
	}
	if len(into.ProtoReflect().GetUnknown()) > 0 {
		return nil, errors.New("content has unknown fields")
	}
	if !into.ValidateBasic() {
		return nil, errors.New("content is incomplete")
	}
	routing := tss.MessageRouting{From: from, IsBroadcast: broadcast}
	wrapper := &tss.MessageWrapper{From: from.MessageWrapper_PartyID, IsBroadcast: broadcast}
	return tss.NewMessage(routing, into, wrapper), nil
}

// Encode is the inverse of [Content.Decode] for one of the own party's messages.
func Encode(msg ParsedMessage) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(msg.Content())
}

// MessageType returns the Type of a message with such content.
func (c Content) MessageType() string { return string(proto.MessageName(c.New())) }
