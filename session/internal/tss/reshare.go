package tss

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/common"
	"github.com/bnb-chain/tss-lib/v2/crypto"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	ecdsaresharing "github.com/bnb-chain/tss-lib/v2/ecdsa/resharing"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsaresharing "github.com/bnb-chain/tss-lib/v2/eddsa/resharing"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// Reshare is a run in which some members of one committee, the quorum, give their
// shares of a key to another committee, which gets new ones. A party is in exactly one
// of the two: who is in both has two parties.
type Reshare struct {
	Curve pubkey.Curve
	// Old has the quorum only, New all of the new committee.
	Old, New *Committee
	// OldThreshold is that of the old committee; 1 in an import.
	OldThreshold, NewThreshold int
	// OldTotal is the number of places of the old committee: part i of the new one has
	// place OldTotal + i.
	OldTotal int
}

// Places returns the run's places. It returns an error if a party of one committee has
// the key of one of the other.
func (r *Reshare) Places() (*Places, error) {
	p := &Places{map[int]*PartyID{}, map[string]int{}}
	p.add(r.Old, 0)
	p.add(r.New, r.OldTotal)
	if len(p.places) != len(r.Old.Sorted)+len(r.New.Sorted) {
		return nil, errors.New("two parties have the same key")
	}
	return p, nil
}

// params returns tss-lib's parameters for one of the parties. As in
// [Committee.Params], its thresholds are one less than ours.
func (r *Reshare) params(self *PartyID, concurrency int) *tss.ReSharingParameters {
	p := tss.NewReSharingParameters(Curve(r.Curve), tss.NewPeerContext(r.Old.Sorted), tss.NewPeerContext(r.New.Sorted), self,
		len(r.Old.Sorted), r.OldThreshold-1, len(r.New.Sorted), r.NewThreshold-1)
	if concurrency > 0 {
		p.SetConcurrency(concurrency)
	}
	return p
}

// Give builds the party of part self of the old committee, which has no result. The
// secret stays as it is: tss-lib overwrites the one that it is given, so it gets a copy,
// which wipe overwrites when the party is not used any more.
func (r *Reshare) Give(self, concurrency int, secret *Secret) (build Build, wipe func()) {
	params := r.params(r.Old.ByPart[self], concurrency)
	xi, _, _, _, _ := secret.common()
	own := new(big.Int).Set(xi)
	wipe = func() { Wipe(own) }
	none := func(done func() bool) func() (*Result, error) {
		return func() (*Result, error) {
			if !done() {
				return nil, nil
			}
			return &Result{}, nil
		}
	}
	if r.Curve == pubkey.Ed25519 {
		return func(out chan<- Message) (Party, func() (*Result, error)) {
			end := make(chan *eddsakeygen.LocalPartySaveData, 1)
			save := *secret.EdDSA
			save.Xi = own
			return eddsaresharing.NewLocalParty(params, save, out, end), none(func() bool { return len(end) > 0 })
		}, wipe
	}
	return func(out chan<- Message) (Party, func() (*Result, error)) {
		end := make(chan *ecdsakeygen.LocalPartySaveData, 1)
		save := *secret.ECDSA
		save.Xi, save.LocalPreParams = own, PreParams{}
		return ecdsaresharing.NewLocalParty(params, save, out, end), none(func() bool { return len(end) > 0 })
	}, wipe
}

// Whole returns a private key as the secret of a committee of one, of part 1, which gives
// it to another: see [Reshare.Give]. It has no moduli, and cannot sign.
func Whole(curve pubkey.Curve, com *Committee, public []byte, scalar *big.Int) (*Secret, error) {
	point, err := parsePoint(curve, public)
	if err != nil {
		return nil, err
	}
	if len(com.Sorted) != 1 || !crypto.ScalarBaseMult(Curve(curve), scalar).Equals(point) {
		return nil, errors.New("the private key is not that of the public key")
	}
	k := com.Sorted[0].KeyInt()
	if curve == pubkey.Ed25519 {
		save := eddsakeygen.NewLocalPartySaveData(1)
		save.Xi, save.ShareID, save.Ks[0], save.BigXj[0], save.EDDSAPub = scalar, k, k, point, point
		return &Secret{EdDSA: &save}, nil
	}
	save := ecdsakeygen.NewLocalPartySaveData(1)
	save.Xi, save.ShareID, save.Ks[0], save.BigXj[0], save.ECDSAPub = scalar, k, k, point, point
	save.NTildej[0], save.H1j[0], save.H2j[0] = new(big.Int), new(big.Int), new(big.Int)
	return &Secret{ECDSA: &save}, nil
}

// Take builds the party of part self of the new committee. The pre-parameters are
// needed on secp256k1 and used up.
func (r *Reshare) Take(self, concurrency int, pre *PreParams) Build {
	params := r.params(r.New.ByPart[self], concurrency)
	order := Order(r.Curve)
	if r.Curve == pubkey.Ed25519 {
		return func(out chan<- Message) (Party, func() (*Result, error)) {
			end := make(chan *eddsakeygen.LocalPartySaveData, 1)
			empty := eddsakeygen.NewLocalPartySaveData(len(r.New.Sorted))
			return eddsaresharing.NewLocalParty(params, empty, out, end), collect(end, func(save *eddsakeygen.LocalPartySaveData) *Secret {
				save.Xi.Mod(save.Xi, order) // tss-lib adds without reducing
				return &Secret{EdDSA: save}
			})
		}
	}
	return func(out chan<- Message) (Party, func() (*Result, error)) {
		end := make(chan *ecdsakeygen.LocalPartySaveData, 1)
		fresh := ecdsakeygen.NewLocalPartySaveData(len(r.New.Sorted))
		fresh.LocalPreParams = *pre
		return ecdsaresharing.NewLocalParty(params, fresh, out, end), collect(end, func(save *ecdsakeygen.LocalPartySaveData) *Secret {
			save.Xi.Mod(save.Xi, order)
			return &Secret{ECDSA: save}
		})
	}
}

