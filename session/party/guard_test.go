package party_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// attack is what one malicious party does to its own messages of one protocol. Part 1
// is the victim and part 2 the attacker; in a reshare the victim is place 4, the first of
// the new committee, and the attacker has both places of part 2: see attack.attacker.
type attack struct {
	name     string
	protocol string // "ecdsa/keygen" and so on
	parties  int    // 0 means 2
	// change alters the attacker's messages by the last part of their type's name.
	change map[string]func(x *attacker, m tss.MessageContent)
	// round and rule say which message the guard refuses, and why.
	round, rule string
	// needs names a message of another party, as in attacker.others, that the attacker
	// waits for before it sends the refused one.
	needs string
	// accepts names a message of the victim, as in attacker.others, that it sends only
	// after the library has accepted the wrong one: "accepts" is the outcome.
	accepts string
	// nobody says that the guard cannot decide which party is at fault, and blames none.
	nobody bool
	// shadowed says that without its rule another one refuses the attack.
	shadowed bool
	// ignorant is set if the new committee of a reshare does not know the old points.
	ignorant bool
	// informed is set if the victim has an old share in a reshare.
	informed bool
	// library matches the victim's outcome without the guard: "crash: " and the panic
	// of the process, "fails: " and the run's error, "accepts" or "done".
	library string
}

// attacker is the state that a change may read and keep between messages.
type attacker struct {
	t     testing.TB
	run   *party.Run
	share *share.Share // of the attacker, in ECDSA signing
	// committee is that of a key generation, or the new one of a reshare.
	committee *partytest.Committee
	pre       int // which of partytest's pre-parameters the attacker has there
	kept      map[string]any
	// others are the other parties' messages, by type and part, as far as they have
	// been sent.
	others   map[string]tss.MessageContent
	accepted chan struct{} // closed when the victim has sent attack.accepts
}

func (a *attack) curve() pubkey.Curve {
	if strings.HasPrefix(a.protocol, "ecdsa") {
		return pubkey.Secp256k1
	}
	return pubkey.Ed25519
}

// victim is the part of whoever is attacked.
func (a *attack) victim() int {
	if strings.HasSuffix(a.protocol, "reshare") {
		return 4
	}
	return 1
}

// attacker is the part whose messages are changed. In a reshare it is place 5, of the new
// committee, if that sends the changed messages, and else place 2, of the old one.
func (a *attack) attacker() int {
	for short := range a.change {
		if strings.HasSuffix(a.protocol, "reshare") && (short == "2" || short == "4-proof") {
			return 5
		}
	}
	return 2
}

// makesKey reports whether a protocol's runs are long on secp256k1: with proofs about
// moduli.
func makesKey(protocol string) bool { return protocol == "ecdsa/keygen" || protocol == "ecdsa/reshare" }

// setup prepares the runs of an attack.
func (a *attack) setup(t testing.TB) (map[int]*party.Run, *attacker) {
	t.Helper()
	parties := max(a.parties, 2)
	x := &attacker{t: t, kept: map[string]any{}, others: map[string]tss.MessageContent{}, accepted: make(chan struct{})}
	var runs map[int]*party.Run
	switch {
	case strings.HasSuffix(a.protocol, "reshare"):
		runs = a.setupReshare(t, x)
	case strings.HasSuffix(a.protocol, "keygen"):
		x.pre = 1
		x.committee = partytest.NewCommittee(t, parties)
		runs = x.committee.KeygenRuns(t, a.curve(), 2)
	case a.curve() == pubkey.Ed25519:
		c, shares := someKey(t, pubkey.Ed25519)
		runs = c.SignRuns(t, shares, []int{1, 2, 3}[:parties], []byte("digest"))
	default:
		c, shares := partytest.Key(t)
		x.share = shares[1]
		runs = c.SignRuns(t, shares, []int{1, 2, 3}[:parties], digestOf(pubkey.Secp256k1, "digest"))
	}
	x.run = runs[a.attacker()]
	return runs, x
}

// setupReshare prepares a reshare by parts 1 and 2 of a key of three, to themselves or to
// all three.
func (a *attack) setupReshare(t testing.TB, x *attacker) map[int]*party.Run {
	t.Helper()
	var c *partytest.Committee
	var shares []*share.Share
	if a.curve() == pubkey.Secp256k1 {
		c, shares = partytest.Key(t)
	} else {
		c, shares = someKey(t, pubkey.Ed25519)
	}
	x.committee, x.share, x.pre = c.Keep(t, []int{1, 2, 3}[:max(a.parties, 2)], 0), shares[1], 4
	runs := map[int]*party.Run{}
	for place, cfg := range c.ReshareConfigs(t, shares, []int{1, 2}, x.committee, 2) {
		if a.ignorant {
			cfg.OldPoints = nil
		}
		if a.informed && place == a.victim() {
			cfg.Share = shares[0]
		}
		run, err := party.NewReshare(cfg)
		if err != nil {
			t.Fatal(err)
		}
		runs[place] = run
	}
	return runs
}

