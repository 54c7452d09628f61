package service

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// ErrShareNotSealed is returned for a plain share on a node without a key to encrypt it
// with.
var ErrShareNotSealed = wire.Errorf(wire.CodeShareNotSealed,
	"share_json is not sealed: seal it on the client (as Conclave's own does), or ask the operator to set CONCLAVE_SHARE_KEK")

const (
	sealedPrefix = "-----BEGIN AGE ENCRYPTED FILE-----" // of the field "sealed" of a sealed share
	sealedSuffix = "-----END AGE ENCRYPTED FILE-----"
	kekPrefix    = "kek1:" // then base64 of nonce and AES-256-GCM ciphertext
)

// ShareKeeper decides in which form a share may be stored. A share sealed by its client
// is stored unchanged. A plain one is encrypted under the operator's share
// key-encryption key, and refused if there is no such key. It stays encrypted in
// mailboxes, and is decrypted only when the frame is written to its owner's socket
// ([ShareKeeper.Reveal]).
type ShareKeeper struct{ aead cipher.AEAD }

// NewShareKeeper returns a keeper with a key-encryption key of 32 bytes, or, with nil,
// one that refuses plain shares.
func NewShareKeeper(kek []byte) (*ShareKeeper, error) {
	if kek == nil {
		return &ShareKeeper{}, nil
	}
	if len(kek) != 32 {
		return nil, fmt.Errorf("share key-encryption key: got %d bytes, want 32", len(kek))
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("share key-encryption key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("share key-encryption key: %w", err)
	}
	return &ShareKeeper{aead: aead}, nil
}

// Protect returns share in the form to store for that key and part.
func (k *ShareKeeper) Protect(key string, part int, share string) (string, error) {
	if sealed(share) {
		return share, nil
	}
	if k.aead == nil {
		return "", ErrShareNotSealed
	}
	ct := k.aead.Seal(nil, nil, []byte(share), shareContext(key, part))
	return kekPrefix + base64.StdEncoding.EncodeToString(ct), nil
}

// Reveal returns a sign_params frame with its share decrypted if this keeper encrypted
// it, and any other frame unchanged.
func (k *ShareKeeper) Reveal(frame []byte) ([]byte, error) {
	if k.aead == nil || !bytes.Contains(frame, []byte(`"share_json":"`+kekPrefix)) {
		return frame, nil
	}
	m, err := wire.Decode(frame, len(frame))
	if err != nil || m.Type != wire.TypeSignParams {
		return frame, nil
	}
	var p wire.SignParams
	if err := json.Unmarshal(m.Payload, &p); err != nil {
		return nil, fmt.Errorf("reveal share: %w", err)
	}
	text, ok := strings.CutPrefix(p.ShareJSON, kekPrefix)
	if !ok {
		return frame, nil
	}
	ct, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("reveal share: %w", err)
	}
	plain, err := k.aead.Open(nil, nil, ct, shareContext(p.KeyID, p.PartIndex))
	if err != nil {
		return nil, fmt.Errorf("reveal share of key %s part %d: it was encrypted under another key", p.KeyID, p.PartIndex)
	}
	p.ShareJSON = string(plain)
	if m.Payload, err = json.Marshal(&p); err != nil {
		return nil, fmt.Errorf("reveal share: %w", err)
	}
	return m.Encode()
}

// shareContext binds a ciphertext to its key and part, so that shares cannot be
// exchanged in the store.
func shareContext(key string, part int) []byte {
	return []byte("conclave share\x00" + key + "\x00" + strconv.Itoa(part))
}

// sealed reports whether share has the form of a client's sealed share: a JSON object
// whose field "sealed" is an armored age file.
func sealed(share string) bool {
	var doc struct {
		Sealed string `json:"sealed"`
	}
	if json.Unmarshal([]byte(share), &doc) != nil {
		return false
	}
	armor := strings.TrimSpace(doc.Sealed)
	return strings.HasPrefix(armor, sealedPrefix) && strings.HasSuffix(armor, sealedSuffix)
}
