package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var usersCommand = command{
	name: "users", brief: "manage the accounts at the servers; for admins",
	about: `
Lists, shows, adds, changes and removes accounts through any server. For admins.
conclaved user does the same on the host of Redis, without a server.

  $ conclave users add bob --role participant --one-time
  conclave: made bob (participant)
  conclave: its password is valid for one login, until 2026-03-04 12:00:00
  password    7Q2TJ…
  $ conclave users list --role participant
  USER  ROLES        STATE    PASSWORD  CREATED
  bob   participant  enabled  one_time  2026-03-01 12:00:00
  $ conclave users disable bob --reason "laptop lost"
  conclave: disabled bob; its tokens are revoked`,
	subs: []command{usersList, usersShow, usersAdd, usersRoles, usersDisable, usersEnable, usersPasswd, usersRemove},
}

var usersList = command{
	name: "list", brief: "list accounts",
	about: `
Lists accounts, sorted by user id. For admins.

  $ conclave users list --role admin --state enabled
  USER  ROLES  STATE    PASSWORD  CREATED
  root  admin  enabled  set       2026-03-01 12:00:00`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var p rest.UserPage
		role := flags.String("role", "", "list only accounts with this `role`")
		flags.StringVar(&p.State, "state", "", "list only accounts in this `state`: enabled or disabled")
		flags.StringVar(&p.Prefix, "prefix", "", "list only accounts whose user id begins with this `prefix`")
		return listAction(c, flags, func(c *cli, ctx context.Context, api *rest.Client, limit int) error {
			p.Role = wire.Role(*role)
			return c.listUsers(ctx, api, p, limit)
		})
	},
}

func (c *cli) listUsers(ctx context.Context, api *rest.Client, p rest.UserPage, limit int) error {
	users, err := pages(ctx, limit, func(ctx context.Context, page rest.Page) (rest.List[rest.UserInfo], error) {
		p.After, p.Limit = page.Before, page.Limit
		return api.Users(ctx, p)
	})
	if err != nil {
		return fmt.Errorf("list users: %w", err)
	}
	if c.asJSON {
		return c.print(users)
	}
	return table(c.stdout, "USER\tROLES\tSTATE\tPASSWORD\tCREATED", func(row func(...any)) {
		for _, u := range users {
			row(u.UserID, rolesText(u.Roles), stateText(u), u.Password, when(u.CreatedAt))
		}
	})
}

func stateText(u rest.UserInfo) string {
	if u.Disabled {
		return "disabled"
	}
	return "enabled"
}

// ofUser is a command on one account.
func ofUser(c *cli, flags *flag.FlagSet, path string, do func(ctx context.Context, api *rest.Client, user string) error) action {
	c.serverFlags(flags)
	return func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return misuse("%s needs a user", path)
		}
		return c.withAPI(args, func(api *rest.Client) error { return do(ctx, api, args[0]) })
	}
}

var usersShow = command{
	name: "show", args: "USER", brief: "show an account",
	about: `
Shows an account. For admins.

  $ conclave users show bob
  user        bob
  roles       participant
  state       enabled
  password    set
  created     2026-03-01 12:00:00`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		return ofUser(c, flags, "users show", func(ctx context.Context, api *rest.Client, user string) error {
			u, err := api.User(ctx, user)
			if err != nil {
				return fmt.Errorf("user %s: %w", user, err)
			}
			return c.print(u, [2]string{"user", u.UserID}, [2]string{"roles", rolesText(u.Roles)}, [2]string{"state", stateText(u)},
				[2]string{"password", u.Password}, [2]string{"valid until", when(u.OneTimeUntil)}, [2]string{"created", when(u.CreatedAt)})
		})
	},
}

// done reports a change to an account, as JSON if requested.
func (c *cli) done(u any, format string, args ...any) error {
	c.console.say("%s", clean(fmt.Sprintf(format, args...)))
	if c.asJSON {
		return c.print(u)
	}
	return nil
}

// issued is done for an account with a new password, which is printed if the servers
// generated it.
func (c *cli) issued(u rest.UserPassword, format string, args ...any) error {
	if u.OneTimePassword == "" {
		return c.done(u, format, args...)
	}
	c.console.say("%s", clean(fmt.Sprintf(format, args...)))
	c.console.say("its password is valid for one login, until %s", when(u.OneTimeUntil))
	return c.print(u, [2]string{"password", u.OneTimePassword})
}

// rolesFlag defines the flag for the roles of an account.
func rolesFlag(flags *flag.FlagSet) func() ([]wire.Role, error) {
	text := flags.String("role", "", "`roles` of the account, separated by commas: coordinator, participant, admin")
	return func() ([]wire.Role, error) {
		var roles []wire.Role
		for _, name := range splitList(*text) {
			if !wire.Role(name).Valid() {
				return nil, misuse("no such role: %s; the roles are coordinator, participant and admin", name)
			}
			roles = append(roles, wire.Role(name))
		}
		if len(roles) == 0 {
			return nil, misuse("--role is needed: coordinator, participant or admin")
		}
		return roles, nil
	}
}

const oneTimeHelp = "let the servers generate a password that is valid for one login, within three days"

// newPassword asks for a password twice on a terminal, or reads a line; "" with
// oneTime.
func (c *cli) newPassword(user string, oneTime bool) (string, error) {
	if oneTime {
		return "", nil
	}
	first, err := c.password(user)
	if err != nil || !c.onTerminal() {
		return first, err
	}
	second, err := c.askHidden("repeat the new password")
	if err != nil {
		return "", err
	}
	if first != string(second) {
		return "", errors.New("the two passwords differ; nothing was changed")
	}
	return first, nil
}

