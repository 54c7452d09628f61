package e2e_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/accounts/accountstest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const testPassword = "long enough a password"

// config is the configuration with which an operator's command reaches the cluster.
func (c *testCluster) config() node.Config {
	return node.Config{Redis: c.url, RedisPrefix: c.prefix}
}

func (c *testCluster) addUser(user string, roles ...wire.Role) {
	c.t.Helper()
	accountstest.AddUser(c.t, c.rdb, c.prefix, user, testPassword, roles...)
}

// login logs in at a node and returns the token and its jti.
func (c *testCluster) login(n *process, user string) (token, jti string) {
	c.t.Helper()
	status, answer := c.call(n, "POST", "/v1/login", "", object{"username": user, "password": testPassword})
	token, _ = answer["token"].(string)
	jti, _ = answer["token_id"].(string)
	if status != http.StatusOK || token == "" || jti == "" {
		c.t.Fatalf("login of %s: %d %v", user, status, answer)
	}
	return token, jti
}

// socket is a client that has logged in and registered at a node.
func (c *testCluster) socket(n *process, user, token string) *seedClient {
	c.t.Helper()
	s := c.client(user, wire.RoleParticipant)
	s.token = token
	return s.connect(n)
}

// refused checks that a node stops accepting the token, over HTTP and over a new
// socket. Each node learns of it in its own time.
func (c *testCluster) refused(n *process, user, token string) {
	c.t.Helper()
	eventually(c.t, "a revoked token is refused over HTTP", func() bool {
		status, problem := c.call(n, "GET", "/v1/keys", token, nil)
		return status == http.StatusUnauthorized && problem["code"] == "unauthenticated"
	})
	s := c.client(user, wire.RoleParticipant)
	s.token = token
	s.dial(n)
	s.send("register", object{"user_id": user, "role": s.role})
	s.expectError(wire.CodeUnauthenticated)
	s.expectClosed(wire.CloseRevoked)
}

// TestRevocation ends tokens in every way. The socket that uses one is on another
// node than the one that is told, and closes for good.
func TestRevocation(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		ctx, one, two := context.Background(), c.nodes[0], c.nodes[1]
		c.addUser("root", "admin")
		for _, user := range []string{"alice", "bob", "carol", "dave"} {
			c.addUser(user, "participant")
		}
		admin, _ := c.login(one, "root")
		alice, jti := c.login(one, "alice")
		fresh, _ := c.login(one, "alice")
		bob, _ := c.login(two, "bob")
		carol, _ := c.login(one, "carol")
		dave, _ := c.login(one, "dave")
		foreign := c.token("frank", wire.RoleParticipant)
		closes := func(what string, s *seedClient, revoke func()) {
			t.Helper()
			begin := time.Now()
			revoke()
			s.expectClosed(wire.CloseRevoked)
			t.Logf("%s: closed on the other node %s after", what, time.Since(begin).Round(time.Millisecond))
			c.refused(one, s.user, s.token)
			c.refused(two, s.user, s.token)
		}
		revoke := func(body object) func() {
			return func() {
				t.Helper()
				if status, answer := c.call(one, "POST", "/v1/tokens/revoke", admin, body); status != http.StatusOK || answer["status"] != "revoked" {
					t.Fatalf("revoke: %d %v", status, answer)
				}
			}
		}
		daves := c.socket(two, "dave", dave)
		closes("by jti", c.socket(two, "alice", alice), revoke(object{"jti": jti, "reason": "laptop lost"}))
		s := c.socket(two, "alice", fresh) // another token of the same user is not affected
		closes("by user", s, revoke(object{"user": "alice"}))
		closes("another issuer's user", c.socket(two, "frank", foreign), revoke(object{"user": "frank"}))
		closes("password changed", c.socket(two, "bob", bob), func() {
			if err := node.SetUserPassword(ctx, c.config(), "bob", testPassword+"!"); err != nil {
				t.Fatal(err)
			}
		})
		closes("disabled", c.socket(two, "carol", carol), func() {
			if err := node.SetUserDisabled(ctx, c.config(), "carol", true); err != nil {
				t.Fatal(err)
			}
		})

		// A revoked user logs in again; a disabled one cannot, nor with a token that
		// was issued elsewhere since.
		again, _ := c.login(two, "alice")
		c.socket(one, "alice", again)
		status, disabled := c.call(one, "POST", "/v1/login", "", object{"username": "carol", "password": testPassword})
		_, unknown := c.call(one, "POST", "/v1/login", "", object{"username": "nobody", "password": testPassword})
		if status != http.StatusUnauthorized || disabled["detail"] != unknown["detail"] || disabled["code"] != unknown["code"] {
			t.Errorf("login of a disabled account: %d %v, of nobody: %v", status, disabled, unknown)
		}
		c.refused(one, "carol", c.token("carol", wire.RoleParticipant))

		// Only an admin may revoke, and a refused call ends nothing.
		for _, body := range []object{{"user": "dave"}, {}, {"user": "dave", "jti": "x"}} {
			if status, problem := c.call(one, "POST", "/v1/tokens/revoke", again, body); status != http.StatusForbidden {
				t.Errorf("revoked by a participant: %d %v", status, problem)
			}
		}
		if status, problem := c.call(one, "POST", "/v1/tokens/revoke", admin, object{"user": "{dave}"}); status != http.StatusBadRequest {
			t.Errorf("revoked no user: %d %v", status, problem)
		}
		if status, _ := c.call(one, "POST", "/v1/tokens/revoke", "", object{"user": "dave"}); status != http.StatusUnauthorized {
			t.Errorf("revoked by nobody: %d", status)
		}
		daves.send("ping", object{})
		daves.expect("pong")

		// A node that starts later knows all revocations.
		three := c.start()
		c.refused(three, "alice", alice)
		c.refused(three, "alice", fresh)
		c.refused(three, "bob", bob)
		c.refused(three, "carol", carol)
		c.socket(three, "dave", dave)
	})
}

