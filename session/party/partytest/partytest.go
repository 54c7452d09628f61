// Package partytest helps tests that need parties: identities, committees that make
// keys and sign, an in-memory network that carries messages between runs and lets a
// test tamper with them, and pre-generated pre-parameters.
//
// The pre-parameters in testdata are public and therefore insecure. They are marked
// test_only, and package party refuses them in any program that does not import this
// package. The key there, with its identities, is public too.
package partytest

import (
	"embed"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/testonly"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

//go:embed testdata/preparams-test-only-*.json testdata/key-test-only-secp256k1.json
var fixtures embed.FS

func init() { testonly.Allow() }

// Sets is how many different pre-parameters there are.
const Sets = 6

// PreParams returns a fresh copy of the i-th set of pre-parameters, 0 <= i <
// Sets. The parties of one key need different ones.
func PreParams(tb testing.TB, i int) *preparams.Set {
	tb.Helper()
	data, err := fixtures.ReadFile(fmt.Sprintf("testdata/preparams-test-only-%d.json", i))
	if err != nil {
		tb.Fatalf("no pre-parameters %d: %v", i, err)
	}
	p, err := preparams.Parse(data)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// Identity makes an identity.
func Identity(tb testing.TB) *identity.Identity {
	tb.Helper()
	id, err := identity.New()
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// Committee is n parties that trust each other's identities.
type Committee struct {
	// Members are in order of part index; their users are user-1, user-2, …
	Members []identity.Member
	// Identities are in the order of Members: Identities[i] is that of Members[i].
	Identities []*identity.Identity
}

// NewCommittee makes a committee of n parties.
func NewCommittee(tb testing.TB, n int) *Committee {
	tb.Helper()
	c := &Committee{}
	for i := 1; i <= n; i++ {
		id := Identity(tb)
		c.Identities = append(c.Identities, id)
		c.Members = append(c.Members, identity.Member{Index: i, User: fmt.Sprintf("user-%d", i), Identity: id.Public()})
	}
	return c
}

var unique atomic.Int64

// Binding returns the binding of a run of the whole committee as part self sees it,
// with new session and key ids at every call.
func (c *Committee) Binding(curve pubkey.Curve, threshold, self int) party.Binding {
	n := unique.Add(1)
	return party.Binding{
		SessionID: fmt.Sprintf("session-%d", n), Attempt: 1, KeyID: fmt.Sprintf("key-%d", n),
		Curve: curve, Threshold: threshold, TotalParts: len(c.Members),
		Parties: append([]identity.Member(nil), c.Members...), Self: self,
	}
}

// KeygenRuns prepares a key generation for all parties, by part index. On
// secp256k1 the committee must have at most Sets parties.
func (c *Committee) KeygenRuns(tb testing.TB, curve pubkey.Curve, threshold int) map[int]*party.Run {
	tb.Helper()
	return c.keygenRuns(tb, c.Binding(curve, threshold, 0))
}

func (c *Committee) keygenRuns(tb testing.TB, binding party.Binding) map[int]*party.Run {
	tb.Helper()
	runs := map[int]*party.Run{}
	for i, m := range c.Members {
		cfg := party.KeygenConfig{Binding: binding, Identity: c.Identities[i], Concurrency: 1}
		cfg.Binding.Self = m.Index
		if binding.Curve == pubkey.Secp256k1 {
			cfg.PreParams = PreParams(tb, i)
		}
		run, err := party.NewKeygen(cfg)
		if err != nil {
			tb.Fatal(err)
		}
		runs[m.Index] = run
	}
	return runs
}

// Keygen generates a key and returns the shares in order of part index.
func (c *Committee) Keygen(tb testing.TB, curve pubkey.Curve, threshold int) []*share.Share {
	tb.Helper()
	return c.keygen(tb, c.KeygenRuns(tb, curve, threshold))
}

// KeygenCalled is Keygen of a key with a given id.
func (c *Committee) KeygenCalled(tb testing.TB, curve pubkey.Curve, threshold int, keyID string) []*share.Share {
	tb.Helper()
	binding := c.Binding(curve, threshold, 0)
	binding.KeyID = keyID
	return c.keygen(tb, c.keygenRuns(tb, binding))
}

func (c *Committee) keygen(tb testing.TB, runs map[int]*party.Run) []*share.Share {
	tb.Helper()
	NewNetwork(tb, runs).Wait()
	shares := make([]*share.Share, 0, len(runs))
	for _, m := range c.Members {
		if err := runs[m.Index].Err(); err != nil {
			tb.Fatalf("key generation of part %d: %v", m.Index, err)
		}
		shares = append(shares, runs[m.Index].Share())
	}
	return shares
}

// SignBinding returns the binding of a signing by the parts of quorum (ascending) with
// the shares of the whole committee.
func (c *Committee) SignBinding(shares []*share.Share, quorum []int, self int) party.Binding {
	pub := shares[0].Public()
	b := c.Binding(pub.Curve, pub.Threshold, self)
	b.KeyID, b.Epoch = pub.KeyID, pub.Epoch
	b.Parties = nil
	for _, part := range quorum {
		b.Parties = append(b.Parties, c.Members[part-1])
	}
	return b
}

// SignRuns prepares a signing by the parts of quorum.
func (c *Committee) SignRuns(tb testing.TB, shares []*share.Share, quorum []int, digest []byte) map[int]*party.Run {
	tb.Helper()
	binding := c.SignBinding(shares, quorum, 0)
	runs := map[int]*party.Run{}
	for _, part := range quorum {
		cfg := party.SignConfig{
			Binding: binding, Identity: c.Identities[part-1], Share: shares[part-1], Digest: digest, Concurrency: 1,
		}
		cfg.Binding.Self = part
		run, err := party.NewSign(cfg)
		if err != nil {
			tb.Fatal(err)
		}
		runs[part] = run
	}
	return runs
}

// Sign signs and returns the signature of each part of quorum.
func (c *Committee) Sign(tb testing.TB, shares []*share.Share, quorum []int, digest []byte) map[int][]byte {
	tb.Helper()
	runs := c.SignRuns(tb, shares, quorum, digest)
	NewNetwork(tb, runs).Wait()
	signatures := map[int][]byte{}
	for part, run := range runs {
		if err := run.Err(); err != nil {
			tb.Fatalf("signing of part %d: %v", part, err)
		}
		signatures[part] = run.Signature()
	}
	return signatures
}
