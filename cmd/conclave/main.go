// Command conclave is for the participants, who hold shares, and the coordinators,
// who request keys and signatures. It is a thin layer over package wsconn/client:
// flags, questions and printing.
//
// Results go to stdout, everything else to stderr with "conclave:" before it. Text
// from others, a server or a request, reaches a terminal only in printable form: see
// clean and dataUnits. The exit status is 0 for success, 1 for failure, 2 for a
// command that was not understood; conclave help exit-codes lists the others. The
// process leaves no core dump: see package secret.
//
// Goroutines: participant reads answers on stdin in one that may outlive it; keygen
// and sign follow their session in another, which ends before they do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/conclave-mpc/conclave/cmd/internal/proc"
	"github.com/conclave-mpc/conclave/cmd/internal/spell"
)

func main() {
	if err := proc.HideMemory(); err != nil {
		fmt.Fprintf(os.Stderr, "conclave: a crash may leave secrets in a core dump: %s\n", err)
	}
	for _, stranger := range spell.Strangers(os.Environ()) {
		fmt.Fprintf(os.Stderr, "conclave: %s\n", stranger)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(status)
}

// run is the whole program without its process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) int {
	return newCLI(stdin, stdout, stderr, env).main(ctx, args, stderr)
}

func newCLI(stdin io.Reader, stdout, stderr io.Writer, env func(string) string) *cli {
	return &cli{
		stdin: stdin, stdout: plainer(stdout, env), console: newConsole(stderr, env), env: env,
		commands: commandTable(), reachWithin: reachWithin,
	}
}

// main runs args, reports errors, and returns the exit status.
func (c *cli) main(ctx context.Context, args []string, stderr io.Writer) int {
	err := c.run(ctx, args)
	if errors.Is(err, errNoCommand) {
		_ = usage(stderr, c.commands) // its error could not be reported
		return exitUsage
	}
	if err != nil {
		c.fail(err)
	}
	return statusOf(err)
}

// fail reports err, with a hint.
func (c *cli) fail(err error) {
	for text := range strings.Lines(err.Error()) { // joined errors
		c.console.say("%s", clean(strings.TrimSuffix(text, "\n")))
	}
	hint := hintFor(err)
	var bad *usageError
	var of *misused
	if errors.As(err, &bad) && errors.As(err, &of) {
		hint = strings.Join(strings.Fields("conclave "+of.path+" -h"), " ") + " shows how"
	}
	if hint != "" {
		c.console.say("%s %s", c.console.paint(dim, "hint:"), hint)
	}
}
