package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// reshare compares a refresh of a 2-of-3 key, by two old members, with the generation of
// such a key: the CPU time of all parties, which exchange their messages in this process,
// with pre-parameters at hand.
func reshare(ctx context.Context, l *lab) error {
	sets := make([][]byte, 2*holders)
	for i := range sets {
		set, err := l.preParams(ctx)
		if err != nil {
			return err
		}
		if sets[i], err = set.Marshal(); err != nil {
			return err
		}
	}
	for _, curve := range []pubkey.Curve{pubkey.Secp256k1, pubkey.Ed25519} {
		atMost, times := 1.3, 1
		if curve == pubkey.Ed25519 {
			atMost, times = 3, 20 // in the mean of as many
		}
		var made, refreshed sample
		for range pick(l, 5, 1) {
			var first, second time.Duration
			for range times {
				a, b, err := refreshTime(curve, sets)
				if err != nil {
					return err
				}
				first, second = first+a, second+b
			}
			made.addTime(first / time.Duration(times))
			refreshed.addTime(second / time.Duration(times))
		}
		l.report.compare("a refresh on "+string(curve)+" beside a key, CPU time of all parties", "ms", refreshed, made, goal{atMost: atMost})
	}
	return nil
}

// refreshTime returns the CPU times of a key generation and of a refresh of its key.
func refreshTime(curve pubkey.Curve, sets [][]byte) (made, refreshed time.Duration, err error) {
	var ids []*identity.Identity
	var members []identity.Member
	for i := range holders {
		id, err := identity.New()
		if err != nil {
			return 0, 0, err
		}
		ids = append(ids, id)
		members = append(members, identity.Member{Index: i + 1, User: fmt.Sprintf("party-%d", i+1), Identity: id.Public()})
	}
	ready := make([]*preparams.Set, len(sets)) // a set is used up by each key
	for i := 0; i < len(sets) && curve == pubkey.Secp256k1; i++ {
		if ready[i], err = preparams.Parse(sets[i]); err != nil {
			return 0, 0, err
		}
	}
	begun := selfCPU()
	runs := map[int]*party.Run{}
	for i, id := range ids {
		cfg := party.KeygenConfig{Identity: id, Concurrency: 1, PreParams: ready[i], Binding: party.Binding{
			SessionID: "keygen", KeyID: "key", Curve: curve, Threshold: signers, TotalParts: holders, Parties: members, Self: i + 1,
		}}
		if runs[i+1], err = party.NewKeygen(cfg); err != nil {
			return 0, 0, err
		}
	}
	if err := together(runs); err != nil {
		return 0, 0, err
	}
	made = selfCPU() - begun
	var shares []*share.Share
	for i := range holders {
		shares = append(shares, runs[i+1].Share())
	}

	begun = selfCPU()
	if runs, err = refreshRuns(shares, ids, ready[holders:]); err != nil {
		return 0, 0, err
	}
	if err := together(runs); err != nil {
		return 0, 0, err
	}
	return made, selfCPU() - begun, nil
}

// refreshRuns prepares a refresh by the first members of a committee.
func refreshRuns(shares []*share.Share, ids []*identity.Identity, sets []*preparams.Set) (map[int]*party.Run, error) {
	old := shares[0].Public()
	points, err := shares[0].Points()
	if err != nil {
		return nil, err
	}
	b := party.ReshareBinding{
		SessionID: "reshare", KeyID: old.KeyID, Curve: old.Curve, Epoch: old.Epoch + 1,
		From:      statement.From{Epoch: old.Epoch, Threshold: old.Threshold, TotalParts: old.TotalParts},
		Threshold: old.Threshold, TotalParts: old.TotalParts, PublicKey: old.PublicKey,
		Parties: append([]identity.Member(nil), old.Parties[:signers]...),
	}
	for _, m := range old.Parties {
		m.Index += holders
		b.Parties = append(b.Parties, m)
	}
	runs := map[int]*party.Run{}
	for _, m := range b.Parties {
		i := (m.Index - 1) % holders
		cfg := party.ReshareConfig{Binding: b, Identity: ids[i], Concurrency: 1}
		cfg.Binding.Self = m.Index
		if m.Index <= holders {
			cfg.Share = shares[i]
		} else {
			cfg.OldPoints, cfg.PreParams = points, sets[i]
		}
		if runs[m.Index], err = party.NewReshare(cfg); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// together carries the messages between runs until all have ended; the failure of one
// ends all.
func together(runs map[int]*party.Run) error {
	var pumps sync.WaitGroup
	for part, run := range runs {
		if err := run.Start(); err != nil {
			return err
		}
		pumps.Go(func() {
			for m := range run.Out() {
				for to, other := range runs {
					if to == part || m.To != 0 && m.To != to {
						continue
					}
					_ = other.Accept(m) // a refusal ends the run, and is its error
				}
			}
			if run.Err() != nil {
				for _, other := range runs {
					other.Close()
				}
			}
		})
	}
	pumps.Wait()
	var errs []error
	for _, run := range runs {
		errs = append(errs, run.Err())
	}
	return errors.Join(errs...)
}

// selfCPU returns the CPU time of this process, more finely than cpuOf.
func selfCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
