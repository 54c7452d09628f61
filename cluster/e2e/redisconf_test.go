package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
)

const deployDir = "../../deploy/"

// shippedRedis is a redis-server with deploy/'s redis.conf and users.acl.
type shippedRedis struct {
	addr  string
	admin *redis.Client
}

const conclavePassword, adminPassword = "test-only password of conclave", "test-only password of people"

// startShippedRedis runs deploy/redis-start.sh; only paths and addresses differ from
// the shipped files.
func startShippedRedis(t *testing.T, script string) *shippedRedis {
	t.Helper()
	dir := t.TempDir()
	env := append(os.Environ(), "TMPDIR="+dir)
	for name, password := range map[string]string{"REDIS_CONCLAVE_PASSWORD_FILE": conclavePassword, "REDIS_ADMIN_PASSWORD_FILE": adminPassword} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+file)
	}
	for range 5 { // a free port may be taken meanwhile
		r := &shippedRedis{addr: takenAddr(t)}
		host, port, _ := net.SplitHostPort(r.addr)
		r.admin = redis.NewClient(&redis.Options{Addr: r.addr, Username: "default", Password: adminPassword, MaxRetries: -1, Protocol: 2})
		t.Cleanup(func() { _ = r.admin.Close() })
		cmd, logs := exec.Command("sh", script, "--bind", host, "--port", port, "--dir", dir), &lockedBuffer{}
		cmd.Env = env
		if runBeside(t, cmd, logs, "", func(*process) bool { return r.admin.Ping(context.Background()).Err() == nil }) != nil {
			return r
		}
		t.Logf("redis-start.sh: %s", logs)
	}
	t.Fatal("redis-server does not start with the shipped files")
	return nil
}

// url is the URL for conclaved.
func (r *shippedRedis) url(password string) string {
	return "redis://conclave:" + strings.ReplaceAll(password, " ", "%20") + "@" + r.addr + "/0"
}

// shippedCluster is a cluster whose nodes are user conclave, with the prefix that
// users.acl allows. Tests inspect it as a user with all rights.
func shippedCluster(t *testing.T, r *shippedRedis, nodes int) *testCluster {
	t.Helper()
	c := newClusterAt(t, r.url(conclavePassword), r.admin, append(slices.Clone(withKEK), "--require-durable-redis")...)
	c.prefix = "conclave:"
	for range nodes {
		c.start()
	}
	return c
}

