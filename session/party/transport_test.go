package party_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// until polls a condition that must become true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// started starts a run and returns its first messages.
func started(t *testing.T, run *party.Run, messages int) []party.Message {
	t.Helper()
	t.Cleanup(run.Close)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	var out []party.Message
	for range messages {
		out = append(out, <-run.Out())
	}
	return out
}

func TestDroppedMessage(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	var lost []party.Message
	n := partytest.NewNetwork(t, runs)
	n.Tamper = func(m party.Message, to int) []party.Message {
		if m.From == 2 && to == 1 && m.To == 1 { // its share for part 1
			lost = append(lost, m)
			return nil
		}
		return []party.Message{m}
	}
	if round, of := runs[1].Round(); round != 0 || of != 2 {
		t.Errorf("before the start: got round %d of %d, want 0 of 2", round, of)
	}
	n.Start()
	<-runs[2].Done()
	<-runs[3].Done()
	until(t, "part 1 waits for part 2 alone", func() bool { return slices.Equal(runs[1].Waiting(), []int{2}) })
	until(t, "part 1 is in round 2", func() bool { round, _ := runs[1].Round(); return round == 2 })
	if err := runs[1].Err(); err != nil {
		t.Errorf("while waiting: %v", err)
	}
	n.Deliver(lost[0], 1)
	n.Wait()
	if runs[1].Err() != nil || runs[1].Share() == nil {
		t.Errorf("after the message came: %v", runs[1].Err())
	}
	if round, of := runs[1].Round(); round != of {
		t.Errorf("after the end: got round %d of %d", round, of)
	}
	if w := runs[1].Waiting(); len(w) != 0 {
		t.Errorf("after the end it waits for %v", w)
	}
}

func TestDuplicatesAreDroppedSilently(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	runs := c.SignRuns(t, shares, []int{1, 2, 3}, []byte("twice"))
	var mu sync.Mutex
	seen := map[int][]party.Message{}
	n := partytest.NewNetwork(t, runs)
	n.Tamper = func(m party.Message, to int) []party.Message {
		mu.Lock()
		defer mu.Unlock()
		seen[to] = append(seen[to], m)
		return append(slices.Clone(seen[to]), m) // all earlier ones, once more
	}
	n.Wait()
	for part, run := range runs {
		if run.Err() != nil {
			t.Errorf("part %d: %v", part, run.Err())
		}
		// After the end a copy is still accepted as a copy.
		if err := run.Accept(seen[part][0]); err != nil {
			t.Errorf("part %d: copy after the end: %v", part, err)
		}
	}
	verify(t, shares[0], []byte("twice"), runs[2].Signature())
}

// TestAnyOrder delivers messages in random order, also before a run's start.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(4) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			order := rand.New(rand.NewPCG(seed, 1))
			c := partytest.NewCommittee(t, 3)
			runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
			sent := make(chan party.Message)
			var pumps sync.WaitGroup
			for part, run := range runs {
				t.Cleanup(run.Close)
				pumps.Go(func() {
					for m := range run.Out() {
						sent <- m
					}
				})
				if part != 3 { // starts last
					if err := run.Start(); err != nil {
						t.Fatal(err)
					}
				}
			}
			go func() { pumps.Wait(); close(sent) }()
			type parcel struct {
				m  party.Message
				to int
			}
			var pool []parcel
			late := false
			take := func(m party.Message, ok bool) bool {
				for to := range runs {
					if ok && to != m.From && (m.To == 0 || m.To == to) {
						pool = append(pool, parcel{m, to})
					}
				}
				return ok
			}
			for {
				// Take an available message; wait only if there is nothing to deliver.
				select {
				case m, ok := <-sent:
					if take(m, ok) {
						continue
					}
				default:
				}
				if len(pool) == 0 {
					if !late {
						late = true
						if err := runs[3].Start(); err != nil {
							t.Fatal(err)
						}
					}
					m, ok := <-sent
					if !take(m, ok) {
						break
					}
				}
				i := order.IntN(len(pool))
				p := pool[i]
				pool = slices.Delete(pool, i, i+1)
				if err := runs[p.to].Accept(p.m); err != nil {
					t.Fatalf("part %d refuses a message of part %d: %v", p.to, p.m.From, err)
				}
			}
			for part, run := range runs {
				if run.Err() != nil {
					t.Errorf("part %d: %v", part, run.Err())
				}
			}
		})
	}
}

