package client

import (
	"errors"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func TestRefusedForGood(t *testing.T) {
	f := clienttest.New(t)
	c := coordinator(t, f)
	_, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: "none", Data: "x", AccountAddr: "11111111111111111111111111111111"})
	if !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	var bad *wire.Error
	if _, err := c.Keygen(clienttest.Within(t), request.Keygen{Threshold: 1, Participants: names}); !errors.As(err, &bad) || bad.Code != wire.CodeBadRequest {
		t.Errorf("got %v, want bad_request", err)
	}
}
