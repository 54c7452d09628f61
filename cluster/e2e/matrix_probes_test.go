package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// probes are those of TestMatrix.
var probes = []struct {
	name string
	on   func(w *stage) probe
}{
	{"heartbeat", probeHeartbeat},
	{"presence", probePresence},
	{"mailboxes", probeMailboxes},
	{"sessions", probeSessions},
	{"locks", probeLocks},
	{"subscriptions", probeSubscriptions},
	{"due list", probeDueList},
	{"webhooks", probeWebhooks},
	{"audit", probeAudit},
	{"tokens", probeTokens},
}

// probeHeartbeat: every node is ready, and each lists both.
func probeHeartbeat(w *stage) probe {
	admin := w.c.token("root", wire.RoleAdmin)
	return probe{after: func(ctx context.Context) error {
		return until(ctx, func() error {
			for _, n := range w.nodes {
				if status, answer, err := w.call(ctx, n, "GET", "/readyz", "", nil); status != http.StatusOK {
					return fmt.Errorf("%s: /readyz: %d %v %v", n.id, status, answer, err)
				}
				status, list, err := w.call(ctx, n, "GET", "/v1/nodes", admin, nil)
				for _, other := range w.nodes {
					if text := fmt.Sprint(list); status != http.StatusOK || !strings.Contains(text, "node_id:"+other.id) {
						return fmt.Errorf("%s does not list %s: %d %s %v", n.id, other.id, status, text, err)
					}
				}
			}
			return nil
		})
	}}
}

