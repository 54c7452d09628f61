package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"

	"github.com/redis/go-redis/v9"

	auditstore "github.com/conclave-mpc/conclave/cluster/store/audit"
	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// startAudit begins the audit's writer. It has its own context, so that it outlives
// all sources of decisions.
func (n *Node) startAudit() {
	ctx, cancel := context.WithCancel(context.Background())
	n.endAudit, n.audited = cancel, make(chan struct{})
	go func() {
		defer close(n.audited)
		_ = n.audit.Run(ctx) // always nil
	}()
	n.audit.Record(audit.Decision{What: audit.NodeStart, Outcome: audit.OK, Detail: "version " + Version + " on " + n.Addr()})
}

// stopAudit ends the writer, and returns when it has written what it could.
func (n *Node) stopAudit() {
	n.audit.Record(audit.Decision{What: audit.NodeStop, Outcome: audit.OK})
	n.endAudit()
	<-n.audited
}

// trail is httpapi.Trail on the audit.
type trail struct{ log *auditstore.Log }

// Read implements httpapi.Trail.
func (t trail) Read(ctx context.Context, after string, limit int) ([]audit.Fields, string, error) {
	entries, next, err := t.log.Read(ctx, after, limit)
	switch {
	case errors.Is(err, auditstore.ErrCursor):
		return nil, "", wire.Errorf(wire.CodeBadRequest, "after must be the next of a page of the audit")
	case err != nil:
		return nil, "", fmt.Errorf("%w: %w", wire.ErrUnavailable, err)
	}
	return entries, next, nil
}

// cliNode is the author of audit entries for conclaved's subcommands.
const cliNode = "cli"

// auditOperator records an operator's change of an account, at once, and returns an
// error if that fails.
func auditOperator(ctx context.Context, rdb redis.UniversalClient, prefix, what, account, detail string) error {
	log, err := auditstore.New(auditstore.Config{Redis: rdb, Prefix: prefix, NodeID: cliNode})
	if err == nil {
		err = log.Append(ctx, audit.Decision{
			What: what, Outcome: audit.OK, Account: account, Detail: detail + ", by " + operator(),
		})
	}
	if err != nil {
		return fmt.Errorf("the change was made, but is not in the audit: %w", err)
	}
	return nil
}

// operator names the user running this process, as far as the system knows.
func operator() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	return name + " on " + host
}
