package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/secret"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var tokensCommand = command{
	name: "tokens", brief: "list a user's logins, or revoke tokens",
	about: `
Lists a user's renewable logins, and revokes tokens before they expire. Revoking is
for admins.

  $ conclave tokens list bob
  LOGIN   LABEL            BEGAN                RENEWED              UNTIL                RENEWALS
  7Q2T…   conclave on hsm  2026-03-01 08:00:00  2026-03-04 09:12:00  2026-04-03 09:12:00  9
  $ conclave tokens revoke --id 7Q2T… --reason "laptop lost"
  conclave: revoked 7Q2T…`,
	subs: []command{tokensList, tokensRevoke},
}

var tokensList = command{
	name: "list", args: "[USER]", brief: "list your renewable logins or, as an admin, those of any user",
	about: `
Lists your renewable logins, most recently renewed first. An admin can list those of
any user.

  $ conclave tokens list
  LOGIN   LABEL            BEGAN                RENEWED              UNTIL                RENEWALS
  7Q2T…   conclave on hsm  2026-03-01 08:00:00  2026-03-04 09:12:00  2026-04-03 09:12:00  9`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) > 1 {
				return misuse("tokens list takes one user at most")
			}
			return c.withAPI(nil, func(api *rest.Client) error { return c.listLogins(ctx, api, strings.Join(args, "")) })
		}
	},
}

func (c *cli) listLogins(ctx context.Context, api *rest.Client, user string) error {
	if user == "" {
		me, err := api.WhoAmI(ctx)
		if err != nil {
			return err
		}
		user = me.UserID
	}
	list, err := api.Logins(ctx, user)
	if err != nil {
		return fmt.Errorf("logins of %s: %w", user, err)
	}
	if c.asJSON {
		return c.print(append([]rest.LoginInfo{}, list...))
	}
	return table(c.stdout, "LOGIN\tLABEL\tBEGAN\tRENEWED\tUNTIL\tRENEWALS", func(row func(...any)) {
		for _, l := range list {
			row(l.LoginID, l.Label, when(l.CreatedAt), when(l.RenewedAt), when(l.ExpiresAt), l.Renewals)
		}
	})
}

var tokensRevoke = command{
	name: "revoke", args: "USER | --id ID", brief: "revoke all tokens of a user, or one login or token; for admins",
	about: `
Revokes all current tokens and logins of a user or, with --id, one login (as shown by
tokens list) or one token (the token id shown by whoami). For admins.

  $ conclave tokens revoke bob --reason "laptop lost"
  conclave: revoked all tokens of bob

Every node closes the affected sockets within a second. The user can log in again;
use conclave users disable to prevent that.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		id := flags.String("id", "", "`id` of one login or token")
		reason := flags.String("reason", "", "`reason`, recorded in the audit")
		return func(ctx context.Context, args []string) error {
			if len(args) > 1 || (len(args) == 1) == (*id != "") {
				return misuse("tokens revoke needs a user, or --id")
			}
			return c.withAPI(nil, func(api *rest.Client) error {
				user, what := strings.Join(args, ""), *id
				if err := api.RevokeTokens(ctx, user, *id, *reason); err != nil {
					return fmt.Errorf("revoke tokens: %w", err)
				}
				if user != "" {
					what = "all tokens of " + user
				}
				c.console.say("revoked %s", clean(what))
				if c.asJSON {
					return c.print(map[string]string{"status": "revoked", "user": user, "id": *id})
				}
				return nil
			})
		}
	},
}

// fileTokens is a source of the token in a file, which another program renews. A
// file that cannot be read for a moment, while it is replaced, changes nothing. With
// wait, an expired token is waited on until there is another.
func fileTokens(path string, wait func(ctx context.Context, path string) error) rest.TokenSource {
	last := ""
	return func(ctx context.Context) (string, error) {
		for {
			text, err := secret.ReadFile(path)
			token := strings.TrimSpace(string(text))
			switch {
			case err == nil && token != "":
				last = token
			case last != "":
			case err == nil:
				return "", wire.Errorf(wire.CodeUnauthenticated, "token file is empty: %s", path)
			default:
				return "", wire.Errorf(wire.CodeUnauthenticated, "token file cannot be read: %s", err)
			}
			if wait == nil || rest.SpentToken(ctx) != last {
				return last, nil
			}
			if err := wait(ctx, path); err != nil {
				return "", err
			}
		}
	}
}

// awaitFile waits a moment for a newer token in a file, and says so once.
func (c *cli) awaitFile() func(context.Context, string) error {
	told := false
	return func(ctx context.Context, path string) error {
		if !told {
			told = true
			c.console.say("the token in %s has expired; waiting for a new one", path)
		}
		select {
		case <-time.After(loginPoll):
			return nil
		case <-ctx.Done():
			return errors.Join(errors.New("wait for a newer token"), ctx.Err())
		}
	}
}
