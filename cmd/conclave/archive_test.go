package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
)

// TestBackupOfEpochs: a restored home signs under the epoch that the backed-up one had,
// and remembers which numbers it has used.
func TestBackupOfEpochs(t *testing.T) {
	t.Parallel()
	c := partytest.NewCommittee(t, 2)
	shares := c.Keygen(t, pubkey.Ed25519, 2)
	text, err := shares[0].Seal(c.Identities[0].Recipient())
	if err != nil {
		t.Fatal(err)
	}
	public := shares[0].Public()
	first := c.FirstCertificate(t, shares)
	second := c.Refreshed(t, first, 3)
	home, restored := filepath.Join(t.TempDir(), "home"), filepath.Join(t.TempDir(), "restored")
	s := open(t, home)
	ctx := context.Background()
	_, err = s.Numbers(ctx, public.KeyID, public.AccountAddr, func(n *participant.Numbers) error { return n.Consent(5, second.Hash()) })
	err = errors.Join(err, s.Put(ctx, text), s.Put(ctx, strings.Replace(text, `"epoch":1,`, `"epoch":3,`, 1)),
		s.PutCertificate(ctx, first), s.PutCertificate(ctx, second))
	if err != nil {
		t.Fatal(err)
	}
	files := archive{}
	for _, dir := range []string{"epochs", "shares"} {
		if err := files.addDir(home, dir); err != nil {
			t.Fatal(err)
		}
	}
	if len(files) != 5 {
		t.Errorf("the backup has %v", files.names())
	}
	for name, content := range files {
		if strings.HasPrefix(name, "epochs/") && (dirstore.CheckEpochFile(content) != nil || dirstore.CheckEpochFile(content[:len(content)-2]) == nil) {
			t.Errorf("%s is not checked", name)
		}
	}
	if err := files.write(restored); err != nil {
		t.Fatal(err)
	}
	again := open(t, restored)
	list, err := again.List(ctx)
	if err != nil || len(list) != 1 || list[0].Epoch != 3 {
		t.Errorf("the restored home has %v, %v", list, err)
	}
	if l, err := again.Lineage(ctx, public.KeyID, public.AccountAddr); err != nil || l.Head().Hash() != second.Hash() {
		t.Errorf("the restored lineage: %v", err)
	}
	if n, err := again.Numbers(ctx, public.KeyID, public.AccountAddr, nil); err != nil || n.Highest != 5 || n.Consents[5] != second.Hash() {
		t.Errorf("the restored numbers are %+v, %v", n, err)
	}
}

func open(t *testing.T, dir string) *dirstore.Store {
	t.Helper()
	s, err := dirstore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