// tamper carries an attack out on the network of its runs.
func (a *attack) tamper(runs map[int]*party.Run, x *attacker) func(party.Message, int) []party.Message {
	attacker := a.attacker()
	party.Malicious(runs[attacker])
	party.Unguard(runs[attacker])
	forged := map[string]party.Message{}
	var held []func()
	return func(m party.Message, to int) []party.Message {
		if party.IsEcho(m) {
			return []party.Message{m}
		}
		name := party.RoundOf(runs[to], m.Body[1])
		content, err := party.Content(runs[to], m)
		if err != nil {
			x.t.Error(err)
			return nil
		}
		parsed, err := party.ParseContent(runs[to], name, content)
		if err != nil {
			x.t.Error(err)
			return nil
		}
		short := name[strings.LastIndexByte(name, '/')+1:]
		change := a.change[short]
		if m.From != attacker {
			key := fmt.Sprint(short, " ", m.From)
			if key == a.accepts && x.others[key] == nil {
				close(x.accepted)
			}
			x.others[key] = parsed
			if a.needs != "" && x.others[a.needs] != nil {
				for _, send := range held {
					send()
				}
				held = nil
			}
			return []party.Message{m}
		}
		if change == nil {
			return []party.Message{m}
		}
		key := fmt.Sprint(name, m.To)
		forge := func() {
			if _, done := forged[key]; done {
				return
			}
			change(x, parsed)
			content, err := proto.Marshal(parsed)
			if err != nil {
				x.t.Error(err)
			}
			f, err := party.Forge(runs[attacker], m.Body[1], m.To, content)
			if err != nil {
				x.t.Error(err)
			}
			forged[key] = f
		}
		if short == a.round && a.needs != "" && x.others[a.needs] == nil {
			held = append(held, func() { forge(); _ = runs[to].Accept(forged[key]) })
			return nil
		}
		forge()
		return []party.Message{forged[key]}
	}
}

// carryOut runs an attack, with the guard or without, and returns the victim's outcome.
// The victim gets the attacker's messages after all others.
func (a *attack) carryOut(t testing.TB, guarded bool) (outcome string, err error) {
	runs, x := a.setup(t)
	if !guarded {
		for _, run := range runs {
			party.Unguard(run)
		}
	}
	victim := runs[a.victim()]
	n := partytest.NewNetwork(t, runs)
	n.Tamper = a.tamper(runs, x)
	n.Refused = func(party.Message, int, error) {}
	n.Start()
	select {
	case <-victim.Done():
	case <-x.accepted:
		if !guarded {
			return "accepts", nil
		}
		<-victim.Done()
	case <-time.After(4 * time.Minute):
		t.Fatalf("%s: the victim hangs, waiting for %v", a.name, victim.Waiting())
	}
	if err := victim.Err(); err != nil {
		return "fails: " + err.Error(), err
	}
	return "done", nil
}

const attackEnv = "CONCLAVE_TEST_ATTACK"

// TestUnguardedChild carries one attack out without the guard, in the process that
// TestAttacks starts for it.
func TestUnguardedChild(t *testing.T) {
	name := os.Getenv(attackEnv)
	if name == "" {
		t.Skip("only as a child of TestAttacks")
	}
	for _, a := range attacks {
		if a.protocol+" "+a.name == name {
			outcome, _ := a.carryOut(t, false)
			fmt.Printf("outcome: %s\n", outcome)
		}
	}
}

// unguarded returns the unguarded library's outcome of an attack. A panic of its
// goroutines ends the process, so it runs in a separate one.
func (a *attack) unguarded(t *testing.T) string {
	cmd := exec.Command(os.Args[0], "-test.run=^TestUnguardedChild$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), attackEnv+"="+a.protocol+" "+a.name)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if outcome, ok := strings.CutPrefix(line, "outcome: "); ok {
			return outcome
		}
		if strings.HasPrefix(line, "panic: ") && bytes.Contains(out, []byte("tss-lib")) {
			return "crash: " + strings.TrimPrefix(line, "panic: ")
		}
	}
	t.Errorf("child: %v\n%s", err, out)
	return ""
}

