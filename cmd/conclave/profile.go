package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/secret"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A profile is a directory with the same files as the home directory: login,
// identity, shares, and pinned identities. Profiles are separate because users and
// keys of different clusters may have the same names. The home directory is the
// profile "default"; others are below it in profiles/NAME. The file current-profile
// names the profile that is used by default.
const (
	profileFile    = "profile.json"
	profilesDir    = "profiles"
	currentFile    = "current-profile"
	defaultProfile = "default"
)

// profile is the record of a login. It never contains a password.
type profile struct {
	URLs      []string    `json:"urls"`
	CA        string      `json:"ca,omitempty"` // file of the authorities to trust
	User      string      `json:"user_id"`
	Roles     []wire.Role `json:"roles"`
	Token     string      `json:"token"`
	ExpiresAt time.Time   `json:"expires_at"`

	// For renewing the token; empty if it cannot be renewed.
	Refresh      string    `json:"refresh_token,omitempty"`
	RefreshUntil time.Time `json:"refresh_expires_at,omitzero"`
	ReceivedAt   time.Time `json:"received_at,omitzero"`
	Seed         string    `json:"renewal_seed,omitempty"`
}

// token is the profile's token, for package client.
func (p profile) token() rest.Token {
	return rest.Token{
		Secret: p.Token, ExpiresAt: p.ExpiresAt, UserID: p.User, Roles: p.Roles,
		Refresh: p.Refresh, RefreshUntil: p.RefreshUntil, ReceivedAt: p.ReceivedAt, Seed: p.Seed,
	}
}

// with returns the profile with another token.
func (p profile) with(t rest.Token) profile {
	p.Token, p.ExpiresAt, p.User, p.Roles = t.Secret, t.ExpiresAt, t.UserID, t.Roles
	p.Refresh, p.RefreshUntil, p.ReceivedAt, p.Seed = t.Refresh, t.RefreshUntil, t.ReceivedAt, t.Seed
	return p
}

var profileCommand = command{
	name:  "profile",
	brief: "manage several logins, each with its own identity and shares; needs no server",
	about: `
A profile is a login with its own identity, shares and pins, for a user of two
clusters or two users of one cluster. It replaces --url and --home on every command.

  $ conclave login --profile staging https://staging.example alice
  conclave: password for alice:
  conclave: logged in as alice (coordinator) until 2026-03-01 20:15
  $ conclave keys --profile staging
  $ conclave profile use staging
  conclave: commands use the profile staging from now on
  $ conclave profile list
     NAME     USER   SERVERS                   LOGIN UNTIL
     default  alice  https://conclave.example  2026-03-01 20:15:00
  *  staging  alice  https://staging.example   2026-03-01 20:15:00

Logging in creates a profile; the home directory itself is the profile "default".
--profile overrides CONCLAVE_PROFILE, which overrides "profile use". The files are
private (mode 0600) and contain no passwords.`,
	subs: []command{profileList, profileUse, profileShow},
}

var profileList = command{
	name: "list", brief: "list the profiles of the home directory",
	about: `
Lists the profiles. A star marks the active profile.

  $ conclave profile list
     NAME     USER   SERVERS                   LOGIN UNTIL
  *  default  alice  https://conclave.example  2026-03-01 20:15:00`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(_ context.Context, args []string) error {
			if len(args) > 0 {
				return misuse("profile list takes no arguments")
			}
			return c.listProfiles()
		}
	},
}

var profileUse = command{
	name: "use", args: "NAME", brief: "set the default profile",
	about: `
Sets the profile that commands use if neither --profile nor CONCLAVE_PROFILE names
one.

  $ conclave profile use staging
  conclave: commands use the profile staging from now on
  $ conclave profile use default`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(_ context.Context, args []string) error {
			if len(args) != 1 {
				return misuse("profile use needs the name of a profile")
			}
			return c.useProfile(args[0])
		}
	},
}

var profileShow = command{
	name: "show", args: "[NAME]", brief: "show a profile, without its token",
	about: `
Shows the servers, the user and the expiry of a profile's login. The token is not
shown.

  $ conclave profile show
  profile     default
  servers     https://conclave.example
  user        alice (coordinator)
  until       2026-03-01 20:15:00
  directory   /home/alice/.conclave`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		return func(_ context.Context, args []string) error {
			if len(args) > 1 {
				return misuse("profile show needs at most one name")
			}
			name, err := c.currentProfile()
			if len(args) == 1 {
				name, err = args[0], nil
			}
			if err != nil {
				return err
			}
			return c.showProfile(name)
		}
	},
}

// baseDir returns the home directory: that of the profile "default".
func (c *cli) baseDir() (string, error) {
	if c.home != "" {
		return c.home, nil
	}
	if dir := c.env("CONCLAVE_HOME"); dir != "" {
		return dir, nil
	}
	if dir := c.env("HOME"); dir != "" {
		return filepath.Join(dir, ".conclave"), nil
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the home directory: %w; set CONCLAVE_HOME", err)
	}
	return filepath.Join(dir, ".conclave"), nil
}

