package party_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/crypto/commitments"
	"github.com/bnb-chain/tss-lib/v2/crypto/dlnproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/paillier"
	"github.com/bnb-chain/tss-lib/v2/crypto/vss"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/conclave-mpc/conclave/session/party"
)

// dice returns the bytes of a fuzz input, and zeros after its end.
type dice struct{ left []byte }

func (d *dice) roll(sides int) int {
	if len(d.left) == 0 || sides == 0 {
		return 0
	}
	n := int(d.left[0]) % sides
	d.left = d.left[1:]
	return n
}

// interesting returns edge-case numbers.
func interesting(protocol string, x *attacker) []*big.Int {
	order, p := orderK, tss.S256().Params().P
	if strings.HasPrefix(protocol, "eddsa") {
		order, p = orderE, primeE
	}
	numbers := []*big.Int{
		new(big.Int), one, big.NewInt(2), big.NewInt(128), order, p,
		new(big.Int).Lsh(one, 63), new(big.Int).Lsh(one, 255), new(big.Int).Lsh(one, 256),
		new(big.Int).Lsh(one, 2047), new(big.Int).Sub(new(big.Int).Lsh(one, 2048), one),
		new(big.Int).Exp(order, big.NewInt(3), nil), new(big.Int).Exp(order, big.NewInt(7), nil),
	}
	add := func(n *big.Int) {
		numbers = append(numbers, n, new(big.Int).Mul(n, n), new(big.Int).Lsh(n, 1))
	}
	add(order)
	switch protocol {
	case "ecdsa/keygen", "ecdsa/reshare":
		n, factor, _ := attackerParams(x)
		add(n)
		add(factor)
	case "ecdsa/sign":
		add(x.mta().n)
		add(x.mta().nTilde)
		add(victimN(x))
	}
	return slices.Concat(numbers, points(2, 3), pointsE(2, 3), smallOrder())
}

// mutate changes fields of a message according to the dice.
func mutate(d *dice, numbers []*big.Int, m tss.MessageContent) {
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for range 1 + d.roll(3) {
		field := fields.Get(d.roll(fields.Len()))
		if !field.IsList() {
			r.Set(field, protoreflect.ValueOfBytes(mutateNumber(d, numbers, r.Get(field).Bytes())))
			continue
		}
		list := r.Mutable(field).List()
		i := 0
		if list.Len() > 0 {
			i = (d.roll(256)<<8 | d.roll(256)) % list.Len()
		}
		switch d.roll(8) {
		case 0: // drop
			if list.Len() > 0 {
				list.Truncate(list.Len() - 1)
			}
		case 1: // duplicate
			if list.Len() > 0 {
				list.Append(protoreflect.ValueOfBytes(bytes.Clone(list.Get(i).Bytes())))
			}
		case 2: // many
			for range 1 + d.roll(200) {
				list.Append(protoreflect.ValueOfBytes([]byte{1}))
			}
		case 3: // none
			list.Truncate(0)
		default:
			if list.Len() > 0 {
				list.Set(i, protoreflect.ValueOfBytes(mutateNumber(d, numbers, list.Get(i).Bytes())))
			}
		}
	}
}

func mutateNumber(d *dice, numbers []*big.Int, b []byte) []byte {
	n := num(b)
	switch d.roll(10) {
	case 0:
		return nil
	case 1:
		return append([]byte{0}, b...)
	case 2:
		return append(bytes.Repeat([]byte{byte(d.roll(256))}, 1<<d.roll(12)), b...)
	case 3:
		return n.Add(n, one).Bytes()
	case 4:
		return n.Sub(n.Add(n, one), two).Abs(n).Bytes()
	case 5:
		return n.Add(n, numbers[d.roll(len(numbers))]).Bytes()
	case 6:
		return n.Abs(n.Sub(numbers[d.roll(len(numbers))], n)).Bytes()
	case 7:
		size := 1 + d.roll(64)
		raw := d.left[:min(len(d.left), size)]
		d.left = d.left[len(raw):]
		return bytes.Clone(raw)
	default:
		return numbers[d.roll(len(numbers))].Bytes()
	}
}

var two = big.NewInt(2)

// openings lists which message of a protocol opens the commitment in which other.
var openings = map[string][][2]string{
	"ecdsa/keygen":  {{"1", "2"}},
	"ecdsa/sign":    {{"1", "4"}, {"5", "6"}, {"7", "8"}},
	"ecdsa/reshare": {{"1", "3"}},
	"eddsa/keygen":  {{"1", "2"}},
	"eddsa/sign":    {{"1", "2"}},
	"eddsa/reshare": {{"1", "3"}},
}

