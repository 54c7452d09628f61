package dirstore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

func TestLoadIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "identity")
	if _, err := ReadIdentity(path, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	first, made, err := LoadIdentity(path, nil)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	again, made, err := LoadIdentity(path, nil)
	if err != nil || made || again.Public() != first.Public() {
		t.Errorf("read again: made %t, %v", made, err)
	}
	if _, err := MakeIdentity(path, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made over another: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("directory holds %v, %v", entries, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadIdentity(path, nil); err == nil || !strings.Contains(err.Error(), "chmod go= ") {
		t.Errorf("an identity that others can read: got %v, want a refusal that says what to do", err)
	}
	if err := os.WriteFile(path, []byte("secret nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(path, 0o600)
	if _, _, err := LoadIdentity(path, nil); err == nil || strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v, want an error that quotes nothing", err)
	}
}

// saying is a Passphrase with a constant result.
func saying(text string) Passphrase {
	return func(bool) ([]byte, error) { return []byte(text), nil }
}

func TestProtectedIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "identity")
	first, made, err := LoadIdentity(path, saying("correct horse"))
	if err != nil || !made {
		t.Fatal(made, err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !identity.IsProtected(text) || bytes.Contains(text, []byte("conclave-identity")) {
		t.Fatalf("the file begins %.30q, %v", text, err)
	}
	if again, made, err := LoadIdentity(path, saying("correct horse")); err != nil || made || again.Public() != first.Public() {
		t.Errorf("read again: made %t, %v", made, err)
	}
	for _, none := range []Passphrase{nil, saying("")} {
		if _, _, err := LoadIdentity(path, none); !errors.Is(err, ErrProtected) {
			t.Errorf("got %v, want ErrProtected", err)
		}
	}
	if _, _, err := LoadIdentity(path, saying("wrong")); !errors.Is(err, identity.ErrPassphrase) {
		t.Errorf("got %v, want identity.ErrPassphrase", err)
	}
	nobody := errors.New("nobody there")
	if _, _, err := LoadIdentity(path, func(bool) ([]byte, error) { return nil, nobody }); !errors.Is(err, nobody) {
		t.Errorf("got %v, want the function's error", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, text) {
		t.Errorf("failing to open it changed the file: %v", err)
	}
	// And back.
	if err := ProtectIdentity(path, first, nil); err != nil {
		t.Fatal(err)
	}
	if again, _, err := LoadIdentity(path, nil); err != nil || again.Public() != first.Public() {
		t.Errorf("unprotected again: %v", err)
	}
}

// TestBackup: a share and its identity are a backup; with a substitute for one of
// them they are not.
func TestBackup(t *testing.T) {
	c := partytest.NewCommittee(t, 2)
	shares := c.Keygen(t, pubkey.Ed25519, 2)
	text, err := shares[0].Seal(c.Identities[0].Recipient())
	if err != nil {
		t.Fatal(err)
	}
	public, err := participant.CheckShare(text, c.Identities[0])
	if err != nil || public.User != "user-1" || public.PartIndex != 1 {
		t.Errorf("got %s, part %d, %v", public.User, public.PartIndex, err)
	}
	if _, err := participant.CheckShare(text, c.Identities[1]); !errors.Is(err, share.ErrNotOwner) {
		t.Errorf("another's identity: got %v, want share.ErrNotOwner", err)
	}
	if _, err := participant.CheckShare(text[:len(text)-1], c.Identities[0]); err == nil {
		t.Error("took half a share")
	}
	// Sealed anew to another identity, it opens but is useless.
	newer := partytest.Identity(t)
	moved, err := shares[0].Seal(newer.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := participant.CheckShare(moved, newer); !errors.Is(err, trust.ErrIdentityChanged) {
		t.Errorf("a newer identity: got %v, want ErrIdentityChanged", err)
	}

	eachStore(t, func(t *testing.T, s anyStore) {
		ctx := context.Background()
		if _, err := participant.RestoreShare(ctx, s, moved, newer); err == nil {
			t.Error("restored what is of no use")
		}
		for range 2 {
			if _, err := participant.RestoreShare(ctx, s, text, c.Identities[0]); err != nil {
				t.Fatal(err)
			}
		}
		// The same share sealed again is another file, of which one may be damaged.
		sealedAgain, err := shares[0].Seal(c.Identities[0].Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := participant.RestoreShare(ctx, s, sealedAgain, c.Identities[0]); err == nil || !strings.Contains(err.Error(), "move that away") {
			t.Errorf("another file of the same share: got %v", err)
		}
		if got, err := s.Get(ctx, public.KeyID, public.AccountAddr); err != nil || got != text {
			t.Errorf("the store lost its share: %v", err)
		}
	})
}
