package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cmd/internal/spell"
)

// maxPasswordLine is far more than a password may have.
const maxPasswordLine = 64 << 10

const userSynopsis = "want: conclaved user add|roles|passwd|disable|enable|remove NAME, or user list"

// userCommand is one "conclaved user …" with its flags read.
type userCommand struct {
	*options
	roles   string
	replace bool
	asJSON  bool

	name           string // of the account
	stdin          io.Reader
	stdout, stderr io.Writer
}

// user is "conclaved user …".
func user(args []string, env func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) error {
	do := map[string]func(*userCommand, context.Context) error{
		"add": (*userCommand).add, "passwd": (*userCommand).passwd, "disable": (*userCommand).disable,
		"enable": (*userCommand).enable, "list": (*userCommand).list, "roles": (*userCommand).setRoles, "remove": (*userCommand).remove,
	}
	if len(args) == 0 || do[args[0]] == nil {
		if len(args) > 0 {
			if like := spell.Nearest(args[0], slices.Sorted(maps.Keys(do))); like != "" {
				return misuse("user: did you mean conclaved user %s? %s", like, userSynopsis)
			}
		}
		return misuse("user: %s", userSynopsis)
	}
	for _, stranger := range spell.Strangers(os.Environ()) {
		fmt.Fprintf(stderr, "conclaved: %s\n", stranger)
	}
	verb, args := args[0], args[1:]
	// The daemon's own flags too, so that its environment can be used unchanged.
	u := &userCommand{options: newOptions(stderr), stdin: stdin, stdout: stdout, stderr: stderr}
	switch verb {
	case "add":
		u.flags.StringVar(&u.roles, "role", "", "`roles` of the account, separated by commas: coordinator, participant, admin")
		u.flags.BoolVar(&u.replace, "replace", false, "replace the password and roles of an existing account, and revoke its tokens")
	case "roles":
		u.flags.StringVar(&u.roles, "role", "", "`roles` of the account, separated by commas: coordinator, participant, admin")
	case "list":
		u.flags.BoolVar(&u.asJSON, "json", false, "print the accounts as JSON")
	}
	// The name may stand before or after the flags.
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		u.name, args = args[0], args[1:]
	}
	if err := u.parse(args, env); err != nil {
		return err
	}
	rest := u.flags.Args()
	if u.name == "" && len(rest) > 0 {
		u.name, rest = rest[0], rest[1:]
	}
	switch {
	case len(rest) > 0:
		return misuse("user %s: unexpected argument", verb) // it may be a password
	case verb == "list" && u.name != "":
		return misuse("user list: unexpected argument")
	case (verb == "add" || verb == "roles") && (u.name == "" || u.roles == ""):
		return misuse("user %s: want a name and --role", verb)
	case verb != "list" && u.name == "":
		return misuse("user %s: want a name", verb)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return do[verb](u, ctx)
}

func (u *userCommand) add(ctx context.Context) error {
	password, err := u.newPassword()
	if err != nil {
		return err
	}
	if err := node.AddUser(ctx, u.cfg, u.name, password, strings.Split(u.roles, ","), u.replace); err != nil {
		return err
	}
	fmt.Fprintf(u.stdout, "account %s added (%s)\n", u.name, u.roles)
	return nil
}

func (u *userCommand) setRoles(ctx context.Context) error {
	if err := node.SetUserRoles(ctx, u.cfg, u.name, strings.Split(u.roles, ",")); err != nil {
		return err
	}
	fmt.Fprintf(u.stdout, "account %s is %s, its tokens are revoked\n", u.name, u.roles)
	return nil
}

func (u *userCommand) remove(ctx context.Context) error {
	if err := node.RemoveUser(ctx, u.cfg, u.name); err != nil {
		return err
	}
	fmt.Fprintf(u.stdout, "account %s removed, its tokens are revoked\n", u.name)
	return nil
}

func (u *userCommand) passwd(ctx context.Context) error {
	password, err := u.newPassword()
	if err != nil {
		return err
	}
	if err := node.SetUserPassword(ctx, u.cfg, u.name, password); err != nil {
		return err
	}
	fmt.Fprintf(u.stdout, "account %s has a new password, its tokens are revoked\n", u.name)
	return nil
}

func (u *userCommand) disable(ctx context.Context) error {
	if err := node.SetUserDisabled(ctx, u.cfg, u.name, true); err != nil {
		return err
	}
	fmt.Fprintf(u.stdout, "account %s disabled, its tokens are revoked\n", u.name)
	return nil
}

func (u *userCommand) enable(ctx context.Context) error {
	if err := node.SetUserDisabled(ctx, u.cfg, u.name, false); err != nil {
		return err
	}
	fmt.Fprintf(u.stdout, "account %s enabled\n", u.name)
	return nil
}

func (u *userCommand) list(ctx context.Context) error {
	accounts, err := node.ListUsers(ctx, u.cfg)
	if err != nil {
		return err
	}
	type row struct {
		User      string    `json:"user"`
		Roles     []string  `json:"roles"`
		Disabled  bool      `json:"disabled"`
		CreatedAt time.Time `json:"created_at"`
	}
	rows := []row{}
	for _, a := range accounts {
		r := row{User: a.User, Roles: []string{}, Disabled: a.Disabled, CreatedAt: a.CreatedAt}
		for _, role := range a.Roles {
			r.Roles = append(r.Roles, string(role))
		}
		slices.Sort(r.Roles)
		rows = append(rows, r)
	}
	if u.asJSON {
		return json.NewEncoder(u.stdout).Encode(rows)
	}
	table := tabwriter.NewWriter(u.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "USER\tROLES\tSTATE\tCREATED")
	for _, r := range rows {
		state := "enabled"
		if r.Disabled {
			state = "disabled"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.User, strings.Join(r.Roles, ","), state, r.CreatedAt.Format(time.RFC3339))
	}
	return table.Flush()
}

// newPassword asks for a password twice on a terminal, without echo, or reads a
// line.
func (u *userCommand) newPassword() (string, error) {
	f, ok := u.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(u.stdin, maxPasswordLine)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	var typed [2]string
	for i, prompt := range []string{"new password: ", "again: "} {
		fmt.Fprint(u.stderr, prompt)
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(u.stderr)
		if err != nil {
			return "", fmt.Errorf("read password: %w", err)
		}
		typed[i] = string(line)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ")
	}
	return typed[0], nil
}
