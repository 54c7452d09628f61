package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

var shareCommand = command{
	name: "share", brief: "list, check, export or import shares; needs no server",
	about: `
Lists, checks, exports and imports this client's shares.

  $ conclave share check /mnt/backup/treasury.json --identity /mnt/backup/identity
  good        share of part 2 of key treasury
  owner       bob
  signing     2 of 3: alice, bob, carol
  …

A backup of a share is two files: the identity, and the share that is sealed to it.
Neither can be used without the other. To restore from these two files, copy the
identity into a new home and import the share:

  $ mkdir -m 700 ~/.conclave && install -m 600 /mnt/backup/identity ~/.conclave/identity
  $ conclave share import /mnt/backup/*.json

conclave backup -h describes a backup of everything that a participant needs,
including pins and policy.`,
	subs: []command{shareList, shareCheck, shareExport, shareImport},
}

var shareList = command{
	name: "list", brief: "list the shares in the home directory",
	about: `
Lists the shares in the home directory.

  $ conclave share list
  KEY       PART  OWNER  CURVE      OF   ADDRESS                                     CREATED
  treasury  2     bob    secp256k1  2/3  0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F  2026-03-01 12:00:00`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return misuse("share list takes no arguments")
			}
			return c.listShares(ctx)
		}
	},
}

var shareCheck = command{
	name: "check", args: "[FILE|KEY…]", brief: "prove that shares are usable, without rebuilding the key",
	about: `
Proves that shares are usable, without rebuilding the key. Without an argument it
checks all shares in the home directory.

  $ conclave share check /mnt/backup/treasury.json --identity /mnt/backup/identity
  good        share of part 2 of key treasury
  owner       bob
  signing     2 of 3: alice, bob, carol
  …

For each share it checks that the identity opens it, that its secret matches its
public point, that the public points of every quorum give the public key, and that
its other parameters are sound.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		identity := flags.String("identity", "", "`file` of the identity to check with (default: the one in the home directory)")
		address := addressFlag(flags)
		return func(ctx context.Context, args []string) error { return c.checkShares(ctx, *identity, *address, args) }
	},
}

func addressFlag(flags *flag.FlagSet) *string {
	return flags.String("address", "", "account `address`, if the home has several shares of one key")
}

var shareExport = command{
	name: "export", args: "KEY", brief: "copy the sealed share of a key into a new file",
	about: `
Copies the share of a key into a new file. The share stays sealed.

  $ conclave share export treasury --to /mnt/backup/treasury.json
  conclave: wrote /mnt/backup/treasury.json; it opens with …/identity only, so keep a copy of that too

The path is recorded, and conclave keys show lists it.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		address := addressFlag(flags)
		to := flags.String("to", "", "new `file` to export to, or - for stdout")
		return func(ctx context.Context, args []string) error {
			if len(args) != 1 || *to == "" {
				return misuse("share export needs a key and --to")
			}
			return c.exportShare(ctx, args[0], *address, *to)
		}
	},
}

var shareImport = command{
	name: "import", args: "FILE…", brief: "check shares from a backup and copy them into the home",
	about: `
Checks shares from a backup and copies them into the home directory.

  $ conclave share import /mnt/backup/*.json
  good        share of part 2 of key treasury
  …`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return misuse("share import needs the files of shares")
			}
			return c.importShares(ctx, args)
		}
	},
}

func (c *cli) shares() (*dirstore.Store, error) {
	dir, err := c.homeDir()
	if err != nil {
		return nil, err
	}
	return dirstore.Open(dir)
}

// ownShares returns the store with a list of its shares.
func (c *cli) ownShares(ctx context.Context) (*dirstore.Store, []share.Public, error) {
	store, err := c.shares()
	if err != nil {
		return nil, nil, err
	}
	list, err := store.List(ctx)
	return store, list, err
}

func (c *cli) listShares(ctx context.Context) error {
	_, list, err := c.ownShares(ctx)
	if err != nil {
		return err
	}
	if c.asJSON {
		return c.print(append([]share.Public{}, list...))
	}
	if len(list) == 0 {
		c.console.say("no shares here yet")
		return nil
	}
	return table(c.stdout, "KEY\tPART\tOWNER\tCURVE\tOF\tADDRESS\tCREATED", func(row func(...any)) {
		for _, s := range list {
			row(s.KeyID, s.PartIndex, s.User, s.Curve, fmt.Sprintf("%d/%d", s.Threshold, s.TotalParts), s.AccountAddr, when(s.Created))
		}
	})
}

// readShare reads a share from a file or, if there is no such file, that of a key in
// the home directory.
func (c *cli) readShare(ctx context.Context, arg, address string) (string, error) {
	text, err := readShareFile(arg)
	if !errors.Is(err, fs.ErrNotExist) || strings.ContainsRune(arg, filepath.Separator) {
		return text, err
	}
	store, err := c.shares()
	if err != nil {
		return "", err
	}
	text, err = store.Get(ctx, arg, address)
	if errors.Is(err, participant.ErrNoShare) {
		return "", fmt.Errorf("%s is neither a file nor a key with a share in the home directory", arg)
	}
	return text, err
}

