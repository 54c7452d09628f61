package statement

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var updateVectors = flag.Bool("update-vectors", false, "write testdata/signed-request.json")

// vectorsFile has the present format, vectorsFileV1 the first one, which is still read.
const (
	vectorsFile   = "testdata/signed-request.json"
	vectorsFileV1 = "testdata/signed-request-v1.json"
)

// vectors are test vectors for other implementations of signed requests. See
// deploy/docs/PROTOCOL.md#signed-requests.
type vectors struct {
	About       string          `json:"about"`
	SignSeed    string          `json:"sign_seed"` // Ed25519, hex
	SealSeed    string          `json:"seal_seed"` // ML-KEM-768 with X25519 (X-Wing), hex
	Identity    string          `json:"identity"`
	Fingerprint string          `json:"fingerprint"`
	Requests    []requestVector `json:"requests"`
}

type requestVector struct {
	Name          string   `json:"name"`
	Kind          string   `json:"kind"`
	Coordinator   string   `json:"coordinator"`
	RequestID     string   `json:"request_id,omitempty"` // SessionID is derived from it
	SessionID     string   `json:"session_id,omitempty"`
	KeyID         string   `json:"key_id"`
	Epoch         int      `json:"epoch,omitempty"`
	Curve         string   `json:"curve"`
	Threshold     int      `json:"threshold,omitempty"`
	Participants  []string `json:"participants"`
	Data          string   `json:"data,omitempty"`
	Hash          string   `json:"hash,omitempty"`
	Digest        string   `json:"digest,omitempty"`
	AccountAddr   string   `json:"account_addr,omitempty"`
	IssuedAt      int64    `json:"issued_at"`
	ExpiresAt     int64    `json:"expires_at"`
	Nonce         string   `json:"nonce"`     // hex
	Statement     string   `json:"statement"` // hex, the signed content
	Signature     string   `json:"signature"` // hex
	SignedRequest string   `json:"signed_request"`
}

func (v requestVector) request() Request {
	return Request{
		Kind: v.Kind, Coordinator: v.Coordinator, SessionID: v.SessionID, KeyID: v.KeyID, Epoch: v.Epoch, Curve: pubkey.Curve(v.Curve), Threshold: v.Threshold,
		Participants: v.Participants, Data: v.Data, Hash: v.Hash, Digest: v.Digest, AccountAddr: v.AccountAddr,
	}
}

// unhex decodes a hex constant.
func unhex(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// identity returns the identity determined by the seeds. Its age key, which no signed
// request shows, is arbitrary.
func (v vectors) identity(t *testing.T) *identity.Identity {
	t.Helper()
	own, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Parse(fmt.Sprintf("conclave-identity-v1\nsign %s\nseal %s\nage %s\n",
		base64.StdEncoding.EncodeToString(unhex(t, v.SignSeed)), base64.StdEncoding.EncodeToString(unhex(t, v.SealSeed)), own))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// signed makes a vector's signed request and its signed content. The nonce, which Sign
// draws, is given.
func (v requestVector) signed(t *testing.T, id *identity.Identity) (SignedRequest, []byte) {
	t.Helper()
	r := v.request()
	s := SignedRequest{
		Identity: id.Public(), IssuedAt: time.Unix(v.IssuedAt, 0).UTC(), ExpiresAt: time.Unix(v.ExpiresAt, 0).UTC(),
		EveryHolder: v.Kind == Sign && len(v.Participants) == 0,
		v1:          v.Epoch == 0,
	}
	copy(s.Nonce[:], unhex(t, v.Nonce))
	statement := s.statement(r)
	copy(s.sig[:], id.Sign(statement))
	return s, statement
}

// TestSignedRequestVectors: the format described in PROTOCOL is the one in use. Every
// published file stays valid.
func TestSignedRequestVectors(t *testing.T) {
	t.Parallel()
	for _, file := range []string{vectorsFileV1, vectorsFile} {
		t.Run(file, func(t *testing.T) { testVectors(t, file) })
	}
}

func testVectors(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all vectors
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Requests) < 3 {
		t.Fatalf("there are only %d vectors", len(all.Requests))
	}
	id := all.identity(t)
	if *updateVectors && file == vectorsFile {
		writeVectors(t, all, id)
		return
	}
	if got := id.Public(); got.String() != all.Identity || got.Fingerprint() != all.Fingerprint {
		t.Errorf("the identity is %s, %s", got.Fingerprint(), got)
	}
	for _, v := range all.Requests {
		s, statement := v.signed(t, id)
		if got := hex.EncodeToString(statement); got != v.Statement {
			t.Errorf("%s: the statement is %s", v.Name, got)
		}
		if got := s.String(); got != v.SignedRequest {
			t.Errorf("%s: the signed request is %s", v.Name, got)
		}
		parsed, err := ParseSignedRequest(v.SignedRequest)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		shown := v.request()
		holders := []string{"bob", "carol", "dave"}
		if parsed.EveryHolder {
			shown.Participants = holders
		}
		if err := parsed.Verify(shown, holders); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		raw, err := base64.RawURLEncoding.DecodeString(v.SignedRequest[len(requestPrefix):])
		if err != nil || !bytes.HasSuffix(raw, unhex(t, v.Signature)) {
			t.Errorf("%s: does not end with its signature: %v", v.Name, err)
		}
		if digest, hash, err := pubkey.Digest(pubkey.Curve(v.Curve), v.Data, v.Hash); v.Kind == Sign && (err != nil || pubkey.Encode(digest) != v.Digest || string(hash) != v.Hash) {
			t.Errorf("%s: the digest is %s by %s, %v", v.Name, pubkey.Encode(digest), hash, err)
		}
	}
	if v := all.Requests[1]; v.SessionID != wire.SigningID(v.Coordinator, v.KeyID, v.RequestID) {
		t.Errorf("the session_id is %s, want that of request_id %s", v.SessionID, v.RequestID)
	}
}

// writeVectors fills in the derived fields.
func writeVectors(t *testing.T, all vectors, id *identity.Identity) {
	t.Helper()
	all.Identity, all.Fingerprint = id.Public().String(), id.Public().Fingerprint()
	for i := range all.Requests {
		v := &all.Requests[i]
		s, statement := v.signed(t, id)
		v.Statement, v.Signature, v.SignedRequest = hex.EncodeToString(statement), hex.EncodeToString(s.sig[:]), s.String()
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorsFile, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
