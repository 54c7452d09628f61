package e2e_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPipelinesAreRunByOne: code that runs a pipeline of go-redis must not drop its
// error, as commands of a connection that Redis refuses have no error of their own.
// redisx.Exec ensures that; the bench measures go-redis itself.
func TestPipelinesAreRunByOne(t *testing.T) {
	t.Parallel()
	dropped := regexp.MustCompile(`\bpipe\.Exec\(|_, _ :?= .*(Exec|Pipelined)\(|^\s*[\w.]+\.(Exec|Pipelined|TxPipelined)\(ctx`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "conclave-bench"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "cluster/internal/redisx/exec.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for i, line := range strings.Split(string(text), "\n") {
			if dropped.MatchString(line) {
				t.Errorf("%s:%d runs a pipeline: %s", path, i+1, strings.TrimSpace(line))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
