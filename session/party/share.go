package party

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
)

const (
	shareVersion  = 1
	maxShareBytes = 4 << 20 // far above a share of a key of 256 parties
)

// SharePublic is what of a share is no secret. It travels in the clear beside
// the sealed rest, which holds a copy to compare it with.
type SharePublic struct {
	Version     int          `json:"version"`
	KeyID       string       `json:"key_id"`
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

// Share is a party's part of a key: with Threshold of them one signs. It is
// immutable and safe for concurrent use. Printing, formatting or encoding it as
// JSON shows which share it is and nothing more; [Share.Seal] is the one way out.
type Share struct {
	public SharePublic
	secret *shareSecret // behind a pointer, so that printing a copy shows nothing
}

// sealedShare is share_json: the public part, and beside it an armored age file
// of openShare.
type sealedShare struct {
	SharePublic
	Sealed string `json:"sealed"`
}

type openShare struct {
	Public SharePublic  `json:"public"`
	Secret *shareSecret `json:"secret"`
}

// Public returns the public part.
func (s *Share) Public() SharePublic {
	p := s.public
	p.Parties = append([]identity.Member(nil), p.Parties...)
	return p
}

// Seal returns the share as share_json: a JSON object of the public part and,
// under "sealed", all of it encrypted with age to its owner and to the further
// recipients given, in age's armor. The further ones must be post-quantum
// (age1pq1…) as the owner is; age mixes no others with them.
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
	out, err := json.Marshal(sealedShare{s.public, sealed.String()})
	if err != nil {
		return "", fmt.Errorf("seal share: %w", err)
	}
	return string(out), nil
}

// plain is what is sealed.
func (s *Share) plain() ([]byte, error) {
	return json.Marshal(openShare{s.public, s.secret.onCurve(tss.Edwards())})
}

// ParsePublic reads the public part of a share_json. It can be changed by
// whoever stored it: only [OpenShare] shows that it belongs to what is sealed.
func ParsePublic(shareJSON string) (SharePublic, error) {
	s, err := parseSealed(shareJSON)
	return s.SharePublic, err
}

func parseSealed(shareJSON string) (sealedShare, error) {
	var s sealedShare
	if len(shareJSON) > maxShareBytes {
		return sealedShare{}, errors.New("parse share: too large")
	}
	if err := codec.StrictJSON([]byte(shareJSON), &s); err != nil {
		return sealedShare{}, fmt.Errorf("parse share: %w", err)
	}
	if err := s.SharePublic.check(); err != nil {
		return sealedShare{}, fmt.Errorf("parse share: %w", err)
	}
	if !strings.HasPrefix(s.Sealed, armor.Header+"\n") {
		return sealedShare{}, errors.New("parse share: it is not sealed with age")
	}
	return s, nil
}

// OpenShare opens a share_json with an [*identity.Identity] or any age identity to which
// it was sealed, and checks that what is outside equals what is inside and that
// the secret part is whole and belongs to the key. ErrNotOwner. Its errors quote
// nothing of the secret.
func OpenShare(shareJSON string, identities ...age.Identity) (*Share, error) {
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
	plain, err := io.ReadAll(io.LimitReader(r, maxShareBytes))
	if err != nil {
		return nil, fmt.Errorf("open share of part %d of key %q: %w", outside.PartIndex, outside.KeyID, err)
	}
	defer clear(plain)
	return openPlain(plain, &outside.SharePublic)
}

func openPlain(plain []byte, outside *SharePublic) (*Share, error) {
	var inside openShare
	// The decoder's own errors can quote what it read.
	if err := codec.StrictJSON(plain, &inside); err != nil || inside.Secret == nil {
		return nil, errors.New("open share: what is sealed is not a share")
	}
	if !inside.Public.equal(outside) {
		return nil, errors.New("open share: the public part was changed after sealing")
	}
	s := &Share{public: inside.Public, secret: inside.Secret.onCurve(edwards25519Curve)}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("open share: %w", err)
	}
	return s, nil
}

func (p *SharePublic) equal(other *SharePublic) bool {
	a, errA := json.Marshal(p)
	b, errB := json.Marshal(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// check holds the public part together.
func (p *SharePublic) check() error {
	if p.Version != shareVersion {
		return fmt.Errorf("share format %d is not known", p.Version)
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

// check holds the share to its public part: see shareSecret.check.
func (s *Share) check() error {
	if err := s.public.check(); err != nil {
		return err
	}
	com, err := newCommittee(s.public.Curve, s.public.KeyID, s.public.Parties)
	if err != nil {
		return err
	}
	return s.secret.check(&s.public, com)
}

// Verify checks what [OpenShare] leaves out to save time: that the public points
// of any quorum, and not of one only, add up to the public key; and on secp256k1
// that the primes behind the own Paillier key and moduli are such, and that h1
// and h2 are powers of each other. With that, a share that was opened can sign,
// with whichever quorum. It rebuilds nothing and takes some tenths of a second.
func (s *Share) Verify() error {
	com, err := newCommittee(s.public.Curve, s.public.KeyID, s.public.Parties)
	if err == nil {
		err = s.check()
	}
	if err == nil {
		err = s.secret.checkQuorums(&s.public, com)
	}
	if err == nil && s.secret.ECDSA != nil {
		err = checkPreParams(&s.secret.ECDSA.LocalPreParams)
	}
	if err != nil {
		return fmt.Errorf("verify share: %w", err)
	}
	return nil
}

// moduli returns the Paillier moduli of a secp256k1 key's parties by part index.
// tss-lib's lists are in the order of the whole committee's party keys.
func (s *Share) moduli() map[int]*big.Int {
	save := s.secret.ECDSA
	moduli := make(map[int]*big.Int, len(s.public.Parties))
	for _, m := range s.public.Parties {
		key := partyKey(s.public.Curve, s.public.KeyID, m.User, m.Index)
		for i, k := range save.Ks {
			if k.Cmp(key) == 0 {
				moduli[m.Index] = save.PaillierPKs[i].N
			}
		}
	}
	return moduli
}

// String names the share by key and part.
func (s Share) String() string {
	return fmt.Sprintf("party.Share(part %d of key %q)", s.public.PartIndex, s.public.KeyID)
}

// Format writes what String returns, whatever the verb.
func (s Share) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON writes what String returns.
func (s Share) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Attest signs which key a session of key generation has made. Only who has a
// share of the key can: all that is signed, but for the session's name and its
// coordinator, is what the share says, which is what the MPC has computed.
func (s *Share) Attest(id *identity.Identity, sessionID, coordinator string) (statement.Attestation, error) {
	p := s.Public()
	if !id.IsZero() && p.Parties[p.PartIndex-1].Identity != id.Public() {
		return statement.Attestation{}, errors.New("attest key: the share was made with another identity")
	}
	k := statement.Attested{
		SessionID: sessionID, KeyID: p.KeyID, Coordinator: coordinator, Curve: p.Curve, Threshold: p.Threshold,
		AccountAddr: p.AccountAddr, PublicKey: p.PublicKey,
	}
	for _, m := range p.Parties {
		k.Participants = append(k.Participants, m.User)
	}
	return k.Attest(id, p.Parties)
}
