// Conclave-bench measures what Conclave costs, always beside a baseline and in the
// same run, because every figure differs on another machine, or on this one a minute
// later: raw tss-lib in one process for the mathematics, two bare WebSocket relays
// on the same Redis for the servers.
//
// The setup is real: conclaved processes (three by default) on a redis-server with
// persistence, and the participants of package wsconn/client. To measure the servers
// alone, the participants are scripted and compute nothing.
//
// Each benchmark is a file: sign.go, keygen.go, reshare.go, primes.go, sessions.go,
// relay.go, idle.go, growth.go. Lab (lab.go) starts and ends the processes they need,
// report.go collects figures and prints them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

const usage = `Conclave-bench measures Conclave beside raw tss-lib and a bare relay.

Usage:
    conclave-bench [flags] [benchmark ...]

Without arguments it runs all benchmarks, which takes about half an hour on two
cores; with -short each is a rough estimate, and all take some minutes. Other load
on the machine distorts the figures, even the ratios.

Benchmarks:
%s
It requires redis-server (or -redis) and go (or -conclaved). CPU and memory of
processes are read from /proc.

Flags:
`

// options are the command line.
type options struct {
	short     bool
	json      bool
	plot      string
	redis     string
	conclaved string
	profile   string
	names     []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit status, 2 for a misuse.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		if role, ok := roles[args[0]]; ok {
			if err := role(ctx, args[1:], stdin, stdout); err != nil {
				fmt.Fprintf(stderr, "conclave-bench: %s: %s\n", args[0], err)
				return 1
			}
			return 0
		}
	}
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "conclave-bench: %s\n", err)
		return 2
	}
	if err := measure(ctx, o, newLab(o, stderr), stdout); err != nil {
		fmt.Fprintf(stderr, "conclave-bench: %s\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("conclave-bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.short, "short", false, "run fewer and shorter measurements")
	flags.BoolVar(&o.json, "json", false, "print the report as JSON instead of a table")
	flags.StringVar(&o.plot, "plot", "", "also write SVG charts into this `directory`")
	flags.StringVar(&o.redis, "redis", "", "`URL` of a Redis to use instead of starting one; the benchmark's keys are removed afterwards")
	flags.StringVar(&o.conclaved, "conclaved", "", "conclaved `program` to run as a node (default: build it with go)")
	flags.StringVar(&o.profile, "profile", "", "run the nodes inside this program and write their CPU and allocation profiles into this `directory`")
	flags.Usage = func() {
		var list strings.Builder
		for _, b := range benchmarks {
			fmt.Fprintf(&list, "    %-13s %s\n", b.name, b.about)
		}
		fmt.Fprintf(stderr, usage, list.String())
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.names = flags.Args()
	for _, name := range o.names {
		if find(name) == nil {
			flags.Usage()
			return o, fmt.Errorf("unknown benchmark %q", name)
		}
	}
	return o, nil
}

// benchmark is one of the measurements.
type benchmark struct {
	name  string
	about string
	run   func(ctx context.Context, l *lab) error
}

var benchmarks = []benchmark{
	{"sign-ecdsa", "2-of-3 signatures on secp256k1, one at a time and 8 in flight", signECDSA},
	{"sign-ed25519", "2-of-3 signatures on ed25519", signEdDSA},
	{"keygen", "2-of-3 keys on secp256k1, without and with prepared pre-parameters", keygen},
	{"reshare", "a refresh of a 2-of-3 key beside its generation, in CPU time, on both curves", reshare},
	{"primes", "safe primes of 1024 bits, in CPU time", primes},
	{"sessions", "scripted signing sessions of the seed protocol: cost of the servers", sessions},
	{"relay", "1 KiB messages from user to user over two nodes", relay},
	{"idle", "memory of an idle registered connection", idle},
	{"growth", "growth of cost with parties, sessions, size, connections, nodes and history", growth},
}

func find(name string) *benchmark {
	for i := range benchmarks {
		if benchmarks[i].name == name {
			return &benchmarks[i]
		}
	}
	return nil
}

// measure runs the chosen benchmarks, prints the report and ends the lab. Figures
// measured before a benchmark failed are printed too.
func measure(ctx context.Context, o options, l *lab, stdout io.Writer) (err error) {
	defer func() { err = errors.Join(err, l.close()) }()
	var failed error
	for _, b := range benchmarks {
		if len(o.names) > 0 && !slices.Contains(o.names, b.name) {
			continue
		}
		l.say("%s: %s", b.name, b.about)
		l.report.bench = b.name
		if err := b.run(ctx, l); err != nil {
			failed = fmt.Errorf("%s: %w", b.name, err)
			break
		}
	}
	if o.json {
		err = l.report.writeJSON(stdout)
	} else {
		err = l.report.writeTable(stdout)
	}
	if o.plot != "" {
		err = errors.Join(err, l.report.plot(o.plot))
	}
	return errors.Join(failed, err)
}
