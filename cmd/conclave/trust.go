package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var trustCommand = command{
	name: "trust", brief: "manage the identities that this home trusts; needs no server",
	about: `
Manages the identities that this home trusts. Pin the identities that matter: ask the
users, over a channel that you trust, to read you what conclave identity shows them.

  $ conclave trust add dave BOZJ6-L4GQE-TOPPJ-PCQ3C-5QUQ4-FJ7QA-MDNXS-YGOPA

By default a participant or coordinator trusts a user's identity on first use
(--trust tofu) and refuses any other identity of that user from then on. With
--trust pinned only pinned identities are trusted. A participant that approves
automatically does so for pinned coordinators only.

To accept a new identity of a user, ask for its fingerprint, remove the user and
add it again.`,
	subs: []command{trustList, trustAdd, trustRemove},
}

var trustList = command{
	name: "list", brief: "list the known identities",
	about: `
Lists the known identities, and whether each is pinned or trusted on first use.

  $ conclave trust list
  USER  TRUST      FINGERPRINT
  bob   first use  MPI7M-RPR7R-GCKCC-…
  dave  pinned     BOZJ6-L4GQE-TOPPJ-…`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(_ context.Context, args []string) error {
			if len(args) > 0 {
				return misuse("trust list takes no arguments")
			}
			return c.listTrusted()
		}
	},
}

var trustAdd = command{
	name: "add", args: "USER FINGERPRINT", brief: "pin a user's identity",
	about: `
Pins a user's identity by its fingerprint, which conclave identity shows to that
user. The fingerprint may be given in groups, as it is read aloud.

  $ conclave trust add dave BOZJ6-L4GQE-TOPPJ-PCQ3C-5QUQ4-FJ7QA-MDNXS-YGOPA
  conclave: pinned the identity of dave`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(_ context.Context, args []string) error {
			if len(args) < 2 {
				return misuse("trust add needs a user and a fingerprint")
			}
			return c.pin(args[0], strings.Join(args[1:], ""))
		}
	},
}

var trustRemove = command{
	name: "remove", args: "USER", brief: "remove a user's identity",
	about: `
Removes a user's identity, pinned or not.

  $ conclave trust remove dave
  conclave: forgot the identity of dave`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(_ context.Context, args []string) error {
			if len(args) != 1 {
				return misuse("trust remove needs a user")
			}
			return c.forget(args[0])
		}
	},
}

// trustFlag lets a command choose pins alone, or also trust on first use.
func trustFlag(flags *flag.FlagSet) func() (pinnedOnly bool, err error) {
	whom := flags.String("trust", "tofu", "`mode` of trust: pinned (only pinned identities), or tofu (also trust on first use)")
	return func() (bool, error) {
		if *whom != "tofu" && *whom != "pinned" {
			return false, misuse("--trust must be tofu or pinned")
		}
		return *whom == "pinned", nil
	}
}

func (c *cli) identities() (*dirstore.Store, error) {
	dir, err := c.homeDir()
	if err != nil {
		return nil, err
	}
	return dirstore.Open(dir)
}

func (c *cli) listTrusted() error {
	store, err := c.identities()
	if err != nil {
		return err
	}
	list, err := store.ListKnown()
	if err != nil {
		return err
	}
	if c.asJSON {
		return c.print(append([]trust.Known{}, list...))
	}
	return table(c.stdout, "USER\tTRUST\tFINGERPRINT", func(row func(...any)) {
		for _, k := range list {
			row(k.User, trustOf(k.Pinned), k.Fingerprint)
		}
	})
}

func trustOf(pinned bool) string {
	if pinned {
		return "pinned"
	}
	return "first use"
}

func (c *cli) pin(user, fingerprint string) error {
	store, err := c.identities()
	if err != nil {
		return err
	}
	err = store.Pin(user, fingerprint)
	var other *trust.IdentityError
	if errors.As(err, &other) {
		return fmt.Errorf("%s is known with another identity, %s (%s)", user, other.Known, trustOf(other.Pinned))
	}
	if err != nil {
		return misuse("%s", err)
	}
	c.console.say("pinned the identity of %s", clean(wire.DescribeName(user)))
	return nil
}

func (c *cli) forget(user string) error {
	store, err := c.identities()
	if err != nil {
		return err
	}
	known, err := store.Forget(user)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("no identity of %s is known", clean(user))
	}
	c.console.say("forgot the identity of %s", user)
	return nil
}
