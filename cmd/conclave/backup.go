package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/policy"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

var backupCommand = command{
	name: "backup", brief: "back up everything that a participant needs, or restore it; needs no server",
	about: `
Backs up a home directory (or, with --profile, that profile) into one encrypted
file, and restores it.

  $ conclave backup create --passphrase-file key --to /mnt/backup/bob.backup
  file        /mnt/backup/bob.backup
  identity    MPI7M-RPR7R-GCKCC-…
  user        bob
  shares      treasury
  trusted     alice (pinned), carol (first use)
  policy      policy.json
  $ conclave backup restore --passphrase-file key /mnt/backup/bob.backup
  $ conclave login < password
  $ conclave participant --approve ~/.conclave/policy.json

A backup holds the identity, the shares of all epochs with the certificates of their
keys, the trusted and pinned identities, the policy with its counters, the journal,
evidence, the addresses of keys, and the URLs of the servers with their CA
certificates. It does not hold tokens and pre-parameters, which can be used only once.

The passphrase has at least 8 bytes and comes from a private file or the terminal.
If the identity is protected, the backup must use the identity's passphrase, so that
one passphrase opens both. The file is a tar archive encrypted with age: "age -d" and
"tar" open it too.`,
	subs: []command{backupCreate, backupCheck, backupRestore},
}

var backupCreate = command{
	name: "create", args: "--to FILE", brief: "write an encrypted backup to a new file",
	about: `
Checks the identity and every share, and writes a new encrypted backup of everything
that a participant needs. It can run while the participant runs.

  $ conclave backup create --passphrase-file key --to /mnt/backup/bob-$(date +%F).backup
  file        /mnt/backup/bob-2026-03-01.backup
  identity    MPI7M-RPR7R-GCKCC-…
  …

The policy is the one that conclave participant last used in this home, or the file
given with --policy. An approval command (exec:COMMAND) is not included.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		to := flags.String("to", "", "new `file` to write")
		policy := flags.String("policy", "", "policy `FILE.json` to back up (default: the one that conclave participant last used)")
		return func(_ context.Context, args []string) error {
			if len(args) > 0 || *to == "" {
				return misuse("backup create needs --to, and no other arguments")
			}
			return c.createBackup(*to, *policy)
		}
	},
}

var backupCheck = command{
	name: "check", args: "FILE", brief: "open a backup and check its contents, without writing anything",
	about: `
Opens a backup and checks the identity, the policy and every share in it. It
writes nothing.

  $ conclave backup check --passphrase-file key /mnt/backup/bob.backup
  file        /mnt/backup/bob.backup
  identity    MPI7M-RPR7R-GCKCC-…
  …`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(_ context.Context, args []string) error {
			if len(args) != 1 {
				return misuse("backup check needs the file of a backup")
			}
			files, err := c.openBackup(args[0])
			files.clear()
			return err
		}
	},
}

var backupRestore = command{
	name: "restore", args: "FILE", brief: "restore a backup into an empty home directory",
	about: `
Restores a backup into an empty home directory, after checking all of it.

  $ conclave backup restore --passphrase-file key /mnt/backup/bob.backup
  file        /mnt/backup/bob.backup
  identity    MPI7M-RPR7R-GCKCC-…
  …
  $ conclave login < password

Existing files with the same content are kept, so that an interrupted restore can be
repeated. An existing file with other content is an error, and nothing is changed.
Log in afterwards. Never run the restored participant while the original runs.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(_ context.Context, args []string) error {
			if len(args) != 1 {
				return misuse("backup restore needs the file of a backup")
			}
			return c.restoreBackup(args[0])
		}
	},
}

const (
	participantFile = "participant.json"
	policyFile      = "policy.json" // of a backup, and where restore puts it
	authoritiesFile = "ca.pem"      // likewise
)

// participation records how conclave participant was last started here.
type participation struct {
	Approve string `json:"approve"` // as --approve, a policy by its absolute path
}

