//go:build unix

package node

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// TestNobodyIsAbsentBeforeTheContact: a node's last-seen times are no earlier than
// its contact with Redis, after that was broken.
func TestNobodyIsAbsentBeforeTheContact(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	const patience = 30 * time.Second
	n, err := cluster.New(cluster.Config{
		Redis: server.Client(t), Prefix: redistest.Prefix(), NodeID: "n1", HeartbeatEvery: 100 * time.Millisecond, LeaseTTL: 400 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	await := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited %s in vain: %s", patience, what)
			}
		}
	}
	await("ready", func() bool { return n.Ready(ctx) == nil })
	broken := n.Now()
	if err := syscall.Kill(server.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-n.Lost()
	if err := syscall.Kill(server.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await("ready again", func() bool { return n.Ready(ctx) == nil })
	await("the absence of bob begins after the break", func() bool {
		seen, err := presence{n}.LastSeen(ctx, "bob")
		return err == nil && seen["bob"].After(broken)
	})
}
