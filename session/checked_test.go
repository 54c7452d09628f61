package session

import "testing"

// The result of verifying one signature does not apply to another, or to another
// message or key.
func TestCheckedIsForOneSignature(t *testing.T) {
	t.Parallel()
	running, _ := Begin(newSigning(2, 3, "alice", "bob", "carol"), began)
	for i := 1; i <= 2; i++ {
		next, _, err := Step(running, Responded{Kind: Sign, From: running.Parties[i-1].User, Party: i, Accept: true}, began)
		if err != nil {
			t.Fatal(err)
		}
		running = next
	}
	good := theKey.Sign(running.Digest)
	bad := anotherKey.Sign(running.Digest)
	other, foreign := running, running
	other.Digest = "0xab" + running.Digest[4:]
	foreign.AccountAddr = anotherKey.Address
	forged := func(s Session, signature string) *checked {
		c := s.check(signature)
		c.signature, c.key, c.ok = signature, theKey.Public, true // whichever party sends it
		return &c
	}
	for name, known := range map[string]*checked{
		"another signature": forged(running, good), "another message": forged(other, bad), "another key": forged(foreign, bad),
	} {
		next, _, err := Step(running, Signed{From: "alice", Party: 1, Signature: bad, checked: known}, began)
		if err != nil || next.Phase == Completed || !next.Invalid(1) {
			t.Errorf("%s: phase %s, %v; want the signature refused", name, next.Phase, err)
		}
	}
	known := running.check(good)
	next, _, err := Step(running, Signed{From: "alice", Party: 1, Signature: good, checked: &known}, began)
	if err != nil || next.Phase != Completed || next.Signature != good {
		t.Errorf("phase %s, %v; want it completed", next.Phase, err)
	}
}
