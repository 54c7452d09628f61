// Package docstest reads this repository's documents, for tests that compare them
// with the programs.
//
//	text := docstest.All(t)                        // is it documented anywhere?
//	page := docstest.Page(t, docstest.Operations)  // is it on that page?
//
// The documents are README.md, deploy/README.md, the pages in deploy/docs and those
// in .github; those in English count for All, the Chinese README does not. The
// package starts no goroutines, and its functions are safe for concurrent use.
package docstest

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The pages, by their paths in the repository.
const (
	Readme       = "README.md"
	Deploy       = "deploy/README.md"
	Architecture = "deploy/docs/ARCHITECTURE.md"
	Protocol     = "deploy/docs/PROTOCOL.md"
	Operations   = "deploy/docs/OPERATIONS.md"
	Security     = "deploy/docs/SECURITY.md"
	Participants = "deploy/docs/PARTICIPANTS.md"
	Integration  = "deploy/docs/INTEGRATION.md"
	Benchmarks   = "deploy/docs/BENCHMARKS.md"
	Chinese      = "deploy/docs/README.zh-CN.md"
)

// Root returns the repository's directory, with which the paths of pages begin.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/conclave-mpc/conclave\n") {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no directory above is that of the main module")
		}
	}
}

// Page returns the text of a page.
func Page(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Pages returns the text of every page, the Chinese one too, by its path.
func Pages(t testing.TB) map[string]string {
	t.Helper()
	root := Root(t)
	pages := map[string]string{}
	for _, pattern := range []string{Readme, Deploy, "deploy/docs/*.md", ".github/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("no page is %s: %v", pattern, err)
		}
		for _, file := range files {
			path, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			path = filepath.ToSlash(path)
			pages[path] = Page(t, path)
		}
	}
	return pages
}

// All returns the text of all pages in English.
func All(t testing.TB) string {
	t.Helper()
	pages := Pages(t)
	var all strings.Builder
	for _, path := range slices.Sorted(maps.Keys(pages)) {
		if path != Chinese {
			all.WriteString(pages[path] + "\n")
		}
	}
	return all.String()
}

// Rows returns the rows of tables on all English pages whose first cell holds text,
// each after its page's path and a colon. A fact stated on one page has one.
func Rows(t testing.TB, text string) (rows []string) {
	t.Helper()
	pages := Pages(t)
	for _, path := range slices.Sorted(maps.Keys(pages)) {
		if path == Chinese {
			continue
		}
		for line := range strings.Lines(pages[path]) {
			if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && strings.Contains(cells[0], text) {
				rows = append(rows, path+": "+strings.TrimSpace(line))
			}
		}
	}
	return rows
}

var heading = regexp.MustCompile(`(?m)^#+ `)

// Section returns the text below a heading, given with its #, up to the next
// heading.
func Section(t testing.TB, path, title string) string {
	t.Helper()
	_, section, ok := strings.Cut("\n"+Page(t, path), "\n"+title+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", path, title)
	}
	return heading.Split(section, 2)[0]
}

// Commands returns the commands of a section, without their prompt; a line that
// ends in \ continues in the next.
func Commands(t testing.TB, path, title string) (list []string) {
	t.Helper()
	for line := range strings.Lines(Section(t, path, title)) {
		line = strings.TrimSuffix(line, "\n")
		if n := len(list); n > 0 && strings.HasSuffix(list[n-1], `\`) {
			list[n-1] += "\n" + line
		} else if typed, ok := strings.CutPrefix(line, "    $ "); ok {
			list = append(list, typed)
		}
	}
	return list
}
