package tss

import (
	"fmt"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/common"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	ecdsasigning "github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// Result is a protocol's result: one of the two, or none.
type Result struct {
	Secret    *Secret
	Signature []byte
}

// Build makes tss-lib's party, which sends to out, and the function that takes its
// result: nil if not done. The result is empty for a party that only gives its share
// away. Neither out nor the result channel may ever block the party.
// tss-lib's constructors panic on invalid arguments.
type Build func(out chan<- Message) (Party, func() (*Result, error))

// Keygen builds a key generation. The pre-parameters are needed on secp256k1 and
// used up.
func Keygen(curve pubkey.Curve, params *Parameters, pre *PreParams) Build {
	if curve == pubkey.Ed25519 {
		return func(out chan<- Message) (Party, func() (*Result, error)) {
			end := make(chan *eddsakeygen.LocalPartySaveData, 1)
			return eddsakeygen.NewLocalParty(params, out, end), collect(end, func(save *eddsakeygen.LocalPartySaveData) *Secret {
				return &Secret{EdDSA: save}
			})
		}
	}
	return func(out chan<- Message) (Party, func() (*Result, error)) {
		end := make(chan *ecdsakeygen.LocalPartySaveData, 1)
		return ecdsakeygen.NewLocalParty(params, out, end, *pre), collect(end, func(save *ecdsakeygen.LocalPartySaveData) *Secret {
			return &Secret{ECDSA: save}
		})
	}
}

func collect[T any](end <-chan *T, secret func(*T) *Secret) func() (*Result, error) {
	return func() (*Result, error) {
		select {
		case save := <-end:
			return &Result{Secret: secret(save)}, nil
		default:
			return nil, nil
		}
	}
}

// Sign builds a signing of a digest, on ed25519 of a message, by the public key to
// which the secret belongs.
func Sign(curve pubkey.Curve, params *Parameters, secret *Secret, pub, digest []byte) Build {
	return func(out chan<- Message) (Party, func() (*Result, error)) {
		end := make(chan *common.SignatureData, 1)
		m := new(big.Int).SetBytes(digest)
		if curve == pubkey.Ed25519 {
			// Without the length tss-lib would drop the message's leading zeros.
			return eddsasigning.NewLocalParty(m, params, *secret.EdDSA, out, end, len(digest)), collectSignature(curve, end, pub, digest)
		}
		// tss-lib refuses a digest that is not below the group order. ECDSA uses
		// it only modulo the order, so reducing it first signs the same digest.
		m.Mod(m, params.EC().Params().N)
		return ecdsasigning.NewLocalParty(m, params, *secret.ECDSA, out, end, len(digest)), collectSignature(curve, end, pub, digest)
	}
}

// collectSignature takes tss-lib's signature without trusting it: package pubkey
// verifies it with other code and finds v itself.
func collectSignature(curve pubkey.Curve, end <-chan *common.SignatureData, pub, digest []byte) func() (*Result, error) {
	return func() (*Result, error) {
		select {
		case data := <-end:
			sig, err := finishSignature(curve, data, pub, digest)
			if err != nil {
				return nil, fmt.Errorf("signing: check the signature made: %w", err)
			}
			return &Result{Signature: sig}, nil
		default:
			return nil, nil
		}
	}
}

func finishSignature(curve pubkey.Curve, data *common.SignatureData, pub, digest []byte) ([]byte, error) {
	if curve == pubkey.Ed25519 {
		return curve.Complete(pub, digest, data.Signature)
	}
	// Some versions of tss-lib pad R and S, others do not.
	if len(data.R) > 32 || len(data.S) > 32 {
		return nil, pubkey.ErrSignature
	}
	rs := make([]byte, 64)
	copy(rs[32-len(data.R):], data.R)
	copy(rs[64-len(data.S):], data.S)
	return curve.Complete(pub, digest, rs)
}
