package wire_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var update = flag.Bool("update", false, "rewrite testdata/golden")

func yes() *bool { v := true; return &v }

var (
	goldenTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	committee  = []string{"alice", "bob", "参与方3"}
	parties    = []wire.Party{{PartIndex: 1, UserID: "alice", Identity: "id-a"}, {PartIndex: 3, UserID: "参与方3", Identity: "id-c"}}
	newParties = []wire.Party{{PartIndex: 1, UserID: "alice", Identity: "id-a"}, {PartIndex: 2, UserID: "dave", Identity: "id-d"}}
	goldenHash = "0x" + strings.Repeat("0f", 32)
)

// goldens has one payload of each type with every field set.
var goldens = []wire.Payload{
	&wire.Register{UserID: "alice", Role: wire.RoleParticipant, Identity: "id-a", Resume: &wire.Resume{LastSeq: 41}},
	&wire.RegisterConfirm{Status: wire.StatusSuccess, Node: "node-1", LastSeq: 42},
	&wire.KeygenRequest{KeyID: "key-1", Threshold: 2, TotalParts: 3, Participants: committee, Curve: "secp256k1", ExpiresIn: 300, SignedRequest: "signed"},
	&wire.KeygenInvite{KeyID: "key-1", Threshold: 2, TotalParts: 3, PartIndex: 1, Participants: committee, SessionID: "s-1",
		Coordinator: "carol", Curve: "secp256k1", Deadline: goldenTime, SignedRequest: "signed"},
	&wire.KeygenResponse{KeyID: "key-1", PartIndex: 1, Response: yes(), SessionID: "s-1", Reason: "fine"},
	&wire.KeygenParams{KeyID: "key-1", Threshold: 2, TotalParts: 3, PartIndex: 1, OutputFile: "key-1.1.json", SessionID: "s-1",
		Attempt: 1, Curve: "secp256k1", Parties: parties},
	&wire.KeygenComplete{KeyID: "key-1", PartIndex: 1, AccountAddr: "0xabc", ShareJSON: `{"sealed":"x"}`, SessionID: "s-1", PublicKey: "0x02", Attestation: "att-a"},
	&wire.KeygenConfirm{KeyID: "key-1", Status: wire.StatusFailed, AccountAddr: "0xabc", SessionID: "s-1", PublicKey: "0x02", Reason: "differ", Culprits: []int{2},
		Attestations: []string{"att-a", "", "att-c"}},
	&wire.SignRequest{KeyID: "key-1", Data: "hello <world>", AccountAddr: "0xabc", Participants: committee, SessionID: "s-2", Hash: "eip191",
		ExpiresIn: 60, MinEpoch: 2, SignedRequest: "signed"},
	&wire.SignInvite{KeyID: "key-1", Data: "hello", AccountAddr: "0xabc", PartIndex: 1, Participants: committee, SessionID: "s-2",
		Coordinator: "carol", Hash: "eip191", Digest: "0x01", Epoch: 3, MinEpoch: 2, Deadline: goldenTime, SignedRequest: "signed"},
	&wire.SignResponse{KeyID: "key-1", PartIndex: 1, Response: new(bool), SessionID: "s-2", Reason: "not now", Certificate: `{"version":1}`},
	&wire.SignParams{KeyID: "key-1", Data: "hello", PartIndex: 1, Participants: "1,3", ShareJSON: `{"sealed":"x"}`, SessionID: "s-2",
		Attempt: 2, Hash: "eip191", Digest: "0x01", Parties: parties, Epoch: 3, Certificate: goldenHash},
	&wire.SignResult{KeyID: "key-1", PartIndex: 1, Signature: "0xff", SessionID: "s-2"},
	&wire.SignComplete{KeyID: "key-1", Status: wire.StatusSuccess, Signature: "0xff", Data: "hello", AccountAddr: "0xabc", SessionID: "s-2",
		PublicKey: "0x02", Reason: "none", Culprits: []int{1, 2}},
	&wire.ErrorPayload{Error: "no such key", Code: wire.CodeNotFound, Temporary: true, RequestType: wire.TypeSignRequest, KeyID: "key-1", SessionID: "s-2"},
	&wire.Ack{Seq: 7, KeyID: "key-1", SessionID: "s-2"},
	&wire.TSSMessage{SessionID: "s-2", Attempt: 1, From: 1, To: 3, Body: "Ym9keQ==", Sig: "c2ln"},
	&wire.PartyFailed{SessionID: "s-2", Attempt: 1, PartIndex: 1, Reason: "bad proof", Culprits: []int{3}, Moved: true, Certificate: `{"version":1}`},
	&wire.SessionCancel{SessionID: "s-2", Reason: "changed my mind"},
	&wire.SessionEnded{SessionID: "s-2", KeyID: "key-1", Kind: "sign", Status: wire.StatusSuccess, Reason: "none", Culprits: []int{2}},
	&wire.ReshareRequest{KeyID: "key-1", Threshold: 2, TotalParts: 2, Participants: newParties, SessionID: "s-3", ExpiresIn: 300, SignedRequest: "signed"},
	&wire.ReshareInvite{KeyID: "key-1", SessionID: "s-3", Epoch: 4, Curve: "secp256k1", AccountAddr: "0xabc", PublicKey: "0x02",
		From: wire.Committee{Epoch: 3, Threshold: 2, TotalParts: 3, Parties: parties}, To: wire.Committee{Threshold: 2, TotalParts: 2, Parties: newParties},
		Places: []int{1, 4}, Deadline: goldenTime, Coordinator: "carol", Certificate: goldenHash, Origin: "generated", SignedRequest: "signed"},
	&wire.ReshareResponse{KeyID: "key-1", SessionID: "s-3", Response: yes(), Places: []int{1, 4}, Highest: 3, Reason: "fine", Certificate: `{"version":1}`},
	&wire.ReshareParams{KeyID: "key-1", SessionID: "s-3", Attempt: 1, Epoch: 4,
		From: wire.Committee{Epoch: 3, Threshold: 2, TotalParts: 3, Parties: parties}, To: wire.Committee{Threshold: 2, TotalParts: 2, Parties: newParties},
		Places: []int{1, 4}, Certificate: goldenHash},
	&wire.ReshareComplete{KeyID: "key-1", SessionID: "s-3", Attempt: 1, Epoch: 4, PartIndex: 1, AccountAddr: "0xabc", ShareJSON: `{"sealed":"x"}`,
		Statement: `{"key_id":"key-1"}`, Attestation: "att-a"},
	&wire.ReshareAttested{KeyID: "key-1", SessionID: "s-3", Attempt: 1, Epoch: 4, Statement: `{"key_id":"key-1"}`, Attestations: []string{"att-a", "att-d"}},
	&wire.ReshareConsent{KeyID: "key-1", SessionID: "s-3", Epoch: 4, PartIndex: 1, AttestationsHash: goldenHash, Sig: "con-a"},
	&wire.ReshareConfirm{KeyID: "key-1", SessionID: "s-3", Epoch: 4, Status: wire.StatusSuccess, AccountAddr: "0xabc", PublicKey: "0x02", Certificate: `{"version":1}`,
		Reason: "none", Culprits: []int{2}},
	&wire.EpochCertified{KeyID: "key-1", Epoch: 4, Certificate: `{"version":1}`},
	&wire.CertificateGet{KeyID: "key-1", Epoch: 3},
	&wire.Ping{},
	&wire.Pong{},
}

