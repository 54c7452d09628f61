package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const demoWithin = 8 * time.Minute // on a busy machine; a free one needs half a minute

// build makes the program as "go run" does.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "conclave-demo")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// TestDemo runs the whole demonstration, leaves it up, and asks it something.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the demonstration makes real pre-parameters and keys; left out with -short")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), demoWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(t), "-serve")
	var out shared
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(out.String(), "go run ./cmd/conclave") {
		select {
		case err := <-ended:
			t.Fatalf("ended: %v\n%s", err, out.String())
		case <-tick.C:
		}
	}
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
	askKeys(t, text)
	if t.Failed() {
		t.Log(text)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after an interrupt: %v, want exit 0\n%s", err, out.String())
	}
}

// askKeys uses what -serve printed: the URL and the coordinator's token.
func askKeys(t *testing.T, text string) {
	t.Helper()
	url := regexp.MustCompile(`url      (http://\S+)`).FindStringSubmatch(text)
	token := regexp.MustCompile(`alice \(coordinator\)\n  token    (\S+)`).FindStringSubmatch(text)
	if url == nil || token == nil {
		t.Fatal("no URL or no token")
	}
	req, err := http.NewRequest("GET", url[1]+"/v1/keys", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token[1])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Contains(body, []byte(`"key_id":"treasury"`)) || !bytes.Contains(body, []byte(`"key_id":"releases"`)) {
		t.Errorf("GET /v1/keys: %v, %s", err, body)
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
