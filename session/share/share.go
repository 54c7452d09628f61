// Package share is a party's share of a key: its file format, and the operations on
// shares besides signing.
//
// Start here: [Share.Seal] writes a share as share_json, sealed to its owner;
// [ParsePublic] reads its public part and [Open] the whole. [Share.Verify] proves a
// share usable without rebuilding the key; [Recover] rebuilds the private key from a
// threshold of shares, if the committee can no longer sign. No other function ever has
// that key.
//
// The package stores nothing. Key generation and signing are in package party.
package share

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
)

const (
	version  = 2       // 1 has no epochs and is read as epoch 1
	maxBytes = 4 << 20 // far above the size with 256 parties
)

// ErrNotOwner is returned by [Open] if a share is sealed to none of the given
// identities.
var ErrNotOwner = errors.New("share: the share is sealed to another identity")

// Public is the public part of a share. It travels in the clear beside the sealed part,
// which holds a copy to compare it with.
type Public struct {
	Version     int          `json:"version"`
	KeyID       string       `json:"key_id"`
	Epoch       int          `json:"epoch"` // from 1
	User        string       `json:"user_id"`
	PartIndex   int          `json:"part_index"`
	Threshold   int          `json:"threshold"`
	TotalParts  int          `json:"total_parts"`
	Curve       pubkey.Curve `json:"curve"`
	PublicKey   string       `json:"public_key"`   // 0x hex: compressed SEC1, or 32 bytes
	AccountAddr string       `json:"account_addr"` // EIP-55, or base58
	// Parties are all the key's, ascending; Parties[i].Index is i+1.
	Parties []identity.Member `json:"parties"`
	Created time.Time         `json:"created"`
}

// Share is a party's part of a key; Threshold shares sign. It is immutable and safe for
// concurrent use. Printing, formatting or encoding it as JSON shows only which share it
// is; [Share.Seal] is the only export.
type Share struct {
	public Public
	secret *tss.Secret // behind a pointer, so that printing a copy shows nothing
}

// sealedJSON is share_json: the public part, and beside it an armored age file
// of plainJSON.
type sealedJSON struct {
	Public
	Sealed string `json:"sealed"`
}

type plainJSON struct {
	Public Public      `json:"public"`
	Secret *secretJSON `json:"secret"`
}

// secretJSON is a secret without the methods that hide it.
type secretJSON tss.Secret

// New returns a party's share from the result of a key generation. The caller sets
// every field of public except Version, PublicKey, AccountAddr and Created. It is for
// package party.
func New(public Public, secret *tss.Secret) (*Share, error) {
	pub, err := secret.PublicKey(public.Curve)
	if err != nil {
		return nil, err
	}
	address, err := public.Curve.Address(pub)
	if err != nil {
		return nil, err
	}
	public.Version, public.PublicKey, public.AccountAddr = version, pubkey.Encode(pub), address
	public.Created = time.Now().UTC().Truncate(time.Second)
	s := &Share{public: public, secret: secret}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// IsZero reports whether the share is nil or the invalid zero value.
func (s *Share) IsZero() bool { return s == nil || s.secret == nil }

// Secret returns the secret part, to sign with. It is for package party.
func (s *Share) Secret() *tss.Secret { return s.secret }

// Key returns the share's data about its key. It is for package party.
func (s *Share) Key() *tss.Key { return s.public.key() }

func (p *Public) key() *tss.Key {
	return &tss.Key{
		ID: p.KeyID, Epoch: p.Epoch, Curve: p.Curve, Threshold: p.Threshold, Self: p.PartIndex, Parties: p.Parties, PublicKey: p.PublicKey,
	}
}

// Public returns the public part.
func (s *Share) Public() Public {
	p := s.public
	p.Parties = append([]identity.Member(nil), p.Parties...)
	return p
}

// Seal returns the share as share_json: a JSON object of the public part and, under
// "sealed", all of it encrypted with age to its owner and to further recipients, in
// age's armor. The further ones must be post-quantum (age1pq1…) like the owner; age
// does not mix them with others.
func (s *Share) Seal(owner *age.HybridRecipient, more ...age.Recipient) (string, error) {
	if owner == nil {
		return "", errors.New("seal share: the owner's recipient is missing")
	}
	plain, err := s.plain()
	if err != nil {
		return "", fmt.Errorf("seal share: %w", err)
	}
	defer clear(plain)
	var sealed strings.Builder
	armored := armor.NewWriter(&sealed)
	w, err := age.Encrypt(armored, append([]age.Recipient{owner}, more...)...)
	if err != nil {
		return "", fmt.Errorf("seal share: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return "", fmt.Errorf("seal share: %w", err)
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		return "", fmt.Errorf("seal share: %w", err)
	}
	out, err := json.Marshal(sealedJSON{s.public, sealed.String()})
	if err != nil {
		return "", fmt.Errorf("seal share: %w", err)
	}
	return string(out), nil
}

// plain returns the plaintext to seal.
func (s *Share) plain() ([]byte, error) {
	return json.Marshal(plainJSON{s.public, (*secretJSON)(s.secret.ForEncoding())})
}

// ParsePublic reads the public part of a share_json, of the present format or the first
// one, which has no epochs and is read as epoch 1. Its storage could have changed it:
// only [Open] shows that it matches the sealed part.
func ParsePublic(shareJSON string) (Public, error) {
	s, err := parseSealed(shareJSON)
	if err != nil {
		return Public{}, err
	}
	s.upgrade()
	return s.Public, nil
}

func parseSealed(shareJSON string) (sealedJSON, error) {
	var s sealedJSON
	if len(shareJSON) > maxBytes {
		return sealedJSON{}, errors.New("parse share: too large")
	}
	if err := codec.StrictJSON([]byte(shareJSON), &s); err != nil {
		return sealedJSON{}, fmt.Errorf("parse share: %w", err)
	}
	if err := s.Public.check(); err != nil {
		return sealedJSON{}, fmt.Errorf("parse share: %w", err)
	}
	if !strings.HasPrefix(s.Sealed, armor.Header+"\n") {
		return sealedJSON{}, errors.New("parse share: it is not sealed with age")
	}
	return s, nil
}

// Open decrypts a share_json with an [*identity.Identity] or any age identity to which
// it was sealed, and checks that the public part equals the sealed copy and that the
// secret part is complete and belongs to the key. ErrNotOwner. Its errors quote nothing
// of the secret.
func Open(shareJSON string, identities ...age.Identity) (*Share, error) {
	outside, err := parseSealed(shareJSON)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(outside.Sealed)), identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		err = ErrNotOwner
	}
	if err != nil {
		return nil, fmt.Errorf("open share of part %d of key %q: %w", outside.PartIndex, outside.KeyID, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxBytes))
	if err != nil {
		return nil, fmt.Errorf("open share of part %d of key %q: %w", outside.PartIndex, outside.KeyID, err)
	}
	defer clear(plain)
	return openPlain(plain, &outside.Public)
}

