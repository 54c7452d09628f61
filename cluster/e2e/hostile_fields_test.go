package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// ending is how an attack on one participant, bob, must end.
type ending int

const (
	declines   ending = iota // bob declines the invitation, by himself
	refuses                  // bob does not run, and reports why
	ignores                  // bob does nothing at all, and the session expires at its deadline
	harmless                 // it changes nothing: the outcome is the approved one
	unattested               // bob attests the false data, and alice does not believe the key
)

// lie is a change to one field of a message from the server to bob.
type lie struct {
	name   string // of the case, beginning with the field's
	change func(o object)
	ends   ending // if requests are not signed
	reason string // bob's, in part
	blames []int  // culprits named by bob

	// signed is set for a lie about a field that the coordinator signs: if she
	// signs, bob declines at sight.
	signed bool
}

// whereabouts are the fields that identify an answer's session. After a lie about one,
// bob's answers are corrected on their way back, or the node would not accept them.
var whereabouts = []string{"key_id", "part_index", "session_id"}

// setTo is the change of one field to a value.
func setTo(field string, value any) func(object) {
	return func(o object) { o[field] = value }
}

// lying returns the attack that changes every message of a type to bob, and his
// answers so that the node accepts them.
func lying(t *testing.T, kind wire.Type, change func(object)) func(frame) []wire.Message {
	truth := map[string]any{} // by "field=lie"
	return func(f frame) []wire.Message {
		answers := f.m.Type == wire.TypeSignResponse || f.m.Type == wire.TypeKeygenResponse || f.m.Type == wire.TypePartyFailed
		if f.user != "bob" || f.up && !answers || !f.up && f.m.Type != kind {
			return []wire.Message{f.m}
		}
		var o, was object
		if err := errors.Join(json.Unmarshal(f.m.Payload, &o), json.Unmarshal(f.m.Payload, &was)); err != nil {
			t.Error(err)
		}
		if !f.up {
			change(o)
			if reflect.DeepEqual(o, was) {
				t.Error("the lie changes nothing")
			}
		}
		for _, field := range whereabouts {
			switch {
			case !f.up:
				truth[fmt.Sprint(field, "=", o[field])] = was[field]
			case truth[fmt.Sprint(field, "=", o[field])] != nil:
				o[field] = truth[fmt.Sprint(field, "=", o[field])]
			}
		}
		m := f.m
		m.Payload, _ = json.Marshal(o)
		return []wire.Message{m}
	}
}

// allFields checks that a table has a case for every field of a payload.
func allFields(t *testing.T, p wire.Payload, table []lie) {
	t.Helper()
	covered := map[string]bool{}
	for _, l := range table {
		field, _, _ := strings.Cut(l.name, " ")
		covered[field] = true
	}
	for f := range reflect.TypeOf(p).Elem().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !covered[name] {
			t.Errorf("no case changes %s of %s", name, p.Type())
		}
		delete(covered, name)
	}
	for field := range maps.Keys(covered) {
		t.Errorf("%s has no field %s", p.Type(), field)
	}
}

// expect checks bob's part of an attack and the outcome against the expected end.
func (l lie) expect(h *hostile, mark int, err error) {
	h.t.Helper()
	var out *request.OutcomeError
	if l.ends == harmless {
		if err != nil {
			h.t.Errorf("%s: got %v, want success", l.name, err)
		}
		return
	}
	if l.ends == unattested {
		var e *trust.AttestationError
		if !errors.As(err, &e) || e.Fault != trust.AttestationOther {
			h.t.Errorf("%s: got %v, want a key that is not believed", l.name, err)
		}
		return
	}
	if !errors.As(err, &out) {
		h.t.Errorf("%s: got %v, want an outcome that is none", l.name, err)
		return
	}
	if n := len(sentBy[wire.SignResult](h, mark, "")) + len(sentBy[wire.KeygenComplete](h, mark, "")); n != 0 {
		h.t.Errorf("%s: %d results all the same", l.name, n)
	}
	var reason string
	switch l.ends {
	case declines:
		for _, r := range sentBy[wire.SignResponse](h, mark, "bob") {
			if !*r.Response {
				reason = r.Reason
			}
		}
		for _, r := range sentBy[wire.KeygenResponse](h, mark, "bob") {
			if !*r.Response {
				reason = r.Reason
			}
		}
		if out.Status != wire.StatusRejected || len(out.Culprits) != 0 {
			h.t.Errorf("%s: got %v, want it rejected, and nobody blamed", l.name, out)
		}
	case refuses:
		for _, f := range sentBy[wire.PartyFailed](h, mark, "bob") {
			reason = f.Reason
			if !slices.Equal(f.Culprits, l.blames) {
				h.t.Errorf("%s: bob blames %v, want %v", l.name, f.Culprits, l.blames)
			}
		}
		if want := l.refusedAs(); out.Status != want {
			h.t.Errorf("%s: got %v, want it %s", l.name, out, want)
		}
	case ignores:
		if n := len(sentBy[wire.PartyFailed](h, mark, "bob")); n != 0 {
			h.t.Errorf("%s: bob has something to say", l.name)
		}
		if out.Status != wire.StatusExpired || !slices.Contains(out.Culprits, 1) {
			h.t.Errorf("%s: got %v, want it expired for want of bob", l.name, out)
		}
	}
	if !strings.Contains(reason, l.reason) || (l.reason == "") != (l.ends == ignores) {
		h.t.Errorf("%s: bob says %q, want %q", l.name, reason, l.reason)
	}
	if n := len(sentBy[wire.TSSMessage](h, mark, "bob")); n != 0 && l.reason != refusesRound {
		h.t.Errorf("%s: bob has sent %d round messages", l.name, n)
	}
}

