package e2e_test

import (
	"context"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// stick makes each script that names a key's slot fail with TRYAGAIN: the slot is
// being moved, and some of its keys have been. It returns a function that ends that.
func stick(t *testing.T, shards *redistest.Shards, key string) (heal func()) {
	t.Helper()
	ctx, all := context.Background(), shards.Client(t)
	slot, err := all.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		t.Fatal(err)
	}
	from := shards.Master(t, key)
	var to *redistest.RealRedis
	for _, r := range shards.Servers {
		if r != from {
			to = r
		}
	}
	one, two := from.Client(t), to.Client(t)
	do := func(rdb redis.UniversalClient, args ...any) {
		t.Helper()
		if err := rdb.Do(ctx, args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	id := func(rdb redis.UniversalClient) any {
		t.Helper()
		text, err := rdb.Do(ctx, "cluster", "myid").Result()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	here, there := id(one), id(two)
	do(two, "cluster", "setslot", slot, "importing", here)
	do(one, "cluster", "setslot", slot, "migrating", there)
	host, port, _ := net.SplitHostPort(to.Addr())
	do(one, "migrate", host, port, key, 0, 5000)
	return func() {
		t.Helper()
		host, port, _ := net.SplitHostPort(from.Addr())
		do(one, "cluster", "setslot", slot, "stable")
		do(two, "migrate", host, port, key, 0, 5000, "replace")
		do(two, "cluster", "setslot", slot, "stable")
	}
}

// TestStuckSlotHoldsNobodyUp: one invitee's mailbox is in a slot that cannot be
// written. The others, one with a mailbox on the same server, sign meanwhile, and the
// invitee is notified when its mailbox can be written again.
func TestStuckSlotHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	shards := redistest.StartShards(t, 3, 0)
	c := newClusterAt(t, shards.URL(), wholeCluster{shards.Client(t)}, withKEK...)
	c.start()
	g := gatherParts(t, c)
	g.keygen(t)
	heal := stick(t, shards, c.prefix+"joined:{"+partNames[3]+"}")
	g.coordinator.send("sign_request", object{
		"key_id": g.keyID, "data": "pay", "account_addr": g.key.address, "participants": partNames[1:],
	})
	for _, i := range []int{1, 2} {
		g.p[i].expect("sign_invite")
		g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
	}
	for _, i := range []int{1, 2} {
		g.signParams(t, "pay", i, "1,2")
		g.p[i].send("sign_result", object{"key_id": g.keyID, "part_index": i, "signature": g.key.sign(t, "pay")})
	}
	g.signed(t, "pay")
	heal()
	g.p[3].expect("session_ended")
}
