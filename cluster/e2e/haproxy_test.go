package e2e_test

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const haproxyConfig = "../../deploy/haproxy.cfg"

// haproxy is a real HAProxy, with the file that deploy/ ships.
type haproxy struct {
	*process        // base is its address
	socket   string // for operators
}

// needTool returns the path of a program that runs beside the nodes; it skips or
// fails the test if that is not installed.
func needTool(t *testing.T, name string) string {
	t.Helper()
	binary, err := exec.LookPath(name)
	if err != nil {
		binary, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		if os.Getenv("CONCLAVE_REQUIRE_REAL") == "1" {
			t.Fatalf("%s is not on the PATH and CONCLAVE_REQUIRE_REAL=1", name)
		}
		t.Skipf("%s is not on the PATH", name)
	}
	return binary
}

// takenAddr is an address that was free a moment ago.
func takenAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startHAProxy runs haproxy in front of the cluster's nodes.
func startHAProxy(t *testing.T, c *testCluster, config string) *haproxy {
	t.Helper()
	binary := needTool(t, "haproxy")
	dir, err := os.MkdirTemp("", "haproxy-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &haproxy{socket: filepath.Join(dir, "admin.sock")}
	env := append(os.Environ(), "CONCLAVE_HAPROXY_SOCKET="+h.socket, "CONCLAVE_MAXCONN=2000")
	for i, n := range c.nodes {
		env = append(env, fmt.Sprintf("CONCLAVE_NODE_%d=%s", i+1, strings.TrimPrefix(n.base, "http://")))
	}
	for range 5 { // a free port may be taken meanwhile
		addr := takenAddr(t)
		env := append(slices.Clone(env), "CONCLAVE_BIND="+addr)
		check := exec.Command(binary, "-c", "-f", config)
		check.Env = env
		if out, err := check.CombinedOutput(); err != nil || strings.Contains(string(out), "WARNING") {
			t.Fatalf("haproxy -c: %v\n%s", err, out)
		}
		cmd := exec.Command(binary, "-db", "-f", config)
		cmd.Env = env
		if h.process = runBeside(t, cmd, c.logs, "http://"+addr, passes); h.process != nil {
			return h
		}
	}
	t.Fatalf("haproxy does not start:\n%s", c.logs.String())
	return nil
}

// runBeside starts a program and waits until it is up; nil if it ended at once.
func runBeside(t *testing.T, cmd *exec.Cmd, logs *lockedBuffer, base string, up func(p *process) bool) *process {
	t.Helper()
	cmd.Stdout, cmd.Stderr = logs, logs
	tie(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, base: base, done: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.done) }()
	t.Cleanup(p.kill)
	deadline := time.Now().Add(patience)
	for !up(p) {
		select {
		case <-p.done:
			return nil
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come up:\n%s", cmd.Path, logs)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return p
}

// passes reports whether a balancer forwards requests.
func passes(p *process) bool { return p.status("/healthz") == http.StatusOK }

// state is HAProxy's view of a node: UP, DOWN, …
func (h *haproxy) state(node string) string {
	h.t.Helper()
	conn, err := net.Dial("unix", h.socket)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, "show stat")
	rows := csv.NewReader(bufio.NewReader(conn))
	rows.FieldsPerRecord = -1
	all, err := rows.ReadAll()
	if err != nil || len(all) == 0 {
		h.t.Fatalf("show stat: %v", err)
	}
	for _, row := range all {
		if len(row) > 1 && row[0] == "nodes" && row[1] == node {
			return row[slices.Index(all[0], "status")]
		}
	}
	h.t.Fatalf("haproxy knows no node %s", node)
	return ""
}

// stickyConfig is the shipped file with its lines for stickiness enabled.
func stickyConfig(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(haproxyConfig)
	if err != nil {
		t.Fatal(err)
	}
	sticky := strings.ReplaceAll(string(text), "    #sticky: ", "    ")
	if sticky == string(text) {
		t.Fatal("the shipped file has lost its lines for stickiness")
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, []byte(sticky), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestHAProxy runs the file that deploy/ ships, unchanged and with its sticky
// alternative: both behave the same.
func TestHAProxy(t *testing.T) {
	inTurn(t, "proxies", 0, 2)
	t.Parallel()
	needTool(t, "haproxy")
	for _, sticky := range sample.Of(1, []bool{false, true}) {
		t.Run(fmt.Sprintf("sticky=%t", sticky), func(t *testing.T) {
			t.Parallel()
			rdb := redistest.Mini(t)
			if redistest.HasReal() {
				rdb = redistest.Real(t)
			}
			c := newCluster(t, rdb, redistest.Prefix(), append([]string{"--drain-spread", "2s"}, withKEK...)...)
			for range 3 {
				c.start()
			}
			config := haproxyConfig
			if sticky {
				config = stickyConfig(t)
			}
			h := startHAProxy(t, c, config)
			behindHAProxy(t, c, h, sticky)
		})
	}
}

func behindHAProxy(t *testing.T, c *testCluster, h *haproxy, sticky bool) {
	homes := map[string]bool{}
	for i := range 6 {
		homes[c.visit(h.process, fmt.Sprintf("visitor-%d", i))] = true
	}
	if want := map[bool]int{true: 1, false: 3}[sticky]; len(homes) != want {
		t.Errorf("connections went to %d nodes, want %d: %v", len(homes), want, homes)
	}

	a := arenaAt(t, c, 2, h.base)
	a.load(2, a.think())
	a.more(sample.Or(2, 5))
	victim := c.visit(h.process, "visitor")
	c.node(victim).kill()
	for i := range 20 { // from the first moment no client is sent there
		c.visit(h.process, fmt.Sprintf("after-kill-%d", i))
	}
	a.more(sample.Or(3, 10))
	c.revive()
	eventually(t, "haproxy takes the node back", func() bool { return h.state(victim) == "UP" })
	a.more(sample.Or(2, 5))
	drained(t, c, h)
	a.more(sample.Or(2, 5))
	c.revive()
	report(t, a, a.settle())

	g := gatherPartsAt(t, c, h.process)
	g.keygen(t)
	g.sign(t, "through the balancer", 1, 3)
	g.sign(t, "and again", 2, 3)
	h.limits(t)
}

// drained stops a node with SIGTERM: it closes its own connections, and new ones go
// elsewhere without one failing.
func drained(t *testing.T, c *testCluster, h *haproxy) {
	t.Helper()
	id := c.visit(h.process, "visitor")
	n := c.node(id)
	ended := make(chan error, 1)
	go func() { ended <- n.terminate() }()
	eventually(t, "the node drains", func() bool { return n.status("/readyz") != http.StatusOK })
	seen := false
	for i := 0; ; i++ {
		seen = seen || strings.HasPrefix(h.state(id), "DOWN")
		if home := c.visit(h.process, fmt.Sprintf("after-term-%d", i)); home == id {
			t.Errorf("connection %d went to the draining node", i)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("after SIGTERM: %v, want exit 0", err)
			}
			if i < 3 {
				t.Errorf("%d connections were made during the drain, too few to tell", i)
			}
			if !seen {
				t.Error("haproxy did not take the draining node for down before it ended")
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// visit connects and registers a user, and returns the node it reached.
func (c *testCluster) visit(door *process, user string) string {
	c.t.Helper()
	s := c.client(user, wire.RoleParticipant)
	s.dial(door)
	s.send("register", object{"user_id": s.user, "role": s.role})
	home := fmt.Sprint(s.expect("register_confirm")["node"])
	s.drop()
	return home
}

// limits checks the requests that the file refuses.
func (h *haproxy) limits(t *testing.T) {
	t.Helper()
	for path, want := range map[string]int{"/readyz": 404, "/metrics": 404, "/healthz": 200, "/v1/keys": 401} {
		if got := h.status(path); got != want {
			t.Errorf("%s through haproxy: status %d, want %d", path, got, want)
		}
	}
	counts := map[int]int{}
	for range 40 {
		resp, err := http.Post(h.base+"/v1/login", "application/json", strings.NewReader("{"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		counts[resp.StatusCode]++
	}
	if counts[http.StatusBadRequest] != 30 || counts[http.StatusTooManyRequests] != 10 {
		t.Errorf("40 logins: %v, want 30 answered with 400 and 10 refused with 429", counts)
	}
	if got := h.status("/v1/keys"); got != 401 {
		t.Errorf("after the flood of logins other requests get %d", got)
	}
}
