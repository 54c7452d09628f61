// Conclave-demo shows a whole Conclave in one command, on a machine that has only
// Go: an embedded Redis, three server nodes, a front door that spreads connections
// over them, three participants and a coordinator. They make a real 2-of-3 key and
// real signatures, and a node is killed in the middle of one.
//
// The nodes are processes of their own (this program again, as "conclave-demo
// node"), so that killing one is kill -9 and nothing gentler. The parties run in
// this process, each with its own identity, store and connection.
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

	"github.com/conclave-mpc/conclave/session/party"
)

const usage = `Conclave-demo runs a complete Conclave cluster in one command.

Usage:
    conclave-demo            run the demonstration and exit
    conclave-demo -serve     keep the cluster running afterwards, and print URLs and tokens to try it

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit status, 2 for a misuse.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == nodeCommand {
		if err := runNode(ctx, args[1:], os.Stdin, stdout); err != nil {
			fmt.Fprintf(stderr, "conclave-demo: node: %s\n", err)
			return 1
		}
		return 0
	}
	defer party.SpareThread()() // parties compute in this process
	flags := flag.NewFlagSet("conclave-demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	serve := flags.Bool("serve", false, "keep the cluster running")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil || flags.NArg() > 0:
		fmt.Fprint(stderr, usage)
		return 2
	}
	if err := demonstrate(ctx, newDisplay(stdout), *serve); err != nil {
		fmt.Fprintf(stderr, "conclave-demo: %s\n", err)
		return 1
	}
	return 0
}
