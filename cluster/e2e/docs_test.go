package e2e_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/conclave-mpc/conclave/cluster/redistest/docstest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var (
	namedTest   = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)(…?)`")
	declaration = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
)

// TestDocsNameTests: a test that a page names exists. With … the name is a prefix of
// several names.
func TestDocsNameTests(t *testing.T) {
	t.Parallel()
	root := docstest.Root(t)
	known := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declaration.FindAllStringSubmatch(string(source), -1) {
			known[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for page, text := range docstest.Pages(t) {
		for _, m := range namedTest.FindAllStringSubmatch(text, -1) {
			total++
			found := known[m[1]]
			for name := range known {
				found = found || m[2] != "" && strings.HasPrefix(name, m[1])
			}
			if !found && m[1] != "TestWriterIdlesWhenQueueEmpty" { // CONTRIBUTING's example of a name
				t.Errorf("%s names %s%s, which is no test", page, m[1], m[2])
			}
		}
	}
	if total < 100 {
		t.Errorf("the pages name only %d tests", total)
	}
}

// TestReadmeIsShort limits README to a first look, and to line lengths that a
// terminal and a diff show whole.
func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSuffix(docstest.Page(t, docstest.Readme), "\n"), "\n")
	if len(lines) < 150 || len(lines) > 200 {
		t.Errorf("README has %d lines, want 150 to 200", len(lines))
	}
	for i, line := range lines {
		if n := utf8.RuneCountInString(line); n > 120 {
			t.Errorf("README:%d has %d characters, want at most 120", i+1, n)
		}
	}
	for _, command := range []string{"    $ go run ./cmd/conclave-demo", "    $ go test ./..."} {
		if !slices.Contains(lines, command) {
			t.Errorf("README has no line %q", command)
		}
	}
}

// TestDocsHaveEachRowOnce: no row of a table is on two pages, or twice on one, by its
// first cell, if that is a flag, a key, a metric, a message or a code.
func TestDocsHaveEachRowOnce(t *testing.T) {
	t.Parallel()
	first := map[string]string{}
	for page, text := range docstest.Pages(t) {
		if page == docstest.Chinese {
			continue
		}
		for i, line := range strings.Split(text, "\n") {
			cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
			if !ok || !strings.HasPrefix(line, "| `") {
				continue
			}
			for _, name := range regexp.MustCompile("`[^`]+`").FindAllString(cell, -1) {
				where := page + ":" + strconv.Itoa(i+1)
				// Messages, fields and claims have names in common.
				if before := first[name]; before != "" && before != where && (strings.HasPrefix(name, "`--") || strings.HasPrefix(name, "`conclave_") || strings.Contains(name, ":")) {
					t.Errorf("%s has two rows: %s, and %s", name, before, where)
				}
				first[name] = where
			}
		}
	}
	if len(first) < 200 {
		t.Errorf("found only %d rows", len(first))
	}
}

// TestDocsNameEveryCode: PROTOCOL has a row for each error code, close code and type
// of message, and none for others. The Chinese README names them all.
func TestDocsNameEveryCode(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile(filepath.Join(docstest.Root(t), "wsconn", "wire", "errors.go"))
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for _, one := range wire.Types() {
		types[string(one)] = true
	}
	codes, closes := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\tCode\w+ +Code += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		codes[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^\tClose\w+ += (\d+)`).FindAllStringSubmatch(string(source), -1) {
		closes[m[1]] = true
	}
	chinese := docstest.Page(t, docstest.Chinese)
	for section, want := range map[string]map[string]bool{"## Messages": types, "## Error codes": codes, "## Close codes": closes} {
		got := map[string]bool{}
		for line := range strings.Lines(docstest.Section(t, docstest.Protocol, section)) {
			cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
			for name := range strings.SplitSeq(cell, ", ") {
				if _, err := strconv.Atoi(name); strings.HasPrefix(line, "| ") && (err == nil || strings.HasPrefix(name, "`")) {
					got[strings.Trim(name, "`")] = true
				}
			}
		}
		if !maps.Equal(got, want) || len(want) < 5 {
			t.Errorf("%s of PROTOCOL has %v, want %v", section, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		for name := range want {
			if !regexp.MustCompile("`" + name + "`|\\b" + name + " ?\\p{Han}").MatchString(chinese) {
				t.Errorf("the Chinese README does not name %s", name)
			}
		}
	}
}

