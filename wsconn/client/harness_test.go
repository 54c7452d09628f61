package client

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
)

func TestMain(m *testing.M) {
	sample.Idling()
	goleak.VerifyTestMain(m)
}

var names = []string{"alice", "bob", "carol"}

// coordinator is a client that has registered with a fake server.
func coordinator(t *testing.T, f *clienttest.Server) *Client {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(clienttest.Within(t), Config{
		URLs: []string{f.URL}, Token: StaticToken(clienttest.Token("coord", "")), RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		Identity: id,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("coordinator: %v", err)
		}
	})
	return c
}
