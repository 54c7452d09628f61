package party_test

import (
	"errors"
	"testing"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
)

// FuzzAccept gives a run messages from outsiders. None is authentic, and none may
// change the run.
func FuzzAccept(f *testing.F) {
	c := partytest.NewCommittee(f, 2)
	runs := c.KeygenRuns(f, pubkey.Ed25519, 2)
	f.Cleanup(runs[1].Close)
	f.Cleanup(runs[2].Close)
	if err := runs[2].Start(); err != nil {
		f.Fatal(err)
	}
	real := <-runs[2].Out()
	f.Add(real.From, real.To, real.Body[:len(real.Body)-1], real.Sig)
	f.Add(real.From, 1, real.Body, real.Sig)
	f.Add(1, 0, real.Body, real.Sig)
	f.Add(0, 0, []byte{}, []byte{})
	f.Add(2, 1, []byte{1, 2, 0}, make([]byte, 64))
	f.Fuzz(func(t *testing.T, from, to int, body, sig []byte) {
		err := runs[1].Accept(party.Message{From: from, To: to, Body: body, Sig: sig})
		if err == nil && from == real.From && to == real.To && string(body) == string(real.Body) {
			t.Skip("the real one was found")
		}
		if !errors.Is(err, party.ErrNotAuthentic) || runs[1].Err() != nil {
			t.Errorf("got %v, outcome %v", err, runs[1].Err())
		}
	})
}

// FuzzContent gives a decoder content from an authenticated but malicious party.
func FuzzContent(f *testing.F) {
	c := partytest.NewCommittee(f, 2)
	runs := c.KeygenRuns(f, pubkey.Ed25519, 2)
	n := partytest.NewNetwork(f, runs)
	n.Tamper = func(m party.Message, to int) []party.Message {
		content, err := party.Content(runs[to], m)
		if err != nil {
			f.Error(err)
		}
		f.Add(byte(2), m.Body[1], content)
		return []party.Message{m}
	}
	n.Wait()
	f.Add(byte(0), byte(1), []byte("\x0a\x01\x05"))
	f.Fuzz(func(t *testing.T, protocol, code byte, content []byte) {
		// Content that decodes must encode and decode again to the same.
		if err := party.RoundTrip(protocol, code, content); err != nil {
			t.Error(err)
		}
	})
}

// FuzzEvidence gives the verifier purported evidence. It convicts only in evidence that
// was made here.
func FuzzEvidence(f *testing.F) {
	// All of the fuzzer's processes need the same parties: a stored key, and a fixed
	// session id.
	c, shares := partytest.Key(f)
	b := c.SignBinding(shares, []int{1, 2}, 0)
	b.SessionID = "session"
	runs := map[int]*party.Run{}
	for _, part := range []int{1, 2} {
		cfg := party.SignConfig{Binding: b, Identity: c.Identities[part-1], Share: shares[part-1], Digest: digestOf(pubkey.Secp256k1, "digest")}
		cfg.Binding.Self = part
		run, err := party.NewSign(cfg)
		if err != nil {
			f.Fatal(err)
		}
		defer run.Close()
		runs[part] = run
	}
	var fault *party.Error
	for _, content := range [][]byte{[]byte("\x0a\x01\x05"), []byte("\x0a\x01\x06")} {
		m, err := party.Forge(runs[2], 2, 0, content)
		if err != nil {
			f.Fatal(err)
		}
		if err := runs[1].Accept(m); err != nil && !errors.As(err, &fault) {
			f.Fatal(err)
		}
	}
	text, err := fault.Proof.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	hashes := [2]string{string(fault.Proof.First.Hash), string(fault.Proof.Second.Hash)}
	f.Add(text)
	f.Add([]byte(`{"version":1,"protocol":"sign","curve":"ed25519","parties":[]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := statement.ParseEvidence(text)
		if err != nil {
			return
		}
		culprit, err := e.Verify()
		if err != nil {
			return
		}
		got := [2]string{string(e.First.Hash), string(e.Second.Hash)}
		if culprit != c.Members[1] || got != hashes && got != [2]string{hashes[1], hashes[0]} {
			t.Errorf("part %d is convicted by %s", culprit.Index, text)
		}
	})
}
