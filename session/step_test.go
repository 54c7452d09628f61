package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// The tables below list the effect of every event from every sender in every scene:
//
//   - takes effect          .  has no effect
//     F  forbidden             C  conflict
//     E  session_ended         B  bad_request
//
// Senders that are not parties claim part 1; dave holds part 4 of the signing key but
// is not invited, and has no part in the keygen; eve is an unrelated user.
//
// Scenes of a keygen among alice, bob and carol: inviting (alice has accepted);
// running (all have, alice has reported); stored (all have reported); completed;
// rejected (by carol, bob had not answered); expired (with alice's answer
// alone); failed (by bob, alice had reported); cancelled (alice had accepted).
const keygenTable = `
                        inviting running stored completed rejected expired failed cancelled
accept        alice        .        .      .       .         .        .      .       .
accept        bob          +        .      .       .         E        E      .       E
accept        carol        +        .      .       .         E        E      .       E
accept        others       F        F      F       F         F        F      F       F
decline       alice        C        C      C       E         E        E      E       E
decline       bob          +        C      C       E         E        E      E       E
decline       carol        +        C      C       E         .        E      E       E
decline       others       F        F      F       F         F        F      F       F
accept-sign   all          B        B      B       B         B        B      B       B
report        alice        C        .      .       .         E        E      .       E
report        bob          C        +      .       .         E        E      E       E
report        carol        C        +      .       .         E        E      E       E
report        others       F        F      F       F         F        F      F       F
report-other  alice        C        C      C       E         E        E      E       E
report-other  bob          C        +      C       E         E        E      E       E
report-other  others       F        F      F       F         F        F      F       F
report-bad    alice        B        B      B       B         B        B      B       B
sign          all          B        B      B       B         B        B      B       B
fail          parties      C        +      .       .         .        .      .       .
fail          others       F        F      F       F         F        F      F       F
blame-nobody  parties      B        B      B       B         B        B      B       B
cancel        boss         +        +      C       E         E        E      E       .
cancel        admin        +        +      C       E         E        E      E       .
cancel        parties      F        F      F       F         F        F      F       F
cancel        dave         F        F      F       F         F        F      F       F
cancel        eve          F        F      F       F         F        F      F       F
key-stored    server       C        C      +       .         E        E      E       E
key-lost      server       C        C      +       .         .        .      .       .
mailbox-full  server       +        +      .       .         .        .      .       .
tick-early    server       .        .      .       .         .        .      .       .
tick-offline  server       .        +      .       .         .        .      .       .
tick-late     server       +        +      .       .         .        .      .       .
`

// Scenes of a signing, 2 of alice, bob, carol and dave, the first three invited:
// inviting (alice has accepted); running (alice and bob sign, carol has not
// answered); waiting (as before, but bob has left and carol is waited for);
// completed (by alice); rejected (by bob and carol); expired (with alice's
// answer alone); failed (carol declined, then bob left); cancelled (alice had
// accepted).
const signTable = `
                        inviting running waiting completed rejected expired failed cancelled
accept        alice        .        .      .       .         .        .      .       .
accept        bob          +        .      .       .         E        E      .       E
accept        carol        +        +      +       E         E        E      E       E
accept        others       F        F      F       F         F        F      F       F
decline       alice        C        C      C       E         E        E      E       E
decline       bob          +        C      C       E         .        E      E       E
decline       carol        +        +      +       E         .        E      .       E
decline       others       F        F      F       F         F        F      F       F
accept-keygen all          B        B      B       B         B        B      B       B
report        all          B        B      B       B         B        B      B       B
sign          alice        C        +      +       .         F        F      E       F
sign          bob          C        +      +       .         F        F      E       F
sign          carol        C        F      F       F         F        F      F       F
sign          others       F        F      F       F         F        F      F       F
sign-bad      alice        C        +      +       .         F        F      E       F
sign-bad      carol        C        F      F       F         F        F      F       F
sign-bad      others       F        F      F       F         F        F      F       F
fail          alice        C        +      .       .         .        .      .       .
fail          bob          C        +      .       .         .        .      .       .
fail          carol        C        .      .       .         .        .      .       .
fail          others       F        F      F       F         F        F      F       F
blame-nobody  parties      B        B      B       B         B        B      B       B
cancel        boss         +        +      +       E         E        E      E       .
cancel        admin        +        +      +       E         E        E      E       .
cancel        parties      F        F      F       F         F        F      F       F
cancel        dave         F        F      F       F         F        F      F       F
cancel        eve          F        F      F       F         F        F      F       F
key-stored    server       B        B      B       B         B        B      B       B
key-lost      server       B        B      B       B         B        B      B       B
mailbox-full  server       .        +      .       .         .        .      .       .
no-room-new   server       +        +      +       .         .        .      .       .
share-used    server       .        +      .       .         .        .      .       .
tick-early    server       .        .      .       .         .        .      .       .
tick-offline  server       .        +      .       .         .        .      .       .
tick-late     server       +        +      +       .         .        .      .       .
`

