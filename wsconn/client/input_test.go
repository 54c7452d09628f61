package client

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// shortTransaction is an unsigned Ethereum transaction of 32 bytes.
const shortTransaction = "0xdf80018252089435353535353535353535353535353535353535350180018080"

// TestUnclearDataIsNotAskedFor: the SDK asks nobody for what could be meant, or
// would be sent, as something else.
func TestUnclearDataIsNotAskedFor(t *testing.T) {
	a := newAPI(t, apiServer(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked: %s %s", r.Method, r.URL) }))
	c, err := New(Config{URLs: []string{apiServer(t, func(_ http.ResponseWriter, r *http.Request) {})}, Token: StaticToken("t0ken"), Role: wire.RoleCoordinator})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	over, cancel := context.WithCancel(context.Background())
	cancel() // what is asked for all the same is not waited for
	const address = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
	for name, tc := range map[string]struct {
		request SignRequest
		want    error
	}{
		"not UTF-8":                     {SignRequest{KeyID: "k", Data: "pay \xff bob"}, wire.Errorf(wire.CodeBadRequest, "")},
		"not UTF-8, address known":      {SignRequest{KeyID: "k", Data: "pay \xff bob", AccountAddr: address}, wire.Errorf(wire.CodeBadRequest, "")},
		"a transaction or a digest":     {SignRequest{KeyID: "k", Data: shortTransaction, AccountAddr: address}, pubkey.ErrTransaction},
		"0X":                            {SignRequest{KeyID: "k", Data: "0X12"}, pubkey.ErrHexForm},
		"odd hex":                       {SignRequest{KeyID: "k", Data: "0x123"}, pubkey.ErrHex},
		"a hash that does not go there": {SignRequest{KeyID: "k", Data: "0x12", Hash: "none", AccountAddr: address}, pubkey.ErrHashNone},
		"a session that hides":          {SignRequest{KeyID: "k", Data: "x", SessionID: ".."}, wire.Errorf(wire.CodeBadRequest, "")},
	} {
		if _, err := a.Sign(context.Background(), tc.request); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if _, err := c.Sign(over, tc.request); !errors.Is(err, tc.want) {
			t.Errorf("%s, with a socket: got %v, want %v", name, err, tc.want)
		}
	}
}

// TestParticipantDoesNotGuess: an invitation that says no hash for 32 bytes that
// are a transaction is refused by who would sign.
func TestParticipantDoesNotGuess(t *testing.T) {
	inv := Invitation{Kind: KindSign, KeyID: "k", Curve: pubkey.Secp256k1, Data: shortTransaction}
	if got, err := digested(inv); !errors.Is(err, pubkey.ErrTransaction) {
		t.Errorf("without a hash: %+v, %v", got, err)
	}
	inv.Hash = "keccak256"
	if got, err := digested(inv); err != nil || got.Digest == shortTransaction {
		t.Errorf("with keccak256: %+v, %v", got, err)
	}
}

// TestAnswersHaveOneReading: what a server says in a way that others may read
// differently is not believed.
func TestAnswersHaveOneReading(t *testing.T) {
	for _, answer := range []string{
		`{"key_id":"k","account_addr":"0x1","account_addr":"0x2"}`, `{"key_id":"k","Account_Addr":"0x2"}`, `{"key_id":"\ud800"}`, "{\"key_id\":\"\xff\"}",
	} {
		a := newAPI(t, apiServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
		if key, err := a.Key(context.Background(), "k"); !errors.Is(err, ErrNotConclave) {
			t.Errorf("%q: %+v, %v", answer, key, err)
		}
	}
}
