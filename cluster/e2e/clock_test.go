package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestClockBehind: a node's clock is 300 s behind or ahead of Redis's, and the others'
// are right. It is not ready and says why. It refuses for now what others accept, and
// revokes nothing for good: not a register, not a request, not the socket of a
// client whose token expires by its clock alone. Its tokens are good elsewhere. When
// its clock is right again it is ready, and accepts the same token.
func TestClockBehind(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{300 * time.Second, -300 * time.Second} {
		t.Run((-off).String(), func(t *testing.T) {
			t.Parallel()
			c, redisAhead := clusterWithClock(t, off)
			n := c.run("--token-ttl", "1m")
			others := func() time.Time { return time.Now().Add(off) }
			issuer, err := auth.NewHS256([]byte(testSecret), "", "", auth.WithClock(others))
			if err != nil {
				t.Fatal(err)
			}
			token, _, err := issuer.Issue("bob", []wire.Role{wire.RoleParticipant}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the node says that it is not ready, and why", func() bool {
				status, answer := c.call(n, "GET", "/readyz", "", nil)
				return status == http.StatusServiceUnavailable && strings.Contains(fmt.Sprint(answer), "the clock of node n1 differs")
			})
			if status, answer := c.call(n, "GET", "/v1/keys", token, nil); status != http.StatusServiceUnavailable {
				t.Errorf("a token that others take: %d %v, want 503", status, answer)
			}
			s := c.client("bob", wire.RoleParticipant)
			s.token = token
			s.dial(n)
			s.send("register", object{"user_id": "bob", "role": "participant"})
			s.expectError(wire.CodeUnavailable)
			s.expectClosed(wire.CloseUnavailable)

			c.addUser("carol", wire.RoleParticipant)
			issued, _ := c.login(n, "carol")
			if _, err := issuer.Verify(context.Background(), issued); err != nil {
				t.Errorf("what the node issues is not good elsewhere: %v", err)
			}
			if !strings.Contains(c.logs.String(), "clock wrong") {
				t.Error("nothing in the log")
			}

			redisAhead.Store(0)
			eventually(t, "the node is ready", func() bool { return n.status("/readyz") == http.StatusOK })
		})
	}
}

// TestExpiredByAWrongClock: a client whose token expires only by its node's clock is
// not told that it has expired: it takes the same token to another node.
func TestExpiredByAWrongClock(t *testing.T) {
	t.Parallel()
	c, redisAhead := clusterWithClock(t, 0)
	n := c.start()
	token, _, err := c.tokens.Issue("bob", []wire.Role{wire.RoleParticipant}, 6*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s := c.socket(n, "bob", token)
	redisAhead.Store(int64(-300 * time.Second))
	s.expectClosed(wire.CloseUnavailable)
}

// clusterWithClock is a cluster whose Redis's clock is ahead by off.
func clusterWithClock(t *testing.T, off time.Duration) (*testCluster, *atomic.Int64) {
	t.Helper()
	m, ahead := redistest.StartMini(t), new(atomic.Int64)
	ahead.Store(int64(off))
	set := func() { m.SetTime(time.Now().Add(time.Duration(ahead.Load()))) }
	set()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for waitFor(ctx, 2*time.Millisecond) {
			set()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return newCluster(t, rdb, redistest.Prefix()), ahead
}
