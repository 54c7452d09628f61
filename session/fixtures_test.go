package session

import (
	"flag"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/sessiontest"
)

var update = flag.Bool("update", false, "rewrite testdata")

var (
	theKey     = sessiontest.NewSoloKey(1)
	anotherKey = sessiontest.NewSoloKey(2)
	began      = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	terms      = Terms{Invite: 2 * time.Minute, Run: time.Minute, Grace: 20 * time.Second}
)

const boss = "boss" // the coordinator

// newKeygen returns a keygen among users, any threshold of whom can sign.
func newKeygen(threshold int, users ...string) Session {
	s := Session{
		ID: "kg-1", Kind: Keygen, Version: 1, KeyID: "vault", Coordinator: boss, Curve: pubkey.Secp256k1,
		Threshold: threshold, Parties: Committee(users), RequestID: "r1", Terms: terms,
	}
	for i := range s.Parties {
		s.Parties[i].Invited = true
	}
	return s
}

// newSigning returns a signing with theKey; the first invited users are invited.
func newSigning(threshold, invited int, users ...string) Session {
	digest, hash, err := pubkey.Digest(pubkey.Secp256k1, "pay bob", "")
	if err != nil {
		panic(err)
	}
	s := Session{
		ID: "sg-1", Kind: Sign, Version: 1, KeyID: "vault", Coordinator: boss, Curve: pubkey.Secp256k1,
		Threshold: threshold, Parties: Committee(users), Data: "pay bob", Hash: hash, Digest: pubkey.Encode(digest),
		AccountAddr: theKey.Address, Terms: terms,
	}
	for i := range invited {
		s.Parties[i].Invited = true
	}
	return s
}

// at is an event some time after the session began.
type at struct {
	after time.Duration
	ev    Event
}

// play begins s and steps it through events, none of which may be refused. It returns
// the session and its time.
func play(t testing.TB, s Session, events ...at) (Session, time.Time) {
	t.Helper()
	s, _ = Begin(s, began)
	now := began
	for _, e := range events {
		now = began.Add(e.after)
		next, _, err := Step(s, e.ev, now)
		if err != nil {
			t.Fatalf("%T %+v in %s: %v", e.ev, e.ev, s.Phase, err)
		}
		s = next
	}
	return s, now
}

func (s Session) accept(part int) Responded {
	return Responded{Kind: s.Kind, From: s.Parties[part-1].User, Party: part, Accept: true}
}

func (s Session) decline(part int) Responded {
	return Responded{Kind: s.Kind, From: s.Parties[part-1].User, Party: part}
}

func (s Session) generated(part int, k sessiontest.SoloKey) Generated {
	return Generated{From: s.Parties[part-1].User, Party: part, AccountAddr: k.Address, PublicKey: k.Public}
}

func (s Session) signed(part int, k sessiontest.SoloKey) Signed {
	return Signed{From: s.Parties[part-1].User, Party: part, Signature: k.Sign(s.Digest)}
}

func (s Session) failed(part int, culprits ...int) PartyFailed {
	return PartyFailed{From: s.Parties[part-1].User, Party: part, Reason: "broken", Culprits: culprits}
}
