package wire_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// absent removes a field.
type absent struct{}

// rule is one field of a valid message broken in one way.
type rule struct {
	field string
	value any
	code  wire.Code
	says  string
}

func list(n int, entry func(i int) any) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = entry(i)
	}
	return out
}

func bad(field string, value any, says string) rule {
	return rule{field, value, wire.CodeBadRequest, says}
}

func id(field string, optional bool) []rule {
	says := field + " must be 1 to 128 bytes"
	rules := []rule{
		bad(field, "a:b", says), bad(field, "{a}", says), bad(field, "a\nb", says), bad(field, strings.Repeat("x", 200), says), bad(field, 7, "must be a string"),
	}
	if !optional {
		rules = append(rules, bad(field, "", field+" is missing"), bad(field, absent{}, field+" is missing"))
	}
	return rules
}

func long(field string, most int) []rule {
	return []rule{{field, strings.Repeat("x", most+1), wire.CodeTooLarge, field + " is longer than"}}
}

func required(field string, most int) []rule {
	return append(long(field, most), bad(field, "", field+" is missing"), bad(field, absent{}, field+" is missing"))
}

func line(field string, most int) []rule {
	return append(long(field, most), bad(field, "a\x1b[2Jb", field+" has control characters"), bad(field, "a\nb", field+" has control characters"))
}

func part(field string) []rule {
	return []rule{bad(field, 0, field), bad(field, -1, field), bad(field, wire.MaxParties+1, field), bad(field, absent{}, field)}
}

func committeeRules() []rule {
	return []rule{
		bad("threshold", 1, "threshold must be from 2"), bad("threshold", 0, "threshold"), bad("threshold", -2, "threshold"),
		bad("threshold", 4, "threshold"), bad("threshold", absent{}, "threshold"),
		bad("total_parts", 1, "total_parts must be 2"), bad("total_parts", wire.MaxParties+1, "total_parts"), bad("total_parts", absent{}, "total_parts"),
	}
}

func users(field string) []rule {
	return []rule{
		bad(field, []any{"alice", "bob", "alice"}, "names alice twice"),
		bad(field, []any{"alice", "", "bob"}, field+" entry is missing"),
		bad(field, []any{"alice", "b:b", "bob"}, field+" entry must be"),
		bad(field, []any{"alice", 7, "bob"}, "must be a string"),
		bad(field, list(wire.MaxParties+1, func(i int) any { return fmt.Sprint("u", i) }), field+" has more than"),
	}
}

func place(field string) []rule {
	return []rule{bad(field, 0, field), bad(field, -1, field), bad(field, wire.MaxPlaces+1, field), bad(field, absent{}, field)}
}

func places(optional bool) []rule {
	says := "places must be one or two places"
	rules := []rule{
		bad("places", []any{1, 2, 3}, says), bad("places", []any{2, 1}, says), bad("places", []any{1, 1}, says),
		bad("places", []any{0}, "places must be"), bad("places", []any{wire.MaxPlaces + 1}, "places must be"),
	}
	if !optional {
		rules = append(rules, bad("places", []any{}, "places is missing"), bad("places", absent{}, "places is missing"))
	}
	return rules
}

func epoch(field string, least int) []rule {
	rules := []rule{bad(field, -1, field+" must be an epoch"), bad(field, wire.MaxEpoch+1, field+" must be an epoch")}
	if least > 0 {
		rules = append(rules, bad(field, 0, field+" must be an epoch"), bad(field, absent{}, field+" must be an epoch"))
	}
	return rules
}

func hash32(field string, optional bool) []rule {
	says := field + " must be 0x and 64 hex digits"
	rules := []rule{bad(field, "0x12", says), bad(field, strings.Repeat("1", 66), says), bad(field, "0x"+strings.Repeat("AB", 32), says), bad(field, 7, "must be a string")}
	if !optional {
		rules = append(rules, bad(field, "", says), bad(field, absent{}, says))
	}
	return rules
}

// oneCommittee spoils a committee within a message.
func oneCommittee(field string) []rule {
	changed := func(key string, value any) map[string]any {
		c := map[string]any{"threshold": 2, "total_parts": 3, "parties": []any{map[string]any{"part_index": 1, "user_id": "a"}}}
		c[key] = value
		return c
	}
	return []rule{
		bad(field, changed("threshold", 1), "threshold must be from 2"), bad(field, changed("total_parts", wire.MaxParties+1), "total_parts must be"),
		bad(field, changed("parties", []any{}), field+".parties is missing"), bad(field, changed("epoch", -1), field+".epoch must be"),
		bad(field, changed("parties", []any{map[string]any{"part_index": 1, "user_id": "a:"}}), "user_id"), bad(field, absent{}, "total_parts must be"),
	}
}

