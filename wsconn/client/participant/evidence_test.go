package participant

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestTwoFaces: bob, with the server's help, commits to different values towards
// alice and carol. Their echoes reveal it, before tss-lib has seen either; both
// keep the evidence.
func TestTwoFaces(t *testing.T) {
	f := clienttest.New(t)
	var peers []*peer
	for _, name := range names {
		p := newPeer(t, f, name)
		store, err := TestingOpenStore(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		p.store = store
		peers = append(peers, p.start())
	}
	bob := peers[1].identity
	var other *party.Message // carol's message
	f.Mu.Lock()
	f.Tamper = func(to string, p wire.Payload) {
		switch p := p.(type) {
		case *wire.KeygenParams:
			if other == nil {
				other = otherCommitment(t, bob, p)
			}
		case *wire.TSSMessage:
			if body, _ := base64.StdEncoding.DecodeString(p.Body); to == "carol" && p.From == 2 && body[1] == other.Body[1] {
				p.Body, p.Sig = base64.StdEncoding.EncodeToString(other.Body), base64.StdEncoding.EncodeToString(other.Sig)
			}
			// Bob's own client is honest here: it would object to the messages sent
			// in its name, and might end the session before the others have checked.
			if to == "bob" {
				p.Attempt++
			}
		}
	}
	f.Mu.Unlock()
	c := coordinator(t, f)
	_, err := c.Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
	var out *request.OutcomeError
	if !errors.As(err, &out) || out.Status != wire.StatusFailed || !slices.Equal(out.Culprits, []int{2}) {
		t.Fatalf("got %v, want failed, by part 2", err)
	}
	clienttest.WaitFor(t, "somebody has kept evidence", func() bool { return count[Convicted](peers[0])+count[Convicted](peers[2]) > 0 })
	for _, p := range []*peer{peers[0], peers[2]} {
		for _, e := range all[Convicted](p) {
			if e.User != "bob" || e.PartIndex != 2 || e.Kind != request.KindKeygen {
				t.Errorf("%s: %+v", p.user, e)
			}
			info, err := os.Stat(e.Kept)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%s: evidence file: %v, %v", p.user, info, err)
			}
			text, err := os.ReadFile(e.Kept)
			if err != nil {
				t.Fatal(err)
			}
			evidence, err := statement.ParseEvidence([]byte(strings.TrimSpace(string(text))))
			if err != nil {
				t.Fatal(err)
			}
			if culprit, err := evidence.Verify(); err != nil || culprit.User != "bob" || culprit.Identity != bob.Public() {
				t.Errorf("%s: the evidence convicts %s, %v", p.user, culprit.User, err)
			}
			// The first evidence stays.
			again, err := p.store.(DiskStore).PutEvidence(t.Context(), evidence)
			if err != nil || again != e.Kept {
				t.Errorf("%s: kept again in %s, %v", p.user, again, err)
			}
		}
	}
	if n := count[Convicted](peers[1]); n != 0 {
		t.Errorf("bob convicts somebody %d times", n)
	}
}

// otherCommitment is the first message of another run of bob's with the same
// parameters.
func otherCommitment(t *testing.T, bob *identity.Identity, p *wire.KeygenParams) *party.Message {
	members, _, err := membersOf(p.Parties)
	if err != nil {
		t.Error(err)
		return nil
	}
	run, err := party.NewKeygen(party.KeygenConfig{Identity: bob, Concurrency: 1, Binding: party.Binding{
		SessionID: p.SessionID, Attempt: p.Attempt, KeyID: p.KeyID, Curve: pubkey.Curve(p.Curve), Threshold: p.Threshold,
		TotalParts: p.TotalParts, Parties: members, Self: 2,
	}})
	if err != nil {
		t.Error(err)
		return nil
	}
	if err := run.Start(); err != nil {
		t.Error(err)
	}
	m := <-run.Out()
	run.Close()
	return &m
}
