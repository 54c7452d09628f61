package party_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
)

// twoFaced returns a Tamper with which part 2 sends the parts in fooled a different
// broadcast of the code than the others.
func twoFaced(t *testing.T, runs map[int]*party.Run, code byte, other []byte, fooled ...int) func(party.Message, int) []party.Message {
	t.Helper()
	party.Malicious(runs[2])
	second, err := party.Forge(runs[2], code, 0, other)
	if err != nil {
		t.Fatal(err)
	}
	return func(m party.Message, to int) []party.Message {
		if m.From == 2 && m.Body[1] == code && slices.Contains(fooled, to) {
			return []party.Message{second}
		}
		return []party.Message{m}
	}
}

// otherCommitment is the content of another round-1 message on ed25519.
func otherCommitment(t *testing.T) []byte {
	t.Helper()
	content, err := proto.Marshal(&eddsakeygen.KGRound1Message{Commitment: []byte("another commitment")})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// convicts checks a run's findings against a party: blame, both copies, and a proof
// that can be verified by itself.
func convicts(t *testing.T, run *party.Run, culprit int) *statement.Evidence {
	t.Helper()
	select {
	case <-run.Done():
	case <-time.After(time.Minute):
		t.Fatalf("the run goes on, waiting for %v", run.Waiting())
	}
	var e *party.Error
	if !errors.As(run.Err(), &e) || !slices.Equal(e.Culprits, []int{culprit}) {
		t.Fatalf("got outcome %v, want an *Error that blames part %d", run.Err(), culprit)
	}
	if e.Proof == nil {
		t.Fatalf("no proof: %v", e)
	}
	data, err := e.Proof.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	read, err := statement.ParseEvidence(data)
	if err != nil {
		t.Fatal(err)
	}
	member, err := read.Verify()
	if err != nil || member.Index != culprit || member.User != fmt.Sprint("user-", culprit) {
		t.Errorf("the proof convicts %d %q: %v", member.Index, member.User, err)
	}
	return read
}

// TestEquivocationAmongThree: each round's broadcast differs between two honest parties
// in turn. Both detect it, before tss-lib has seen either, and neither blames the
// other.
func TestEquivocationAmongThree(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	for _, code := range []byte{1, 2, 3} {
		runs := c.SignRuns(t, shares, []int{1, 2, 3}, []byte("digest"))
		n := partytest.NewNetwork(t, runs)
		n.Refused = func(party.Message, int, error) {}
		// The other content is from a successful signing.
		var other []byte
		twins := c.SignRuns(t, shares, []int{1, 2, 3}, []byte("digest"))
		twin := partytest.NewNetwork(t, twins)
		twin.Tamper = func(m party.Message, to int) []party.Message {
			if m.From == 2 && m.Body[1] == code {
				other, _ = party.Content(twins[to], m)
			}
			return []party.Message{m}
		}
		twin.Wait()
		n.Tamper = twoFaced(t, runs, code, other, 3)
		// Without the guard, which refuses some of it for other reasons.
		for _, run := range runs {
			party.Unguard(run)
		}
		n.Start()
		for _, part := range []int{1, 3} {
			e := convicts(t, runs[part], 2)
			if e.Round != party.RoundOf(runs[1], code) || e.From != 2 || e.To != 0 {
				t.Errorf("the proof is about %s from %d to %d", e.Round, e.From, e.To)
			}
			if round, _ := runs[part].Round(); round != int(code) {
				t.Errorf("part %d is in round %d: tss-lib has seen what was not agreed on", part, round)
			}
			if len(e.First.Body) == 0 || bytes.Equal(e.First.Hash, e.Second.Hash) {
				t.Error("the two copies are not there")
			}
		}
	}
}

// TestColludingEcho: an accomplice sends each honest party the echo that it expects.
func TestColludingEcho(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 4)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(t, runs)
	n.Refused = func(party.Message, int, error) {}
	lie := twoFaced(t, runs, 1, otherCommitment(t), 3)
	party.Malicious(runs[4])
	got := map[int]map[int]party.Message{1: {}, 3: {}} // round-1 broadcasts by recipient and sender
	n.Tamper = func(m party.Message, to int) []party.Message {
		out := lie(m, to)
		if m.Body[1] == 1 && got[to] != nil {
			got[to][m.From] = out[0]
		}
		if m.From == 4 && party.IsEcho(m) && got[to] != nil {
			if got[to][1].Body == nil { // no party receives its own
				got[to][1] = got[3][1]
			}
			if got[to][3].Body == nil {
				got[to][3] = got[1][3]
			}
			f, err := party.ForgeEcho(runs[4], 1, got[to][1], got[to][2], got[to][3])
			if err != nil {
				t.Error(err)
			}
			return []party.Message{f}
		}
		return out
	}
	n.Start()
	convicts(t, runs[1], 2)
	convicts(t, runs[3], 2)
}

