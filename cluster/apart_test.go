package cluster

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/clustertest"
)

// A server of Redis Cluster hangs, and has one member's mailbox. Messages for others,
// of the same Send, reach their sockets meanwhile; the next Send does not wait for it;
// and the member has its messages when the server goes on.
func TestHungShardHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	shards := clustertest.StartShards(t, 3, 0)
	for _, r := range shards.Servers { // or the others would stop, too
		if err := r.Client(t).ConfigSet(context.Background(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, shards.Client(t), clustertest.Prefix())
	// Names whose keys are where the node's are, and one whose are elsewhere.
	home := shards.Master(t, w.keys().nodes())
	name := func(like string, here bool) string {
		for i := 0; ; i++ {
			id := fmt.Sprint(like, i)
			if (shards.Master(t, w.keys().mailbox(id)) == home) == here && (!here || shards.Master(t, w.keys().channel(id)) == home) {
				return id
			}
		}
	}
	id, near, far := name("n", true), name("near", true), name("far", false)
	n := w.node(id, func(c *Config) { c.LeaseTTL = 20 * time.Second })
	_, there := w.join(n, near, 0, 10)
	_, away := w.join(n, far, 0, 10)
	w.send(n, near, "0")
	w.send(n, far, "0")
	there.want("0")
	away.want("0")

	server := shards.Master(t, w.keys().mailbox(far))
	if err := syscall.Kill(server.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	wake := func() { _ = syscall.Kill(server.Pid(), syscall.SIGCONT) }
	t.Cleanup(wake)
	send := func(text string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return n.Send(ctx, Message{To: far, ID: "f" + text, Payload: []byte(text)}, Message{To: near, ID: "n" + text, Payload: []byte(text)})
	}
	first := make(chan error, 1)
	go func() { first <- send("1") }()
	there.want("1")
	var failed *SendError
	if err := <-first; !errors.As(err, &failed) || failed.To != far {
		t.Fatalf("got %v, want that %s is out of reach, and nobody else", err, far)
	}
	if err := send("2"); !errors.Is(err, errLeftAlone) {
		t.Errorf("got %v, want that %s is left alone", err, far)
	}
	there.want("2")
	wake()
	w.eventually("the member is reached again", func() bool { return send("2") == nil })
	if err := send("1"); err != nil {
		t.Error(err)
	}
	got := map[string]bool{}
	for range 2 {
		it, _ := away.next(patience)
		got[it.payload] = true
	}
	if !got["1"] || !got["2"] {
		t.Errorf("the member has %v", got)
	}
}
