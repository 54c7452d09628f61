package wire

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// faults collects the first fault of a payload, so that each Validate reads like a
// list of its rules.
type faults struct{ first *Error }

func (f *faults) fail(code Code, format string, args ...any) {
	if f.first == nil {
		f.first = Errorf(code, format, args...)
	}
}

func (f *faults) err() error {
	if f.first == nil {
		return nil
	}
	return f.first
}

// id checks the id of something that exists already; see newID.
func (f *faults) id(name, v string) {
	if v == "" {
		f.fail(CodeBadRequest, "%s is missing", name)
	} else if !StoredID(v) {
		f.fail(CodeBadRequest, "%s %s", name, storedIDRule)
	}
}

// newID checks an id that will name something new, or is shown to people for the
// first time.
func (f *faults) newID(name, v string) {
	f.id(name, v)
	if !ValidID(v) {
		f.fail(CodeBadRequest, "%s %s", name, IDRule)
	}
}

func (f *faults) newUsers(name string, v []string) {
	f.users(name, v)
	for _, u := range v {
		f.newID(name+" entry", u)
	}
}

func (f *faults) optionalID(name, v string) {
	if v != "" {
		f.id(name, v)
	}
}

func (f *faults) text(name, v string, most int) {
	if len(v) > most {
		f.fail(CodeTooLarge, "%s is longer than %d bytes", name, most)
	}
	if !utf8.ValidString(v) { // encoding/json would change the text
		f.fail(CodeBadRequest, "%s is not UTF-8", name)
	}
}

func (f *faults) required(name, v string, most int) {
	if v == "" {
		f.fail(CodeBadRequest, "%s is missing", name)
	}
	f.text(name, v, most)
}

// line checks text that will appear in logs and on terminals.
func (f *faults) line(name, v string, most int) {
	f.text(name, v, most)
	if strings.ContainsFunc(v, unicode.IsControl) || strings.ContainsRune(v, utf8.RuneError) {
		f.fail(CodeBadRequest, "%s has control characters", name)
	}
}

func (f *faults) partIndex(name string, v int) {
	if v < 1 || v > MaxParties {
		f.fail(CodeBadRequest, "%s must be a part index from 1", name)
	}
}

// place checks a part index or, in a reshare, a place.
func (f *faults) place(name string, v int) {
	if v < 1 || v > MaxPlaces {
		f.fail(CodeBadRequest, "%s must be a part index from 1", name)
	}
}

func (f *faults) culprits(v []int) {
	if len(v) > MaxPlaces {
		f.fail(CodeBadRequest, "culprits has more than %d entries", MaxPlaces)
		return
	}
	for _, i := range v {
		f.place("culprits", i)
	}
}

// places checks the places of one user in a reshare.
func (f *faults) places(v []int) {
	if len(v) > 2 || len(v) == 2 && v[0] >= v[1] {
		f.fail(CodeBadRequest, "places must be one or two places, ascending")
	}
	for _, i := range v {
		f.place("places", i)
	}
}

// somePlaces is places where there must be one.
func (f *faults) somePlaces(v []int) {
	if len(v) == 0 {
		f.fail(CodeBadRequest, "places is missing")
	}
	f.places(v)
}

func (f *faults) attempt(v int) {
	if v < 1 {
		f.fail(CodeBadRequest, "attempt must be 1 or more")
	}
}

// epoch checks the number of an epoch; least is 0 where it can be left out.
func (f *faults) epoch(name string, v, least int) {
	if v < least || v > MaxEpoch {
		f.fail(CodeBadRequest, "%s must be an epoch number from %d", name, least)
	}
}

// hash checks 32 bytes in 0x hex.
func (f *faults) hash(name, v string) {
	digits, ok := strings.CutPrefix(v, "0x")
	if !ok || len(digits) != 64 || strings.Trim(digits, "0123456789abcdef") != "" {
		f.fail(CodeBadRequest, "%s must be 0x and 64 hex digits in lower case", name)
	}
}