// TestCorruptedMessage flips bits everywhere in messages in transit, and then delivers
// them intact: a message that is not authentic changes nothing.
func TestCorruptedMessage(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(t, runs)
	refused := 0
	n.Tamper = func(m party.Message, to int) []party.Message {
		out := []party.Message{}
		for range 20 {
			bad := party.Message{From: m.From, To: m.To, Body: bytes.Clone(m.Body), Sig: bytes.Clone(m.Sig)}
			switch rand.IntN(5) {
			case 0:
				bad.Sig[rand.IntN(len(bad.Sig))] ^= 1 << rand.IntN(8)
			case 1:
				bad.Body = bad.Body[:rand.IntN(len(bad.Body))]
			case 2:
				bad.Body = append(bad.Body, 0)
			default:
				bad.Body[rand.IntN(len(bad.Body))] ^= 1 << rand.IntN(8)
			}
			out = append(out, bad)
		}
		return append(out, m)
	}
	n.Refused = func(m party.Message, to int, err error) {
		refused++
		if !errors.Is(err, party.ErrNotAuthentic) {
			t.Errorf("a corrupted message of part %d to part %d: %v", m.From, to, err)
		}
	}
	n.Wait()
	for part, run := range runs {
		if run.Err() != nil {
			t.Errorf("part %d: %v", part, run.Err())
		}
	}
	if want := 20 * (3*2 + 3*2 + 3*2 + 2*3*2); refused != want {
		t.Errorf("got %d refusals, want %d", refused, want)
	}
}

// TestMisdirectedMessage: reflections, other senders' and other recipients' copies.
func TestMisdirectedMessage(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(t, runs)
	n.Tamper = func(m party.Message, to int) []party.Message {
		for part, run := range runs {
			for _, bad := range []party.Message{
				{From: part, To: m.To, Body: m.Body, Sig: m.Sig},
				{From: m.From, To: part, Body: m.Body, Sig: m.Sig},
				{From: m.From, To: -1, Body: m.Body, Sig: m.Sig},
				{From: 0, To: m.To, Body: m.Body, Sig: m.Sig},
				{From: 99, To: m.To, Body: m.Body, Sig: m.Sig},
				{From: m.From, To: m.To, Body: m.Body},
				{From: m.From, To: m.To, Sig: m.Sig},
				{From: m.From, To: m.To, Body: append([]byte{2}, m.Body[1:]...), Sig: m.Sig},
			} {
				if bad.From == m.From && bad.To == m.To && part != m.From && (m.To == 0 || m.To == part) &&
					bytes.Equal(bad.Body, m.Body) && bad.Sig != nil {
					continue // this is m, at its recipient
				}
				if err := run.Accept(bad); !errors.Is(err, party.ErrNotAuthentic) {
					t.Errorf("part %d accepts from %d to %d what %d sent to %d: %v", part, bad.From, bad.To, m.From, m.To, err)
				}
			}
		}
		return []party.Message{m}
	}
	n.Wait()
	for part, run := range runs {
		if run.Err() != nil {
			t.Errorf("part %d: %v", part, run.Err())
		}
	}
}

