package partytest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// Keep returns a committee of some of the parts, in that order, and of newcomers with
// new users and identities.
func (c *Committee) Keep(tb testing.TB, parts []int, newcomers int) *Committee {
	tb.Helper()
	kept := &Committee{}
	for _, part := range parts {
		kept.Identities = append(kept.Identities, c.Identities[part-1])
		kept.Members = append(kept.Members, c.Members[part-1])
	}
	for range newcomers {
		id := Identity(tb)
		kept.Identities = append(kept.Identities, id)
		kept.Members = append(kept.Members, identity.Member{User: fmt.Sprintf("newcomer-%d", unique.Add(1)), Identity: id.Public()})
	}
	for i := range kept.Members {
		kept.Members[i].Index = i + 1
	}
	return kept
}

// ReshareConfigs prepares a reshare by the parts of quorum (ascending) with the shares
// of the whole committee, to another committee: the configuration of each party by
// place. All newcomers know the old public points.
func (c *Committee) ReshareConfigs(tb testing.TB, shares []*share.Share, quorum []int, to *Committee, threshold int) map[int]party.ReshareConfig {
	tb.Helper()
	old := shares[0].Public()
	points, err := shares[0].Points()
	if err != nil {
		tb.Fatal(err)
	}
	b := party.ReshareBinding{
		SessionID: fmt.Sprintf("session-%d", unique.Add(1)), Attempt: 1, KeyID: old.KeyID, Curve: old.Curve, Epoch: old.Epoch + 1,
		From:      statement.From{Epoch: old.Epoch, Threshold: old.Threshold, TotalParts: old.TotalParts, Certificate: [32]byte{1}},
		Threshold: threshold, TotalParts: len(to.Members), PublicKey: old.PublicKey,
	}
	for _, part := range quorum {
		b.Parties = append(b.Parties, c.Members[part-1])
	}
	for _, m := range to.Members {
		m.Index += old.TotalParts
		b.Parties = append(b.Parties, m)
	}
	configs := map[int]party.ReshareConfig{}
	for _, m := range b.Parties {
		cfg := party.ReshareConfig{Binding: b, Concurrency: 1}
		cfg.Binding.Self, cfg.Binding.Parties = m.Index, slices.Clone(b.Parties)
		if m.Index <= old.TotalParts {
			cfg.Identity, cfg.Share = c.Identities[m.Index-1], shares[m.Index-1]
		} else {
			i := m.Index - old.TotalParts - 1
			cfg.Identity, cfg.OldPoints = to.Identities[i], points
			if old.Curve == pubkey.Secp256k1 {
				cfg.PreParams = PreParams(tb, (i+3*old.Epoch)%Sets)
			}
		}
		configs[m.Index] = cfg
	}
	return configs
}

// ReshareRuns prepares the runs of a reshare, by place.
func (c *Committee) ReshareRuns(tb testing.TB, shares []*share.Share, quorum []int, to *Committee, threshold int) map[int]*party.Run {
	tb.Helper()
	runs := map[int]*party.Run{}
	for place, cfg := range c.ReshareConfigs(tb, shares, quorum, to, threshold) {
		run, err := party.NewReshare(cfg)
		if err != nil {
			tb.Fatal(err)
		}
		runs[place] = run
	}
	return runs
}

// Reshare reshares and returns the new committee's shares in order of part index.
func (c *Committee) Reshare(tb testing.TB, shares []*share.Share, quorum []int, to *Committee, threshold int) []*share.Share {
	tb.Helper()
	runs := c.ReshareRuns(tb, shares, quorum, to, threshold)
	NewNetwork(tb, runs).Wait()
	total := shares[0].Public().TotalParts
	fresh := make([]*share.Share, len(to.Members))
	for place, run := range runs {
		if err := run.Err(); err != nil {
			tb.Fatalf("reshare at place %d: %v", place, err)
		}
		if place > total {
			fresh[place-total-1] = run.Share()
		}
	}
	return fresh
}

// ImportConfig returns the configuration of the party that imports a private key into
// the committee. The party gets a new identity.
func (c *Committee) ImportConfig(tb testing.TB, key *share.PrivateKey, threshold int) party.ImportConfig {
	tb.Helper()
	own, n := Identity(tb), unique.Add(1)
	b := party.ReshareBinding{
		SessionID: fmt.Sprintf("session-%d", n), Attempt: 1, KeyID: fmt.Sprintf("key-%d", n), Curve: key.Curve(), Epoch: 1,
		From:      statement.From{Threshold: 1, TotalParts: 1},
		Threshold: threshold, TotalParts: len(c.Members), PublicKey: key.PublicKey(), Self: 1,
		Parties: []identity.Member{{Index: 1, User: "owner", Identity: own.Public()}},
	}
	for _, m := range c.Members {
		m.Index++
		b.Parties = append(b.Parties, m)
	}
	return party.ImportConfig{Binding: b, Identity: own, Key: key, Concurrency: 1}
}

// ImportRuns prepares the runs of an import, by place: 1 has the key.
func (c *Committee) ImportRuns(tb testing.TB, key *share.PrivateKey, threshold int) map[int]*party.Run {
	tb.Helper()
	cfg := c.ImportConfig(tb, key, threshold)
	runs := map[int]*party.Run{}
	var err error
	if runs[1], err = party.NewImport(cfg); err != nil {
		tb.Fatal(err)
	}
	for i := range c.Members {
		to := party.ReshareConfig{Binding: cfg.Binding, Identity: c.Identities[i], Concurrency: 1}
		to.Binding.Self = i + 2
		if key.Curve() == pubkey.Secp256k1 {
			to.PreParams = PreParams(tb, i)
		}
		if runs[i+2], err = party.NewReshare(to); err != nil {
			tb.Fatal(err)
		}
	}
	return runs
}