func (f *faults) optionalHash(name, v string) {
	if v != "" {
		f.hash(name, v)
	}
}

func (f *faults) oneCommittee(name string, c Committee) {
	f.epoch(name+".epoch", c.Epoch, 0)
	f.committee(c.Threshold, c.TotalParts)
	if len(c.Parties) == 0 {
		f.fail(CodeBadRequest, "%s.parties is missing", name)
	}
	f.parties(c.Parties)
}

func (f *faults) users(name string, v []string) {
	if len(v) > MaxParties {
		f.fail(CodeBadRequest, "%s has more than %d entries", name, MaxParties)
		return
	}
	seen := make(map[string]bool, len(v))
	for _, u := range v {
		f.id(name+" entry", u)
		if seen[u] {
			f.fail(CodeBadRequest, "%s names %s twice", name, u)
		}
		seen[u] = true
	}
}

func (f *faults) parties(v []Party) {
	if len(v) > MaxParties {
		f.fail(CodeBadRequest, "parties has more than %d entries", MaxParties)
	}
	for _, p := range v {
		f.partIndex("part_index", p.PartIndex)
		f.id("user_id", p.UserID)
		f.line("identity", p.Identity, MaxIdentityBytes)
	}
}

func (f *faults) attestations(v []string) {
	if len(v) > MaxParties {
		f.fail(CodeBadRequest, "attestations has more than %d entries", MaxParties)
		return
	}
	for _, a := range v {
		f.line("attestations entry", a, MaxAttestationBytes)
	}
}

func (f *faults) committee(threshold, total int) {
	switch {
	case total < 2 || total > MaxParties:
		f.fail(CodeBadRequest, "total_parts must be 2 or more")
	case threshold < 2 || threshold > total:
		f.fail(CodeBadRequest, "threshold must be from 2 to total_parts")
	}
}

func (f *faults) expiresIn(v int) {
	if v < 0 || v > MaxExpiresInSeconds {
		f.fail(CodeBadRequest, "expires_in must be from 1 to %d seconds", MaxExpiresInSeconds)
	}
}

func (f *faults) answer(v *bool) {
	if v == nil {
		f.fail(CodeBadRequest, "response is missing")
	}
}

func (f *faults) status(v Status) {
	switch v {
	case StatusSuccess, StatusRejected, StatusExpired, StatusFailed, StatusCancelled:
	default:
		f.fail(CodeBadRequest, "status is not one of the outcomes")
	}
}

