// Conclaved runs one node of a Conclave cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cmd/internal/proc"
	"github.com/conclave-mpc/conclave/cmd/internal/spell"
)

const usage = `Conclaved runs one node of a Conclave cluster.

Usage:
    conclaved [flags]                        serve
    conclaved user add NAME --role ROLE      add an account
    conclaved user roles NAME --role ROLE    replace its roles, and revoke its tokens
    conclaved user passwd NAME               set a new password, and revoke its tokens
    conclaved user disable|enable NAME       disable it and revoke its tokens, or enable it
    conclaved user remove NAME               remove it, and revoke its tokens
    conclaved user list [--json]             list the accounts
    conclaved health [flags]                 check whether the node with these flags is ready

Passwords are read from the terminal without echo, or from the first line
of standard input.

Each flag has an environment variable, CONCLAVE_ and its name in capitals
(--jwt-secret is CONCLAVE_JWT_SECRET); flags override it. All nodes of a cluster share
the same Redis and the same secrets.

Example:
    $ export CONCLAVE_JWT_SECRET=$(openssl rand -hex 32)
    $ echo "correct horse battery" | conclaved user add alice --role coordinator
    account alice added (coordinator)
    $ conclaved --listen 127.0.0.1:8081 --redis redis://127.0.0.1:6379/0

Flags:
`

// Log lines of several nodes are ordered by their times.
func init() { zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000000Z07:00" }

func main() {
	if err := proc.HideMemory(); err != nil {
		fmt.Fprintf(os.Stderr, "conclaved: a crash may leave secrets in a core dump: %s\n", err)
	}
	os.Exit(run(os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit status, 0 for a clean end, 1
// for a failure, 2 for a misuse.
func run(args []string, env func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "user":
		err = user(args[1:], env, stdin, stdout, stderr)
	case "health":
		err = health(args[1:], env, stdout, stderr)
	default:
		err = serve(args, env, stdout, stderr)
	}
	var misuse *usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &misuse):
		fmt.Fprintf(stderr, "conclaved: %s\nconclaved: see conclaved --help\n", err)
		return 2
	}
	fmt.Fprintf(stderr, "conclaved: %s\n", err)
	return 1
}

// usageError is a misuse of the command line or the environment.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func misuse(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

func serve(args []string, env func(string) (string, bool), stdout, stderr io.Writer) error {
	o := newOptions(stderr)
	if err := o.parse(args, env); err != nil {
		return err
	}
	if o.version {
		fmt.Fprintln(stdout, node.Version)
		return nil
	}
	if o.flags.NArg() > 0 {
		if like := spell.Nearest(o.flags.Arg(0), []string{"user", "health"}); like != "" {
			return misuse("unexpected argument %q; did you mean conclaved %s?", o.flags.Arg(0), like)
		}
		return misuse("unexpected argument %q", o.flags.Arg(0))
	}
	cfg, err := o.config()
	if err != nil {
		return err
	}
	level, err := zerolog.ParseLevel(o.logLevel)
	if err != nil || o.logLevel == "" {
		return misuse("log level %q: must be debug, info, warn or error", o.logLevel)
	}
	log := zerolog.New(stderr).Level(level).With().Timestamp().Logger()
	cfg.Log = &log
	for _, stranger := range spell.Strangers(os.Environ()) {
		log.Warn().Msg(stranger.String())
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	go newMemory().tend(ctx)
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	return n.Run(ctx)
}
