package tss

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/tss"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// Committee maps between our part indexes and tss-lib's: tss-lib sorts parties by their
// keys and numbers them from 0 in that order, which is unrelated to ours.
type Committee struct {
	curve pubkey.Curve
	// Sorted are the parties in tss-lib's order.
	Sorted tss.SortedPartyIDs
	// ByPart has the parties by part index.
	ByPart map[int]*tss.PartyID
	// PartOf are the part indexes by tss-lib's index.
	PartOf []int
}

// NewCommittee returns the committee of a key's parties in an epoch, or of the signers
// among them. It returns an error if two have the same key.
func NewCommittee(curve pubkey.Curve, keyID string, epoch int, members []identity.Member) (*Committee, error) {
	c := &Committee{curve: curve, ByPart: make(map[int]*tss.PartyID, len(members))}
	ids := make(tss.UnSortedPartyIDs, 0, len(members))
	partByKey := make(map[string]int, len(members))
	for _, m := range members {
		key := PartyKey(curve, keyID, epoch, m.User, m.Index)
		if _, taken := partByKey[string(key.Bytes())]; taken {
			return nil, errors.New("two parties have the same key")
		}
		partByKey[string(key.Bytes())] = m.Index
		// No user names here: tss-lib puts the moniker into its errors.
		id := tss.NewPartyID(fmt.Sprint(m.Index), fmt.Sprintf("part %d", m.Index), key)
		ids = append(ids, id)
		c.ByPart[m.Index] = id
	}
	c.Sorted = tss.SortPartyIDs(ids)
	c.PartOf = make([]int, len(c.Sorted))
	for i, id := range c.Sorted {
		c.PartOf[i] = partByKey[string(id.Key)]
	}
	return c, nil
}

// Params returns tss-lib's parameters for one of the parties. Only here our threshold
// (how many must sign) becomes tss-lib's (the degree of the polynomial, one less).
func (c *Committee) Params(self, threshold, concurrency int) *tss.Parameters {
	p := tss.NewParameters(Curve(c.curve), tss.NewPeerContext(c.Sorted), c.ByPart[self], len(c.Sorted), threshold-1)
	if concurrency > 0 {
		p.SetConcurrency(concurrency)
	}
	return p
}

// PartyKey is the x coordinate of a party's share on the key's polynomial: a number
// between 1 and the group order less 1, derived from the key id, epoch, user and index.
// It differs between keys and epochs, so that tss-lib's own session ids, which contain
// little else, do too, and so that a party of two committees is two parties. The first
// epoch's is that from before there were epochs.
func PartyKey(curve pubkey.Curve, keyID string, epoch int, user string, index int) *big.Int {
	order := Curve(curve).Params().N
	for try := 0; ; try++ {
		var t codec.Transcript
		if epoch == 1 {
			t.Text("conclave/party/key/v1")
		} else {
			t.Text("conclave/party/key/v2")
		}
		t.Text(string(curve))
		t.Text(keyID)
		if epoch != 1 {
			t.Number(epoch)
		}
		t.Text(user)
		t.Number(index)
		t.Number(try)
		sum := sha256.Sum256(t.Buf)
		key := new(big.Int).SetBytes(sum[:])
		// Zero would be the secret itself. Probability 1 in 2^252.
		if key.Mod(key, order).Sign() != 0 {
			return key
		}
	}
}

// Places maps between the numbers of a run's parties and tss-lib's parties, of one
// committee or, in a reshare, of two.
type Places struct {
	ids    map[int]*PartyID
	places map[string]int // by party key
}

// Places returns the places of a run of one committee: the part indexes.
func (c *Committee) Places() *Places {
	p := &Places{map[int]*PartyID{}, map[string]int{}}
	p.add(c, 0)
	return p
}

func (p *Places) add(c *Committee, offset int) {
	for part, id := range c.ByPart {
		p.ids[part+offset], p.places[string(id.Key)] = id, part+offset
	}
}

// ID returns the party at a place, nil if the run has none.
func (p *Places) ID(place int) *PartyID { return p.ids[place] }

// Of returns the place of a party, 0 for nil or one that is not in the run. Parties are
// told apart by their keys: in a reshare an index occurs in both committees.
func (p *Places) Of(id *PartyID) int {
	if id == nil {
		return 0
	}
	return p.places[string(id.Key)]
}