// realAttacks are the attacks that TestAttacks carries out; TestGuardRules suffices for
// the others. On secp256k1 the sample has some of each protocol.
func realAttacks() []attack {
	var chosen []attack
	for _, protocol := range protocols {
		all := slices.DeleteFunc(slices.Clone(attacks), func(a attack) bool { return a.protocol != protocol || a.library == "" })
		switch protocol {
		case "ecdsa/keygen", "ecdsa/reshare":
			all = sample.Of(1, all)
		case "ecdsa/sign":
			all = sample.Of(2, all)
		}
		chosen = append(chosen, all...)
	}
	return chosen
}

// TestAttacks carries each attack out twice: without the guard, for the library's
// outcome, and with the guard, which refuses it and blames the attacker.
func TestAttacks(t *testing.T) {
	for _, a := range realAttacks() {
		t.Run(a.protocol+"/"+a.name, func(t *testing.T) {
			if makesKey(a.protocol) && testing.Short() {
				t.Skip("takes long")
			}
			t.Parallel()
			got := a.unguarded(t)
			t.Logf("without the guard: %s", got)
			if !regexp.MustCompile(a.library).MatchString(got) {
				t.Errorf("without the guard: got %q, want %q", got, a.library)
			}
			_, err := a.carryOut(t, true)
			a.wantRefusal(t, err)
		})
	}
}

func (a *attack) wantRefusal(t *testing.T, err error) {
	t.Helper()
	var e *party.Error
	if !errors.As(err, &e) {
		t.Fatalf("with the guard: got %v, want an *Error", err)
	}
	if want := fmt.Sprintf("%s/%s: the guard refuses it: %s", a.protocol, a.round, a.rule); !strings.HasPrefix(e.Reason, want) {
		t.Errorf("with the guard: got reason %q, want %q", e.Reason, want)
	}
	culprits := []int{a.attacker()}
	if a.nobody {
		culprits = nil
	}
	if !slices.Equal(e.Culprits, culprits) {
		t.Errorf("with the guard: got culprits %v, want %v", e.Culprits, culprits)
	}
	if len(e.Evidence) != 1 {
		t.Errorf("with the guard: got %d messages as evidence", len(e.Evidence))
	}
}

// heard is one message as the victim receives it, or sends it itself.
type heard struct {
	name    string
	from    int
	content []byte
}

// record is an honest transcript as the victim sees it, and runs of the same parties that
// are never started, whose guards tests may use.
type record struct {
	heard     []heard
	runs      map[int]*party.Run
	x         *attacker
	committee *partytest.Committee
	shares    []*share.Share // the result of a key generation or a reshare
}

// recorded has the records made so far, by protocol.
var recorded struct {
	sync.Mutex
	by map[string]*record
}

// recordOf records an honest run, in the order of the rounds, or returns the existing
// record.
func recordOf(t testing.TB, protocol string) *record {
	t.Helper()
	recorded.Lock()
	defer recorded.Unlock()
	if r, ok := recorded.by[protocol]; ok {
		return r
	}
	a := attack{protocol: protocol}
	if strings.HasSuffix(protocol, "reshare") {
		a.parties = 3 // a refresh
	}
	runs, x := a.setup(t)
	r := &record{committee: x.committee}
	r.runs, r.x = a.setup(t)
	n := partytest.NewNetwork(t, runs)
	victim, own := a.victim(), map[byte]bool{}
	n.Tamper = func(m party.Message, to int) []party.Message {
		content, err := party.Content(runs[to], m)
		if err != nil {
			t.Error(err)
		}
		heardIt := to == victim && party.ForMe(runs[to], m)
		saidIt := m.From == victim && m.To == 0 && !own[m.Body[1]]
		if (heardIt || saidIt) && !party.IsEcho(m) {
			own[m.Body[1]] = own[m.Body[1]] || saidIt
			r.heard = append(r.heard, heard{party.RoundOf(runs[to], m.Body[1]), m.From, content})
		}
		return []party.Message{m}
	}
	n.Wait()
	for part, run := range runs {
		if run.Err() != nil {
			t.Fatalf("part %d: %v", part, run.Err())
		}
	}
	slices.SortStableFunc(r.heard, func(a, b heard) int {
		// By round, and within one the own messages first: they exist earlier.
		if c := int(party.CodeOf(runs[victim], a.name)) - int(party.CodeOf(runs[victim], b.name)); c != 0 {
			return c
		}
		if (a.from == victim) != (b.from == victim) {
			return map[bool]int{true: -1, false: 1}[a.from == victim]
		}
		return a.from - b.from
	})
	if r.committee != nil {
		for i := range r.committee.Members {
			r.shares = append(r.shares, runs[victim+i].Share())
		}
	}
	if recorded.by == nil {
		recorded.by = map[string]*record{}
	}
	recorded.by[protocol] = r
	return r
}

