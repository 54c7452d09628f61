package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var loginCommand = command{
	name: "login", args: "[URL[,URL…] USER]",
	brief: "log in and store the login; the password is read from the terminal or stdin",
	about: `
Logs in and stores the URLs, the tokens and --ca for the other commands. The password
is never stored. It is read from the terminal without echo, or from the first line
of stdin:

  $ conclave login https://conclave.example alice
  conclave: password for alice:
  conclave: logged in as alice (coordinator) until 2026-03-01 20:15
  $ conclave login http://127.0.0.1:8080 alice < password.txt

Every command renews the login; a login that is not used for some weeks expires.
conclave logout ends it. Without URL and USER, the servers and the user of the last
login or of a restored backup are used. With --profile NAME the login is stored in
that profile, beside other logins: see conclave profile -h.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.localFlags(flags)
		c.caFlag(flags)
		return c.login
	},
}

func (c *cli) login(ctx context.Context, args []string) error {
	urls, user, ca, err := c.whereToLogIn(args)
	if err != nil {
		return err
	}
	secure, err := trusting(ca)
	if err != nil {
		return err
	}
	api, err := rest.New(rest.Config{URLs: urls, TLS: secure, Token: rest.StaticToken(c.earlier(urls, user)), OnAnswer: c.reach.reached})
	if err != nil {
		return misuse("%s", err)
	}
	defer api.Close()
	password, err := c.password(user)
	if err != nil {
		return err
	}
	c.reach.seek(urls)
	t, err := api.LoginRenewable(ctx, user, password, loginLabel())
	if err != nil {
		return fmt.Errorf("log in as %s: %w", user, err)
	}
	path, err := c.path(profileFile)
	if err != nil {
		return err
	}
	if err := writeJSON(path, profile{URLs: urls, CA: ca}.with(t)); err != nil {
		return fmt.Errorf("remember login: %w", err)
	}
	c.console.say("logged in as %s (%s) until %s", clean(t.UserID), clean(rolesText(t.Roles)), t.ExpiresAt.Local().Format("2006-01-02 15:04"))
	if t.Refresh != "" {
		c.console.say("every command renews the login; if unused, it expires on %s", t.RefreshUntil.Local().Format("2006-01-02 15:04"))
	}
	if !c.asJSON {
		return nil
	}
	return c.print(struct {
		User      string      `json:"user_id"`
		Roles     []wire.Role `json:"roles"`
		ExpiresAt time.Time   `json:"expires_at"`
	}{t.UserID, t.Roles, t.ExpiresAt})
}

// whereToLogIn returns the servers, user and authorities that the arguments name, or
// without any those of the last login.
func (c *cli) whereToLogIn(args []string) (urls []string, user, ca string, err error) {
	if ca, err = c.caGiven(); err != nil {
		return nil, "", "", err
	}
	switch len(args) {
	case 0:
		p, err := c.profile()
		if err == nil && (len(p.URLs) == 0 || p.User == "") {
			err = misuse("login needs a URL and a user: there is no earlier login in this home")
		}
		if ca == "" {
			ca = p.CA
		}
		return p.URLs, p.User, ca, err
	case 2:
		return splitList(args[0]), args[1], ca, nil
	}
	return nil, "", "", misuse("login needs a URL and a user")
}

// loginLabel names this machine in lists of logins.
func loginLabel() string {
	host, err := os.Hostname()
	if err != nil || len(host) > 48 {
		return "conclave"
	}
	return "conclave on " + host
}

// earlier returns the token of this profile's last login, of any age, if it was the
// same user's at the same servers: the token is shown to no others.
func (c *cli) earlier(urls []string, user string) string {
	p, err := c.profile()
	if err != nil || p.User != user || !slices.Equal(p.URLs, urls) {
		return ""
	}
	return p.Token
}

// maxPasswordLine is far more than a password may have.
const maxPasswordLine = 64 << 10

// password asks for a password on a terminal, or reads a line.
func (c *cli) password(user string) (string, error) {
	if c.onTerminal() {
		text, err := c.askHidden("password for " + user)
		return string(text), err
	}
	line, err := bufio.NewReader(io.LimitReader(c.stdin, maxPasswordLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("no password: there is no terminal, and stdin is empty")
	}
	return line, nil
}