var usersAdd = command{
	name: "add", args: "USER --role ROLE[,ROLE]", brief: "add an account",
	about: `
Adds an account. The password is read from the terminal without echo, or from the
first line of stdin. For admins.

  $ conclave users add bob --role participant --one-time
  conclave: made bob (participant)
  conclave: its password is valid for one login, until 2026-03-04 12:00:00
  password    7Q2TJ…

With --one-time the servers generate a password, which is printed once and never
shown again. It is valid for one login, which conclave renews from then on, so that
a participant never has a lasting password.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		roles := rolesFlag(flags)
		oneTime := flags.Bool("one-time", false, oneTimeHelp)
		return ofUser(c, flags, "users add", func(ctx context.Context, api *rest.Client, user string) error {
			list, err := roles()
			if err != nil {
				return err
			}
			password, err := c.newPassword(user, *oneTime)
			if err != nil {
				return err
			}
			u, err := api.AddUser(ctx, user, password, list...)
			if err != nil {
				return fmt.Errorf("make %s: %w", user, err)
			}
			return c.issued(u, "made %s (%s)", u.UserID, rolesText(u.Roles))
		})
	},
}

var usersRoles = command{
	name: "roles", args: "USER --role ROLE[,ROLE]", brief: "replace the roles of an account, and revoke its tokens",
	about: `
Replaces the roles of an account, and revokes its tokens and logins, which carry the
old roles. For admins.

  $ conclave users roles bob --role participant,coordinator
  conclave: bob is participant, coordinator; its tokens are revoked

The last admin who can log in cannot lose the role admin.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		roles := rolesFlag(flags)
		return ofUser(c, flags, "users roles", func(ctx context.Context, api *rest.Client, user string) error {
			list, err := roles()
			if err != nil {
				return err
			}
			u, err := api.SetUserRoles(ctx, user, list...)
			if err != nil {
				return fmt.Errorf("change roles of %s: %w", user, err)
			}
			return c.done(u, "%s is %s; its tokens are revoked", user, rolesText(u.Roles))
		})
	},
}

var usersDisable = command{
	name: "disable", args: "USER", brief: "disable an account, and revoke its tokens",
	about: `
Disables an account: logins are refused, its tokens become invalid on all servers,
and its sockets are closed within a second. For admins.

  $ conclave users disable bob --reason "laptop lost"
  conclave: disabled bob; its tokens are revoked

The last admin who can log in cannot be disabled by that admin.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		reason := flags.String("reason", "", "`reason`, recorded in the audit")
		return ofUser(c, flags, "users disable", func(ctx context.Context, api *rest.Client, user string) error {
			u, err := api.DisableUser(ctx, user, *reason)
			if err != nil {
				return fmt.Errorf("disable %s: %w", user, err)
			}
			return c.done(u, "disabled %s; its tokens are revoked", user)
		})
	},
}

var usersEnable = command{
	name: "enable", args: "USER", brief: "enable a disabled account",
	about: `
Enables a disabled account. The user must log in again. For admins.

  $ conclave users enable bob
  conclave: enabled bob`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		return ofUser(c, flags, "users enable", func(ctx context.Context, api *rest.Client, user string) error {
			u, err := api.EnableUser(ctx, user)
			if err != nil {
				return fmt.Errorf("enable %s: %w", user, err)
			}
			return c.done(u, "enabled %s", user)
		})
	},
}

var usersPasswd = command{
	name: "passwd", args: "USER", brief: "set a new password, and revoke the account's tokens",
	about: `
Sets a new password for an account, as conclave users add does, and revokes its
tokens and logins. For admins.

  $ conclave users passwd bob --one-time
  conclave: bob has a new password; its tokens are revoked
  conclave: its password is valid for one login, until 2026-03-04 12:00:00
  password    9K4R…`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		oneTime := flags.Bool("one-time", false, oneTimeHelp)
		return ofUser(c, flags, "users passwd", func(ctx context.Context, api *rest.Client, user string) error {
			password, err := c.newPassword(user, *oneTime)
			if err != nil {
				return err
			}
			u, err := api.SetUserPassword(ctx, user, password)
			if err != nil {
				return fmt.Errorf("change password of %s: %w", user, err)
			}
			return c.issued(u, "%s has a new password; its tokens are revoked", user)
		})
	},
}

var usersRemove = command{
	name: "remove", args: "USER", brief: "remove an account, and revoke its tokens",
	about: `
Removes an account, and revokes its tokens and logins. For admins.

  $ conclave users remove bob --reason "left"
  conclave: removed bob; its tokens are revoked

The keys and sessions of the user are kept under the name: a new account of that
name is the same user. If the name may be given to somebody else, disable the account
instead. The last admin who can log in cannot remove the own account.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		reason := flags.String("reason", "", "`reason`, recorded in the audit")
		return ofUser(c, flags, "users remove", func(ctx context.Context, api *rest.Client, user string) error {
			if err := api.RemoveUser(ctx, user, *reason); err != nil {
				return fmt.Errorf("remove %s: %w", user, err)
			}
			return c.done(map[string]string{"status": "removed", "user_id": user}, "removed %s; its tokens are revoked", user)
		})
	},
}
