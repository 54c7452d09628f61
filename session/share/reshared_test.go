package share_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// reshared is a 2-of-3 key of ed25519 with its shares in two epochs.
func reshared(t *testing.T) (c *partytest.Committee, first, second []*share.Share) {
	t.Helper()
	c, first = someKey(t, pubkey.Ed25519)
	return c, first, c.Reshare(t, first, []int{1, 3}, c, 2)
}

func stateEpoch(t *testing.T, s *share.Share) *statement.Epoch {
	t.Helper()
	e, err := s.Epoch("session", "carol", &statement.Parent{Number: 1, Hash: statement.Hash{7}}, statement.Generated, "")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestEpochIsTheSameForAll: all members of a committee state the same epoch, it is the
// share's, and the points are those of the secret numbers.
func TestEpochIsTheSameForAll(t *testing.T) {
	t.Parallel()
	_, _, shares := reshared(t)
	first := stateEpoch(t, shares[0])
	for i, s := range shares {
		e := stateEpoch(t, s)
		if e.Hash() != first.Hash() {
			t.Errorf("part %d states another epoch", i+1)
		}
		if err := s.CheckEpoch(first); err != nil {
			t.Error(err)
		}
	}
	if len(first.Points) != 3 || first.Number != 2 || first.Threshold != 2 {
		t.Errorf("got %+v", first)
	}
}

// TestCheckEpochRefuses: a share of another epoch, committee or key, and points of which
// one is not the share's, do not pass; nor do all other fields of another epoch.
func TestCheckEpochRefuses(t *testing.T) {
	t.Parallel()
	c, before, shares := reshared(t)
	again := c.Reshare(t, before, []int{1, 2}, c, 2) // the same number, other shares
	other := c.Keygen(t, pubkey.Ed25519, 2)          // another key
	others := c.Keep(t, []int{1, 2}, 1)              // another member
	moved := c.Reshare(t, before, []int{1, 2}, others, 2)
	for name, test := range map[string]struct {
		s    *share.Share
		want string
	}{
		"an older share":               {before[0], "it is of epoch 1"},
		"a share of another attempt":   {again[0], "its public points are others"},
		"a share of another key":       {other[0], "it is of another key"},
		"a share of another committee": {moved[0], "it is of another committee"},
	} {
		err := test.s.CheckEpoch(stateEpoch(t, shares[0]))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	for i := range 3 {
		e := *stateEpoch(t, shares[0])
		e.Points = slices.Clone(e.Points)
		e.Points[i] = stateEpoch(t, again[0]).Points[i]
		if err := shares[0].CheckEpoch(&e); err == nil {
			t.Errorf("the point of part %d may be another", i+1)
		}
		e.Points = nil
		if err := shares[0].CheckEpoch(&e); err == nil {
			t.Error("a later epoch needs no points")
		}
	}
}

// TestEpochsDoNotMix: shares of two epochs recover nothing, because Recover refuses them,
// and would recover nothing if it did not: their numbers determine another key, in every
// combination.
func TestEpochsDoNotMix(t *testing.T) {
	t.Parallel()
	_, before, after := reshared(t)
	for _, epoch := range [][]*share.Share{before, after} { // a superseded one too
		if _, err := share.Recover(epoch[:2]); err != nil {
			t.Errorf("epoch %d: %v", epoch[0].Public().Epoch, err)
		}
	}
	mixed := 0
	for i, old := range before {
		for j, fresh := range after {
			if old.Public().User == fresh.Public().User {
				continue
			}
			if _, err := share.Recover([]*share.Share{old, fresh}); err == nil || !strings.Contains(err.Error(), "different epochs") {
				t.Errorf("parts %d and %d of two epochs: got %v", i+1, j+1, err)
			}
			if share.Combine(old, fresh) {
				t.Errorf("parts %d and %d of two epochs determine the key", i+1, j+1)
			}
			mixed++
		}
		if !share.Combine(before[i], before[(i+1)%3]) || !share.Combine(after[i], after[(i+1)%3]) {
			t.Error("parts of one epoch do not determine the key: the test shows nothing")
		}
	}
	if mixed != 6 {
		t.Errorf("%d combinations were tried", mixed)
	}
}

// TestReadOfEpoch: a share of a later epoch is sealed and read like others, and its
// secret does not pass for that of another epoch.
func TestReadOfEpoch(t *testing.T) {
	t.Parallel()
	c, _, shares := reshared(t)
	text := seal(t, shares[0], c.Identities[0])
	again, err := share.Open(text, c.Identities[0])
	if err != nil || share.Secret(again) != share.Secret(shares[0]) || again.Public().Epoch != 2 {
		t.Fatalf("got %v, %v", again, err)
	}
	claimed := shares[0].Public()
	claimed.Epoch = 3
	if err := claimOf(claimed, shares[0]); err == nil {
		t.Error("a share passes for one of another epoch")
	}
}

// claimOf makes a share of a secret with another public part.
func claimOf(p share.Public, s *share.Share) error {
	_, err := share.New(p, s.Secret())
	return err
}
