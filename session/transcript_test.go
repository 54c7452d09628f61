package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestTranscripts plays testdata/*.txt. A line there is a comment (#), a message from a
// user (alice: sign_response yes), the passing of time (after 30s, without bob), or,
// indented, a result: a message (-> bob sign_params), the session's changed state (=),
// an error (!). The indented lines are checked, and written with -update. A transcript
// begins with its request:
//
//	boss: keygen_request 2 of alice bob carol
//	boss: sign_request 2 of alice bob carol, inviting alice carol
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := playTranscript(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("run with -update if this is right:\n%s", diff)
			}
		})
	}
}

func playTranscript(t *testing.T, script string) string {
	var b strings.Builder
	p := player{t: t, now: began, b: &b}
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "    ") {
			continue
		}
		fmt.Fprintln(&b, line)
		if line != "" && !strings.HasPrefix(line, "#") {
			p.line(line)
		}
	}
	return b.String()
}

type player struct {
	t   *testing.T
	s   Session
	now time.Time
	b   *strings.Builder
}

func (p *player) line(line string) {
	if rest, ok := strings.CutPrefix(line, "after "); ok {
		p.pass(rest)
		return
	}
	who, said, ok := strings.Cut(line, ": ")
	words := strings.Fields(said)
	if !ok || len(words) == 0 {
		p.t.Fatalf("not understood: %s", line)
	}
	p.now = p.now.Add(time.Second)
	switch words[0] {
	case "keygen_request", "sign_request":
		p.request(words[0], said)
		return
	}
	p.step(p.event(who, words[0], words[1:]))
}

// request begins the session.
func (p *player) request(kind, said string) {
	list, invited, _ := strings.Cut(said, ", inviting ")
	var threshold int
	if _, err := fmt.Sscanf(list, kind+" %d of ", &threshold); err != nil {
		p.t.Fatalf("%s: %v", said, err)
	}
	users := strings.Fields(list)[3:]
	p.s = newKeygen(threshold, users...)
	if kind == "sign_request" {
		p.s = newSigning(threshold, len(users), users...)
		for i, u := range users {
			p.s.Parties[i].Invited = invited == "" || slices.Contains(strings.Fields(invited), u)
		}
	}
	s, out := Begin(p.s, p.now)
	p.report(Session{}, s, out)
	p.s = s
}

// pass advances the time: "30s" or "30s, without bob carol".
func (p *player) pass(how string) {
	length, without, _ := strings.Cut(how, ", without ")
	d, err := time.ParseDuration(length)
	if err != nil {
		p.t.Fatalf("after %s: %v", how, err)
	}
	p.now = p.now.Add(d)
	var offline []int
	for _, u := range strings.Fields(without) {
		offline = append(offline, p.part(u))
	}
	p.step(Tick{Offline: offline})
}

func (p *player) part(user string) int {
	return slices.IndexFunc(p.s.Parties, func(q Party) bool { return q.User == user }) + 1
}

func (p *player) event(who, what string, args []string) Event {
	part := p.part(who)
	arg := strings.Join(args, " ")
	key := theKey
	if arg == "another key" || arg == "invalid" {
		key = anotherKey
	}
	reason, blamed, _ := strings.Cut(arg, ", blaming ")
	switch what {
	case "keygen_response", "sign_response":
		kind := map[string]Kind{"keygen_response": Keygen, "sign_response": Sign}[what]
		answer, reason, _ := strings.Cut(arg, ", ")
		return Responded{Kind: kind, From: who, Party: part, Accept: answer == "yes", Reason: reason, Identity: "id-" + who}
	case "keygen_complete":
		return Generated{From: who, Party: part, AccountAddr: key.Address, PublicKey: key.Public}
	case "key_stored":
		return KeyStored{}
	case "key_lost":
		return KeyLost{}
	case "mailbox_full":
		user, payer, _ := strings.Cut(arg, ", share of ")
		return Undeliverable{User: user, Payer: payer}
	case "sign_result":
		return Signed{From: who, Party: part, Signature: key.Sign(p.s.Digest)}
	case "party_failed":
		ev := PartyFailed{From: who, Party: part, Reason: reason}
		for _, u := range strings.Fields(blamed) {
			ev.Culprits = append(ev.Culprits, p.part(u))
		}
		return ev
	case "session_cancel":
		return Cancel{From: who, Admin: who == "admin", Reason: arg}
	}
	p.t.Fatalf("%s says %s: not understood", who, what)
	return nil
}

func (p *player) step(ev Event) {
	next, out, err := Step(p.s, ev, p.now)
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
		fmt.Fprintf(p.b, "    ! %s: %s\n", refused.Code, refused.Message)
	case err != nil:
		p.t.Fatal(err)
	}
	if fault := stepFault(p.s, next, out); fault != nil {
		p.t.Error(fault)
	}
	p.report(p.s, next, out)
	p.s = next
}

// report writes a step's messages and changes.
func (p *player) report(from, to Session, out []Outgoing) {
	for _, o := range out {
		fmt.Fprintf(p.b, "    -> %s %s %s\n", o.To, o.Payload.Type(), p.summary(o.Payload))
	}
	if from.Phase == to.Phase && from.Attempt == to.Attempt {
		return
	}
	fmt.Fprintf(p.b, "    = %s", to.Phase)
	if to.Phase == Running {
		fmt.Fprintf(p.b, ", attempt %d", to.Attempt)
	}
	if !to.Phase.Final() {
		fmt.Fprintf(p.b, ", until %s", to.Deadline.Sub(began))
	}
	fmt.Fprintln(p.b)
}

// summary formats the relevant fields of a message.
func (p *player) summary(m wire.Payload) string {
	users := func(parties []wire.Party) string {
		var list []string
		for _, q := range parties {
			list = append(list, fmt.Sprintf("%d=%s/%s", q.PartIndex, q.UserID, q.Identity))
		}
		return strings.Join(list, " ")
	}
	ended := func(status wire.Status, reason string, culprits []int) string {
		text := string(status)
		if reason != "" {
			text += fmt.Sprintf(" %q", reason)
		}
		if len(culprits) > 0 {
			text += " culprits " + wire.FormatParts(culprits)
		}
		return text
	}
	switch m := m.(type) {
	case *wire.KeygenInvite:
		return fmt.Sprintf("part %d, %d of %d", m.PartIndex, m.Threshold, m.TotalParts)
	case *wire.KeygenParams:
		return fmt.Sprintf("part %d, %d of %d: %s", m.PartIndex, m.Threshold, m.TotalParts, users(m.Parties))
	case *wire.KeygenConfirm:
		return strings.TrimSpace(ended(m.Status, m.Reason, m.Culprits) + " " + m.AccountAddr)
	case *wire.SignInvite:
		return fmt.Sprintf("part %d, %q, %s", m.PartIndex, m.Data, m.Hash)
	case *wire.SignParams:
		return fmt.Sprintf("part %d, signing %s: %s", m.PartIndex, m.Participants, users(m.Parties))
	case *wire.SignComplete:
		text := ended(m.Status, m.Reason, m.Culprits)
		if m.Signature == theKey.Sign(p.s.Digest) {
			text += " with the key's signature"
		}
		return text
	case *wire.SessionEnded:
		return ended(m.Status, m.Reason, m.Culprits)
	}
	return "?"
}