func TestStepKeygen(t *testing.T) {
	t.Parallel()
	checkTable(t, keygenTable, scenes(t, newKeygen(2, "alice", "bob", "carol")))
}

func TestStepSign(t *testing.T) {
	t.Parallel()
	checkTable(t, signTable, scenes(t, newSigning(2, 3, "alice", "bob", "carol", "dave")))
}

// scene is a session in the state of a column of the table.
type scene struct {
	s   Session
	now time.Time
}

func scenes(t *testing.T, s Session) map[string]scene {
	const second = time.Second
	alice := at{0, s.accept(1)}
	all := []at{alice, {second, s.accept(2)}, {second, s.accept(3)}}
	late := at{2 * time.Minute, Tick{}}
	gone := []at{{2 * second, Tick{Offline: []int{2}}}, {30 * second, Tick{Offline: []int{2}}}}
	paths := map[string][]at{
		"inviting":  {alice},
		"expired":   {alice, late},
		"cancelled": {alice, {second, Cancel{From: boss}}},
	}
	if s.Kind == Keygen {
		running := append(all, at{2 * second, s.generated(1, theKey)})
		stored := append(running, at{2 * second, s.generated(2, theKey)}, at{2 * second, s.generated(3, theKey)})
		paths["running"] = running
		paths["stored"] = stored
		paths["completed"] = append(stored, at{2 * second, KeyStored{}})
		paths["rejected"] = []at{alice, {second, s.decline(3)}}
		paths["failed"] = append(running[:4:4], at{3 * second, s.failed(2)})
	} else {
		paths["running"] = all[:2]
		paths["waiting"] = append(all[:2:2], gone...)
		paths["completed"] = append(all[:2:2], at{2 * second, s.signed(1, theKey)})
		paths["rejected"] = []at{alice, {second, s.decline(2)}, {second, s.decline(3)}}
		paths["failed"] = append([]at{alice, {second, s.decline(3)}, {second, s.accept(2)}}, gone...)
	}
	out := map[string]scene{}
	for name, path := range paths {
		s, now := play(t, s, path...)
		if want := strings.NewReplacer("stored", "running", "waiting", "running").Replace(name); string(s.Phase) != want {
			t.Fatalf("scene %s is in phase %s", name, s.Phase)
		}
		out[name] = scene{s, now}
	}
	return out
}

// checkTable runs every cell.
func checkTable(t *testing.T, table string, scenes map[string]scene) {
	lines := strings.Split(strings.TrimSpace(table), "\n")
	columns := strings.Fields(lines[0])
	if len(columns) != len(scenes) {
		t.Fatalf("%d columns for %d scenes", len(columns), len(scenes))
	}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for _, sender := range senders(cells[1]) {
			for i, column := range columns {
				sc := scenes[column]
				ev, now := event(sc, cells[0], sender)
				name := fmt.Sprintf("%s: %s by %s", column, cells[0], sender)
				checkCell(t, name, cells[2+i], sc.s, ev, now)
			}
		}
	}
}

func senders(group string) []string {
	switch group {
	case "all":
		return []string{"alice", "bob", "carol", "dave", "eve", "admin", boss}
	case "parties":
		return []string{"alice", "bob", "carol"}
	case "strangers":
		return []string{"eve", "admin", boss}
	case "others":
		return []string{"dave", "eve", "admin", boss}
	}
	return []string{group}
}

// event makes the named event as sender would send it in a scene.
func event(sc scene, name, sender string) (Event, time.Time) {
	part := 1
	for i, p := range sc.s.Parties {
		if p.User == sender {
			part = i + 1
		}
	}
	other := map[Kind]Kind{Keygen: Sign, Sign: Keygen, Reshare: Sign}[sc.s.Kind]
	answer := Responded{Kind: sc.s.Kind, From: sender, Party: part}
	report := Generated{From: sender, Party: part, AccountAddr: theKey.Address, PublicKey: theKey.Public}
	digest := sc.s.Digest
	if digest == "" {
		digest = "0x" + strings.Repeat("11", 32)
	}
	var ev Event
	now := sc.now
	switch name {
	case "accept":
		answer.Accept = true
		ev = answer
	case "decline":
		ev = answer
	case "accept-sign", "accept-keygen":
		answer.Kind, answer.Accept = other, true
		ev = answer
	case "report":
		ev = report
	case "report-other":
		report.AccountAddr, report.PublicKey = anotherKey.Address, anotherKey.Public
		ev = report
	case "report-bad":
		report.PublicKey = anotherKey.Public
		ev = report
	case "sign":
		ev = Signed{From: sender, Party: part, Signature: theKey.Sign(digest)}
	case "sign-bad":
		ev = Signed{From: sender, Party: part, Signature: anotherKey.Sign(digest)}
	case "fail":
		ev = PartyFailed{From: sender, Party: part, Reason: "broken"}
	case "blame-nobody":
		ev = PartyFailed{From: sender, Party: part, Culprits: []int{0}}
	case "cancel":
		ev = Cancel{From: sender, Admin: sender == "admin"}
	case "key-stored":
		ev = KeyStored{}
	case "key-lost":
		ev = KeyLost{}
	case "mailbox-full":
		ev = Undeliverable{User: "alice"}
	case "no-room-new":
		ev = Undeliverable{User: "carol", Payer: boss}
	case "share-used":
		ev = Undeliverable{User: "bob", Payer: "alice", Party: 1, Attempt: sc.s.Attempt}
	case "tick-early":
		ev = Tick{}
	case "tick-offline":
		ev = Tick{Offline: []int{2}}
	case "tick-late":
		ev, now = Tick{}, began.Add(time.Hour)
	default:
		panic("no such event: " + name)
	}
	return ev, now
}