// probePresence: every user is present, at the node of its socket.
func probePresence(w *stage) probe {
	token := w.c.token("root", wire.RoleAdmin)
	present := func(ctx context.Context, s *speaker) error {
		home := s.home.Load()
		if home == nil {
			return fmt.Errorf("%s has no socket", s.user)
		}
		i := slices.IndexFunc(w.nodes, func(n *arenaNode) bool { return n.base == *home })
		if at, err := w.rdb.HGet(ctx, w.c.prefix+"presence:{"+s.user+"}", "node").Result(); at != w.nodes[i].id {
			return fmt.Errorf("%s is at %s, its presence says %q, %v", s.user, w.nodes[i].id, at, err)
		}
		for _, n := range w.nodes {
			if _, answer, err := w.call(ctx, n, "GET", "/v1/presence/"+s.user, token, nil); answer["online"] != true {
				return fmt.Errorf("%s says of %s: %v %v", n.id, s.user, answer, err)
			}
		}
		return nil
	}
	return probe{after: func(ctx context.Context) error {
		return until(ctx, func() error {
			for _, g := range w.groups {
				for _, s := range g.speakers() {
					if err := present(ctx, s); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}}
}

// probeMailboxes: an invitation waits for an absent user, who returns after the act.
func probeMailboxes(w *stage) probe {
	outcome := make(chan wire.Payload, 1)
	return probe{
		before: func() {
			w.late().absent.Store(true)
			w.late().drop()
			g := w.early
			w.work.Go(func() {
				outcome <- g.request(w.life, &wire.KeygenRequest{KeyID: g.name + "-key", Threshold: 2, TotalParts: 3, Participants: g.users}, g.key.address)
			})
			eventually(w.t, "an invitation waits", func() bool {
				return w.rdb.XLen(w.life, w.c.prefix+"mailbox:{"+w.late().user+"}").Val() > 0
			})
		},
		after: func(ctx context.Context) error {
			w.late().absent.Store(false)
			return success(ctx, "the keygen that waited", outcome)
		},
	}
}

// probeSessions: a signing runs, and continues afterwards; another begins meanwhile.
// After a loss, users whose messages were lost sign too.
func probeSessions(w *stage) probe {
	g := w.main
	var running, begun <-chan wire.Payload
	return probe{
		before: func() {
			for _, m := range g.members {
				m.mute.Store(true)
			}
			running = w.ask(g, "runs", 0, g.users[:2]...)
			eventually(w.t, "it runs", func() bool { return g.members[0].plays("runs") && g.members[1].plays("runs") })
		},
		during: func() { begun = w.ask(g, "begun meanwhile", 0) },
		after: func(ctx context.Context) error {
			for _, m := range g.members {
				m.wake()
			}
			err := errors.Join(success(ctx, "the signing that ran", running), success(ctx, "the signing begun meanwhile", begun))
			for _, by := range [][]string{g.users[:2], g.users[1:]} {
				err = errors.Join(err, success(ctx, "a new signing", w.ask(g, "new by "+by[0], 0, by...)))
			}
			if w.lost != nil {
				err = errors.Join(err, success(ctx, "a signing of those with lost messages", w.ask(w.lost, "after the loss", 0, w.lost.users[:2]...)))
			}
			return err
		},
	}
}

// plays reports whether a member has the parameters of a signing.
func (m *member) plays(data string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.rounds {
		if s.data == data {
			return true
		}
	}
	return false
}

// wake ends a member's muteness: it does its pending work.
func (m *member) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mute.Store(false)
	for session, s := range m.rounds {
		if s.keyID != "" {
			m.begin(session, s)
		}
	}
}

// probeLocks: sessions are stepped by both nodes at once, and no lock is held for
// longer than it may.
func probeLocks(w *stage) probe {
	const most = 10 * time.Second
	g := w.main
	var begun []<-chan wire.Payload
	return probe{
		during: func() { begun = append(begun, w.ask(g, "locks meanwhile", 0, g.users[:2]...)) },
		after: func(ctx context.Context) error {
			for i := range 4 {
				begun = append(begun, w.ask(g, fmt.Sprint("locks ", i), 0, g.users[:2]...))
			}
			var err error
			for i, outcome := range begun {
				err = errors.Join(err, success(ctx, fmt.Sprint("signing ", i, " of several at once"), outcome))
			}
			for _, key := range w.keys("lock:*") {
				if ttl := w.rdb.PTTL(ctx, key).Val(); ttl == -1 || ttl > most {
					err = errors.Join(err, fmt.Errorf("%s is held for %s", key, ttl))
				}
			}
			return err
		},
	}
}

// probeSubscriptions: each node is notified, and messages through one reach users of
// the other at once.
func probeSubscriptions(w *stage) probe {
	g := w.main
	heard := func(ctx context.Context) error {
		for _, n := range w.nodes {
			channel, all := w.c.prefix+"node:"+n.id, int64(0)
			for _, rdb := range w.everyRedis() {
				all += rdb.PubSubNumSub(ctx, channel).Val()[channel] + rdb.PubSubShardNumSub(ctx, channel).Val()[channel]
			}
			if all == 0 {
				return fmt.Errorf("nobody listens on %s", channel)
			}
		}
		return nil
	}
	return probe{after: func(ctx context.Context) error {
		if err := until(ctx, func() error { return heard(ctx) }); err != nil {
			return err
		}
		for i := range 3 {
			by := []string{g.users[i], g.users[(i+1)%3]} // of two nodes
			if err := success(ctx, "a signing across nodes", w.ask(g, fmt.Sprint("across ", i), 0, by...)); err != nil {
				return err
			}
		}
		return nil
	}}
}

// probeDueList: a session expires during the act, and another after it.
func probeDueList(w *stage) probe {
	g := w.main
	var outcomes []<-chan wire.Payload
	ask := func(what string, within time.Duration) {
		outcomes = append(outcomes, w.ask(g, unanswered+" "+what, int(within/time.Second), g.users[:2]...))
	}
	return probe{
		before: func() {
			ask("until the act", 2*time.Second)
			ask("until after it", w.act.lasts+3*time.Second)
			w.acked(g)
		},
		during: func() { ask("from the act on", 2*time.Second) },
		after: func(ctx context.Context) error {
			var err error
			for i, outcome := range outcomes {
				err = errors.Join(err, ends(ctx, fmt.Sprint("signing ", i, " that nobody answers"), wire.StatusExpired, outcome))
			}
			return err
		},
	}
}

// probeWebhooks: the outcome of every ended session is delivered, under one id.
func probeWebhooks(w *stage) probe {
	told := func() error {
		ids := map[string]string{} // by session
		said := map[string]string{}
		for _, d := range w.hooks.got() {
			session := d.event.Data.SessionID
			if ids[session] != "" && ids[session] != d.id {
				return fmt.Errorf("session %s is told under the ids %s and %s", session, ids[session], d.id)
			}
			ids[session], said[session] = d.id, d.event.Type
		}
		for session, phase := range w.ended() {
			if !strings.HasSuffix(said[session], "."+phase) {
				return fmt.Errorf("session %s is %s, told was %q", session, phase, said[session])
			}
		}
		return nil
	}
	return probe{after: func(ctx context.Context) error {
		err := success(ctx, "a signing to be told of", w.ask(w.main, "told", 0))
		return errors.Join(err, until(ctx, told))
	}}
}

// probeAudit: the end of every ended session is in the audit, once, and the audit is
// complete.
func probeAudit(w *stage) probe {
	return probe{after: func(ctx context.Context) error {
		err := success(ctx, "a signing to be audited", w.ask(w.main, "audited", 0))
		return errors.Join(err, until(ctx, func() error {
			sessions := w.ended()
			ends, err := w.auditedEnds(ctx)
			for id, phase := range sessions {
				if !slices.Equal(ends[id], []string{phase}) {
					err = errors.Join(err, fmt.Errorf("session %s is %s, the audit has the ends %v", id, phase, ends[id]))
				}
			}
			return err
		}))
	}}
}

// auditedEnds reads the audit through the first node and verifies it.
func (w *stage) auditedEnds(ctx context.Context) (map[string][]string, error) {
	v, err := audit.NewVerifier("")
	if err != nil {
		return nil, err
	}
	admin, ends := w.c.token("root", wire.RoleAdmin), map[string][]string{}
	for after := ""; ; {
		var page audit.Page
		status, answer, err := w.call(ctx, w.nodes[0], "GET", "/v1/audit?limit=100&after="+after, admin, nil)
		if status != http.StatusOK {
			return nil, fmt.Errorf("read the audit: %d %v %v", status, answer, err)
		}
		raw, err := json.Marshal(answer)
		if err != nil || json.Unmarshal(raw, &page) != nil {
			return nil, errors.New("the audit is not what it should be")
		}
		if len(page.Items) == 0 {
			break
		}
		for _, f := range page.Items {
			if err := v.Add(f); err != nil {
				return nil, err
			}
			if f["what"] == audit.Ended {
				ends[f["session"]] = append(ends[f["session"]], f["outcome"])
			}
		}
		after = page.Next
	}
	_, err = v.End()
	return ends, err
}

// probeTokens: a token that was revoked before the act, and one that is revoked
// during it, are refused by all nodes; a login is renewed, and a new one works.
func probeTokens(w *stage) probe {
	admin := w.c.token("root", wire.RoleAdmin)
	var early, late, renewal string
	var lateID string
	revoked := make(chan struct{})
	revoke := func(ctx context.Context, n *arenaNode, jti string) error {
		return until(ctx, func() error {
			status, answer, err := w.call(ctx, n, "POST", "/v1/tokens/revoke", admin, object{"jti": jti})
			if status != http.StatusOK {
				return fmt.Errorf("revoke: %d %v %v", status, answer, err)
			}
			return nil
		})
	}
	return probe{
		before: func() {
			w.c.addUser("tom", wire.RoleCoordinator)
			var earlyID string
			early, earlyID = w.c.login(w.nodes[0].process(), "tom")
			late, lateID = w.c.login(w.nodes[1].process(), "tom")
			_, answer, err := w.call(w.life, w.nodes[0], "POST", "/v1/login", "", object{"username": "tom", "password": testPassword, "refresh": true})
			if renewal, _ = answer["refresh_token"].(string); renewal == "" {
				w.t.Errorf("login: %v %v", answer, err)
			}
			if err := revoke(w.life, w.nodes[0], earlyID); err != nil {
				w.t.Error(err)
			}
		},
		during: func() {
			w.work.Go(func() {
				defer close(revoked)
				if err := revoke(w.life, w.nodes[0], lateID); err != nil {
					w.t.Error(err)
				}
			})
		},
		after: func(ctx context.Context) error {
			select {
			case <-revoked:
			case <-ctx.Done():
				return errors.New("a token cannot be revoked")
			}
			return until(ctx, func() error { return w.tokens(ctx, early, late, &renewal) })
		},
	}
}

// tokens returns the first fault with tokens; a renewal is made once.
func (w *stage) tokens(ctx context.Context, early, late string, renewal *string) error {
	for _, n := range w.nodes {
		for what, token := range map[string]string{"before": early, "during": late} {
			if status, answer, err := w.call(ctx, n, "GET", "/v1/keys", token, nil); status != http.StatusUnauthorized {
				return fmt.Errorf("a token that was revoked %s the act at %s: %d %v %v", what, n.id, status, answer, err)
			}
		}
		if status, answer, err := w.call(ctx, n, "POST", "/v1/login", "", object{"username": "tom", "password": testPassword}); status != http.StatusOK {
			return fmt.Errorf("login at %s: %d %v %v", n.id, status, answer, err)
		}
	}
	if *renewal == "" {
		return nil
	}
	status, answer, err := w.call(ctx, w.nodes[1], "POST", "/v1/token/refresh", "", object{"refresh_token": *renewal, "attempt": "first"})
	if status != http.StatusOK {
		return fmt.Errorf("renew a login: %d %v %v", status, answer, err)
	}
	*renewal = ""
	return nil
}