func participants() []rule {
	member := func(part int, user, identity string) map[string]any {
		return map[string]any{"part_index": part, "user_id": user, "identity": identity}
	}
	two := func(first, second map[string]any) rule {
		return rule{field: "participants", value: []any{first, second}}
	}
	says := func(r rule, says string) rule { return bad(r.field, r.value, says) }
	good := member(1, "alice", "i")
	return []rule{
		says(two(good, member(2, "alice", "i")), "names alice twice"), says(two(good, member(3, "bob", "i")), "in the order of their part indexes"),
		says(two(good, member(2, "bob", "")), "participants entry 2 has no identity"), says(two(good, member(2, "-rf", "i")), "participants entry must be"),
		says(two(good, member(2, "bob", "\x00")), "identity has control"), says(two(good, member(0, "bob", "i")), "part_index"),
		bad("participants", []any{good}, "total_parts is 2 but participants has 1"), bad("participants", absent{}, "participants has 0"),
		bad("participants", list(wire.MaxParties+1, func(i int) any { return member(i+1, fmt.Sprint("u", i), "i") }), "parties has more than"),
	}
}

func reshareRules(most ...[]rule) []rule {
	return slices.Concat(id("key_id", false), id("session_id", false), slices.Concat(most...))
}

func attempt() []rule {
	return []rule{bad("attempt", 0, "attempt must be"), bad("attempt", absent{}, "attempt must be")}
}

func culprits() []rule {
	return []rule{bad("culprits", []any{0}, "culprits"), bad("culprits", []any{wire.MaxPlaces + 1}, "culprits"), bad("culprits", list(wire.MaxPlaces+1, func(int) any { return 1 }), "culprits has more than")}
}

func status() []rule {
	return []rule{bad("status", "", "status is not"), bad("status", "done", "status is not"), bad("status", absent{}, "status is not")}
}

func expires() []rule {
	return []rule{bad("expires_in", -1, "expires_in"), bad("expires_in", wire.MaxExpiresInSeconds+1, "expires_in")}
}

func partyList() []rule {
	one := func(p any) []any { return []any{p} }
	return []rule{
		bad("parties", one(map[string]any{"part_index": 0, "user_id": "a"}), "part_index"),
		bad("parties", one(map[string]any{"part_index": 1, "user_id": "a:"}), "user_id"),
		bad("parties", one(map[string]any{"part_index": 1, "user_id": "a", "identity": "\x00"}), "identity"),
		bad("parties", list(wire.MaxParties+1, func(i int) any { return map[string]any{"part_index": 1, "user_id": "a"} }), "parties has more than"),
	}
}

func answer() []rule {
	return []rule{bad("response", absent{}, "response is missing"), bad("response", nil, "response is missing")}
}

