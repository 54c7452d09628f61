package participant

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// invited is a participant, alice, invited by coord; the test sends it all
// messages.
type invited struct {
	*participant
	store  *MemStore
	events []request.Event
}

func newInvited(t *testing.T, change func(*Config)) *invited {
	t.Helper()
	makeOnce(t)
	v := &invited{store: &MemStore{}}
	if err := v.store.Put(t.Context(), made.shares[0]); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Approve: ApproveAll, Shares: v.store}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(client.Config{
		URLs: []string{"http://127.0.0.1:1"}, Token: rest.StaticToken("x"), User: "alice", Identity: made.identities[0],
		OnEvent: func(e request.Event) { v.events = append(v.events, e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	v.participant = p.serve
	// The client ends before it connects, and leaves its link.
	if err := c.Serve(t.Context(), linked{v.participant}); !errors.Is(err, errLinked) {
		t.Fatal(err)
	}
	return v
}

// linked is a Service that takes the link for a participant, and refuses to start.
type linked struct{ *participant }

var errLinked = errors.New("linked")

func (l linked) Start(_ context.Context, link *client.Link) error {
	l.link, l.identity, l.log = link, link.Identity(), link.Log()
	return errLinked
}

// check examines an invitation, and claims its request.
func (v *invited) check(ctx context.Context, inv Invitation) (Invitation, error) {
	inv, err := v.examine(ctx, inv)
	if err == nil {
		err = v.claim(ctx, inv)
	}
	return inv, err
}

func (v *invited) pin(t *testing.T) *invited {
	t.Helper()
	if err := v.store.Pin("coord", coordinatorIdentity().Public().Fingerprint()); err != nil {
		t.Fatal(err)
	}
	return v
}

// asker is the coordinator of every test.
func asker() request.Asker { return request.Asker{User: "coord", Identity: coordinatorIdentity()} }

func keygenInvite(t *testing.T) *wire.KeygenInvite {
	t.Helper()
	p, err := asker().Keygen(request.Keygen{KeyID: "new", Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
	if err != nil {
		t.Fatal(err)
	}
	return &wire.KeygenInvite{
		KeyID: "new", Threshold: 2, TotalParts: 3, PartIndex: 1, Participants: slices.Clone(names), SessionID: "kg-1", Coordinator: "coord",
		Curve: "ed25519", Deadline: time.Now().Add(time.Minute), SignedRequest: p.Request.SignedRequest,
	}
}

func signInvite(t *testing.T, participants ...string) *wire.SignInvite {
	t.Helper()
	makeOnce(t)
	p, err := asker().Sign(request.Sign{KeyID: "made", AccountAddr: made.public.AccountAddr, Data: "pay bob", Participants: participants, RequestID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	r := p.Request
	if len(participants) == 0 {
		participants = names
	}
	return &wire.SignInvite{
		KeyID: "made", Data: "pay bob", AccountAddr: r.AccountAddr, PartIndex: 1, Participants: slices.Sorted(slices.Values(participants)),
		SessionID: r.SessionID, Coordinator: "coord", Hash: "none", Digest: pubkey.Encode([]byte("pay bob")),
		MinEpoch: 1, Deadline: time.Now().Add(time.Minute), SignedRequest: r.SignedRequest,
	}
}

func TestSignedInvitation(t *testing.T) {
	v := newInvited(t, nil).pin(t)
	for name, inv := range map[string]Invitation{
		"keygen": keygenInvitation(keygenInvite(t)), "sign": signInvitation(signInvite(t, "bob", "alice")), "sign by all": signInvitation(signInvite(t)),
	} {
		got, err := v.check(t.Context(), inv)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := got.Signer
		if s == nil || !s.Pinned || s.First || s.Fingerprint != coordinatorIdentity().Public().Fingerprint() || s.ExpiresAt.Sub(s.IssuedAt) < time.Hour {
			t.Errorf("%s: signer is %+v", name, s)
		}
		if ok, reason, err := ApproveAll(t.Context(), got); !ok || err != nil {
			t.Errorf("%s: not approved: %s, %v", name, reason, err)
		}
	}
}

// TestEveryFieldOfAnInvitation changes each field of an invitation on its way. It
// iterates over the fields of the wire's types, so that a new one must be decided:
// it is signed, or listed here as the server's own.
func TestEveryFieldOfAnInvitation(t *testing.T) {
	servers := map[string]string{
		"KeygenInvite.SessionID": "the server names the session of a keygen",
		"KeygenInvite.Deadline":  "the server's own, but never later than the request's",
		"SignInvite.Deadline":    "the server's own, but never later than the request's",
		"SignInvite.Epoch":       "the key's current one, as the server says; the share here decides",
	}
	cases := func(invite any) map[string]any {
		changed := map[string]any{}
		typ := reflect.TypeOf(invite).Elem()
		for i := range typ.NumField() {
			name := typ.Field(i).Name
			add := func(how string, set func(reflect.Value)) {
				fresh := reflect.New(typ)
				fresh.Elem().Set(reflect.ValueOf(invite).Elem())
				set(fresh.Elem().Field(i))
				changed[typ.Name()+"."+name+" "+how] = fresh.Interface()
			}
			switch f := typ.Field(i).Type; {
			case f.Kind() == reflect.String:
				add("changed", func(f reflect.Value) { f.SetString(f.String() + "x") })
				add("left out", func(f reflect.Value) { f.SetString("") })
			case f.Kind() == reflect.Int:
				add("more", func(f reflect.Value) { f.SetInt(f.Int() + 1) })
				add("less", func(f reflect.Value) { f.SetInt(f.Int() - 1) })
			case f.Kind() == reflect.Slice:
				add("one less", func(f reflect.Value) { f.Set(f.Slice(0, f.Len()-1)) })
				add("another", func(f reflect.Value) { f.Set(reflect.ValueOf([]string{"alice", "bob", "eve"})) })
				add("none", func(f reflect.Value) { f.SetZero() })
			case f == reflect.TypeFor[time.Time]():
				add("later", func(f reflect.Value) { f.Set(reflect.ValueOf(time.Now().Add(1000 * time.Hour))) })
				add("left out", func(f reflect.Value) { f.SetZero() })
			default:
				t.Fatalf("%s is of a kind that this test cannot change", name)
			}
		}
		return changed
	}
	for _, invite := range []any{keygenInvite(t), signInvite(t, "alice", "bob", "carol"), signInvite(t)} {
		for name, changed := range cases(invite) {
			var inv Invitation
			switch m := changed.(type) {
			case *wire.KeygenInvite:
				if m.TotalParts != len(m.Participants) {
					continue // the invitation that is shown has one of them only
				}
				inv = keygenInvitation(m)
			case *wire.SignInvite:
				inv = signInvitation(m)
			}
			field, how, _ := strings.Cut(name, " ")
			v := newInvited(t, nil).pin(t) // one that has seen no session with this request
			got, err := v.check(t.Context(), inv)
			approved := false
			if err == nil {
				approved, _, _ = ApproveAll(t.Context(), got)
			}
			switch {
			case servers[field] == "" && field == "SignInvite.Hash" && how == "left out",
				servers[field] == "" && field == "SignInvite.Digest" && how == "left out":
				// Computed here: the approver still sees the signed value.
				if !approved || got.Hash != "none" || got.Digest != pubkey.Encode([]byte("pay bob")) {
					t.Errorf("%s: %v, shown %q %q", name, err, got.Hash, got.Digest)
				}
			case name == "SignInvite.MinEpoch less": // 0 is every epoch, from 1
				if !approved {
					t.Errorf("%s: %v", name, err)
				}
			case servers[field] == "" && approved:
				t.Errorf("%s: approved", name)
			case servers[field] != "" && field != "KeygenInvite.SessionID" && (!approved || got.Deadline.After(got.Signer.ExpiresAt)):
				t.Errorf("%s: %v, deadline %s", name, err, got.Deadline)
			}
		}
	}
}

// TestReplayedRequest: a request is valid for one session, over restarts.
func TestReplayedRequest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	open := func() *invited {
		store, err := TestingOpenStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return newInvited(t, func(cfg *Config) { cfg.Shares, cfg.Journal = store, store })
	}
	invite := keygenInvite(t)
	again := func(session string) error {
		v := open()
		if err := v.cfg.Shares.(testStore).Pin("coord", coordinatorIdentity().Public().Fingerprint()); err != nil {
			t.Fatal(err)
		}
		m := *invite
		m.SessionID = session
		_, err := v.check(t.Context(), keygenInvitation(&m))
		return errors.Join(err, v.cfg.Shares.(DiskStore).Close())
	}
	for _, tc := range []struct {
		session, refused string
	}{{"kg-1", ""}, {"kg-1", ""}, {"kg-2", "used before, in session kg-1"}, {"kg-1", ""}} {
		err := again(tc.session)
		if (err == nil) != (tc.refused == "") || err != nil && !strings.Contains(err.Error(), tc.refused) {
			t.Errorf("%s: got %v, want %q", tc.session, err, tc.refused)
		}
	}
	// Another request for the same values is a different one.
	invite = keygenInvite(t)
	if err := again("kg-2"); err != nil {
		t.Error(err)
	}
}

// TestRefusedRequests: faults of a request beside its fields.
func TestRefusedRequests(t *testing.T) {
	stranger := partytest.Identity(t)
	signed := func(id *identity.Identity, issued, life time.Duration) string {
		now := time.Now()
		inv := keygenInvitation(keygenInvite(t))
		s, err := inv.request().Sign(id, now.Add(issued), now.Add(issued+life))
		if err != nil {
			t.Fatal(err)
		}
		return s.String()
	}
	own := coordinatorIdentity()
	pinnedOnly := func(cfg *Config) { cfg.Trust.PinnedOnly = true }
	for name, tc := range map[string]struct {
		request string
		change  func(*Config)
		known   *identity.Identity // first used; nil for none
		pinned  bool
		want    string // "" if a question is allowed, "!" if it is approved
	}{
		"pinned":                      {request: signed(own, 0, time.Hour), pinned: true, want: "!"},
		"not signed":                  {request: ""},
		"not signed, pinned":          {request: "", pinned: true, want: "has not signed"},
		"not signed, pinned only":     {request: "", change: pinnedOnly, want: "has not signed"},
		"nonsense":                    {request: "conclave-req1.AAAA", want: "must begin with"},
		"first use":                   {request: signed(own, 0, time.Hour)},
		"second use":                  {request: signed(own, 0, time.Hour), known: own},
		"unknown, pinned only":        {request: signed(own, 0, time.Hour), change: pinnedOnly, want: "not pinned"},
		"first used, pinned only":     {request: signed(own, 0, time.Hour), known: own, change: pinnedOnly, want: "not pinned"},
		"another than the first used": {request: signed(stranger, 0, time.Hour), known: own, want: "identity has changed"},
		"another than the pinned":     {request: signed(stranger, 0, time.Hour), pinned: true, want: "identity has changed"},
		"expired":                     {request: signed(own, -2*time.Hour, time.Hour), pinned: true, want: "expired"},
		"of the future":               {request: signed(own, time.Hour, time.Hour), pinned: true, want: "later time"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newInvited(t, tc.change)
			if tc.known != nil {
				if err := v.store.Trust("coord", tc.known.Public()); err != nil {
					t.Fatal(err)
				}
			}
			if tc.pinned {
				v.pin(t)
			}
			m := keygenInvite(t)
			m.SignedRequest = tc.request
			before, _, _ := v.store.Known("coord")
			inv, err := v.check(t.Context(), keygenInvitation(m))
			if tc.want != "" && tc.want != "!" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
			} else if err != nil {
				t.Error(err)
			} else if ok, reason, _ := ApproveAll(t.Context(), inv); ok != (tc.want == "!") {
				t.Errorf("approved without anybody looking: %t, %s", ok, reason)
			}
			if strings.Contains(tc.want, "changed") {
				told := fmt.Sprint(v.events)
				if len(v.events) != 1 || !strings.Contains(told, own.Public().Fingerprint()) || !strings.Contains(told, stranger.Public().Fingerprint()) {
					t.Errorf("events are %v, want both fingerprints", v.events)
				}
			}
			if after, _, _ := v.store.Known("coord"); after != before {
				t.Errorf("an invitation alone makes %+v known", after)
			}
		})
	}
}

// TestFirstUse: the coordinator whose request was approved is known from then on.
func TestFirstUse(t *testing.T) {
	f, peers, c := trio(t)
	_ = f
	before := makeKey(t, c, pubkey.Ed25519)
	for _, p := range peers {
		p.end()
		store := &MemStore{}
		p.store = &unpinnable{MemStore: store}
		p.approve = func(_ context.Context, inv Invitation) (bool, string, error) {
			if inv.KeyID == before.KeyID { // again, if its acknowledgement was cut off
				return false, "made already", nil
			}
			return inv.Signer != nil && inv.Signer.First && !inv.Signer.Pinned, "not the first use", nil
		}
		p.start()
	}
	makeKey(t, c, pubkey.Ed25519)
	for _, p := range peers {
		k, ok, err := p.store.Known("coord")
		if !ok || err != nil || k.Pinned || k.Fingerprint != coordinatorIdentity().Public().Fingerprint() {
			t.Errorf("%s knows %+v, %v", p.user, k, err)
		}
	}
	_, err := c.Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
	if err == nil || !strings.Contains(err.Error(), "not the first use") {
		t.Errorf("got %v, want the second use to be one", err)
	}
}

// unpinnable is a store in which a test's participant pins no identity.
type unpinnable struct{ *MemStore }

func (*unpinnable) Pin(string, string) error { return nil }

// TestKeptBack: an approval is valid for as long as the request is.
func TestKeptBack(t *testing.T) {
	inv := keygenInvitation(keygenInvite(t))
	if err := stillHolds(inv); err != nil {
		t.Error(err)
	}
	now := time.Now()
	s, err := inv.request().Sign(coordinatorIdentity(), now.Add(-2*time.Hour), now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	inv.SignedRequest = s.String()
	if err := stillHolds(inv); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v, want that it has expired", err)
	}
	v := newInvited(t, nil).pin(t)
	ctx, cancel := context.WithCancel(t.Context())
	v.add(ctx, Record{Invitation: inv, At: now, Answer: Accepted}, nil)
	params := &wire.KeygenParams{KeyID: "new", Threshold: 2, TotalParts: 3, PartIndex: 1, SessionID: "kg-1", Attempt: 1, Curve: "ed25519"}
	for i, name := range names {
		params.Parties = append(params.Parties, wire.Party{PartIndex: i + 1, UserID: name, Identity: made.identities[i].Public().String()})
	}
	if err := v.keygenParams(ctx, params); err != nil {
		t.Error(err)
	}
	cancel()
	v.tasks.Wait()
	if told := fmt.Sprint(v.events); !strings.Contains(told, "the request has expired") {
		t.Errorf("events are %s, want that it has expired", told)
	}
	if inv.SignedRequest = ""; stillHolds(inv) != nil {
		t.Error("what is not signed has no time of its own")
	}
}
