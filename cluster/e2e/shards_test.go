package e2e_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// afterFailover is how soon sessions must continue once a replica has taken over and
// the dead server is back as one: by itself go-redis would take up to a minute to
// notice, and Sentinels take about ten seconds to make a replica of it.
const afterFailover = 40 * time.Second

// safely is the setting in OPERATIONS for a Redis that fails over: a write is
// acknowledged only when a replica has it.
var safely = []string{"--redis-wait-replicas", "1"}

// surely is for two replicas either of which may be promoted: an election prefers
// the one with more data, but does not guarantee it. Seen under load with one to
// wait for: the other was promoted, and ten acknowledged sessions were gone.
var surely = []string{"--redis-wait-replicas", "2"}

// wholeCluster is a client of Redis Cluster that scans all shards as one.
type wholeCluster struct{ *redis.ClusterClient }

// Scan returns all keys at once.
func (w wholeCluster) Scan(ctx context.Context, _ uint64, match string, count int64) *redis.ScanCmd {
	found := make(chan string)
	failed := make(chan error, 1)
	go func() {
		defer close(found)
		failed <- w.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error {
			it := one.Scan(ctx, 0, match, count).Iterator()
			for it.Next(ctx) {
				found <- it.Val()
			}
			return it.Err()
		})
	}()
	var keys []string
	for key := range found {
		keys = append(keys, key)
	}
	return redis.NewScanCmdResult(keys, 0, <-failed)
}

func flags(sets ...[]string) []string { return slices.Concat(sets...) }

// TestOnRedisCluster has scripted clients and real parties make keys and sign, on
// nodes whose Redis is a cluster of three shards. Redis Cluster refuses any script
// that uses more than one slot.
func TestOnRedisCluster(t *testing.T) {
	inTurn(t, "shards", 0, 4)
	t.Parallel()
	shards := redistest.StartShards(t, 3, 1)
	c := newClusterAt(t, shards.URL(), wholeCluster{shards.Client(t)}, flags(safely, withKEK)...)
	for range 3 {
		c.start()
	}
	g := gatherParts(t, c)
	g.keygen(t)
	g.sign(t, "on three shards", 1, 3)
	g.sign(t, "and again", 2, 3)
	g.noSecrets(t, c)

	m := c.crew()
	key := m.keygen(pubkey.Ed25519)
	for _, quorum := range [][]string{{"bob", "carol"}, {"carol", "dave"}, nil} {
		m.sign(key, "ed25519 by "+strings.Join(quorum, " and "), quorum...)
	}
	m.nothingReadable()
	c.endsAudited(c.nodes[0])

	// Keys are on all shards, and nodes are notified by sharded pub/sub alone.
	spread := 0
	channels := map[string]bool{}
	ctx := context.Background()
	for _, r := range shards.Servers {
		one := r.Client(t)
		if one.InfoMap(ctx, "replication").Val()["Replication"]["role"] == "master" && len(one.Keys(ctx, c.prefix+"*").Val()) > 0 {
			spread++
		}
		for _, name := range one.PubSubShardChannels(ctx, c.prefix+"*").Val() {
			channels[name] = true
		}
		if plain := one.PubSubChannels(ctx, c.prefix+"*").Val(); len(plain) > 0 {
			t.Errorf("subscriptions that every shard must hear: %v", plain)
		}
	}
	if spread != 3 || len(channels) != 3 {
		t.Errorf("keys are on %d shards, want 3; sharded channels are %v, want one for each node", spread, channels)
	}
}

// TestShardFailover kills -9 masters of shards under load: the one with the due
// list, and one with a node's channel.
func TestShardFailover(t *testing.T) {
	inTurn(t, "shards", 1, 4)
	t.Parallel()
	shards := redistest.StartShards(t, 3, 2)
	c := newClusterAt(t, shards.URL(), wholeCluster{shards.Client(t)}, flags(arenaFlags, surely)...)
	var bases []string
	for range 3 {
		bases = append(bases, c.start().base)
	}
	a := arenaAt(t, c, 3, bases...)
	a.load(2, a.think())
	a.more(sample.Or(2, 5))
	for _, key := range sample.Of(1, []string{"sessions:due", "node:<n1>"}) {
		begun := time.Now()
		dead := shards.KillMaster(t, c.prefix+key)
		takenOver := time.Since(begun)
		shards.Rejoin(t, dead) // until then the shard has one replica, and two are to be waited for
		a.more(3)
		t.Logf("the shard of %s: taken over after %s, 3 more outcomes for each group after %s", key, takenOver, time.Since(begun))
		if after := time.Since(begun) - takenOver; after > afterFailover {
			t.Errorf("sessions went on only %s after the replica had taken over", after)
		}
		a.figures.fault("redis cluster/kill a master", true)
		a.more(sample.Or(2, 5))
	}
	report(t, a, a.settle())
}

// TestSentinelFailover kills -9 the master under load.
func TestSentinelFailover(t *testing.T) {
	inTurn(t, "shards", 3, 4)
	t.Parallel()
	s := redistest.StartSentinels(t, 2)
	c := newClusterAt(t, s.URL(), s.Client(t), flags(arenaFlags, surely)...)
	var bases []string
	for range 3 {
		bases = append(bases, c.start().base)
	}
	a := arenaAt(t, c, 3, bases...)
	a.load(2, a.think())
	a.more(sample.Or(2, 5))
	begun := time.Now()
	dead := s.KillMaster(t)
	failedOver := time.Since(begun)
	dead.Restart(t) // the Sentinels make it a replica; until then there is one, and two are to be waited for
	a.more(3)
	t.Logf("failed over after %s, 3 more outcomes for each group after %s", failedOver, time.Since(begun))
	if after := time.Since(begun) - failedOver; after > afterFailover {
		t.Errorf("sessions went on only %s after the replica had taken over", after)
	}
	a.figures.fault("sentinel/kill the master", true)
	a.more(sample.Or(2, 5))
	report(t, a, a.settle())
	m := c.crew()
	key := m.keygen(pubkey.Ed25519)
	m.sign(key, "after the failover")
}