// rules lists every way in which a message can break the rules of its type.
var rules = map[wire.Type][]rule{
	wire.TypeRegister: slices.Concat(id("user_id", false), line("identity", wire.MaxIdentityBytes), []rule{
		bad("role", "root", "role must be"), bad("role", "", "role must be"), bad("role", absent{}, "role must be"),
		bad("resume", map[string]any{"last_seq": -1}, "must be a whole number"), bad("resume", 7, "must be an object"),
	}),
	wire.TypeRegisterConfirm: slices.Concat(status(), id("node", true)),
	wire.TypeKeygenRequest: slices.Concat(id("key_id", false), committeeRules(), users("participants"), long("curve", wire.MaxTypeBytes), line("curve", wire.MaxTypeBytes),
		expires(), long("signed_request", wire.MaxSignedRequestBytes), []rule{
			bad("participants", []any{"alice", "bob"}, "total_parts is 3 but participants has 2"), bad("participants", absent{}, "participants has 0"),
			bad("total_parts", 4, "total_parts is 4 but"),
		}),
	wire.TypeKeygenInvite: slices.Concat(id("key_id", false), committeeRules(), part("part_index"), users("participants"), id("session_id", true),
		id("coordinator", true), line("curve", wire.MaxTypeBytes), long("signed_request", wire.MaxSignedRequestBytes)),
	wire.TypeKeygenResponse: slices.Concat(id("key_id", false), part("part_index"), answer(), id("session_id", true), line("reason", wire.MaxReasonBytes)),
	wire.TypeSignResponse: slices.Concat(id("key_id", false), part("part_index"), answer(), id("session_id", true), line("reason", wire.MaxReasonBytes),
		long("certificate", wire.MaxCertificateBytes)),
	wire.TypeKeygenParams: slices.Concat(id("key_id", false), committeeRules(), part("part_index"), line("output_file", 2*wire.MaxIDBytes), id("session_id", true),
		line("curve", wire.MaxTypeBytes), partyList()),
	wire.TypeKeygenComplete: slices.Concat(id("key_id", false), part("part_index"), required("account_addr", wire.MaxAddressBytes), line("account_addr", wire.MaxAddressBytes),
		required("share_json", wire.MaxShareBytes), id("session_id", true), line("public_key", wire.MaxPublicKeyBytes),
		line("attestation", wire.MaxAttestationBytes)),
	wire.TypeKeygenConfirm: slices.Concat(id("key_id", false), status(), line("account_addr", wire.MaxAddressBytes), id("session_id", true),
		line("public_key", wire.MaxPublicKeyBytes), culprits(), []rule{
			bad("attestations", []any{"a\x00"}, "attestations entry has control characters"),
			{"attestations", []any{strings.Repeat("a", wire.MaxAttestationBytes+1)}, wire.CodeTooLarge, "attestations entry is longer than"},
			bad("attestations", list(wire.MaxParties+1, func(int) any { return "a" }), "attestations has more than"),
		}),
	wire.TypeSignRequest: slices.Concat(id("key_id", false), required("data", wire.MaxDataBytes), line("account_addr", wire.MaxAddressBytes), users("participants"),
		id("session_id", true), line("hash", wire.MaxTypeBytes), expires(), epoch("min_epoch", 0), long("signed_request", wire.MaxSignedRequestBytes)),
	wire.TypeSignInvite: slices.Concat(id("key_id", false), required("data", wire.MaxDataBytes), part("part_index"), users("participants"), id("session_id", true),
		id("coordinator", true), line("hash", wire.MaxTypeBytes), line("digest", 2*wire.MaxDataBytes+2), epoch("epoch", 0), epoch("min_epoch", 0),
		long("signed_request", wire.MaxSignedRequestBytes)),
	wire.TypeSignParams: slices.Concat(id("key_id", false), required("data", wire.MaxDataBytes), part("part_index"), long("share_json", wire.MaxShareBytes),
		id("session_id", true), line("hash", wire.MaxTypeBytes), line("digest", 2*wire.MaxDataBytes+2), partyList(), epoch("epoch", 0), hash32("certificate", true), []rule{
			bad("participants", "", "participants must list"), bad("participants", "3,1", "participants must list"), bad("participants", "1,x", "participants must list"),
			bad("participants", []any{1, 3}, "must be a string"),
		}),
	wire.TypeSignResult: slices.Concat(id("key_id", false), part("part_index"), required("signature", wire.MaxSignatureBytes), line("signature", wire.MaxSignatureBytes),
		id("session_id", true)),
	wire.TypeSignComplete: slices.Concat(id("key_id", false), status(), id("session_id", true), culprits()),
	wire.TypeError:        required("error", wire.DefaultMaxMessageBytes),
	wire.TypeAck:          slices.Concat(id("key_id", true), id("session_id", true), []rule{bad("seq", -1, "must be a whole number"), bad("seq", 1.5, "must be a whole number")}),
	wire.TypeTSSMessage: slices.Concat(id("session_id", false), place("from"), required("body", wire.MaxBodyBytes), long("sig", wire.MaxSigBytes), []rule{
		bad("attempt", 0, "attempt must be"), bad("attempt", absent{}, "attempt must be"), bad("to", -1, "to must be"), bad("to", wire.MaxPlaces+1, "to must be"),
		bad("to", 1, "does not send to itself"),
	}),
	wire.TypePartyFailed: slices.Concat(id("session_id", false), place("part_index"), line("reason", wire.MaxReasonBytes), culprits(),
		long("certificate", wire.MaxCertificateBytes), []rule{bad("attempt", -1, "attempt must be")}),
	wire.TypeSessionCancel: slices.Concat(id("session_id", false), line("reason", wire.MaxReasonBytes)),
	wire.TypeSessionEnded:  slices.Concat(id("session_id", false), id("key_id", false), status(), culprits()),
	wire.TypeReshareRequest: slices.Concat(id("key_id", false), participants(), id("session_id", true), expires(), long("signed_request", wire.MaxSignedRequestBytes), []rule{
		bad("threshold", 1, "threshold must be from 2"), bad("threshold", 3, "threshold must be"), bad("total_parts", 3, "total_parts is 3 but"),
	}),
	wire.TypeReshareInvite: reshareRules(epoch("epoch", 1), line("curve", wire.MaxTypeBytes), line("account_addr", wire.MaxAddressBytes),
		line("public_key", wire.MaxPublicKeyBytes), oneCommittee("from"), oneCommittee("to"), places(false), id("coordinator", false), hash32("certificate", true),
		line("origin", wire.MaxTypeBytes), long("signed_request", wire.MaxSignedRequestBytes)),
	wire.TypeReshareResponse: reshareRules(answer(), places(true), epoch("highest", 0), line("reason", wire.MaxReasonBytes), long("certificate", wire.MaxCertificateBytes)),
	wire.TypeReshareParams:   reshareRules(attempt(), epoch("epoch", 1), oneCommittee("from"), oneCommittee("to"), places(false), hash32("certificate", true)),
	wire.TypeReshareComplete: reshareRules(attempt(), epoch("epoch", 1), part("part_index"), required("account_addr", wire.MaxAddressBytes),
		line("account_addr", wire.MaxAddressBytes), required("share_json", wire.MaxShareBytes), required("statement", wire.MaxStatementBytes),
		required("attestation", wire.MaxAttestationBytes), line("attestation", wire.MaxAttestationBytes)),
	wire.TypeReshareAttested: reshareRules(attempt(), epoch("epoch", 1), required("statement", wire.MaxStatementBytes), []rule{
		{"attestations", []any{strings.Repeat("a", wire.MaxAttestationBytes+1)}, wire.CodeTooLarge, "attestations entry is longer than"},
		bad("attestations", list(wire.MaxParties+1, func(int) any { return "a" }), "attestations has more than"),
	}),
	wire.TypeReshareConsent: reshareRules(epoch("epoch", 1), part("part_index"), hash32("attestations_hash", false), required("sig", wire.MaxAttestationBytes),
		line("sig", wire.MaxAttestationBytes)),
	wire.TypeReshareConfirm: reshareRules(epoch("epoch", 0), status(), line("account_addr", wire.MaxAddressBytes), line("public_key", wire.MaxPublicKeyBytes),
		long("certificate", wire.MaxCertificateBytes), culprits()),
	wire.TypeEpochCertified: slices.Concat(id("key_id", false), epoch("epoch", 1), required("certificate", wire.MaxCertificateBytes)),
	wire.TypeCertificateGet: slices.Concat(id("key_id", false), epoch("epoch", 0)),
}

