package tss

import (
	"crypto/elliptic"
	"math/big"

	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// The library's types, for packages that must not import it.
type (
	// Party is one party's side of a protocol. It is not safe for concurrent use.
	Party = tss.Party
	// Parameters are what a party knows of its protocol: see [Committee.Params].
	Parameters = tss.Parameters
	// PartyID is a party as the library numbers it.
	PartyID = tss.PartyID
	// Message is what a party sends.
	Message = tss.Message
	// ParsedMessage is a message that was sent or received, with its content.
	ParsedMessage = tss.ParsedMessage
	// MessageContent is the protobuf content of a message.
	MessageContent = tss.MessageContent
	// Error is the library's error, which may name culprits by their PartyID.
	Error = tss.Error
	// PreParams are the library's pre-parameters: secret numbers of one party.
	PreParams = ecdsakeygen.LocalPreParams
)

// Curve is a curve as the library computes on it: its own secp256k1, and an
// ed25519 with other arithmetic (see edwardsCurve).
func Curve(c pubkey.Curve) elliptic.Curve {
	if c == pubkey.Ed25519 {
		return edwards25519Curve
	}
	return tss.S256()
}

// Order is the order of a curve's group. The caller must not change it.
func Order(c pubkey.Curve) *big.Int { return Curve(c).Params().N }