// TestRevocationWithoutPubSub revokes while every subscription of the cluster is cut
// as soon as it is back.
func TestRevocationWithoutPubSub(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	rdb := server.Client(t)
	c := newCluster(t, rdb, redistest.Prefix())
	one, two := c.start(), c.start()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for waitFor(ctx, 2*time.Millisecond) {
			rdb.Do(ctx, "client", "kill", "type", "pubsub")
		}
	})
	defer wg.Wait()
	defer cancel()
	admin := c.token("root", wire.RoleAdmin)
	s := c.client("alice", wire.RoleParticipant).connect(two)
	begin := time.Now()
	if status, answer := c.call(one, "POST", "/v1/tokens/revoke", admin, object{"user": "alice"}); status != http.StatusOK {
		t.Fatalf("revoke: %d %v", status, answer)
	}
	s.expectClosed(wire.CloseRevoked)
	t.Logf("closed on the other node %s after", time.Since(begin).Round(time.Millisecond))
}

// TestRevocationWhileCutOff: a node without Redis accepts no token, and catches up
// when it is back.
func TestRevocationWhileCutOff(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	c := newCluster(t, server.Client(t), redistest.Prefix())
	one := c.start()
	k := newLink(t, server.Addr())
	two := c.start("--redis", k.url())
	alice, bob := c.token("alice", wire.RoleParticipant), c.token("bob", wire.RoleParticipant)
	s := c.socket(two, "alice", alice)
	k.suffer(linkFault{cut: true})
	if status, answer := c.call(one, "POST", "/v1/tokens/revoke", c.token("root", wire.RoleAdmin), object{"user": "alice"}); status != http.StatusOK {
		t.Fatalf("revoke: %d %v", status, answer)
	}
	s.expectClosed(wire.CloseUnavailable)
	eventually(t, "it takes no token", func() bool {
		status, problem := c.call(two, "GET", "/v1/none", bob, nil)
		return status == http.StatusServiceUnavailable && problem["code"] == "unavailable"
	})
	if two.status("/readyz") == http.StatusOK {
		t.Error("ready without Redis")
	}
	k.suffer(linkFault{})
	eventually(t, "it takes tokens again", func() bool {
		status, _ := c.call(two, "GET", "/v1/none", bob, nil)
		return status == http.StatusNotFound
	})
	c.refused(two, "alice", alice)
	eventually(t, "it is ready again", func() bool { return two.status("/readyz") == http.StatusOK })
	c.socket(two, "bob", bob)
}

// otherIssuer has a key and publishes it in a file.
type otherIssuer struct {
	t    *testing.T
	key  ed25519.PrivateKey
	kid  string
	file string
}

func newOtherIssuer(t *testing.T) *otherIssuer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &otherIssuer{t: t, key: key, kid: rand.Text(), file: filepath.Join(t.TempDir(), "jwks.json")}
	i.publish(i)
	return i
}