// Validate implements [Payload].
func (p *Register) Validate() error {
	var f faults
	f.id("user_id", p.UserID)
	if !p.Role.Valid() {
		f.fail(CodeBadRequest, "role must be coordinator, participant or admin")
	}
	f.line("identity", p.Identity, MaxIdentityBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *RegisterConfirm) Validate() error {
	var f faults
	f.status(p.Status)
	f.optionalID("node", p.Node)
	return f.err()
}

// Validate implements [Payload].
func (p *KeygenRequest) Validate() error {
	var f faults
	f.newID("key_id", p.KeyID)
	f.committee(p.Threshold, p.TotalParts)
	f.newUsers("participants", p.Participants)
	if len(p.Participants) != p.TotalParts {
		f.fail(CodeBadRequest, "total_parts is %d but participants has %d entries", p.TotalParts, len(p.Participants))
	}
	f.line("curve", p.Curve, MaxTypeBytes)
	f.expiresIn(p.ExpiresIn)
	f.text("signed_request", p.SignedRequest, MaxSignedRequestBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *KeygenInvite) Validate() error {
	var f faults
	f.newID("key_id", p.KeyID)
	f.committee(p.Threshold, p.TotalParts)
	f.partIndex("part_index", p.PartIndex)
	f.newUsers("participants", p.Participants)
	f.optionalID("session_id", p.SessionID)
	f.optionalID("coordinator", p.Coordinator)
	f.line("curve", p.Curve, MaxTypeBytes)
	f.text("signed_request", p.SignedRequest, MaxSignedRequestBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *KeygenResponse) Validate() error {
	return validateResponse(p.KeyID, p.PartIndex, p.Response, p.SessionID, p.Reason, "")
}

// Validate implements [Payload].
func (p *SignResponse) Validate() error {
	return validateResponse(p.KeyID, p.PartIndex, p.Response, p.SessionID, p.Reason, p.Certificate)
}

func validateResponse(key string, part int, response *bool, session, reason, certificate string) error {
	var f faults
	f.id("key_id", key)
	f.partIndex("part_index", part)
	f.answer(response)
	f.optionalID("session_id", session)
	f.line("reason", reason, MaxReasonBytes)
	f.text("certificate", certificate, MaxCertificateBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *KeygenParams) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.committee(p.Threshold, p.TotalParts)
	f.partIndex("part_index", p.PartIndex)
	f.line("output_file", p.OutputFile, 2*MaxIDBytes)
	f.optionalID("session_id", p.SessionID)
	f.line("curve", p.Curve, MaxTypeBytes)
	f.parties(p.Parties)
	return f.err()
}

// Validate implements [Payload].
func (p *KeygenComplete) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.partIndex("part_index", p.PartIndex)
	f.required("account_addr", p.AccountAddr, MaxAddressBytes)
	f.line("account_addr", p.AccountAddr, MaxAddressBytes)
	f.required("share_json", p.ShareJSON, MaxShareBytes)
	f.optionalID("session_id", p.SessionID)
	f.line("public_key", p.PublicKey, MaxPublicKeyBytes)
	f.line("attestation", p.Attestation, MaxAttestationBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *KeygenConfirm) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.status(p.Status)
	f.line("account_addr", p.AccountAddr, MaxAddressBytes)
	f.optionalID("session_id", p.SessionID)
	f.line("public_key", p.PublicKey, MaxPublicKeyBytes)
	f.culprits(p.Culprits)
	f.attestations(p.Attestations)
	return f.err()
}

// Validate implements [Payload].
func (p *SignRequest) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.required("data", p.Data, MaxDataBytes)
	if len(p.Data) > MaxDataJSONBytes/6 && JSONBytes(p.Data) > MaxDataJSONBytes { // no byte takes more than six
		f.fail(CodeTooLarge, "data is longer than %d bytes with its escapes in JSON; give it as 0x and hex", MaxDataJSONBytes)
	}
	f.line("account_addr", p.AccountAddr, MaxAddressBytes)
	f.users("participants", p.Participants)
	if p.SessionID != "" {
		f.newID("session_id", p.SessionID)
	}
	f.line("hash", p.Hash, MaxTypeBytes)
	f.epoch("min_epoch", p.MinEpoch, 0)
	f.expiresIn(p.ExpiresIn)
	f.text("signed_request", p.SignedRequest, MaxSignedRequestBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *SignInvite) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.required("data", p.Data, MaxDataBytes)
	f.partIndex("part_index", p.PartIndex)
	f.users("participants", p.Participants)
	f.optionalID("session_id", p.SessionID)
	f.optionalID("coordinator", p.Coordinator)
	f.line("hash", p.Hash, MaxTypeBytes)
	f.line("digest", p.Digest, 2*MaxDataBytes+2)
	f.epoch("epoch", p.Epoch, 0)
	f.epoch("min_epoch", p.MinEpoch, 0)
	f.text("signed_request", p.SignedRequest, MaxSignedRequestBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *SignParams) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.required("data", p.Data, MaxDataBytes)
	f.partIndex("part_index", p.PartIndex)
	if _, err := ParseParts(p.Participants); err != nil {
		f.fail(CodeBadRequest, "participants must list part indexes, ascending, separated by commas")
	}
	f.text("share_json", p.ShareJSON, MaxShareBytes)
	f.optionalID("session_id", p.SessionID)
	f.line("hash", p.Hash, MaxTypeBytes)
	f.line("digest", p.Digest, 2*MaxDataBytes+2)
	f.parties(p.Parties)
	f.epoch("epoch", p.Epoch, 0)
	f.optionalHash("certificate", p.Certificate)
	return f.err()
}

// Validate implements [Payload].
func (p *SignResult) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.partIndex("part_index", p.PartIndex)
	f.required("signature", p.Signature, MaxSignatureBytes)
	f.line("signature", p.Signature, MaxSignatureBytes)
	f.optionalID("session_id", p.SessionID)
	return f.err()
}

