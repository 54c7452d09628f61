package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestOpenAPI makes real calls of every operation in the document that a node
// serves. Requests and answers match it, and exactly its statuses occur.
func TestOpenAPI(t *testing.T) {
	inTurn(t, "web API", 0, 2)
	t.Parallel()
	redis := redistest.StartRedis(t)
	hook := newReceiver(t, []byte("test-only secret of a webhook"))
	c := newCluster(t, redis.Client(t), redistest.Prefix(), slices.Concat([]string{"--login-limit", "5"}, withKEK, hook.flags())...)
	n := c.start()
	s := contractOf(t, n)
	s.successes(c, n)
	s.refusals(c, n)
	s.limits(c, c.start("--rate-limit", "0.01"))
	s.noLogin(c)
	fill(t, c.rdb)
	s.noRoom(c, n)
	redis.Kill()
	s.outages(c, n)
	for op, statuses := range s.operations() {
		for _, status := range statuses {
			if !s.seen[op][status] {
				t.Errorf("%s: %d is documented and was never seen", op, status)
			}
		}
	}
}

func (s *contract) is(n *process, want int, c call) object {
	s.t.Helper()
	status, text := s.do(n, c)
	if status != want {
		s.t.Errorf("%s %v: got %d %s, want %d", c.op, c.query, status, text, want)
	}
	var answer object
	if len(text) > 0 && text[0] == '{' {
		if err := json.Unmarshal(text, &answer); err != nil {
			s.t.Error(err)
		}
	}
	return answer
}

// successes goes from the login to a signature and its outcome's events.
func (s *contract) successes(c *testCluster, n *process) {
	t := s.t
	c.addUser("alice", "coordinator")
	login := s.is(n, 200, call{op: "POST /v1/login", body: fmt.Sprintf(`{"username":"alice","password":%q}`, testPassword)})
	alice, admin := login["token"].(string), c.token("root", wire.RoleAdmin)
	again := s.is(n, 200, call{op: "POST /v1/login", body: fmt.Sprintf(`{"username":"alice","password":%q,"refresh":true,"label":"a test"}`, testPassword)})
	s.refresh = again["refresh_token"].(string)
	s.is(n, 200, call{op: "GET /v1/whoami", token: again["token"].(string)})
	for _, attempt := range []string{"1", "2"} {
		s.renew(n, 200, attempt)
	}
	first := s.refresh
	s.refresh = again["refresh_token"].(string)
	s.renew(n, 409, "1")
	s.refresh = first
	for _, who := range []string{alice, admin} {
		s.is(n, 200, call{op: "GET /v1/users/{user}/logins", token: who, path: map[string]string{"user": "alice"}})
	}
	s.is(n, 200, call{op: "POST /v1/logout", token: c.token("nobody", wire.RoleCoordinator), body: `{}`})
	g := gatherParts(t, c)
	g.keygen(t)
	g.sign(t, "hello", 1, 2)

	reserved := s.is(n, 201, call{op: "POST /v1/keys", token: alice, body: fmt.Sprintf(`{"threshold":2,"participants":[%q,%q],"curve":"ed25519"}`, partNames[1], partNames[2])})
	s.is(n, 200, call{op: "GET /v1/keys/{key_id}", token: alice, path: map[string]string{"key_id": reserved["key_id"].(string)}})
	key := map[string]string{"key_id": g.keyID}
	for _, who := range []string{alice, c.token(partNames[3], wire.RoleParticipant), admin} {
		s.is(n, 200, call{op: "GET /v1/keys/{key_id}/epochs", token: who, path: key, query: url.Values{"after": {"0"}, "limit": {"1"}}})
		s.is(n, 200, call{op: "GET /v1/keys/{key_id}/lineage", token: who, path: key})
	}
	task := s.is(n, 201, call{op: "POST /v1/keys/{key_id}/signatures", token: alice, path: key, body: `{"data":"open","hash":"sha256"}`,
		query: url.Values{"start": {"true"}, "wait": {"5ms"}}, header: map[string]string{"Idempotency-Key": "order-1"}})
	if phase := task["session"].(map[string]any)["phase"]; phase != "inviting" {
		t.Errorf("phase after waiting for a moment: %v", phase)
	}
	open := map[string]string{"session_id": task["session_id"].(string)}
	s.is(n, 200, call{op: "GET /v1/sessions/{session_id}", token: alice, path: open, query: url.Values{"wait": {"1ms"}}})
	s.is(n, 409, call{op: "POST /v1/sessions/{session_id}/webhook", token: alice, path: open})
	s.is(n, 200, call{op: "DELETE /v1/sessions/{session_id}", token: alice, path: open, query: url.Values{"reason": {"a test"}}})
	s.is(n, 202, call{op: "POST /v1/sessions/{session_id}/webhook", token: alice, path: open})

	all := s.is(n, 200, call{op: "GET /v1/sessions", token: alice, query: url.Values{"limit": {"2"}}})
	ended := map[string]string{"session_id": all["items"].([]any)[1].(map[string]any)["session_id"].(string)}
	s.is(n, 409, call{op: "DELETE /v1/sessions/{session_id}", token: alice, path: ended})
	_, text := s.do(n, call{op: "GET /v1/sessions/{session_id}/events", token: alice, path: ended})
	events := parseEvents(t, string(text))
	if len(events) != 1 || events[0].name != "outcome" {
		t.Errorf("events of a session that has ended: %v", events)
	}
	s.is(n, 204, call{op: "GET /v1/sessions/{session_id}/events", token: alice, path: ended, header: map[string]string{"Last-Event-ID": events[0].id}})
	s.is(n, 200, call{op: "GET /v1/sessions", token: admin, query: url.Values{
		"cursor": {all["next"].(string)}, "state": {"completed,cancelled"}, "kind": {"sign"}, "key_id": {g.keyID},
	}})
	s.is(n, 200, call{op: "GET /v1/keys", token: alice, query: url.Values{"state": {"active"}, "before": {"2100-01-02T03:04:05Z"}}})
	for _, who := range []string{alice, admin} {
		s.is(n, 200, call{op: "GET /v1/nodes", token: who})
		for _, user := range []string{"bob", partNames[1]} {
			s.is(n, 200, call{op: "GET /v1/presence/{user}", token: who, path: map[string]string{"user": user}})
		}
	}
	s.reshares(c, n, alice)
	s.users(n, admin)
	s.is(n, 200, call{op: "POST /v1/tokens/revoke", token: admin, body: `{"jti":"none","reason":"a test"}`})
	s.is(n, 200, call{op: "GET /v1/audit", token: admin, query: url.Values{"limit": {"3"}}})
	s.is(n, 200, call{op: "GET /healthz"})
	s.is(n, 200, call{op: "GET /readyz"})
}

