package participant

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Changes by the server that must be detected.
func TestLies(t *testing.T) {
	other := partytest.Identity(t).Public().String()
	for name, tc := range map[string]struct {
		lie  func(to string, p wire.Payload)
		want string // in the outcome's reason
	}{
		"digest": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignInvite); ok {
				p.Digest = "0x00"
			}
		}, "digest is not that of its data"},
		"address": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignInvite); ok {
				p.AccountAddr = "11111111111111111111111111111111"
			}
		}, "has signed something else"},
		"data after approval": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignParams); ok {
				p.Data = "all my money"
			}
		}, "differ from the invitation"},
		"hash after approval": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignParams); ok {
				p.Hash = "sha256"
			}
		}, "differ from the invitation"},
		"identity": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignParams); ok {
				for i := range p.Parties {
					if p.Parties[i].PartIndex != p.PartIndex {
						p.Parties[i].Identity = other
					}
				}
			}
		}, "identity has changed"},
	} {
		t.Run(name, func(t *testing.T) {
			f, peers, c, key := trioWithKey(t, nil)
			f.Mu.Lock()
			f.Tamper = tc.lie
			f.Mu.Unlock()
			_, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x", Participants: names})
			var out *request.OutcomeError
			if !errors.As(err, &out) || !strings.Contains(out.Reason, tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			for _, p := range peers {
				for _, s := range all[Started](p) {
					if s.Kind == request.KindSign {
						t.Errorf("%s ran the MPC", p.user)
					}
				}
			}
		})
	}
}

func TestUntrustedIdentity(t *testing.T) {
	f, peers, c := trio(t)
	makeKey(t, c, pubkey.Ed25519)
	bob := peers[1]
	bob.end()
	bob.identity = partytest.Identity(t)
	bob.start()
	_, err := c.Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
	var out *request.OutcomeError
	if !errors.As(err, &out) || out.Status != wire.StatusFailed || !slices.Equal(out.Culprits, []int{2}) {
		t.Errorf("got %v, want failed by part 2", err)
	}
	if !strings.Contains(fmt.Sprint(err), "identity has changed") {
		t.Errorf("got %v, want the reason", err)
	}
	_ = f
	var told []request.IdentityChanged
	for _, p := range []*peer{peers[0], peers[2]} {
		told = append(told, all[request.IdentityChanged](p)...)
	}
	if len(told) == 0 || told[0].User != "bob" || told[0].Now != bob.identity.Public().Fingerprint() || told[0].Known == told[0].Now {
		t.Errorf("told %+v, want bob's old fingerprint and the new one", told)
	}
}

// A silent signer is named, and replaced.
func TestSilence(t *testing.T) {
	t.Parallel()
	f, _, c, key := trioWithKey(t, func(cfg *Config) { cfg.SignSilence = 2 * time.Second })
	f.Mu.Lock()
	f.Refuse = func(user string, _ wire.Message, p wire.Payload) *wire.Error {
		if _, ok := p.(*wire.TSSMessage); ok && f.Mute == "" {
			f.Mute = user // the first to send is muted again
		}
		return nil
	}
	f.Mu.Unlock()
	if _, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
	// It waits in turn for those whom it keeps waiting, and names them.
	f.Mu.Lock()
	mute := f.Mute
	f.Mu.Unlock()
	part := slices.Index(names, mute) + 1
	named := slices.ContainsFunc(clienttest.Said[*wire.PartyFailed](f, ""), func(p *wire.PartyFailed) bool { return slices.Equal(p.Culprits, []int{part}) })
	if !named {
		t.Errorf("nobody named %s, part %d", mute, part)
	}
}

// A party whose round messages the server refuses reports so at once.
func TestRoundMessageRefused(t *testing.T) {
	f, _, c, key := trioWithKey(t, nil)
	unheard := ""
	f.Mu.Lock()
	f.Refuse = func(user string, _ wire.Message, p wire.Payload) *wire.Error {
		if _, ok := p.(*wire.TSSMessage); ok && (unheard == "" || unheard == user) {
			unheard = user
			return wire.Errorf(wire.CodeTooLarge, "too large")
		}
		return nil
	}
	f.Mu.Unlock()
	if _, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
	failed := clienttest.Said[*wire.PartyFailed](f, unheard)
	if len(failed) == 0 || !strings.Contains(failed[0].Reason, "too large") || len(failed[0].Culprits) != 0 {
		t.Errorf("%s reported %+v", unheard, failed)
	}
}

// The share comes from the server if the party's own store has lost it.
func TestShareFromServer(t *testing.T) {
	_, peers, c, key := trioWithKey(t, nil)
	alice := peers[0]
	alice.end()
	alice.store = &MemStore{}
	alice.start()
	_, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x", Participants: []string{"alice", "bob"}})
	if err != nil {
		t.Fatal(err)
	}
}

// Round messages may arrive before the parameters of their run, and must not be
// acknowledged before these have arrived.
func TestEarlyMessages(t *testing.T) {
	f, _, c, key := trioWithKey(t, nil)
	var held []func()
	ready := make(chan struct{})
	f.Mu.Lock()
	f.Tamper = func(to string, p wire.Payload) {
		if p, ok := p.(*wire.SignParams); ok && to == "alice" && held == nil {
			params := *p
			held = append(held, func() { f.Mail("alice", "", &params) })
			p.Attempt = 0 // messages arriving now are ignored as an old attempt's
		}
		if _, ok := p.(*wire.TSSMessage); ok && to == "alice" && len(held) == 1 {
			held = append(held, nil)
			close(ready)
		}
	}
	f.Mu.Unlock()
	result := make(chan error, 1)
	go func() {
		_, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x", Participants: []string{"alice", "bob"}})
		result <- err
	}()
	<-ready
	f.Mu.Lock()
	early := f.User("alice").Seq + 1
	f.Mu.Unlock()
	f.Drop("alice") // it resumes after the early message
	clienttest.WaitFor(t, "alice is back", func() bool {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		return f.User("alice").WS != nil && len(f.User("alice").Resumes) > 1
	})
	f.Mu.Lock()
	if f.User("alice").Acked >= early {
		t.Errorf("acknowledged %d, the early message is %d", f.User("alice").Acked, early)
	}
	f.Tamper = nil
	held[0]()
	f.Mu.Unlock()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	clienttest.WaitFor(t, "all is acknowledged", func() bool {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		return f.User("alice").Acked == f.User("alice").Seq
	})
}

func TestBadSignatureFromServer(t *testing.T) {
	f, _, c, key := trioWithKey(t, nil)
	f.Mu.Lock()
	f.Tamper = func(_ string, p wire.Payload) {
		if p, ok := p.(*wire.SignComplete); ok {
			r := p.Signature[2:66] // an R that differs from the signed one
			p.Signature = "0x" + r[2:] + r[:2] + p.Signature[66:]
		}
	}
	f.Mu.Unlock()
	_, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"})
	if !errors.Is(err, request.ErrBadSignature) || !errors.Is(err, pubkey.ErrSignature) {
		t.Errorf("got %v, want ErrBadSignature", err)
	}
}
