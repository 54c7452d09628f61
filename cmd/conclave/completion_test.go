package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shell returns the path of a shell, or skips the test.
func shell(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip("there is no " + name)
	}
	return path
}

// TestBashCompletes sources the script and lets it complete command lines.
func TestBashCompletes(t *testing.T) {
	t.Parallel()
	bash := shell(t, "bash")
	script := filepath.Join(t.TempDir(), "complete")
	if err := os.WriteFile(script, []byte(bashCompletion(commandTable())), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string][]string{
		"conclave se":                           {"sessions"},
		"conclave sessions ":                    {"cancel", "list", "resend", "show", "watch"},
		"conclave sessions w":                   {"watch"},
		"conclave sessions --home h w":          {"watch"},
		"conclave sessions watch --to":          {"--token-file"},
		"conclave keygen --th":                  {"--threshold"},
		"conclave sign --json key-1 --da":       {"--data"},
		"conclave help tr":                      {"trust"},
		"conclave help exit":                    {"exit-codes"},
		"conclave completion ":                  {"bash", "zsh", "fish"},
		"conclave --ver":                        {"--version"},
		"conclave participant --approve ":       {},
		"conclave share export --to x --addr":   {"--address"},
		"conclave participant --approve p --pr": {"--preparams", "--profile"},
	} {
		words := strings.Split(line, " ")
		code := `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _conclave; printf '%s\n' "${COMPREPLY[@]}"`
		out, err := exec.Command(bash, append([]string{"--norc", "-c", code, "bash", script}, words...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", line, err, out)
		}
		got := strings.Fields(string(out))
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q completes to %q, want %q", line, got, want)
		}
	}
}

// TestShellsTakeTheScripts lets the other shells parse theirs.
func TestShellsTakeTheScripts(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{"zsh": zshCompletion(commandTable()), "fish": fishCompletion(commandTable())} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "complete")
			if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(shell(t, name), "-n", path).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestFishCompletes(t *testing.T) {
	t.Parallel()
	fish := shell(t, "fish")
	path := filepath.Join(t.TempDir(), "complete.fish")
	if err := os.WriteFile(path, []byte(fishCompletion(commandTable())), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(fish, "--no-config", "-c", `source $argv[1]; complete -C "conclave sessions w"; complete -C "conclave keygen --th"`, path)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "watch\tdraw a session live") || !strings.Contains(string(out), "--threshold\t") {
		t.Errorf("%v\n%s", err, out)
	}
}
