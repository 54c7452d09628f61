package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// nginxConfig is the shipped file with this test's addresses and paths.
func nginxConfig(t *testing.T, dir, listen string, nodes []*process) string {
	t.Helper()
	text, err := os.ReadFile(deployDir + "nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	replace := func(old, with string) {
		if strings.Count(config, old) != 1 {
			t.Fatalf("the shipped file does not say %q once", old)
		}
		config = strings.Replace(config, old, with, 1)
	}
	replace("listen 8080;", "listen "+listen+";")
	replace("pid /run/nginx.pid;", "pid "+filepath.Join(dir, "nginx.pid")+";")
	for i, n := range nodes {
		replace(fmt.Sprintf("server 127.0.0.1:808%d ", i+1), "server "+strings.TrimPrefix(n.base, "http://")+" ")
	}
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf(" %s_temp_path %s;", kind, filepath.Join(dir, kind))
	}
	replace("\nhttp {\n", "\nhttp {\n"+temp+"\n")
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startNginx runs nginx in front of the cluster's nodes.
func startNginx(t *testing.T, c *testCluster) *process {
	t.Helper()
	binary := needTool(t, "nginx")
	for range 5 { // a free port may be taken meanwhile
		addr := takenAddr(t)
		dir := t.TempDir()
		args := []string{"-p", dir, "-e", "stderr", "-c", nginxConfig(t, dir, addr, c.nodes)}
		out, err := exec.Command(binary, append([]string{"-t"}, args...)...).CombinedOutput()
		if err != nil || strings.Contains(string(out), "[warn]") {
			t.Fatalf("nginx -t: %v\n%s", err, out)
		}
		// One process, which is killed at the end of the test.
		cmd := exec.Command(binary, append(args, "-g", "daemon off; master_process off;")...)
		if p := runBeside(t, cmd, c.logs, "http://"+addr, passes); p != nil {
			return p
		}
	}
	t.Fatalf("nginx does not start:\n%s", c.logs)
	return nil
}

// TestNginx runs the file that deploy/ ships in front of three nodes.
func TestNginx(t *testing.T) {
	inTurn(t, "proxies", 1, 2)
	t.Parallel()
	needTool(t, "nginx")
	rdb := redistest.Mini(t)
	if redistest.HasReal() {
		rdb = redistest.Real(t)
	}
	c := newCluster(t, rdb, redistest.Prefix(), append([]string{"--drain-spread", "2s"}, withKEK...)...)
	for range 3 {
		c.start()
	}
	door := startNginx(t, c)
	homes := map[string]bool{}
	for i := range 6 {
		homes[c.visit(door, fmt.Sprintf("visitor-%d", i))] = true
	}
	if len(homes) != 3 {
		t.Errorf("connections went to %d nodes, want 3: %v", len(homes), homes)
	}
	g := gatherPartsAt(t, c, door)
	g.keygen(t)
	g.sign(t, "through nginx", 1, 3)

	victim := c.visit(door, "visitor")
	c.node(victim).kill()
	for i := range 20 { // from the first moment no client is sent there
		c.visit(door, fmt.Sprintf("after-kill-%d", i))
	}
	c.revive()
	// nginx does not check readiness: an early client would be sent away (4004).
	eventually(t, "the node is ready", func() bool { return c.node(victim).status("/readyz") == http.StatusOK })
	visits := 0 // each by another user, because of the limit on connecting
	eventually(t, "nginx takes the node back", func() bool {
		visits++
		return c.visit(door, fmt.Sprintf("back-%d", visits)) == victim
	})
	drainedBehind(t, c, door)

	for path, want := range map[string]int{"/readyz": 404, "/metrics": 404, "/healthz": 200, "/v1/keys": 401} {
		if got := door.status(path); got != want {
			t.Errorf("%s through nginx: status %d, want %d", path, got, want)
		}
	}
	counts := map[int]int{}
	began := time.Now()
	for range 60 {
		resp, err := http.Post(door.base+"/v1/login", "application/json", strings.NewReader("{"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		counts[resp.StatusCode]++
	}
	most := 30 + 3*int(time.Since(began)/time.Second+1)
	if counts[http.StatusBadRequest] < 30 || counts[http.StatusBadRequest] > most || counts[http.StatusBadRequest]+counts[http.StatusTooManyRequests] != 60 {
		t.Errorf("60 logins in %s: %v, want 30 to %d answered with 400 and the others with 429", time.Since(began), counts, most)
	}
	if got := door.status("/v1/keys"); got != 401 {
		t.Errorf("after the flood of logins other requests get %d", got)
	}
}

// drainedBehind stops a node with SIGTERM: new connections go elsewhere, without one
// failing, and the node ends by itself.
func drainedBehind(t *testing.T, c *testCluster, door *process) {
	t.Helper()
	for i := range 9 { // closing their sockets takes time
		c.client(fmt.Sprintf("holder-%d", i), wire.RoleParticipant).connect(door)
	}
	id := c.visit(door, "visitor")
	n := c.node(id)
	ended := make(chan error, 1)
	go func() { ended <- n.terminate() }()
	eventually(t, "the node drains", func() bool { return n.status("/readyz") != http.StatusOK })
	for i := 0; ; i++ {
		if home := c.visit(door, fmt.Sprintf("after-term-%d", i)); home == id {
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
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}