// TestFalseEcho: a party that echoes a message that was never signed is at fault, not
// the message's alleged sender.
func TestFalseEcho(t *testing.T) {
	t.Parallel()
	for what, forge := range map[string]func(runs map[int]*party.Run, of1, of3 party.Message) (party.Message, error){
		"another hash": func(runs map[int]*party.Run, of1, of3 party.Message) (party.Message, error) {
			of3.Body = append(bytes.Clone(of3.Body), 0)
			return party.ForgeEcho(runs[2], 1, of1, of3)
		},
		"of the recipient": func(runs map[int]*party.Run, of1, of3 party.Message) (party.Message, error) {
			of1.Body = append(bytes.Clone(of1.Body), 0)
			return party.ForgeEcho(runs[2], 1, of1, of3)
		},
		"in the wrong order": func(runs map[int]*party.Run, of1, of3 party.Message) (party.Message, error) {
			return party.ForgeEcho(runs[2], 1, of3, of1)
		},
		"too short": func(runs map[int]*party.Run, of1, of3 party.Message) (party.Message, error) {
			return party.ForgeEcho(runs[2], 1, of1)
		},
		"empty": func(runs map[int]*party.Run, of1, of3 party.Message) (party.Message, error) {
			return party.ForgeEcho(runs[2], 1)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := partytest.NewCommittee(t, 3)
			runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
			n := partytest.NewNetwork(t, runs)
			of := map[int]party.Message{}
			var held []party.Message
			n.Tamper = func(m party.Message, to int) []party.Message {
				if m.Body[1] == 1 {
					of[m.From] = m
				}
				if !party.IsEcho(m) || m.From != 2 || to != 1 {
					return []party.Message{m}
				}
				f, err := forge(runs, of[1], of[3])
				if err != nil {
					t.Error(err)
				}
				held = append(held, f)
				return []party.Message{f}
			}
			e := outcome(t, n, runs, 1, 2)
			if len(e.Evidence) != 1 || !bytes.Equal(e.Evidence[0].Body, held[0].Body) || e.Proof != nil {
				t.Errorf("the echo is not kept as evidence: %+v", e)
			}
		})
	}
}

// TestStolenIdentity: another party has a different message signed with the own
// identity. That is neither its fault nor any known party's.
func TestStolenIdentity(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(t, runs)
	forged, err := party.Forge(runs[1], 1, 0, otherCommitment(t))
	if err != nil {
		t.Fatal(err)
	}
	n.Tamper = func(m party.Message, to int) []party.Message {
		if m.From == 1 && to == 3 && m.Body[1] == 1 {
			return []party.Message{forged}
		}
		return []party.Message{m}
	}
	e := outcome(t, n, runs, 1)
	if !strings.Contains(e.Reason, "our identity") {
		t.Errorf("reason is %q", e.Reason)
	}
}