// mutation makes an attack from a fuzz input: one message type is mutated, or a
// commitment is made to arbitrary values and opened.
func mutation(protocol string, x *attacker, data []byte) attack {
	d := &dice{data}
	numbers := interesting(protocol, x)
	a := attack{name: "mutation", protocol: protocol}
	var types []string
	for name := range party.Rules() {
		if short, ok := strings.CutPrefix(name, protocol+"/"); ok {
			types = append(types, short)
		}
	}
	slices.Sort(types)
	if d.roll(3) > 0 {
		short := types[d.roll(len(types))]
		rest := d.left
		a.change = changes{short: func(_ *attacker, m tss.MessageContent) { mutate(&dice{rest}, numbers, m) }}
		return a
	}
	pairs := openings[protocol]
	pair := pairs[d.roll(len(pairs))]
	var values []*big.Int
	for range d.roll(8) {
		values = append(values, numbers[d.roll(len(numbers))])
	}
	commitment, decommitment := protoreflect.Name("commitment"), protoreflect.Name("de_commitment")
	if strings.HasSuffix(protocol, "reshare") {
		commitment, decommitment = "v_commitment", "v_decommitment"
	}
	var opening [][]byte
	a.change = changes{
		pair[0]: func(_ *attacker, m tss.MessageContent) {
			var c []byte
			c, opening = commit(values...)
			r := m.ProtoReflect()
			r.Set(r.Descriptor().Fields().ByName(commitment), protoreflect.ValueOfBytes(c))
		},
		pair[1]: func(_ *attacker, m tss.MessageContent) {
			r := m.ProtoReflect()
			list := r.Mutable(r.Descriptor().Fields().ByName(decommitment)).List()
			list.Truncate(0)
			for _, b := range opening {
				list.Append(protoreflect.ValueOfBytes(b))
			}
		},
	}
	return a
}