func openPlain(plain []byte, outside *Public) (*Share, error) {
	var inside plainJSON
	// The decoder's own errors can quote its input.
	if err := codec.StrictJSON(plain, &inside); err != nil || inside.Secret == nil {
		return nil, errors.New("open share: what is sealed is not a share")
	}
	if !inside.Public.equal(outside) {
		return nil, errors.New("open share: the public part was changed after sealing")
	}
	inside.Public.upgrade()
	s := &Share{public: inside.Public, secret: (*tss.Secret)(inside.Secret).Decoded()}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("open share: %w", err)
	}
	return s, nil
}

// upgrade converts the first format to the present one.
func (p *Public) upgrade() {
	if p.Version == 1 {
		p.Version, p.Epoch = version, 1
	}
}

func (p *Public) equal(other *Public) bool {
	a, errA := json.Marshal(p)
	b, errB := json.Marshal(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// check checks the public part's consistency.
func (p *Public) check() error {
	switch {
	case p.Version == 1 && p.Epoch != 0:
		return errors.New("its format knows no epochs")
	case p.Version == 1:
	case p.Version != version:
		return fmt.Errorf("share format %d is not known", p.Version)
	default:
		if err := identity.CheckEpoch(p.Epoch); err != nil {
			return err
		}
	}
	if p.KeyID == "" || len(p.KeyID) > identity.MaxNameBytes {
		return errors.New("its key id is missing or too long")
	}
	if err := identity.CheckThreshold(p.Threshold, p.TotalParts); err != nil {
		return err
	}
	if len(p.Parties) != p.TotalParts {
		return errors.New("not all parties are listed")
	}
	if err := identity.CheckMembers(p.Parties, p.TotalParts); err != nil {
		return err
	}
	if p.PartIndex < 1 || p.PartIndex > p.TotalParts || p.Parties[p.PartIndex-1].User != p.User {
		return errors.New("its owner is not among the parties")
	}
	pub, err := p.Curve.ParseKey(p.PublicKey)
	if err != nil {
		return err
	}
	if pubkey.Encode(pub) != p.PublicKey {
		return errors.New("its public key is not in the form in which it is written")
	}
	if address, err := p.Curve.Address(pub); err != nil || address != p.AccountAddr {
		return errors.New("its address is not that of its public key")
	}
	return nil
}

// check checks the share against its public part: see [tss.Secret.Check].
func (s *Share) check() error {
	if err := s.public.check(); err != nil {
		return err
	}
	return s.secret.Check(s.public.key())
}

// Verify makes the checks that [Open] omits to save time: that the public points of
// every quorum, not only of one, add up to the public key; and on secp256k1 that the
// primes behind the own Paillier key and moduli are safe primes, and that h1 and h2 are
// powers of each other. After that, an opened share can sign with any quorum. It
// rebuilds nothing and takes some tenths of a second.
func (s *Share) Verify() error {
	err := s.check()
	if err == nil {
		err = s.secret.CheckQuorums(s.public.key())
	}
	if err == nil {
		err = s.secret.CheckPreParams()
	}
	if err != nil {
		return fmt.Errorf("verify share: %w", err)
	}
	return nil
}

// String names the share by key and part.
func (s Share) String() string {
	return fmt.Sprintf("share.Share(part %d of key %q)", s.public.PartIndex, s.public.KeyID)
}

// Format writes what String returns, whatever the verb.
func (s Share) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON writes what String returns.
func (s Share) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Attest signs which key a key generation has made. Only a holder of a share can:
// except for the session's name and its coordinator, the signed content comes from the
// share, as computed by the MPC.
func (s *Share) Attest(id *identity.Identity, sessionID, coordinator string) (statement.Attestation, error) {
	p := s.Public()
	if !id.IsZero() && p.Parties[p.PartIndex-1].Identity != id.Public() {
		return statement.Attestation{}, errors.New("attest key: the share was made with another identity")
	}
	k := statement.Attested{
		SessionID: sessionID, KeyID: p.KeyID, Coordinator: coordinator, Curve: p.Curve, Threshold: p.Threshold,
		AccountAddr: p.AccountAddr, PublicKey: p.PublicKey, Epoch: p.Epoch,
	}
	for _, m := range p.Parties {
		k.Participants = append(k.Participants, m.User)
	}
	return k.Attest(id, p.Parties)
}
