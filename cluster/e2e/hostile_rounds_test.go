package e2e_test

import (
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// before returns the attack that puts forgeries in front of every round message to a
// user: if one were accepted, the true one that follows would find its place filled.
func before(forge func(user string, m *wire.TSSMessage) []*wire.TSSMessage) func(frame) []wire.Message {
	return func(f frame) []wire.Message {
		m, ok := read[wire.TSSMessage](f.m)
		if !ok || f.up {
			return []wire.Message{f.m}
		}
		var out []wire.Message
		for _, forged := range forge(f.user, m) {
			out = append(out, write(wire.Message{UserID: f.user}, forged))
		}
		return append(out, f.m)
	}
}

// relabelled returns earlier round messages to a user with the address of m, as a
// server would copy them into another session or attempt.
func relabelled(earlier []frame, user string, m *wire.TSSMessage) []*wire.TSSMessage {
	var list []*wire.TSSMessage
	for _, f := range earlier {
		old, ok := read[wire.TSSMessage](f.m)
		if !ok || f.up || f.user != user || old.SessionID == m.SessionID && old.Attempt == m.Attempt {
			continue
		}
		old.SessionID, old.Attempt = m.SessionID, m.Attempt
		list = append(list, old)
	}
	return list
}

// TestForgedRounds puts forgeries in front of each round message of a signing. All
// of them are refused, no culprit is named, and the signing ends normally.
func TestForgedRounds(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	key := h.honest(pubkey.Ed25519)
	old := h.mark()
	h.stillSigns(key, "an earlier one", "bob", "carol")
	earlier := h.since(old)
	part := map[string]int{"bob": 1, "carol": 2}
	flip := func(text string, at int) string {
		raw, _ := base64.StdEncoding.DecodeString(text)
		raw[(at+len(raw))%len(raw)] ^= 1
		return base64.StdEncoding.EncodeToString(raw)
	}
	changed := func(change func(m *wire.TSSMessage)) func(string, *wire.TSSMessage) []*wire.TSSMessage {
		return func(_ string, m *wire.TSSMessage) []*wire.TSSMessage {
			forged := *m
			change(&forged)
			return []*wire.TSSMessage{&forged}
		}
	}
	for name, forge := range map[string]func(user string, m *wire.TSSMessage) []*wire.TSSMessage{
		"another session's": func(user string, m *wire.TSSMessage) []*wire.TSSMessage { return relabelled(earlier, user, m) },
		"its own, as the other's": func(user string, m *wire.TSSMessage) []*wire.TSSMessage {
			var list []*wire.TSSMessage
			for _, own := range sentBy[wire.TSSMessage](h, 0, user) {
				if own.SessionID == m.SessionID {
					own.From = m.From
					list = append(list, own)
				}
			}
			return list
		},
		"its own, as its own": func(user string, m *wire.TSSMessage) []*wire.TSSMessage {
			var list []*wire.TSSMessage
			for _, own := range sentBy[wire.TSSMessage](h, 0, user) {
				if own.SessionID == m.SessionID {
					list = append(list, own)
				}
			}
			return list
		},
		"a third party's name": changed(func(m *wire.TSSMessage) { m.From = 3 }),
		"a broadcast for one": func(user string, m *wire.TSSMessage) []*wire.TSSMessage {
			return []*wire.TSSMessage{{SessionID: m.SessionID, Attempt: m.Attempt, From: m.From, To: part[user], Body: m.Body, Sig: m.Sig}}
		},
		"another format":           changed(func(m *wire.TSSMessage) { m.Body = flip(m.Body, 0) }),
		"another round":            changed(func(m *wire.TSSMessage) { m.Body = flip(m.Body, 1) }),
		"another content":          changed(func(m *wire.TSSMessage) { m.Body = flip(m.Body, 10) }),
		"another end":              changed(func(m *wire.TSSMessage) { m.Body = flip(m.Body, -1) }),
		"another signature":        changed(func(m *wire.TSSMessage) { m.Sig = flip(m.Sig, 5) }),
		"no signature":             changed(func(m *wire.TSSMessage) { m.Sig = "" }),
		"a signature of something": changed(func(m *wire.TSSMessage) { m.Sig = earlierSig(earlier) }),
	} {
		data, mark, refused := "approved, though before it came "+name, h.mark(), h.unauthentic()
		h.attack(before(forge))
		sig, err := h.sign(key, data, 0, "bob", "carol")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		independent(t, key, data, sig.Signature)
		h.onlySigned(mark, key, data)
		if n := len(sentBy[wire.PartyFailed](h, mark, "")); n != 0 {
			t.Errorf("%s: %d attempts failed, and somebody was blamed", name, n)
		}
		// The first ones are certainly refused; later ones may find the run over.
		if n := h.unauthentic() - refused; n < 2 {
			t.Errorf("%s: %d messages refused, want at least one by each party", name, n)
		}
	}
}

func earlierSig(earlier []frame) string {
	for _, f := range earlier {
		if m, ok := read[wire.TSSMessage](f.m); ok {
			return m.Sig
		}
	}
	return ""
}

// TestRepeatedRounds delivers everything three times, late, and in random order.
func TestRepeatedRounds(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	for name, attack := range map[string]func(f frame) []wire.Message{
		"repeated": func(f frame) []wire.Message {
			if f.up {
				return []wire.Message{f.m}
			}
			again := f.m
			again.Seq = 0 // a seq that was seen before would be skipped
			return []wire.Message{f.m, again, again}
		},
		"reordered": func(f frame) []wire.Message {
			if f.up || f.m.Type != wire.TypeTSSMessage {
				return []wire.Message{f.m}
			}
			late := f.m
			late.Seq = 0
			time.AfterFunc(rand.N(100*time.Millisecond), func() { h.tell(f.user, late) })
			return nil
		},
	} {
		mark := h.mark()
		h.attack(attack)
		key, err := h.keygen(pubkey.Ed25519, 0)
		if err != nil {
			t.Fatalf("%s: keygen: %v", name, err)
		}
		h.sameKey(key)
		sig, err := h.sign(key, name, 0)
		if err != nil {
			t.Fatalf("%s: sign: %v", name, err)
		}
		independent(t, key, name, sig.Signature)
		if n := len(sentBy[wire.PartyFailed](h, mark, "")); n != 0 {
			t.Errorf("%s: %d parties could not go on", name, n)
		}
		if n := len(sentBy[wire.KeygenComplete](h, mark, "")); n != 3 {
			t.Errorf("%s: %d parties have reported a key", name, n)
		}
	}
}

// TestMisdirectedShares gives each party first a message meant for another: it
// cannot open it, and must not blame its sender.
func TestMisdirectedShares(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	refused := h.unauthentic()
	h.attack(func(f frame) []wire.Message {
		if m, ok := read[wire.TSSMessage](f.m); ok && f.up && m.To != 0 {
			other := 6 - m.From - m.To
			m.To = other
			h.tell(partUsers[other-1], write(wire.Message{}, m))
		}
		return []wire.Message{f.m}
	})
	key, err := h.keygen(pubkey.Ed25519, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.sameKey(key)
	if n := h.unauthentic() - refused; n == 0 {
		t.Error("nothing was refused")
	}
	if n := len(sentBy[wire.PartyFailed](h, 0, "")); n != 0 {
		t.Errorf("%d parties could not go on", n)
	}
}

// TestMovedRounds runs two signings concurrently and puts the messages of each into
// the other, and those of a given-up attempt into the next.
func TestMovedRounds(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	key := h.honest(pubkey.Ed25519)
	mark, refused := h.mark(), h.unauthentic()
	h.attack(before(func(user string, m *wire.TSSMessage) []*wire.TSSMessage { return relabelled(h.since(mark), user, m) }))
	var both sync.WaitGroup
	for _, data := range []string{"one of two", "the other of two"} {
		both.Go(func() {
			sig, err := h.sign(key, data, 0, "bob", "carol")
			if err != nil {
				t.Errorf("%s: %v", data, err)
				return
			}
			independent(t, key, data, sig.Signature)
		})
	}
	both.Wait()
	if n := h.unauthentic() - refused; n == 0 {
		t.Error("no message was moved")
	}

	// The attacker gives up the first attempt in carol's name, and keeps its
	// messages.
	mark, refused = h.mark(), h.unauthentic()
	gaveUp := false
	move := before(func(user string, m *wire.TSSMessage) []*wire.TSSMessage { return relabelled(h.since(mark), user, m) })
	h.attack(func(f frame) []wire.Message {
		m, ok := read[wire.TSSMessage](f.m)
		if !ok || f.up || m.Attempt > 1 {
			return move(f)
		}
		if !gaveUp {
			gaveUp = true
			h.speak("carol", &wire.PartyFailed{SessionID: m.SessionID, Attempt: 1, PartIndex: 2, Reason: "forged"})
		}
		return nil
	})
	const data = "in the second attempt"
	sig, err := h.sign(key, data, 0, "bob", "carol")
	if err != nil {
		t.Fatal(err)
	}
	independent(t, key, data, sig.Signature)
	h.onlySigned(mark, key, data)
	if params := toldTo[wire.SignParams](h, mark, "bob"); len(params) < 2 {
		t.Errorf("bob was in %d attempts, want two", len(params))
	}
	if n := h.unauthentic() - refused; n == 0 {
		t.Error("no message of the first attempt was refused in the second")
	}
}

// TestWithheldRounds withholds messages from one party. No party hangs, no key is
// confirmed, and no signature made.
func TestWithheldRounds(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	key := h.honest(pubkey.Ed25519)
	earlier := h.since(0)
	patient := func(silence time.Duration) {
		for _, user := range partUsers {
			h.p[user].stop()
			h.p[user].part.SignSilence, h.p[user].part.KeygenSilence = silence, silence
			h.enter(user)
		}
	}
	patient(5 * time.Second)
	// withhold withholds dave's messages from carol, or replaces them.
	withhold := func(code byte, instead func(*wire.TSSMessage) []*wire.TSSMessage) func(f frame) []wire.Message {
		return func(f frame) []wire.Message {
			m, ok := read[wire.TSSMessage](f.m)
			if !ok || f.up || f.user != "carol" || m.From != 3 || roundCode(m) != code {
				return []wire.Message{f.m}
			}
			var out []wire.Message
			if instead != nil {
				for _, other := range instead(m) {
					out = append(out, write(f.m, other))
				}
			}
			return out
		}
	}
	fromEarlier := func(m *wire.TSSMessage) []*wire.TSSMessage {
		return slices.DeleteFunc(relabelled(earlier, "carol", m), func(e *wire.TSSMessage) bool { return e.From != 3 || roundCode(e) != roundCode(m) })
	}
	for _, tc := range sample.Of(2, []struct {
		name    string
		code    byte
		instead func(*wire.TSSMessage) []*wire.TSSMessage
	}{
		{"a commitment", 1, nil},
		{"a commitment, for that of another keygen", 1, fromEarlier},
		{"a share", 2, nil},
		{"a share, for that of another keygen", 2, fromEarlier},
		{"a decommitment", 3, nil},
		{"an echo", 0x80 | 1, nil},
		{"the last echo", 0x80 | 2, nil},
	}) {
		mark, refused := h.mark(), h.unauthentic()
		h.attack(withhold(tc.code, tc.instead))
		_, err := h.keygen(pubkey.Ed25519, 0)
		var out *request.OutcomeError
		if !errors.As(err, &out) || out.Status != wire.StatusFailed || !strings.Contains(out.Reason, "no word from part") {
			t.Errorf("%s: got %v, want it failed for silence", tc.name, err)
			continue
		}
		for _, f := range sentBy[wire.PartyFailed](h, mark, "carol") {
			// On a busy machine others may be late as well.
			if !slices.Contains(f.Culprits, 3) {
				t.Errorf("%s: carol waits for %v, want part 3 among them", tc.name, f.Culprits)
			}
		}
		done := sentBy[wire.KeygenComplete](h, mark, "")
		if len(toldTo[wire.KeygenConfirm](h, mark, "alice")) != 1 || len(done) > 2 {
			t.Errorf("%s: %d parties have a key", tc.name, len(done))
		}
		// Of the last round the others have all they need. They then hold shares of
		// a key that was never confirmed, and whose address is unknown.
		if last := tc.code&0x7f >= 2 && tc.code != 3; !last && len(done) != 0 {
			t.Errorf("%s: %d parties have a key that carol has not", tc.name, len(done))
		}
		if tc.instead != nil && h.unauthentic() == refused {
			t.Errorf("%s: nothing was refused", tc.name)
		}
	}

	// A signing that no party can finish.
	mark := h.mark()
	h.attack(func(f frame) []wire.Message {
		if m, ok := read[wire.TSSMessage](f.m); ok && !f.up && roundCode(m) == 2 {
			return nil
		}
		return []wire.Message{f.m}
	})
	_, err := h.sign(key, "without the second round", 0, "bob", "carol")
	var out *request.OutcomeError
	if !errors.As(err, &out) || out.Status != wire.StatusFailed || !strings.Contains(out.Reason, "no word from part") || slices.Contains(out.Culprits, 3) {
		t.Errorf("signing: got %v, want it failed for silence, and dave not blamed", err)
	}
	if n := len(sentBy[wire.SignResult](h, mark, "")); n != 0 {
		t.Errorf("there are %d signatures", n)
	}
	patient(mpcWithin)
	h.stillSigns(key, "after all", "bob", "carol")
}

// roundCode is the second byte of a round message's body.
func roundCode(m *wire.TSSMessage) byte {
	raw, err := base64.StdEncoding.DecodeString(m.Body)
	if err != nil || len(raw) < 2 {
		return 0
	}
	return raw[1]
}
