package node_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// silentSigning begins a signing by the first two members of the arena's group
// that goes no further than the parameters, and returns its id.
func (a *arena) silentSigning(t *testing.T, over *sync.WaitGroup) (session string) {
	t.Helper()
	g := a.groups[0]
	for _, m := range g.members {
		m.mute.Store(true)
	}
	over.Go(func() { g.sign(a.life, rand.New(rand.NewPCG(a.seed, 0)), g.users[:2]...) })
	started := func(m *member) string {
		m.mu.Lock()
		defer m.mu.Unlock()
		for id, r := range m.rounds {
			if r.keyID != "" && r.data != "" {
				return id
			}
		}
		return ""
	}
	eventually(t, "both signers are asked to sign", func() bool {
		session = started(g.members[0])
		return session != "" && session == started(g.members[1])
	})
	return session
}

// TestFullMailbox fills the mailbox of a signer who is away: the session fails
// and says why, and the signer finds every message, in order, when it is back.
func TestFullMailbox(t *testing.T) {
	t.Parallel()
	needRedis(t)
	if testing.Short() {
		t.Skip("ten thousand messages are left out with -short")
	}
	a := newArena(t, soakSeed(t), 2, 1, "--rate-limit", "-1", "--absence-grace", "2m", "--sign-timeout", "2m")
	a.within = 3 * time.Minute
	a.load(0, time.Second)
	var over sync.WaitGroup
	session := a.silentSigning(t, &over)
	talker, away := a.groups[0].members[0], a.groups[0].members[1]
	away.absent.Store(true)
	away.drop()
	const most = 10_000 // cluster.Config.MailboxMax
	for i := range most + 50 {
		body := base64.StdEncoding.EncodeToString(fmt.Append(nil, i))
		talker.say(&wire.TSSMessage{SessionID: session, Attempt: 1, From: 1, To: 2, Body: body}, "", nil)
	}
	over.Wait()
	if n := a.figures.ends["sign failed"]; n != 1 {
		t.Errorf("outcomes %v, want one that failed", a.figures.ends)
	}
	reason := a.rdb.HGet(t.Context(), a.c.prefix+"session:{"+session+"}", "reason").Val()
	if want := "the mailbox of " + away.user + " is full"; reason != want {
		t.Errorf("the session failed because %q, want %q", reason, want)
	}
	if log := a.c.logs.String(); !strings.Contains(log, "mailbox is full") {
		t.Error("no node's log says that the mailbox is full")
	}
	away.absent.Store(false)
	report(t, a, a.settle())
	n := 0
	for _, e := range away.past.events {
		if e.what == mailed && e.kind == wire.TypeTSSMessage && e.session == session {
			n++
		}
	}
	if n < most-10 || n > most {
		t.Errorf("%d round messages came through a mailbox of %d", n, most)
	}
}

// TestSlowReader floods a user who does not read with more than sockets and
// queues hold. Its socket is given up, and the next goes on where it was.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	needRedis(t)
	if testing.Short() {
		t.Skip("a flood of megabytes is left out with -short")
	}
	a := newArena(t, soakSeed(t), 2, 1, "--sign-timeout", "2m", "--absence-grace", "2m", "--log-level", "debug")
	a.within = 3 * time.Minute
	a.load(0, time.Second)
	var over sync.WaitGroup
	session := a.silentSigning(t, &over)
	talker, slow := a.groups[0].members[0], a.groups[0].members[1]
	again := make(chan struct{})
	slow.deaf.Store(&again)
	before := slow.conns.Load()
	const flood, size = 400, 100 << 10
	noise := make([]byte, size)
	for i := range flood {
		copy(noise, fmt.Append(nil, i))
		talker.say(&wire.TSSMessage{SessionID: session, Attempt: 1, From: 1, To: 2, Body: base64.StdEncoding.EncodeToString(noise)}, "", nil)
	}
	eventually(t, "the flood is in the mailbox", func() bool { return talker.unanswered() == 0 })
	// The node's write deadline: nobody reads.
	deadline := time.Now().Add(2 * patience)
	for !strings.Contains(a.c.logs.String(), `"code":4003`) && time.Now().Before(deadline) {
		waitFor(a.life, 20*time.Millisecond)
	}
	if !strings.Contains(a.c.logs.String(), `"code":4003`) {
		t.Error("the socket of a user who does not read was not closed")
	}
	slow.deaf.Store(nil)
	close(again)
	heard := func() int {
		slow.past.mu.Lock()
		defer slow.past.mu.Unlock()
		return len(slices.DeleteFunc(slices.Clone(slow.past.events), func(e event) bool {
			return e.what != mailed || e.kind != wire.TypeTSSMessage
		}))
	}
	eventually(t, "the slow user has caught up", func() bool { return heard() >= flood })
	if slow.conns.Load() == before {
		t.Error("the slow user did not come back on a new socket")
	}
	slow.say(&wire.PartyFailed{SessionID: session, Attempt: 1, PartIndex: 2, Reason: "enough"}, "", nil)
	for _, m := range a.groups[0].members {
		m.mute.Store(false)
	}
	a.groups[0].members[0].say(&wire.PartyFailed{SessionID: session, PartIndex: 1, Reason: "enough"}, "", nil)
	report(t, a, a.settle())
	over.Wait()
}