const (
	otherwise    = "the coordinator has signed something else than this"
	differ       = "the parameters differ from the invitation that was approved"
	refusesRound = "the server refuses a round message"
)

// ignoredFor is how long a session goes on that bob does not know of.
const ignoredFor = 6 * time.Second

// when returns how a lie ends with signed or unsigned requests.
func (l lie) when(signs bool) lie {
	if l.signed && signs {
		l.ends, l.reason, l.blames = declines, otherwise, nil
	}
	return l
}

// refusedAs is how a session ends that bob refuses to run. His report about an
// attempt unknown to the node changes nothing, before the deadline.
func (l lie) refusedAs() wire.Status {
	if l.reason == refusesRound {
		return wire.StatusExpired
	}
	return wire.StatusFailed
}

func (l lie) expires() time.Duration {
	if l.ends == ignores || l.refusedAs() == wire.StatusExpired {
		return ignoredFor
	}
	return 0
}

// TestLiesAboutSigning changes each field of bob's messages about a signing. The
// invitation is approved regardless: lies are not stopped by attention.
func TestLiesAboutSigning(t *testing.T) {
	t.Parallel()
	signedOrNot(t, func(t *testing.T, signs bool) { lieAboutSigning(t, captured(t, signs), signs) })
}

// signedOrNot runs a test with a coordinator that signs its requests and with one
// that does not.
func signedOrNot(t *testing.T, test func(t *testing.T, signs bool)) {
	for name, signs := range map[string]bool{"signed": true, "unsigned": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, signs)
		})
	}
}

