package e2e_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// player is a scripted user that keeps none of the messages it receives.
type player struct {
	user  string
	token string
	ws    *websocket.Conn
}

func (c *testCluster) player(base, user string, role wire.Role) *player {
	c.t.Helper()
	p := &player{user: user, token: c.token(user, role)}
	var err error
	if p.ws, _, err = websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(base, "http")+"/ws", nil); err != nil {
		c.t.Fatal(err)
	}
	if err := p.say(&wire.Register{UserID: user, Role: role, Resume: &wire.Resume{}}, "r"); err != nil {
		c.t.Fatal(err)
	}
	if _, err := p.hear(); err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (p *player) say(payload wire.Payload, request string) error {
	m, err := wire.New(p.user, payload)
	if err != nil {
		return err
	}
	m.Token, m.RequestID = p.token, request
	return p.ws.WriteJSON(m)
}

func (p *player) hear() (wire.Payload, error) {
	var m wire.Message
	_ = p.ws.SetReadDeadline(time.Now().Add(patience))
	if err := p.ws.ReadJSON(&m); err != nil {
		return nil, err
	}
	if m.Seq > 0 {
		if err := p.say(&wire.Ack{Seq: m.Seq}, ""); err != nil {
			return nil, err
		}
	}
	return m.DecodePayload()
}

// play is a participant's part: it agrees to everything.
func (p *player) play(part int, key ed25519.PrivateKey, address string) {
	yes := true
	for {
		m, err := p.hear()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *wire.KeygenInvite:
			err = p.say(&wire.KeygenResponse{KeyID: m.KeyID, PartIndex: part, Response: &yes, SessionID: m.SessionID}, "")
		case *wire.KeygenParams:
			err = p.say(&wire.KeygenComplete{
				KeyID: m.KeyID, PartIndex: part, AccountAddr: address, ShareJSON: sealedShare(m.KeyID, part), SessionID: m.SessionID,
			}, "")
		case *wire.SignInvite:
			err = p.say(&wire.SignResponse{KeyID: m.KeyID, PartIndex: part, Response: &yes, SessionID: m.SessionID}, "")
		case *wire.SignParams:
			if err = p.say(&wire.TSSMessage{SessionID: m.SessionID, Attempt: m.Attempt, From: part, Body: "cm91bmQ="}, ""); err == nil {
				err = p.say(&wire.SignResult{KeyID: m.KeyID, PartIndex: part, Signature: pubkey.Encode(ed25519.Sign(key, []byte(m.Data))), SessionID: m.SessionID}, "")
			}
		case *wire.ErrorPayload: // the other's result was first
		}
		if err != nil {
			return
		}
	}
}

// heap is the live heap, in bytes.
func heap() int64 {
	for range 4 { // pools are emptied by two collections
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestNothingGrows runs a node in this process with thousands of sessions (in the sample
// hundreds) and with users who connect and leave. Neither heap nor goroutines grow with
// ended sessions; and a stopped node leaves nothing behind. All the state is in an external
// Redis.
func TestNothingGrows(t *testing.T) {
	needRedis(t)
	if testing.Short() {
		t.Skip("thousands of sessions are left out with -short")
	}
	const batches, most = 3, 300 << 10
	sessions, guests := sample.Or(100, 500), sample.Or(30, 60)
	server := redistest.StartRedis(t)
	before := goleak.IgnoreCurrent()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	c := newCluster(t, rdb, redistest.Prefix())
	n, err := node.New(node.Config{
		Listen: "127.0.0.1:0", Redis: server.URL() + "?pool_size=8", RedisPrefix: c.prefix, NodeID: "n1", JWTSecret: []byte(testSecret),
		RequestLimit: 1e6, RegisterLimit: 1e6, RateLimit: 1e6, LoginLimit: 1e6, LoginAddressLimit: 1e6, LoginAccountLimit: 1e6, DrainSpread: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	base := "http://" + n.Addr()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	address, err := pubkey.Ed25519.Address(public)
	if err != nil {
		t.Fatal(err)
	}
	var all []*player
	for part := 1; part <= 3; part++ {
		p := c.player(base, partNames[part], wire.RoleParticipant)
		all = append(all, p)
		go p.play(part, key, address)
	}
	asks := c.player(base, "alice", wire.RoleCoordinator)
	all = append(all, asks)
	// outcomes waits for that many, and returns how many succeeded.
	outcomes := func(count int) (good int) {
		for count > 0 {
			m, err := asks.hear()
			if err != nil {
				t.Fatal(err)
			}
			switch m := m.(type) {
			case *wire.KeygenConfirm:
				count--
				if m.Status == wire.StatusSuccess {
					good++
				}
			case *wire.SignComplete:
				count--
				if m.Status == wire.StatusSuccess {
					good++
				}
			}
		}
		return good
	}
	if err := asks.say(&wire.KeygenRequest{KeyID: "k", Threshold: 2, TotalParts: 3, Participants: partNames[1:], Curve: string(pubkey.Ed25519)}, ""); err != nil {
		t.Fatal(err)
	}
	if outcomes(1) != 1 {
		t.Fatal("no key")
	}
	batch := func(number int) {
		const window = 10
		for i := 0; i < sessions; i += window {
			for k := range window {
				data := fmt.Sprintf("batch %d data %d", number, i+k)
				if err := asks.say(&wire.SignRequest{KeyID: "k", Data: data}, ""); err != nil {
					t.Fatal(err)
				}
			}
			if good := outcomes(window); good != window {
				t.Fatalf("%d of %d signings", good, window)
			}
		}
		for i := range guests {
			name := fmt.Sprintf("guest-%d-%d", number, i)
			k := c.thin(name)
			if err := k.open(base); err != nil {
				t.Fatal(err)
			}
			if i%3 > 0 { // a third leave without having registered
				if _, err := k.Write(k.register); err != nil || k.confirmed() != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			_ = k.Close()
		}
	}
	var heaps []int64
	goroutines := 0
	for number := range batches {
		batch(number)
		eventually(t, "the guests are gone", func() bool {
			present, err := rdb.Keys(t.Context(), c.prefix+"presence:*").Result()
			return err == nil && len(present) == len(all)
		})
		if number == 0 {
			// The first pass creates everything that is kept.
			goroutines = runtime.NumGoroutine()
		}
		// The number of socket writers and pool connections varies.
		eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+4 })
		heaps = append(heaps, heap())
	}
	t.Logf("heap after each %d signings and %d guests: %v bytes; %d goroutines", sessions, guests, heaps, runtime.NumGoroutine())
	if grown := heaps[batches-1] - heaps[0]; grown > most {
		t.Errorf("the heap has grown by %d bytes in %d signings, want at most %d", grown, (batches-1)*sessions, most)
	}

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
	for _, p := range all {
		_ = p.ws.Close()
	}
	_ = rdb.Close()
	goleak.VerifyNone(t, before)
}