// noteApproval remembers how requests are approved, for backups.
func (c *cli) noteApproval(how string) error {
	if filepath.Ext(how) == ".json" && !strings.HasPrefix(how, "exec:") {
		var err error
		if how, err = filepath.Abs(how); err != nil {
			return err
		}
	}
	path, err := c.path(participantFile)
	if err != nil {
		return err
	}
	var before participation
	if readJSON(path, &before) == nil && before.Approve == how {
		return nil
	}
	return writeJSON(path, participation{Approve: how})
}

// policyToBackUp returns the path of the policy, "" for none.
func (c *cli) policyToBackUp(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	path, err := c.path(participantFile)
	if err != nil {
		return "", err
	}
	var p participation
	if err := readJSON(path, &p); err != nil {
		return "", err
	}
	if strings.HasPrefix(p.Approve, "exec:") {
		c.console.say("the participant here approves with %s, which is not included in the backup", clean(p.Approve))
		return "", nil
	}
	if filepath.Ext(p.Approve) != ".json" {
		return "", nil
	}
	return p.Approve, nil
}

// backupPassphrase returns the passphrase that a backup is encrypted with.
func (c *cli) backupPassphrase(text []byte) ([]byte, error) {
	switch file := c.passphraseSource(); {
	case file != "":
		return newPassphrase(file)
	case !c.onTerminal():
		return nil, misuse("no terminal to read the passphrase from; give --passphrase-file")
	case text != nil && identity.IsProtected(text):
		return c.askHidden("passphrase of the identity, and so of the backup")
	case text != nil:
		return c.askNewPassphrase()
	}
	return c.askHidden("passphrase of the backup")
}

func (c *cli) createBackup(to, policy string) error {
	files, err := c.collect(policy)
	if err != nil {
		return err
	}
	defer files.clear()
	passphrase, err := c.backupPassphrase(files[identityFile])
	defer clear(passphrase)
	if err != nil {
		return err
	}
	content, err := checkBackup(files, passphrase)
	if err != nil {
		return err
	}
	text, err := files.seal(passphrase)
	if err != nil {
		return fmt.Errorf("encrypt the backup: %w", err)
	}
	if err := secret.CreateFile(to, text); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	if err := c.noteArchive(to, text, content.shares); err != nil {
		return fmt.Errorf("%s was written, but not recorded: %w", to, err)
	}
	return c.printBackup(to, content)
}

