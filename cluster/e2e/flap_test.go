package e2e_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestFlappingLink: a participant's link fails again and again while a secp256k1 key
// is generated, in total longer than --absence-grace (20 s), but each time for less.
// The key is made, and no culprit is named.
func TestFlappingLink(t *testing.T) {
	t.Parallel()
	if !sample.Full() {
		t.Skip(sample.Reason)
	}
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		m := &crew{c: c, asks: c.join("alice", wire.RoleCoordinator, 0, 0)}
		way := newLink(t, strings.TrimPrefix(c.nodes[0].base, "http://"))
		bob := &real{user: "bob", store: new(participant.MemStore)}
		cfg := client.Config{
			URLs: []string{"http://" + way.listen.Addr().String()}, Role: wire.RoleParticipant, Identity: partytest.Identity(t),
		}
		part := participant.Config{
			Shares: bob.store, PreParams: &fixtures{t: t, next: 0}, KeygenSilence: mpcWithin, Approve: participant.ApproveAll,
		}
		c.introduce(bob, cfg.Role, cfg.Identity.Public().Fingerprint())
		c.enter(bob, cfg, part)
		c.computes = true
		m.p = []*real{bob, c.join("carol", wire.RoleParticipant, 0, 1), c.join("dave", wire.RoleParticipant, 1, 2)}

		var once sync.Once
		begun, back := make(chan struct{}), make(chan struct{}, 100)
		bob.observe(func(ev client.Event) {
			switch ev.(type) {
			case participant.Started:
				once.Do(func() { close(begun) })
			case client.Connected:
				back <- struct{}{}
			}
		})
		flapped := make(chan time.Duration, 1)
		go func() { flapped <- flap(t, way, begun, back) }()
		key := m.keygen(pubkey.Secp256k1)
		away := <-flapped
		if strings.Contains(c.logs.String(), "left and did not come back") {
			t.Error("the log of the nodes says that somebody left")
		}
		t.Logf("the key was made although bob was away for up to %s at a time", away.Round(time.Millisecond))
		m.sign(key, "after all", "bob", "carol")
	})
}

// flap cuts a link four times, for 7 s each, and restores it for 1 s when its client
// is back. It returns the client's longest absence.
func flap(t *testing.T, way *link, begun, back <-chan struct{}) time.Duration {
	var longest time.Duration
	select {
	case <-begun:
	case <-time.After(patience):
		t.Error("the keygen does not begin")
		return 0
	}
	for range 4 {
		for len(back) > 0 {
			<-back
		}
		cut := time.Now()
		way.suffer(linkFault{cut: true})
		waitFor(way.ctx, 7*time.Second)
		way.suffer(linkFault{})
		select {
		case <-back:
		case <-time.After(patience):
			t.Error("bob does not come back")
			return 0
		}
		longest = max(longest, time.Since(cut))
		waitFor(way.ctx, time.Second)
	}
	return longest
}
