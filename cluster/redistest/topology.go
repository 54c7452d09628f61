package redistest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// failoverWithin bounds how long a replica may take to take over.
const failoverWithin = 30 * time.Second

const (
	shardsTimeout = time.Minute     // for a cluster to come up
	meetEvery     = 3 * time.Second // between introductions of its servers
)

// replicaArgs make replicas catch up at once, for tests.
var replicaArgs = []string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}

// Shards is a Redis Cluster of real processes.
type Shards struct {
	Servers []*RealRedis // initial masters first
	shards  int
}

// StartRedisCluster starts a redis-server that is a Redis Cluster of one shard, and
// returns a client of it: enough to test that commands and scripts keep to one
// slot, which such a server enforces.
func StartRedisCluster(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	return StartShards(tb, 1, 0).Client(tb)
}

// StartShards starts a Redis Cluster, in which each shard has that many replicas,
// for the duration of the test. A shard whose master is down fails over after about
// two seconds. Without redis-server the test is skipped, as with [StartRedis].
func StartShards(tb testing.TB, shards, replicas int) *Shards {
	tb.Helper()
	c := &Shards{shards: shards}
	ctx, cancel := context.WithTimeout(context.Background(), shardsTimeout)
	defer cancel()
	var clients []redis.UniversalClient
	buses := map[*RealRedis]string{}
	for i := range shards * (1 + replicas) {
		// By default the bus is 10000 above the port, which may not be a valid port.
		bus, err := freeAddr()
		if err != nil {
			tb.Fatal(err)
		}
		_, busPort, _ := net.SplitHostPort(bus)
		r := StartRedis(tb, append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", busPort}, replicaArgs...)...)
		one := r.Client(tb)
		if i < shards {
			first, last := i*16384/shards, (i+1)*16384/shards-1
			must(tb, one.Do(ctx, "cluster", "addslotsrange", first, last).Err())
		}
		must(tb, one.Do(ctx, "cluster", "set-config-epoch", i+1).Err())
		c.Servers, clients, buses[r] = append(c.Servers, r), append(clients, one), busPort
	}
	size := fmt.Sprintf("cluster_known_nodes:%d\r", len(c.Servers))
	var met time.Time
	for i, one := range clients {
		await(tb, ctx, "the servers know each other", func() bool {
			if strings.Contains(one.ClusterInfo(ctx).Val(), size) {
				return true
			}
			// A handshake that a busy machine does not finish within the node
			// timeout is dropped; repeating it is harmless.
			if time.Since(met) > meetEvery {
				met = time.Now()
				for _, r := range c.Servers[1:] {
					host, port, _ := net.SplitHostPort(r.addr)
					must(tb, clients[0].Do(ctx, "cluster", "meet", host, port, buses[r]).Err())
				}
			}
			return false
		})
		if i >= shards {
			master := clients[i%shards].Do(ctx, "cluster", "myid").Val()
			// It refuses until gossip has told it that the other is a master.
			await(tb, ctx, "a replica finds its master", func() bool { return one.Do(ctx, "cluster", "replicate", master).Err() == nil })
		}
	}
	c.awaitWhole(tb, ctx, replicas)
	return c
}

// awaitWhole waits until all servers see a healthy cluster and every replica is in
// sync.
func (c *Shards) awaitWhole(tb testing.TB, ctx context.Context, replicas int) {
	tb.Helper()
	rdb := c.Client(tb)
	for _, r := range c.Servers {
		one := r.Client(tb)
		await(tb, ctx, "the cluster is whole", func() bool {
			info := one.ClusterInfo(ctx).Val()
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_size:%d\r", c.shards)) {
				return false
			}
			repl := one.InfoMap(ctx, "replication").Val()["Replication"]
			return repl["role"] == "slave" && repl["master_link_status"] == "up" || repl["role"] == "master"
		})
	}
	await(tb, ctx, "every shard has its replicas", func() bool {
		full := 0
		shards, err := rdb.ClusterShards(ctx).Result()
		for _, s := range shards {
			if len(s.Slots) > 0 && len(s.Nodes) == 1+replicas {
				full++
			}
		}
		return err == nil && full == c.shards
	})
}

