package party_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/bnb-chain/tss-lib/v2/crypto/commitments"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// rewrite returns a Tamper that changes the content of one party's messages of one
// round and signs them again as that party: a malicious party with a correct transport.
func rewrite(t *testing.T, runs map[int]*party.Run, from int, code byte, change func(content []byte, to int) []byte) func(party.Message, int) []party.Message {
	party.Malicious(runs[from])
	forged := map[int]party.Message{} // a retry must be the same message
	return func(m party.Message, to int) []party.Message {
		if m.From != from || m.Body[1] != code {
			return []party.Message{m}
		}
		if _, ok := forged[m.To]; !ok {
			content, err := party.Content(runs[to], m)
			if err != nil {
				t.Error(err)
			}
			f, err := party.Forge(runs[from], code, m.To, change(content, to))
			if err != nil {
				t.Error(err)
			}
			forged[m.To] = f
		}
		return []party.Message{forged[m.To]}
	}
}

// outcome waits for the runs of honest parties and requires them to blame the culprits;
// those still waiting when one has failed are closed, as a session does.
func outcome(t *testing.T, n *partytest.Network, runs map[int]*party.Run, witness int, culprits ...int) *party.Error {
	t.Helper()
	n.Refused = func(party.Message, int, error) {}
	n.Start()
	<-runs[witness].Done()
	var e *party.Error
	if err := runs[witness].Err(); !errors.As(err, &e) {
		t.Fatalf("part %d: got outcome %v, want an *Error", witness, err)
	}
	if !slices.Equal(e.Culprits, culprits) {
		t.Errorf("part %d blames %v, want %v: %v", witness, e.Culprits, culprits, e)
	}
	if runs[witness].Share() != nil || runs[witness].Signature() != nil {
		t.Errorf("part %d has a result although it failed", witness)
	}
	return e
}

func TestMalformedContent(t *testing.T) {
	for name, change := range map[string]func(content []byte, to int) []byte{
		"nothing":        func([]byte, int) []byte { return nil },
		"garbage":        func([]byte, int) []byte { return bytes.Repeat([]byte{0xff}, 40) },
		"cut off":        func(c []byte, _ int) []byte { return c[:len(c)-1] },
		"unknown fields": func(c []byte, _ int) []byte { return append(bytes.Clone(c), 0xf8, 0x7f, 0x01) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := partytest.NewCommittee(t, 3)
			runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
			n := partytest.NewNetwork(t, runs)
			n.Tamper = rewrite(t, runs, 2, 1, change)
			e := outcome(t, n, runs, 3, 2)
			if len(e.Evidence) != 1 || e.Evidence[0].From != 2 {
				t.Errorf("the message is not kept as evidence: %v", e.Evidence)
			}
		})
	}
}

// TestNotSealedToRecipient: a signed share that its recipient cannot open.
func TestNotSealedToRecipient(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(t, runs)
	n.Tamper = func(m party.Message, to int) []party.Message {
		if m.From == 2 && m.To == 3 {
			return []party.Message{party.Resign(runs[2], m, append(m.Body[:2:2], bytes.Repeat([]byte{7}, 1200)...))}
		}
		return []party.Message{m}
	}
	e := outcome(t, n, runs, 3, 2)
	if !strings.Contains(e.Reason, "sealed") {
		t.Errorf("reason is %q", e.Reason)
	}
}

// TestBadProof: a fault that tss-lib itself detects and blames.
func TestBadProof(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(t, runs)
	n.Tamper = rewrite(t, runs, 3, 2, func(content []byte, to int) []byte {
		var m eddsakeygen.KGRound2Message1
		if err := proto.Unmarshal(content, &m); err != nil {
			t.Error(err)
		}
		m.Share = new(big.Int).Add(new(big.Int).SetBytes(m.Share), big.NewInt(1)).Bytes()
		out, _ := proto.Marshal(&m)
		return out
	})
	outcome(t, n, runs, 1, 3)
	outcome(t, n, runs, 2, 3)
}

