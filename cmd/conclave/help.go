package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"golang.org/x/text/width"
)

const usageHead = "usage: conclave COMMAND [FLAGS] [ARGUMENTS]\n\n"

const usageExample = `
conclave COMMAND -h describes a command, conclave help exit-codes the exit
status.

Example: three participants and a coordinator, each with a separate home directory.

  $ conclave login https://conclave.example bob
  conclave: password for bob:
  conclave: logged in as bob (participant) until 2026-03-01 20:15
  $ conclave participant
  conclave: identity QMRQ7-…
  conclave: connected to n1

  $ conclave keygen --threshold 2 bob carol dave
  conclave: connected to n2
  conclave: keygen of key-7GZ5XQ… began: session kg-P3KD…
  conclave: bob accepted
  …
  key         key-7GZ5XQ…
  curve       secp256k1
  address     0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
  public key  0x03…
  $ conclave sign key-7GZ5XQ… --data "pay bob"
`

var helpCommand = command{
	name: "help", args: "[COMMAND…]",
	brief: "list the commands, or describe a command or exit-codes",
	about: `
Lists all commands, describes one command, or explains the exit status of all
commands (exit-codes).

  $ conclave help sessions watch
  usage: conclave sessions watch [FLAGS] [SESSION]
  …`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		return func(_ context.Context, args []string) error {
			switch {
			case len(args) == 0:
				return usage(c.stdout, c.commands)
			case len(args) == 1 && args[0] == "exit-codes":
				_, err := io.WriteString(c.stdout, exitCodes())
				return err
			}
			cmd, path, rest, err := resolve(c.commands, args)
			if err == nil && len(rest) > 0 {
				err = misuse("no such command: %s", strings.Join(args, " "))
			}
			if err != nil {
				return err
			}
			return cmd.help(c.stdout, path)
		}
	},
}

// usage lists the commands.
func usage(w io.Writer, list []command) error {
	var b strings.Builder
	b.WriteString(usageHead)
	listing(&b, list)
	b.WriteString(usageExample)
	_, err := io.WriteString(w, b.String())
	return err
}

const maxListedArgs = 24 // longer ones are left to the command's own help

func listing(b *strings.Builder, list []command) {
	names, most := make([]string, len(list)), 0
	for i, cmd := range list {
		names[i] = cmd.name
		switch {
		case len(cmd.subs) > 0:
			var subs []string
			for _, sub := range cmd.subs {
				subs = append(subs, sub.name)
			}
			names[i] += " " + strings.Join(subs, "|")
		case cmd.args != "" && len(cmd.args) <= maxListedArgs:
			names[i] += " " + cmd.args
		}
		most = max(most, columns(names[i]))
	}
	for i, cmd := range list {
		fmt.Fprintf(b, "  %s  %s\n", pad(names[i], most), cmd.brief)
	}
}

// help prints the help of a command.
func (cmd command) help(w io.Writer, path string) error {
	var b strings.Builder
	synopsis := "usage: conclave " + path
	switch {
	case cmd.setup == nil:
		synopsis += " COMMAND [FLAGS] [ARGUMENTS]"
	case cmd.args == "":
		synopsis += " [FLAGS]"
	default:
		synopsis += " [FLAGS] " + cmd.args
	}
	fmt.Fprintf(&b, "%s\n\n%s\n", synopsis, strings.TrimSpace(cmd.about))
	if len(cmd.subs) > 0 {
		b.WriteString("\n")
		listing(&b, cmd.subs)
	}
	if flags := cmd.flags(); len(flags) > 0 {
		b.WriteString("\n")
		set := flag.NewFlagSet(path, flag.ContinueOnError)
		set.SetOutput(&b)
		for _, f := range flags {
			set.Var(f.Value, f.Name, f.Usage)
		}
		set.PrintDefaults()
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// columns returns how many terminal columns printable text takes.
func columns(text string) int {
	n := 0
	for _, r := range text {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// pad fills text with spaces to n columns.
func pad(text string, n int) string {
	return text + strings.Repeat(" ", max(0, n-columns(text)))
}

// fit shortens text to n columns.
func fit(text string, n int) string {
	if columns(text) <= n {
		return text
	}
	used := 0
	for i, r := range text {
		if used += runeColumns(r); used > n-1 {
			return text[:i] + strings.Repeat("…", min(1, max(0, n)))
		}
	}
	return text
}
