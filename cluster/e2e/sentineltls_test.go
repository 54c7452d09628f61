package e2e_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// Passwords of the servers and their Sentinel; URLs must encode them.
const (
	serverPassword   = "of/servers"
	sentinelPassword = "of@sentinels"
)

// TestSentinelTLS has a master, its replica and a Sentinel that require TLS, a
// certificate and passwords, the Sentinel one of its own. A node serves through
// them, and continues when the master is killed.
func TestSentinelTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	serverCert, serverKey := a.issue("redis", 2)
	cert, key := a.issue("node", 3)
	secure := func(port string) map[string]string {
		return map[string]string{
			"tls-port": port, "tls-cert-file": serverCert, "tls-key-file": serverKey, "tls-ca-cert-file": a.file, "tls-auth-clients": "yes", "tls-replication": "yes",
		}
	}
	server := func() (*redistest.RealRedis, string) {
		port := freePort(t)
		args := []string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}
		for name, value := range secure(port) {
			args = append(args, "--"+name, value)
		}
		return redistest.StartRedis(t, args...), port
	}
	master, port := server()
	replica, _ := server()
	for _, r := range []*redistest.RealRedis{replica, master} {
		command(t, r, "config", "set", "masterauth", serverPassword)
	}
	command(t, master, "config", "set", "requirepass", serverPassword)
	command(t, replica, "replicaof", "127.0.0.1", port)
	eventually(t, "the replica follows", func() bool {
		return replica.Client(t).InfoMap(t.Context(), "replication").Val()["Replication"]["master_link_status"] == "up"
	})
	command(t, replica, "config", "set", "requirepass", serverPassword)

	sentinelPort, conf := freePort(t), ""
	for name, value := range secure(sentinelPort) {
		conf += name + " " + value + "\n"
	}
	conf += fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]s 1\nsentinel auth-pass %[1]s %[3]s\nsentinel down-after-milliseconds %[1]s 1000\n"+
		"sentinel failover-timeout %[1]s 5000\n", redistest.SentinelName, port, serverPassword)
	sentinel := redistest.StartSentinel(t, conf)
	asked := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr(), Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = asked.Close() })
	eventually(t, "the Sentinel knows the replica", func() bool {
		m := asked.Master(t.Context(), redistest.SentinelName).Val()
		return m["num-slaves"] == "1" && m["flags"] == "master"
	})
	command(t, sentinel, "acl", "setuser", "default", "on", "resetpass", ">"+sentinelPassword)

	servesThroughFailover(t, node.Config{
		Redis:       "rediss+sentinel://:of%2Fservers@127.0.0.1:" + sentinelPort + "/" + redistest.SentinelName + "?sentinel_password=of%40sentinels",
		RedisPrefix: redistest.Prefix(), RedisCA: a.file, RedisCert: cert, RedisKey: key,
	}, master)
}

// servesThroughFailover runs a node and kills its master.
func servesThroughFailover(t *testing.T, good node.Config, master *redistest.RealRedis) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	bad := good
	bad.RedisCert, bad.RedisKey = "", ""
	if err := node.AddUser(ctx, bad, "alice", testPassword, []string{"participant"}, false); err == nil {
		t.Error("connected without a certificate")
	}
	cfg := good
	cfg.Listen, cfg.NodeID, cfg.JWTSecret, cfg.DrainSpread = "127.0.0.1:0", "n1", []byte(testSecret), time.Millisecond
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is ready", func() bool { return n.Ready(ctx) == nil })
	if err := node.AddUser(ctx, good, "alice", testPassword, []string{"participant"}, false); err != nil {
		t.Error(err)
	}
	master.Kill()
	eventually(t, "there is a new master", func() bool {
		return node.AddUser(ctx, good, "bob", testPassword, []string{"participant"}, true) == nil
	})
	eventually(t, "the node is ready with it", func() bool { return n.Ready(ctx) == nil })
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// command sends a command to a server over TLS.
func command(t *testing.T, r *redistest.RealRedis, args ...any) {
	t.Helper()
	one := redis.NewClient(&redis.Options{Addr: r.Addr(), Protocol: 2, DisableIdentity: true})
	defer one.Close()
	if err := one.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
