package participant_test

import (
	"log"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client"
)

// signedBy has two of three parties sign data, on secp256k1 with a key made
// beforehand, and returns the result of a client's Sign.
func signedBy(curve, data string) client.Signature {
	var tb example
	defer tb.end()
	var committee *partytest.Committee
	var shares []*share.Share
	if curve == string(pubkey.Secp256k1) {
		committee, shares = partytest.Key(&tb)
	} else {
		committee = partytest.NewCommittee(&tb, 3)
		shares = committee.Keygen(&tb, pubkey.Curve(curve), 2)
	}
	digest, hash, err := pubkey.Digest(pubkey.Curve(curve), data, "")
	if err != nil {
		log.Fatal(err)
	}
	public := shares[0].Public()
	return client.Signature{
		KeyID: public.KeyID, Curve: public.Curve, AccountAddr: public.AccountAddr, PublicKey: public.PublicKey, Data: data, Hash: hash,
		Signature: pubkey.Encode(committee.Sign(&tb, shares, []int{1, 3}, digest)[1]),
	}
}

// example is a testing.TB for code that an Example shares with tests.
type example struct {
	testing.TB
	cleanups []func()
}

func (*example) Helper()                   {}
func (*example) Fatal(args ...any)         { log.Fatal(args...) }
func (*example) Fatalf(f string, a ...any) { log.Fatalf(f, a...) }
func (*example) Errorf(f string, a ...any) { log.Fatalf(f, a...) }
func (e *example) Cleanup(end func())      { e.cleanups = append(e.cleanups, end) }

func (e *example) end() {
	for _, end := range e.cleanups {
		end()
	}
}