// TestSilentEcho: Waiting names a party that sends its messages but no echo, and no
// party because of another's silence.
func TestSilentEcho(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(t, runs)
	var mu sync.Mutex
	var echo, broadcast, second []party.Message
	n.Tamper = func(m party.Message, to int) []party.Message {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case to == 1 && m.From == 2 && party.IsEcho(m):
			echo = append(echo, m)
			return nil
		case to == 3 && m.From == 1 && m.Body[1] == 3:
			broadcast = append(broadcast, m)
			return nil
		case to == 3 && m.From == 2 && m.Body[1] == 0x82:
			second = append(second, m)
			return nil
		}
		return []party.Message{m}
	}
	n.Start()
	// The others go on to round 2 and have sent part 1 all of it when they wait for its
	// messages.
	for _, part := range []int{2, 3} {
		until(t, "the others wait for part 1", func() bool {
			round, _ := runs[part].Round()
			return round == 2 && slices.Equal(runs[part].Waiting(), []int{1})
		})
	}
	if round, of := runs[1].Round(); !slices.Equal(runs[1].Waiting(), []int{2}) || round != 1 || of != 2 {
		t.Errorf("part 1 waits for %v in round %d of %d, want part 2 and round 1", runs[1].Waiting(), round, of)
	}
	until(t, "the echo is held", func() bool { mu.Lock(); defer mu.Unlock(); return len(echo) == 1 })
	n.Deliver(echo[0], 1)
	// Now part 1's broadcast of round 2 does not reach part 3, which therefore does not
	// echo: part 3 waits for part 1 and not for any echo of it, although part 2's is
	// missing too.
	until(t, "all is held", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(broadcast) == 1 && len(second) == 1
	})
	if w := runs[3].Waiting(); !slices.Equal(w, []int{1}) {
		t.Errorf("part 3 waits for %v, want part 1", w)
	}
	n.Deliver(broadcast[0], 3)
	until(t, "part 3 waits for the echo of part 2", func() bool { return slices.Equal(runs[3].Waiting(), []int{2}) })
	n.Deliver(second[0], 3)
	until(t, "the other echo is held", func() bool { mu.Lock(); defer mu.Unlock(); return len(echo) == 2 })
	n.Deliver(echo[1], 1)
	n.Wait()
	for part, run := range runs {
		if run.Err() != nil || run.Share() == nil {
			t.Errorf("part %d: %v", part, run.Err())
		}
	}
}

// TestEchoTraffic counts: one echo for each round with a broadcast, of 96 bytes for
// each of the others, and no echo between two parties.
func TestEchoTraffic(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	for _, quorum := range [][]int{{1, 3}, {1, 2, 3}} {
		runs := c.SignRuns(t, shares, quorum, []byte("digest"))
		n := partytest.NewNetwork(t, runs)
		echoes := 0
		n.Tamper = func(m party.Message, to int) []party.Message {
			if party.IsEcho(m) {
				echoes++
				if len(m.Body) != 2+2*96 || m.To != 0 {
					t.Errorf("an echo of %d bytes to %d", len(m.Body), m.To)
				}
			}
			return []party.Message{m}
		}
		n.Wait()
		if want := map[int]int{2: 0, 3: 3 * 3 * 2}[len(quorum)]; echoes != want {
			t.Errorf("%d parties: got %d echoes, want %d", len(quorum), echoes, want)
		}
	}
}

// TestTwoEchoes: an echo is a message too, and two different ones are proof.
func TestTwoEchoes(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(t, runs)
	var proof *statement.Evidence
	n.Tamper = func(m party.Message, to int) []party.Message {
		if party.IsEcho(m) && m.From == 2 && to == 1 && m.Body[1] == 0x81 {
			f, err := party.ForgeEcho(runs[2], 1)
			if err != nil {
				t.Error(err)
			}
			return []party.Message{m, f}
		}
		return []party.Message{m}
	}
	n.Refused = func(_ party.Message, _ int, err error) {
		var e *party.Error
		if errors.As(err, &e) {
			proof = e.Proof
		}
	}
	n.Wait()
	if proof == nil {
		t.Fatal("no proof")
	}
	if culprit, err := proof.Verify(); err != nil || culprit.Index != 2 || len(proof.Second.Body) == 0 {
		t.Errorf("got culprit %d, %v", culprit.Index, err)
	}
}

