package main

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/common"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	ecdsasigning "github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"
)

// Raw tss-lib: parties in one process. Passing messages as Go values would be
// cheating, so they pass bytes, and nothing else is added: no network, no
// encryption, no checks beside the library's own.

// rawIDs returns the ids of n parties.
func rawIDs(n int) tss.SortedPartyIDs {
	var ids tss.UnSortedPartyIDs
	for i := 1; i <= n; i++ {
		ids = append(ids, tss.NewPartyID(fmt.Sprint(i), fmt.Sprint(i), big.NewInt(int64(i))))
	}
	return tss.SortPartyIDs(ids)
}

// rawRun starts a party for each id and carries messages until all results are
// in. The result channel of build's parties must be ends.
func rawRun[T any](ids tss.SortedPartyIDs, params func(i int) *tss.Parameters,
	build func(i int, params *tss.Parameters, out chan<- tss.Message, ends chan<- T) tss.Party) ([]T, error) {
	out, ends := make(chan tss.Message, 16*len(ids)*len(ids)), make(chan T, len(ids))
	errs := make(chan error, 16*len(ids)*len(ids))
	parties := make([]tss.Party, len(ids))
	for i := range ids {
		parties[i] = build(i, params(i), out, ends)
	}
	fail := func(err *tss.Error) {
		if err != nil {
			errs <- err
		}
	}
	for _, p := range parties {
		go func() { fail(p.Start()) }()
	}
	var results []T
	for len(results) < len(ids) {
		select {
		case r := <-ends:
			results = append(results, r)
		case err := <-errs:
			return nil, fmt.Errorf("raw tss-lib: %w", err)
		case m := <-out:
			bytes, _, err := m.WireBytes()
			if err != nil {
				return nil, fmt.Errorf("raw tss-lib: %w", err)
			}
			for i, p := range parties {
				if i == m.GetFrom().Index || !m.IsBroadcast() && i != m.GetTo()[0].Index {
					continue
				}
				go func() {
					_, err := p.UpdateFromBytes(bytes, m.GetFrom(), m.IsBroadcast())
					fail(err)
				}()
			}
		}
	}
	return results, nil
}

// rawKeygenECDSA generates a key of n parties with these pre-parameters; without
// them tss-lib generates its own.
func rawKeygenECDSA(n, threshold int, pre []*ecdsakeygen.LocalPreParams) ([]*ecdsakeygen.LocalPartySaveData, error) {
	ids := rawIDs(n)
	ctx := tss.NewPeerContext(ids)
	return rawRun(ids, func(i int) *tss.Parameters {
		return tss.NewParameters(tss.S256(), ctx, ids[i], n, threshold-1)
	}, func(i int, params *tss.Parameters, out chan<- tss.Message, ends chan<- *ecdsakeygen.LocalPartySaveData) tss.Party {
		return ecdsakeygen.NewLocalParty(params, out, ends, *pre[i])
	})
}

// rawSignECDSA signs with the first of a key's parties, up to the threshold.
func rawSignECDSA(saves []*ecdsakeygen.LocalPartySaveData, threshold int, digest *big.Int) error {
	ids := rawIDs(threshold)
	ctx := tss.NewPeerContext(ids)
	signatures, err := rawRun(ids, func(i int) *tss.Parameters {
		return tss.NewParameters(tss.S256(), ctx, ids[i], threshold, threshold-1)
	}, func(i int, params *tss.Parameters, out chan<- tss.Message, ends chan<- *common.SignatureData) tss.Party {
		return ecdsasigning.NewLocalParty(digest, params, saveOf(saves, ids[i], func(s *ecdsakeygen.LocalPartySaveData) *big.Int { return s.ShareID }), out, ends)
	})
	return checkRaw(signatures, err)
}

func rawKeygenEdDSA(n, threshold int) ([]*eddsakeygen.LocalPartySaveData, error) {
	ids := rawIDs(n)
	ctx := tss.NewPeerContext(ids)
	return rawRun(ids, func(i int) *tss.Parameters {
		return tss.NewParameters(tss.Edwards(), ctx, ids[i], n, threshold-1)
	}, func(_ int, params *tss.Parameters, out chan<- tss.Message, ends chan<- *eddsakeygen.LocalPartySaveData) tss.Party {
		return eddsakeygen.NewLocalParty(params, out, ends)
	})
}

func rawSignEdDSA(saves []*eddsakeygen.LocalPartySaveData, threshold int, digest *big.Int) error {
	ids := rawIDs(threshold)
	ctx := tss.NewPeerContext(ids)
	signatures, err := rawRun(ids, func(i int) *tss.Parameters {
		return tss.NewParameters(tss.Edwards(), ctx, ids[i], threshold, threshold-1)
	}, func(i int, params *tss.Parameters, out chan<- tss.Message, ends chan<- *common.SignatureData) tss.Party {
		return eddsasigning.NewLocalParty(digest, params, saveOf(saves, ids[i], func(s *eddsakeygen.LocalPartySaveData) *big.Int { return s.ShareID }), out, ends)
	})
	return checkRaw(signatures, err)
}

// saveOf finds a party's own save data among the results of a key generation.
func saveOf[T any](saves []*T, id *tss.PartyID, share func(*T) *big.Int) T {
	for _, s := range saves {
		if share(s).Cmp(id.KeyInt()) == 0 {
			return *s
		}
	}
	panic("raw tss-lib: a party without a share") // the ids are those of rawIDs
}

func checkRaw(signatures []*common.SignatureData, err error) error {
	if err != nil {
		return err
	}
	for _, s := range signatures {
		if len(s.Signature) == 0 || string(s.Signature) != string(signatures[0].Signature) {
			return errors.New("raw tss-lib: the parties have different signatures")
		}
	}
	return nil
}