func goldenMessage(t testing.TB, p wire.Payload) wire.Message {
	t.Helper()
	m, err := wire.New("alice", p)
	if err != nil {
		t.Fatal(err)
	}
	m.RequestID = "r-1"
	if p.Type().FromClient() {
		m.Token = "token"
	}
	return m
}

func TestGolden(t *testing.T) {
	seen := map[wire.Type]bool{}
	for _, p := range goldens {
		seen[p.Type()] = true
		t.Run(string(p.Type()), func(t *testing.T) {
			frame, err := goldenMessage(t, p).Encode()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "golden", string(p.Type())+".json")
			if *update {
				var pretty bytes.Buffer
				if err := json.Indent(&pretty, frame, "", "  "); err != nil {
					t.Fatal(err)
				}
				pretty.WriteByte('\n')
				if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(compact.String(), string(frame)); diff != "" {
				t.Errorf("encoding (-golden +got):\n%s", diff)
			}
			m, err := wire.Decode(want, wire.DefaultMaxMessageBytes)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.DecodePayload()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p, got); diff != "" {
				t.Errorf("decoded payload (-want +got):\n%s", diff)
			}
			if m.UserID != "alice" || m.RequestID != "r-1" || (m.Token != "") != p.Type().FromClient() {
				t.Errorf("decoded envelope %+v", m)
			}
		})
	}
	for _, typ := range wire.Types() {
		if !seen[typ] {
			t.Errorf("no golden message of type %s", typ)
		}
	}
}

