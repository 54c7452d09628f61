package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/conclave-mpc/conclave/wsconn/client"
)

var trustCommand = command{
	synopsis: "trust [FLAGS] list | add USER FINGERPRINT | remove USER",
	about: `
Says whose identities this home trusts. A participant, and who asks for a key,
trust the identity that a user has when they first meet, unless they run with
--trust pinned, and refuse any other from then on. Pin those who matter: ask them, over a channel that you
trust, to read you what conclave identity shows them.

  $ conclave trust add dave BOZJ6-L4GQE-TOPPJ-PCQ3C-5QUQ4-FJ7QA-MDNXS-YGOPA

A participant that approves without asking does so for pinned coordinators only.
To accept a new identity of a user, ask for its fingerprint, remove the user and
add it again.`,
	setup: func(c *cli, flags *flag.FlagSet) func(context.Context, []string) error {
		c.localFlags(flags)
		return func(_ context.Context, args []string) error {
			verb := ""
			if len(args) > 0 {
				verb, args = args[0], args[1:]
			}
			switch {
			case verb == "list" && len(args) == 0:
				return c.listTrusted()
			case verb == "add" && len(args) >= 2:
				return c.pin(args[0], strings.Join(args[1:], "")) // read aloud, it may come in groups
			case verb == "remove" && len(args) == 1:
				return c.forget(args[0])
			}
			return misuse("trust needs list, add USER FINGERPRINT, or remove USER")
		}
	},
}

// trustFlag lets a command say whom it trusts, and then whether by pins alone.
func trustFlag(flags *flag.FlagSet) func() (pinnedOnly bool, err error) {
	whom := flags.String("trust", "tofu", "`whom` to trust: pinned, or tofu, also whoever comes first under a name")
	return func() (bool, error) {
		if *whom != "tofu" && *whom != "pinned" {
			return false, misuse("--trust must be tofu or pinned")
		}
		return *whom == "pinned", nil
	}
}

func (c *cli) identities() (*client.DirStore, error) {
	dir, err := c.homeDir()
	if err != nil {
		return nil, err
	}
	return client.OpenDirStore(dir)
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
		return c.print(append([]client.Known{}, list...))
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "USER\tTRUST\tFINGERPRINT")
	for _, k := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\n", clean(k.User), trustOf(k.Pinned), k.Fingerprint)
	}
	return w.Flush()
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
	var other *client.IdentityError
	if errors.As(err, &other) {
		return fmt.Errorf("%s is known by another identity, %s (%s)", user, other.Known, trustOf(other.Pinned))
	}
	if err != nil {
		return misuse("%s", err)
	}
	c.console.say("pinned the identity of %s", user)
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
		return fmt.Errorf("nothing is known of %s", clean(user))
	}
	c.console.say("forgot the identity of %s", user)
	return nil
}
