package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/cmd/internal/spell"
)

// action runs a command with the arguments that are left beside its flags.
type action func(ctx context.Context, args []string) error

// command is one command, or a group of them. Dispatch, help and completion are all
// derived from it.
type command struct {
	name  string
	args  string // the arguments after the name and the flags
	brief string // for the list of commands
	about string // for its help, with an example
	// setup only defines the flags, on the given set. It is nil for a group of which
	// one must be named.
	setup func(c *cli, flags *flag.FlagSet) action
	subs  []command
}

// commandTable returns the commands, in the order in which they are listed.
func commandTable() []command {
	return []command{
		loginCommand, logoutCommand, whoamiCommand, profileCommand,
		participantCommand, keygenCommand, signCommand, requestCommand, reshareCommand, refreshCommand, replaceCommand,
		keysCommand, sessionsCommand, nodesCommand, presenceCommand, tokensCommand, usersCommand,
		verifyCommand, auditCommand,
		identityCommand, trustCommand, shareCommand, backupCommand, recoverCommand,
		completionCommand, versionCommand, helpCommand,
	}
}

func lookup(list []command, name string) (command, bool) {
	i := slices.IndexFunc(list, func(c command) bool { return c.name == name })
	if i < 0 {
		return command{}, false
	}
	return list[i], true
}

// resolve finds the command that args name. Its path is its name after that of
// its group.
func resolve(list []command, args []string) (cmd command, path string, rest []string, err error) {
	cmd, ok := lookup(list, args[0])
	if !ok {
		return cmd, "", nil, misuse("no such command: %s%s", args[0], meant(args[0], list))
	}
	path, rest = cmd.name, args[1:]
	if i := cmd.verb(rest); i >= 0 {
		if sub, ok := lookup(cmd.subs, rest[i]); ok {
			return sub, path + " " + sub.name, slices.Delete(slices.Clone(rest), i, i+1), nil
		}
		if cmd.setup == nil {
			return cmd, path, nil, misuse("%s has no %s; it needs %s%s", path, rest[i], cmd.verbs(), meant(rest[i], cmd.subs))
		}
	}
	return cmd, path, rest, nil
}

// meant suggests the command of the list that an unknown word may be a typo of.
func meant(word string, list []command) string {
	var names []string
	for _, cmd := range list {
		names = append(names, cmd.name)
	}
	if like := spell.Nearest(word, names); like != "" {
		return "; did you mean " + like + "?"
	}
	return ""
}

// verb returns the index in args of the first that is neither a flag nor a flag's
// value; -1 if there is none.
func (cmd command) verb(args []string) int {
	takes := map[string]bool{}
	for _, f := range cmd.allFlags() {
		takes[f.Name] = takesValue(f)
	}
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			break
		}
		if args[i] == "-" || !strings.HasPrefix(args[i], "-") {
			return i
		}
		name := strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-")
		if takes[name] {
			i++
		}
	}
	return -1
}

func (cmd command) verbs() string {
	names := make([]string, len(cmd.subs))
	for i, sub := range cmd.subs {
		names[i] = sub.name
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// flags returns the flags of the command itself.
func (cmd command) flags() []*flag.Flag {
	if cmd.setup == nil {
		return nil
	}
	set := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	cmd.setup(&cli{env: func(string) string { return "" }}, set)
	var list []*flag.Flag
	set.VisitAll(func(f *flag.Flag) { list = append(list, f) })
	return list
}

// allFlags returns the flags of the command and of its group's commands, some of
// them several times.
func (cmd command) allFlags() []*flag.Flag {
	list := cmd.flags()
	for _, sub := range cmd.subs {
		list = append(list, sub.flags()...)
	}
	return list
}

func takesValue(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return !ok || !b.IsBoolFlag()
}

// run runs the command that args name.
func (c *cli) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errNoCommand
	}
	switch args[0] {
	case "-h", "-help", "--help":
		args = []string{"help"}
	case "-version", "--version":
		args = []string{"version"}
	}
	cmd, path, rest, err := resolve(c.commands, args)
	if err != nil {
		return &misused{err, path}
	}
	flags := flag.NewFlagSet(path, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	do := func(context.Context, []string) error { return misuse("%s needs %s", path, cmd.verbs()) }
	if cmd.setup != nil {
		do = cmd.setup(c, flags)
	}
	left, err := parse(flags, rest)
	if errors.Is(err, flag.ErrHelp) {
		return cmd.help(c.stdout, path)
	}
	if c.noColor {
		c.console.color = false
	}
	if err == nil {
		err = c.reaching(ctx, func(ctx context.Context) error { return do(ctx, left) })
	}
	if err != nil {
		return &misused{err, path}
	}
	return nil
}

// parse accepts flags before, between and after the arguments, until "--".
func parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			if like := spell.Flag(err, flags); like != "" {
				return nil, misuse("%s; did you mean %s?", err, like)
			}
			return nil, misuse("%s", err)
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

// usageError is a command line that was not understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func misuse(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

var errNoCommand = misuse("no command")

// misused is an error with the command that it belongs to.
type misused struct {
	error
	path string
}

func (e *misused) Unwrap() error { return e.error }