// noteArchive records the backup of each share in it, for conclave keys show.
func (c *cli) noteArchive(to string, text []byte, shares []share.Public) error {
	file, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	for _, s := range shares {
		err := c.noteBackup(backup{
			KeyID: s.KeyID, AccountAddr: s.AccountAddr, File: file, At: time.Now().UTC().Truncate(time.Second), Sum: hex.EncodeToString(sum[:]),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// collect reads the files of a backup: the journal and the certificates before the
// shares, so that the shares that they are about are among them.
func (c *cli) collect(policy string) (archive, error) {
	dir, err := c.homeDir()
	if err != nil {
		return nil, err
	}
	identity, err := secret.ReadFile(filepath.Join(dir, identityFile))
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	files := archive{identityFile: identity}
	for _, name := range []string{"journal.log", "known_identities", knownFile, ratesFile} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	for _, name := range []string{"epochs", "shares", "evidence"} {
		if err := files.addDir(dir, name); err != nil {
			return nil, err
		}
	}
	if policy, err = c.policyToBackUp(policy); err != nil {
		return nil, err
	}
	if policy != "" {
		if files[policyFile], err = os.ReadFile(policy); err != nil {
			return nil, fmt.Errorf("read policy: %w; name another with --policy", err)
		}
	}
	return files, c.collectLogin(files)
}

// collectLogin adds the servers, the authorities they are trusted by, and the user
// of the login. It leaves out the tokens: a token would be out of date, and a
// refresh token that is used again ends its login.
func (c *cli) collectLogin(files archive) error {
	p, err := c.profile()
	if err != nil || len(p.URLs) == 0 {
		return err
	}
	if p.CA != "" {
		if files[authoritiesFile], err = os.ReadFile(p.CA); err != nil {
			return fmt.Errorf("read authorities: %w", err)
		}
		p.CA = authoritiesFile
	}
	files[profileFile], err = json.Marshal(profile{URLs: p.URLs, CA: p.CA, User: p.User, Roles: p.Roles})
	return err
}

// openBackup reads a backup, checks its files, and prints a summary of them.
func (c *cli) openBackup(file string) (archive, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	passphrase, err := c.backupPassphrase(nil)
	defer clear(passphrase)
	if err != nil {
		return nil, err
	}
	files, err := openArchive(text, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	content, err := checkBackup(files, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return files, c.printBackup(file, content)
}

func (c *cli) restoreBackup(file string) error {
	files, err := c.openBackup(file)
	if err != nil {
		return err
	}
	defer files.clear()
	dir, err := c.homeDir()
	if err != nil {
		return err
	}
	if err := files.setLogin(dir); err != nil {
		return err
	}
	if err := files.write(dir); err != nil {
		return fmt.Errorf("restore into %s: %w", dir, err)
	}
	next := "conclave login, then conclave participant"
	if files[policyFile] != nil {
		next += " --approve " + filepath.Join(dir, policyFile)
	}
	c.console.say("restored into %s; next: %s", dir, next)
	return nil
}

// content lists the contents of a backup.
type content struct {
	Identity string        `json:"identity"` // fingerprint
	User     string        `json:"user_id,omitempty"`
	URLs     []string      `json:"urls,omitempty"`
	Shares   []string      `json:"shares"` // key ids
	Trusted  []trust.Known `json:"trusted"`
	Policy   bool          `json:"policy"`
	Files    []string      `json:"files"`

	shares []share.Public
}

// checkBackup reports whether files are enough to continue: the identity opens with
// the passphrase, and the files sealed to it are valid.
func checkBackup(files archive, passphrase []byte) (content, error) {
	text, ok := files[identityFile]
	if !ok {
		return content{}, errors.New("it contains no identity")
	}
	id, err := identity.Open(text, passphrase)
	if errors.Is(err, identity.ErrPassphrase) {
		return content{}, fmt.Errorf("the identity is protected by another passphrase, and the backup must use the same: %w", err)
	}
	if err != nil {
		return content{}, fmt.Errorf("identity: %w", err)
	}
	found := content{Identity: id.Public().Fingerprint(), Shares: []string{}, Files: files.names()}
	for _, name := range found.Files {
		if strings.HasPrefix(name, "epochs/") {
			if err := dirstore.CheckEpochFile(files[name]); err != nil {
				return content{}, fmt.Errorf("%s: %w", name, err)
			}
		}
		if !strings.HasPrefix(name, "shares/") {
			continue
		}
		public, err := participant.CheckShare(strings.TrimSpace(string(files[name])), id)
		if err != nil {
			return content{}, fmt.Errorf("%s: %w", name, err)
		}
		found.Shares, found.shares = append(found.Shares, public.KeyID), append(found.shares, public)
	}
	if found.Trusted, err = dirstore.ParseKnown(files["known_identities"]); err != nil {
		return content{}, err
	}
	if rules, ok := files[policyFile]; ok {
		if _, err := policy.Parse(rules, nil); err != nil {
			return content{}, fmt.Errorf("%s: %w", policyFile, err)
		}
		found.Policy = true
	}
	if login, ok := files[profileFile]; ok {
		var p profile
		if err := json.Unmarshal(login, &p); err != nil {
			return content{}, fmt.Errorf("%s is damaged", profileFile)
		}
		found.User, found.URLs = p.User, p.URLs
	}
	return found, nil
}

func (c *cli) printBackup(file string, found content) error {
	trusted := make([]string, len(found.Trusted))
	for i, k := range found.Trusted {
		trusted[i] = fmt.Sprintf("%s (%s)", k.User, trustOf(k.Pinned))
	}
	policy := "none"
	if found.Policy {
		policy = policyFile
	}
	shares := strings.Join(slices.Compact(slices.Clone(found.Shares)), ", ")
	if shares == "" {
		shares = "none yet"
	}
	return c.print(struct {
		File string `json:"file"`
		content
	}{file, found}, [2]string{"file", file}, [2]string{"identity", found.Identity}, [2]string{"user", found.User},
		[2]string{"servers", strings.Join(found.URLs, ", ")}, [2]string{"shares", shares},
		[2]string{"trusted", strings.Join(trusted, ", ")}, [2]string{"policy", policy})
}