// Validate implements [Payload].
func (p *SignComplete) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.status(p.Status)
	f.optionalID("session_id", p.SessionID)
	f.culprits(p.Culprits)
	return f.err()
}

// Validate implements [Payload].
func (p *ErrorPayload) Validate() error {
	var f faults
	f.required("error", p.Error, DefaultMaxMessageBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *Ack) Validate() error {
	var f faults
	f.optionalID("key_id", p.KeyID)
	f.optionalID("session_id", p.SessionID)
	return f.err()
}

// Validate implements [Payload].
func (p *TSSMessage) Validate() error {
	var f faults
	f.id("session_id", p.SessionID)
	f.attempt(p.Attempt)
	f.place("from", p.From)
	if p.To != 0 {
		f.place("to", p.To)
	}
	if p.To == p.From {
		f.fail(CodeBadRequest, "a party does not send to itself")
	}
	f.required("body", p.Body, MaxBodyBytes)
	f.text("sig", p.Sig, MaxSigBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *PartyFailed) Validate() error {
	var f faults
	f.id("session_id", p.SessionID)
	f.place("part_index", p.PartIndex)
	if p.Attempt < 0 {
		f.fail(CodeBadRequest, "attempt must be 1 or more")
	}
	f.line("reason", p.Reason, MaxReasonBytes)
	f.culprits(p.Culprits)
	f.text("certificate", p.Certificate, MaxCertificateBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *SessionCancel) Validate() error {
	var f faults
	f.id("session_id", p.SessionID)
	f.line("reason", p.Reason, MaxReasonBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *SessionEnded) Validate() error {
	var f faults
	f.id("session_id", p.SessionID)
	f.id("key_id", p.KeyID)
	f.status(p.Status)
	f.culprits(p.Culprits)
	return f.err()
}

// Validate implements [Payload].
func (p *ReshareRequest) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.committee(p.Threshold, p.TotalParts)
	f.parties(p.Participants)
	if len(p.Participants) != p.TotalParts {
		f.fail(CodeBadRequest, "total_parts is %d but participants has %d entries", p.TotalParts, len(p.Participants))
	}
	users := make([]string, len(p.Participants))
	for i, m := range p.Participants {
		users[i] = m.UserID
		if m.PartIndex != i+1 {
			f.fail(CodeBadRequest, "participants must be in the order of their part indexes, from 1")
		}
		if m.Identity == "" {
			f.fail(CodeBadRequest, "participants entry %d has no identity", i+1)
		}
	}
	f.newUsers("participants", users)
	if p.SessionID != "" {
		f.newID("session_id", p.SessionID)
	}
	f.expiresIn(p.ExpiresIn)
	f.text("signed_request", p.SignedRequest, MaxSignedRequestBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *ReshareInvite) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.id("session_id", p.SessionID)
	f.epoch("epoch", p.Epoch, 1)
	f.line("curve", p.Curve, MaxTypeBytes)
	f.line("account_addr", p.AccountAddr, MaxAddressBytes)
	f.line("public_key", p.PublicKey, MaxPublicKeyBytes)
	f.oneCommittee("from", p.From)
	f.oneCommittee("to", p.To)
	f.somePlaces(p.Places)
	f.id("coordinator", p.Coordinator)
	f.optionalHash("certificate", p.Certificate)
	f.line("origin", p.Origin, MaxTypeBytes)
	f.text("signed_request", p.SignedRequest, MaxSignedRequestBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *ReshareResponse) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.id("session_id", p.SessionID)
	f.answer(p.Response)
	f.places(p.Places)
	f.epoch("highest", p.Highest, 0)
	f.line("reason", p.Reason, MaxReasonBytes)
	f.text("certificate", p.Certificate, MaxCertificateBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *ReshareParams) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.id("session_id", p.SessionID)
	f.attempt(p.Attempt)
	f.epoch("epoch", p.Epoch, 1)
	f.oneCommittee("from", p.From)
	f.oneCommittee("to", p.To)
	f.somePlaces(p.Places)
	f.optionalHash("certificate", p.Certificate)
	return f.err()
}

// Validate implements [Payload].
func (p *ReshareComplete) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.id("session_id", p.SessionID)
	f.attempt(p.Attempt)
	f.epoch("epoch", p.Epoch, 1)
	f.partIndex("part_index", p.PartIndex)
	f.required("account_addr", p.AccountAddr, MaxAddressBytes)
	f.line("account_addr", p.AccountAddr, MaxAddressBytes)
	f.required("share_json", p.ShareJSON, MaxShareBytes)
	f.required("statement", p.Statement, MaxStatementBytes)
	f.required("attestation", p.Attestation, MaxAttestationBytes)
	f.line("attestation", p.Attestation, MaxAttestationBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *ReshareAttested) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.id("session_id", p.SessionID)
	f.attempt(p.Attempt)
	f.epoch("epoch", p.Epoch, 1)
	f.required("statement", p.Statement, MaxStatementBytes)
	f.attestations(p.Attestations)
	return f.err()
}

// Validate implements [Payload].
func (p *ReshareConsent) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.id("session_id", p.SessionID)
	f.epoch("epoch", p.Epoch, 1)
	f.partIndex("part_index", p.PartIndex)
	f.hash("attestations_hash", p.AttestationsHash)
	f.required("sig", p.Sig, MaxAttestationBytes)
	f.line("sig", p.Sig, MaxAttestationBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *ReshareConfirm) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.id("session_id", p.SessionID)
	f.epoch("epoch", p.Epoch, 0)
	f.status(p.Status)
	f.line("account_addr", p.AccountAddr, MaxAddressBytes)
	f.line("public_key", p.PublicKey, MaxPublicKeyBytes)
	f.text("certificate", p.Certificate, MaxCertificateBytes)
	f.culprits(p.Culprits)
	return f.err()
}

// Validate implements [Payload].
func (p *EpochCertified) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.epoch("epoch", p.Epoch, 1)
	f.required("certificate", p.Certificate, MaxCertificateBytes)
	return f.err()
}

