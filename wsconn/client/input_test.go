package client

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// shortTransaction is an unsigned Ethereum transaction of 32 bytes.
const shortTransaction = "0xdf80018252089435353535353535353535353535353535353535350180018080"

// TestUnclearDataIsNotAskedFor: the SDK sends no request for data that is
// ambiguous, or would be sent as something else.
func TestUnclearDataIsNotAskedFor(t *testing.T) {
	a, err := rest.New(rest.Config{URLs: []string{clienttest.Serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked: %s %s", r.Method, r.URL) })}, Token: StaticToken("t0ken")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	c, err := New(Config{URLs: []string{clienttest.Serve(t, func(_ http.ResponseWriter, r *http.Request) {})}, Token: rest.StaticToken("t0ken"), Role: wire.RoleCoordinator})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	over, cancel := context.WithCancel(context.Background())
	cancel() // a request sent all the same is not waited for
	const address = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
	for name, tc := range map[string]struct {
		request request.Sign
		want    error
	}{
		"not UTF-8":                     {request.Sign{KeyID: "k", Data: "pay \xff bob"}, wire.Errorf(wire.CodeBadRequest, "")},
		"not UTF-8, address known":      {request.Sign{KeyID: "k", Data: "pay \xff bob", AccountAddr: address}, wire.Errorf(wire.CodeBadRequest, "")},
		"a transaction or a digest":     {request.Sign{KeyID: "k", Data: shortTransaction, AccountAddr: address}, pubkey.ErrTransaction},
		"0X":                            {request.Sign{KeyID: "k", Data: "0X12"}, pubkey.ErrHexForm},
		"odd hex":                       {request.Sign{KeyID: "k", Data: "0x123"}, pubkey.ErrHex},
		"a hash that does not go there": {request.Sign{KeyID: "k", Data: "0x12", Hash: "none", AccountAddr: address}, pubkey.ErrHashNone},
		"a session that hides":          {request.Sign{KeyID: "k", Data: "x", SessionID: ".."}, wire.Errorf(wire.CodeBadRequest, "")},
	} {
		if _, err := a.Sign(context.Background(), tc.request); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if _, err := c.Sign(over, tc.request); !errors.Is(err, tc.want) {
			t.Errorf("%s, with a socket: got %v, want %v", name, err, tc.want)
		}
	}
}
