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
	// Parameters describe a protocol to a party: see [Committee.Params].
	Parameters = tss.Parameters
	// PartyID identifies a party in the library.
	PartyID = tss.PartyID
	// Message is a message that a party sends.
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

// Curve returns the library's form of a curve: its own secp256k1, and ed25519 with
// other arithmetic (see edwardsCurve).
func Curve(c pubkey.Curve) elliptic.Curve {
	if c == pubkey.Ed25519 {
		return edwards25519Curve
	}
	return tss.S256()
}

// Order returns the order of a curve's group. The caller must not change it.
func Order(c pubkey.Curve) *big.Int { return Curve(c).Params().N }