// Validate implements [Payload].
func (p *CertificateGet) Validate() error {
	var f faults
	f.id("key_id", p.KeyID)
	f.epoch("epoch", p.Epoch, 0)
	return f.err()
}

// Validate implements [Payload].
func (*Ping) Validate() error { return nil }

// Validate implements [Payload].
func (*Pong) Validate() error { return nil }

// FormatParts writes part indexes, or places, as sign_params has them: "1,3".
func FormatParts(parts []int) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(p))
	}
	return b.String()
}

// ParseParts reads what FormatParts wrote. It returns an *Error with
// CodeBadRequest unless the indexes are positive and strictly ascending.
func ParseParts(s string) ([]int, error) {
	bad := Errorf(CodeBadRequest, "part indexes must be positive and ascending, separated by commas")
	if len(s) > MaxPlaces*len("256,") {
		return nil, bad
	}
	fields := strings.Split(s, ",")
	if len(fields) > MaxPlaces {
		return nil, bad
	}
	parts := make([]int, 0, len(fields))
	last := 0
	for _, field := range fields {
		n, err := strconv.Atoi(field)
		if err != nil || n <= last || n > MaxPlaces || strconv.Itoa(n) != field {
			return nil, bad
		}
		parts = append(parts, n)
		last = n
	}
	return parts, nil
}
