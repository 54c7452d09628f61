package party_test

import (
	"crypto/rand"
	"crypto/sha256"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bnb-chain/tss-lib/v2/tss"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/party"
)

var protocols = []string{"ecdsa/keygen", "ecdsa/reshare", "ecdsa/sign", "eddsa/keygen", "eddsa/reshare", "eddsa/sign"}

// FuzzGuard mutates a real message of any protocol and passes it to the guard; accepted
// ones go through the functions of tss-lib that would read them. Neither may panic, and
// a refusal is the sender's fault.
func FuzzGuard(f *testing.F) {
	if testing.Short() {
		protocols = slices.DeleteFunc(protocols, makesKey)
	}
	for _, p := range protocols {
		recordOf(f, p)
	}
	for i := range sample.Or(24, 64) {
		sum := sha256.Sum256([]byte{byte(i)})
		f.Add(byte(i), sum[:])
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		protocol := protocols[int(which)%len(protocols)]
		r := recordOf(t, protocol)
		x := &attacker{t: t, share: r.x.share, pre: r.x.pre, kept: map[string]any{}, others: map[string]tss.MessageContent{}}
		a := mutation(protocol, x, data)
		victim, from := a.victim(), a.attacker()
		run := r.runs[victim]
		x.run = r.runs[from]
		party.GuardAnew(run)
		told := map[string]tss.MessageContent{}
		for _, h := range r.heard {
			m, err := party.ParseContent(run, h.name, h.content)
			if err != nil {
				t.Fatal(err)
			}
			short := strings.TrimPrefix(h.name, protocol+"/")
			told[fmt.Sprint(short, " ", h.from)] = m
			change := a.change[short]
			if h.from != from || change == nil {
				party.GuardFile(run, h.from, m)
				continue
			}
			change(x, m)
			if rule, between := party.GuardTake(run, h.name, from, m); rule != "" {
				if !slices.Equal(between, []int{from}) {
					t.Errorf("%s: %v are blamed", rule, between)
				}
				return
			}
			if m.ValidateBasic() {
				library(r, x, h.name, m, told)
			}
		}
	})
}

// FuzzRunEdDSA mutates the messages of one party in real runs of the protocols on
// ed25519, with two parties and with three: the others survive and blame no one else.
func FuzzRunEdDSA(f *testing.F) {
	fuzzRun(f, 18, "eddsa/keygen", "eddsa/reshare", "eddsa/sign")
}

// FuzzRunECDSASign does the same with signing on secp256k1.
func FuzzRunECDSASign(f *testing.F) { fuzzRun(f, sample.Or(1, 12), "ecdsa/sign") }

var mutateFor = flag.Duration("mutate", 0, "how long TestMutatedRuns works on each protocol")

// TestMutatedRuns does the same as the fuzz targets for runs, with random inputs and at
// full speed. Key generation and reshare on secp256k1 are only here: one run takes longer
// than Go allows for one input of a fuzz target.
func TestMutatedRuns(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			least := 16
			switch protocol {
			case "ecdsa/keygen", "ecdsa/reshare":
				if !sample.Full() {
					t.Skip(sample.Reason) // TestAttacks has one such run
				}
				least = 2
			case "ecdsa/sign":
				least = sample.Or(1, 16)
			}
			begin, runs := time.Now(), 0
			for ; runs < least || time.Since(begin) < *mutateFor; runs++ {
				data := make([]byte, 32)
				if _, err := rand.Read(data); err != nil {
					t.Fatal(err)
				}
				t.Run(fmt.Sprintf("%x", data), func(t *testing.T) { surviveMutation(t, protocol, byte(runs), data) })
			}
			t.Logf("%d runs in %v", runs, time.Since(begin).Round(time.Second))
		})
	}
}

func fuzzRun(f *testing.F, seeds int, protocols ...string) {
	for i := range seeds {
		sum := sha256.Sum256([]byte{byte(i), 1})
		f.Add(byte(i), sum[:])
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		surviveMutation(t, protocols[int(which)%len(protocols)], which/2, data)
	})
}

// surviveMutation carries out the mutation encoded in data. On ed25519 there are two
// parties or, if which is odd, three.
func surviveMutation(t *testing.T, protocol string, which byte, data []byte) {
	probe := attack{protocol: protocol}
	runs, x := probe.setup(t)
	for _, run := range runs {
		run.Close()
	}
	a := mutation(protocol, x, data)
	if strings.HasPrefix(protocol, "eddsa") {
		a.parties = 2 + int(which)%2
	}
	a.survive(t)
}
