package participant

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// attestedKey is the key made, as the web API shows it.
func attestedKey(t *testing.T) wire.KeyInfo {
	t.Helper()
	makeOnce(t)
	info := wire.KeyInfo{
		KeyID: "made", Status: "active", Curve: "ed25519", AccountAddr: made.public.AccountAddr, PublicKey: made.public.PublicKey,
		Threshold: 2, TotalParts: 3, Participants: slices.Clone(names), Coordinator: "coord", SessionID: "kg-made",
	}
	for i, sealed := range made.shares {
		held, err := share.Open(sealed, made.identities[i])
		if err != nil {
			t.Fatal(err)
		}
		a, err := held.Attest(made.identities[i], info.SessionID, info.Coordinator)
		if err != nil {
			t.Fatal(err)
		}
		info.Attestations = append(info.Attestations, a.String())
	}
	return info
}

// knowing is a store that knows users by the identities of the key made: pinned, or
// from first use.
func knowing(t *testing.T, pinned bool, users ...string) *MemStore {
	t.Helper()
	store := new(MemStore)
	for i, name := range names {
		var err error
		switch id := made.identities[i].Public(); {
		case !slices.Contains(users, name):
		case pinned:
			err = store.Pin(name, id.Fingerprint())
		default:
			err = store.Trust(name, id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	info := attestedKey(t)
	for name, tc := range map[string]struct {
		store      *MemStore
		pinnedOnly bool
		pinned     []string
		first      []string
	}{
		"all pinned":          {knowing(t, true, names...), true, names, nil},
		"all known":           {knowing(t, false, names...), false, nil, nil},
		"one pinned":          {knowing(t, true, "bob"), false, []string{"bob"}, []string{"alice", "carol"}},
		"nobody known before": {new(MemStore), false, nil, names},
	} {
		who, err := trust.CheckKey(info, tc.store.Known, tc.pinnedOnly)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, a := range who {
			want := trust.Attestor{
				PartIndex: i + 1, User: names[i], Fingerprint: made.identities[i].Public().Fingerprint(),
				Pinned: slices.Contains(tc.pinned, names[i]), First: slices.Contains(tc.first, names[i]),
			}
			if diff := cmp.Diff(want, a, cmpopts.IgnoreUnexported(trust.Attestor{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		if got := (request.Key{AttestedBy: who}).Attested(); got != (len(tc.first) == 0) {
			t.Errorf("%s: attested %t", name, got)
		}
	}
	none := info
	none.Attestations = nil
	if who, err := trust.CheckKey(none, new(MemStore).Known, false); err != nil || who == nil || len(who) != 0 || (request.Key{AttestedBy: who}).Attested() {
		t.Errorf("a key of clients that attest nothing: %v, %v", who, err)
	}
}

// TestUnattestedKeys is every way in which a server may report a key that the
// participants have not made.
func TestUnattestedKeys(t *testing.T) {
	t.Parallel()
	good, all := attestedKey(t), knowing(t, true, names...)
	stranger := partytest.Identity(t)
	other := attestedKey(t)
	other.KeyID, other.SessionID = "other", "kg-other"
	pub, address := strangersKey(t)
	swap := func(i, j int) func(k *wire.KeyInfo) {
		return func(k *wire.KeyInfo) { k.Attestations[i], k.Attestations[j] = k.Attestations[j], k.Attestations[i] }
	}
	for _, tc := range []struct {
		name       string
		store      *MemStore
		pinnedOnly bool
		change     func(k *wire.KeyInfo)
		fault      trust.AttestationFault
		says       string
	}{
		{"none", all, false, func(k *wire.KeyInfo) { k.Attestations = nil }, trust.AttestationMissing, "alice, bob, carol"},
		{"empty ones", all, false, func(k *wire.KeyInfo) { k.Attestations = make([]string, 3) }, trust.AttestationMissing, "alice, bob, carol"},
		{"none, one known", knowing(t, false, "bob"), false, func(k *wire.KeyInfo) { k.Attestations = nil }, trust.AttestationMissing, "no attestation from bob"},
		{"none, all must be pinned", new(MemStore), true, func(k *wire.KeyInfo) { k.Attestations = nil }, trust.AttestationMissing, "alice, bob, carol"},
		{"one away", all, false, func(k *wire.KeyInfo) { k.Attestations[1] = "" }, trust.AttestationIncomplete, "no attestation from bob"},
		{"one away, nobody known", new(MemStore), false, func(k *wire.KeyInfo) { k.Attestations[1] = "" }, trust.AttestationIncomplete, "no attestation from bob"},
		{"one fewer", all, false, func(k *wire.KeyInfo) { k.Attestations = k.Attestations[:2] }, trust.AttestationIncomplete, "no attestation from carol"},
		{"one more", all, false, func(k *wire.KeyInfo) { k.Attestations = append(k.Attestations, k.Attestations[0]) }, trust.AttestationMalformed, "more attestations"},
		{"garbage", all, false, func(k *wire.KeyInfo) { k.Attestations[2] = "garbage" }, trust.AttestationMalformed, "carol: parse attestation"},
		{"cut off", all, false, func(k *wire.KeyInfo) { k.Attestations[2] = k.Attestations[2][:99] }, trust.AttestationMalformed, "carol: parse attestation"},
		{"by another identity", all, false, func(k *wire.KeyInfo) { k.Attestations[1] = forgedBy(t, stranger, good, 1) }, trust.AttestationIdentity, "the identity has changed: bob"},
		{"one twice", all, false, func(k *wire.KeyInfo) { k.Attestations[1] = k.Attestations[0] }, trust.AttestationIdentity, "the identity has changed: bob"},
		{"two in each other's place", all, false, swap(0, 2), trust.AttestationIdentity, "the identity has changed: alice"},
		{"two in each other's place, nobody known", new(MemStore), false, swap(0, 2), trust.AttestationOther, "something else"},
		{"by another identity, nobody known", new(MemStore), false, func(k *wire.KeyInfo) { k.Attestations[1] = forgedBy(t, stranger, good, 1) }, trust.AttestationOther, "something else"},
		{"known, and all must be pinned", knowing(t, false, names...), true, func(*wire.KeyInfo) {}, trust.AttestationNotPinned, "alice"},
		{"nobody known, and all must be pinned", new(MemStore), true, func(*wire.KeyInfo) {}, trust.AttestationNotPinned, "alice"},
		{"another key", all, false, func(k *wire.KeyInfo) { k.AccountAddr, k.PublicKey = address, pub }, trust.AttestationOther, "something else"},
		{"another key, nobody known", new(MemStore), false, func(k *wire.KeyInfo) { k.AccountAddr, k.PublicKey = address, pub }, trust.AttestationOther, "something else"},
		{"another address", all, false, func(k *wire.KeyInfo) { k.AccountAddr = address }, trust.AttestationOther, "its address is not that of its public key"},
		{"no public key", all, false, func(k *wire.KeyInfo) { k.PublicKey = "" }, trust.AttestationOther, "public key"},
		{"another session", all, false, func(k *wire.KeyInfo) { k.SessionID = "kg-another" }, trust.AttestationOther, "something else"},
		{"no session", all, false, func(k *wire.KeyInfo) { k.SessionID = "" }, trust.AttestationOther, "session id"},
		{"another key id", all, false, func(k *wire.KeyInfo) { k.KeyID = "another" }, trust.AttestationOther, "something else"},
		{"another coordinator", all, false, func(k *wire.KeyInfo) { k.Coordinator = "mallory" }, trust.AttestationOther, "something else"},
		{"another threshold", all, false, func(k *wire.KeyInfo) { k.Threshold = 3 }, trust.AttestationOther, "something else"},
		{"another committee", all, false, func(k *wire.KeyInfo) { k.Participants[2] = "mallory" }, trust.AttestationOther, "something else"},
		{"a smaller committee", all, false, func(k *wire.KeyInfo) { k.Participants, k.Attestations = k.Participants[:2], k.Attestations[:2] }, trust.AttestationOther, "something else"},
		{"another curve", all, false, func(k *wire.KeyInfo) { k.Curve = "secp256k1" }, trust.AttestationOther, "public key"},
		{"those of another key", all, false, func(k *wire.KeyInfo) { k.KeyID, k.SessionID = other.KeyID, other.SessionID }, trust.AttestationOther, "something else"},
	} {
		k := good
		k.Participants, k.Attestations = slices.Clone(k.Participants), slices.Clone(k.Attestations)
		tc.change(&k)
		who, err := trust.CheckKey(k, tc.store.Known, tc.pinnedOnly)
		var e *trust.AttestationError
		if !errors.As(err, &e) || !errors.Is(err, trust.ErrNotAttested) || who != nil {
			t.Errorf("%s: got %v, %v, want it refused", tc.name, who, err)
			continue
		}
		if e.Fault != tc.fault || !strings.Contains(e.Err.Error(), tc.says) {
			t.Errorf("%s: got %s: %v, want %s: %s", tc.name, e.Fault, e.Err, tc.fault, tc.says)
		}
		if text := err.Error(); !strings.Contains(text, "do not use the address "+k.AccountAddr) || !strings.Contains(text, string(tc.fault)) {
			t.Errorf("%s: the error is not loud: %s", tc.name, text)
		}
	}
}

// strangersKey is a key of an attacker who does not share it.
func strangersKey(t *testing.T) (public, address string) {
	t.Helper()
	c := partytest.NewCommittee(t, 2)
	p := c.Keygen(t, pubkey.Ed25519, 2)[0].Public()
	return p.PublicKey, p.AccountAddr
}

// forgedBy is a part's attestation that an attacker makes of a key of which he has
// no share: of his own, presented as that key.
func forgedBy(t *testing.T, id *identity.Identity, info wire.KeyInfo, part int) string {
	t.Helper()
	c := partytest.NewCommittee(t, 2)
	c.Identities[0] = id
	c.Members[0].Identity = id.Public()
	share := c.KeygenCalled(t, pubkey.Ed25519, 2, info.KeyID)[0]
	a, err := share.Attest(id, info.SessionID, info.Coordinator)
	if err != nil {
		t.Fatal(err)
	}
	return a.String()
}

// TestKeygenIsAttested: the coordinator knows who has attested its key, remembers
// identities seen for the first time, and does not trust the server.
func TestKeygenIsAttested(t *testing.T) {
	t.Parallel()
	f, peers := three(t)
	store := new(MemStore)
	var mu sync.Mutex
	var changed []request.IdentityChanged
	c := coordinatorWith(t, f, func(cfg *client.Config) {
		cfg.Trust = trust.Of(store)
		cfg.OnEvent = func(e request.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e, ok := e.(request.IdentityChanged); ok {
				changed = append(changed, e)
			}
		}
	})
	keygen := func() (request.Key, error) {
		return c.Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
	}
	for i, first := range []bool{true, false} {
		key, err := keygen()
		if err != nil || len(key.AttestedBy) != 3 || key.Attested() == first {
			t.Fatalf("keygen %d: %+v, %v", i+1, key, err)
		}
		for j, a := range key.AttestedBy {
			if a.User != names[j] || a.First != first || a.Pinned || a.Fingerprint != peers[j].identity.Public().Fingerprint() {
				t.Errorf("keygen %d: part %d: %+v", i+1, j+1, a)
			}
		}
	}
	lie := func(change func(p *wire.KeygenConfirm)) {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		f.Tamper = func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.KeygenConfirm); ok {
				change(p)
			}
		}
	}
	public, address := strangersKey(t)
	var e *trust.AttestationError
	lie(func(p *wire.KeygenConfirm) { p.AccountAddr, p.PublicKey = address, public })
	if key, err := keygen(); !errors.As(err, &e) || e.Fault != trust.AttestationOther || key.AccountAddr != "" {
		t.Errorf("another address: %v, %v", key, err)
	}
	lie(func(p *wire.KeygenConfirm) { p.Attestations = nil })
	if key, err := keygen(); !errors.As(err, &e) || e.Fault != trust.AttestationMissing || key.AccountAddr != "" {
		t.Errorf("none: %v, %v", key, err)
	}
	// The request's session must not change before the end.
	lie(func(p *wire.KeygenConfirm) { p.SessionID = "kg-another" })
	if key, err := keygen(); err != nil || key.SessionID == "kg-another" {
		t.Errorf("another session: %v, %v", key, err)
	}
	lie(func(p *wire.KeygenConfirm) { p.Attestations[0] = p.Attestations[1] })
	if key, err := keygen(); !errors.As(err, &e) || e.Fault != trust.AttestationIdentity || !errors.Is(err, trust.ErrIdentityChanged) || key.AccountAddr != "" {
		t.Errorf("by another identity: %v, %v", key, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(changed) != 1 || changed[0].User != "alice" {
		t.Errorf("the changed identity is not told: %v", changed)
	}
}

// TestPinnedKeygen: a key's participants must be known before it is made.
func TestPinnedKeygen(t *testing.T) {
	t.Parallel()
	f, peers := three(t)
	store := new(MemStore)
	c := coordinatorWith(t, f, func(cfg *client.Config) { cfg.Trust = trust.Pinned(store) })
	request := request.Keygen{Threshold: 2, Participants: names, Curve: pubkey.Ed25519}
	for i, name := range names {
		if _, err := c.Keygen(clienttest.Within(t), request); !errors.Is(err, trust.ErrNotPinned) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not pinned: got %v", name, err)
		}
		if err := store.Pin(name, peers[i].identity.Public().Fingerprint()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(clienttest.Said[*wire.KeygenRequest](f, "coord")); n != 0 {
		t.Errorf("%d keygens were asked for", n)
	}
	key, err := c.Keygen(clienttest.Within(t), request)
	if err != nil || !key.Attested() || slices.ContainsFunc(key.AttestedBy, func(a trust.Attestor) bool { return !a.Pinned }) {
		t.Errorf("all pinned: %+v, %v", key, err)
	}
}

// TestOwnPart: a participant that requests a key itself knows itself.
func TestOwnPart(t *testing.T) {
	t.Parallel()
	info := attestedKey(t)
	keys := trust.KeyVerifier{User: "bob", Identity: made.identities[1]}
	who, err := trust.CheckKey(info, keys.Known, false)
	if err != nil || !who[1].Pinned || !who[0].First {
		t.Errorf("got %+v, %v", who, err)
	}
	keys.Identity = partytest.Identity(t)
	var e *trust.AttestationError
	if _, err := trust.CheckKey(info, keys.Known, false); !errors.As(err, &e) || e.Fault != trust.AttestationIdentity {
		t.Errorf("somebody else has bob's part: got %v", err)
	}
}

// TestWebKeygenIsAttested: the web API's report of a key is trusted no more than
// the socket's.
func TestWebKeygenIsAttested(t *testing.T) {
	t.Parallel()
	info := attestedKey(t)
	public, address := strangersKey(t)
	told := wire.SessionInfo{
		SessionID: info.SessionID, Kind: "keygen", Phase: "completed", KeyID: info.KeyID, AccountAddr: info.AccountAddr, PublicKey: info.PublicKey,
		Attestations: info.Attestations,
	}
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(wire.Task{KeyID: told.KeyID, SessionID: told.SessionID, Session: &told})
	}))
	t.Cleanup(srv.Close)
	keygen := func(store *MemStore, pinnedOnly bool) (request.Key, error) {
		a, err := rest.New(rest.Config{
			URLs: []string{srv.URL}, Token: rest.StaticToken(clienttest.Token("coord", "")), Identity: coordinatorIdentity(),
			Trust: trust.Policy{Known: store.Known, Trust: store.Trust, PinnedOnly: pinnedOnly},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		return a.Keygen(clienttest.Within(t), request.Keygen{KeyID: info.KeyID, Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
	}
	if _, err := keygen(knowing(t, false, names...), true); !errors.Is(err, trust.ErrNotPinned) || asked.Load() != 0 {
		t.Errorf("nobody is pinned: %v, and asked %d times", err, asked.Load())
	}
	if key, err := keygen(knowing(t, true, names...), true); err != nil || !key.Attested() || key.AccountAddr != info.AccountAddr {
		t.Errorf("the true one: %+v, %v", key, err)
	}
	told.AccountAddr, told.PublicKey = address, public
	if key, err := keygen(knowing(t, true, "bob"), false); !errors.Is(err, trust.ErrNotAttested) || key.AccountAddr != "" {
		t.Errorf("another key: %+v, %v", key, err)
	}
	told.Attestations = nil
	if key, err := keygen(knowing(t, true, "bob"), false); !errors.Is(err, trust.ErrNotAttested) || key.AccountAddr != "" {
		t.Errorf("another key, not attested: %+v, %v", key, err)
	}
	if key, err := keygen(new(MemStore), false); err != nil || key.Attested() {
		t.Errorf("of strangers: %+v, %v", key, err)
	}
}
