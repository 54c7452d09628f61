package e2e_test

import (
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestLiesAboutHashing covers what only secp256k1 has: the same data means something
// else under another hash. The server talks to one holder of a key alone, and no
// session is behind its messages.
func TestLiesAboutHashing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, redistest.Mini(t), redistest.Prefix())
	c.start()
	h := capture(t, c)
	committee, shares := partytest.Key(t)
	public := shares[0].Public()
	sealed, err := shares[0].Seal(committee.Identities[0].Recipient())
	if err != nil {
		t.Fatal(err)
	}
	user := public.User
	holder := &victim{real: &real{user: user, store: new(participant.MemStore)}}
	holder.cfg = client.Config{URLs: []string{h.url}, Role: wire.RoleParticipant, Identity: committee.Identities[0]}
	holder.part = participant.Config{Approve: participant.ApproveUnsigned, Shares: holder.store}
	if err := holder.store.Put(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	h.p[user] = holder
	h.enter(user)

	const transaction = "0x02f8720182031f84b2d05e0085"
	bytes32 := "0x" + strings.Repeat("5a", 32)
	digest := func(data, hash string) string {
		d, _, err := pubkey.Digest(pubkey.Secp256k1, data, hash)
		if err != nil {
			t.Fatal(err)
		}
		return pubkey.Encode(d)
	}
	same := func(*wire.SignParams) {}
	for i, tc := range []struct {
		name, data, hash, digest string // of the invitation
		params                   func(p *wire.SignParams)
		reason                   string
	}{
		{"the digest of another hash", "hello", "keccak256", digest("hello", "eip191"), same, "the invitation's digest is not that of its data"},
		{"a digest for data", "hello", "eip191", bytes32, same, "the invitation's digest is not that of its data"},
		{"a digest shown as text", bytes32, "eip191", bytes32, same, "the invitation's digest is not that of its data"},
		{"text to be taken for a digest", "hello", "none", bytes32, same, "hash none needs exactly 32 bytes"},
		{"a hash of no name", "hello", "md5", bytes32, same, "hash"},
		{"another hash after approval", transaction, "keccak256", digest(transaction, "keccak256"), func(p *wire.SignParams) { p.Hash = "sha256" }, differ},
		{"another hash and its digest after approval", transaction, "keccak256", digest(transaction, "keccak256"), func(p *wire.SignParams) {
			p.Hash, p.Digest = "sha256", digest(transaction, "sha256")
		}, differ},
		{"the digest as data after approval", transaction, "keccak256", digest(transaction, "keccak256"), func(p *wire.SignParams) {
			p.Data, p.Hash = p.Digest, "none"
		}, differ},
		{"no hash after approval", transaction, "keccak256", digest(transaction, "keccak256"), func(p *wire.SignParams) { p.Hash = "" }, differ},
	} {
		mark, session := h.mark(), "sg-"+string(rune('a'+i))
		var parties []wire.Party
		for _, m := range public.Parties[:2] {
			parties = append(parties, wire.Party{PartIndex: m.Index, UserID: m.User, Identity: m.Identity.String()})
		}
		h.tell(user, write(wire.Message{}, &wire.SignInvite{
			KeyID: public.KeyID, Data: tc.data, AccountAddr: public.AccountAddr, PartIndex: 1, SessionID: session, Coordinator: "alice",
			Participants: []string{parties[0].UserID, parties[1].UserID}, Hash: tc.hash, Digest: tc.digest,
		}))
		accepted, reason := h.answer(mark, user, session)
		if accepted {
			p := &wire.SignParams{
				KeyID: public.KeyID, Data: tc.data, PartIndex: 1, Participants: "1,2", SessionID: session, Attempt: 1,
				Hash: tc.hash, Digest: tc.digest, Parties: parties,
			}
			tc.params(p)
			h.tell(user, write(wire.Message{}, p))
			eventually(t, tc.name+" is refused", func() bool { return len(sentBy[wire.PartyFailed](h, mark, user)) > 0 })
			failed := sentBy[wire.PartyFailed](h, mark, user)[0]
			if reason = failed.Reason; len(failed.Culprits) != 0 {
				t.Errorf("%s: %v are blamed", tc.name, failed.Culprits)
			}
		}
		if accepted != (tc.reason == differ) || !strings.Contains(reason, tc.reason) {
			t.Errorf("%s: accepted %v, %q, want %q", tc.name, accepted, reason, tc.reason)
		}
		if n := len(sentBy[wire.TSSMessage](h, mark, user)); n != 0 {
			t.Errorf("%s: %d round messages", tc.name, n)
		}
	}
}