func checkCell(t *testing.T, name, want string, s Session, ev Event, now time.Time) {
	t.Helper()
	before := s.clone()
	next, out, err := Step(s, ev, now)
	if diff := cmp.Diff(before, s); diff != "" {
		t.Errorf("%s: Step changed its argument: %s", name, diff)
	}
	got := "+"
	switch {
	case err != nil:
		got = errorLetter(err)
	case next.Same(s):
		got = "."
	}
	if got != want {
		t.Errorf("%s: got %s, want %s (error: %v)", name, got, want, err)
	}
	if got != "+" && (!next.Same(s) || len(out) > 0) {
		t.Errorf("%s: changed something or said %d messages without effect", name, len(out))
	}
	if err := stepFault(s, next, out); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func errorLetter(err error) string {
	var e *wire.Error
	if !errors.As(err, &e) {
		return "not a client's error"
	}
	letters := map[wire.Code]string{
		wire.CodeForbidden: "F", wire.CodeConflict: "C", wire.CodeSessionEnded: "E", wire.CodeBadRequest: "B",
	}
	return letters[e.Code]
}

// stepFault checks one step against the invariants of all steps.
func stepFault(s, next Session, out []Outgoing) error {
	changed := !next.Same(s)
	switch {
	case s.Phase.Final() && changed:
		return errors.New("a final phase changed")
	case next.Phase != s.Phase && !s.Phase.leadsTo(next.Phase):
		return fmt.Errorf("%s does not lead to %s", s.Phase, next.Phase)
	case next.Attempt < s.Attempt || next.Attempt > s.Attempt+1:
		return fmt.Errorf("attempt went from %d to %d", s.Attempt, next.Attempt)
	case next.Version != s.Version:
		return errors.New("the version is the store's to change")
	}
	last := 0
	for _, c := range next.Culprits {
		if c <= last || c > len(next.Parties) {
			return fmt.Errorf("culprits are not ascending part indexes: %v", next.Culprits)
		}
		last = c
	}
	ended := map[string]int{}
	for _, o := range out {
		switch o.Payload.(type) {
		case *wire.KeygenConfirm, *wire.SignComplete, *wire.ReshareConfirm:
			ended["outcome to "+o.To]++
		case *wire.SessionEnded:
			ended[o.To]++
		}
	}
	want := map[string]int{}
	if next.Phase.Final() && !s.Phase.Final() {
		want["outcome to "+s.Coordinator] = 1
		for _, user := range s.InvitedUsers() {
			want[user] = 1
		}
	}
	if err := numberFault(s, next, out); err != nil {
		return err
	}
	if diff := cmp.Diff(want, ended); diff != "" {
		return fmt.Errorf("the end is said wrongly: %s", diff)
	}
	return nil
}

// TestGraph checks the transitions: two open phases, five ends, each reachable.
func TestGraph(t *testing.T) {
	t.Parallel()
	reachable := map[Phase]bool{Inviting: true}
	for range transitions {
		for from, next := range transitions {
			for _, to := range next {
				reachable[to] = reachable[to] || reachable[from]
			}
		}
	}
	for _, p := range []Phase{Completed, Rejected, Expired, Failed, Cancelled} {
		if !p.Final() || !reachable[p] || p.Status() == "" {
			t.Errorf("%s: final %t, reachable %t, status %q", p, p.Final(), reachable[p], p.Status())
		}
	}
	for _, p := range []Phase{Inviting, Running} {
		if p.Final() || !reachable[p] || p.Status() != "" {
			t.Errorf("%s: final %t, reachable %t, status %q", p, p.Final(), reachable[p], p.Status())
		}
	}
	if len(reachable) != 7 {
		t.Errorf("got %d phases, want 7", len(reachable))
	}
}