// documentedMetrics returns a function that reports whether a metric is in a row of
// OPERATIONS. A row names one whole and then others with the same beginning:
// `conclave_a_b_total`, `_c_total`; with … it is a prefix of several names.
func documentedMetrics(t *testing.T) func(name string) bool {
	t.Helper()
	whole, starts := map[string]bool{}, []string{}
	for line := range strings.Lines(docstest.Section(t, docstest.Operations, "## Metrics, profiles, traces, logs")) {
		cell, _, _ := strings.Cut(line, " | ")
		base := ""
		for _, m := range regexp.MustCompile("`([a-z_]+)(…?)`").FindAllStringSubmatch(cell, -1) {
			switch name := m[1]; {
			case m[2] != "":
				starts = append(starts, name)
			case !strings.HasPrefix(name, "_"):
				base, whole[name] = name, true
			default:
				for i, c := range base {
					if c == '_' {
						whole[base[:i]+name] = true
					}
				}
			}
		}
	}
	return func(name string) bool {
		return whole[name] || slices.ContainsFunc(starts, func(start string) bool { return strings.HasPrefix(name, start) })
	}
}

var (
	pageLink   = regexp.MustCompile(`\]\(([^)\s]*)\)`)
	sourceLink = regexp.MustCompile(`(?:[\w.-]+/)*[\w.-]*[A-Za-z]\.md(?:#[\p{L}\p{N}_-]+)?`)
	fenced     = regexp.MustCompile("(?ms)^```.*?^```$")
)

// TestDocsLinks: no link of a page to a file or a heading is dead, and neither is a
// page or heading that a comment, a help text or a shipped file names.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	root := docstest.Root(t)
	anchors := map[string]map[string]bool{}
	for page, text := range docstest.Pages(t) {
		anchors[page] = anchorsOf(text)
	}
	check := func(from, target, link string) {
		path, anchor, _ := strings.Cut(target, "#")
		path = filepath.ToSlash(filepath.Clean(path))
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(path))); err != nil || strings.HasPrefix(path, "..") {
			t.Errorf("%s links to %s, which is not there", from, link)
		} else if anchor != "" && !anchors[path][anchor] {
			t.Errorf("%s links to %s, which has no such heading", from, link)
		}
	}
	links := 0
	for page, text := range docstest.Pages(t) {
		for _, m := range pageLink.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			switch link := m[1]; {
			case strings.HasPrefix(link, "https://"):
			case strings.HasPrefix(link, "#"):
				check(page, page+link, link)
				links++
			default:
				check(page, filepath.Join(filepath.Dir(page), link), link)
				links++
			}
		}
	}
	named := 0
	for path, text := range shippedTexts(t, root) {
		for _, link := range sourceLink.FindAllString(text, -1) {
			named++
			check(path, link, link)
		}
		if strings.Contains(text, "README, ") || strings.Contains(text, "(see README)") {
			t.Errorf("%s points to a section of README: name the page, as deploy/docs/OPERATIONS.md#backup", path)
		}
	}
	if links < 150 || named < 4 {
		t.Errorf("found %d links and %d pages that sources name", links, named)
	}
}

// shippedTexts returns, by path, the text of every file that may name a page and is
// neither a page nor a test.
func shippedTexts(t *testing.T, root string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "testdata"):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go") || !d.Type().IsRegular():
			return nil
		}
		switch filepath.Ext(path) {
		case ".go", ".lua", ".yaml", ".yml", ".conf", ".cfg", ".sh", ".acl", ".service", ".txt", ".tpl", ".mjs", ".json", "":
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			texts[filepath.ToSlash(rel)] = string(text)
			return err
		}
		return nil
	})
	if err != nil || len(texts) < 200 {
		t.Fatalf("read %d files: %v", len(texts), err)
	}
	return texts
}

// anchorsOf returns the names that GitHub gives a page's headings.
func anchorsOf(text string) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(fenced.ReplaceAllString(text, "")) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))
		for i := 1; all[name]; i++ {
			name = strings.TrimSuffix(name, "-"+strconv.Itoa(i-1)) + "-" + strconv.Itoa(i)
		}
		all[name] = true
	}
	return all
}
