package node

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// checkRedis checks that Redis answers, logs how durably it stores writes, and
// warns, or fails if so configured, when it may lose them. On Redis Cluster it asks
// the master of every shard, with Sentinel the current master: replicas must be
// configured alike.
func (n *Node) checkRedis(ctx context.Context) error {
	if err := n.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis does not answer: %w", err)
	}
	found, err := askMasters(ctx, n.rdb)
	if err != nil {
		return fmt.Errorf("ask redis for its settings: %w", err)
	}
	var faults []string
	for _, k := range found {
		n.log.Info().Str("address", k.address).Str("appendfsync", k.appendfsync).Int("replicas", k.replicas).
			Str("min_replicas_to_write", k.minReplicas).Int("wait_replicas", n.cfg.RedisWaitReplicas).Msg("redis durability")
		faults = append(faults, k.faults(n.cfg.RedisWaitReplicas)...)
	}
	if failsOver(n.cfg.Redis) && n.cfg.RedisWaitReplicas == 0 {
		n.log.Warn().Msg("a failover of redis may lose acknowledged writes; see --redis-wait-replicas")
	}
	if len(faults) == 0 {
		return nil
	}
	if n.cfg.RequireDurableRedis {
		return fmt.Errorf("redis is not durable: %s", strings.Join(faults, "; "))
	}
	n.log.Warn().Strs("faults", faults).Msg("redis may lose data; see --require-durable-redis")
	return nil
}

// failsOver reports whether the URL is of a Redis in which a replica takes over
// automatically.
func failsOver(url string) bool {
	scheme, _, _ := strings.Cut(url, ":")
	return strings.HasSuffix(scheme, "+sentinel") || strings.HasSuffix(scheme, "+cluster")
}

// keeping is one server's durability settings. Settings that could not be read are
// empty: some Redis providers hide them.
type keeping struct {
	address     string
	appendonly  string
	appendfsync string
	policy      string
	minReplicas string
	replicas    int
}

// faults returns the settings that may lose data.
func (k keeping) faults(waitReplicas int) []string {
	var faults []string
	fault := func(name, got string, want ...string) {
		should := strings.Join(want, " or ")
		switch {
		case got == "":
			faults = append(faults, fmt.Sprintf("%s: %s cannot be read, it should be %s", k.address, name, should))
		case !slices.Contains(want, got):
			faults = append(faults, fmt.Sprintf("%s: %s is %q, it should be %s", k.address, name, got, should))
		}
	}
	fault("appendonly", k.appendonly, "yes")
	if k.appendonly == "yes" {
		fault("appendfsync", k.appendfsync, "always", "everysec")
	}
	fault("maxmemory-policy", k.policy, "noeviction")
	if k.replicas < waitReplicas {
		faults = append(faults, fmt.Sprintf("%s: %d replicas are connected, --redis-wait-replicas is %d", k.address, k.replicas, waitReplicas))
	}
	return faults
}

// askMasters asks every master.
func askMasters(ctx context.Context, rdb redis.UniversalClient) ([]keeping, error) {
	switch rdb := rdb.(type) {
	case *redis.ClusterClient:
		var mu sync.Mutex // ForEachMaster calls concurrently
		var all []keeping
		err := rdb.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error {
			k := ask(ctx, one)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, k)
			return nil
		})
		slices.SortFunc(all, func(a, b keeping) int { return strings.Compare(a.address, b.address) })
		return all, err
	case *redis.Client:
		return []keeping{ask(ctx, rdb)}, nil
	}
	return nil, fmt.Errorf("unknown client %T", rdb)
}

func ask(ctx context.Context, one *redis.Client) keeping {
	k := keeping{address: one.Options().Addr}
	for name, into := range map[string]*string{
		"appendonly": &k.appendonly, "appendfsync": &k.appendfsync, "maxmemory-policy": &k.policy, "min-replicas-to-write": &k.minReplicas,
	} {
		*into = one.ConfigGet(ctx, name).Val()[name]
	}
	k.replicas, _ = strconv.Atoi(one.InfoMap(ctx, "replication").Val()["Replication"]["connected_slaves"])
	return k
}
