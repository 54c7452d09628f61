package party_test

import (
	"crypto/ed25519"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	eddsaresharing "github.com/bnb-chain/tss-lib/v2/eddsa/resharing"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// The codes of a reshare's messages on ed25519.
const (
	codeCommitment = 1
	codeShare      = 3
	codePolynomial = 4
	codeAck        = 5
)

// TestOldSharesStay: a reshare that succeeds, fails or is closed, and one that is never
// started, leave the old shares as they were. tss-lib sets the one that it is given to
// zero.
func TestOldSharesStay(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	secrets := func() (all []string) {
		for _, s := range shares {
			all = append(all, s.Secret().EdDSA.Xi.String())
		}
		return all
	}
	before := secrets()
	for name, run := range map[string]func(runs map[int]*party.Run){
		"success": func(runs map[int]*party.Run) { partytest.NewNetwork(t, runs).Wait() },
		"failure": func(runs map[int]*party.Run) {
			n := partytest.NewNetwork(t, runs)
			n.Refused = func(party.Message, int, error) {}
			n.Tamper = func(m party.Message, _ int) []party.Message {
				if m.From == 2 && m.To != 0 {
					m = party.Resign(runs[2], m, append(m.Body[:2:2], make([]byte, 1200)...))
				}
				return []party.Message{m}
			}
			n.Start()
			<-runs[4].Done()
			for _, run := range runs {
				run.Close()
			}
		},
		"closed":      func(runs map[int]*party.Run) { runs[1].Start(); runs[1].Close() },
		"not started": func(runs map[int]*party.Run) { runs[1].Close() },
	} {
		runs := c.ReshareRuns(t, shares, []int{1, 2}, c, 2)
		run(runs)
		for place, run := range runs {
			run.Close()
			if name == "success" && (run.Err() != nil || (run.Share() != nil) != (place > 3) || run.Signature() != nil) {
				t.Errorf("%s: place %d: %v, %v", name, place, run.Share(), run.Err())
			}
		}
		if after := secrets(); !slices.Equal(before, after) {
			t.Fatalf("%s: the old shares are now %v", name, after)
		}
	}
	for _, sig := range c.Sign(t, shares, []int{1, 2}, []byte("still")) {
		verify(t, shares[0], []byte("still"), sig)
	}
}

// TestAcksAreNoCommit: the last acknowledgements to one new member get lost. Others
// finish, the member does not, and the old shares still sign: only a certificate may end
// them.
func TestAcksAreNoCommit(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	runs := c.ReshareRuns(t, shares, []int{1, 3}, c, 2)
	n := partytest.NewNetwork(t, runs)
	n.Tamper = func(m party.Message, to int) []party.Message {
		if m.Body[1] == codeAck && to == 6 {
			return nil
		}
		return []party.Message{m}
	}
	n.Start()
	for _, place := range []int{1, 3, 4, 5} {
		<-runs[place].Done()
		if err := runs[place].Err(); err != nil {
			t.Errorf("place %d: %v", place, err)
		}
	}
	if waiting := runs[6].Waiting(); !slices.Equal(waiting, []int{4, 5}) || runs[6].Share() != nil {
		t.Errorf("place 6 waits for %v", waiting)
	}
	for _, sig := range c.Sign(t, shares, []int{1, 3}, []byte("old")) {
		verify(t, shares[0], []byte("old"), sig)
	}
}

// TestReshareEquivocation: an old member shows one new member another commitment, or
// another polynomial, than the others. All of them prove it, and whoever is in the old
// committee only hears nothing of it.
func TestReshareEquivocation(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	other := map[byte]proto.Message{
		codeCommitment: &eddsaresharing.DGRound1Message{EddsaPubX: []byte{1}, EddsaPubY: []byte{2}, VCommitment: []byte("another commitment")},
		codePolynomial: &eddsaresharing.DGRound3Message2{VDecommitment: [][]byte{{1}, {2}, {3}}},
	}
	for code, content := range other {
		runs := c.ReshareRuns(t, shares, []int{1, 2}, c, 2)
		for _, run := range runs {
			party.Unguard(run)
		}
		data, err := proto.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		n := partytest.NewNetwork(t, runs)
		n.Refused = func(party.Message, int, error) {}
		n.Tamper = twoFaced(t, runs, code, data, 5)
		n.Start()
		for _, place := range []int{4, 5, 6} {
			e := convicts(t, runs[place], 2)
			if e.Protocol != statement.Reshare || e.Round != party.RoundOf(runs[4], code) || e.Old == nil {
				t.Errorf("the proof is about %s of %s", e.Round, e.Protocol)
			}
		}
		if err := runs[1].Err(); err != nil {
			t.Errorf("an old member that got neither: %v", err)
		}
	}
}

// TestReshareBlames: an old member that gives a wrong share is named by tss-lib; one that
// gives a valid sharing of another number is named by the guard, because the old public
// points are known. Without them nobody is blamed.
func TestReshareBlames(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	runs := c.ReshareRuns(t, shares, []int{1, 2}, c, 2)
	n := partytest.NewNetwork(t, runs)
	n.Tamper = rewrite(t, runs, 2, codeShare, func(content []byte, _ int) []byte {
		var m eddsaresharing.DGRound3Message1
		if err := proto.Unmarshal(content, &m); err != nil {
			t.Error(err)
		}
		m.Share = new(big.Int).Xor(num(m.Share), one).Bytes()
		out, _ := proto.Marshal(&m)
		return out
	})
	outcome(t, n, runs, 4, 2)

	// Part 2 has the share of another attempt, of which the others know nothing: its
	// messages are all valid, and their sum is another key.
	again := c.Reshare(t, shares, []int{1, 3}, c, 2)
	fresh := c.Reshare(t, shares, []int{1, 2}, c, 2)
	for _, known := range []bool{true, false} {
		configs := c.ReshareConfigs(t, fresh, []int{1, 2}, c, 2)
		cfg := configs[2]
		cfg.Share = again[1]
		configs[2] = cfg
		runs := map[int]*party.Run{}
		for place, cfg := range configs {
			if !known {
				cfg.OldPoints = nil
			}
			run, err := party.NewReshare(cfg)
			if err != nil {
				t.Fatal(err)
			}
			runs[place] = run
		}
		n := partytest.NewNetwork(t, runs)
		if known {
			outcome(t, n, runs, 6, 2)
		} else if e := outcome(t, n, runs, 6); !strings.Contains(e.Reason, "parts [1 2], of whom at least one is at fault") {
			t.Errorf("reason is %q", e.Reason)
		}
	}
}

// TestSides: what is for the other committee only has no effect; what a sender's
// committee does not send, and a private message to who gets none, is not authentic.
func TestSides(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	runs := c.ReshareRuns(t, shares, []int{1, 2}, c, 2)
	partytest.NewNetwork(t, runs)
	forge := func(from int, code byte, to int) party.Message {
		m, err := party.Forge(runs[from], code, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, test := range map[string]struct {
		m    party.Message
		to   int
		want error
	}{
		"a commitment to the old":           {forge(2, codeCommitment, 0), 1, nil},
		"another one":                       {forge(2, codeCommitment, 0), 1, nil},
		"an acknowledgement to the new":     {forge(5, 2, 0), 4, nil},
		"a commitment of the new":           {forge(5, codeCommitment, 0), 4, party.ErrNotAuthentic},
		"an acknowledgement of the old":     {forge(2, codeAck, 0), 4, party.ErrNotAuthentic},
		"an echo of the old":                {forge(2, 0x81, 0), 4, party.ErrNotAuthentic},
		"a share to the old":                {forge(2, codeShare, 1), 1, party.ErrNotAuthentic},
		"a share of the new":                {forge(5, codeShare, 4), 4, party.ErrNotAuthentic},
		"a share for the other own place":   {forge(2, codeShare, 5), 4, party.ErrNotAuthentic},
		"a share of a place that is not in": {party.Message{From: 3, To: 4, Body: []byte{1, codeShare}}, 4, party.ErrNotAuthentic},
	} {
		if err := runs[test.to].Accept(test.m); !errors.Is(err, test.want) || test.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
	for place, run := range runs {
		if run.Err() != nil {
			t.Errorf("place %d: %v", place, run.Err())
		}
	}
}

// TestReshareProgress: rounds and silent parties are those of the own side.
func TestReshareProgress(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	runs := c.ReshareRuns(t, shares, []int{1, 2}, c, 2)
	n := partytest.NewNetwork(t, runs)
	n.Tamper = func(m party.Message, _ int) []party.Message {
		if m.From == 6 {
			return nil
		}
		return []party.Message{m}
	}
	for place, run := range runs {
		if round, of := run.Round(); round != 0 || of != 4 {
			t.Errorf("place %d is in round %d of %d before the start", place, round, of)
		}
		want := []int{1, 2}
		if place < 3 {
			want = []int{4, 5, 6}
		}
		if got := run.Waiting(); !slices.Equal(got, want) {
			t.Errorf("place %d waits for %v, want %v", place, got, want)
		}
	}
	n.Start()
	deadline := time.Now().Add(time.Minute)
	// The new ones miss place 6's echo of round 1, and so acknowledge nothing yet.
	for place, want := range map[int]struct {
		round   int
		waiting []int
	}{1: {2, []int{4, 5, 6}}, 2: {2, []int{4, 5, 6}}, 4: {1, []int{6}}, 5: {1, []int{6}}} {
		for {
			round, _ := runs[place].Round()
			if round == want.round && slices.Equal(runs[place].Waiting(), want.waiting) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("place %d is in round %d, waiting for %v", place, round, runs[place].Waiting())
			}
			select {
			case <-runs[place].Done():
				t.Fatalf("place %d: %v", place, runs[place].Err())
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// TestRefusedReshares breaks one field of a configuration at a time.
func TestRefusedReshares(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	other := c.Keygen(t, pubkey.Ed25519, 2)
	next := c.Reshare(t, shares, []int{1, 2}, c, 2)
	points, err := other[0].Points()
	if err != nil {
		t.Fatal(err)
	}
	stranger := partytest.Identity(t)
	type change = func(*party.ReshareConfig)
	for place, changes := range map[int]map[string]change{
		1: {
			"no share":           func(cfg *party.ReshareConfig) { cfg.Share = nil },
			"another's share":    func(cfg *party.ReshareConfig) { cfg.Share = shares[1] },
			"another key's":      func(cfg *party.ReshareConfig) { cfg.Share = other[0] },
			"another epoch's":    func(cfg *party.ReshareConfig) { cfg.Share = next[0] },
			"another threshold":  func(cfg *party.ReshareConfig) { cfg.Binding.From.Threshold = 3 },
			"another total":      func(cfg *party.ReshareConfig) { cfg.Binding.From.TotalParts = 2 },
			"too few":            func(cfg *party.ReshareConfig) { cfg.Binding.Parties = cfg.Binding.Parties[1:] },
			"a stranger's place": func(cfg *party.ReshareConfig) { cfg.Binding.Parties[1].Identity = stranger.Public() },
		},
		4: {
			"another key's points": func(cfg *party.ReshareConfig) { cfg.OldPoints = points },
			"too few points":       func(cfg *party.ReshareConfig) { cfg.OldPoints = cfg.OldPoints[:1] },
			"a point that is none": func(cfg *party.ReshareConfig) { cfg.OldPoints = []string{"0x01", cfg.OldPoints[1], cfg.OldPoints[2]} },
			"an older epoch":       func(cfg *party.ReshareConfig) { cfg.Binding.Epoch = 1 },
			"the same epoch":       func(cfg *party.ReshareConfig) { cfg.Binding.From.Epoch = 2 },
			"no old epoch":         func(cfg *party.ReshareConfig) { cfg.Binding.From.Epoch = 0 },
			"a negative old epoch": func(cfg *party.ReshareConfig) { cfg.Binding.From.Epoch = -1 },
			"threshold 1":          func(cfg *party.ReshareConfig) { cfg.Binding.Threshold = 1 },
			"a new member missing": func(cfg *party.ReshareConfig) { cfg.Binding.Parties = cfg.Binding.Parties[:4] },
			"out of order":         func(cfg *party.ReshareConfig) { slices.Reverse(cfg.Binding.Parties) },
			"a place twice":        func(cfg *party.ReshareConfig) { cfg.Binding.Parties[4].Index = 5 },
			"no public key":        func(cfg *party.ReshareConfig) { cfg.Binding.PublicKey = "" },
			"not in it":            func(cfg *party.ReshareConfig) { cfg.Binding.Self = 3 },
			"another's place":      func(cfg *party.ReshareConfig) { cfg.Binding.Self = 5 },
			"no identity":          func(cfg *party.ReshareConfig) { cfg.Identity = nil },
			"an identity of two":   func(cfg *party.ReshareConfig) { cfg.Binding.Parties[3].User = "mallory" },
			"a user twice":         func(cfg *party.ReshareConfig) { cfg.Binding.Parties[4].User = "user-1" },
		},
	} {
		for name, spoil := range changes {
			cfg := c.ReshareConfigs(t, shares, []int{1, 2}, c, 2)[place]
			spoil(&cfg)
			if run, err := party.NewReshare(cfg); err == nil {
				t.Errorf("%s: prepared", name)
				run.Close()
			}
		}
		cfg := c.ReshareConfigs(t, shares, []int{1, 2}, c, 2)[place]
		run, err := party.NewReshare(cfg)
		if err != nil {
			t.Fatalf("the unspoiled configuration: %v", err)
		}
		run.Close()
	}
}

// TestReshareContext: parties that differ in one thing about a reshare exchange no
// message that is authentic.
func TestReshareContext(t *testing.T) {
	t.Parallel()
	c, shares := someKey(t, pubkey.Ed25519)
	base := c.ReshareConfigs(t, shares, []int{1, 2}, c, 2)[4]
	sender := c.ReshareConfigs(t, shares, []int{1, 2}, c, 2)[5]
	sender.Binding.SessionID = base.Binding.SessionID
	accepts := func(change func(*party.ReshareBinding)) error {
		cfg := sender
		cfg.Binding.Parties = slices.Clone(sender.Binding.Parties)
		change(&cfg.Binding)
		from, err := party.NewReshare(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		to, err := party.NewReshare(base)
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		m, err := party.Forge(from, codeAck, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		return to.Accept(m)
	}
	if err := accepts(func(*party.ReshareBinding) {}); err != nil {
		t.Fatalf("two parties of one reshare: %v", err)
	}
	for name, change := range map[string]func(*party.ReshareBinding){
		"the session":         func(b *party.ReshareBinding) { b.SessionID += "x" },
		"the attempt":         func(b *party.ReshareBinding) { b.Attempt++ },
		"the epoch":           func(b *party.ReshareBinding) { b.Epoch++ },
		"the old certificate": func(b *party.ReshareBinding) { b.From.Certificate[31]++ },
		"the threshold":       func(b *party.ReshareBinding) { b.Threshold = 3 },
		"the quorum":          func(b *party.ReshareBinding) { b.Parties[1] = c.Members[2] },
	} {
		if err := accepts(change); !errors.Is(err, party.ErrNotAuthentic) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestImport gives a committee a key that somebody had: the address stays, and the
// committee signs. TestImportSecp256k1 is the same on the other curve.
func TestImport(t *testing.T) {
	t.Parallel()
	seed := []byte(strings.Repeat("u", 32)) // its hash has bits that clamping changes, at both ends
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	key, err := share.NewPrivateKeyFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	if key.PublicKey() != pubkey.Encode(public) {
		t.Fatalf("the seed's public key is %x, not %s", public, key.PublicKey())
	}
	importKey(t, key)
}

// importKey imports a key into a committee of three, signs and refreshes it.
func importKey(t *testing.T, key *share.PrivateKey) {
	t.Helper()
	c := partytest.NewCommittee(t, 3)
	runs := c.ImportRuns(t, key, 2)
	partytest.NewNetwork(t, runs).Wait()
	var shares []*share.Share
	for place := 1; place <= 4; place++ {
		if err := runs[place].Err(); err != nil {
			t.Fatalf("place %d: %v", place, err)
		}
		if place > 1 {
			shares = append(shares, runs[place].Share())
		}
	}
	first := shares[0].Public()
	if first.PublicKey != key.PublicKey() || first.Epoch != 1 {
		t.Fatalf("got epoch %d of %s", first.Epoch, first.PublicKey)
	}
	checkEpoch(t, "import", first, c, shares, 1)
	if first.Curve == pubkey.Ed25519 {
		checkEpoch(t, "refresh", first, c, c.Reshare(t, shares, []int{1, 3}, c, 2), 2)
	}
	// The owner's copy is as it was.
	if sig, err := key.Sign(digestOf(first.Curve, "owner")); err != nil {
		t.Error(err)
	} else {
		verify(t, shares[0], digestOf(first.Curve, "owner"), sig)
	}
}

// TestImportRefused: an import with another key, from another place, or into an epoch
// that follows a real one.
func TestImportRefused(t *testing.T) {
	t.Parallel()
	key, err := share.NewPrivateKey(pubkey.Ed25519, []byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	other, err := share.NewPrivateKeyFromSeed([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	c := partytest.NewCommittee(t, 2)
	for name, spoil := range map[string]func(*party.ImportConfig){
		"no key":           func(cfg *party.ImportConfig) { cfg.Key = nil },
		"another key":      func(cfg *party.ImportConfig) { cfg.Key = other },
		"another place":    func(cfg *party.ImportConfig) { cfg.Binding.Self, cfg.Identity = 2, c.Identities[0] },
		"a real epoch":     func(cfg *party.ImportConfig) { cfg.Binding.From.Epoch, cfg.Binding.Epoch = 1, 2 },
		"a certificate":    func(cfg *party.ImportConfig) { cfg.Binding.From.Certificate[0] = 1 },
		"another identity": func(cfg *party.ImportConfig) { cfg.Identity = c.Identities[0] },
		"two in the old":   func(cfg *party.ImportConfig) { cfg.Binding.From.TotalParts = 2 },
		"no public key":    func(cfg *party.ImportConfig) { cfg.Binding.PublicKey = "" },
	} {
		cfg := c.ImportConfig(t, key, 2)
		spoil(&cfg)
		if run, err := party.NewImport(cfg); err == nil {
			t.Errorf("%s: prepared", name)
			run.Close()
		}
	}
	run, err := party.NewImport(c.ImportConfig(t, key, 2))
	if err != nil {
		t.Fatal(err)
	}
	run.Close()
	if _, err := share.NewPrivateKey(pubkey.Secp256k1, orderK.Bytes()); err == nil {
		t.Error("the group order is taken as a private key")
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := share.NewPrivateKey(pubkey.Secp256k1, make([]byte, n)); err == nil {
			t.Errorf("%d bytes are taken as a private key", n)
		}
		if _, err := share.NewPrivateKeyFromSeed(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are taken as a seed", n)
		}
	}
}

// TestImportSecp256k1 does TestImport with a number of secp256k1, in the full set.
func TestImportSecp256k1(t *testing.T) {
	if !sample.Full() {
		t.Skip(sample.Reason)
	}
	t.Parallel()
	key, err := share.NewPrivateKey(pubkey.Secp256k1, []byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	importKey(t, key)
}
