package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/wsconn/client"
)

const demoWithin = 8 * time.Minute // on a busy machine; a free one needs half a minute

// build builds the program as "go run" does.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "conclave-demo")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// TestDemo runs the whole demonstration, leaves it up, and runs the commands that it
// prints. It generates real pre-parameters, which takes longer than all else in the
// sample, and README's first command is the same demonstration.
func TestDemo(t *testing.T) {
	if !sample.Full() {
		t.Skip(sample.Reason)
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), demoWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(t), "-serve")
	cmd.Dir = filepath.Join("..", "..")
	temp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	var out shared
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		cancel() // no more output follows
	}()
	waitFor(ctx, t, &out, "Ctrl-C stops the cluster")
	text := out.String()
	for _, want := range []string{
		`node n1 on`, `node n2 on`, `node n3 on`, `alice is connected to node n\d`, `dave is connected to node n\d`,
		`of 4 safe primes`, `\[#+\.*\] bob is in round`, `Ethereum address  0x[0-9a-fA-F]{40}`, `signature  0x[0-9a-f]{130}`,
		`verified under 0x`, `node n\d, which held \w+'s socket, is dead`, `the signing finished without n\d`,
		`ed25519 public key`, `signature  0x[0-9a-f]{128}\n`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the demonstration does not show %s", want)
		}
	}
	spread := map[string]bool{}
	for _, m := range regexp.MustCompile(`is connected to node (n\d)`).FindAllStringSubmatch(text, -1) {
		spread[m[1]] = true
	}
	if len(spread) != 3 {
		t.Errorf("parties are on the nodes %v, want all three", spread)
	}
	takePlace(ctx, t, &out)
	runPrinted(ctx, t, cmd.Dir, text)
	if t.Failed() {
		t.Log(text)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after an interrupt: %v, want exit 0\n%s", err, out.String())
	}
	if left, err := filepath.Glob(filepath.Join(temp, "conclave-demo-*")); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v behind, %v", left, err)
	}
}

// printedOutcomes is the expected output of the commands that -serve prints, by a
// part of the command.
var printedOutcomes = map[string]string{
	"conclave sign treasury": `(?m)^signature +0x[0-9a-f]{130}$`,
	"conclave keys show":     `(?m)^key +treasury$`,
	"conclave sessions list": `(?m)sign .*completed`,
	"conclave whoami":        `(?m)^user +alice`,
	"/v1/keys":               `"key_id":"releases"(.|\n)*"key_id":"treasury"`,
	"redis-cli":              `(?m)^conclave:key:\{treasury\}$`,
}

// runPrinted runs each command that the demonstration has printed, unchanged, in the
// directory in which it was started.
func runPrinted(ctx context.Context, t *testing.T, dir, text string) {
	t.Helper()
	missing := maps.Clone(printedOutcomes)
	for line := range strings.Lines(text) {
		command, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), commandMark)
		if !ok {
			if strings.Contains(line, "go run") || strings.Contains(line, "curl ") {
				t.Errorf("a command without %q before it: %s", commandMark, line)
			}
			continue
		}
		what := slices.Collect(maps.Keys(printedOutcomes))
		what = slices.DeleteFunc(what, func(part string) bool { return !strings.Contains(command, part) })
		if len(what) != 1 {
			t.Errorf("nothing says what this must show: %s", command)
			continue
		}
		delete(missing, what[0])
		cmd := exec.CommandContext(ctx, "bash", "-c", command)
		cmd.Dir = dir
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil || !regexp.MustCompile(printedOutcomes[what[0]]).Match(stdout.Bytes()) {
			t.Errorf("$ %s\n%v, want exit 0 and %s\n%s%s", command, err, printedOutcomes[what[0]], &stdout, &stderr)
		}
	}
	for part := range missing {
		if program, _, _ := strings.Cut(strings.Replace(part, "/v1/keys", "curl", 1), " "); program != "conclave" {
			if _, err := exec.LookPath(program); err != nil {
				continue // then it is not printed
			}
		}
		t.Errorf("no command with %s is printed", part)
	}
}

// takePlace connects as alice with the printed token, as a user trying it may. The
// demonstration continues without its own alice.
func takePlace(ctx context.Context, t *testing.T, out *shared) {
	t.Helper()
	text := out.String()
	url := regexp.MustCompile(`url      (http://\S+)`).FindStringSubmatch(text)
	token := regexp.MustCompile(`alice \(coordinator\), until .*\n  token    (\S+)`).FindStringSubmatch(text)
	if url == nil || token == nil {
		t.Fatalf("no URL or no token:\n%s", text)
	}
	c, err := client.Dial(ctx, client.Config{URLs: url[1:], Token: client.StaticToken(token[1])})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	waitFor(ctx, t, out, "alice has connected from elsewhere")
}

func waitFor(ctx context.Context, t *testing.T, out *shared, text string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(out.String(), text) {
		select {
		case <-ctx.Done():
			t.Fatalf("%q is not printed:\n%s", text, out.String())
		case <-tick.C:
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args   []string
		status int
	}{{[]string{"-h"}, 0}, {[]string{"-nonsense"}, 2}, {[]string{"argument"}, 2}} {
		var stderr bytes.Buffer
		if got := run(context.Background(), tc.args, io.Discard, &stderr); got != tc.status {
			t.Errorf("%v: status %d, want %d", tc.args, got, tc.status)
		}
		if !strings.Contains(stderr.String(), "conclave-demo -serve") {
			t.Errorf("%v: no usage: %s", tc.args, stderr.String())
		}
	}
}

// shared is a buffer for several writers.
type shared struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *shared) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *shared) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
