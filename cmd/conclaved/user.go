package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/term"

	"github.com/conclave-mpc/conclave/cluster/node"
)

// user is "conclaved user …".
func user(args []string, env func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) error {
	o := newOptions(stderr) // the daemon's own, so that its environment may be used as it is
	roles := o.flags.String("role", "", "`roles` of the account, separated by commas: coordinator, participant, admin")
	replace := o.flags.Bool("replace", false, "set the password and roles of an account that exists")
	if len(args) == 0 || args[0] != "add" {
		return misuse("user: want: conclaved user add NAME --role ROLE")
	}
	// The name may stand before or after the flags.
	args = args[1:]
	name := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	if err := o.parse(args, env); err != nil {
		return err
	}
	if name == "" {
		name = o.flags.Arg(0)
	}
	if name == "" || *roles == "" {
		return misuse("user add: want a name and --role")
	}
	password, err := readPassword(stdin, stderr)
	if err != nil {
		return fmt.Errorf("read password: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := node.AddUser(ctx, o.cfg, name, password, strings.Split(*roles, ","), *replace); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "account %s added (%s)\n", name, *roles)
	return nil
}

// readPassword reads one line, without echo from a terminal.
func readPassword(stdin io.Reader, stderr io.Writer) (string, error) {
	if f, ok := stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(stderr, "password: ")
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(stderr)
		return string(line), err
	}
	line, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
