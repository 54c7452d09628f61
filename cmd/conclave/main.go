// Command conclave is for those who hold shares and those who ask for keys and
// signatures. It is a thin skin over package wsconn/client: flags, questions and
// printing.
//
// Results go to stdout, everything else to stderr with "conclave:" before it.
// The exit status is 0 for success, 1 for failure, 2 for a command that was not
// understood, 3 for a keygen or signing of which no outcome has come in time. The
// process leaves no core dump: see package secret.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/conclave-mpc/conclave/wsconn/secret"
)

const usage = `usage: conclave COMMAND [FLAGS] [ARGUMENTS]

  login URL USER          log in and remember it; the password is asked for, or read from stdin
  participant             hold shares, answer invitations, take part in keygens and signings
  keygen USER USER…       make a key whose parts these users hold
  sign KEY --data DATA    sign text, or 0x and hex
  keys [KEY]              list your keys, or show one
  sessions [SESSION]      list your sessions, or show one
  verify                  check a signature, a key's attestations, or evidence; needs no server
  audit verify|export     check, or write out, the record of what the servers decided
  identity                show this client's identity, or protect it with a passphrase; needs no server
  trust                   say whose identities to trust; needs no server
  share VERB              list, check, export or import shares; needs no server
  recover FILE FILE…      rebuild a private key from shares, after a disaster; needs no server

conclave COMMAND -h says more about each.

Example: three participants and a coordinator, each with a home of their own.

  $ conclave login https://conclave.example alice
  conclave: password for alice:
  conclave: logged in as alice (participant) until 2026-03-01 20:15
  $ conclave participant --approve prompt
  conclave: identity QMRQ7-…

  $ conclave keygen --threshold 2 alice bob carol
  key         key-7GZ5XQ…
  curve       secp256k1
  address     0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
  public key  0x03…
  $ conclave sign key-7GZ5XQ… --data "pay bob" -json
`

const (
	exitOK = iota
	exitFailed
	exitUsage
	exitTimeout // what becomes of the request is not known
)

func main() {
	if err := secret.HideMemory(); err != nil {
		fmt.Fprintf(os.Stderr, "conclave: a crash may leave secrets in a core dump: %s\n", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(status)
}

// command is one subcommand. It defines its flags on the set that it is given
// and returns what to do with the arguments that are left.
type command struct {
	synopsis string // after "usage: conclave "
	about    string
	setup    func(c *cli, flags *flag.FlagSet) func(ctx context.Context, args []string) error
}

var commands = map[string]command{
	"login":       loginCommand,
	"participant": participantCommand,
	"keygen":      keygenCommand,
	"sign":        signCommand,
	"keys":        keysCommand,
	"sessions":    sessionsCommand,
	"verify":      verifyCommand,
	"audit":       auditCommand,
	"identity":    identityCommand,
	"trust":       trustCommand,
	"share":       shareCommand,
	"recover":     recoverCommand,
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) int {
	c := &cli{stdin: stdin, stdout: stdout, console: newConsole(stderr, env), env: env}
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	cmd, ok := commands[args[0]]
	if !ok {
		return c.fail(misuse("no such command: %s", args[0]), "")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	do := cmd.setup(c, flags)
	rest, err := parse(flags, args[1:])
	if errors.Is(err, flag.ErrHelp) {
		cmd.help(stdout, flags)
		return exitOK
	}
	if err == nil {
		err = do(ctx, rest)
	}
	if err != nil {
		return c.fail(err, args[0])
	}
	return exitOK
}

func (cmd command) help(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintf(w, "usage: conclave %s\n\n%s\n\n", cmd.synopsis, strings.TrimSpace(cmd.about))
	flags.SetOutput(w)
	flags.PrintDefaults()
}

// parse takes flags before, between and after the arguments, until "--".
func parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			if !errors.Is(err, flag.ErrHelp) {
				err = misuse("%s", err)
			}
			return nil, err
		}
		left := flags.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if used := len(args) - len(left); used > 0 && args[used-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// usageError is a command that was not understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func misuse(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// fail reports err, with what might help, and returns the exit status.
func (c *cli) fail(err error, command string) int {
	for text := range strings.Lines(err.Error()) { // errors that were joined
		c.console.say("%s", clean(strings.TrimSuffix(text, "\n")))
	}
	var bad *usageError
	if errors.As(err, &bad) {
		if command != "" {
			command += " "
		}
		c.console.say("conclave %s-h shows how", command)
		return exitUsage
	}
	if hint := hintFor(err); hint != "" {
		c.console.say("%s", hint)
	}
	var late *timeoutError
	if errors.As(err, &late) {
		return exitTimeout
	}
	return exitFailed
}
