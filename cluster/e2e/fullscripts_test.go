package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// The valid lines in a script's header about a Redis that has reached its maxmemory.
var whenFull = regexp.MustCompile(`(?m)^-- When Redis is full: (goes on, writes nothing|goes on|refused; goes on with ARGV\[\d\]|refused)(?:$|[.,;])`)

// TestScriptsWhenFull checks each script against its header's line about a full
// Redis. Redis checks a script's first write: if that needs memory it refuses the
// script, which has then done nothing; else it lets it finish.
func TestScriptsWhenFull(t *testing.T) {
	t.Parallel()
	flags := commandFlags(t, redistest.Real(t))
	scripts := luaFiles(t)
	for path, text := range scripts {
		m := whenFull.FindStringSubmatch(text)
		if m == nil {
			if !strings.Contains(strings.ToLower(text[:min(len(text), 200)]), "stands before") {
				t.Errorf("%s: the header does not say what becomes of it when Redis is full", path)
			}
			continue
		}
		text = inlined(path, text, scripts)
		var writes []string
		for _, call := range scriptCall.FindAllStringSubmatch(text, -1) {
			if name := strings.ToLower(call[1]); slices.Contains(flags[name], "write") {
				writes = append(writes, name)
			}
		}
		first := ""
		if len(writes) > 0 {
			first = writes[0]
		}
		refused := slices.Contains(flags[first], "denyoom")
		switch m[1] {
		case "goes on, writes nothing":
			if first != "" {
				t.Errorf("%s: it says that it writes nothing, and calls %s", path, first)
			}
		case "goes on":
			if first == "" || refused {
				t.Errorf("%s: it says that it goes on when Redis is full, and its first write is %q", path, first)
			}
		case "refused":
			if !refused {
				t.Errorf("%s: it says that it is refused when Redis is full, and its first write is %q", path, first)
			}
		default: // depends on an argument
			if len(writes) < 2 || refused || !slices.Contains(flags[writes[1]], "denyoom") {
				t.Errorf("%s: it says %q, and its first writes are %q", path, m[1], writes[:min(len(writes), 2)])
			}
		}
	}
}

var luaFunction = regexp.MustCompile(`(?s)\nlocal function (\w+)\([^)]*\)\n(.*?)\nend\n`)

// inlined replaces a call with the function's body, which another file of the folder
// may define: the order is then that in which the script writes.
func inlined(path, text string, scripts map[string]string) string {
	for other, source := range scripts {
		if other == path || filepath.Dir(other) != filepath.Dir(path) {
			continue
		}
		for _, f := range luaFunction.FindAllStringSubmatch(source, -1) {
			text = strings.ReplaceAll(text, f[1]+"(", f[2])
		}
	}
	return text
}

// TestCommandsWhenFull checks that the server's commands outside scripts need no
// memory: a full Redis would refuse them.
func TestCommandsWhenFull(t *testing.T) {
	t.Parallel()
	flags := commandFlags(t, redistest.Real(t))
	typed := regexp.MustCompile(`(?:\brdb|\bpipe|\bp|\btx|\bone|\bRedis|\bDurable|\bclient)\.([A-Z][A-Za-z]+)\(ctx`)
	spelled := regexp.MustCompile(`(?:redis\.New\w*Cmd\(ctx, |\.Do\(ctx, |args\[0\], args\[1\] = )"([a-zA-Z]+)"`)
	found := map[string]bool{}
	for path, text := range goFiles(t, "../../cluster", "../../session", "../../wsconn") {
		for _, m := range slices.Concat(typed.FindAllStringSubmatch(text, -1), spelled.FindAllStringSubmatch(text, -1)) {
			name := commandOf(m[1])
			found[name] = true
			if slices.Contains(flags[name], "denyoom") {
				t.Errorf("%s calls %s, which a full Redis refuses: make it a script that says whether it may be", path, m[1])
			}
		}
	}
	for _, name := range []string{"hgetall", "xdel", "zrem", "xrange", "ping"} { // otherwise this test reads nothing
		if !found[name] {
			t.Errorf("%s is not found in the sources", name)
		}
	}
}

// commandOf is the command that a method of go-redis sends.
func commandOf(method string) string {
	name := strings.ToLower(method)
	for _, suffix := range []string{"withscores", "args", "n"} {
		name = strings.TrimSuffix(name, suffix)
	}
	if name == "setnx" || name == "setex" {
		return "set"
	}
	return name
}

// commandFlags are the flags of every command that Redis has.
func commandFlags(t *testing.T, rdb redis.UniversalClient) map[string][]string {
	t.Helper()
	list, err := rdb.Command(context.Background()).Result()
	if err != nil {
		t.Fatal(err)
	}
	flags := make(map[string][]string, len(list))
	for name, info := range list {
		flags[name] = info.Flags
	}
	if !slices.Contains(flags["hset"], "denyoom") || slices.Contains(flags["hdel"], "denyoom") || !slices.Contains(flags["hdel"], "write") {
		t.Fatalf("flags of hset %v, of hdel %v", flags["hset"], flags["hdel"])
	}
	return flags
}

// luaFiles are the scripts of the server, by path.
func luaFiles(t *testing.T) map[string]string {
	t.Helper()
	files := sources(t, ".lua", "../..")
	if len(files) < 20 {
		t.Fatalf("%d scripts are found", len(files))
	}
	return files
}

// goFiles are the sources below folders, without tests.
func goFiles(t *testing.T, folders ...string) map[string]string {
	t.Helper()
	files := sources(t, ".go", folders...)
	for path := range files {
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "redistest") {
			delete(files, path)
		}
	}
	return files
}

func sources(t *testing.T, ext string, folders ...string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ext {
				return err
			}
			text, err := os.ReadFile(path)
			files[path] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}