// TestEvidence changes a proof in every way that should invalidate it.
func TestEvidence(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	runs := c.SignRuns(t, shares, []int{1, 2, 3}, []byte("digest"))
	n := partytest.NewNetwork(t, runs)
	n.Refused = func(party.Message, int, error) {}
	n.Tamper = twoFaced(t, runs, 1, otherCommitment(t), 3)
	n.Start()
	good := convicts(t, runs[1], 2)
	text, err := good.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	stranger := partytest.Identity(t).Public()
	for what, spoil := range map[string]func(e *statement.Evidence){
		"version":              func(e *statement.Evidence) { e.Version = 3 },
		"the version before":   func(e *statement.Evidence) { e.Version = 1 },
		"without its epoch":    func(e *statement.Evidence) { e.Version, e.Epoch = 1, 0 },
		"epoch":                func(e *statement.Evidence) { e.Epoch++ },
		"no epoch":             func(e *statement.Evidence) { e.Epoch = 0 },
		"protocol":             func(e *statement.Evidence) { e.Protocol = "keygen" },
		"unknown protocol":     func(e *statement.Evidence) { e.Protocol = "x" },
		"session":              func(e *statement.Evidence) { e.SessionID += "x" },
		"no session":           func(e *statement.Evidence) { e.SessionID = "" },
		"attempt":              func(e *statement.Evidence) { e.Attempt++ },
		"key":                  func(e *statement.Evidence) { e.KeyID += "x" },
		"curve":                func(e *statement.Evidence) { e.Curve = pubkey.Secp256k1 },
		"no curve":             func(e *statement.Evidence) { e.Curve = "" },
		"threshold":            func(e *statement.Evidence) { e.Threshold++ },
		"total":                func(e *statement.Evidence) { e.TotalParts++ },
		"a party less":         func(e *statement.Evidence) { e.Parties = e.Parties[:2] },
		"no parties":           func(e *statement.Evidence) { e.Parties = nil },
		"a user":               func(e *statement.Evidence) { e.Parties[0].User = "x" },
		"the culprit's name":   func(e *statement.Evidence) { e.Parties[1].User = "x" },
		"the culprit":          func(e *statement.Evidence) { e.Parties[1].Identity = stranger },
		"another's identity":   func(e *statement.Evidence) { e.Parties[0].Identity = stranger },
		"no identity":          func(e *statement.Evidence) { e.Parties[1].Identity = identity.Public{} },
		"digest":               func(e *statement.Evidence) { e.Digest = "0x00" },
		"bad digest":           func(e *statement.Evidence) { e.Digest = "x" },
		"public key":           func(e *statement.Evidence) { e.PublicKey = "0x00" },
		"bad public key":       func(e *statement.Evidence) { e.PublicKey = "" },
		"round":                func(e *statement.Evidence) { e.Round = "eddsa/sign/2" },
		"unknown round":        func(e *statement.Evidence) { e.Round = "eddsa/keygen/1" },
		"another sender":       func(e *statement.Evidence) { e.From = 1 },
		"no sender":            func(e *statement.Evidence) { e.From = 9 },
		"a recipient":          func(e *statement.Evidence) { e.To = 1 },
		"no recipient":         func(e *statement.Evidence) { e.To = -1 },
		"the same twice":       func(e *statement.Evidence) { e.Second = e.First },
		"the same, resigned":   func(e *statement.Evidence) { e.Second.Hash = e.First.Hash },
		"a hash":               func(e *statement.Evidence) { e.Second.Hash[0] ^= 1 },
		"a hash cut off":       func(e *statement.Evidence) { e.Second.Hash = e.Second.Hash[:31] },
		"no hash":              func(e *statement.Evidence) { e.First.Hash = nil },
		"a signature":          func(e *statement.Evidence) { e.Second.Sig[0] ^= 1 },
		"no signature":         func(e *statement.Evidence) { e.First.Sig = nil },
		"signatures exchanged": func(e *statement.Evidence) { e.First.Sig, e.Second.Sig = e.Second.Sig, e.First.Sig },
		"a body":               func(e *statement.Evidence) { e.First.Body[0] ^= 1 },
		"bodies exchanged":     func(e *statement.Evidence) { e.First.Body, e.Second.Body = nil, e.First.Body },
	} {
		e, err := statement.ParseEvidence(text)
		if err != nil {
			t.Fatal(err)
		}
		spoil(e)
		if culprit, err := e.Verify(); err == nil || culprit.Index != 0 {
			t.Errorf("%s changed: convicts part %d", what, culprit.Index)
		}
	}
	for what, spoil := range map[string]func(e *statement.Evidence){
		"bodies left out":  func(e *statement.Evidence) { e.First.Body, e.Second.Body = nil, nil },
		"copies exchanged": func(e *statement.Evidence) { e.First, e.Second = e.Second, e.First },
	} {
		e, _ := statement.ParseEvidence(text)
		spoil(e)
		if _, err := e.Verify(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	fields["note"] = "x"
	noted, _ := json.Marshal(fields)
	for _, bad := range []string{"", "null{}", "[]", string(noted), string(text) + "{}", strings.Repeat(" ", 9<<20)} {
		if _, err := statement.ParseEvidence([]byte(bad)); err == nil {
			t.Errorf("read %.20q", bad)
		}
	}
}
