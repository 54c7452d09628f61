package main

import (
	"slices"
	"strings"
	"testing"
)

// everyCommand calls each for every command that can be run.
func everyCommand(each func(path string, cmd command)) {
	for _, cmd := range commandTable() {
		each(cmd.name, cmd)
		for _, sub := range cmd.subs {
			each(cmd.name+" "+sub.name, sub)
		}
	}
}

// TestHelpShowsHow: the help of every command has its synopsis, an example of
// itself, and its flags; and no line is too long for a terminal.
func TestHelpShowsHow(t *testing.T) {
	t.Parallel()
	everyCommand(func(path string, cmd command) {
		var b strings.Builder
		if err := cmd.help(&b, path); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(b.String(), "usage: conclave "+path+" ") || !strings.Contains(b.String(), "$ conclave ") || cmd.brief == "" {
			t.Errorf("the help of %s does not show how:\n%s", path, b.String())
		}
		if !strings.Contains(cmd.about, "conclave "+cmd.name) && !strings.Contains(cmd.about, "conclave "+path) {
			t.Errorf("the help of %s has no example of it", path)
		}
		for _, f := range cmd.flags() {
			if !strings.Contains(b.String(), "  -"+f.Name) {
				t.Errorf("the help of %s does not name -%s", path, f.Name)
			}
		}
	})
}

func TestResolve(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"keys":                         "keys:",
		"keys key-1":                   "keys: key-1",
		"keys show key-1":              "keys show: key-1",
		"keys --home show list":        "keys list: --home show",
		"keys --home=h -json show k":   "keys show: --home=h -json k",
		"trust --home h add bob FINGE": "trust add: --home h bob FINGE",
		"keys -- show":                 "keys: -- show",
		"keys --limit 3":               "keys: --limit 3",
		"sign list":                    "sign: list",
	} {
		_, path, rest, err := resolve(commandTable(), strings.Fields(line))
		if got := strings.TrimSpace(path + ": " + strings.Join(rest, " ")); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", line, got, err, want)
		}
	}
	if _, _, _, err := resolve(commandTable(), []string{"trust", "key-1"}); err == nil {
		t.Error("a group without a command of its own takes an argument")
	}
}

// TestNamesAreUnique: every name finds its own command.
func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	var paths []string
	everyCommand(func(path string, cmd command) {
		paths = append(paths, path)
		if len(cmd.subs) == 0 && cmd.setup == nil {
			t.Errorf("%s does nothing", path)
		}
	})
	slices.Sort(paths)
	if n := len(slices.Compact(slices.Clone(paths))); n != len(paths) || n < 30 {
		t.Errorf("%d commands, %d of them different", len(paths), n)
	}
}
