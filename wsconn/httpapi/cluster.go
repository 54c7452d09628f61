package httpapi

import (
	"context"
	"net/http"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Directory knows the nodes, and where users are. Its errors are or wrap
// *wire.Error, or are faults.
type Directory interface {
	// Nodes returns the live nodes, with all that is known of them.
	Nodes(ctx context.Context) ([]wire.NodeInfo, error)
	// Presence says where a user is, with all that is known.
	Presence(ctx context.Context, user string) (wire.PresenceInfo, error)
}

func isAdmin(r *http.Request) bool {
	claims, _ := auth.FromContext(r.Context())
	return claims.Has(wire.RoleAdmin)
}

// nodes lists the nodes. Where they are, and how much they hold, is for admins.
func (a *api) nodes(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if a.cfg.Cluster == nil {
		return 0, nil, errNothing
	}
	nodes, err := a.cfg.Cluster.Nodes(r.Context())
	if err != nil {
		return 0, nil, err
	}
	l := wire.List[wire.NodeInfo]{Items: make([]wire.NodeInfo, 0, len(nodes))}
	for _, n := range nodes {
		if !isAdmin(r) {
			n = wire.NodeInfo{NodeID: n.NodeID, Version: n.Version, StartedAt: n.StartedAt, Draining: n.Draining}
		}
		l.Items = append(l.Items, n)
	}
	return http.StatusOK, l, nil
}

// presence says whether a user is there to those who have a key in common with
// it, and to admins where. Others are told what they would be of a user that does
// not exist.
func (a *api) presence(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if a.cfg.Cluster == nil {
		return 0, nil, errNothing
	}
	user, err := pathID(r, "user")
	if err != nil {
		return 0, nil, wire.Errorf(wire.CodeNotFound, "not a valid user id")
	}
	if !isAdmin(r) { // it reads the caller's list of keys
		if err := auth.Charge(a.cfg.Users, caller(r).User, filterCost, "too many calls"); err != nil {
			return 0, nil, err
		}
	}
	known, err := a.cfg.Sessions.Acquainted(r.Context(), caller(r), user)
	if err != nil {
		return 0, nil, err
	}
	p, err := a.cfg.Cluster.Presence(r.Context(), user)
	switch {
	case err != nil:
		return 0, nil, err
	case !known:
		p = wire.PresenceInfo{UserID: user}
	case !isAdmin(r):
		p.Node = ""
	}
	return http.StatusOK, p, nil
}
