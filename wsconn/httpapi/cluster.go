package httpapi

import (
	"context"
	"net/http"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Directory lists the nodes and locates users. Its errors are or wrap *wire.Error,
// or are faults.
type Directory interface {
	// Nodes returns the live nodes, with all known details.
	Nodes(ctx context.Context) ([]wire.NodeInfo, error)
	// Presence returns a user's presence, with all known details.
	Presence(ctx context.Context, user string) (wire.PresenceInfo, error)
	// Identity returns a user's registered identity if it has that fingerprint, else "".
	Identity(ctx context.Context, user, fingerprint string) (string, error)
}

func isAdmin(r *http.Request) bool {
	claims, _ := auth.FromContext(r.Context())
	return claims.Has(wire.RoleAdmin)
}

// nodes lists the nodes. Only admins see their addresses and load.
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

// presence tells users who share a key with the user whether it is connected, and
// admins also where. Others get the same answer as for a user that does not exist. The
// identity goes to clients that know its fingerprint, which nobody guesses: a coordinator
// has pinned only that, and a reshare's request binds the whole identity.
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
	if f := r.URL.Query().Get("fingerprint"); f != "" {
		if p.Identity, err = a.cfg.Cluster.Identity(r.Context(), user, f); err != nil {
			return 0, nil, err
		}
	}
	return http.StatusOK, p, nil
}
