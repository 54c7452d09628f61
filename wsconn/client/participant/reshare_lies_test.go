package participant

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// tamper sets what happens to the messages of a type on their way to a user.
func tamper[P wire.Payload](w *resharing, to string, change func(P)) {
	w.f.Mu.Lock()
	defer w.f.Mu.Unlock()
	w.f.Tamper = func(user string, p wire.Payload) {
		if m, ok := p.(P); ok && user == to {
			change(m)
		}
	}
}

// fails requests a refresh, which must not come, and returns the reasons that a user gave.
func (w *resharing) fails(r request.Reshare, user string) string {
	w.t.Helper()
	w.f.Mu.Lock()
	heard := len(w.f.Lineages["made"])
	w.f.Mu.Unlock()
	done, err := w.c.Reshare(clienttest.Within(w.t), r)
	if err == nil {
		w.t.Fatalf("epoch %d was certified", done.Epoch)
	}
	w.f.Mu.Lock()
	defer w.f.Mu.Unlock()
	if n := len(w.f.Lineages["made"]); n != heard {
		w.t.Fatalf("there are %d certificates, want %d", n, heard)
	}
	said := []string{err.Error()}
	for _, m := range w.f.SaidBy(user) {
		switch m := m.(type) {
		case *wire.ReshareResponse:
			if !*m.Response {
				said = append(said, m.Reason)
			}
		case *wire.PartyFailed:
			said = append(said, m.Reason)
		}
	}
	return strings.Join(said, "\n")
}

// A captured server changes an invitation to a reshare: the member declines, and the key
// signs as before.
func TestLiesAboutReshare(t *testing.T) {
	w := newResharing(t, nil)
	stranger := partytest.Identity(t).Public().String()
	for name, tc := range map[string]struct {
		change func(m *wire.ReshareInvite)
		want   string
	}{
		"its own member": {func(m *wire.ReshareInvite) {
			m.To.Parties[2] = wire.Party{PartIndex: 3, UserID: "mallory", Identity: stranger}
		}, "signed something else"},
		"another identity": {func(m *wire.ReshareInvite) { m.To.Parties[2].Identity = stranger }, "signed something else"},
		"the own identity": {func(m *wire.ReshareInvite) { m.To.Parties[0].Identity = stranger }, "another identity"},
		"threshold":        {func(m *wire.ReshareInvite) { m.To.Threshold = 3 }, "signed something else"},
		"parent":           {func(m *wire.ReshareInvite) { m.Certificate = "0x" + strings.Repeat("00", 32) }, "signed something else"},
		"no parent":        {func(m *wire.ReshareInvite) { m.Certificate = "" }, "has no certificate"},
		"old committee":    {func(m *wire.ReshareInvite) { m.From.Parties[1].UserID = "mallory" }, "old committee"},
		"old threshold":    {func(m *wire.ReshareInvite) { m.From.Threshold = 3 }, "old committee"},
		"old epoch":        {func(m *wire.ReshareInvite) { m.From.Epoch = 2 }, "signed something else"},
		"places":           {func(m *wire.ReshareInvite) { m.Places = []int{2, 4} }, "not its own"},
		"coordinator":      {func(m *wire.ReshareInvite) { m.Coordinator = "mallory" }, "signed something else"},
		"not signed":       {func(m *wire.ReshareInvite) { m.SignedRequest = "" }, "not signed"},
		"public key":       {func(m *wire.ReshareInvite) { m.PublicKey = "0x" + strings.Repeat("11", 32) }, "public key"},
		"address":          {func(m *wire.ReshareInvite) { m.AccountAddr = "11111111111111111111111111111111" }, "address"},
	} {
		tamper(w, "alice", tc.change)
		w.f.Forget()
		if got := w.fails(request.Refresh(w.lineage), "alice"); !strings.Contains(got, tc.want) {
			t.Errorf("%s: alice said %q, want %q", name, got, tc.want)
		}
	}
	w.f.Mu.Lock()
	w.f.Tamper = nil
	w.f.Mu.Unlock()
	w.sign()
	w.reshare(request.Refresh(w.lineage))
	w.sign()
}

