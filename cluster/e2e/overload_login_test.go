package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/store/accounts/accountstest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// tryLogin tries to log in at a node, from the address that a proxy names.
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

// flood tries an account many times concurrently and counts the statuses.
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

// TestLoginFlood: guessing at one account is refused after a few times, on all nodes
// together, whether the account exists or not; meanwhile the account's owner can log
// in, and so can others.
func TestLoginFlood(t *testing.T) {
	inTurn(t, "logins", 0, 3)
	t.Parallel()
	const password, perPair, perAccount = "long enough a password", 6, 100
	flags := []string{
		"--login-limit", strconv.Itoa(perPair), "--login-address-limit", "1000", "--login-account-limit", strconv.Itoa(perAccount),
		"--trusted-proxies", "127.0.0.1",
	}
	eachCluster(t, 2, flags, func(t *testing.T, c *testCluster) {
		for _, user := range []string{"alice", "bob"} {
			accountstest.AddUser(t, c.rdb, c.prefix, user, password, wire.RoleCoordinator)
		}
		const attacker, home, abroad = "203.0.113.66", "192.0.2.1", "192.0.2.2"
		in := func(what, user, from string) {
			t.Helper()
			for range 3 {
				if status, code, _ := c.tryLogin(c.nodes[0], user, password, from); status != http.StatusOK {
					t.Errorf("%s: %d %s", what, status, code)
				}
			}
		}
		in("alice, before", "alice", home)
		for _, user := range []string{"alice", "nobody"} {
			guesses := 0
			for _, n := range c.nodes {
				counts := c.flood(n, 30, func(int) string { return user }, attacker)
				guesses += counts[http.StatusUnauthorized]
				if counts[http.StatusUnauthorized]+counts[http.StatusTooManyRequests] != 30 {
					t.Errorf("30 guesses at %s: %v", user, counts)
				}
			}
			if guesses != perPair {
				t.Errorf("%d guesses at %s from one address, want %d", guesses, user, perPair)
			}
		}
		in("alice, from elsewhere", "alice", abroad)
		in("bob, from the attacker's address", "bob", attacker)
		// From many addresses: a fifth of a day's at once, and the owner gets in from her
		// earlier address, and from anywhere with an earlier token.
		guesses := 0
		for i := range 40 {
			if status, _, _ := c.tryLogin(c.nodes[i%2], "alice", "a guess, and wrong", fmt.Sprint("198.51.100.", i)); status == http.StatusUnauthorized {
				guesses++
			}
		}
		if want := perAccount/5 - perPair; guesses != want {
			t.Errorf("%d guesses at alice from many addresses, want %d", guesses, want)
		}
		if status, _, _ := c.tryLogin(c.nodes[0], "alice", password, "192.0.2.99"); status != http.StatusTooManyRequests {
			t.Errorf("at a spent account from an address that it does not know: %d", status)
		}
		in("alice, where she was", "alice", home)
		in("alice, where she was once", "alice", abroad)
		expired, _, err := c.tokens.Issue("alice", []wire.Role{wire.RoleCoordinator}, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the token has expired", func() bool {
			status, _ := c.call(c.nodes[0], "GET", "/v1/keys", expired, nil)
			return status == http.StatusUnauthorized
		})
		for token, want := range map[string]int{expired: http.StatusOK, c.token("bob", wire.RoleCoordinator): http.StatusTooManyRequests, "none": http.StatusTooManyRequests} {
			header := http.Header{"X-Forwarded-For": {attacker}, "Authorization": {"Bearer " + token}}
			if status, answer := c.callWith(c.nodes[1], "POST", "/v1/login", "", header, object{"username": "alice", "password": password}); status != want {
				t.Errorf("from the attacker's address: %d %v, want %d", status, answer, want)
			}
		}
	})
}

// TestLoginFromOneAddress: trying many accounts from one address is refused,
// whatever the client claims about itself; only a configured proxy is believed.
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
		for i := range 40 {
			c.addUser(user(i), wire.RoleParticipant)
		}
		refusedIn(t, c, c.nodes[0], "")
		// A client believed to be another each time is never refused. Concurrently,
		// as a machine that is slow with one has allowed one more attempt meanwhile.
		limited := func(what string, n *process, forwarded string) {
			t.Helper()
			var refused atomic.Bool
			var all sync.WaitGroup
			for i := range 3 * perAddress {
				all.Go(func() {
					if status, _, _ := c.tryLogin(n, "carol", "wrong", fmt.Sprintf(forwarded, i)); status == http.StatusTooManyRequests {
						refused.Store(true)
					}
				})
			}
			all.Wait()
			if !refused.Load() {
				t.Errorf("%s is let through", what)
			}
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