// TestOtherRun lets a run receive messages of runs that differ from it in one value:
// the parts of the binding, the digest, the protocol.
func TestOtherRun(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	stranger := partytest.Identity(t).Public()
	base := c.SignBinding(shares, []int{1, 3}, 1)
	sign := func(t *testing.T, part int, spoil func(*party.SignConfig)) *party.Run {
		cfg := party.SignConfig{Binding: base, Identity: c.Identities[part-1], Share: shares[part-1], Digest: []byte("digest")}
		cfg.Binding.Self = part
		cfg.Binding.Parties = slices.Clone(base.Parties)
		spoil(&cfg)
		run, err := party.NewSign(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	same := func(*party.SignConfig) {}
	for name, spoil := range map[string]func(*party.SignConfig){
		"session":   func(cfg *party.SignConfig) { cfg.Binding.SessionID += "x" },
		"attempt":   func(cfg *party.SignConfig) { cfg.Binding.Attempt++ },
		"digest":    func(cfg *party.SignConfig) { cfg.Digest = []byte("Digest") },
		"committee": func(cfg *party.SignConfig) { cfg.Binding.Parties = c.Members },
		// One byte moves from one id to the next: lengths are part of the encoding.
		"boundary": func(cfg *party.SignConfig) {
			cfg.Binding.SessionID = base.SessionID + "k"
		},
	} {
		t.Run(name, func(t *testing.T) {
			victim := sign(t, 3, same)
			foreign := started(t, sign(t, 1, spoil), 1)[0]
			t.Cleanup(victim.Close)
			if err := victim.Accept(foreign); !errors.Is(err, party.ErrNotAuthentic) {
				t.Errorf("accepted: %v", err)
			}
			honest := started(t, sign(t, 1, same), 1)[0]
			if err := victim.Accept(honest); err != nil {
				t.Errorf("the right message is refused: %v", err)
			}
		})
	}
	t.Run("keygen", func(t *testing.T) {
		keygen := func(part int, spoil func(*party.Binding)) *party.Run {
			b := c.Binding(pubkey.Ed25519, 2, part)
			b.SessionID, b.KeyID = "s", "k"
			spoil(&b)
			run, err := party.NewKeygen(party.KeygenConfig{Binding: b, Identity: c.Identities[part-1]})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(run.Close)
			return run
		}
		victim := keygen(3, func(*party.Binding) {})
		for name, spoil := range map[string]func(*party.Binding){
			"key":       func(b *party.Binding) { b.KeyID = "l" },
			"threshold": func(b *party.Binding) { b.Threshold = 3 },
			"user":      func(b *party.Binding) { b.Parties[1].User = "mallory" },
			"identity":  func(b *party.Binding) { b.Parties[1].Identity = stranger },
		} {
			if err := victim.Accept(started(t, keygen(1, spoil), 1)[0]); !errors.Is(err, party.ErrNotAuthentic) {
				t.Errorf("another %s: accepted: %v", name, err)
			}
		}
		// A signing of the same session and key.
		cfg := party.SignConfig{Binding: base, Identity: c.Identities[0], Share: shares[0], Digest: []byte("digest")}
		cfg.Binding.SessionID = "s"
		run, err := party.NewSign(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Accept(started(t, run, 1)[0]); !errors.Is(err, party.ErrNotAuthentic) {
			t.Errorf("a signing's message: accepted: %v", err)
		}
	})
}

// TestEquivocation: the second of two different messages is evidence, and the
// first still counts.
func TestEquivocation(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	b := c.SignBinding(shares, []int{1, 2}, 0)
	run := func(part int) *party.Run {
		cfg := party.SignConfig{Binding: b, Identity: c.Identities[part-1], Share: shares[part-1], Digest: []byte("digest")}
		cfg.Binding.Self = part
		r, err := party.NewSign(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	twin := started(t, run(2), 1)[0] // the same party, the same run, different random numbers
	runs := map[int]*party.Run{1: run(1), 2: run(2)}
	n := partytest.NewNetwork(t, runs)
	n.Tamper = func(m party.Message, to int) []party.Message {
		if to == 1 && m.Body[1] == twin.Body[1] {
			return []party.Message{m, twin, twin, m}
		}
		return []party.Message{m}
	}
	found := 0
	n.Refused = func(m party.Message, to int, err error) {
		var e *party.Error
		if !errors.As(err, &e) || !slices.Equal(e.Culprits, []int{2}) {
			t.Errorf("got %v, want an error that names part 2", err)
			return
		}
		found++
		if len(e.Evidence) != 2 || bytes.Equal(e.Evidence[0].Body, e.Evidence[1].Body) || !bytes.Equal(e.Evidence[1].Body, twin.Body) {
			t.Errorf("evidence is not the two copies: %d", len(e.Evidence))
		}
	}
	n.Wait()
	if found != 2 || runs[1].Err() != nil {
		t.Errorf("found %d equivocations, outcome %v", found, runs[1].Err())
	}
	verify(t, shares[0], []byte("digest"), runs[1].Signature())
}
