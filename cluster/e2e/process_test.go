package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	testSecret = "test-only secret of 32 bytes or more"
	testKEK    = "dGVzdC1vbmx5IGtleSBvZiAzMiBieXRlcyBsb25nISE=" // test-only
	patience   = time.Minute                                    // for anything that should happen at once, on a busy machine
)

// conclaved is the daemon's binary, built once for this test binary.
var conclaved = sync.OnceValues(func() (string, error) { return build("conclaved") })

// builds are the directories of programs; TestMain removes them.
var builds struct {
	sync.Mutex
	dirs []string
}

// build builds one of the programs, with flags for go build.
func build(program string, flags ...string) (string, error) {
	dir, err := os.MkdirTemp("", program+"-")
	if err != nil {
		return "", err
	}
	builds.Lock()
	builds.dirs = append(builds.dirs, dir)
	builds.Unlock()
	binary := filepath.Join(dir, program)
	args := append([]string{"build", "-o", binary}, flags...)
	build := exec.Command("go", append(args, "github.com/conclave-mpc/conclave/cmd/"+program)...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", program, err, out)
	}
	return binary, nil
}

// inTurn skips a test of a group that takes turns, see [sample.Turn].
func inTurn(t *testing.T, group string, row, rows int) {
	t.Helper()
	if !sample.Turn(group, row, rows) {
		t.Skip(sample.Reason)
	}
}

func TestMain(m *testing.M) {
	sample.Idling()
	code := m.Run()
	for _, dir := range builds.dirs {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// eachCluster runs a test against real conclaved processes: on a real redis-server
// if installed, else on miniredis, and in the full set on both. They differ in their
// scripts, which are tested on both in their packages.
func eachCluster(t *testing.T, nodes int, flags []string, test func(t *testing.T, c *testCluster)) {
	t.Helper()
	redistest.Best(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		c := newCluster(t, rdb, prefix, flags...)
		for range nodes {
			c.start()
		}
		test(t, c)
	})
}

// testCluster is a set of conclaved processes on one Redis.
type testCluster struct {
	t      *testing.T
	rdb    redis.UniversalClient
	url    string
	prefix string
	flags  []string
	tokens *auth.HS256
	logs   *lockedBuffer
	// secretFile, if set, is the file from which the nodes read testSecret, instead
	// of their environment.
	secretFile string
	// binary, if set, is the program of nodes that start from now on.
	binary string
	// computes means that the parties compute for so long that their silence is not
	// an error.
	computes bool

	nodes []*process
	met   acquaintance
}

func newCluster(t *testing.T, rdb redis.UniversalClient, prefix string, flags ...string) *testCluster {
	t.Helper()
	tokens, err := auth.NewHS256([]byte(testSecret), "", "")
	if err != nil {
		t.Fatal(err)
	}
	client, ok := rdb.(*redis.Client)
	if !ok {
		t.Fatalf("unexpected client %T", rdb)
	}
	c := &testCluster{t: t, rdb: rdb, url: "redis://" + client.Options().Addr + "/0", prefix: prefix, flags: flags, tokens: tokens, logs: &lockedBuffer{}}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
		}
		if t.Failed() {
			const most = 200 << 10
			logs := c.logs.String()
			t.Logf("logs of the nodes:\n%s", logs[max(0, len(logs)-most):])
		}
	})
	return c
}

// process is one conclaved.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	base  string // http://host:port
	admin string // likewise, of its admin listener
	done  chan struct{}
	err   error // of the process, once done is closed
}

// start adds a node and waits until it is ready.
func (c *testCluster) start(flags ...string) *process {
	c.t.Helper()
	p := c.run(flags...)
	eventually(c.t, "the node is ready", func() bool { return p.status("/readyz") == http.StatusOK })
	return p
}

// run adds a node and waits until it accepts connections.
func (c *testCluster) run(flags ...string) *process {
	c.t.Helper()
	p, err := c.launch(fmt.Sprintf("n%d", len(c.nodes)+1), flags...)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.logs.String())
	}
	c.nodes = append(c.nodes, p)
	return p
}

// launch starts a node's process and waits until it accepts connections.
func (c *testCluster) launch(id string, flags ...string) (*process, error) {
	binary, err := conclaved()
	if err != nil {
		return nil, err
	}
	if c.binary != "" {
		binary = c.binary
	}
	args := append([]string{"--listen", "127.0.0.1:0", "--redis", c.url, "--redis-prefix", c.prefix,
		"--node-id", id, "--log-level", "debug", "--drain-spread", "100ms"}, c.flags...)
	cmd := exec.Command(binary, append(args, flags...)...)
	cmd.Env = append(os.Environ(), "CONCLAVE_JWT_SECRET="+testSecret)
	if c.secretFile != "" {
		cmd.Env = append(os.Environ(), "CONCLAVE_JWT_SECRET_FILE="+c.secretFile)
	}
	tie(cmd)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{t: c.t, cmd: cmd, done: make(chan struct{})}
	address := make(chan [2]string, 1)
	go p.follow(stderr, c.logs, address)
	select {
	case addr := <-address:
		p.base, p.admin = "http://"+addr[0], "http://"+addr[1]
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("conclaved ended at start: %w", p.err)
	case <-time.After(patience):
		p.kill()
		return nil, errors.New("conclaved did not start")
	}
}

// follow copies the process's log and reports its address.
func (p *process) follow(stderr io.Reader, logs io.Writer, address chan<- [2]string) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintf(logs, "%s\n", lines.Bytes())
		var line struct{ Message, Address, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == "node started" {
			address <- [2]string{line.Address, line.Admin}
		}
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// terminate is SIGTERM; it returns how the process ended.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		return fmt.Errorf("still running %s after SIGTERM", patience)
	}
}

func (p *process) status(path string) int {
	resp, err := http.Get(p.base + path)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// token issues a token as the web service would.
func (c *testCluster) token(user string, roles ...wire.Role) string {
	c.t.Helper()
	token, _, err := c.tokens.Issue(user, roles, time.Hour)
	if err != nil {
		c.t.Fatal(err)
	}
	return token
}

// everything returns all that Redis holds under the prefix, as text.
func (c *testCluster) everything() map[string]string {
	c.t.Helper()
	ctx := context.Background()
	all := make(map[string]string)
	for it := c.rdb.Scan(ctx, 0, c.prefix+"*", 500).Iterator(); it.Next(ctx); {
		key := it.Val()
		var content any
		switch kind := c.rdb.Type(ctx, key).Val(); kind {
		case "hash":
			content = c.rdb.HGetAll(ctx, key).Val()
		case "stream":
			content = c.rdb.XRange(ctx, key, "-", "+").Val()
		case "zset":
			content = c.rdb.ZRangeWithScores(ctx, key, 0, -1).Val()
		case "set":
			content = c.rdb.SMembers(ctx, key).Val()
		case "string":
			content = c.rdb.Get(ctx, key).Val()
		case "none": // expired meanwhile
			continue
		default:
			c.t.Errorf("key %s has the unexpected type %s", key, kind)
		}
		all[key] = fmt.Sprint(content)
	}
	return all
}

// eventually waits for a condition that should hold soon.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// lockedBuffer is a bytes.Buffer for several writers.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