// A captured server changes the parameters of an attempt, or uses a number twice: no
// attempt begins.
func TestLiesAboutReshareParams(t *testing.T) {
	w := newResharing(t, nil)
	if _, err := w.peers["alice"].store.(EpochStore).Numbers(t.Context(), "made", made.public.AccountAddr, func(n *Numbers) error { return n.See(500) }); err != nil {
		t.Fatal(err)
	}
	stranger := partytest.Identity(t).Public().String()
	for name, tc := range map[string]struct {
		change func(m *wire.ReshareParams)
		want   string
	}{
		"identity of the new": {func(m *wire.ReshareParams) { m.To.Parties[1].Identity = stranger }, "differ"},
		"identity of the old": {func(m *wire.ReshareParams) {
			for i := range m.From.Parties {
				m.From.Parties[i].Identity = stranger
			}
		}, "identity"},
		"threshold":            {func(m *wire.ReshareParams) { m.To.Threshold = 3 }, "differ"},
		"parent":               {func(m *wire.ReshareParams) { m.Certificate = "" }, "differ"},
		"a used number":        {func(m *wire.ReshareParams) { m.Epoch = 1 }, "not possible"},
		"a great number":       {func(m *wire.ReshareParams) { m.Epoch = 5000 }, "not possible"},
		"places":               {func(m *wire.ReshareParams) { m.Places = []int{2, 5} }, "place"},
		"no own place":         {func(m *wire.ReshareParams) { m.Places = []int{1} }, "leave this party out"},
		"another quorum":       {func(m *wire.ReshareParams) { m.From.Parties[0].UserID = "mallory" }, "differ"},
		"a number seen before": {func(m *wire.ReshareParams) { m.Epoch = 400 }, "used before"},
	} {
		tamper(w, "alice", tc.change)
		w.f.Forget()
		if got := w.fails(request.Refresh(w.lineage), "alice"); !strings.Contains(got, tc.want) {
			t.Errorf("%s: alice said %q, want %q", name, got, tc.want)
		}
	}
	w.f.Mu.Lock()
	w.f.Tamper = nil
	w.f.Mu.Unlock()
	w.reshare(request.Refresh(w.lineage))
	w.sign()
}