func TestValidate(t *testing.T) {
	for _, p := range goldens {
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(rules[p.Type()]) == 0 && string(raw) != "{}" {
			t.Errorf("%s: no rules", p.Type())
		}
		for _, r := range rules[p.Type()] {
			t.Run(fmt.Sprintf("%s/%s=%.20v", p.Type(), r.field, r.value), func(t *testing.T) {
				var fields map[string]any
				if err := json.Unmarshal(raw, &fields); err != nil {
					t.Fatal(err)
				}
				fields[r.field] = r.value
				if _, ok := r.value.(absent); ok {
					delete(fields, r.field)
				}
				payload, err := json.Marshal(fields)
				if err != nil {
					t.Fatal(err)
				}
				_, err = wire.Message{Type: p.Type(), Payload: payload}.DecodePayload()
				if got := codeOf(err); got != r.code {
					t.Fatalf("got %s (%v), want %s", got, err, r.code)
				}
				if !strings.Contains(err.Error(), r.says) || !strings.HasPrefix(err.Error(), string(p.Type())+": ") {
					t.Errorf("got %q, want %q in it", err, r.says)
				}
			})
		}
	}
}

// TestValidateAccepts checks values at the limits of the rules.
func TestValidateAccepts(t *testing.T) {
	for _, tt := range []struct{ typ, payload string }{
		{"register", `{"user_id":"参与方1","role":"admin"}`},
		{"keygen_request", `{"key_id":"k","threshold":2,"total_parts":2,"participants":["a","b"]}`},
		{"keygen_request", `{"key_id":"k","threshold":2,"total_parts":2,"participants":["a","b"],"unknown":{"x":[1]}}`},
		{"keygen_response", `{"key_id":"k","part_index":1,"response":false}`},
		{"sign_request", `{"key_id":"k","data":"line one\nline two\u0000"}`},
		{"sign_request", `{"key_id":"k","data":"0x","participants":[]}`},
		{"sign_params", `{"key_id":"k","data":"d","part_index":1,"participants":"1","share_json":""}`},
		{"tss_message", `{"session_id":"s","attempt":1,"from":1,"to":0,"body":"AA=="}`},
		{"party_failed", `{"session_id":"s","part_index":1}`},
		{"reshare_response", `{"key_id":"k","session_id":"s","response":false}`},
		{"certificate_get", `{"key_id":"k"}`},
		{"ack", `{}`},
		{"ack", `{"seq":18446744073709551615}`},
	} {
		if _, err := (wire.Message{Type: wire.Type(tt.typ), Payload: json.RawMessage(tt.payload)}).DecodePayload(); err != nil {
			t.Errorf("%s %s: %v", tt.typ, tt.payload, err)
		}
	}
}