// reshares begins a reshare of a key whose parties have attested it, and ends it.
func (s *contract) reshares(c *testCluster, n *process, alice string) {
	attestedKey(s.t, c, "attested")
	key := map[string]string{"key_id": "attested"}
	asked := call{op: "POST /v1/keys/{key_id}/epochs", token: alice, path: key, body: epochBody(s.t, partNames[1], partNames[2]),
		query: url.Values{"wait": {"5ms"}}, header: map[string]string{"Idempotency-Key": "epoch-1"}}
	task := s.is(n, 201, asked)
	if got := task["session"].(map[string]any); got["kind"] != "reshare" || got["phase"] != "inviting" || got["old_parts"] != 3.0 || got["from_epoch"] != 1.0 {
		s.t.Errorf("the reshare's session: %v", got)
	}
	if again := s.is(n, 201, asked); again["session_id"] != task["session_id"] {
		s.t.Errorf("the same request again is %v, want %v", again["session_id"], task["session_id"])
	}
	other := asked
	other.header = map[string]string{"Idempotency-Key": "epoch-2"}
	s.is(n, 409, other) // one is open
	shown := s.is(n, 200, call{op: "GET /v1/keys/{key_id}", token: alice, path: key})
	if shown["reshare"] != task["session_id"] || shown["epoch"] != 1.0 {
		s.t.Errorf("the key while it is reshared: %v", shown)
	}
	list := s.is(n, 200, call{op: "GET /v1/keys/{key_id}/lineage", token: alice, path: key})
	if items := list["items"].([]any); len(items) != 1 {
		s.t.Errorf("the lineage of an attested key: %v", list)
	}
	s.is(n, 200, call{op: "GET /v1/sessions", token: alice, query: url.Values{"kind": {"reshare"}}})
	s.is(n, 200, call{op: "DELETE /v1/sessions/{session_id}", token: alice, path: map[string]string{"session_id": task["session_id"].(string)}})
	eventually(s.t, "the key has no open reshare", func() bool {
		return s.is(n, 200, call{op: "GET /v1/keys/{key_id}", token: alice, path: key})["reshare"] == nil
	})
}

