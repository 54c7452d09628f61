package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var logoutCommand = command{
	name: "logout", brief: "log out at the servers and remove the stored login",
	about: `
Ends this profile's login at the servers, revokes all its tokens, and removes it
from this home.

  $ conclave logout
  conclave: logged out alice

The identity, shares and pins are kept. A participant that uses the login ends. If
no server can be reached, nothing is removed; --local removes the login from this
home only.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		flags.StringVar(&c.url, "url", "", "base `URLs` of the servers, separated by commas (or CONCLAVE_URL; default: those of the login)")
		c.caFlag(flags)
		local := flags.Bool("local", false, "remove the stored login only; at the servers it stays valid until it expires")
		return func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return misuse("logout takes no arguments")
			}
			return c.logout(ctx, *local)
		}
	},
}

func (c *cli) logout(ctx context.Context, local bool) error {
	p, err := c.profile()
	if err != nil {
		return err
	}
	if p.Token == "" && p.Refresh == "" {
		return errNotLoggedIn
	}
	if !local {
		if err := c.logoutThere(ctx, p); err != nil {
			return fmt.Errorf("log out %s: %w; the login is kept (--local removes it here)", p.User, err)
		}
	}
	path, err := c.path(profileFile)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the login: %w", err)
	}
	_ = os.Remove(path + ".lock") // where it was renewed
	c.console.say("logged out %s", clean(p.User))
	if c.asJSON {
		return c.print(map[string]string{"user_id": p.User})
	}
	return nil
}

// logoutThere ends a login at the servers; it may have ended before.
func (c *cli) logoutThere(ctx context.Context, p profile) error {
	api, err := c.open(rest.Config{Token: rest.StaticToken(p.Token)})
	if err != nil {
		return err
	}
	defer api.Close()
	err = api.Logout(ctx, p.Refresh)
	var told *wire.Error
	if errors.As(err, &told) && (told.Code == wire.CodeUnauthenticated || told.Code == wire.CodeTokenExpired) {
		return nil
	}
	return err
}

var whoamiCommand = command{
	name: "whoami", brief: "show your user, roles and when your token expires",
	about: `
Asks the servers for the user and roles of the current token and when it expires,
and shows the identity of this home.

  $ conclave whoami
  user        alice (coordinator)
  servers     https://conclave.example
  token until 2026-03-01 20:15:00
  login until 2026-03-31 08:15:00, renewed by every command
  token id    7Q2T…
  profile     default
  identity    BOZJ6-L4GQE-TOPPJ-PCQ3C-5QUQ4-FJ7QA-MDNXS-YGOPA`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return misuse("whoami takes no arguments")
			}
			return c.withAPI(nil, func(api *rest.Client) error { return c.whoami(ctx, api) })
		}
	},
}

// whoamiResult is the output of whoami.
type whoamiResult struct {
	rest.WhoAmI
	URLs        []string  `json:"urls"`
	LoginUntil  time.Time `json:"login_until,omitzero"`
	Profile     string    `json:"profile"`
	Fingerprint string    `json:"fingerprint,omitempty"`
}

func (c *cli) whoami(ctx context.Context, api *rest.Client) error {
	me, err := api.WhoAmI(ctx)
	if err != nil {
		return err
	}
	r := whoamiResult{WhoAmI: me}
	if r.URLs, err = c.servers(); err != nil {
		return err
	}
	if r.Profile, err = c.currentProfile(); err != nil {
		return err
	}
	login := ""
	if c.tokenFile == "" && c.env("CONCLAVE_TOKEN") == "" {
		p, err := c.profile()
		if err != nil {
			return err
		}
		if r.LoginUntil = p.RefreshUntil; !r.LoginUntil.IsZero() {
			login = when(r.LoginUntil) + ", renewed by every command"
		}
	}
	if r.Fingerprint, err = c.fingerprint(); err != nil {
		return err
	}
	rows := [][2]string{{"user", me.UserID + " (" + rolesText(me.Roles) + ")"}}
	for _, u := range r.URLs {
		rows = append(rows, [2]string{"server", u})
	}
	rows = append(rows, [2]string{"token until", when(me.ExpiresAt)}, [2]string{"login until", login}, [2]string{"token id", me.TokenID},
		[2]string{"profile", r.Profile}, [2]string{"identity", r.Fingerprint})
	return c.print(r, rows...)
}

// fingerprint is the fingerprint of this home's identity, "" if it has none yet.
func (c *cli) fingerprint() (string, error) {
	path, err := c.path(identityFile)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	id, err := c.identity()
	if err != nil {
		return "", err
	}
	return id.Public().Fingerprint(), nil
}

var sessionsCancel = command{
	name: "cancel", args: "SESSION", brief: "cancel one of your sessions",
	about: `
Cancels a running keygen or signing. Allowed for its coordinator and for admins.
The participants are told the reason.

  $ conclave sessions cancel sg-2… --reason "wrong amount"
  conclave: sign sg-2… is cancelled`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		reason := flags.String("reason", "", "`reason`, shown to the participants")
		return func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return misuse("sessions cancel needs a session")
			}
			return c.withAPI(args, func(api *rest.Client) error {
				s, err := api.CancelSessionFor(ctx, args[0], *reason)
				if err != nil {
					return fmt.Errorf("cancel session %s: %w", args[0], err)
				}
				c.console.say("%s is cancelled", sessionName(request.Kind(s.Kind), s.SessionID))
				if c.asJSON {
					return c.print(s)
				}
				return nil
			})
		}
	},
}

var sessionsResend = command{
	name: "resend", args: "SESSION", brief: "resend a session's outcome to the servers' webhook",
	about: `
Makes the servers send the outcome of a session to their webhook again. Allowed for
the session's coordinator and for admins.

  $ conclave sessions resend sg-2…
  conclave: the outcome of sg-2… is sent again

The outcome is sent at once, under the same webhook-id, whether the webhook has
accepted it before, has refused it permanently, or is waiting for the next try.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return misuse("sessions resend needs a session")
			}
			return c.withAPI(args, func(api *rest.Client) error {
				if err := api.ResendOutcome(ctx, args[0]); err != nil {
					return fmt.Errorf("send the outcome of %s again: %w", args[0], err)
				}
				c.console.say("the outcome of %s is sent again", clean(args[0]))
				if c.asJSON {
					return c.print(map[string]string{"status": "queued", "session_id": args[0]})
				}
				return nil
			})
		}
	},
}
