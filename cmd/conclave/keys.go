package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

var keysCommand = command{
	name: "keys", args: "[KEY]",
	brief: "list your keys, or show one",
	about: `
Lists the keys that you requested or hold a share of, newest first. An admin sees
all keys. With a KEY it is the same as conclave keys show KEY.

  $ conclave keys
  KEY          STATUS  CURVE      OF   ADDRESS                                     CREATED
  key-7GZ5XQ…  active  secp256k1  2/3  0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F  2026-03-01 12:00:00`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		list := listAction(c, flags, (*cli).listKeys)
		return func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return list(ctx, args)
			}
			return c.withAPI(args, func(api *rest.Client) error { return c.showKey(ctx, api, args[0]) })
		}
	},
	subs: []command{keysList, keysShow},
}

var keysList = command{
	name: "list", brief: "list your keys",
	about: `
Lists the keys that you requested or hold a share of, newest first. An admin sees
all keys.

  $ conclave keys list --limit 1
  KEY          STATUS  CURVE      OF   ADDRESS                                     CREATED
  key-7GZ5XQ…  active  secp256k1  2/3  0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F  2026-03-01 12:00:00`,
	setup: func(c *cli, flags *flag.FlagSet) action { return listAction(c, flags, (*cli).listKeys) },
}

var keysShow = command{
	name: "show", args: "KEY", brief: "show a key, its committee, and the share in this home",
	about: `
Shows a key, its committee, the share of it in this home, and the copies of that
share made with conclave share export.

  $ conclave keys show treasury
  key         treasury
  status      active
  curve       secp256k1
  address     0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
  public key  0x03…
  attested    by bob (pinned), carol (pinned), dave (pinned)
  signing     2 of 3: bob, carol, dave
  epoch       2, certified by the new committee, with the consent of bob, carol
  lineage     1: 2 of 3: bob, carol, dave (generated)
              2: 2 of 3: bob, carol, dave
  share       part 1, of bob, is here
  backup      /mnt/backup/treasury.json of 2026-03-01 12:05:00, as it should be
  …

It fails if the address from the server differs from the address recorded when the
key was created from this home, or from the address in the share.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return misuse("keys show needs a key")
			}
			return c.withAPI(args, func(api *rest.Client) error { return c.showKey(ctx, api, args[0]) })
		}
	},
}

func (c *cli) listKeys(ctx context.Context, api *rest.Client, limit int) error {
	keys, err := pages(ctx, limit, api.Keys)
	if err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	if c.asJSON {
		return c.print(keys)
	}
	if len(keys) == 0 {
		c.console.say("no keys yet; create one with conclave keygen")
		return nil
	}
	return table(c.stdout, "KEY\tSTATUS\tCURVE\tOF\tADDRESS\tCREATED", func(row func(...any)) {
		for _, k := range keys {
			row(k.KeyID, k.Status, k.Curve, fmt.Sprintf("%d/%d", k.Threshold, k.TotalParts), k.AccountAddr, when(k.CreatedAt))
		}
	})
}

// shownKey is a key as the servers report it, with this home's data.
type shownKey struct {
	rest.KeyInfo
	Shares  []share.Public `json:"shares_here"`
	Backups []backup       `json:"backups,omitempty"`
}

func (c *cli) showKey(ctx context.Context, api *rest.Client, id string) error {
	k, err := api.Key(ctx, id)
	if err != nil {
		return fmt.Errorf("key %s: %w", id, err)
	}
	by, epochs := "", [][2]string(nil)
	if k.AccountAddr != "" && !c.asJSON {
		who, lineage, err := c.checkEpoch(ctx, api, k, false)
		if err != nil {
			return err
		}
		by, epochs = c.attested(who), lineageRows(lineage)
	}
	here := shownKey{KeyInfo: k, Shares: []share.Public{}}
	store, list, err := c.ownShares(ctx)
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.KeyID == k.KeyID {
			here.Shares = append(here.Shares, s)
		}
	}
	if here.Backups, err = c.backupsOf(ctx, store, k.KeyID); err != nil {
		return err
	}
	rows := [][2]string{
		{"key", k.KeyID}, {"status", k.Status}, {"curve", k.Curve}, {"address", k.AccountAddr}, {"public key", k.PublicKey},
		{"attested", by}, {"signing", fmt.Sprintf("%d of %d: %s", k.Threshold, k.TotalParts, strings.Join(k.Participants, ", "))},
	}
	rows = append(append(rows, epochs...), here.rows()...)
	rows = append(rows, [2]string{"coordinator", k.Coordinator}, [2]string{"created", when(k.CreatedAt)}, [2]string{"session", k.SessionID})
	return errors.Join(c.print(here, rows...), c.contradicted(here))
}

// rows returns the rows of this home's data.
func (k shownKey) rows() (rows [][2]string) {
	for _, s := range k.Shares {
		text := fmt.Sprintf("part %d, of %s, is here", s.PartIndex, s.User)
		if s.AccountAddr != k.AccountAddr {
			text += ", of another key with address " + s.AccountAddr
		}
		rows = append(rows, [2]string{"share", text})
	}
	for _, b := range k.Backups {
		rows = append(rows, [2]string{"backup", fmt.Sprintf("%s of %s, %s", b.File, when(b.At), b.State)})
	}
	switch {
	case len(k.Shares) == 0:
		rows = append(rows, [2]string{"share", "none in this home"})
	case len(k.Backups) == 0:
		rows = append(rows, [2]string{"backup", "none made from this home: conclave backup create --to FILE"})
	}
	return rows
}

// contradicted checks the servers' record of a key against this home's.
func (c *cli) contradicted(k shownKey) error {
	known, err := c.known()
	if err != nil {
		return err
	}
	if made := known[k.KeyID]; made != "" && made != k.AccountAddr {
		return fmt.Errorf("key %s had the address %s when it was created from this home, the server reports another", k.KeyID, made)
	}
	same := func(s share.Public) bool { return s.AccountAddr == k.AccountAddr }
	if len(k.Shares) > 0 && k.Status == "active" && !slices.ContainsFunc(k.Shares, same) {
		return fmt.Errorf("the share of key %s in this home has another address than the server reports", k.KeyID)
	}
	return nil
}

const backupsFile = "backups.json"

// backup is a copy of a share that was made from here.
type backup struct {
	KeyID       string    `json:"key_id"`
	AccountAddr string    `json:"account_addr"`
	File        string    `json:"file"`
	At          time.Time `json:"at"`
	Sum         string    `json:"sha256,omitempty"` // of the file, hex, if it holds more than the share
	State       string    `json:"state,omitempty"`  // not kept: how the file is now
}

func (c *cli) backups() (list []backup, path string, err error) {
	if path, err = c.path(backupsFile); err != nil {
		return nil, "", err
	}
	return list, path, readJSON(path, &list)
}

// noteBackup records where a share was exported to.
func (c *cli) noteBackup(b backup) error {
	list, path, err := c.backups()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(old backup) bool {
		return old.File == b.File && (b.Sum == "" || old.Sum != b.Sum || old.KeyID == b.KeyID && old.AccountAddr == b.AccountAddr)
	})
	return writeJSON(path, append(list, b))
}

func sumOfFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// backupsOf returns a key's backups, with the current state of their files.
func (c *cli) backupsOf(ctx context.Context, store *dirstore.Store, keyID string) ([]backup, error) {
	all, _, err := c.backups()
	if err != nil {
		return nil, err
	}
	var list []backup
	for _, b := range all {
		if b.KeyID != keyID {
			continue
		}
		share, err := store.Get(ctx, b.KeyID, b.AccountAddr)
		if err != nil && !errors.Is(err, participant.ErrNoShare) {
			return nil, err
		}
		text, err := readShareFile(b.File)
		if b.Sum != "" && err == nil {
			text, err = sumOfFile(b.File)
			share = b.Sum
		}
		switch {
		case errors.Is(err, os.ErrNotExist):
			b.State = "not there now"
		case err != nil:
			b.State = "cannot be read now"
		case share == "":
			b.State = "there, but the share is not here any more"
		case text != share:
			b.State = "CHANGED since"
		default:
			b.State = "as it should be"
		}
		list = append(list, b)
	}
	return list, nil
}
