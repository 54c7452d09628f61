package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// A server of Redis Cluster with one member's mailbox hangs. Messages for others,
// in the same Send, reach their sockets meanwhile; the next Send does not wait for
// it; and the member gets its messages when the server continues.
func TestHungShardHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	shards := redistest.StartShards(t, 3, 0)
	for _, r := range shards.Servers { // or the others would stop, too
		if err := r.Client(t).ConfigSet(context.Background(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, shards.Client(t), redistest.Prefix())
	// Names whose keys are on the node's server, and one on another.
	client := shards.Client(t)
	at := func(key string) string {
		master, err := client.MasterForKey(context.Background(), key)
		if err != nil {
			t.Fatal(err)
		}
		return master.Options().Addr
	}
	home := at(w.keys().nodes())
	name := func(like string, here bool) string {
		for i := range 1000 {
			// For names of one length the slots of both keys differ in the same bits.
			id := fmt.Sprint(like, strings.Repeat("x", i%50), i)
			if (at(w.keys().mailbox(id)) == home) == here && (!here || at(w.keys().channel(id)) == home) {
				return id
			}
		}
		t.Fatal("no name of a thousand has its keys where it should")
		return ""
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
