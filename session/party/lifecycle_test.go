package party_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// someKey is one key of each curve for all tests that need any key: 2 of 3 on ed25519,
// 2 of 2 on secp256k1, the one that recordOf has recorded.
func someKey(t testing.TB, curve pubkey.Curve) (*partytest.Committee, []*share.Share) {
	t.Helper()
	if curve == pubkey.Secp256k1 {
		if testing.Short() {
			t.Skip("takes long")
		}
		r := recordOf(t, "ecdsa/keygen")
		return r.committee, r.shares
	}
	key := &ed25519Key
	key.once.Do(func() {
		committee := partytest.NewCommittee(t, 3)
		key.shares = committee.Keygen(t, curve, 2)
		key.committee = committee
	})
	if key.committee == nil {
		t.Fatal("the key could not be generated")
	}
	return key.committee, key.shares
}

var ed25519Key struct {
	once      sync.Once
	committee *partytest.Committee
	shares    []*share.Share
}

// TestDigestsAtTheOrder signs digests at and above the group order, and zero.
func TestDigestsAtTheOrder(t *testing.T) {
	t.Parallel()
	order := secp256k1.Params().N.Bytes()
	c, shares := someKey(t, pubkey.Secp256k1)
	for _, digest := range sample.Of(1, [][]byte{order, bytes.Repeat([]byte{0xff}, 32), make([]byte, 32)}) {
		for _, sig := range c.Sign(t, shares, []int{1, 2}, digest) {
			verify(t, shares[0], digest, sig)
		}
	}
	for _, size := range []int{0, 31, 33} {
		cfg := party.SignConfig{
			Binding: c.SignBinding(shares, []int{1, 2}, 1), Identity: c.Identities[0], Share: shares[0], Digest: make([]byte, size),
		}
		if _, err := party.NewSign(cfg); err == nil {
			t.Errorf("a digest of %d bytes is signed", size)
		}
	}
}

func TestSignerSetMayExceedThreshold(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	for _, sig := range c.Sign(t, shares, []int{1, 2, 3}, []byte("digest")) {
		verify(t, shares[0], []byte("digest"), sig)
	}
}

