package e2e_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// minion is a participant of a hostile coordinator: it accepts every request, and
// then sends as much as it can to the others, until ctx ends. An away minion leaves
// once it has accepted, and reads nothing.
type minion struct {
	c    *testCluster
	user string
	away bool
	sent *atomic.Int64
}

func (m minion) run(ctx context.Context) {
	for ctx.Err() == nil {
		ws, _, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(m.c.nodes[1].base, "http")+"/ws", nil)
		if err != nil {
			waitFor(ctx, 100*time.Millisecond)
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = ws.Close() })
		m.talk(ctx, ws)
		stop()
		_ = ws.Close()
		waitFor(ctx, 100*time.Millisecond)
	}
}

func (m minion) talk(ctx context.Context, ws *websocket.Conn) {
	token := m.c.token(m.user, wire.RoleParticipant)
	var mu sync.Mutex
	say := func(kind string, payload object) error {
		mu.Lock()
		defer mu.Unlock()
		_ = ws.SetWriteDeadline(time.Now().Add(patience))
		return ws.WriteJSON(object{"type": kind, "user_id": m.user, "token": token, "payload": payload})
	}
	if say("register", object{"user_id": m.user, "role": "participant"}) != nil {
		return
	}
	body := base64.StdEncoding.EncodeToString(make([]byte, 200<<10))
	for {
		var got struct {
			Type    string
			Payload object
		}
		if ws.ReadJSON(&got) != nil {
			return
		}
		switch got.Type {
		case "keygen_invite":
			if say("keygen_response", object{"session_id": got.Payload["session_id"], "key_id": got.Payload["key_id"], "part_index": got.Payload["part_index"], "response": true}) != nil || m.away {
				return
			}
		case "keygen_params":
			go func() {
				for ctx.Err() == nil && say("tss_message", object{
					"session_id": got.Payload["session_id"], "attempt": 1, "from": got.Payload["part_index"], "to": 0, "body": body,
				}) == nil {
					m.sent.Add(1)
					waitFor(ctx, 10*time.Millisecond)
				}
			}()
		}
	}
}

// hostileCoordinator makes the largest requests: keygens of many users, here and
// never seen, with signatures of maximum size; it cancels every third.
func (c *testCluster) hostileCoordinator(ctx context.Context, worker int, asked, refused *atomic.Int64) {
	token := c.token("mallory", wire.RoleCoordinator)
	for i := 0; ctx.Err() == nil; i++ {
		body := object{"threshold": 2, "participants": manyUsers()}
		switch i % 4 {
		case 1:
			body["participants"] = []string{"minion-1", "minion-2", "minion-3"}
		case 2:
			body["signed_request"] = strings.Repeat("j", wire.MaxSignedRequestBytes)
		case 3:
			var ghosts []string
			for j := range wire.DefaultMaxParties {
				ghosts = append(ghosts, fmt.Sprintf("ghost-%d-%d-%d", worker, i, j))
			}
			body["participants"], body["signed_request"] = ghosts, strings.Repeat("j", wire.MaxSignedRequestBytes)
		}
		status, answer := c.call(c.nodes[i%2], "POST", "/v1/keys?start=true", token, body)
		asked.Add(1)
		if status != http.StatusCreated {
			refused.Add(1)
		} else if id, ok := answer["session_id"].(string); ok && i%3 == 0 {
			c.call(c.nodes[i%2], "DELETE", "/v1/sessions/"+id, token, nil)
		}
	}
}

// lasting is the size of the keys that still exist in an hour, by kind of key.
func (c *testCluster) lasting() map[string]int64 {
	ctx, sizes := context.Background(), make(map[string]int64)
	for it := c.rdb.Scan(ctx, 0, c.prefix+"*", 1000).Iterator(); it.Next(ctx); {
		key := it.Val()
		ttl, err := c.rdb.PTTL(ctx, key).Result()
		if err != nil {
			c.t.Fatal(err)
		}
		if ttl == -1 || ttl > time.Hour { // -1: for ever
			kind, _, _ := strings.Cut(strings.TrimPrefix(key, c.prefix), "{")
			sizes[kind] += c.rdb.MemoryUsage(ctx, key, 0).Val()
		}
	}
	return sizes
}