// Giving is what a member of the new committee knows of the old one, to check its
// messages.
type Giving struct {
	public *crypto.ECPoint
	quorum *Committee
	// contributions are the public points of what each member of the quorum has to
	// give, by part; nil if unknown.
	contributions map[int]*crypto.ECPoint
	ssid          []byte // nil if unknown
	receivers     []*big.Int
}

// Giving combines what this party knows of the old committee: the public key (compressed
// SEC1, or 32 bytes), the public share points by part (nil if unknown, see
// [Secret.Points]) and its old share (nil if it has none). It returns an error if they
// contradict each other.
func (r *Reshare) Giving(public []byte, points []string, old *Secret) (*Giving, error) {
	g := &Giving{quorum: r.Old, receivers: r.New.Sorted.Keys()}
	var err error
	if g.public, err = parsePoint(r.Curve, public); err != nil {
		return nil, err
	}
	if old != nil && r.Curve == pubkey.Secp256k1 {
		if g.ssid, err = resharingSSID(old, r.Old); err != nil {
			return nil, err
		}
	}
	if points == nil {
		return g, nil
	}
	ks, xs := r.Old.Sorted.Keys(), make([]*crypto.ECPoint, len(r.Old.Sorted))
	for i := range xs {
		part := r.Old.PartOf[i]
		if part > len(points) {
			return nil, errors.New("a public point of the old committee is missing")
		}
		text, err := pubkey.Decode(points[part-1])
		if err != nil {
			return nil, err
		}
		if xs[i], err = parsePoint(r.Curve, text); err != nil {
			return nil, fmt.Errorf("part %d of the old committee: %w", part, err)
		}
	}
	if err := onPolynomial(Order(r.Curve), r.OldThreshold, ks, xs, g.public); err != nil {
		return nil, fmt.Errorf("old committee: %w", err)
	}
	g.contributions = map[int]*crypto.ECPoint{}
	for i, x := range xs {
		g.contributions[r.Old.PartOf[i]] = x.ScalarMult(coefficient(ks, i, new(big.Int), Order(r.Curve)))
	}
	return g, nil
}

// resharingSSID computes what the old committee's messages are to contain
// (ecdsa/resharing/rounds.go, getSSID).
func resharingSSID(old *Secret, quorum *Committee) ([]byte, error) {
	at := map[string]int{}
	for i, k := range old.ECDSA.Ks {
		at[string(k.Bytes())] = i
	}
	c := Curve(pubkey.Secp256k1).Params()
	list := append([]*big.Int{c.P, c.N, c.B, c.Gx, c.Gy}, quorum.Sorted.Keys()...)
	var points, tildes, h1s, h2s []*big.Int
	for _, id := range quorum.Sorted {
		i, ok := at[string(id.KeyInt().Bytes())]
		if !ok {
			return nil, errors.New("the old share is of another committee")
		}
		points = append(points, old.ECDSA.BigXj[i].X(), old.ECDSA.BigXj[i].Y())
		tildes, h1s, h2s = append(tildes, old.ECDSA.NTildej[i]), append(h1s, old.ECDSA.H1j[i]), append(h2s, old.ECDSA.H2j[i])
	}
	for _, more := range [][]*big.Int{points, tildes, h1s, h2s, {big.NewInt(1), new(big.Int)}} { // round and nonce
		list = append(list, more...)
	}
	return common.SHA512_256i(list...).Bytes(), nil
}

// onPolynomial returns an error unless points at xs lie on one polynomial with as many
// coefficients as threshold, whose value at 0 is given.
func onPolynomial(order *big.Int, threshold int, xs []*big.Int, points []*crypto.ECPoint, atZero *crypto.ECPoint) error {
	sum, err := interpolate(order, xs[:threshold], points, new(big.Int))
	if err != nil || !sum.Equals(atZero) {
		return errors.New("the public points do not add up to the public key")
	}
	for i := threshold; i < len(xs); i++ {
		if sum, err = interpolate(order, xs[:threshold], points, xs[i]); err != nil || !sum.Equals(points[i]) {
			return errors.New("the public points do not fit each other")
		}
	}
	return nil
}

// interpolate returns the point at x determined by those at xs.
func interpolate(order *big.Int, xs []*big.Int, points []*crypto.ECPoint, x *big.Int) (*crypto.ECPoint, error) {
	var sum *crypto.ECPoint
	for i := range xs {
		term := points[i].ScalarMult(coefficient(xs, i, x, order))
		if sum == nil {
			sum = term
			continue
		}
		var err error
		if sum, err = sum.Add(term); err != nil {
			return nil, err
		}
	}
	return sum, nil
}