// A new identity that is not pinned needs a person, who is shown its fingerprint; an
// approver without one declines. The pin of a user with a new device changes with the
// certificate.
func TestNewDevice(t *testing.T) {
	w := newResharing(t, nil)
	old := w.peers["carol"]
	old.end()
	device := newPeer(t, w.f, "carol")
	if err := device.store.Pin("alice", w.peers["alice"].identity.Public().Fingerprint()); err != nil {
		t.Fatal(err)
	}
	device.start()
	w.peers["carol"] = device
	r, err := request.Replace(w.lineage, "carol", w.member("carol"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.Reshare(clienttest.Within(t), r); err == nil || !strings.Contains(err.Error(), "identity has changed") {
		t.Fatalf("the coordinator asks for an identity that it has not pinned: %v", err)
	}
	r.NewIdentities = []string{"carol"}
	if got := w.fails(r, "alice"); !strings.Contains(got, "nobody has confirmed the new identities of carol") {
		t.Errorf("alice said %q", got)
	}
	fingerprint := device.identity.Public().Fingerprint()
	shown := make(chan Reshare, 10)
	for _, user := range []string{"alice", "bob"} {
		p := w.peers[user]
		p.end()
		p.approve = func(_ context.Context, inv Invitation) (bool, string, error) {
			if inv.Reshare != nil {
				shown <- *inv.Reshare
			}
			return true, "", nil
		}
		p.start()
	}
	r.RequestID = "again"
	w.reshare(r)
	x := <-shown
	if m := x.To.Members[2]; !m.Device || m.Joins || m.Pinned || m.Fingerprint != fingerprint || m.Known != old.identity.Public().Fingerprint() || !slices.Equal(x.Unpinned, []string{"carol"}) {
		t.Errorf("shown %+v, to confirm %v", m, x.Unpinned)
	}
	for _, user := range []string{"alice", "bob"} {
		clienttest.WaitFor(t, user+" has the new pin", func() bool {
			known, _, err := w.peers[user].store.Known("carol")
			return err == nil && known.Pinned && known.Fingerprint == fingerprint
		})
	}
	w.sign("alice", "carol")
}

// After the switch nothing is signed under the old epoch, not even by a device restored
// from before it; a member that has missed the certificate fetches it.
func TestRestoredDevice(t *testing.T) {
	w := newResharing(t, nil)
	bob := w.peers["bob"]
	before := made.shares[1]
	w.reshare(request.Refresh(w.lineage))
	bob.end()
	bob.store = &MemStore{} // with the share of epoch 1 alone
	if err := bob.store.Put(context.Background(), before); err != nil {
		t.Fatal(err)
	}
	bob.start()
	w.sign("alice", "bob") // with bob's sealed copy, after the certificate
	if got := w.shares("bob"); !slices.Equal(got, []int{2}) {
		t.Errorf("bob holds epochs %v, want 2", got)
	}
	// A server that asks under epoch 1 again.
	w.f.Mu.Lock()
	w.f.Tamper = func(_ string, p wire.Payload) {
		if m, ok := p.(*wire.SignInvite); ok {
			m.Epoch, m.MinEpoch = 1, 1
		}
	}
	w.f.Mu.Unlock()
	w.f.Forget()
	if err := w.trySign("alice", "bob"); err == nil {
		t.Fatal("signed under an epoch that is over")
	}
	var told []*wire.SignResponse
	clienttest.WaitFor(t, "alice answers", func() bool {
		told = clienttest.Said[*wire.SignResponse](w.f, "alice")
		return len(told) > 0
	})
	if *told[0].Response || !strings.Contains(told[0].Reason, "moved from epoch 1 to 2") {
		t.Fatalf("alice said %+v", told)
	}
	if c, err := statement.ParseCertificate(told[0].Certificate); err != nil || c.Number() != 2 {
		t.Errorf("alice's certificate: %v, %v", c, err)
	}
}

// A server that keeps back the certificate, forges one, or brings another chain: nothing
// is deleted, and the key signs under the old epoch.
func TestLiesAboutCertificates(t *testing.T) {
	w := newResharing(t, nil)
	w.f.Mu.Lock()
	w.f.Withhold = true
	w.f.Mu.Unlock()
	go func() { _, _ = w.c.Reshare(clienttest.Within(t), request.Refresh(w.lineage)) }()
	clienttest.WaitFor(t, "epoch 2 is certified", func() bool {
		w.f.Mu.Lock()
		defer w.f.Mu.Unlock()
		return len(w.f.Lineages["made"]) == 2
	})
	for _, user := range names {
		if got := w.shares(user); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("%s holds epochs %v, want 1 and the pending 2", user, got)
		}
	}
	w.f.Mu.Lock()
	c := w.f.Lineages["made"][1]
	w.f.Mu.Unlock()
	few := *c
	few.Consents = c.Consents[:1]
	twice := *c
	twice.Consents = []statement.PartConsent{c.Consents[0], {Part: c.Consents[0].Part + 1, Consent: c.Consents[0].Consent}}
	none := *c
	none.Attestations = []string{c.Attestations[0], c.Attestations[0], c.Attestations[2]}
	for _, forged := range []*statement.Certificate{&few, &twice, &none} {
		w.f.Send("alice", &wire.EpochCertified{KeyID: "made", Epoch: 2, Certificate: forged.String()})
	}
	w.f.Await(t, "alice")
	if got := w.shares("alice"); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("after forged certificates alice holds epochs %v", got)
	}
	w.f.Send("alice", &wire.EpochCertified{KeyID: "made", Epoch: 2, Certificate: c.String()})
	clienttest.WaitFor(t, "alice moves", func() bool { return slices.Equal(w.shares("alice"), []int{2}) })
}
