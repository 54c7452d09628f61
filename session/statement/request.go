// Package statement has the signed statements: a coordinator's [Request], the
// [Attestation] that each party makes of a new key, the [Certificate] of each of the
// key's epochs, and the [Evidence] against a party that has signed two messages for one
// place of a [Run].
//
// Start here: a coordinator calls [Request.Sign] and checks a new key with
// [Attested.Verify]; a participant calls [ParseSignedRequest], then
// [SignedRequest.Verify] with the request that it was shown; anyone can call
// [VerifyLineage] and [Evidence.Verify].
//
// A statement names the identity that signed. The caller must know whose identity that
// is, and whether to trust it. The package does not link tss-lib. testdata holds
// vectors for other implementations.
package statement

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// The servers pass a coordinator's requests on, and could invent or change them. So the
// coordinator signs its whole request, and a participant checks the signature against
// everything that it is shown.
//
// The signature does not include the request: the participant rebuilds it from the
// invitation, so that only signed content can be shown and no field can be left out of
// a comparison.

const (
	// MaxRequestLife is the longest time for which a request may be signed.
	MaxRequestLife = 7 * 24 * time.Hour
	// RequestClockTolerance is the greatest difference of the clocks of coordinator and
	// participant, either way.
	RequestClockTolerance = 2 * time.Minute
)

const (
	requestPrefix    = "conclave-req2."
	requestPrefixV1  = "conclave-req1."
	nonceSize        = 16
	maxRequestFields = 1 << 20 // the content to sign, as text, in all its forms
	// requestSize is the size of a signed request: the identity, two times, the nonce,
	// whether every holder is asked, and the signature.
	requestSize     = identity.PublicSize + 8 + 8 + nonceSize + 1 + ed25519.SignatureSize
	requestTextSize = len(requestPrefix) + (requestSize*8+5)/6
)

// Request is a coordinator's request, with the fields that a participant is shown.
type Request struct {
	// Kind is Keygen, Sign or Reshare.
	Kind string
	// Coordinator is the user id of the coordinator.
	Coordinator string
	// SessionID names the signing or reshare. It is empty for a keygen, whose session the
	// server names: there the nonce identifies the request.
	SessionID string
	KeyID     string
	// Epoch is 1 in a keygen. A signing is valid under that epoch of the key or a later
	// one. In a reshare it is the number of the certificate that the new epoch follows.
	// 0 means 1.
	Epoch int
	Curve pubkey.Curve
	// Threshold is for a keygen, and the new one in a reshare. It is 0 for a signing,
	// which uses the key's.
	Threshold int
	// Participants are user ids. A keygen's are in the order of their parts; a
	// signing's are in any order. A signing without participants is asked of every
	// holder of the key. A reshare has Members instead.
	Participants []string

	// Of a signing, empty in a keygen: Hash is the one applied, Digest 0x hex,
	// AccountAddr in its canonical form. A reshare has AccountAddr only.
	Data, Hash, Digest, AccountAddr string

	// Of a reshare, empty otherwise: Members is the whole new committee, and
	// Members[i].Index is i+1; Parent is the hash of the certificate that the new epoch
	// follows, as text, and empty if the coordinator has none for the key's epoch 1.
	Members []identity.Member
	Parent  string
}

// SignedRequest is a coordinator's signature over a [Request], with the other signed
// fields. It is immutable.
type SignedRequest struct {
	// Identity is the signer. The reader must know whether it is the coordinator's.
	Identity identity.Public
	// IssuedAt and ExpiresAt bound, to the second, the request's validity.
	IssuedAt, ExpiresAt time.Time
	// Nonce is random and unique.
	Nonce [nonceSize]byte
	// EveryHolder says that a signing names no participants.
	EveryHolder bool

	v1  bool // of the first format, without epochs
	sig [ed25519.SignatureSize]byte
}

// epoch is the requested epoch.
func (r Request) epoch() int {
	if r.Epoch == 0 {
		return 1
	}
	return r.Epoch
}

// Sign signs the request, valid from issued to expires.
func (r Request) Sign(id *identity.Identity, issued, expires time.Time) (SignedRequest, error) {
	if id.IsZero() {
		return SignedRequest{}, errors.New("sign request: the identity is missing")
	}
	s := SignedRequest{
		Identity: id.Public(), IssuedAt: issued.UTC().Truncate(time.Second), ExpiresAt: expires.UTC().Truncate(time.Second),
		EveryHolder: r.Kind == Sign && len(r.Participants) == 0,
	}
	if _, err := rand.Read(s.Nonce[:]); err != nil {
		return SignedRequest{}, fmt.Errorf("sign request: %w", err)
	}
	if err := errors.Join(s.check(), r.check(s.EveryHolder)); err != nil {
		return SignedRequest{}, fmt.Errorf("sign request: %w", err)
	}
	copy(s.sig[:], id.Sign(s.statement(r)))
	return s, nil
}

