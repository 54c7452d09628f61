package participant

import (
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

// TestPinnedOnly: with it a keygen stops at unpinned parties, and names them.
func TestPinnedOnly(t *testing.T) {
	f := clienttest.New(t)
	var peers []*peer
	for _, name := range names {
		p := newPeer(t, f, name)
		if name == "bob" {
			p.change = func(cfg *Config) { cfg.Trust.PinnedOnly = true }
		}
		peers = append(peers, p.start())
	}
	c := coordinator(t, f)
	ask := func() error {
		_, err := c.Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
		return err
	}
	if err := ask(); err == nil || !strings.Contains(err.Error(), "alice (part 1) is not trusted") || !strings.Contains(err.Error(), peers[0].identity.Public().Fingerprint()) {
		t.Errorf("got %v, want that alice is not pinned, with its fingerprint", err)
	}
	for _, p := range []*peer{peers[0], peers[2]} {
		if err := peers[1].store.Pin(p.user, p.identity.Public().Fingerprint()); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(); err != nil {
		t.Errorf("all are pinned: %v", err)
	}
}
