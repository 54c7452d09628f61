package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

var completionCommand = command{
	name: "completion", args: "bash|zsh|fish",
	brief: "print a shell script that completes commands and flags",
	about: `
Prints a script that lets a shell complete commands and flags with the Tab key.

  $ conclave completion bash > ~/.local/share/bash-completion/completions/conclave
  $ conclave completion zsh > "${fpath[1]}/_conclave"
  $ conclave completion fish > ~/.config/fish/completions/conclave.fish

Or for the shell that runs now:

  $ source <(conclave completion bash)`,
	setup: func(c *cli, _ *flag.FlagSet) action {
		return func(_ context.Context, args []string) error {
			if len(args) != 1 {
				return misuse("completion needs bash, zsh or fish")
			}
			write, ok := map[string]func([]command) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[args[0]]
			if !ok {
				return misuse("completion supports bash, zsh and fish, not %s", args[0])
			}
			_, err := io.WriteString(c.stdout, write(c.commands))
			return err
		}
	},
}

// place is a position in a command line: words and flags may follow the words of
// path.
type place struct {
	path  string
	words []command
	flags []*flag.Flag
}

// places returns all places; the first is that of the program itself.
func places(list []command) []place {
	all := []place{{words: list}}
	for _, cmd := range list {
		all = append(all, place{cmd.name, cmd.subs, cmd.flags()})
		for _, sub := range cmd.subs {
			all = append(all, place{cmd.name + " " + sub.name, sub.subs, sub.flags()})
		}
	}
	for i := range all {
		switch all[i].path { // arguments that are words
		case "completion":
			all[i].words = []command{{name: "bash"}, {name: "zsh"}, {name: "fish"}}
		case "help":
			all[i].words = append([]command{{name: "exit-codes"}}, list...)
		}
	}
	return all
}

func (p place) names() []string {
	names := make([]string, len(p.words))
	for i, w := range p.words {
		names[i] = w.name
	}
	return names
}

func (p place) flagNames() []string {
	names := []string{"--help"}
	if p.path == "" {
		return append(names, "--version")
	}
	for _, f := range p.flags {
		names = append(names, "--"+f.Name)
	}
	return names
}

// valued returns the flags of all commands that take a value.
func valued(list []command) []string {
	var names []string
	for _, p := range places(list) {
		for _, f := range p.flags {
			if takesValue(f) {
				names = append(names, "--"+f.Name, "-"+f.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// walk returns shell code that finds the place for the words before the cursor, for
// bash and zsh, whose arrays begin at 0 and 1.
func walk(list []command, words, until string, first int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  for ((i = %d; i < %s; i++)); do\n    case \"${%s[i]}\" in\n", first, until, words)
	fmt.Fprintf(&b, "      %s) ((i++)) ;;\n      -*) ;;\n      *)\n        case \"$path ${%s[i]}\" in\n", strings.Join(valued(list), "|"), words)
	var paths []string
	for _, p := range places(list)[1:] {
		paths = append(paths, fmt.Sprintf("%q", " "+p.path))
	}
	fmt.Fprintf(&b, "          %s) path+=\" ${%s[i]}\" ;;\n        esac ;;\n    esac\n  done\n", strings.Join(paths, "|"), words)
	return b.String()
}

func bashCompletion(list []command) string {
	var b strings.Builder
	b.WriteString("# Completes conclave in bash. Made by: conclave completion bash\n_conclave() {\n")
	b.WriteString("  local cur=\"${COMP_WORDS[COMP_CWORD]}\" path=\"\" words=\"\" flags=\"\" i\n  COMPREPLY=()\n")
	b.WriteString(walk(list, "COMP_WORDS", "COMP_CWORD", 1))
	b.WriteString("  ((i > COMP_CWORD)) && return # the value of a flag, completed as a file\n  case \"$path\" in\n")
	for _, p := range places(list) {
		path := p.path
		if path != "" {
			path = " " + path
		}
		fmt.Fprintf(&b, "    %q) words=%q flags=%q ;;\n", path, strings.Join(p.names(), " "), strings.Join(p.flagNames(), " "))
	}
	b.WriteString("  esac\n  case \"$cur\" in\n    -*) words=\"$flags\" ;;\n  esac\n")
	b.WriteString("  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\ncomplete -o default -F _conclave conclave\n")
	return b.String()
}

func zshCompletion(list []command) string {
	var b strings.Builder
	b.WriteString("#compdef conclave\n# Completes conclave in zsh. Made by: conclave completion zsh\n_conclave() {\n")
	b.WriteString("  local path_=\"\" i\n  local -a choices flags\n")
	b.WriteString(strings.ReplaceAll(walk(list, "words", "CURRENT", 2), "path", "path_")) // path is zsh's own
	b.WriteString("  if ((i > CURRENT)); then\n    _files\n    return\n  fi\n  case \"$path_\" in\n")
	for _, p := range places(list) {
		path := p.path
		if path != "" {
			path = " " + path
		}
		fmt.Fprintf(&b, "    %q)\n", path)
		b.WriteString("      choices=(")
		for _, w := range p.words {
			b.WriteString(" " + zshItem(w.name, w.brief))
		}
		b.WriteString(" )\n      flags=( '--help:say more'")
		for _, f := range p.flags {
			_, text := flag.UnquoteUsage(f)
			b.WriteString(" " + zshItem("--"+f.Name, text))
		}
		b.WriteString(" ) ;;\n")
	}
	b.WriteString("  esac\n  if [[ ${words[CURRENT]} == -* ]]; then\n    _describe flag flags\n  elif ((${#choices})); then\n" +
		"    _describe command choices || _files\n  else\n    _files\n  fi\n}\n" +
		"if [[ ${funcstack[1]} == _conclave ]]; then\n  _conclave \"$@\"\nelse\n  compdef _conclave conclave\nfi\n")
	return b.String()
}

func zshItem(name, text string) string {
	item := strings.ReplaceAll(name, ":", `\:`)
	if text != "" {
		item += ":" + firstLine(text)
	}
	return shellQuote(item)
}

func fishCompletion(list []command) string {
	var b strings.Builder
	b.WriteString("# Completes conclave in fish. Made by: conclave completion fish\n")
	all := places(list)
	for _, p := range all {
		words := strings.Fields(p.path)
		var when string
		switch len(words) {
		case 0:
			when = "__fish_use_subcommand"
		case 1:
			when = "__fish_seen_subcommand_from " + words[0]
			if names := p.names(); len(names) > 0 {
				when += "; and not __fish_seen_subcommand_from " + strings.Join(names, " ")
			}
		default:
			when = "__fish_seen_subcommand_from " + words[0] + "; and __fish_seen_subcommand_from " + words[1]
		}
		for _, w := range p.words {
			fmt.Fprintf(&b, "complete -c conclave -n %s -f -a %s -d %s\n", shellQuote(when), w.name, shellQuote(firstLine(w.brief)))
		}
		for _, f := range p.flags {
			_, text := flag.UnquoteUsage(f)
			value := ""
			if takesValue(f) {
				value = " -r"
			}
			fmt.Fprintf(&b, "complete -c conclave -n %s -l %s%s -d %s\n", shellQuote(when), f.Name, value, shellQuote(firstLine(text)))
		}
	}
	return b.String()
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// shellQuote quotes for all three shells: fish requires a quoted backslash too.
func shellQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `’`).Replace(text) + "'"
}