// Verify checks that r is exactly the signed request. Holders are all the parties of
// the key, if the reader knows them: a request without participants must be shown as a
// request to all of them. It reads no clock and does not say whose the identity is.
func (s SignedRequest) Verify(r Request, holders []string) error {
	if err := errors.Join(s.check(), r.check(false)); err != nil {
		return fmt.Errorf("verify request: %w", err)
	}
	if s.v1 && (r.epoch() != 1 || r.Kind == Reshare) {
		return errors.New("verify request: its format knows no epochs")
	}
	if s.EveryHolder {
		if r.Kind != Sign || !sameUsers(r.Participants, holders) {
			return errors.New("verify request: it was made to every holder of the key, and these are not known to be all")
		}
		r.Participants = nil
	}
	if !s.Identity.Verify(s.statement(r), s.sig[:]) {
		return errors.New("verify request: the coordinator has signed something else than this")
	}
	return nil
}

// Current returns why a request is not valid at that time, nil if it is.
func (s SignedRequest) Current(now time.Time) error {
	switch {
	case now.Before(s.IssuedAt.Add(-RequestClockTolerance)):
		return fmt.Errorf("the request is signed for a later time, from %s on; is a clock wrong?", s.IssuedAt.Format(time.RFC3339))
	case !now.Before(s.ExpiresAt.Add(RequestClockTolerance)):
		return fmt.Errorf("the request has expired at %s", s.ExpiresAt.Format(time.RFC3339))
	}
	return nil
}

// ID identifies the request globally: 64 hex digits derived from the signer and the
// nonce. Participants remember it until the request has expired, and take part in no
// other session with the same ID.
func (s SignedRequest) ID() string {
	var t codec.Transcript
	t.Text("conclave/party/request-id/v1")
	t.Bytes(s.Identity.SignKey())
	t.Bytes(s.Nonce[:])
	sum := sha256.Sum256(t.Buf)
	return hex.EncodeToString(sum[:])
}

// check checks the signed request's own fields.
func (s SignedRequest) check() error {
	switch life := s.ExpiresAt.Sub(s.IssuedAt); {
	case s.IssuedAt.Unix() <= 0:
		return errors.New("its time is missing")
	case life <= 0:
		return errors.New("it expires before it is issued")
	case life > MaxRequestLife:
		return fmt.Errorf("it holds for longer than %d days", MaxRequestLife/(24*time.Hour))
	}
	return nil
}

// check refuses invalid requests. Open says that the participants of a signing may be
// missing.
func (r Request) check(open bool) error {
	for _, id := range append([]string{r.Coordinator, r.KeyID}, r.Participants...) {
		if id == "" || len(id) > identity.MaxNameBytes {
			return fmt.Errorf("an id must be 1 to %d bytes", identity.MaxNameBytes)
		}
	}
	if r.Curve != pubkey.Secp256k1 && r.Curve != pubkey.Ed25519 {
		return pubkey.ErrCurve
	}
	if err := identity.CheckEpoch(r.epoch()); err != nil {
		return err
	}
	content := r.Data + r.Hash + r.Digest
	if r.Kind == Reshare {
		if len(r.Participants) > 0 || content != "" {
			return errors.New("a reshare has members and nothing to sign")
		}
		return r.checkReshare()
	}
	if len(r.Members) > 0 || r.Parent != "" {
		return errors.New("only a reshare has members and a parent")
	}
	n := len(r.Participants)
	if n > identity.MaxParties || n == 0 && !open {
		return fmt.Errorf("%d participants are not possible", n)
	}
	content += r.AccountAddr
	switch r.Kind {
	case Keygen:
		if r.SessionID != "" || content != "" {
			return errors.New("a key generation has no session id of the coordinator's and nothing to sign")
		}
		if r.epoch() != 1 {
			return errors.New("a key generation makes epoch 1")
		}
		return identity.CheckThreshold(r.Threshold, n)
	case Sign:
		if r.SessionID == "" || len(r.SessionID) > identity.MaxNameBytes || r.Threshold != 0 {
			return errors.New("a signing has a session id and no threshold of its own")
		}
		if r.Data == "" || r.Hash == "" || r.Digest == "" || r.AccountAddr == "" || len(content) > maxRequestFields {
			return errors.New("a signing must have data, hash, digest and account address")
		}
		return nil
	}
	return errors.New("such a request is not known")
}

