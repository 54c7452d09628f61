package node

import (
	"context"
	"errors"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// doubts returns an error while this node's clock is known to be wrong. It is then
// not ready, and takes back nothing for good that only its clock speaks against.
func (n *Node) doubts() error {
	if off := n.cluster.ClockOffset(); off.Abs() > cluster.MaxClockOffset {
		return wire.Errorf(wire.CodeUnavailable, "the clock of node %s differs from redis's by %s", n.cfg.NodeID, off.Abs().Truncate(1e6))
	}
	return nil
}

// clockGuard is a Verifier of a node whose clock may be wrong: meanwhile what has
// expired by it, or is not valid yet, is only unavailable here, since another node
// may take it.
type clockGuard struct {
	auth.Verifier
	doubts func() error
}

// Verify implements auth.Verifier.
func (g clockGuard) Verify(ctx context.Context, token string) (auth.Claims, error) {
	claims, err := g.Verifier.Verify(ctx, token)
	var e *wire.Error
	if errors.As(err, &e) && (e.Code == wire.CodeTokenExpired || e.Code == wire.CodeUnauthenticated && e.Temporary) {
		if wrong := g.doubts(); wrong != nil {
			return auth.Claims{}, wrong
		}
	}
	return claims, err
}