// Addrs returns host:port of every server.
func (c *Shards) Addrs() []string {
	var all []string
	for _, r := range c.Servers {
		all = append(all, r.addr)
	}
	return all
}

// URL returns the addresses as conclaved takes them.
func (c *Shards) URL() string { return "redis+cluster://" + strings.Join(c.Addrs(), ",") }

// Client returns a new client of the cluster, closed when the test ends.
func (c *Shards) Client(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Master returns the server that is now the master of key's shard.
func (c *Shards) Master(tb testing.TB, key string) *RealRedis {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	owner, err := c.Client(tb).MasterForKey(ctx, key)
	must(tb, err)
	return c.at(tb, owner.Options().Addr)
}

func (c *Shards) at(tb testing.TB, addr string) *RealRedis {
	tb.Helper()
	i := slices.Index(c.Addrs(), addr)
	if i < 0 {
		tb.Fatalf("no server of the cluster is at %s", addr)
	}
	return c.Servers[i]
}

// KillMaster ends the master of key's shard with SIGKILL, waits until a replica
// has taken its slots, and returns the dead one.
func (c *Shards) KillMaster(tb testing.TB, key string) *RealRedis {
	tb.Helper()
	dead := c.Master(tb, key)
	dead.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), failoverWithin)
	defer cancel()
	for _, r := range c.Servers {
		if r == dead {
			continue
		}
		one := r.Client(tb)
		await(tb, ctx, "a replica takes over from "+dead.addr, func() bool {
			return served(one.ClusterShards(ctx).Val(), dead.addr) && strings.Contains(one.ClusterInfo(ctx).Val(), "cluster_state:ok")
		})
	}
	return dead
}

// served reports whether every slot has a living master other than dead.
func served(shards []redis.ClusterShard, dead string) bool {
	var slots int64
	for _, s := range shards {
		if slices.ContainsFunc(s.Nodes, func(n redis.Node) bool {
			return n.Role == "master" && n.Health == "online" && net.JoinHostPort(n.IP, fmt.Sprint(n.Port)) != dead
		}) {
			for _, r := range s.Slots {
				slots += r.End - r.Start + 1
			}
		}
	}
	return slots == 16384
}

// Rejoin restarts a dead server, which becomes a replica, and waits until it is in
// sync.
func (c *Shards) Rejoin(tb testing.TB, r *RealRedis) {
	tb.Helper()
	r.Restart(tb)
	awaitFollows(tb, r)
}

func awaitFollows(tb testing.TB, r *RealRedis) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failoverWithin)
	defer cancel()
	one := r.Client(tb)
	await(tb, ctx, "the restarted server follows the new master", func() bool {
		repl := one.InfoMap(ctx, "replication").Val()["Replication"]
		return repl["role"] == "slave" && repl["master_link_status"] == "up"
	})
}

// SentinelName is what the Sentinels of [StartSentinels] call their master.
const SentinelName = "conclave"

// Sentinels is a master with replicas, watched by three Sentinels.
type Sentinels struct {
	Servers  []*RealRedis // the first master first
	Watchers []*RealRedis
}

// StartSentinels starts a master with that many replicas and three Sentinels, for
// the duration of the test. They fail over about two seconds after the master is
// down. Further arguments go to the servers' command lines. Without redis-server
// the test is skipped, as with [StartRedis].
func StartSentinels(tb testing.TB, replicas int, args ...string) *Sentinels {
	tb.Helper()
	args = append(slices.Clone(replicaArgs), args...)
	s := &Sentinels{Servers: []*RealRedis{StartRedis(tb, args...)}}
	master := s.Servers[0]
	host, port, _ := net.SplitHostPort(master.addr)
	for range replicas {
		s.Servers = append(s.Servers, StartRedis(tb, append([]string{"--replicaof", host + " " + port}, args...)...))
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s.awaitReplicas(tb, ctx, master, replicas)
	conf := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 2\nsentinel down-after-milliseconds %[1]s 1000\n"+
		"sentinel failover-timeout %[1]s 5000\nsentinel parallel-syncs %[1]s 2\n", SentinelName, host, port)
	for range 3 {
		s.Watchers = append(s.Watchers, StartSentinel(tb, conf))
	}
	for _, w := range s.Watchers {
		one := redis.NewSentinelClient(&redis.Options{Addr: w.addr})
		defer one.Close()
		await(tb, ctx, "the Sentinels know each other and the replicas", func() bool {
			m := one.Master(ctx, SentinelName).Val()
			return m["num-other-sentinels"] == "2" && m["num-slaves"] == fmt.Sprint(replicas) && m["flags"] == "master"
		})
	}
	return s
}

