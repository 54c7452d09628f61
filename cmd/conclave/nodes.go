package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

var nodesCommand = command{
	name: "nodes", brief: "list the nodes of the cluster",
	about: `
Lists the live nodes of the cluster. Only admins see the addresses of the nodes and
the number of their sockets.

  $ conclave nodes
  NODE  VERSION  STARTED              STATE
  n1    0.1.0    2026-03-01 08:00:00  ready
  n2    0.1.0    2026-03-01 08:00:02  draining`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return misuse("nodes takes no arguments")
			}
			return c.withAPI(nil, func(api *rest.Client) error { return c.listNodes(ctx, api) })
		}
	},
}

func (c *cli) listNodes(ctx context.Context, api *rest.Client) error {
	nodes, err := api.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	if c.asJSON {
		return c.print(append([]rest.NodeInfo{}, nodes...))
	}
	forAdmin := false
	for _, n := range nodes {
		forAdmin = forAdmin || n.Connections != nil
	}
	head := "NODE\tVERSION\tSTARTED\tSTATE"
	if forAdmin {
		head += "\tADDRESS\tCONNECTIONS\tSEEN"
	}
	return table(c.stdout, head, func(row func(...any)) {
		for _, n := range nodes {
			state := "ready"
			if n.Draining {
				state = "draining"
			}
			cells := []any{n.NodeID, n.Version, when(n.StartedAt), state}
			if n.Connections != nil {
				cells = append(cells, n.Address, *n.Connections, when(n.SeenAt))
			}
			row(cells...)
		}
	})
}

var presenceCommand = command{
	name: "presence", args: "USER…",
	brief: "show which users are connected",
	about: `
Shows which users are connected to any node, and since when. Admins also see which
node. A user is connected while conclave participant, keygen or sign runs.

  $ conclave presence bob carol
  USER   STATE    SINCE
  bob    online   2026-03-01 11:58:12
  carol  offline`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return misuse("presence needs at least one user")
			}
			return c.withAPI(nil, func(api *rest.Client) error { return c.presence(ctx, api, args) })
		}
	},
}

func (c *cli) presence(ctx context.Context, api *rest.Client, users []string) error {
	list, placed := make([]rest.PresenceInfo, len(users)), false
	for i, user := range users {
		var err error
		if list[i], err = api.Presence(ctx, user); err != nil {
			return fmt.Errorf("presence of %s: %w", user, err)
		}
		placed = placed || list[i].Node != ""
	}
	if c.asJSON {
		return c.print(list)
	}
	head := "USER\tSTATE\tSINCE"
	if placed {
		head += "\tNODE"
	}
	return table(c.stdout, head, func(row func(...any)) {
		for _, p := range list {
			state := "offline"
			if p.Online {
				state = "online"
			}
			cells := []any{p.UserID, state, when(p.Since)}
			if placed {
				cells = append(cells, p.Node)
			}
			row(cells...)
		}
	})
}
