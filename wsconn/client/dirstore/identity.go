package dirstore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// ErrProtected is returned by [ReadIdentity] for an identity that needs a
// passphrase when none is given.
var ErrProtected = errors.New("client: the identity is protected by a passphrase")

// Passphrase returns the passphrase of an identity that is read or, if made is
// true, of a new one; the latter may be empty. The result is cleared after use.
type Passphrase func(made bool) ([]byte, error)

// LoadIdentity reads the identity in a private file (mode 0600), or makes one
// there. A nil passphrase makes an unprotected one. Errors are those of
// [ReadIdentity].
func LoadIdentity(path string, passphrase Passphrase) (id *identity.Identity, made bool, err error) {
	id, err = ReadIdentity(path, passphrase)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, false, err
	}
	var given []byte
	if passphrase != nil {
		given, err = passphrase(true)
		defer clear(given)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", path, err)
		}
	}
	if id, err = MakeIdentity(path, given); errors.Is(err, fs.ErrExist) {
		id, err = ReadIdentity(path, passphrase) // another process was faster
		return id, false, err
	}
	return id, err == nil, err
}

// ReadIdentity reads the identity in a private file. If it is protected, its
// passphrase is requested: without one the error is ErrProtected, with a wrong one
// identity.ErrPassphrase. If there is no file, it is fs.ErrNotExist.
func ReadIdentity(path string, passphrase Passphrase) (*identity.Identity, error) {
	text, err := secret.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	defer clear(text)
	var given []byte
	if identity.IsProtected(text) {
		if passphrase != nil {
			given, err = passphrase(false)
			defer clear(given)
		}
		if err == nil && len(given) == 0 {
			err = ErrProtected
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	id, err := identity.Open(text, given)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return id, nil
}

// MakeIdentity makes a new identity in a file that must not exist yet, else the
// error is fs.ErrExist. With a passphrase it is protected from the beginning.
func MakeIdentity(path string, passphrase []byte) (*identity.Identity, error) {
	id, err := identity.New()
	if err != nil {
		return nil, err
	}
	text, err := identityText(id, passphrase)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if err := secret.MakeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	if err := secret.CreateFile(path, text); err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	return id, nil
}

// ProtectIdentity rewrites an identity's file, protected with another passphrase,
// or unprotected if that is empty. The file's earlier content may stay on the disk
// until it is overwritten.
func ProtectIdentity(path string, id *identity.Identity, passphrase []byte) error {
	text, err := identityText(id, passphrase)
	if err != nil {
		return err
	}
	defer clear(text)
	if err := secret.WriteFile(path, text); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

func identityText(id *identity.Identity, passphrase []byte) ([]byte, error) {
	write := id.Secret
	if len(passphrase) > 0 {
		write = func() (string, error) { return id.Protect(passphrase) }
	}
	text, err := write()
	return []byte(text), err
}
