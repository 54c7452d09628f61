package main

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func TestMain(m *testing.M) {
	scryptWork = 8
	testscript.Main(idling{m}, map[string]func(){"conclave": main, "testnode": testNode})
}

// idling is an M that runs tests, and not a program started by testscript.
type idling struct{ m *testing.M }

func (i idling) Run() int {
	sample.Idling()
	return i.m.Run()
}

// TestScripts runs the transcripts in testdata with the real program, each in its
// own home. $SERVER is the web API of api, $SECURE the same over TLS, with a
// certificate of the authority in the file $CA; evidence.json convicts bob, whose
// fingerprint is $BOB. attested.json is the key treasury as the web API shows it; its
// parties are user-1 to user-3, with the fingerprints $ID1 to $ID3. lineage.json has its
// certificates.
func TestScripts(t *testing.T) {
	srv, secure := httptest.NewServer(api()), httptest.NewUnstartedServer(api())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(srv.Close)
	t.Cleanup(secure.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("SERVER", srv.URL)
			e.Setenv("SECURE", secure.URL)
			e.Setenv("CA", ca)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TZ", "UTC")
			text, bob := evidence(t)
			e.Setenv("BOB", bob)
			return errors.Join(os.WriteFile(filepath.Join(e.WorkDir, "evidence.json"), text, 0o600), backups(t, e), attested(t, e))
		},
	})
}

// evidence is from two runs of bob's with the same parameters, found by alice when
// she receives the first message of both.
var evidence = func() func(t *testing.T) (text []byte, fingerprint string) {
	var once sync.Once
	var text []byte
	var bob *identity.Identity
	return func(t *testing.T) ([]byte, string) {
		once.Do(func() {
			alice := partytest.Identity(t)
			bob = partytest.Identity(t)
			run := func(id *identity.Identity, self int) *party.Run {
				r, err := party.NewKeygen(party.KeygenConfig{Identity: id, Concurrency: 1, Binding: party.Binding{
					SessionID: "kg-1", Attempt: 1, KeyID: "key-1", Curve: pubkey.Ed25519, Threshold: 2, TotalParts: 2, Self: self,
					Parties: []identity.Member{{Index: 1, User: "alice", Identity: alice.Public()}, {Index: 2, User: "bob", Identity: bob.Public()}},
				}})
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(r.Close)
				return r
			}
			honest := run(alice, 1)
			var fault *party.Error
			_ = honest.Accept(<-run(bob, 2).Out())
			if err := honest.Accept(<-run(bob, 2).Out()); !errors.As(err, &fault) || fault.Proof == nil {
				t.Fatalf("alice finds %v", err)
			}
			var err error
			if text, err = fault.Proof.Marshal(); err != nil {
				t.Fatal(err)
			}
		})
		return text, bob.Public().Fingerprint()
	}
}()

// backups writes the shares of two keys with the identities that open them:
// treasury (ed25519, 2 of 3, made here) and the stored one of partytest
// (secp256k1, 2 of 3), whose addresses are $ED and $ETH and whose public keys
// are $EDPUB and $ETHPUB. again is another keygen of the key id treasury.
func backups(t *testing.T, e *testscript.Env) error {
	made.once.Do(func() {
		made.ed = partytest.NewCommittee(t, 3)
		made.treasury = made.ed.KeygenCalled(t, pubkey.Ed25519, 2, "treasury")
		made.again = made.ed.KeygenCalled(t, pubkey.Ed25519, 2, "treasury")
	})
	stored, fixed := partytest.Key(t)
	for name, key := range map[string]struct {
		c      *partytest.Committee
		shares []*share.Share
	}{"ed": {made.ed, made.treasury}, "again": {made.ed, made.again}, "eth": {stored, fixed}} {
		for i, held := range key.shares {
			text, err := held.Seal(key.c.Identities[i].Recipient())
			if err != nil {
				return err
			}
			secret, err := key.c.Identities[i].Secret()
			if err != nil {
				return err
			}
			base := filepath.Join(e.WorkDir, fmt.Sprintf("%s-%d", name, i+1))
			if err := errors.Join(os.WriteFile(base+".json", []byte(text), 0o600), os.WriteFile(base+".identity", []byte(secret), 0o600)); err != nil {
				return err
			}
		}
	}
	e.Setenv("ED", made.treasury[0].Public().AccountAddr)
	e.Setenv("EDPUB", made.treasury[0].Public().PublicKey)
	e.Setenv("ETH", fixed[0].Public().AccountAddr)
	e.Setenv("ETHPUB", fixed[0].Public().PublicKey)
	e.Setenv("ETHKEY", fixed[0].Public().KeyID)
	return nil
}