// survive carries an attack out against guarded parties: none may panic, hang or blame
// anyone but the attacker.
func (a *attack) survive(t *testing.T) {
	t.Helper()
	runs, x := a.setup(t)
	tamper := a.tamper(runs, x)
	var mu sync.Mutex
	ended := map[int]bool{} // parts whose messages have all been delivered
	var pumps sync.WaitGroup
	for _, run := range runs { // all before any message, which may end a run
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for part, run := range runs {
		pumps.Go(func() {
			for m := range run.Out() {
				for to, other := range runs {
					if to == part || m.To != 0 && m.To != to {
						continue
					}
					mu.Lock()
					delivered := tamper(m, to)
					mu.Unlock()
					for _, m := range delivered {
						_ = other.Accept(m)
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			ended[part] = true
		})
	}
	deadline := time.Now().Add(3 * time.Minute)
	for part, run := range runs {
		for done := false; !done; {
			select {
			case <-run.Done():
				done = true
			case <-time.After(time.Millisecond):
				mu.Lock()
				orphan := slices.ContainsFunc(run.Waiting(), func(part int) bool { return ended[part] })
				mu.Unlock()
				if orphan {
					run.Close() // it waits for a message that was never sent
				}
				if time.Now().After(deadline) {
					t.Fatalf("part %d hangs, waiting for %v", part, run.Waiting())
				}
			}
		}
	}
	pumps.Wait()
	for part, run := range runs {
		var e *party.Error
		if part == a.attacker() || !errors.As(run.Err(), &e) {
			continue
		}
		if strings.Contains(e.Reason, "panic") {
			t.Errorf("part %d: %v", part, e)
		}
		if slices.ContainsFunc(e.Culprits, func(c int) bool { return c != a.attacker() }) {
			t.Errorf("part %d blames %v: %v", part, e.Culprits, e)
		}
		if len(runs) == 2 && len(e.Culprits) != 1 && !strings.Contains(e.Reason, "equal T") {
			t.Errorf("part %d does not blame the only other one: %v", part, e)
		}
	}
}

// library processes an accepted message as tss-lib does, which is mostly in goroutines,
// where a panic cannot be caught.
func library(r *record, x *attacker, name string, m tss.MessageContent, told map[string]tss.MessageContent) {
	ec := tss.Edwards()
	if strings.HasPrefix(name, "ecdsa") {
		ec = tss.S256()
	}
	session := []byte("session")
	flatten := func(c []byte, d [][]byte) []*crypto.ECPoint {
		open := commitments.HashCommitDecommit{C: num(c), D: commitments.NewHashDeCommitmentFromBytes(d)}
		_, flat := open.DeCommit()
		ps, err := crypto.UnFlattenECPoints(ec, flat)
		if err != nil {
			panic(fmt.Sprintf("%s: the guard has let a bad opening pass: %v", name, err))
		}
		return ps
	}
	share := func(b []byte, ps []*crypto.ECPoint) {
		victim := (&attack{protocol: name[:strings.LastIndexByte(name, '/')]}).victim()
		s := vss.Share{Threshold: 1, ID: party.KeyOf(r.runs[victim], victim), Share: num(b)}
		s.Verify(ec, 1, ps)
	}
	switch m := m.(type) {
	case kg1:
		for _, proof := range [][][]byte{m.Dlnproof_1, m.Dlnproof_2} {
			if p, err := dlnproof.UnmarshalDLNProof(proof); err == nil {
				p.Verify(m.UnmarshalH1(), m.UnmarshalH2(), m.UnmarshalNTilde())
			}
		}
	case kg2s:
		if p, err := m.UnmarshalFacProof(); err == nil {
			mine := told["1 1"].(kg1)
			p.Verify(session, ec, num(told["1 2"].(kg1).PaillierN), num(mine.NTilde), num(mine.H1), num(mine.H2))
		}
	case kg2:
		ps := flatten(told["1 2"].(kg1).Commitment, m.DeCommitment)
		if p, err := m.UnmarshalModProof(); err == nil {
			p.Verify(session, num(told["1 2"].(kg1).PaillierN))
		}
		share(told["2-share 2"].(kg2s).Share, ps)
	case kg3:
		_, _ = m.UnmarshalProofInts().Verify(num(told["1 2"].(kg1).PaillierN), party.KeyOf(r.runs[1], 2), crypto.ScalarBaseMult(ec, two))
	case dg2:
		for _, proof := range [][][]byte{m.Dlnproof_1, m.Dlnproof_2} {
			if p, err := dlnproof.UnmarshalDLNProof(proof); err == nil {
				p.Verify(m.UnmarshalH1(), m.UnmarshalH2(), m.UnmarshalNTilde())
			}
		}
		if p, err := m.UnmarshalModProof(); err == nil {
			p.Verify(session, num(m.PaillierN))
		}
	case dg3:
		share(told["3-share 2"].(dg3s).Share, flatten(told["1 2"].(dg1).VCommitment, m.VDecommitment))
	case dg4:
		if p, err := m.UnmarshalFacProof(); err == nil {
			mine := told["2 4"].(dg2)
			p.Verify(session, ec, num(told["2 5"].(dg2).PaillierN), num(mine.NTilde), num(mine.H1), num(mine.H2))
		}
	case edg3:
		ps := flatten(told["1 2"].(edg1).VCommitment, m.VDecommitment)
		for i := range ps {
			ps[i] = ps[i].EightInvEight()
		}
		share(told["3-share 2"].(edg3s).Share, ps)
	case s1m:
		n := x.mta()
		if p, err := m.UnmarshalRangeProofAlice(); err == nil {
			p.Verify(ec, &paillier.PublicKey{N: n.n}, n.nTilde, n.h1, n.h2, m.UnmarshalC())
		}
	case s2m:
		n, pk := x.mta(), &paillier.PublicKey{N: victimN(x)}
		if p, err := m.UnmarshalProofBob(); err == nil {
			p.Verify(session, ec, pk, n.nTilde, n.h1, n.h2, big.NewInt(7), num(m.C1))
		}
		if p, err := m.UnmarshalProofBobWC(ec); err == nil {
			p.Verify(session, ec, pk, n.nTilde, n.h1, n.h2, big.NewInt(7), num(m.C2), crypto.ScalarBaseMult(ec, two))
		}
	case s4:
		p, err := m.UnmarshalZKProof(ec)
		if ps := flatten(told["1 2"].(s1).Commitment, m.DeCommitment); err == nil {
			p.Verify(session, ps[0])
		}
	case s6:
		ps := flatten(told["5 2"].(s5).Commitment, m.DeCommitment)
		if p, err := m.UnmarshalZKProof(ec); err == nil {
			p.Verify(session, ps[1])
		}
		if p, err := m.UnmarshalZKVProof(ec); err == nil {
			p.Verify(session, ps[0], crypto.ScalarBaseMult(ec, big.NewInt(12345)))
		}
	case s8:
		flatten(told["7 2"].(s7).Commitment, m.DeCommitment)
	case ekg2:
		ps := flatten(told["1 2"].(ekg1).Commitment, m.DeCommitment)
		for i := range ps {
			ps[i] = ps[i].EightInvEight()
		}
		if p, err := m.UnmarshalZKProof(ec); err == nil {
			p.Verify(session, ps[0])
		}
		share(told["2-share 2"].(ekgs).Share, ps)
	case es2:
		p, err := m.UnmarshalZKProof(ec)
		if ps := flatten(told["1 2"].(es1).Commitment, m.DeCommitment); err == nil {
			p.Verify(session, ps[0].EightInvEight())
		}
	}
}