// TestRefusedConfigurations breaks one field at a time.
func TestRefusedConfigurations(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	others := partytest.NewCommittee(t, 2).Keygen(t, pubkey.Ed25519, 2)
	stranger := partytest.Identity(t)
	for name, spoil := range map[string]func(*party.SignConfig){
		"no session":          func(cfg *party.SignConfig) { cfg.Binding.SessionID = "" },
		"no key":              func(cfg *party.SignConfig) { cfg.Binding.KeyID = "" },
		"long key":            func(cfg *party.SignConfig) { cfg.Binding.KeyID = strings.Repeat("k", 300) },
		"another key":         func(cfg *party.SignConfig) { cfg.Binding.KeyID += "x" },
		"no curve":            func(cfg *party.SignConfig) { cfg.Binding.Curve = "" },
		"another curve":       func(cfg *party.SignConfig) { cfg.Binding.Curve = pubkey.Secp256k1 },
		"another epoch":       func(cfg *party.SignConfig) { cfg.Binding.Epoch = 2 },
		"negative epoch":      func(cfg *party.SignConfig) { cfg.Binding.Epoch = -1 },
		"negative attempt":    func(cfg *party.SignConfig) { cfg.Binding.Attempt = -1 },
		"threshold 1":         func(cfg *party.SignConfig) { cfg.Binding.Threshold = 1 },
		"another threshold":   func(cfg *party.SignConfig) { cfg.Binding.Threshold = 3 },
		"another total":       func(cfg *party.SignConfig) { cfg.Binding.TotalParts = 4 },
		"too few":             func(cfg *party.SignConfig) { cfg.Binding.Parties = cfg.Binding.Parties[:1] },
		"out of order":        func(cfg *party.SignConfig) { slices.Reverse(cfg.Binding.Parties) },
		"out of range":        func(cfg *party.SignConfig) { cfg.Binding.Parties[1].Index = 4 },
		"part 0":              func(cfg *party.SignConfig) { cfg.Binding.Parties[0].Index = 0 },
		"the same part twice": func(cfg *party.SignConfig) { cfg.Binding.Parties[1] = cfg.Binding.Parties[0] },
		"the same user twice": func(cfg *party.SignConfig) { cfg.Binding.Parties[1].User = "user-1" },
		"no user":             func(cfg *party.SignConfig) { cfg.Binding.Parties[1].User = "" },
		"no identity of another": func(cfg *party.SignConfig) {
			cfg.Binding.Parties[1].Identity = identity.Public{}
		},
		"a swapped identity": func(cfg *party.SignConfig) { cfg.Binding.Parties[1].Identity = stranger.Public() },
		"a renamed user":     func(cfg *party.SignConfig) { cfg.Binding.Parties[1].User = "mallory" },
		"another self":       func(cfg *party.SignConfig) { cfg.Binding.Self = 3 },
		"self not among":     func(cfg *party.SignConfig) { cfg.Binding.Self = 2 },
		"no identity":        func(cfg *party.SignConfig) { cfg.Identity = nil },
		"empty identity":     func(cfg *party.SignConfig) { cfg.Identity = &identity.Identity{} },
		"another identity":   func(cfg *party.SignConfig) { cfg.Identity = stranger },
		"no share":           func(cfg *party.SignConfig) { cfg.Share = nil },
		"empty share":        func(cfg *party.SignConfig) { cfg.Share = &share.Share{} },
		"another's share":    func(cfg *party.SignConfig) { cfg.Share = shares[2] },
		"another key's":      func(cfg *party.SignConfig) { cfg.Share = others[0] },
		"nothing to sign":    func(cfg *party.SignConfig) { cfg.Digest = nil },
		"too much to sign":   func(cfg *party.SignConfig) { cfg.Digest = make([]byte, 1<<20+1) },
	} {
		cfg := party.SignConfig{
			Binding: c.SignBinding(shares, []int{1, 3}, 1), Identity: c.Identities[0], Share: shares[0], Digest: []byte("digest"),
		}
		spoil(&cfg)
		if run, err := party.NewSign(cfg); err == nil {
			run.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	b := c.Binding(pubkey.Ed25519, 2, 1)
	b.Parties = b.Parties[:2]
	if _, err := party.NewKeygen(party.KeygenConfig{Binding: b, Identity: c.Identities[0]}); err == nil {
		t.Error("a key is generated without one of its parties")
	}
	later := c.Binding(pubkey.Ed25519, 2, 1)
	later.Epoch = 2
	if _, err := party.NewKeygen(party.KeygenConfig{Binding: later, Identity: c.Identities[0]}); err == nil {
		t.Error("a key is generated in its second epoch")
	}
	if _, err := party.NewKeygen(party.KeygenConfig{Binding: c.Binding(pubkey.Secp256k1, 2, 1), Identity: c.Identities[0]}); err == nil {
		t.Error("an ECDSA key is generated without pre-parameters")
	}
}

func TestPreParamsServeOneKeygen(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 2)
	cfg := party.KeygenConfig{Binding: c.Binding(pubkey.Secp256k1, 2, 1), Identity: c.Identities[0], PreParams: partytest.PreParams(t, 0)}
	bad := cfg
	bad.Binding.SessionID = ""
	if _, err := party.NewKeygen(bad); err == nil {
		t.Fatal("accepted a bad binding")
	}
	run, err := party.NewKeygen(cfg) // the refusal did not use them up
	if err != nil {
		t.Fatal(err)
	}
	run.Close()
	if _, err := party.NewKeygen(cfg); !errors.Is(err, preparams.ErrUsed) {
		t.Errorf("second key generation: got %v, want %v", err, preparams.ErrUsed)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)

	idle := runs[1]
	idle.Close()
	idle.Close()
	if err := idle.Err(); !errors.Is(err, party.ErrClosed) {
		t.Errorf("closed before the start: got %v", err)
	}
	if err := idle.Start(); !errors.Is(err, party.ErrEnded) {
		t.Errorf("start after close: got %v", err)
	}
	if _, open := <-idle.Out(); open {
		t.Error("a closed run sends")
	}

	running := runs[2]
	first := started(t, running, 1)[0]
	if err := running.Start(); err == nil {
		t.Error("started twice")
	}
	if w := running.Waiting(); !slices.Equal(w, []int{1, 3}) {
		t.Errorf("waits for %v, want parts 1 and 3", w)
	}
	running.Close()
	if err := running.Err(); !errors.Is(err, party.ErrClosed) {
		t.Errorf("closed while running: got %v", err)
	}
	if err := running.Accept(started(t, runs[3], 1)[0]); !errors.Is(err, party.ErrEnded) {
		t.Errorf("message after close: got %v", err)
	}
	if err := idle.Accept(first); !errors.Is(err, party.ErrEnded) {
		t.Errorf("message after close: got %v", err)
	}

	// Close during the run, from several goroutines, while messages arrive.
	for range 3 {
		runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
		n := partytest.NewNetwork(t, runs)
		n.Refused = func(party.Message, int, error) {}
		n.Start()
		until(t, "round 2", func() bool { round, _ := runs[2].Round(); return round == 2 })
		var closers sync.WaitGroup
		for _, run := range runs {
			closers.Go(run.Close)
			closers.Go(run.Close)
		}
		closers.Wait()
		for part, run := range runs {
			if err := run.Err(); err != nil && !errors.Is(err, party.ErrClosed) || (err == nil) != (run.Share() != nil) {
				t.Errorf("part %d: outcome %v, share %v", part, err, run.Share())
			}
		}
	}
}

// TestNobodyReads: a run whose Out is not read still processes its messages.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	runs := c.SignRuns(t, shares, []int{1, 2}, []byte("digest"))
	defer runs[1].Close()
	defer runs[2].Close()
	for _, run := range runs {
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
	}
	// Part 2's messages are not read before part 2 has gone on to the next round.
	for round := 1; round <= 3; round++ {
		var copies sync.WaitGroup
		m := <-runs[1].Out()
		for range 8 {
			copies.Go(func() {
				if err := runs[2].Accept(m); err != nil {
					t.Error(err)
				}
			})
		}
		copies.Wait()
		until(t, "part 2 goes on", func() bool { n, _ := runs[2].Round(); return n > round || round == 3 })
		if err := runs[1].Accept(<-runs[2].Out()); err != nil && !errors.Is(err, party.ErrEnded) {
			t.Error(err)
		}
	}
	<-runs[1].Done()
	<-runs[2].Done()
	verify(t, shares[0], []byte("digest"), runs[1].Signature())
	verify(t, shares[0], []byte("digest"), runs[2].Signature())
	changed := runs[1].Signature()
	changed[0] ^= 1
	if bytes.Equal(changed, runs[1].Signature()) {
		t.Error("a caller can change the run's signature")
	}
}
