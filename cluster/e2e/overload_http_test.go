package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestSlowHTTP opens connections that never finish their requests: each is closed,
// and others are answered meanwhile.
func TestSlowHTTP(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, nil, func(t *testing.T, c *testCluster) {
		n := c.nodes[0]
		addr := strings.TrimPrefix(n.base, "http://")
		begin := func(text string) net.Conn {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			return conn
		}
		slow := map[string]net.Conn{
			"nothing":       begin(""),
			"half a header": begin("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "),
			"half a body":   begin("POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"),
			"idle":          begin("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
		}
		huge := begin("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Huge: " + strings.Repeat("x", 30<<10) + "\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(huge), nil); err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 30 KiB: %v %v", resp, err)
		}
		if n.status("/healthz") != http.StatusOK {
			t.Error("others are not answered meanwhile")
		}
		for name, conn := range slow {
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the connection is open after %s", name, patience)
			}
		}
	})
}

// TestConnectionsAreBounded fills a node with sockets and connections: it refuses
// more, web calls are still answered, and when they have gone others are let in.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	const most = 40
	eachCluster(t, 1, []string{"--max-connections", fmt.Sprint(most), "--max-unregistered", "10"}, func(t *testing.T, c *testCluster) {
		n := c.nodes[0]
		all := &crowd{t: t}
		for i := range most {
			all.clients = append(all.clients, c.thin(fmt.Sprint("user-", i)))
		}
		all.come([]string{n.base})
		one := c.thin("one-more")
		if err := one.open(n.base); !errors.Is(err, errThinRefused) {
			t.Errorf("one more socket: %v, want it refused", err)
		}
		// Web calls have room beside the sockets, but a limited amount.
		var idle []net.Conn
		closed := 0
		for range 3 * most {
			conn, err := net.Dial("tcp", strings.TrimPrefix(n.base, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			idle = append(idle, conn)
		}
		for _, conn := range idle {
			_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				closed++
			}
			_ = conn.Close()
		}
		if closed < most {
			t.Errorf("of %d idle connections beside %d sockets, %d were closed", len(idle), most, closed)
		}
		eventually(t, "web calls are answered", func() bool { return n.status("/healthz") == http.StatusOK })
		all.leave()
		all.come([]string{n.base})
		all.leave()
	})
}

// TestReconnectStorm: a user who reconnects again and again is told to wait, and
// gets in after that.
func TestReconnectStorm(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, []string{"--register-limit", "0.5"}, func(t *testing.T, c *testCluster) { // five at once
		n := c.nodes[0]
		in := func() bool {
			k := c.thin("storm")
			if err := k.open(n.base); err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			_, err := k.Write(k.register)
			return err == nil && k.confirmed() == nil
		}
		let := 0
		begun := time.Now()
		for range 50 {
			if in() {
				let++
			}
		}
		if most := 6 + int(time.Since(begun)/(2*time.Second)); let < 5 || let > most {
			t.Errorf("%d registers of 50 in %s, want 5 to %d", let, time.Since(begun), most)
		}
		c.client("another", wire.RoleParticipant).connect(n)
		eventually(t, "the user gets in again", in)
	})
}

// TestRequestLimit: requests beyond the limit are refused, over the WebSocket and
// the web API, and change nothing; other users are not affected.
func TestRequestLimit(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, []string{"--request-limit", "0.05"}, func(t *testing.T, c *testCluster) { // one at once
		n := c.nodes[0]
		alice := c.client("alice", wire.RoleCoordinator).connect(n)
		task := object{"threshold": 2, "total_parts": 3, "participants": partNames[1:]}
		if status, answer := c.call(n, "POST", "/v1/keys", alice.token, task); status != http.StatusCreated {
			t.Fatalf("the first: %d %v", status, answer)
		}
		before := c.stable()
		for i := range 3 {
			alice.send("keygen_request", object{"key_id": fmt.Sprint("k", i), "threshold": 2, "total_parts": 3, "participants": partNames[1:]})
			alice.expectError(wire.CodeRateLimited)
			if status, answer := c.call(n, "POST", "/v1/keys?start=true", alice.token, task); status != http.StatusTooManyRequests || answer["code"] != "rate_limited" {
				t.Errorf("over the web API: %d %v", status, answer)
			}
		}
		if after := c.stable(); len(after) != len(before) {
			t.Errorf("refused requests have left something: %d keys before, %d after", len(before), len(after))
		}
		if status, _ := c.call(n, "GET", "/v1/keys", alice.token, nil); status != http.StatusOK {
			t.Errorf("another kind of call: %d", status)
		}
		if status, answer := c.call(n, "POST", "/v1/keys", c.token("bob", wire.RoleCoordinator), task); status != http.StatusCreated {
			t.Errorf("another user's: %d %v", status, answer)
		}
	})
}

// TestCallRate: a user's web calls are limited, lists more than others.
func TestCallRate(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, []string{"--rate-limit", "20"}, func(t *testing.T, c *testCluster) { // two calls a second, four at once
		n := c.nodes[0]
		count := func(user, path string, times int) (let int) {
			begun := time.Now()
			token := c.token(user, wire.RoleCoordinator)
			for range times {
				status, answer := c.call(n, "GET", path, token, nil)
				if status != http.StatusTooManyRequests {
					let++
				} else if answer["code"] != "rate_limited" {
					t.Errorf("%s: %v", path, answer)
				}
			}
			return let - 2*int(time.Since(begun)/time.Second+1)
		}
		if let := count("alice", "/v1/keys/none", 10); let > 4 {
			t.Errorf("%d calls at once, want 4", let)
		}
		if let := count("bob", "/v1/keys?limit=200", 5); let > 1 {
			t.Errorf("%d long lists at once, want 1", let)
		}
		if status, answer := c.call(n, "GET", "/v1/keys?limit=200", c.token("carol", wire.RoleCoordinator), nil); status != http.StatusOK {
			t.Errorf("a long list: %d %v", status, answer)
		}
		if status := n.status("/healthz"); status != http.StatusOK {
			t.Errorf("healthz: %d", status)
		}
	})
}

// TestByteRate: the bytes of a user's calls are limited however few the calls are.
func TestByteRate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, redistest.Mini(t), redistest.Prefix())
	n := c.start("--rate-limit", "-1", "--rate-limit-bytes", "262144")
	token, large := c.token("alice", wire.RoleCoordinator), object{"label": strings.Repeat("a", 100<<10)}
	status, answer, calls := 0, object(nil), 0
	for ; calls < 100 && status != http.StatusTooManyRequests; calls++ {
		status, answer = c.call(n, "POST", "/v1/keys", token, large)
	}
	if answer["code"] != "rate_limited" || calls < 10 {
		t.Errorf("call %d: %d %v, want it refused as rate_limited after 1 MiB", calls, status, answer)
	}
	if status, _ := c.call(n, "POST", "/v1/keys", c.token("bob", wire.RoleCoordinator), large); status == http.StatusTooManyRequests {
		t.Error("another user is refused too")
	}
}