func lieAboutSigning(t *testing.T, h *hostile, signs bool) {
	key, other := h.honest(pubkey.Ed25519), h.honest(pubkey.Ed25519)
	const data, forged = "Pay 5 ether to Bob", "Pay 500 ether to Mallory"
	stranger := partytest.Identity(t).Public().String()
	invite := []lie{
		{"data alone", setTo("data", forged), declines, "the invitation's digest is not that of its data", nil, false},
		{"digest alone", setTo("digest", pubkey.Encode([]byte(forged))), declines, "the invitation's digest is not that of its data", nil, false},
		{"data with its digest", func(o object) { o["data"], o["digest"] = forged, pubkey.Encode([]byte(forged)) }, refuses, differ, nil, true},
		{"hash", setTo("hash", "keccak256"), declines, "ed25519", nil, false},
		{"key_id", setTo("key_id", other.KeyID), refuses, differ, nil, true},
		{"account_addr of another key", setTo("account_addr", other.AccountAddr), refuses, "the share is of another account address", nil, true},
		{"account_addr of another curve", setTo("account_addr", newFakeKey(t).address), declines, "hash none needs exactly 32 bytes", nil, false},
		{"account_addr with a space", setTo("account_addr", " "+key.AccountAddr), declines, "account address", nil, false},
		{"part_index", setTo("part_index", 2), declines, "the share is of another part", nil, false},
		{"participants without bob", setTo("participants", []string{"carol", "dave"}), declines, "does not name this party", nil, false},
		{"participants with a stranger", setTo("participants", []string{"bob", "carol", "mallory"}), declines, "mallory holds no part of the key", nil, false},
		{"participants without the other signer", setTo("participants", []string{"bob", "dave"}), refuses, differ, nil, true},
		{"session_id", setTo("session_id", "sg-another"), ignores, "", nil, true},
		{"session_id left out", func(o object) { delete(o, "session_id") }, ignores, "", nil, false},
		{"coordinator", setTo("coordinator", "mallory"), harmless, "", nil, true},
		{"deadline", setTo("deadline", time.Now().Add(24*time.Hour)), harmless, "", nil, false},
		{"epoch", setTo("epoch", 2), refuses, differ, nil, false},
		{"min_epoch", setTo("min_epoch", 2), declines, "the request is valid from epoch 2 on", nil, false},
		{"signed_request", setTo("signed_request", "forged"), declines, "parse signed request", nil, false},
	}
	swap := func(part float64, id string) func(o object) {
		return func(o object) {
			for _, p := range o["parties"].([]any) {
				if p := p.(map[string]any); p["part_index"] == part {
					p["identity"] = id
				}
			}
		}
	}
	params := []lie{
		{"key_id", setTo("key_id", other.KeyID), refuses, differ, nil, false},
		{"data alone", setTo("data", forged), refuses, differ, nil, false},
		{"data with its digest", func(o object) { o["data"], o["digest"] = forged, pubkey.Encode([]byte(forged)) }, refuses, differ, nil, false},
		{"digest", setTo("digest", pubkey.Encode([]byte(forged))), refuses, differ, nil, false},
		{"hash", setTo("hash", "sha256"), refuses, differ, nil, false},
		{"part_index", setTo("part_index", 2), refuses, differ, nil, false},
		{"participants", setTo("participants", "1,3"), refuses, "other parties than part indexes", nil, false},
		{"share_json", setTo("share_json", "garbage"), harmless, "", nil, false},
		{"epoch", setTo("epoch", 2), refuses, differ, nil, false},
		{"certificate", setTo("certificate", "0x"+strings.Repeat("00", 32)), harmless, "", nil, false}, // epoch 1 needs none
		{"session_id", setTo("session_id", "sg-unknown"), ignores, "", nil, false},
		{"attempt", setTo("attempt", 7), refuses, refusesRound, nil, false},
		{"attempt of nothing", setTo("attempt", 0), ignores, "", nil, false},
		{"parties with carol's identity another", swap(2, stranger), refuses, "the identity has changed: carol", []int{2}, false},
		{"parties with carol's identity dave's", swap(2, h.p["dave"].cfg.Identity.Public().String()), refuses, "the identity has changed: carol", []int{2}, false},
		{"parties with carol's identity away", swap(2, ""), refuses, "carol (part 2) has no identity", []int{2}, false},
		{"parties with carol's identity broken", swap(2, stranger[:100]), refuses, "the identity of carol (part 2) cannot be read", []int{2}, false},
		{"parties with the own identity another", swap(1, stranger), refuses, "the identity has changed: bob", nil, false},
		{"parties with bob alone", func(o object) { o["parties"], o["participants"] = o["parties"].([]any)[:1], "1" }, refuses, "fewer than the threshold", nil, false},
		{"parties with somebody who was not invited", func(o object) {
			o["parties"] = append(o["parties"].([]any), object{"part_index": 3, "user_id": "dave", "identity": h.p["dave"].cfg.Identity.Public().String()})
			o["participants"] = "1,2,3"
		}, refuses, differ, nil, false},
		{"parties with carol in dave's place", func(o object) {
			o["parties"].([]any)[1].(map[string]any)["part_index"] = 3
			o["participants"] = "1,3"
		}, refuses, "part 3 of the key is not carol", nil, false},
		{"parties in another order", func(o object) { slices.Reverse(o["parties"].([]any)) }, refuses, "other parties than part indexes", nil, false},
	}
	allFields(t, new(wire.SignInvite), invite)
	allFields(t, new(wire.SignParams), params)
	tables := map[wire.Type][]lie{wire.TypeSignInvite: invite}
	if signs { // by then it makes no difference
		tables[wire.TypeSignParams] = params
	}
	for kind, table := range tables {
		for _, l := range sample.Of(len(table)/3, table) {
			l = l.when(signs)
			mark := h.mark()
			h.attack(lying(t, kind, l.change))
			l.name = string(kind) + ": " + l.name
			sig, err := h.sign(key, data, l.expires(), "bob", "carol")
			l.expect(h, mark, err)
			h.onlySigned(mark, key, data)
			if err == nil {
				independent(t, key, data, sig.Signature)
			}
		}
	}
	h.stillSigns(key, "after all", "bob", "carol")
}

// TestLiesAboutKeygen changes each field of bob's messages about a keygen.
func TestLiesAboutKeygen(t *testing.T) {
	t.Parallel()
	signedOrNot(t, func(t *testing.T, signs bool) { lieAboutKeygen(t, captured(t, signs), signs) })
}

