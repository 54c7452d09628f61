package session

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources parses the non-test files of a directory.
func sources(t *testing.T, dir string) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	set, files := token.NewFileSet(), map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if files[name], err = parser.ParseFile(set, name, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	if len(files) == 0 {
		t.Fatalf("no Go files in %s", dir)
	}
	return set, files
}

// TestPure: the package imports nothing that does I/O and reads no clock; its callers
// pass the time. TestImports of cluster/node lists what it may import of this module.
func TestPure(t *testing.T) {
	t.Parallel()
	may := []string{"errors", "fmt", "maps", "reflect", "slices", "strconv", "strings", "time"}
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}
	set, files := sources(t, ".")
	for _, file := range files {
		for _, one := range file.Imports {
			path := strings.Trim(one.Path.Value, `"`)
			if one.Name != nil || !strings.HasPrefix(path, "github.com/conclave-mpc/conclave/") && !slices.Contains(may, path) {
				t.Errorf("%s: imports %s", set.Position(one.Pos()), path)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := call.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clock, call.Sel.Name) {
				t.Errorf("%s: uses time.%s", set.Position(call.Pos()), call.Sel.Name)
			}
			return true
		})
	}
}
