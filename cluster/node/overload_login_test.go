package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// tryLogin tries to log in at a node, as whoever a proxy names.
func (c *testCluster) tryLogin(n *process, user, password, forwarded string) (status int, code wire.Code, retry string) {
	c.t.Helper()
	body, err := json.Marshal(object{"username": user, "password": password})
	if err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequest("POST", n.base+"/v1/login", bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if forwarded != "" {
		req.Header.Set("X-Forwarded-For", forwarded)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Error(err)
		return 0, "", ""
	}
	defer resp.Body.Close()
	var answer struct{ Code wire.Code }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		c.t.Errorf("login: answer is not JSON: %v", err)
	}
	return resp.StatusCode, answer.Code, resp.Header.Get("Retry-After")
}

// flood tries an account many times at once and counts the statuses.
func (c *testCluster) flood(n *process, times int, user func(i int) string, forwarded string) map[int]int {
	c.t.Helper()
	counts := make(map[int]int)
	var mu sync.Mutex
	var all sync.WaitGroup
	next := make(chan int)
	for range 8 {
		all.Go(func() {
			for i := range next {
				status, code, retry := c.tryLogin(n, user(i), "a guess, and wrong", forwarded)
				if status == http.StatusTooManyRequests {
					if s, err := strconv.Atoi(retry); err != nil || s < 1 || code != wire.CodeRateLimited {
						c.t.Errorf("429 with code %q and Retry-After %q", code, retry)
					}
				}
				mu.Lock()
				counts[status]++
				mu.Unlock()
			}
		})
	}
	for i := range times {
		next <- i
	}
	close(next)
	all.Wait()
	return counts
}

// TestLoginFlood: guessing at one account is refused after a few times, whether
// there is such an account or not, and keeps nobody else out, nor its owner for
// long.
func TestLoginFlood(t *testing.T) {
	t.Parallel()
	const password, perAccount = "long enough a password", 6
	eachCluster(t, 1, []string{"--login-limit", strconv.Itoa(perAccount), "--login-address-limit", "1000"}, func(t *testing.T, c *testCluster) {
		n := c.nodes[0]
		for _, user := range []string{"alice", "bob"} {
			if err := node.AddUser(context.Background(), node.Config{Redis: c.url, RedisPrefix: c.prefix}, user, password, []string{"coordinator"}, false); err != nil {
				t.Fatal(err)
			}
		}
		for _, user := range []string{"alice", "nobody"} {
			begun := time.Now()
			counts := c.flood(n, 60, func(int) string { return user }, "")
			// As many as at once, and one for each tenth of a minute that it took.
			most := perAccount + 1 + int(time.Since(begun)/(time.Minute/perAccount))
			if got := counts[http.StatusUnauthorized]; got < perAccount || got > most || got+counts[http.StatusTooManyRequests] != 60 {
				t.Errorf("60 guesses at %s: %v, want %d to %d answered with 401 and the rest with 429", user, counts, perAccount, most)
			}
		}
		if status, code, _ := c.tryLogin(n, "bob", password, ""); status != http.StatusOK {
			t.Errorf("bob, from the same address: %d %s", status, code)
		}
		status, _, retry := c.tryLogin(n, "alice", password, "")
		if status == http.StatusTooManyRequests {
			s, _ := strconv.Atoi(retry)
			if most := 60/perAccount + 1; s > most {
				t.Errorf("alice is to wait %d s, want at most %d", s, most)
			}
			eventually(t, "alice logs in again", func() bool {
				waitFor(context.Background(), 500*time.Millisecond) // a refused attempt costs her nothing, but the machine
				status, _, _ := c.tryLogin(n, "alice", password, "")
				return status == http.StatusOK
			})
		} else if status != http.StatusOK {
			t.Errorf("alice: %d", status)
		}
	})
}

// TestLoginFromOneAddress: trying many accounts from one address is refused,
// whatever the client claims about itself; a proxy is believed that was named.
func TestLoginFromOneAddress(t *testing.T) {
	t.Parallel()
	const perAddress = 5
	user := func(i int) string { return fmt.Sprint("user-", i) }
	flags := []string{"--login-address-limit", strconv.Itoa(perAddress), "--login-limit", "1000"}
	refusedIn := func(t *testing.T, c *testCluster, n *process, forwarded string) {
		t.Helper()
		if counts := c.flood(n, 40, user, forwarded); counts[http.StatusTooManyRequests] < 40-2*perAddress-10 || counts[http.StatusUnauthorized] < perAddress {
			t.Errorf("40 accounts from one address: %v", counts)
		}
	}
	eachCluster(t, 1, flags, func(t *testing.T, c *testCluster) {
		refusedIn(t, c, c.nodes[0], "")
		// Now and then there is one more attempt; who is believed to be another each
		// time is never refused.
		limited := func(what string, n *process, forwarded string) {
			t.Helper()
			i := 0
			eventually(t, what+" is refused", func() bool {
				i++
				status, _, _ := c.tryLogin(n, "carol", "wrong", fmt.Sprintf(forwarded, i%250))
				return status == http.StatusTooManyRequests
			})
		}
		limited("who claims another address", c.nodes[0], "192.0.2.%d")
		behind := c.start("--trusted-proxies", "10.0.0.0/8, 127.0.0.1")
		refusedIn(t, c, behind, "203.0.113.9, 192.0.2.1")
		if status, _, _ := c.tryLogin(behind, "carol", "wrong", "192.0.2.2"); status != http.StatusUnauthorized {
			t.Errorf("another client of the proxy: %d", status)
		}
		limited("who claims another address behind the proxy", behind, "198.51.100.%d, 192.0.2.1")
		limited("the flooding address, behind two proxies,", behind, "192.0.2.1, 10.1.2.%d")
	})
}
