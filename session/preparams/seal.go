package preparams

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// Seal returns unused pre-parameters encrypted to their owner, for storage. The caller
// must ensure that they are used once: delete the stored copy, durably, before use.
func (p *Set) Seal(owner *age.HybridRecipient) ([]byte, error) {
	if owner == nil {
		return nil, errors.New("seal pre-parameters: the owner's recipient is missing")
	}
	plain, err := p.Marshal()
	if err != nil {
		return nil, fmt.Errorf("seal pre-parameters: %w", err)
	}
	defer clear(plain)
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, owner)
	if err != nil {
		return nil, fmt.Errorf("seal pre-parameters: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("seal pre-parameters: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal pre-parameters: %w", err)
	}
	return sealed.Bytes(), nil
}

// Open decrypts the output of [Set.Seal] and checks it as [Parse] does. Its errors
// quote nothing of the secret.
func Open(sealed []byte, identities ...age.Identity) (*Set, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), identities...)
	if err != nil {
		return nil, fmt.Errorf("open pre-parameters: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("open pre-parameters: %w", err)
	}
	defer clear(plain)
	return Parse(plain)
}