// checkReshare checks what only a reshare has.
func (r Request) checkReshare() error {
	if r.SessionID == "" || len(r.SessionID) > identity.MaxNameBytes {
		return errors.New("a reshare has a session id")
	}
	if r.Parent != "" {
		if _, err := ParseHash(r.Parent); err != nil {
			return fmt.Errorf("parent: %w", err)
		}
	} else if r.epoch() != 1 {
		return errors.New("a reshare names the certificate that it follows, unless that is the key's first")
	}
	if address, err := r.Curve.ParseAddress(r.AccountAddr); err != nil || address != r.AccountAddr {
		return pubkey.ErrAddress
	}
	return checkCommittee(r.Threshold, r.Members)
}

// statement returns the signed content.
func (s SignedRequest) statement(r Request) []byte {
	participants := r.Participants
	if r.Kind == Sign {
		participants = slices.Sorted(slices.Values(participants))
	}
	var t codec.Transcript
	if s.v1 {
		t.Text("conclave/party/request/v1")
	} else {
		t.Text("conclave/party/request/v2")
	}
	t.Text(r.Kind)
	t.Text(r.Coordinator)
	t.Text(r.SessionID)
	t.Text(r.KeyID)
	t.Text(string(r.Curve))
	if !s.v1 {
		t.Number(r.epoch())
	}
	t.Number(r.Threshold)
	if r.Kind == Reshare {
		appendMembers(&t, r.Members)
		t.Text(r.AccountAddr)
		t.Text(r.Parent)
	} else {
		t.Number(len(participants))
		for _, user := range participants {
			t.Text(user)
		}
		t.Text(r.Data)
		t.Text(r.Hash)
		t.Text(r.Digest)
		t.Text(r.AccountAddr)
	}
	// The whole identity, so that its sealing key cannot be exchanged either.
	t.Bytes(s.Identity.SignKey())
	t.Bytes(s.Identity.SealKey())
	t.Number(int(s.IssuedAt.Unix()))
	t.Number(int(s.ExpiresAt.Unix()))
	t.Bytes(s.Nonce[:])
	return t.Buf
}

// sameUsers reports whether two lists name the same users, each once.
func sameUsers(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return len(a) > 0 && slices.Equal(a, b) && len(slices.Compact(b)) == len(a)
}

// String returns the text form that travels as signed_request: one line of fixed
// length, a versioned prefix and unpadded URL-safe base64.
func (s SignedRequest) String() string {
	raw := make([]byte, 0, requestSize)
	raw = s.Identity.AppendTo(raw)
	raw = binary.BigEndian.AppendUint64(raw, uint64(s.IssuedAt.Unix()))
	raw = binary.BigEndian.AppendUint64(raw, uint64(s.ExpiresAt.Unix()))
	raw = append(raw, s.Nonce[:]...)
	every := byte(0)
	if s.EveryHolder {
		every = 1
	}
	raw = append(raw, every)
	raw = append(raw, s.sig[:]...)
	prefix := requestPrefix
	if s.v1 {
		prefix = requestPrefixV1
	}
	return prefix + base64.RawURLEncoding.EncodeToString(raw)
}

// ParseSignedRequest reads exactly the text form of [SignedRequest.String], or the one
// of the first format, without epochs. It does not verify the signature, which takes
// the request.
func ParseSignedRequest(text string) (SignedRequest, error) {
	var s SignedRequest
	body, ok := strings.CutPrefix(text, requestPrefix)
	if !ok {
		body, s.v1 = strings.CutPrefix(text, requestPrefixV1)
		ok = s.v1
	}
	if !ok || len(text) != requestTextSize {
		return SignedRequest{}, errors.New("parse signed request: must begin with " + requestPrefix + " and be whole")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != requestSize {
		return SignedRequest{}, errors.New("parse signed request: not of the right length and alphabet")
	}
	if raw[requestSize-ed25519.SignatureSize-1] > 1 {
		return SignedRequest{}, errors.New("parse signed request: not in the form in which it is written")
	}
	var invalid error
	s.Identity, invalid = identity.PublicFromBytes(raw[:identity.PublicSize])
	raw = raw[identity.PublicSize:]
	s.IssuedAt = time.Unix(int64(binary.BigEndian.Uint64(raw)), 0).UTC()
	s.ExpiresAt = time.Unix(int64(binary.BigEndian.Uint64(raw[8:])), 0).UTC()
	raw = raw[16:]
	raw = raw[copy(s.Nonce[:], raw):]
	s.EveryHolder = raw[0] == 1
	copy(s.sig[:], raw[1:])
	if err := errors.Join(s.check(), invalid); err != nil {
		return SignedRequest{}, fmt.Errorf("parse signed request: %w", err)
	}
	return s, nil
}