// cancelAll ends a coordinator's open sessions.
func (c *testCluster) cancelAll(user string) {
	c.t.Helper()
	token := c.token(user, wire.RoleCoordinator)
	cursor, open := "", 0
	ended := func() bool {
		status, answer := c.call(c.nodes[0], "GET", "/v1/sessions?state=inviting,running&limit=100&cursor="+url.QueryEscape(cursor), token, nil)
		if status != http.StatusOK {
			return false // too many calls
		}
		for _, item := range answer["items"].([]any) {
			open++
			c.call(c.nodes[1], "DELETE", "/v1/sessions/"+item.(map[string]any)["session_id"].(string), token, nil)
		}
		if cursor, _ = answer["next"].(string); cursor != "" {
			return false
		}
		was := open
		open = 0
		return was == 0
	}
	for deadline := time.Now().Add(5 * patience); !ended(); { // a user has 50 calls a second
		if time.Now().After(deadline) {
			c.t.Fatalf("sessions of %s do not end", user)
		}
		waitFor(c.t.Context(), 20*time.Millisecond)
	}
}

// seenBytes is the maximum size of the seen ids of one mailbox, as stated in
// OPERATIONS. They are bounded for each user, from all senders.
const seenBytes = 1 << 20

// TestHostileAccounts runs a coordinator and its participants at their worst within
// the default limits, beside others who sign: those continue, Redis grows by no more
// than the budgets, and after an hour a small part of them is left. It takes
// seconds; CONCLAVE_HOSTILE=10m sets how long. The printed times are informative.
func TestHostileAccounts(t *testing.T) {
	inTurn(t, "hostile crowds", 0, 3)
	t.Parallel()
	long := sample.Or(time.Second, 10*time.Second)
	if text := os.Getenv("CONCLAVE_HOSTILE"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	redis := redistest.StartRedis(t)
	c := newCluster(t, redis.Client(t), redistest.Prefix(), withKEK...)
	c.start("--log-level", "info")
	c.start("--log-level", "info")
	g := gatherParts(t, c)
	g.keygen(t)
	for i, user := range manyUsers()[:8] { // the others have never connected
		c.client(user, wire.RoleParticipant).connect(c.nodes[i%2])
	}
	var calm, beside []time.Duration
	sign := func(took *[]time.Duration) {
		began := time.Now()
		g.sign(t, fmt.Sprint("data ", len(calm)+len(beside)), 1, 2)
		*took = append(*took, time.Since(began))
		waitFor(t.Context(), 25*time.Millisecond) // signers have limits of their own
	}
	for range 20 {
		sign(&calm)
	}
	before, most := usedMemory(t, c.rdb), int64(0)
	was := c.lasting()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked, refused, sent atomic.Int64
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { c.hostileCoordinator(ctx, i, &asked, &refused) })
	}
	for i := 1; i <= 3; i++ {
		m := minion{c: c, user: fmt.Sprint("minion-", i), away: i == 3, sent: &sent}
		all.Go(func() { m.run(ctx) })
	}
	began := time.Now()
	for time.Since(began) < long || refused.Load() == 0 && time.Since(began) < long+patience {
		sign(&beside)
		most = max(most, usedMemory(t, c.rdb)-before)
	}
	cancel()
	all.Wait()
	slices.Sort(calm)
	slices.Sort(beside)
	t.Logf("%d requests, %d of them refused, and %d round messages in %s; a signing took %s, and %s beside them (median of %d); Redis grew by %.1f MiB at most",
		asked.Load(), refused.Load(), sent.Load(), time.Since(began).Round(time.Second), calm[len(calm)/2], beside[len(beside)/2], len(beside), float64(most)/(1<<20))
	c.cancelAll("mallory") // as their deadlines would

	if refused.Load() == 0 || asked.Load() == refused.Load() || sent.Load() == 0 {
		t.Error("the hostile ones were not refused, or only refused")
	}
	// Ended sessions may take four times their budget for a quarter of an hour.
	if budget := int64(session.DefaultOpenBytes + 4*session.DefaultEndedBytes + session.DefaultEndedBytes); most > budget {
		t.Errorf("Redis has grown by %d bytes, the budgets are %d", most, budget)
	}
	var left int64
	for kind, size := range c.lasting() {
		if size -= was[kind]; size <= 0 {
			continue
		}
		t.Logf("left for more than an hour in %s: %.1f KiB", kind, float64(size)/1024)
		switch kind {
		case "audit", "audited:": // bounded by their own rules
		case "seen:":
			if most := int64(len(manyUsers())+4) * seenBytes; size > most {
				t.Errorf("the ids that mailboxes have taken hold %d bytes, want at most %d", size, most)
			}
		default:
			left += size
		}
	}
	// Two accounts have ended sessions: the hostile one, and the one that signs.
	if left > 2*session.DefaultEndedBytes {
		t.Errorf("%d bytes are left after an hour, want at most %d", left, 2*session.DefaultEndedBytes)
	}
}