// replay passes an honest transcript, changed by an attack, to a guard, and returns its
// first refusal. If only is set, messages that the guard should not object to are
// stored unchecked.
func (a *attack) replay(t *testing.T, only bool, skip ...string) (round, rule string, between []int) {
	t.Helper()
	r := recordOf(t, a.protocol)
	run, attacking := r.runs[a.victim()], a.attacker()
	if a.ignorant || a.informed { // its guard is another
		runs, _ := a.setup(t)
		run = runs[a.victim()]
	}
	party.GuardAnew(run)
	if len(skip) > 0 {
		party.Unguard(run, skip...)
	}
	x := &attacker{
		t: t, run: r.runs[attacking], share: r.x.share, committee: r.x.committee, pre: r.x.pre,
		kept: map[string]any{}, others: map[string]tss.MessageContent{},
	}
	for _, h := range r.heard {
		m, err := party.ParseContent(run, h.name, h.content)
		if err != nil {
			t.Fatal(err)
		}
		short := strings.TrimPrefix(h.name, a.protocol+"/")
		if h.from != attacking {
			x.others[fmt.Sprint(short, " ", h.from)] = m
		} else if change := a.change[short]; change != nil {
			change(x, m)
		}
		if h.from == a.victim() || only && (h.from != attacking || short != a.round) {
			party.GuardFile(run, h.from, m)
		} else if rule, between := party.GuardTake(run, h.name, h.from, m); rule != "" {
			return short, rule, between
		}
	}
	return "", "", nil
}

// TestGuardRules shows with the guard alone, which is fast, that it accepts an honest
// transcript; that each attack is refused by its rule; that this rule is needed,
// because without it no other refuses the attack; and that there is an attack for every
// rule.
func TestGuardRules(t *testing.T) {
	tried := map[string]bool{}
	all := append(slices.Clone(attacks), shapeAttacks(t)...)
	var slow []string // attacks on moduli, each with its own numbers
	for _, a := range all {
		if makesKey(a.protocol) {
			slow = append(slow, a.protocol+a.name)
		}
	}
	slow = sample.Of(len(slow)/12, slow)
	for _, a := range all {
		if makesKey(a.protocol) && testing.Short() {
			continue
		}
		t.Run(a.protocol+"/"+a.name, func(t *testing.T) {
			tried[a.protocol+"/"+a.round+": "+a.rule] = true
			if a.parties > 2 {
				return // covered by TestAttacks
			}
			if makesKey(a.protocol) && !slices.Contains(slow, a.protocol+a.name) {
				t.Skip(sample.Reason)
			}
			round, rule, between := a.replay(t, true)
			if round != a.round || rule != a.rule {
				t.Errorf("%s: got %q, want %s: %q", round, rule, a.round, a.rule)
			}
			if !slices.Equal(between, []int{a.attacker()}) && !(a.nobody && slices.Equal(between, []int{1, 2})) {
				t.Errorf("got culprits %v", between)
			}
			if round, rule, _ := a.replay(t, true, a.rule); rule != "" && !a.shadowed {
				t.Errorf("without the rule another refuses it: %s: %q", round, rule)
			}
		})
	}
	for _, protocol := range protocols {
		if makesKey(protocol) && testing.Short() {
			continue
		}
		if round, rule, _ := (&attack{protocol: protocol}).replay(t, false); rule != "" {
			t.Errorf("%s/%s: an honest message is refused: %s", protocol, round, rule)
		}
		for name, rules := range party.Rules() {
			for _, rule := range rules {
				if strings.HasPrefix(name, protocol) && !tried[name+": "+rule] {
					t.Errorf("%s: no attack tries %q", name, rule)
				}
			}
		}
	}
}

// TestSmallOrder: of the points of ed25519 the guard refuses exactly those that the
// cofactor makes neutral, and coordinates that are not reduced.
func TestSmallOrder(t *testing.T) {
	t.Parallel()
	run := recordOf(t, "eddsa/keygen").runs[1]
	coordinates := smallOrder()
	torsion, err := crypto.NewECPoint(tss.Edwards(), coordinates[0], coordinates[1])
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	p := torsion
	for range 8 {
		seen[fmt.Sprint(p.X(), p.Y())] = true
		if party.IsPoint(run, p.X().Bytes(), p.Y().Bytes()) {
			t.Errorf("a point of small order is taken: %v", p)
		}
		if p, err = p.Add(torsion); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 8 {
		t.Errorf("there are %d points of small order", len(seen))
	}
	for k := range int64(30) {
		q := pointsE(k + 1)
		if !party.IsPoint(run, q[0].Bytes(), q[1].Bytes()) {
			t.Errorf("the base point times %d is refused", k+1)
		}
		if party.IsPoint(run, q[0].Bytes(), new(big.Int).Add(q[1], primeE).Bytes()) {
			t.Error("a coordinate that is not reduced is taken")
		}
	}
}
