package e2e_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// silentSignings begins n signings by the first two members of the arena's group
// that stop after the parameters, and returns their ids.
func (a *arena) silentSignings(t *testing.T, n int, over *sync.WaitGroup) (sessions []string) {
	t.Helper()
	g := a.groups[0]
	for _, m := range g.members {
		m.mute.Store(true)
	}
	for i := range n {
		over.Go(func() { g.sign(a.life, rand.New(rand.NewPCG(a.seed, uint64(i))), g.users[:2]...) })
	}
	started := func(m *member) (ids []string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for id, r := range m.rounds {
			if r.keyID != "" && r.data != "" {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		return ids
	}
	eventually(t, "both signers are asked to sign", func() bool {
		sessions = started(g.members[0])
		return len(sessions) == n && slices.Equal(sessions, started(g.members[1]))
	})
	return sessions
}

// TestFullMailbox has a signer send an absent one more than its mailbox may hold:
// the excess is refused directly, the absent one is not blamed for it, and finds the
// accepted messages, in order, when it is back.
func TestFullMailbox(t *testing.T) {
	inTurn(t, "slow readers", 1, 2)
	t.Parallel()
	needRedis(t)
	if testing.Short() {
		t.Skip("a flood is left out with -short")
	}
	a := newArena(t, soakSeed(t), 2, 1, "--rate-limit", "-1", "--absence-grace", "2m", "--sign-timeout", "2m")
	a.within = 3 * time.Minute
	a.load(0, time.Second)
	var over sync.WaitGroup
	session := a.silentSignings(t, 1, &over)[0]
	talker, away := a.groups[0].members[0], a.groups[0].members[1]
	away.absent.Store(true)
	away.drop()
	const most = 512 // cluster.Config.GroupMax
	var refused atomic.Int64
	for i := range most + 50 {
		body := base64.StdEncoding.EncodeToString(fmt.Append(nil, i))
		talker.say(&wire.TSSMessage{SessionID: session, Attempt: 1, From: 1, To: 2, Body: body}, "", func(p wire.Payload) {
			if e, ok := p.(*wire.ErrorPayload); ok && e.Code == wire.CodeQuotaExceeded {
				refused.Add(1)
			}
		})
	}
	eventually(t, "every message has an answer", func() bool { return talker.unanswered() == 0 })
	if refused.Load() == 0 {
		t.Error("nothing was refused with quota_exceeded")
	}
	if log := a.c.logs.String(); !strings.Contains(log, "no room in a mailbox") {
		t.Error("no node's log says that a mailbox has no room")
	}
	away.absent.Store(false)
	eventually(t, "what there was room for has come", func() bool { return heardRounds(away, session) >= most-10 })
	for _, m := range a.groups[0].members {
		m.mute.Store(false)
	}
	talker.say(&wire.PartyFailed{SessionID: session, PartIndex: 1, Reason: "enough"}, "", nil)
	report(t, a, a.settle())
	over.Wait()
	key := a.c.prefix + "session:{" + session + "}"
	if parts := a.rdb.HGet(t.Context(), key, "culprits").Val(); strings.Contains(parts, "2") {
		t.Errorf("the session names part %s, of which 2 was only away", parts)
	}
	// A few may have arrived while its socket was closing.
	if n := heardRounds(away, session); n > most+8 {
		t.Errorf("%d round messages came through a mailbox that takes %d of one sender and session", n, most)
	}
}

// heardRounds counts the round messages of a session that a member received.
func heardRounds(m *member, session string) (n int) {
	m.past.mu.Lock()
	defer m.past.mu.Unlock()
	for _, e := range m.past.events {
		if e.what == mailed && e.kind == wire.TypeTSSMessage && e.session == session {
			n++
		}
	}
	return n
}

// TestSlowReader floods a user who does not read beyond what sockets and queues
// hold. Its socket is closed, and the next continues from the same place.
func TestSlowReader(t *testing.T) {
	inTurn(t, "slow readers", 0, 2)
	t.Parallel()
	needRedis(t)
	if testing.Short() {
		t.Skip("a flood of megabytes is left out with -short")
	}
	a := newArena(t, soakSeed(t), 2, 1, "--sign-timeout", "2m", "--absence-grace", "2m", "--log-level", "debug")
	a.within = 3 * time.Minute
	a.load(0, time.Second)
	var over sync.WaitGroup
	sessions := a.silentSignings(t, 4, &over)
	talker, slow := a.groups[0].members[0], a.groups[0].members[1]
	again := make(chan struct{})
	slow.deaf.Store(&again)
	before := slow.conns.Load()
	const flood, size = 4 * 28, 100 << 10 // of one session less than cluster.Config.GroupMaxBytes
	noise := make([]byte, size)
	for i := range flood {
		copy(noise, fmt.Append(nil, i))
		talker.say(&wire.TSSMessage{SessionID: sessions[i%len(sessions)], Attempt: 1, From: 1, To: 2, Body: base64.StdEncoding.EncodeToString(noise)}, "", nil)
	}
	eventually(t, "the flood is in the mailbox", func() bool { return talker.unanswered() == 0 })
	// The node's write deadline: the client does not read.
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
	for _, id := range sessions {
		slow.say(&wire.PartyFailed{SessionID: id, Attempt: 1, PartIndex: 2, Reason: "enough"}, "", nil)
	}
	for _, m := range a.groups[0].members {
		m.mute.Store(false)
	}
	for _, id := range sessions {
		talker.say(&wire.PartyFailed{SessionID: id, PartIndex: 1, Reason: "enough"}, "", nil)
	}
	report(t, a, a.settle())
	over.Wait()
}
