package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/conclave-mpc/conclave/session/internal/testonly"
)

const (
	// scryptWork is the logarithm of scrypt's work factor for new files: 256 MiB and
	// about a second. A file may require maxScryptWork at most. Tests use a minimal
	// one.
	scryptWork     = 18
	maxScryptWork  = 20
	testScryptWork = 8

	maxIdentityFile = 16 << 10 // an armored, encrypted identity has less than half of this
)

// ErrPassphrase is returned by [Open] for a wrong passphrase.
var ErrPassphrase = errors.New("identity: the passphrase is not that of the identity")

// Protect returns the private text form encrypted with a passphrase: an armored
// age file, which age itself decrypts too. [Open] reads it.
func (id Identity) Protect(passphrase []byte) (string, error) {
	if testonly.Allowed() {
		return id.protect(passphrase, testScryptWork)
	}
	return id.protect(passphrase, scryptWork)
}

func (id Identity) protect(passphrase []byte, work int) (string, error) {
	if len(passphrase) == 0 {
		return "", errors.New("protect identity: the passphrase is empty")
	}
	secret, err := id.Secret()
	if err != nil {
		return "", err
	}
	recipient, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return "", fmt.Errorf("protect identity: %w", err)
	}
	recipient.SetWorkFactor(work)
	var out strings.Builder
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return "", fmt.Errorf("protect identity: %w", err)
	}
	if _, err := io.WriteString(w, secret); err != nil {
		return "", fmt.Errorf("protect identity: %w", err)
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		return "", fmt.Errorf("protect identity: %w", err)
	}
	return out.String(), nil
}

// IsProtected reports whether the text of an identity needs a passphrase.
func IsProtected(text []byte) bool { return bytes.HasPrefix(text, []byte(armor.Header+"\n")) }

// Open reads a private identity in the form of [Identity.Protect] with its passphrase,
// or in that of [Identity.Secret], for which the passphrase is ignored. ErrPassphrase.
// Its errors quote nothing of the text.
func Open(text, passphrase []byte) (*Identity, error) {
	if !IsProtected(text) {
		return Parse(string(text))
	}
	if len(text) > maxIdentityFile {
		return nil, errors.New("open identity: too large")
	}
	if len(passphrase) == 0 {
		return nil, ErrPassphrase
	}
	key, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	key.SetMaxWorkFactor(maxScryptWork)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(text)), key)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none) && slices.Contains(none.StanzaTypes, "scrypt"):
		return nil, ErrPassphrase
	case err != nil:
		return nil, errors.New("open identity: it is damaged, or protected in another way than here")
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxIdentityFile))
	defer clear(plain)
	if err != nil {
		return nil, errors.New("open identity: it is damaged")
	}
	return Parse(string(plain))
}
