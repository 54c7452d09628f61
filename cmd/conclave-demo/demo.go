package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"golang.org/x/sync/errgroup"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// longest bounds the whole demonstration, so that it never hangs.
const longest = 3 * time.Minute

var participants = []string{"bob", "carol", "dave"}

// demo is a running demonstration.
type demo struct {
	d     *display
	redis *miniredis.Miniredis
	nodes []*nodeProcess
	door  *door
	asks  *member   // the coordinator
	holds []*member // the participants, by part index less one

	treasury client.Key
	ending   func() error
}

// demonstrate runs the whole demonstration.
func demonstrate(ctx context.Context, d *display, serve bool) (err error) {
	limited, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	demo := &demo{d: d}
	defer func() { err = errors.Join(err, demo.end()) }()
	for _, part := range []func(context.Context) error{demo.startCluster, demo.connectParties, demo.ethereum, demo.killing, demo.ed25519} {
		if err := part(limited); err != nil {
			return err
		}
	}
	d.title("Done")
	d.say("3 nodes (one of them killed), 2 keys and 3 signatures; no private key was ever in one place")
	if !serve {
		return nil
	}
	return demo.serve(ctx)
}

// startCluster starts Redis, the nodes and the front door.
func (m *demo) startCluster(ctx context.Context) error {
	m.d.title("A cluster of three nodes")
	m.redis = miniredis.NewMiniRedis()
	m.redis.ClockTTL(true) // otherwise its TTLs stand still, and dead nodes would look alive
	if err := m.redis.Start(); err != nil {
		return fmt.Errorf("start the embedded redis: %w", err)
	}
	redisURL := "redis://" + m.redis.Addr() + "/0"
	m.d.say("embedded redis on %s", m.redis.Addr())
	secret := rand.Text() + rand.Text()
	m.nodes = make([]*nodeProcess, 3)
	var starting errgroup.Group
	for i := range m.nodes {
		starting.Go(func() (err error) {
			m.nodes[i], err = startNode(ctx, fmt.Sprintf("n%d", i+1), redisURL, secret)
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	var backends []string
	for _, n := range m.nodes {
		m.d.say("node %s on %s, process %d", n.id, n.addr, n.cmd.Process.Pid)
		backends = append(backends, n.addr)
	}
	var err error
	if m.door, err = openDoor(backends); err != nil {
		return fmt.Errorf("start the load balancer: %w", err)
	}
	m.d.say("load balancer on %s, round robin over the nodes", m.door.URL())
	return m.makeAccounts(ctx, redisURL)
}

// makeAccounts creates the users as "conclaved user add" does.
func (m *demo) makeAccounts(ctx context.Context, redisURL string) error {
	m.asks = &member{user: "alice", role: wire.RoleCoordinator}
	for _, user := range participants {
		m.holds = append(m.holds, &member{user: user, role: wire.RoleParticipant})
	}
	for _, p := range m.everyone() {
		var err error
		if p.identity, err = identity.New(); err != nil {
			return err
		}
		p.password, p.store = rand.Text(), new(participant.MemStore)
		if err := node.AddUser(ctx, node.Config{Redis: redisURL}, p.user, p.password, []string{string(p.role)}, false); err != nil {
			return fmt.Errorf("make account %s: %w", p.user, err)
		}
	}
	return nil
}

func (m *demo) everyone() []*member { return append([]*member{m.asks}, m.holds...) }

// connectParties logs all parties in and connects them, through the front door.
func (m *demo) connectParties(ctx context.Context) error {
	m.d.title("Parties and coordinator")
	// People would compare the fingerprint by voice, before anything else.
	fingerprint := m.asks.identity.Public().Fingerprint()
	for _, p := range m.holds {
		if err := p.store.Pin(m.asks.user, fingerprint); err != nil {
			return err
		}
	}
	m.d.say("the participants have pinned alice's identity and approve the requests that it signs")
	m.d.line("    " + fingerprint)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	group, running := errgroup.WithContext(running)
	m.ending = func() error {
		stop()
		err := group.Wait()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return err
	}
	for _, p := range m.everyone() {
		if err := p.join(ctx, m.door.URL(), m.d); err != nil {
			return err
		}
		group.Go(func() error { return p.run(running, m.d) })
		if err := p.client.WaitConnected(ctx); err != nil {
			return fmt.Errorf("connect %s: %w", p.user, err)
		}
	}
	return nil
}

// ethereum generates a secp256k1 key and signs with it.
func (m *demo) ethereum(ctx context.Context) error {
	m.d.title("A 2-of-3 Ethereum key (secp256k1)")
	key, err := m.keygen(ctx, "treasury", pubkey.Secp256k1)
	if err != nil {
		return err
	}
	m.treasury = key
	m.d.say("Ethereum address  %s", key.AccountAddr)
	_, err = m.sign(ctx, key, "Pay 5 ether to Bob", nil)
	return err
}

// ed25519 generates an ed25519 key and signs with it.
func (m *demo) ed25519(ctx context.Context) error {
	m.d.title("A 2-of-3 ed25519 key")
	key, err := m.keygen(ctx, "releases", pubkey.Ed25519)
	if err != nil {
		return err
	}
	m.d.say("ed25519 public key  %s", key.AccountAddr)
	_, err = m.sign(ctx, key, "conclave v1.0.0", nil)
	return err
}

// killing signs while the node that holds a signer's socket is killed.
func (m *demo) killing(ctx context.Context) error {
	m.d.title("A node is killed (kill -9) in the middle of a signing")
	key := m.treasury
	var once sync.Once
	killed := make(chan string, 1)
	_, err := m.sign(ctx, key, "Pay 7 ether to Carol", func(p *member, ev client.Event) {
		if r, ok := ev.(participant.Round); !ok || r.N < 2 {
			return
		}
		once.Do(func() {
			i := slices.IndexFunc(m.nodes, func(n *nodeProcess) bool { return n.id == p.at() })
			m.nodes[i].kill()
			m.d.say("node %s, which held %s's socket, is dead", m.nodes[i].id, p.user)
			killed <- m.nodes[i].id
		})
	})
	if err != nil {
		return err
	}
	select {
	case id := <-killed:
		m.d.say("the signing finished without %s", id)
		return nil
	default:
		return errors.New("the signing ended before a node could be killed")
	}
}

// keygen generates a key and shows the progress.
func (m *demo) keygen(ctx context.Context, keyID string, curve pubkey.Curve) (client.Key, error) {
	m.d.say("alice requests a key of %s", strings.Join(participants, ", "))
	began := time.Now()
	stop := m.follow(curve == pubkey.Secp256k1, nil)
	key, err := m.asks.client.Keygen(ctx, client.KeygenRequest{KeyID: keyID, Threshold: 2, Participants: participants, Curve: curve})
	stop()
	if err != nil {
		return key, fmt.Errorf("keygen %s: %w", keyID, err)
	}
	m.d.say("key %s was created in %.2f s", keyID, time.Since(began).Seconds())
	return key, nil
}

// sign signs data, verifies the signature independently, and shows the progress.
func (m *demo) sign(ctx context.Context, key client.Key, data string, also func(*member, client.Event)) (client.Signature, error) {
	m.d.say("alice requests a signature over %q", data)
	began := time.Now()
	stop := m.follow(false, also)
	sig, err := m.asks.client.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: data})
	stop()
	if err != nil {
		return sig, fmt.Errorf("sign with %s: %w", key.KeyID, err)
	}
	took := time.Since(began)
	if err := verify(sig, data); err != nil {
		return sig, err
	}
	m.d.say("signature  %s", sig.Signature)
	m.d.say("verified under %s, in %.2f s", sig.AccountAddr, took.Seconds())
	return sig, nil
}

// verify checks a signature from only its text, the data and the address.
func verify(sig client.Signature, data string) error {
	digest, _, err := pubkey.Digest(sig.Curve, data, "")
	if err != nil {
		return err
	}
	raw, err := pubkey.Decode(sig.Signature)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if _, _, err := sig.Curve.CompleteFor(sig.AccountAddr, digest, raw); err != nil {
		return fmt.Errorf("the signature over %q is invalid: %w", data, err)
	}
	return nil
}

// follow shows the participants' progress until the returned function is called.
func (m *demo) follow(preparing bool, also func(*member, client.Event)) (stop func()) {
	p := &progress{d: m.d, preparing: preparing, primes: map[string]participant.Preparing{}, rounds: map[string]participant.Round{}}
	for _, h := range m.holds {
		h.observe(func(ev client.Event) {
			p.happened(h.user, ev)
			if also != nil {
				also(h, ev)
			}
		})
	}
	return func() {
		for _, h := range m.holds {
			h.observe(nil)
		}
		m.d.done()
	}
}

// end stops everything, in the reverse order of its start.
func (m *demo) end() error {
	var err error
	if m.ending != nil {
		err = m.ending()
	}
	if m.door != nil {
		m.door.close()
	}
	var stopping sync.WaitGroup
	for _, n := range m.nodes {
		if n != nil {
			stopping.Go(n.stop)
		}
	}
	stopping.Wait()
	if m.redis != nil {
		m.redis.Close()
	}
	return err
}