// attested writes attested.json, and false.json of a key that its server holds
// alone. The directory own is the home of one of the attesting users.
func attested(t *testing.T, e *testscript.Env) error {
	p := made.treasury[0].Public()
	key := wire.KeyInfo{
		KeyID: p.KeyID, Status: "active", Curve: string(p.Curve), AccountAddr: p.AccountAddr, PublicKey: p.PublicKey, Threshold: p.Threshold,
		TotalParts: p.TotalParts, Coordinator: "dave", SessionID: "kg-treasury",
	}
	for i, m := range p.Parties {
		a, err := made.treasury[i].Attest(made.ed.Identities[i], key.SessionID, key.Coordinator)
		if err != nil {
			return err
		}
		key.Participants, key.Attestations = append(key.Participants, m.User), append(key.Attestations, a.String())
		e.Setenv(fmt.Sprintf("ID%d", i+1), m.Identity.Fingerprint())
	}
	own := filepath.Join(e.WorkDir, "own")
	if err := errors.Join(os.Mkdir(own, 0o700), dirstore.ProtectIdentity(filepath.Join(own, "identity"), made.ed.Identities[1], nil)); err != nil {
		return err
	}
	other := key
	other.AccountAddr, other.PublicKey = made.again[0].Public().AccountAddr, made.again[0].Public().PublicKey
	bare := key
	bare.Attestations = nil
	var failed []error
	failed = append(failed, lineages(t, e.WorkDir))
	for name, key := range map[string]wire.KeyInfo{"attested.json": key, "false.json": other, "bare.json": bare} {
		text, err := json.Marshal(key)
		failed = append(failed, err, os.WriteFile(filepath.Join(e.WorkDir, name), text, 0o600))
	}
	return errors.Join(failed...)
}

// lineages writes lineage.json, of three epochs of the key treasury, and files in which
// certificates are missing or false.
func lineages(t *testing.T, dir string) error {
	first := made.ed.FirstCertificate(t, made.treasury)
	second := made.ed.Refreshed(t, first, 2)
	third := made.ed.Refreshed(t, second, 4)
	forged := *third
	forged.Consents = forged.Consents[:1]
	var failed []error
	for name, list := range map[string][]*statement.Certificate{
		"lineage.json": {third, first, second}, "gap.json": {first, third}, "forged.json": {first, second, &forged},
	} {
		var page wire.List[map[string]string]
		for _, c := range list {
			page.Items = append(page.Items, map[string]string{"certificate": c.String()})
		}
		if name == "gap.json" {
			page.Next = "more"
		}
		text, err := json.Marshal(page)
		failed = append(failed, err, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return errors.Join(failed...)
}

var made struct {
	once            sync.Once
	ed              *partytest.Committee
	treasury, again []*share.Share
}

// api is a web API of one user, one key and one session.
func api() http.Handler {
	answer := func(w http.ResponseWriter, status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	problem := func(w http.ResponseWriter, status int, code, detail string) {
		answer(w, status, map[string]any{"status": status, "code": code, "detail": detail})
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key := map[string]any{
		"key_id": "key-1", "status": "active", "curve": "secp256k1", "account_addr": "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
		"public_key": "0x02", "threshold": 2, "total_parts": 3, "participants": []string{"alice", "bob", "carol"}, "coordinator": "dave",
		"created_at": at, "session_id": "kg-1",
	}
	session := map[string]any{
		"session_id": "sg-1", "kind": "sign", "phase": "failed", "key_id": "key-1", "coordinator": "dave", "data": "a\x1b[2Jb",
		"hash": "eip191", "responses": []map[string]any{
			{"part_index": 1, "user_id": "alice", "invited": true, "response": "accepted"},
			{"part_index": 2, "user_id": "bob", "invited": false},
		},
		"reason": "alice (part 1) could not go on\x1b[31m", "culprits": []int{1}, "created_at": at,
	}
	list := func(item any) map[string]any { return map[string]any{"items": []any{item}} }

	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/login", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Username, Password string }
		if json.NewDecoder(r.Body).Decode(&body) != nil || body.Password != "open sesame" {
			problem(w, http.StatusUnauthorized, "unauthenticated", "wrong user name or password")
			return
		}
		expires := at.AddDate(100, 0, 0)
		if body.Username == "old" {
			expires = at.AddDate(-1, 0, 0)
		}
		answer(w, http.StatusOK, map[string]any{
			"token": "h.eyJzdWIiOiJhbGljZSJ9.sig-" + body.Username, "expires_at": expires, "user_id": body.Username, "roles": []string{"coordinator"},
		})
	})
	guarded := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer h.eyJzdWIiOiJhbGljZSJ9.sig-alice" {
				problem(w, http.StatusUnauthorized, "unauthenticated", "token is not valid")
				return
			}
			answer(w, http.StatusOK, v)
		}
	}
	mux.HandleFunc("GET /v1/keys", guarded(list(key)))
	mux.HandleFunc("GET /v1/keys/key-1", guarded(key))
	mux.HandleFunc("GET /v1/keys/key-9", guarded(key)) // which is another key
	mux.HandleFunc("GET /v1/sessions", guarded(list(session)))
	mux.HandleFunc("GET /v1/sessions/sg-1", guarded(session))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusNotFound, "not_found", "no such key or session, or not one of yours")
	})
	return mux
}
