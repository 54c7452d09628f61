package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// usedMemory is the size of a Redis's data, in bytes.
func usedMemory(t *testing.T, rdb redis.UniversalClient) int64 {
	t.Helper()
	info, err := rdb.Info(context.Background(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("redis does not say how much memory it uses")
	return 0
}

// manyUsers returns as many users as a key may have parties by default.
func manyUsers() []string {
	users := make([]string, wire.DefaultMaxParties)
	for i := range users {
		users[i] = fmt.Sprintf("holder-%d", i)
	}
	return users
}

// TestFloodOfLargestRequests: requests with a signature of 255 KiB are refused for
// their size; the largest legal ones, over all nodes and both protocols, end at the
// budget, which holds in Redis's memory; meanwhile another coordinator's keygen and
// signing continue.
func TestFloodOfLargestRequests(t *testing.T) {
	inTurn(t, "hostile crowds", 2, 3)
	t.Parallel()
	redis := redistest.StartRedis(t)
	c := newCluster(t, redis.Client(t), redistest.Prefix(), append([]string{"--request-limit", "-1", "--rate-limit", "-1"}, withKEK...)...)
	c.start()
	c.start()
	mallory := c.token("mallory", wire.RoleCoordinator)
	for i, user := range manyUsers() {
		c.client(user, wire.RoleParticipant).connect(c.nodes[i%2])
	}
	ask := func(i, signature int) (int, object) {
		return c.call(c.nodes[i%2], "POST", "/v1/keys?start=true", mallory, object{
			"threshold": 2, "participants": manyUsers(), "signed_request": strings.Repeat("j", signature),
		})
	}
	if status, answer := ask(0, 255<<10); status != http.StatusRequestEntityTooLarge || answer["code"] != string(wire.CodeTooLarge) {
		t.Errorf("a signed_request of 255 KiB: %d %v", status, answer)
	}
	socket := c.client("mallory", wire.RoleCoordinator).connect(c.nodes[0])
	socket.send("keygen_request", object{
		"key_id": "flood", "threshold": 2, "total_parts": 16, "participants": manyUsers(), "signed_request": strings.Repeat("j", 255<<10),
	})
	socket.expectError(wire.CodeTooLarge)

	before := usedMemory(t, c.rdb)
	begun := 0
	for ; begun < 100; begun++ {
		status, answer := ask(begun, wire.MaxSignedRequestBytes)
		if status == http.StatusTooManyRequests {
			if answer["code"] != string(wire.CodeQuotaExceeded) || !strings.Contains(answer["detail"].(string), "--max-open-bytes") {
				t.Errorf("refused with %v", answer)
			}
			break
		}
		if status != http.StatusCreated {
			t.Fatalf("%d %v", status, answer)
		}
	}
	socket.send("keygen_request", object{"key_id": "flood", "threshold": 2, "total_parts": 16, "participants": manyUsers(), "signed_request": strings.Repeat("j", wire.MaxSignedRequestBytes)})
	socket.expectError(wire.CodeQuotaExceeded)
	grown := usedMemory(t, c.rdb) - before
	t.Logf("%d of the largest keygens, and Redis has grown by %.1f MiB", begun, float64(grown)/(1<<20))
	if begun < 5 || begun == 100 || grown > session.DefaultOpenBytes {
		t.Errorf("%d keygens took %d bytes, the budget is %d", begun, grown, session.DefaultOpenBytes)
	}
	g := gatherParts(t, c)
	g.keygen(t)
	g.sign(t, "another's", 1, 2)
}

// TestUnknownUsersOfAccounts: if the requester has an account, the named users must
// have one or have connected before; with a token of another issuer they need not.
func TestUnknownUsersOfAccounts(t *testing.T) {
	t.Parallel()
	redis := redistest.StartRedis(t)
	c := newCluster(t, redis.Client(t), redistest.Prefix())
	n, open := c.start(), c.start("--unknown-users", "allow")
	strict := c.start("--unknown-users", "refuse")
	c.addUser("alice", "coordinator")
	c.addUser("bob", "participant")
	alice, _ := c.login(n, "alice")
	minted := c.token("backend", wire.RoleCoordinator)
	names := func(n *process, token, user string) (int, object) {
		return c.call(n, "POST", "/v1/keys", token, object{"threshold": 2, "participants": []string{"bob", user}})
	}
	is := func(what string, want int, status int, answer object) {
		t.Helper()
		if status != want {
			t.Errorf("%s: %d %v, want %d", what, status, answer, want)
		}
	}
	status, answer := names(n, alice, "ghost")
	is("a ghost", http.StatusUnprocessableEntity, status, answer)
	if answer["code"] != string(wire.CodeUnknownUser) || !strings.Contains(answer["detail"].(string), `"ghost"`) {
		t.Errorf("the ghost is refused with %v", answer)
	}
	status, answer = names(open, alice, "ghost")
	is("where anybody may be named", http.StatusCreated, status, answer)
	status, answer = names(n, minted, "ghost")
	is("by a token of another making", http.StatusCreated, status, answer)
	status, answer = names(strict, minted, "ghost")
	is("where nobody may", http.StatusUnprocessableEntity, status, answer)
	c.addUser("ghost", "participant")
	status, answer = names(n, alice, "ghost")
	is("a ghost with an account", http.StatusCreated, status, answer)
	c.client("carol", wire.RoleParticipant).connect(n)
	status, answer = names(n, alice, "carol")
	is("one who is connected", http.StatusCreated, status, answer)
}
