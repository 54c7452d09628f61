package node

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// directory implements httpapi.Directory on the cluster.
type directory struct {
	cluster  *cluster.Node
	accounts interface { // *accounts.Store
		Get(ctx context.Context, user string) (auth.Account, error)
	}
}

// Nodes implements httpapi.Directory.
func (d directory) Nodes(ctx context.Context) ([]wire.NodeInfo, error) {
	nodes, err := d.cluster.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wire.ErrUnavailable, err)
	}
	list := make([]wire.NodeInfo, len(nodes))
	for i, n := range nodes {
		list[i] = wire.NodeInfo{
			NodeID: n.ID, Version: n.Version, StartedAt: n.StartedAt, Draining: n.Draining,
			Address: n.Address, Connections: &n.Connections, SeenAt: n.Seen,
		}
	}
	return list, nil
}

// Presence implements httpapi.Directory.
func (d directory) Presence(ctx context.Context, user string) (wire.PresenceInfo, error) {
	present, err := d.cluster.Present(ctx, user)
	if err != nil {
		return wire.PresenceInfo{}, fmt.Errorf("%w: %w", wire.ErrUnavailable, err)
	}
	p, online := present[user]
	return wire.PresenceInfo{UserID: user, Online: online, Since: p.Since, Node: p.Node}, nil
}

// Identity implements httpapi.Directory.
func (d directory) Identity(ctx context.Context, user, fingerprint string) (string, error) {
	wanted, err := identity.ParseFingerprint(fingerprint)
	if err != nil {
		return "", nil //nolint:nilerr // no identity has it
	}
	account, err := d.accounts.Get(ctx, user)
	if err != nil {
		if wire.AsError(err).Code == wire.CodeNotFound {
			return "", nil
		}
		return "", err
	}
	id, err := identity.ParsePublic(account.Identity)
	if err != nil || id.Fingerprint() != wanted {
		return "", nil //nolint:nilerr // the same answer as for a user that does not exist
	}
	return account.Identity, nil
}

// notifier implements service.Notifier on the cluster's notices, whose text is a
// session's version and id.
type notifier struct{ cluster *cluster.Node }

// Notify implements service.Notifier.
func (b notifier) Notify(ctx context.Context, nodes []string, id string, version int64) {
	b.cluster.Notify(ctx, strconv.FormatInt(version, 10)+" "+id, nodes...)
}

// notified receives another node's notice.
func (n *Node) notified(text string) {
	number, id, _ := strings.Cut(text, " ")
	if version, err := strconv.ParseInt(number, 10, 64); err == nil {
		n.sessions.OnNotify(id, version)
	}
}