// TestGoldenHasEveryField keeps the goldens complete: a field left at its zero
// value would not be covered by them.
func TestGoldenHasEveryField(t *testing.T) {
	for _, p := range goldens {
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(raw, &fields); err != nil {
			t.Fatal(err)
		}
		for name, v := range fields {
			// The one field that is empty by design, and the one where false says something.
			if v == "" && name != "account_addr" || v == float64(0) || v == nil {
				t.Errorf("%s: field %s is not set", p.Type(), name)
			}
		}
	}
}

func seedExample(t testing.TB, typ wire.Type) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "seed", string(typ)+".json"))
	if err != nil {
		t.Fatal(err)
	}
	// The seed writes a choice where a client sends one of the two, and three dots
	// for more users.
	text = bytes.ReplaceAll(text, []byte("coordinator|participant"), []byte("participant"))
	return bytes.ReplaceAll(text, []byte(`"..."`), []byte(`"参与方3"`))
}

var seedTypes = []wire.Type{
	wire.TypeRegister, wire.TypeRegisterConfirm, wire.TypeKeygenRequest, wire.TypeKeygenInvite, wire.TypeKeygenResponse,
	wire.TypeKeygenParams, wire.TypeKeygenComplete, wire.TypeKeygenConfirm, wire.TypeSignRequest, wire.TypeSignInvite,
	wire.TypeSignResponse, wire.TypeSignParams, wire.TypeSignResult, wire.TypeSignComplete, wire.TypeError,
}

// TestSeedExamples decodes the seed document's own examples.
func TestSeedExamples(t *testing.T) {
	for _, typ := range seedTypes {
		t.Run(string(typ), func(t *testing.T) {
			m, err := wire.Decode(seedExample(t, typ), wire.DefaultMaxMessageBytes)
			if err != nil {
				t.Fatal(err)
			}
			p, err := m.DecodePayload()
			if err != nil {
				t.Fatal(err)
			}
			if m.Type != typ || p.Type() != typ {
				t.Errorf("got type %s with payload %s, want %s", m.Type, p.Type(), typ)
			}
			if typ.FromClient() != (m.Token == "JWT令牌") {
				t.Errorf("token %q", m.Token)
			}
			// The seed's values must be in our encoding too, unchanged.
			back, err := wire.New(m.UserID, p)
			if err != nil {
				t.Fatal(err)
			}
			sameFields(t, m.Payload, back.Payload, true)
		})
	}
}

// TestSeedClientReads has a client that knows only the seed's fields read our
// messages with all extensions: each known field is present and of its kind.
func TestSeedClientReads(t *testing.T) {
	for _, p := range goldens {
		if p.Type().FromClient() {
			continue
		}
		if _, err := os.Stat(filepath.Join("testdata", "seed", string(p.Type())+".json")); err != nil {
			continue // an extension's type
		}
		t.Run(string(p.Type()), func(t *testing.T) {
			var seed wire.Message
			if err := json.Unmarshal(seedExample(t, p.Type()), &seed); err != nil {
				t.Fatal(err)
			}
			sameFields(t, seed.Payload, goldenMessage(t, p).Payload, false)
		})
	}
}

func sameFields(t *testing.T, seed, ours json.RawMessage, values bool) {
	t.Helper()
	var want, got map[string]any
	if err := json.Unmarshal(seed, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(ours, &got); err != nil {
		t.Fatal(err)
	}
	kind := func(v any) string {
		switch v.(type) {
		case string:
			return "string"
		case float64:
			return "number"
		case bool:
			return "bool"
		case []any:
			return "list"
		}
		return "other"
	}
	for name, v := range want {
		g, ok := got[name]
		switch {
		case !ok:
			t.Errorf("field %s is missing", name)
		case kind(g) != kind(v):
			t.Errorf("field %s is a %s, want a %s", name, kind(g), kind(v))
		case values && !cmp.Equal(g, v):
			t.Errorf("field %s: got %v, want %v", name, g, v)
		}
	}
}

func TestFromClient(t *testing.T) {
	toClient := "register_confirm keygen_invite keygen_params keygen_confirm sign_invite sign_params sign_complete error session_ended " +
		"reshare_invite reshare_params reshare_attested reshare_confirm epoch_certified"
	for _, typ := range append(wire.Types(), "nonsense") {
		want := typ != "nonsense" && !strings.Contains(" "+toClient+" ", " "+string(typ)+" ")
		if got := typ.FromClient(); got != want {
			t.Errorf("%s.FromClient() = %v, want %v", typ, got, want)
		}
	}
}
