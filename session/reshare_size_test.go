package session

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// largestReshare is a reshare among as many users with the longest names as a cluster
// allows by default: sixteen old members and sixteen others.
func largestReshare() Session {
	names := make([]string, 2*wire.DefaultMaxParties)
	for i := range names {
		names[i] = fmt.Sprintf("%s%02d", strings.Repeat("n", wire.MaxIDBytes-2), i)
	}
	s := newReshare(wire.DefaultMaxParties, names[:wire.DefaultMaxParties], wire.DefaultMaxParties, names[wire.DefaultMaxParties:]...)
	s.ID, s.KeyID, s.Coordinator = strings.Repeat("s", wire.MaxIDBytes), strings.Repeat("k", wire.MaxIDBytes), strings.Repeat("b", wire.MaxIDBytes)
	s.SignedRequest = strings.Repeat("r", wire.MaxSignedRequestBytes)
	return s
}

// TestLargestReshare plays the largest reshare: every message is within its limits and
// fits in a frame, the statement and the certificate within theirs, and all that is said
// and kept within what is reserved for the session.
func TestLargestReshare(t *testing.T) {
	t.Parallel()
	s := largestReshare()
	parent := &statement.Epoch{KeyID: s.KeyID}
	for i, p := range s.Parties[:s.Old] {
		parent.Members = append(parent.Members, identity.Member{Index: i + 1, User: p.User, Identity: sessiontest.Identity(p.User).Public()})
	}
	reserved, bytes := s.OpenBytes(0), int64(0)
	said := func(out []Outgoing) {
		for _, o := range out {
			text, err := json.Marshal(o.Payload)
			if err != nil || o.Payload.Validate() != nil || len(text) > wire.DefaultMaxMessageBytes-wire.MaxTokenBytes {
				t.Fatalf("%s of %d bytes: %v, %v", o.Payload.Type(), len(text), o.Payload.Validate(), err)
			}
			bytes += int64(len(text))
		}
	}
	s, out := Begin(s, began)
	said(out)
	for _, user := range s.users() {
		s, out = stepAll(t, s, began, s.answer(user))
		said(out)
	}
	for i := 1; i <= len(s.Parties)-s.Old; i++ {
		report := s.reshared(i, 1)
		p := &wire.ReshareComplete{
			KeyID: s.KeyID, SessionID: s.ID, Attempt: 1, Epoch: report.Epoch, PartIndex: i, AccountAddr: report.AccountAddr,
			ShareJSON: strings.Repeat("s", wire.ShareLimit(wire.DefaultMaxParties)), Statement: report.Statement, Attestation: report.Attestation,
		}
		said([]Outgoing{{Payload: p}})
		bytes -= int64(len(p.ShareJSON)) // of the share's own reservation
		s, out = stepAll(t, s, began, report)
		said(out)
	}
	e, err := statement.ParseEpoch([]byte(s.Statement))
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= s.Old; i++ {
		consent := s.consented(i)
		if consent.Consent, err = e.Consent(sessiontest.Identity(consent.From), parent); err != nil {
			t.Fatal(err)
		}
		s, out = stepAll(t, s, began, consent)
		said(out)
	}
	certificate := s.Certified()
	s, out = stepAll(t, s, began, KeyStored{})
	said(out)
	limit, most := wire.StatementLimit(wire.DefaultMaxParties), wire.CertificateLimit(wire.DefaultMaxParties, wire.DefaultMaxParties)
	if n := len(s.Statement); n > limit || n < limit/2 {
		t.Errorf("the statement has %d bytes, the limit is %d", n, limit)
	}
	if n := len(certificate); n > most || n < most/4 { // a limit far above it would reserve too much
		t.Errorf("the certificate has %d bytes, the limit is %d", n, most)
	}
	if bytes > reserved {
		t.Errorf("the session has said %d bytes, and %d were reserved", bytes, reserved)
	}
	if kept := int64(len(s.Statement)); s.KeptBytes() < kept || s.KeptBytes() > reserved {
		t.Errorf("%d bytes are counted for what is kept, of %d", s.KeptBytes(), kept)
	}
	if largest := LargestSession(0); largest < reserved || largest > DefaultOpenBytes {
		t.Errorf("the largest session has %d bytes, this one %d, an account may have %d", largest, reserved, DefaultOpenBytes)
	}
}
