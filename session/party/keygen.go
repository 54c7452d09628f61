package party

import (
	"fmt"
	"time"

	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// KeygenConfig describes a key generation.
type KeygenConfig struct {
	Binding Binding
	// Identity is the own one, listed in the binding under Self.
	Identity *identity.Identity
	// PreParams are needed on secp256k1 and used up by the run; on ed25519 they
	// are not looked at.
	PreParams *PreParams
	// Concurrency is how many cores tss-lib may use where it lets itself be told.
	// Zero means all.
	Concurrency int
}

// NewKeygen prepares a key generation. Once the binding is found good the
// pre-parameters are used, whatever becomes of the run; [ErrPreParamsUsed] and
// [ErrTestOnly] say what can be wrong with them.
func NewKeygen(c KeygenConfig) (*Run, error) {
	if err := c.Binding.check(kindKeygen, c.Identity); err != nil {
		return nil, fmt.Errorf("prepare key generation: %w", err)
	}
	p := protocol{concurrency: c.Concurrency}
	if c.Binding.Curve == pubkey.Ed25519 {
		p.build = eddsaKeygen(c.Binding)
	} else {
		params, err := c.PreParams.take()
		if err != nil {
			return nil, fmt.Errorf("prepare key generation: %w", err)
		}
		p.build = ecdsaKeygen(c.Binding, params)
	}
	r, err := newRun(kindKeygen, c.Binding, c.Identity, p)
	if err != nil {
		return nil, fmt.Errorf("prepare key generation: %w", err)
	}
	return r, nil
}

func ecdsaKeygen(b Binding, pre *ecdsakeygen.LocalPreParams) func(*tss.Parameters, chan<- tss.Message) (tss.Party, func() (*result, error)) {
	return func(params *tss.Parameters, out chan<- tss.Message) (tss.Party, func() (*result, error)) {
		end := make(chan *ecdsakeygen.LocalPartySaveData, 1)
		party := ecdsakeygen.NewLocalParty(params, out, end, *pre)
		return party, func() (*result, error) {
			select {
			case save := <-end:
				return newShareResult(b, &shareSecret{ECDSA: save})
			default:
				return nil, nil
			}
		}
	}
}

func eddsaKeygen(b Binding) func(*tss.Parameters, chan<- tss.Message) (tss.Party, func() (*result, error)) {
	return func(params *tss.Parameters, out chan<- tss.Message) (tss.Party, func() (*result, error)) {
		end := make(chan *eddsakeygen.LocalPartySaveData, 1)
		party := eddsakeygen.NewLocalParty(params, out, end)
		return party, func() (*result, error) {
			select {
			case save := <-end:
				return newShareResult(b, &shareSecret{EdDSA: save})
			default:
				return nil, nil
			}
		}
	}
}

// newShareResult makes the share of what a key generation left, and holds it to
// the same checks as one that is read back.
func newShareResult(b Binding, secret *shareSecret) (*result, error) {
	pub, err := secret.publicKey(b.Curve)
	if err != nil {
		return nil, fmt.Errorf("key generation: %w", err)
	}
	address, err := b.Curve.Address(pub)
	if err != nil {
		return nil, fmt.Errorf("key generation: %w", err)
	}
	s := &Share{
		public: SharePublic{
			Version: shareVersion, KeyID: b.KeyID, PartIndex: b.Self,
			Threshold: b.Threshold, TotalParts: b.TotalParts, Curve: b.Curve,
			PublicKey: pubkey.Encode(pub), AccountAddr: address,
			Parties: b.Parties, Created: time.Now().UTC().Truncate(time.Second),
		},
		secret: secret,
	}
	for _, m := range b.Parties {
		if m.Index == b.Self {
			s.public.User = m.User
		}
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("key generation: %w", err)
	}
	return &result{share: s}, nil
}