func lieAboutKeygen(t *testing.T, h *hostile, signs bool) {
	h.honest(pubkey.Ed25519) // so that all identities are known
	stranger := partytest.Identity(t).Public().String()
	each := func(change func(part float64, p map[string]any)) func(o object) {
		return func(o object) {
			for _, p := range o["parties"].([]any) {
				p := p.(map[string]any)
				change(p["part_index"].(float64), p)
			}
		}
	}
	swap := func(part float64, id string) func(o object) {
		return each(func(i float64, p map[string]any) {
			if i == part {
				p["identity"] = id
			}
		})
	}
	invite := []lie{
		{"key_id", setTo("key_id", "another"), refuses, differ, nil, true},
		{"threshold", setTo("threshold", 3), refuses, differ, nil, true},
		{"total_parts", setTo("total_parts", 4), harmless, "", nil, false},
		{"participants with a fourth", func(o object) {
			o["participants"], o["total_parts"] = []string{"bob", "carol", "dave", "mallory"}, 4
		}, refuses, differ, nil, true},
		{"participants in another order", setTo("participants", []string{"bob", "dave", "carol"}), refuses, differ, nil, true},
		{"participants with a stranger", setTo("participants", []string{"bob", "mallory", "dave"}), refuses, differ, nil, true},
		{"part_index", setTo("part_index", 2), declines, "a part that is not its own", nil, false},
		{"part_index of nobody", setTo("part_index", 9), declines, "a part that is not its own", nil, false},
		{"session_id", setTo("session_id", "kg-another"), ignores, "", nil, false},
		{"coordinator", setTo("coordinator", "mallory"), unattested, "", nil, true},
		{"curve", setTo("curve", "secp256k1"), refuses, differ, nil, true},
		{"curve of no name", setTo("curve", "p256"), declines, "curve", nil, false},
		{"deadline", setTo("deadline", time.Now().Add(24*time.Hour)), harmless, "", nil, false},
		{"signed_request", setTo("signed_request", "forged"), declines, "parse signed request", nil, false},
	}
	params := []lie{
		{"key_id", setTo("key_id", "another"), refuses, differ, nil, false},
		{"threshold", setTo("threshold", 3), refuses, differ, nil, false},
		{"total_parts", setTo("total_parts", 4), refuses, differ, nil, false},
		{"part_index", setTo("part_index", 2), refuses, differ, nil, false},
		{"output_file", setTo("output_file", "../../.ssh/authorized_keys"), harmless, "", nil, false},
		{"account_addr", setTo("account_addr", newFakeKey(t).address), harmless, "", nil, false},
		{"session_id", setTo("session_id", "kg-unknown"), ignores, "", nil, false},
		{"attempt", setTo("attempt", 2), refuses, refusesRound, nil, false},
		{"curve", setTo("curve", "secp256k1"), refuses, differ, nil, false},
		{"curve left out", func(o object) { delete(o, "curve") }, refuses, differ, nil, false},
		{"parties with carol's identity another", swap(2, stranger), refuses, "carol (part 2) is not trusted: client: the identity has changed", []int{2}, false},
		{"parties with carol's identity dave's", swap(2, h.p["dave"].cfg.Identity.Public().String()), refuses, "carol (part 2) is not trusted: client: the identity has changed", []int{2}, false},
		{"parties with carol's identity away", swap(2, ""), refuses, "carol (part 2) has no identity", []int{2}, false},
		{"parties with the own identity another", swap(1, stranger), refuses, "another identity than the own one", nil, false},
		{"parties with a stranger for carol", each(func(i float64, p map[string]any) {
			if i == 2 {
				p["user_id"] = "mallory"
			}
		}), refuses, differ, nil, false},
		{"parties with one away", func(o object) { o["parties"] = o["parties"].([]any)[:2] }, refuses, differ, nil, false},
		{"parties with two in each other's place", each(func(i float64, p map[string]any) {
			if i > 1 {
				p["part_index"] = 5 - i
			}
		}), refuses, differ, nil, false},
	}
	allFields(t, new(wire.KeygenInvite), invite)
	allFields(t, new(wire.KeygenParams), params)
	tables := map[wire.Type][]lie{wire.TypeKeygenInvite: invite}
	if signs {
		tables[wire.TypeKeygenParams] = params
	}
	for kind, table := range tables {
		for _, l := range sample.Of(len(table)/3, table) {
			l = l.when(signs)
			mark := h.mark()
			h.attack(lying(t, kind, l.change))
			l.name = string(kind) + ": " + l.name
			key, err := h.keygen(pubkey.Ed25519, l.expires())
			l.expect(h, mark, err)
			if err == nil {
				h.sameKey(key)
			}
		}
	}
	h.stillSigns(h.honest(pubkey.Ed25519), "after all", "bob", "carol")
}

// sameKey checks that the three participants have shares of the key, and of the same
// committee.
func (h *hostile) sameKey(key client.Key) {
	h.t.Helper()
	for i, user := range partUsers {
		_, public := h.share(user, key)
		if public.PublicKey != key.PublicKey || public.PartIndex != i+1 || public.Threshold != 2 || public.TotalParts != 3 {
			h.t.Errorf("%s has part %d of another key", user, public.PartIndex)
		}
		for j, other := range partUsers {
			if public.Parties[j].User != other || public.Parties[j].Identity != h.p[other].cfg.Identity.Public() {
				h.t.Errorf("to %s, part %d is not %s", user, j+1, other)
			}
		}
	}
}