// publish puts these issuers' keys in i's file.
func (i *otherIssuer) publish(all ...*otherIssuer) {
	i.t.Helper()
	keys := []object{}
	for _, o := range all {
		keys = append(keys, object{"kty": "OKP", "crv": "Ed25519", "kid": o.kid, "x": base64.RawURLEncoding.EncodeToString(o.key.Public().(ed25519.PublicKey))})
	}
	text, err := json.Marshal(object{"keys": keys})
	if err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(i.file+".new", text, 0o600); err != nil {
		i.t.Fatal(err)
	}
	if err := os.Rename(i.file+".new", i.file); err != nil {
		i.t.Fatal(err)
	}
}

func (i *otherIssuer) token(user, role string) string {
	i.t.Helper()
	return i.tokenFor(user, role, "conclave")
}

func (i *otherIssuer) tokenFor(user, role, audience string) string {
	i.t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"sub": user, "role": role, "iss": "https://issuer.example", "aud": audience,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	token.Header["kid"] = i.kid
	text, err := token.SignedString(i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

// TestOtherIssuer runs a node that accepts its own tokens and another issuer's, and
// one that accepts only the other's, through a change of the issuer's key.
func TestOtherIssuer(t *testing.T) {
	t.Parallel()
	redistest.Best(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		issuer, next := newOtherIssuer(t), newOtherIssuer(t)
		c := newCluster(t, rdb, prefix, "--jwks", issuer.file, "--jwks-issuer", "https://issuer.example", "--jwks-audience", "conclave")
		both := c.start()
		alone := c.start("--jwt-secret", "")
		c.addUser("alice", "participant")
		own, _ := c.login(both, "alice")
		c.socket(both, "alice", own)
		c.notTaken(alone, own)
		if status, problem := c.call(alone, "POST", "/v1/login", "", object{"username": "alice", "password": testPassword}); status != http.StatusNotFound {
			t.Errorf("login at a node without a secret: %d %v", status, problem)
		}
		// A token issued for another audience is good only if that was configured.
		strange := issuer.tokenFor("bob", "participant", "another service")
		c.notTaken(both, strange)
		if status, problem := c.call(c.start("--jwks-audience", node.AnyClaim), "GET", "/v1/keys", strange, nil); status != http.StatusOK {
			t.Errorf("a token for another audience, where any is good: %d %v", status, problem)
		}
		first := issuer.token("bob", "participant")
		s := c.socket(both, "bob", first)
		other := c.socket(alone, "carol", issuer.token("carol", "participant"))
		c.notTaken(both, next.token("bob", "participant"))

		issuer.publish(issuer, next)
		second := next.token("dave", "participant")
		for _, n := range c.nodes {
			eventually(t, "the next key is good", func() bool {
				status, _ := c.call(n, "GET", "/v1/keys", second, nil)
				return status == http.StatusOK
			})
		}
		daves := c.socket(both, "dave", second)
		issuer.publish(next)
		s.expectClosed(wire.CloseRevoked)
		other.expectClosed(wire.CloseRevoked)
		c.notTaken(both, first)
		daves.send("ping", object{})
		daves.expect("pong")
	})
}

// notTaken checks that a node refuses a token that was never good there.
func (c *testCluster) notTaken(n *process, token string) {
	c.t.Helper()
	if status, problem := c.call(n, "GET", "/v1/keys", token, nil); status != http.StatusUnauthorized {
		c.t.Errorf("got %d %v, want 401", status, problem)
	}
}

// TestSecretRotation changes the secret under a running cluster, a node at a time.
func TestSecretRotation(t *testing.T) {
	t.Parallel()
	redistest.Best(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		c := newCluster(t, rdb, prefix)
		c.addUser("alice", "participant")
		const next = "the secret to come, of 32 bytes too"
		before := c.start("--jwt-secret-previous", next)
		old, _ := c.login(before, "alice")
		after := c.start("--jwt-secret", next, "--jwt-secret-previous", testSecret)
		fresh, _ := c.login(after, "alice")
		for _, token := range []string{old, fresh} {
			for _, n := range []*process{before, after} {
				if status, problem := c.call(n, "GET", "/v1/keys", token, nil); status != http.StatusOK {
					t.Errorf("during the change: %d %v", status, problem)
				}
			}
		}
		done := c.start("--jwt-secret", next)
		c.notTaken(done, old)
		if status, _ := c.call(done, "GET", "/v1/keys", fresh, nil); status != http.StatusOK {
			t.Errorf("after the change: %d", status)
		}
	})
}
