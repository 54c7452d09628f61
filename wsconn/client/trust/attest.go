package trust

import (
	"errors"
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// The participants of a keygen attest the key that they have made; the coordinator
// checks that all of them have attested the key that the server reports. See
// statement.Attested.

// Attestor is a participant that has attested a key.
type Attestor struct {
	PartIndex int    `json:"part_index"`
	User      string `json:"user_id"`
	// Fingerprint is that of the signing identity.
	Fingerprint string `json:"fingerprint"`
	// Pinned says that the identity was pinned by hand. Otherwise it is the one
	// known before, or, if First, only the server says whose it is.
	Pinned bool `json:"pinned"`
	First  bool `json:"first"`

	identity identity.Public
}

// ErrNotAttested is returned, as an [*AttestationError], for a key that differs
// from its participants' attestations.
var ErrNotAttested = errors.New("client: the key is not attested by its participants")

// AttestationFault is the fault in the attestations of a key.
type AttestationFault string

// The faults.
const (
	AttestationMissing    AttestationFault = "missing"          // there are none, of participants whose identities are known
	AttestationIncomplete AttestationFault = "incomplete"       // some participants' are absent
	AttestationMalformed  AttestationFault = "malformed"        // one cannot be parsed
	AttestationIdentity   AttestationFault = "identity_changed" // one is by another identity than the participant's
	AttestationNotPinned  AttestationFault = "not_pinned"       // one is by an identity that is not pinned, where all must be
	AttestationOther      AttestationFault = "other_key"        // another key, session, committee or threshold was attested
)

// AttestationError is returned for a key whose attestations do not confirm the
// server's report. It is an ErrNotAttested. Funds sent to its address may be lost:
// the server, or an attacker who has captured it, may have the key alone.
type AttestationError struct {
	Fault            AttestationFault
	KeyID, SessionID string
	AccountAddr      string // as reported by the server
	Err              error
}

// Error names the fault and the address not to be used.
func (e *AttestationError) Error() string {
	return fmt.Sprintf("%s: %s; do not use the address %s of %s (%s)", ErrNotAttested, e.Err, e.AccountAddr, e.KeyID, e.Fault)
}

// Is reports that it is an ErrNotAttested.
func (e *AttestationError) Is(target error) bool { return target == ErrNotAttested }

// Unwrap returns the cause, such as an [*IdentityError].
func (e *AttestationError) Unwrap() error { return e.Err }

// CheckKey checks offline the attestations of a key that the web API has shown,
// about which the server may claim anything. Known returns known identities, as in
// [Policy]; with pinnedOnly those of all participants must be pinned. It returns
// who has attested the key: nil, if there are no attestations and no identity is
// known. Otherwise all have, or the error is an [*AttestationError].
func CheckKey(info wire.KeyInfo, known func(user string) (Known, bool, error), pinnedOnly bool) ([]Attestor, error) {
	curve, err := pubkey.ParseCurve(info.Curve)
	if err != nil {
		return nil, err
	}
	return checkAttestations(statement.Attested{
		SessionID: info.SessionID, KeyID: info.KeyID, Coordinator: info.Coordinator, Curve: curve, Epoch: info.Epoch, Threshold: info.Threshold,
		Participants: info.Participants, AccountAddr: info.AccountAddr, PublicKey: info.PublicKey,
	}, info.Attestations, known, pinnedOnly)
}

// checkAttestations is CheckKey. Known participants must have attested, by their
// known identity. If one has, all must: participants that can attest make keys only
// with others that can.
func checkAttestations(k statement.Attested, texts []string, known func(string) (Known, bool, error), pinnedOnly bool) ([]Attestor, error) {
	refuse := func(fault AttestationFault, err error) ([]Attestor, error) {
		return nil, &AttestationError{Fault: fault, KeyID: k.KeyID, SessionID: k.SessionID, AccountAddr: k.AccountAddr, Err: err}
	}
	who := make([]Attestor, len(k.Participants))
	var expected, silent []string
	for i, user := range k.Participants {
		as, ok, err := known(user)
		if err != nil {
			return nil, fmt.Errorf("known identities: %w", err)
		}
		who[i] = Attestor{PartIndex: i + 1, User: user, Fingerprint: as.Fingerprint, Pinned: ok && as.Pinned, First: !ok}
		if ok || pinnedOnly {
			expected = append(expected, user)
		}
		if i >= len(texts) || texts[i] == "" {
			silent = append(silent, user)
		}
	}
	nobody := len(silent) == len(k.Participants)
	switch {
	case len(texts) > len(k.Participants):
		return refuse(AttestationMalformed, errors.New("there are more attestations than participants"))
	case nobody && len(expected) == 0:
		return []Attestor{}, nil
	case nobody:
		return refuse(AttestationMissing, fmt.Errorf("no attestation from %s", strings.Join(expected, ", ")))
	case len(silent) > 0:
		return refuse(AttestationIncomplete, fmt.Errorf("no attestation from %s", strings.Join(silent, ", ")))
	}
	list := make([]statement.Attestation, len(texts))
	for i, text := range texts {
		var err error
		if list[i], err = statement.ParseAttestation(text); err != nil {
			return refuse(AttestationMalformed, fmt.Errorf("%s: %w", who[i].User, err))
		}
		switch err := who[i].is(list[i].Identity, pinnedOnly); {
		case errors.Is(err, ErrNotPinned):
			return refuse(AttestationNotPinned, err)
		case err != nil:
			return refuse(AttestationIdentity, err)
		}
	}
	if err := k.Verify(list); err != nil {
		return refuse(AttestationOther, err)
	}
	return who, nil
}

// is records by which identity a participant has attested, or refuses it.
func (a *Attestor) is(id identity.Public, pinnedOnly bool) error {
	known := Known{User: a.User, Fingerprint: a.Fingerprint, Pinned: a.Pinned}
	a.Fingerprint, a.identity = id.Fingerprint(), id
	return Policy{PinnedOnly: pinnedOnly}.Admit(a.User, known, !a.First, id)
}

// KeyVerifier decides whether a new key's attestations are acceptable to the
// requesting coordinator.
type KeyVerifier struct {
	// User is the coordinator. If it is a participant too, it knows its own Identity.
	User     string
	Identity *identity.Identity
	// Trust decides which identities are known. Those seen for the first time are
	// passed to its Trust.
	Trust Policy
}

// Known returns the known identity of a user, including the coordinator itself,
// which may hold a part of the key.
func (v KeyVerifier) Known(user string) (known Known, ok bool, err error) {
	known, ok, err = v.Trust.Look(user)
	if err == nil && !ok && v.Identity != nil && user == v.User {
		known, ok = Known{User: user, Fingerprint: v.Identity.Public().Fingerprint(), Pinned: true}, true
	}
	return known, ok, err
}

// Ready refuses, before anything is sent, a keygen whose outcome could not be
// accepted: it returns ErrNotPinned.
func (v KeyVerifier) Ready(participants []string) error {
	for _, user := range participants {
		known, ok, err := v.Known(user)
		if err != nil {
			return fmt.Errorf("known identities: %w", err)
		}
		if v.Trust.PinnedOnly && !(ok && known.Pinned) {
			return fmt.Errorf("%w: %s, who is to hold a share of the key", ErrNotPinned, user)
		}
	}
	return nil
}

// Verify checks the attestations of a key, one of each participant in their order,
// and lets Trust remember identities seen for the first time. It returns who has
// attested the key: nil, if there are no attestations and no identity is known.
// Otherwise all have, or the error is an [*AttestationError].
func (v KeyVerifier) Verify(k statement.Attested, attestations []string) ([]Attestor, error) {
	k.Coordinator = v.User
	who, err := checkAttestations(k, attestations, v.Known, v.Trust.PinnedOnly)
	if err != nil || v.Trust.Trust == nil {
		return who, err
	}
	for _, a := range who {
		if !a.First {
			continue
		}
		if err := v.Trust.Trust(a.User, a.identity); err != nil {
			return nil, &AttestationError{
				Fault: AttestationIdentity, KeyID: k.KeyID, SessionID: k.SessionID, AccountAddr: k.AccountAddr, Err: err,
			}
		}
	}
	return who, nil
}