// TestBadFinalSignature: a wrong partial signature. With two parties the other is to
// blame; with three the culprit cannot be named.
func TestBadFinalSignature(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	for _, quorum := range [][]int{{1, 3}, {1, 2, 3}} {
		runs := c.SignRuns(t, shares, quorum, []byte("digest"))
		n := partytest.NewNetwork(t, runs)
		n.Tamper = rewrite(t, runs, 3, 3, func([]byte, int) []byte {
			out, _ := proto.Marshal(&eddsasigning.SignRound3Message{S: []byte{42}})
			return out
		})
		if len(quorum) == 2 {
			outcome(t, n, runs, 1, 3)
		} else {
			outcome(t, n, runs, 1)
		}
	}
}

// TestLibraryPanics: without the guard a nonce commitment to a point that is not on the
// curve makes tss-lib v2.0.2 panic within Update. The run fails, the process goes on,
// and the other party is blamed only if there is just one.
func TestLibraryPanics(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	off := commitments.NewHashCommitment(rand.Reader, big.NewInt(5), big.NewInt(7))
	for _, quorum := range [][]int{{1, 3}, {1, 2, 3}} {
		runs := c.SignRuns(t, shares, quorum, []byte("digest"))
		for _, run := range runs {
			party.Unguard(run)
		}
		n := partytest.NewNetwork(t, runs)
		first := rewrite(t, runs, 3, 1, func([]byte, int) []byte {
			out, _ := proto.Marshal(&eddsasigning.SignRound1Message{Commitment: off.C.Bytes()})
			return out
		})
		second := rewrite(t, runs, 3, 2, func(content []byte, _ int) []byte {
			var m eddsasigning.SignRound2Message
			if err := proto.Unmarshal(content, &m); err != nil {
				t.Error(err)
			}
			m.DeCommitment = nil
			for _, part := range off.D {
				m.DeCommitment = append(m.DeCommitment, part.Bytes())
			}
			out, _ := proto.Marshal(&m)
			return out
		})
		n.Tamper = func(m party.Message, to int) []party.Message { return second(first(m, to)[0], to) }
		var e *party.Error
		if len(quorum) == 2 {
			e = outcome(t, n, runs, 1, 3)
		} else {
			e = outcome(t, n, runs, 1)
		}
		if !strings.Contains(e.Reason, "panicked") {
			t.Errorf("reason is %q", e.Reason)
		}
	}
}

// TestSealedBodies: a point-to-point body shows nothing of its content, and only its
// recipient can open it.
func TestSealedBodies(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 3)
	runs := c.KeygenRuns(t, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(t, runs)
	sealed := 0
	n.Tamper = func(m party.Message, to int) []party.Message {
		if m.To != 0 {
			sealed++
			content, err := party.Content(runs[to], m)
			if err != nil {
				t.Error(err)
			}
			var share eddsakeygen.KGRound2Message1
			if err := proto.Unmarshal(content, &share); err != nil || len(share.Share) < 16 {
				t.Errorf("content of part %d for part %d is no share: %v", m.From, to, err)
			}
			if bytes.Contains(m.Body, share.Share) || bytes.Contains(m.Body, share.Share[:8]) {
				t.Errorf("body of part %d for part %d shows the share", m.From, to)
			}
			for part, run := range runs {
				if part == to {
					continue
				}
				if _, err := party.Content(run, m); err == nil {
					t.Errorf("part %d reads what part %d sent to part %d", part, m.From, to)
				}
				// Nor if it is readdressed to that part.
				if part != m.From && party.Opens(run, party.Message{From: m.From, To: part, Body: m.Body}) {
					t.Errorf("part %d opens what part %d sealed to part %d", part, m.From, to)
				}
			}
			// The seal is bound to its place, not only to its recipient's key.
			for _, from := range []int{1, 2, 3} {
				if from != m.From && from != to && party.Opens(runs[to], party.Message{From: from, To: to, Body: m.Body}) {
					t.Errorf("the seal of part %d opens as part %d's", m.From, from)
				}
			}
		}
		return []party.Message{m}
	}
	n.Wait()
	if sealed != 6 {
		t.Errorf("got %d point-to-point messages, want 6", sealed)
	}
}