// TestRedisConf runs Conclave on a redis-server with the files that deploy/ ships:
// nodes start with --require-durable-redis, everything works with the rights of
// user conclave, and these are no more than Conclave needs.
func TestRedisConf(t *testing.T) {
	inTurn(t, "webhooks and keys", 2, 3)
	t.Parallel()
	needTool(t, "redis-server")
	ctx := context.Background()
	r := startShippedRedis(t, deployDir+"redis-start.sh")
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "maxmemory": "1073741824", "save": "", "min-replicas-to-write": "0",
	} {
		if got := r.admin.ConfigGet(ctx, name).Val()[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	r.coversScripts(t)
	c := shippedCluster(t, r, 2)
	defer func() {
		if t.Failed() {
			t.Logf("what Redis refused: %v", r.admin.Do(ctx, "ACL", "LOG").Val())
		}
	}()
	useEverything(t, c, r)

	if denied := r.admin.Do(ctx, "ACL", "LOG").Val(); len(denied.([]any)) != 0 {
		t.Errorf("Redis refused what Conclave needs: %v", denied)
	}
	r.leastPrivilege(t)
	r.refuses(t)
}

// useEverything exercises a cluster: load while a node dies, accounts, the seed's
// keygen and signing, the web API, cancelling, a node that leaves.
func useEverything(t *testing.T, c *testCluster, r *shippedRedis) {
	t.Helper()
	a := arenaAt(t, c, 1, c.nodes[0].base, c.nodes[1].base)
	a.load(1, 20*time.Millisecond)
	a.more(3)
	c.node("n2").kill()
	a.more(3)
	c.revive()
	a.more(3)
	report(t, a, a.settle())

	const password = "long enough a password"
	ctx, cfg := context.Background(), node.Config{Redis: r.url(conclavePassword), RedisPrefix: c.prefix}
	for _, do := range []func() error{
		func() error { return node.AddUser(ctx, cfg, "alice", password, []string{"coordinator"}, false) },
		func() error { return node.AddUser(ctx, cfg, "erin", password, []string{"participant"}, false) },
		func() error { return node.AddUser(ctx, cfg, "erin", password, []string{"coordinator"}, true) },
		func() error { return node.SetUserPassword(ctx, cfg, "erin", password) },
		func() error { return node.SetUserDisabled(ctx, cfg, "erin", true) },
		func() error { return node.SetUserDisabled(ctx, cfg, "erin", false) },
		func() error { _, err := node.ListUsers(ctx, cfg); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	first, second := c.nodes[0], c.nodes[1]
	_, login := c.call(first, "POST", "/v1/login", "", object{"username": "alice", "password": password})
	token, _ := login["token"].(string)
	g := gatherParts(t, c)
	g.keygen(t)
	g.sign(t, "with the rights of deploy/users.acl", 1, 3)
	for _, path := range []string{"/v1/keys", "/v1/keys/" + g.keyID, "/v1/sessions", "/v1/presence/" + partNames[1]} {
		if status, answer := c.call(second, "GET", path, token, nil); status != http.StatusOK {
			t.Errorf("GET %s: %d %v", path, status, answer)
		}
	}
	_, task := c.call(first, "POST", "/v1/keys/"+g.keyID+"/signatures?start=true", token, object{"data": "never mind"})
	if status, answer := c.call(second, "DELETE", fmt.Sprint("/v1/sessions/", task["session_id"]), token, nil); status != http.StatusOK {
		t.Errorf("cancel: %d %v", status, answer)
	}
	if err := c.node("n1").terminate(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// notHere are rights that a single server does not need.
var notHere = map[string]string{
	"wait": "--redis-wait-replicas", "select": "a database other than 0",
	"spublish": "Redis Cluster", "ssubscribe": "Redis Cluster", "sunsubscribe": "Redis Cluster", "cluster|slots": "Redis Cluster",
	"cluster|shards": "Redis Cluster", "command": "Redis Cluster", "readonly": "Redis Cluster", "asking": "Redis Cluster",
}

// leastPrivilege checks user conclave's rights against the commands that Redis has
// seen and that the scripts call: any further right must be listed with a reason.
func (r *shippedRedis) leastPrivilege(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	used := map[string]bool{}
	for name := range r.admin.InfoMap(ctx, "commandstats").Val()["Commandstats"] {
		used[strings.TrimPrefix(name, "cmdstat_")] = true
	}
	for name := range scriptCommands(t) {
		used[name] = true
	}
	allowed := r.rights(t)
	if len(allowed) < 30 {
		t.Fatalf("user conclave has only %v", allowed)
	}
	for _, name := range allowed {
		if _, ok := notHere[name]; !used[name] && !ok {
			t.Errorf("users.acl allows %s, which Conclave does not use", name)
		}
	}
	for name := range notHere {
		if !slices.Contains(allowed, name) {
			t.Errorf("users.acl does not allow %s, for %s", name, notHere[name])
		}
	}
}

// coversScripts fails the test if a script, run or not, calls a command that user
// conclave may not: add it to users.acl.
func (r *shippedRedis) coversScripts(t *testing.T) {
	t.Helper()
	allowed := r.rights(t)
	for name := range scriptCommands(t) {
		if !slices.Contains(allowed, name) {
			t.Errorf("a script calls %s, which users.acl does not allow", name)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// rights are the commands that user conclave may use.
func (r *shippedRedis) rights(t *testing.T) []string {
	t.Helper()
	fields, err := r.admin.Do(context.Background(), "ACL", "GETUSER", "conclave").Slice()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.Index(fields, any("commands"))
	var names []string
	for right := range strings.FieldsSeq(fmt.Sprint(fields[i+1])) {
		if name, ok := strings.CutPrefix(right, "+"); ok {
			names = append(names, name)
		}
	}
	return names
}

var scriptCall = regexp.MustCompile(`redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?`)

// scriptCommands are the commands that the Lua scripts call, in tests or not.
func scriptCommands(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".lua" {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range scriptCall.FindAllStringSubmatch(string(text), -1) {
			name := strings.ToLower(m[1])
			if name == "xinfo" || name == "memory" { // with a subcommand
				name += "|" + strings.ToLower(m[2])
			}
			names[name] = true
		}
		return err
	})
	if err != nil || len(names) == 0 {
		t.Fatalf("commands of the scripts: %v, %v", names, err)
	}
	return names
}

// refuses checks that user conclave cannot do more, and that other users get no
// access.
func (r *shippedRedis) refuses(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	user := redis.NewClient(&redis.Options{Addr: r.addr, Username: "conclave", Password: conclavePassword})
	defer user.Close()
	if err := user.Get(ctx, "conclave:no-such-key").Err(); err != redis.Nil {
		t.Errorf("its own key: %v", err)
	}
	for _, args := range [][]any{
		{"get", "other:key"}, {"hset", "other:{x}", "a", "b"}, {"del", "conclave"}, {"publish", "other", "x"}, {"publish", "conclave:audit", "x"},
		{"keys", "*"}, {"flushall"}, {"flushdb"}, {"config", "set", "appendonly", "no"}, {"shutdown"},
		{"acl", "list"}, {"monitor"}, {"replicaof", "no", "one"}, {"script", "flush"}, {"client", "kill", "type", "normal"},
		{"eval", "return redis.call('GET', KEYS[1])", 1, "other:key"}, {"eval", "return redis.call('FLUSHALL')", 0},
	} {
		err := user.Do(ctx, args...).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "can't run this command") &&
			!strings.Contains(err.Error(), "can't access at least one of the keys") {
			t.Errorf("user conclave may %v: %v", args, err)
		}
	}
	for who, password := range map[string]string{"conclave": "wrong", "default": "", "nobody": "x"} {
		in := redis.NewClient(&redis.Options{Addr: r.addr, Username: who, Password: password, MaxRetries: -1})
		if err := in.Ping(ctx).Err(); err == nil {
			t.Errorf("%s gets in with password %q", who, password)
		}
		_ = in.Close()
	}
}

// TestRedisConfWithReplicas uncomments the lines for replicas: with one the nodes
// work, and without it Redis accepts no writes.
func TestRedisConfWithReplicas(t *testing.T) {
	inTurn(t, "replicas", 2, 4)
	t.Parallel()
	needTool(t, "redis-server")
	dir := t.TempDir()
	for _, name := range []string{"redis-start.sh", "users.acl", "redis.conf"} {
		text, err := os.ReadFile(deployDir + name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "redis.conf" {
			if strings.Count(string(text), "#replicas: ") != 2 {
				t.Fatal("the shipped file has lost its lines for replicas")
			}
			text = []byte(strings.ReplaceAll(string(text), "#replicas: ", ""))
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := startShippedRedis(t, filepath.Join(dir, "redis-start.sh"))
	ctx := context.Background()
	if err := r.admin.Set(ctx, "conclave:x", "y", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOREPLICAS") {
		t.Errorf("without a replica: %v, want NOREPLICAS", err)
	}
	host, port, _ := net.SplitHostPort(r.addr)
	replica := redistest.StartRedis(t, "--masterauth", adminPassword, "--replicaof", host+" "+port)
	eventually(t, "the replica is level", func() bool {
		return replica.Client(t).InfoMap(ctx, "replication").Val()["Replication"]["master_link_status"] == "up"
	})
	c := newClusterAt(t, r.url(conclavePassword), r.admin, flags(arenaFlags, safely, []string{"--require-durable-redis"})...)
	c.prefix = "conclave:"
	c.start()
	a := arenaAt(t, c, 1, c.nodes[0].base) // its users retry when the replica is slow to answer
	a.load(1, 20*time.Millisecond)
	a.more(5)
	report(t, a, a.settle())
}
