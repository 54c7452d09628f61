package party_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// BenchmarkGuardCost signs alternately with and without guard and echo, and reports the
// processor time of all parties of one signing: the medians in milliseconds and their
// ratio. Two parties send no echo.
func BenchmarkGuardCost(b *testing.B) {
	for _, curve := range []pubkey.Curve{pubkey.Secp256k1, pubkey.Ed25519} {
		for _, quorum := range [][]int{{1, 2}, {1, 2, 3}} {
			b.Run(fmt.Sprintf("%s/%d-of-3", curve, len(quorum)), func(b *testing.B) {
				c, shares := partytest.Key(b)
				if curve == pubkey.Ed25519 {
					c, shares = someKey(b, curve)
				}
				var with, without []time.Duration
				for b.Loop() {
					without = append(without, signingTime(b, c, shares, quorum, true))
					with = append(with, signingTime(b, c, shares, quorum, false))
				}
				slices.Sort(with)
				slices.Sort(without)
				a, o := with[len(with)/2].Seconds()*1e3, without[len(without)/2].Seconds()*1e3
				b.ReportMetric(a, "with-ms")
				b.ReportMetric(o, "without-ms")
				b.ReportMetric(a/o, "ratio")
			})
		}
	}
}

// signingTime returns the processor time of one signing.
func signingTime(b *testing.B, c *partytest.Committee, shares []*share.Share, quorum []int, bare bool) time.Duration {
	runs := c.SignRuns(b, shares, quorum, digestOf(shares[0].Public().Curve, "digest"))
	if bare {
		for _, run := range runs {
			party.Unguard(run)
			party.WithoutEcho(run)
		}
	}
	n := partytest.NewNetwork(b, runs)
	begin := processorTime(b)
	n.Wait()
	spent := processorTime(b) - begin
	for part, run := range runs {
		if run.Err() != nil {
			b.Fatalf("part %d: %v", part, run.Err())
		}
	}
	return spent
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkGuard is the guard alone: all messages that a party gets in one run, from one
// other, or in a reshare from two old and two new members.
func BenchmarkGuard(b *testing.B) {
	for _, protocol := range protocols {
		b.Run(protocol, func(b *testing.B) {
			r, victim := recordOf(b, protocol), (&attack{protocol: protocol}).victim()
			for b.Loop() {
				party.GuardAnew(r.runs[victim])
				for _, h := range r.heard {
					m, err := party.ParseContent(r.runs[victim], h.name, h.content)
					if err != nil {
						b.Fatal(err)
					}
					if h.from == victim {
						party.GuardFile(r.runs[victim], victim, m)
					} else if rule, _ := party.GuardTake(r.runs[victim], h.name, h.from, m); rule != "" {
						b.Fatal(rule)
					}
				}
			}
		})
	}
}
