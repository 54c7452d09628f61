package node

import (
	"context"
	"errors"
	"strings"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// doubts returns an error while this node's clock is known to be wrong. The node is
// then not ready, and rejects nothing finally that only its clock makes invalid.
func (n *Node) doubts() error {
	if off := n.cluster.ClockOffset(); off.Abs() > cluster.MaxClockOffset {
		return wire.Errorf(wire.CodeUnavailable, "the clock of node %s differs from redis's by %s", n.cfg.NodeID, off.Abs().Truncate(1e6))
	}
	return nil
}

// disagrees returns an error while this node must not serve because of other nodes:
// its secret may be wrong.
func (n *Node) disagrees() error {
	if err := n.cluster.Agrees(); err != nil {
		return wire.Errorf(wire.CodeUnavailable, "node %s is not ready: %s", n.cfg.NodeID, strings.TrimPrefix(err.Error(), "cluster: "))
	}
	return nil
}

// doubtGuard is the Verifier of a node whose clock, or secret, may be wrong: meanwhile
// an invalid token is only "unavailable" here, since another node may accept it.
type doubtGuard struct {
	auth.Verifier
	doubts    func() error // of the clock
	disagrees func() error // of secrets
}

// Verify implements auth.Verifier.
func (g doubtGuard) Verify(ctx context.Context, token string) (auth.Claims, error) {
	claims, err := g.Verifier.Verify(ctx, token)
	var e *wire.Error
	if errors.As(err, &e) && (e.Code == wire.CodeTokenExpired || e.Code == wire.CodeUnauthenticated && e.Temporary) {
		if wrong := g.doubts(); wrong != nil {
			return auth.Claims{}, wrong
		}
	}
	if errors.As(err, &e) && e.Code == wire.CodeUnauthenticated {
		if wrong := g.disagrees(); wrong != nil {
			return auth.Claims{}, wrong
		}
	}
	return claims, err
}
