package main

import (
	"context"
	"errors"
	"flag"
	"io/fs"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
)

var identityCommand = command{
	name: "identity", brief: "show this client's identity, or protect it with a passphrase; needs no server",
	about: `
Shows this client's identity, which is created on first use. Others verify the
identity by its fingerprint: read it to them over a channel that you trust.

  $ conclave identity
  fingerprint BOZJ6-L4GQE-TOPPJ-PCQ3C-5QUQ4-FJ7QA-MDNXS-YGOPA

--protect encrypts the identity with a passphrase, or replaces its passphrase. A new
identity is protected from the start. Without a terminal:

  $ conclave identity --protect --new-passphrase-file /run/secrets/passphrase
  $ CONCLAVE_PASSPHRASE_FILE=/run/secrets/passphrase conclave participant

The identity is a file in the home directory. Keep a copy of it elsewhere, with its
passphrase: without both, the shares that are sealed to it are lost.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		whole := flags.Bool("public", false, "show the complete public identity")
		protect := flags.Bool("protect", false, "encrypt the identity with a new passphrase")
		unprotect := flags.Bool("unprotect", false, "store the identity without a passphrase")
		file := flags.String("new-passphrase-file", "", "`file` with the new passphrase (default: ask on the terminal)")
		return func(_ context.Context, args []string) error {
			switch {
			case len(args) > 0:
				return misuse("identity takes no arguments")
			case *protect && *unprotect:
				return misuse("--protect and --unprotect exclude each other")
			case *file != "" && !*protect:
				return misuse("--new-passphrase-file goes with --protect")
			}
			return c.showIdentity(*whole, *protect, *unprotect, *file)
		}
	},
}

func (c *cli) showIdentity(whole, protect, unprotect bool, file string) error {
	id, err := c.changedIdentity(protect, unprotect, file)
	if err != nil {
		return err
	}
	public := id.Public()
	rows := [][2]string{{"fingerprint", public.Fingerprint()}}
	if whole {
		rows = append(rows, [2]string{"identity", public.String()})
	}
	return c.print(map[string]string{"fingerprint": public.Fingerprint(), "identity": public.String()}, rows...)
}

// changedIdentity returns the identity with its protection changed as requested.
func (c *cli) changedIdentity(protect, unprotect bool, file string) (*identity.Identity, error) {
	if !protect && !unprotect {
		return c.identity()
	}
	path, err := c.path(identityFile)
	if err != nil {
		return nil, err
	}
	// The old passphrase first, so that a new one is not typed in its place.
	id, err := dirstore.ReadIdentity(path, func(bool) ([]byte, error) { return c.passphrase(path, c.passphraseSource()) })
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !(missing && protect) {
		return nil, err
	}
	var passphrase []byte
	if protect {
		if file != "" {
			passphrase, err = newPassphrase(file)
		} else {
			passphrase, err = c.askNewPassphrase()
		}
		defer clear(passphrase)
		if err != nil {
			return nil, err
		}
	}
	switch {
	case missing:
		id, err = dirstore.MakeIdentity(path, passphrase)
		if err == nil {
			c.console.say("created a new identity, protected by the passphrase: %s", path)
		}
	case protect:
		err = dirstore.ProtectIdentity(path, id, passphrase)
		if err == nil {
			c.console.say("%s is now protected; unprotected older copies may still be on the disk", path)
		}
	default:
		err = dirstore.ProtectIdentity(path, id, nil)
		if err == nil {
			c.console.say("%s is no longer protected", path)
		}
	}
	return id, err
}