// epochBody is the body of a request for a new committee.
func epochBody(t *testing.T, users ...string) string {
	t.Helper()
	p := wire.ReshareRequest{Threshold: 2}
	for i, user := range users {
		id, err := identity.New()
		if err != nil {
			t.Fatal(err)
		}
		p.Participants = append(p.Participants, wire.Party{PartIndex: i + 1, UserID: user, Identity: id.Public().String()})
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// attestedKey stores an active key of alice's that its three parties have attested.
func attestedKey(t *testing.T, c *testCluster, id string) {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, store := context.Background(), sessions.New(sessions.Config{Redis: c.rdb, Prefix: c.prefix})
	now, err := store.Now(ctx)
	ok(err)
	solo := sessiontest.NewSoloKey(9)
	k := session.Key{
		ID: id, Status: session.KeyGenerating, Curve: pubkey.Secp256k1, Epoch: 1, Threshold: 2, Participants: partNames[1:],
		Coordinator: "alice", Session: "kg-" + id, CreatedAt: now,
	}
	ok(store.PutKey(ctx, k))
	attested := statement.Attested{
		SessionID: k.Session, KeyID: id, Epoch: 1, Coordinator: k.Coordinator, Curve: k.Curve, Threshold: 2, Participants: k.Participants,
		AccountAddr: solo.Address, PublicKey: solo.Public,
	}
	var members []identity.Member
	var owners []*identity.Identity
	for i, user := range k.Participants {
		own, err := identity.New()
		ok(err)
		owners, members = append(owners, own), append(members, identity.Member{Index: i + 1, User: user, Identity: own.Public()})
	}
	for i, own := range owners {
		a, err := attested.Attest(own, members)
		ok(err)
		ok(store.PutShare(ctx, id, k.Session, i+1, "share", a.String()))
	}
	k.Version, k.Status, k.AccountAddr, k.PublicKey = 1, session.KeyActive, solo.Address, solo.Public
	ok(store.PutKey(ctx, k))
}

// users creates an account, changes all of it, and removes it.
func (s *contract) users(n *process, admin string) {
	zed := map[string]string{"user": "zed"}
	s.is(n, 201, call{op: "POST /v1/users", token: admin, body: fmt.Sprintf(`{"user_id":"zed","roles":["participant"],"password":%q}`, testPassword)})
	s.is(n, 200, call{op: "PUT /v1/users/{user}/roles", token: admin, path: zed, body: `{"roles":["admin"]}`})
	s.is(n, 200, call{op: "POST /v1/users/{user}/disable", token: admin, path: zed, query: url.Values{"reason": {"a test"}}})
	s.is(n, 200, call{op: "GET /v1/users", token: admin, query: url.Values{"limit": {"1"}, "prefix": {"z"}, "role": {"admin"}, "state": {"disabled"}}})
	s.is(n, 200, call{op: "POST /v1/users/{user}/enable", token: admin, path: zed})
	s.is(n, 200, call{op: "POST /v1/users/{user}/password", token: admin, path: zed, body: `{}`})
	s.is(n, 200, call{op: "GET /v1/users/{user}", token: admin, path: zed})
	s.is(n, 200, call{op: "DELETE /v1/users/{user}", token: admin, path: zed, query: url.Values{"reason": {"a test"}}})
}

// wrongUsers makes calls about accounts that are refused.
func (s *contract) wrongUsers(c *testCluster, n *process, alice, huge string) {
	c.addUser("root", wire.RoleAdmin) // the only one with an account
	root, _ := c.login(n, "root")
	self, none := map[string]string{"user": "root"}, map[string]string{"user": "nobody"}
	for op, most := range map[string]int{
		"GET /v1/users": 404, "POST /v1/users": 413, "GET /v1/users/{user}": 404, "PUT /v1/users/{user}/roles": 413, "POST /v1/users/{user}/password": 413,
		"POST /v1/users/{user}/disable": 404, "POST /v1/users/{user}/enable": 404, "DELETE /v1/users/{user}": 404,
	} {
		one := s.anything(op, alice)
		s.is(n, 403, one)
		if most == 413 {
			one.token, one.body = root, huge
			s.is(n, 413, one)
			one.body = `[]`
			s.is(n, 400, one)
		}
	}
	two := url.Values{"reason": {"two\nlines"}}
	for _, r := range []struct {
		want int
		call
	}{
		{400, call{op: "GET /v1/users", query: url.Values{"state": {"x"}}, bad: true}},
		{400, call{op: "GET /v1/users", query: url.Values{"role": {"x"}}, bad: true}},
		{400, call{op: "GET /v1/users", query: url.Values{"cursor": {"%"}}}},
		{409, call{op: "POST /v1/users", body: fmt.Sprintf(`{"user_id":"root","roles":["admin"],"password":%q}`, testPassword)}},
		{404, call{op: "GET /v1/users/{user}", path: none}},
		{404, call{op: "PUT /v1/users/{user}/roles", path: none, body: `{"roles":["admin"]}`}},
		{409, call{op: "PUT /v1/users/{user}/roles", path: self, body: `{"roles":["participant"]}`}},
		{404, call{op: "POST /v1/users/{user}/password", path: none, body: fmt.Sprintf(`{"password":%q}`, testPassword)}},
		{400, call{op: "POST /v1/users/{user}/disable", path: none, query: two}},
		{404, call{op: "POST /v1/users/{user}/disable", path: none}},
		{409, call{op: "POST /v1/users/{user}/disable", path: self}},
		{404, call{op: "POST /v1/users/{user}/enable", path: none}},
		{400, call{op: "POST /v1/users/{user}/enable", path: none, query: two}},
		{400, call{op: "DELETE /v1/users/{user}", path: none, query: two}},
		{404, call{op: "DELETE /v1/users/{user}", path: none}},
		{409, call{op: "DELETE /v1/users/{user}", path: self}},
	} {
		r.token = root
		s.is(n, r.want, r.call)
	}
}

// renew exchanges s.refresh.
func (s *contract) renew(n *process, want int, attempt string) {
	s.t.Helper()
	got := s.is(n, want, call{op: "POST /v1/token/refresh", body: fmt.Sprintf(`{"refresh_token":%q,"attempt":%q}`, s.refresh, attempt)})
	if want == 200 {
		s.refresh = got["refresh_token"].(string)
	}
}

// noRoom makes new requests while Redis is full.
func (s *contract) noRoom(c *testCluster, n *process) {
	alice, key := c.token("alice", wire.RoleCoordinator), map[string]string{"key_id": "treasury.1"}
	s.is(n, 507, call{op: "POST /v1/keys", token: alice, body: fmt.Sprintf(`{"threshold":2,"participants":[%q,%q]}`, partNames[1], partNames[2])})
	start := url.Values{"start": {"true"}}
	s.is(n, 507, call{op: "POST /v1/keys/{key_id}/signatures", token: alice, path: key, body: `{"data":"no room"}`, query: start})
	s.is(n, 507, s.anything("POST /v1/keys/{key_id}/epochs", alice))
	s.is(n, 507, s.anything("POST /v1/users", c.token("root", wire.RoleAdmin)))
	s.is(n, 200, call{op: "GET /readyz"})
}

// refusals makes calls that are refused, for their content or their user.
func (s *contract) refusals(c *testCluster, n *process) {
	alice, bob := c.token("alice", wire.RoleCoordinator), c.token(partNames[1], wire.RoleParticipant)
	other, admin := c.token("mallory", wire.RoleCoordinator), c.token("root", wire.RoleAdmin)
	key, none := map[string]string{"key_id": "treasury.1"}, map[string]string{"key_id": "none", "session_id": "none"}
	noKey, noSession := map[string]string{"key_id": "none"}, map[string]string{"session_id": "none"}
	huge := `{"reason":"` + strings.Repeat("x", 2<<20) + `"}`
	const two = `{"threshold":2,"participants":["a","b"]}`
	once := map[string]string{"Idempotency-Key": "order-1"} // for another request; see successes
	epoch := epochBody(s.t, partNames[1], partNames[2])
	for _, r := range []struct {
		want int
		call
	}{
		{400, call{op: "POST /v1/keys", token: alice, body: `{"threshold":1,"participants":["a","b"]}`, bad: true}},
		{400, call{op: "POST /v1/keys", token: alice, body: two, query: url.Values{"wait": {"1s"}}}},
		{400, call{op: "POST /v1/keys", token: alice, body: two, header: map[string]string{"Idempotency-Key": "a b"}, bad: true}},
		{400, call{op: "POST /v1/keys", token: alice, body: two, query: url.Values{"start": {"true"}, "wait": {"31s"}}}},
		{403, call{op: "POST /v1/keys", token: bob, body: two}},
		{409, call{op: "POST /v1/keys", token: alice, body: two, header: once}},
		{413, call{op: "POST /v1/keys", token: alice, body: huge, bad: true}},
		{422, call{op: "POST /v1/keys", token: alice, body: two}},
		{400, call{op: "POST /v1/keys/{key_id}/signatures", token: alice, path: key, body: `{"data":"0xabc"}`}},
		{403, call{op: "POST /v1/keys/{key_id}/signatures", token: bob, path: key, body: `{"data":"x"}`}},
		{404, call{op: "POST /v1/keys/{key_id}/signatures", token: other, path: key, body: `{"data":"x"}`}},
		{404, call{op: "POST /v1/keys/{key_id}/signatures", token: alice, path: noKey, body: `{"data":"x"}`}},
		{409, call{op: "POST /v1/keys/{key_id}/signatures", token: alice, path: key, body: `{"data":"x"}`, header: once}},
		{413, call{op: "POST /v1/keys/{key_id}/signatures", token: alice, path: key, body: huge, bad: true}},
		{404, call{op: "DELETE /v1/sessions/{session_id}", token: alice, path: noSession}},
		{403, call{op: "DELETE /v1/sessions/{session_id}", token: bob, path: s.sessionOf(n, bob)}},
		{404, call{op: "POST /v1/sessions/{session_id}/webhook", token: alice, path: noSession}},
		{403, call{op: "POST /v1/sessions/{session_id}/webhook", token: bob, path: s.sessionOf(n, bob)}},
		{404, call{op: "GET /v1/keys/{key_id}", token: other, path: key}},
		{400, call{op: "POST /v1/keys/{key_id}/epochs", token: alice, path: key, body: `{"threshold":2,"participants":[]}`, bad: true}},
		{403, call{op: "POST /v1/keys/{key_id}/epochs", token: bob, path: key, body: epoch}},
		{404, call{op: "POST /v1/keys/{key_id}/epochs", token: other, path: key, body: epoch}},
		{409, call{op: "POST /v1/keys/{key_id}/epochs", token: alice, path: key, body: epoch}}, // its parties have not attested it
		{413, call{op: "POST /v1/keys/{key_id}/epochs", token: alice, path: key, body: huge, bad: true}},
		{422, call{op: "POST /v1/keys/{key_id}/epochs", token: alice, path: key, body: epochBody(s.t, "a", "b")}},
		{404, call{op: "GET /v1/keys/{key_id}/epochs", token: other, path: key}},
		{400, call{op: "GET /v1/keys/{key_id}/epochs", token: alice, path: key, query: url.Values{"after": {"-1"}}, bad: true}},
		{404, call{op: "GET /v1/keys/{key_id}/lineage", token: other, path: key}},
		{400, call{op: "GET /v1/keys/{key_id}/lineage", token: alice, path: key, query: url.Values{"limit": {"17"}}, bad: true}},
		{400, call{op: "GET /v1/keys", token: alice, query: url.Values{"cursor": {"%"}}}},
		{400, call{op: "GET /v1/keys", token: alice, query: url.Values{"before": {"yesterday"}}}},
		{400, call{op: "GET /v1/keys", token: alice, query: url.Values{"state": {"lost"}}, bad: true}},
		{400, call{op: "GET /v1/sessions", token: alice, query: url.Values{"limit": {"201"}}, bad: true}},
		{400, call{op: "GET /v1/sessions", token: alice, query: url.Values{"kind": {"x"}}, bad: true}},
		{400, call{op: "GET /v1/sessions", token: alice, query: url.Values{"key_id": {"{x}"}}, bad: true}},
		{400, call{op: "GET /v1/sessions/{session_id}", token: alice, path: noSession, query: url.Values{"wait": {"soon"}}, bad: true}},
		{404, call{op: "GET /v1/sessions/{session_id}", token: alice, path: noSession, query: url.Values{"wait": {"1s"}}}},
		{404, call{op: "GET /v1/sessions/{session_id}/events", token: alice, path: noSession}},
		{404, call{op: "GET /v1/presence/{user}", token: alice, path: map[string]string{"user": "{bob}"}, bad: true}},
		{400, call{op: "POST /v1/tokens/revoke", token: admin, body: `{}`}},
		{403, call{op: "POST /v1/tokens/revoke", token: alice, body: `{"user":"bob"}`}},
		{413, call{op: "POST /v1/tokens/revoke", token: admin, body: huge}},
		{400, call{op: "GET /v1/audit", token: admin, query: url.Values{"after": {"x"}}}},
		{403, call{op: "GET /v1/audit", token: alice}},
		{400, call{op: "POST /v1/login", body: `[]`, bad: true}},
		{413, call{op: "POST /v1/login", body: huge, bad: true}},
		{401, call{op: "POST /v1/login", body: `{"username":"nobody","password":"x"}`}},
		{400, call{op: "POST /v1/token/refresh", body: `[]`, bad: true}},
		{401, call{op: "POST /v1/token/refresh", body: `{"refresh_token":"x"}`}},
		{413, call{op: "POST /v1/token/refresh", body: huge, bad: true}},
		{400, call{op: "POST /v1/logout", body: `[]`, bad: true}},
		{401, call{op: "POST /v1/logout", body: `{}`}},
		{413, call{op: "POST /v1/logout", body: huge, bad: true}},
		{403, call{op: "GET /v1/users/{user}/logins", token: alice, path: map[string]string{"user": "bob"}}},
		{404, call{op: "GET /v1/users/{user}/logins", token: alice, path: map[string]string{"user": "{bob}"}, bad: true}},
		{400, call{op: "DELETE /v1/sessions/{session_id}", token: alice, path: noSession, query: url.Values{"reason": {"two\nlines"}}}},
	} {
		s.is(n, r.want, r.call)
	}
	s.wrongUsers(c, n, alice, huge)
	for op := range s.guarded() {
		s.is(n, 401, call{op: op, path: none, bad: true})
	}
}

// sessionOf returns the newest session of a user.
func (s *contract) sessionOf(n *process, token string) map[string]string {
	list := s.is(n, 200, call{op: "GET /v1/sessions", token: token, query: url.Values{"limit": {"1"}}})
	return map[string]string{"session_id": list["items"].([]any)[0].(map[string]any)["session_id"].(string)}
}

// guarded returns the operations that need a token.
func (s *contract) guarded() map[string]bool {
	all := map[string]bool{}
	for op := range s.operations() {
		method, path, _ := strings.Cut(op, " ")
		if s.at(s.doc, "paths", path, strings.ToLower(method))["security"] != nil {
			all[op] = true
		}
	}
	return all
}

// anything is a path, a token and a body for any operation, so that it is refused
// only for a limit or an outage.
func (s *contract) anything(op, token string) call {
	c := call{op: op, token: token, path: map[string]string{"key_id": "treasury.1", "session_id": "none", "user": "bob"}, bad: true}
	switch op {
	case "POST /v1/keys":
		c.body = `{"threshold":2,"participants":["a","b"]}`
	case "POST /v1/keys/{key_id}/signatures":
		c.body = `{"data":"x"}`
	case "POST /v1/keys/{key_id}/epochs":
		c.body = epochBody(s.t, partNames[1], partNames[2])
	case "POST /v1/users":
		c.body = fmt.Sprintf(`{"user_id":"late","roles":["participant"],"password":%q}`, testPassword)
	case "PUT /v1/users/{user}/roles":
		c.body = `{"roles":["participant"]}`
	case "POST /v1/users/{user}/password":
		c.body = `{}`
	case "POST /v1/tokens/revoke":
		c.body = `{"jti":"x"}`
	case "POST /v1/login":
		c.body = `{"username":"late","password":"x"}`
	case "POST /v1/token/refresh":
		c.body = fmt.Sprintf(`{"refresh_token":%q,"attempt":"x"}`, s.refresh)
	case "POST /v1/logout":
		c.body = `{}`
	}
	return c
}

// limits has a node with low limits refuse each second call.
func (s *contract) limits(c *testCluster, n *process) {
	i := 0
	for op := range s.guarded() {
		i++
		flooding := s.anything(op, c.token(fmt.Sprint("flood-", i), wire.RoleCoordinator, wire.RoleAdmin))
		s.do(n, flooding)
		s.is(n, 429, flooding)
	}
	// The same attempt again is granted, but limited in frequency.
	eventually(s.t, "a renewal is refused for its frequency", func() bool {
		status, _ := s.do(n, s.anything("POST /v1/token/refresh", ""))
		return status == http.StatusTooManyRequests
	})
	eventually(s.t, "a logout is refused for its frequency", func() bool {
		status, _ := s.do(n, s.anything("POST /v1/logout", c.token("leaver", wire.RoleCoordinator)))
		return status == http.StatusTooManyRequests
	})
	// Five at once, and one more every twelve seconds.
	eventually(s.t, "a login is refused for its frequency", func() bool {
		status, _ := s.do(n, s.anything("POST /v1/login", ""))
		return status == http.StatusTooManyRequests
	})
}

// noLogin requests a token from nodes whose tokens come from another issuer.
func (s *contract) noLogin(c *testCluster) {
	issuer := newOtherIssuer(s.t)
	n := c.start("--jwt-secret", "", "--jwks", issuer.file, "--jwks-issuer", "https://issuer.example", "--jwks-audience", "conclave")
	for _, op := range []string{"POST /v1/login", "POST /v1/token/refresh", "POST /v1/logout"} {
		s.is(n, 404, s.anything(op, ""))
	}
	for _, op := range []string{"GET /v1/users", "POST /v1/users"} {
		s.is(n, 404, s.anything(op, issuer.token("root", "admin")))
	}
}

// outages calls everything while Redis is down.
func (s *contract) outages(c *testCluster, n *process) {
	for op, statuses := range s.operations() {
		if slices.Contains(statuses, http.StatusServiceUnavailable) {
			one := s.anything(op, c.token("root", wire.RoleCoordinator, wire.RoleAdmin))
			eventually(s.t, op+" says that Redis is away", func() bool {
				status, _ := s.do(n, one)
				return status == http.StatusServiceUnavailable
			})
		}
	}
}

// TestRoutes searches the source for routes outside the table from which the
// document is generated.
func TestRoutes(t *testing.T) {
	t.Parallel()
	var routed []string
	var sources []string
	for _, dir := range []string{"../../wsconn/httpapi", "../node"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, files...)
	}
	for _, file := range sources {
		if strings.HasSuffix(file, "_test.go") || filepath.Base(file) == "admin.go" { // the admin listener is not part of the API
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(node ast.Node) bool {
			c, ok := node.(*ast.CallExpr)
			if !ok || len(c.Args) != 2 {
				return true
			}
			if f, ok := c.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Handle" || f.Sel.Name == "HandleFunc") {
				routed = append(routed, types.ExprString(c.Args[0]))
			}
			return true
		})
	}
	slices.Sort(routed)
	want := []string{`"/"`, `"/"`, `"/"`, `"/v1/"`, `"/ws"`, `"GET " + documentPath`, `op.method + " " + op.path`}
	if !slices.Equal(routed, want) {
		t.Errorf("routed is\n%q\nwant\n%q", routed, want)
	}
}