// homeDir returns the directory of the profile in use. It need not exist.
func (c *cli) homeDir() (string, error) {
	name, err := c.currentProfile()
	if err != nil {
		return "", err
	}
	return c.profileDir(name)
}

var profileNames = regexp.MustCompile(`^[A-Za-z0-9_@-][A-Za-z0-9_.@-]{0,63}$`)

// profileDir returns the directory of a profile.
func (c *cli) profileDir(name string) (string, error) {
	base, err := c.baseDir()
	switch {
	case err != nil || name == defaultProfile:
		return base, err
	case !profileNames.MatchString(name):
		return "", misuse("%q is not a valid profile name: use up to 64 ASCII letters, digits and _ . @ -", name)
	}
	return filepath.Join(base, profilesDir, name), nil
}

// currentProfile returns the name of the profile in use.
func (c *cli) currentProfile() (string, error) {
	for _, name := range []string{c.profileName, c.env("CONCLAVE_PROFILE")} {
		if name != "" {
			return name, nil
		}
	}
	base, err := c.baseDir()
	if err != nil {
		return "", err
	}
	text, err := secret.ReadFile(filepath.Join(base, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return defaultProfile, nil
	}
	return strings.TrimSpace(string(text)), err
}

// profile returns the record of the login; the zero profile if there was none.
func (c *cli) profile() (profile, error) {
	name, err := c.currentProfile()
	if err != nil {
		return profile{}, err
	}
	return c.readProfile(name)
}

func (c *cli) readProfile(name string) (p profile, err error) {
	dir, err := c.profileDir(name)
	if err != nil {
		return p, err
	}
	return p, readJSON(filepath.Join(dir, profileFile), &p)
}

// shownProfile is a profile without its token.
type shownProfile struct {
	Name      string      `json:"name"`
	Current   bool        `json:"current"`
	URLs      []string    `json:"urls"`
	User      string      `json:"user_id"`
	Roles     []wire.Role `json:"roles"`
	ExpiresAt time.Time   `json:"expires_at,omitzero"`
	Directory string      `json:"directory"`
}

func (c *cli) shown(name string) (shownProfile, error) {
	current, err := c.currentProfile()
	if err != nil {
		return shownProfile{}, err
	}
	dir, err := c.profileDir(name)
	if err != nil {
		return shownProfile{}, err
	}
	if _, err := os.Stat(dir); name != defaultProfile && errors.Is(err, fs.ErrNotExist) {
		return shownProfile{}, noProfile(name)
	}
	p, err := c.readProfile(name)
	until := p.ExpiresAt
	if !p.RefreshUntil.IsZero() {
		until = p.RefreshUntil
	}
	return shownProfile{name, name == current, p.URLs, p.User, p.Roles, until, dir}, err
}

func noProfile(name string) error {
	return fmt.Errorf("there is no profile %s; create it with conclave login --profile %s URL USER", name, name)
}

func (c *cli) listProfiles() error {
	base, err := c.baseDir()
	if err != nil {
		return err
	}
	names := []string{defaultProfile}
	entries, err := os.ReadDir(filepath.Join(base, profilesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && profileNames.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	var list []shownProfile
	for _, name := range names {
		p, err := c.shown(name)
		if err != nil {
			return err
		}
		list = append(list, p)
	}
	if c.asJSON {
		return c.print(list)
	}
	return table(c.stdout, " \tNAME\tUSER\tSERVERS\tLOGIN UNTIL", func(row func(...any)) {
		for _, p := range list {
			star := ""
			if p.Current {
				star = "*"
			}
			row(star, p.Name, p.User, strings.Join(p.URLs, ","), when(p.ExpiresAt))
		}
	})
}

func (c *cli) useProfile(name string) error {
	if _, err := c.shown(name); err != nil {
		return err
	}
	base, err := c.baseDir()
	if err == nil {
		err = secret.MakeDir(base)
	}
	if err == nil {
		err = secret.WriteFile(filepath.Join(base, currentFile), []byte(name+"\n"))
	}
	if err != nil {
		return fmt.Errorf("remember the profile: %w", err)
	}
	c.console.say("commands use the profile %s from now on", name)
	if used, err := c.currentProfile(); err == nil && used != name {
		c.console.say("but not now: --profile or CONCLAVE_PROFILE names %s", clean(used))
	}
	return nil
}

func (c *cli) showProfile(name string) error {
	p, err := c.shown(name)
	if err != nil {
		return err
	}
	user := p.User
	if user == "" {
		c.console.say("the profile %s has no login yet", name)
	} else {
		user += " (" + rolesText(p.Roles) + ")"
	}
	until := when(p.ExpiresAt)
	if !p.ExpiresAt.IsZero() && time.Now().After(p.ExpiresAt) {
		until += ", so it has expired"
	}
	return c.print(p, [2]string{"profile", p.Name}, [2]string{"servers", strings.Join(p.URLs, ", ")},
		[2]string{"user", user}, [2]string{"until", until}, [2]string{"directory", p.Directory})
}

func rolesText(roles []wire.Role) string {
	list := make([]string, len(roles))
	for i, r := range roles {
		list[i] = string(r)
	}
	return strings.Join(list, ", ")
}
