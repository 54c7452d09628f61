package deploy_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

// instructions are the Dockerfile's: a name and its argument each.
func instructions() ([][2]string, error) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		return nil, err
	}
	var all [][2]string
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		all = append(all, [2]string{name, strings.TrimSpace(rest)})
	}
	return all, nil
}

// buildImage runs the Dockerfile's own build line, with the Dockerfile's
// environment, in a checkout of the source, into dir.
func buildImage(source, dir string) error {
	lines, err := instructions()
	if err != nil {
		return err
	}
	env := os.Environ()
	for _, line := range lines {
		switch {
		case line[0] == "ENV" && strings.Contains(line[1], "CGO_ENABLED"):
			env = append(env, strings.Fields(line[1])...)
		case line[0] == "RUN" && strings.HasPrefix(line[1], "go build "):
			if !strings.Contains(line[1], " -o /out/ ") {
				return fmt.Errorf("the line does not build into /out/: %s", line[1])
			}
			cmd := exec.Command("sh", "-c", strings.Replace(line[1], " -o /out/ ", " -o '"+dir+"/' ", 1))
			cmd.Dir, cmd.Env = source, env
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", line[1], err, out)
			}
			return nil
		}
	}
	return errors.New("the Dockerfile builds nothing")
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	lines, err := instructions()
	if err != nil {
		t.Fatal(err)
	}
	base, user, stages := "", "", 0
	for _, line := range lines {
		switch line[0] {
		case "FROM":
			base, user = strings.Fields(line[1])[0], ""
			if stages++; base != "scratch" && !pinned.MatchString(base) {
				t.Errorf("FROM %s: want one version, to the patch", base)
			}
		case "USER":
			user = line[1]
		case "ADD":
			t.Errorf("ADD %s: may fetch; use COPY", line[1])
		case "ENV", "ARG":
			if regexp.MustCompile(`(?i)secret|password|kek`).MatchString(line[1]) {
				t.Errorf("%s %s", line[0], line[1])
			}
		}
	}
	if stages != 2 || base != "scratch" {
		t.Errorf("%d stages, the last from %s; want 2 and scratch", stages, base)
	}
	if !regexp.MustCompile(`^[1-9]\d+:[1-9]\d+$`).MatchString(user) {
		t.Errorf("USER is %q, want numbers that are not root's: Kubernetes cannot tell of a name", user)
	}
	// The Go of the image is the version in go.mod, or a later patch of it.
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))[1]
	if !strings.HasPrefix(lines[0][1], "golang:"+version+".") {
		t.Errorf("the image is built with %s, go.mod asks for %s", lines[0][1], version)
	}
}

// TestImageIsStatic checks for dependencies that an empty image lacks.
func TestImageIsStatic(t *testing.T) {
	t.Parallel()
	if !sample.Full() {
		t.Skip(sample.Reason)
	}
	for _, name := range []string{"conclaved", "conclave"} {
		f, err := elf.Open(program(t, name))
		if err != nil {
			t.Skipf("not ELF: %v", err)
		}
		if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) != 0 {
			t.Errorf("%s needs %v, %v", name, libraries, err)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s wants an interpreter", name)
			}
		}
		_ = f.Close()
	}
}

// TestImageIsReproducible builds again from a copy of the source elsewhere.
func TestImageIsReproducible(t *testing.T) {
	t.Parallel()
	if !sample.Full() {
		t.Skip(sample.Reason)
	}
	elsewhere, out := t.TempDir(), t.TempDir()
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if slices.Contains([]string{".git", "deploy"}, e.Name()) {
			continue
		}
		from, to := filepath.Join("..", e.Name()), filepath.Join(elsewhere, e.Name())
		if e.IsDir() {
			err = os.CopyFS(to, os.DirFS(from))
		} else if e.Type().IsRegular() {
			err = os.WriteFile(to, []byte(read(t, from)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := buildImage(elsewhere, out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"conclaved", "conclave"} {
		first, second := read(t, program(t, name)), read(t, filepath.Join(out, name))
		if first != second {
			t.Errorf("%s differs when it is built elsewhere", name)
		}
		here, err := filepath.Abs("..")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains([]byte(first), []byte(here)) {
			t.Errorf("%s has the path of its source in it", name)
		}
	}
}