// StartSentinel starts one Sentinel, for the duration of the test, with lines of
// configuration besides its address. Without redis-server the test is skipped, as
// with [StartRedis].
func StartSentinel(tb testing.TB, conf string) *RealRedis {
	tb.Helper()
	needServer(tb)
	w, err := startWith(RealRedis{conf: conf})
	must(tb, err)
	tb.Cleanup(w.remove)
	return w
}

func (s *Sentinels) awaitReplicas(tb testing.TB, ctx context.Context, master *RealRedis, n int) {
	tb.Helper()
	one := master.Client(tb)
	await(tb, ctx, "the replicas are level", func() bool {
		repl := one.InfoMap(ctx, "replication").Val()["Replication"]
		online := 0
		for name, text := range repl {
			if strings.HasPrefix(name, "slave") && strings.Contains(text, "state=online") {
				online++
			}
		}
		return repl["role"] == "master" && online == n
	})
}

// URL returns the Sentinels' addresses as conclaved takes them.
func (s *Sentinels) URL() string {
	return "redis+sentinel://" + strings.Join(s.watcherAddrs(), ",") + "/" + SentinelName
}

func (s *Sentinels) watcherAddrs() []string {
	var all []string
	for _, w := range s.Watchers {
		all = append(all, w.addr)
	}
	return all
}

// Client returns a new client of the current master, closed when the test ends.
func (s *Sentinels) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: SentinelName, SentinelAddrs: s.watcherAddrs()})
	tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Master returns the server that the Sentinels name as master.
func (s *Sentinels) Master(tb testing.TB) *RealRedis {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	one := redis.NewSentinelClient(&redis.Options{Addr: s.Watchers[0].addr})
	defer one.Close()
	at, err := one.GetMasterAddrByName(ctx, SentinelName).Result()
	must(tb, err)
	for _, r := range s.Servers {
		if r.addr == net.JoinHostPort(at[0], at[1]) {
			return r
		}
	}
	tb.Fatalf("the Sentinels name a master that is none of the servers: %v", at)
	return nil
}

// KillMaster ends the master with SIGKILL, waits until all Sentinels name another
// and that one accepts writes, and returns the dead one.
func (s *Sentinels) KillMaster(tb testing.TB) *RealRedis {
	tb.Helper()
	dead := s.Master(tb)
	dead.Kill()
	host, port, _ := net.SplitHostPort(dead.addr)
	ctx, cancel := context.WithTimeout(context.Background(), failoverWithin)
	defer cancel()
	for _, w := range s.Watchers {
		one := redis.NewSentinelClient(&redis.Options{Addr: w.addr})
		defer one.Close()
		await(tb, ctx, "the Sentinels fail over", func() bool {
			at, err := one.GetMasterAddrByName(ctx, SentinelName).Result()
			return err == nil && (at[0] != host || at[1] != port)
		})
	}
	one := s.Master(tb).Client(tb)
	await(tb, ctx, "the new master is one", func() bool {
		return one.InfoMap(ctx, "replication").Val()["Replication"]["role"] == "master"
	})
	return dead
}

// Replicas returns the servers that are not the master.
func (s *Sentinels) Replicas(tb testing.TB) []*RealRedis {
	tb.Helper()
	master := s.Master(tb)
	return slices.DeleteFunc(slices.Clone(s.Servers), func(r *RealRedis) bool { return r == master })
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// await polls until ok, or fails the test when ctx ends.
func await(tb testing.TB, ctx context.Context, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("not in time: %s", what)
		}
	}
}