// readShareFile reads a sealed share; it is no secret.
func readShareFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}

// checked is the result of checking a share.
type checked struct {
	Good bool `json:"good"`
	share.Public
	Fingerprint string `json:"fingerprint"`
}

func (c *cli) checkShares(ctx context.Context, identity, address string, args []string) error {
	texts, args, err := c.sharesToCheck(ctx, address, args)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return errors.New("no shares here to check")
	}
	id, err := c.identityToCheckWith(identity)
	if err != nil {
		return err
	}
	good, bad := []checked{}, error(nil)
	for _, arg := range args {
		public, err := participant.CheckShare(texts[arg], id)
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("bad: %s: %w", arg, err))
			continue
		}
		good = append(good, checked{true, public, id.Public().Fingerprint()})
	}
	return errors.Join(c.printChecked(good), bad)
}

// sharesToCheck returns the named shares, or all in the home directory, with their
// labels.
func (c *cli) sharesToCheck(ctx context.Context, address string, args []string) (texts map[string]string, names []string, err error) {
	texts = map[string]string{}
	for _, arg := range args {
		if texts[arg], err = c.readShare(ctx, arg, address); err != nil {
			return nil, nil, err
		}
	}
	if len(args) > 0 {
		return texts, args, nil
	}
	store, list, err := c.ownShares(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range list {
		name := "the share of key " + s.KeyID + " with address " + s.AccountAddr
		if texts[name], err = store.Get(ctx, s.KeyID, s.AccountAddr); err != nil {
			return nil, nil, err
		}
		names = append(names, name)
	}
	return texts, names, nil
}

// identityToCheckWith returns an existing identity: no share is sealed to a new one.
func (c *cli) identityToCheckWith(path string) (*identity.Identity, error) {
	if path == "" {
		var err error
		if path, err = c.path(identityFile); err != nil {
			return nil, err
		}
	}
	return dirstore.ReadIdentity(path, func(bool) ([]byte, error) { return c.passphrase(path, c.passphraseSource()) })
}

func (c *cli) printChecked(list []checked) error {
	if c.asJSON {
		return c.print(list)
	}
	for _, s := range list {
		users := make([]string, len(s.Parties))
		for i, m := range s.Parties {
			users[i] = m.User
		}
		err := c.print(nil, [2]string{"good", fmt.Sprintf("share of part %d of key %s", s.PartIndex, s.KeyID)},
			[2]string{"owner", s.User}, [2]string{"identity", s.Fingerprint},
			[2]string{"signing", fmt.Sprintf("%d of %d: %s", s.Threshold, s.TotalParts, strings.Join(users, ", "))},
			[2]string{"curve", string(s.Curve)}, [2]string{"address", s.AccountAddr}, [2]string{"public key", s.PublicKey},
			[2]string{"created", when(s.Created)})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) exportShare(ctx context.Context, keyID, address, to string) error {
	store, err := c.shares()
	if err != nil {
		return err
	}
	text, err := store.Get(ctx, keyID, address)
	if err != nil {
		return fmt.Errorf("key %s: %w", keyID, err)
	}
	if to == "-" {
		_, err := fmt.Fprintln(c.stdout, text)
		return err
	}
	if err := secret.CreateFile(to, []byte(text+"\n")); err != nil {
		return fmt.Errorf("export share: %w", err)
	}
	path, err := c.path(identityFile)
	if err != nil {
		return err
	}
	if err := c.exported(text, to); err != nil {
		return fmt.Errorf("%s was written, but not recorded: %w", to, err)
	}
	c.console.say("wrote %s; it opens with %s only, so keep a copy of that too", to, path)
	return nil
}

// exported records a backup.
func (c *cli) exported(text, to string) error {
	public, err := share.ParsePublic(text)
	if err != nil {
		return err
	}
	file, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	return c.noteBackup(backup{KeyID: public.KeyID, AccountAddr: public.AccountAddr, File: file, At: time.Now().UTC().Truncate(time.Second)})
}

func (c *cli) importShares(ctx context.Context, files []string) error {
	id, err := c.identityToCheckWith("")
	if err != nil {
		return err
	}
	store, err := c.shares()
	if err != nil {
		return err
	}
	var good []checked
	for _, file := range files {
		text, err := readShareFile(file)
		if err != nil {
			return err
		}
		public, err := participant.RestoreShare(ctx, store, text, id)
		if err != nil {
			return fmt.Errorf("%s was not imported: %w", file, err)
		}
		good = append(good, checked{true, public, id.Public().Fingerprint()})
	}
	return c.printChecked(good)
}
