package partytest

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// FirstCertificate returns the certificate of epoch 1, attested by all the committee
// with the shares of its keygen, for coordinator alice.
func (c *Committee) FirstCertificate(tb testing.TB, shares []*share.Share) *statement.Certificate {
	tb.Helper()
	p := shares[0].Public()
	k := statement.Attested{
		SessionID: "kg-1", KeyID: p.KeyID, Epoch: 1, Coordinator: "alice", Curve: p.Curve, Threshold: p.Threshold,
		AccountAddr: p.AccountAddr, PublicKey: p.PublicKey,
	}
	var attestations []string
	for i, s := range shares {
		a, err := s.Attest(c.Identities[i], k.SessionID, k.Coordinator)
		if err != nil {
			tb.Fatal(err)
		}
		k.Participants = append(k.Participants, p.Parties[i].User)
		attestations = append(attestations, a.String())
	}
	first, err := statement.FirstCertificate(k, attestations)
	if err != nil {
		tb.Fatal(err)
	}
	return first
}

// Refreshed returns a certificate with that number which follows another, of the same
// committee and with all consents. No reshare has run: its share points are random.
func (c *Committee) Refreshed(tb testing.TB, parent *statement.Certificate, number int) *statement.Certificate {
	tb.Helper()
	e := *parent.Epoch
	link := parent.Link()
	e.Number, e.Parent, e.SessionID, e.Points = number, &link, fmt.Sprint("rs-", number), nil
	for range e.Members {
		e.Points = append(e.Points, point(tb, e.Curve))
	}
	return c.Certify(tb, &e, parent)
}

// Certify signs an epoch whose members are the committee, as is the one that it follows.
func (c *Committee) Certify(tb testing.TB, e *statement.Epoch, parent *statement.Certificate) *statement.Certificate {
	tb.Helper()
	next := &statement.Certificate{Epoch: e}
	for i, id := range c.Identities {
		attested, err := e.Attest(id)
		if err != nil {
			tb.Fatal(err)
		}
		consent, err := e.Consent(id, parent.Epoch)
		if err != nil {
			tb.Fatal(err)
		}
		next.Attestations = append(next.Attestations, attested)
		next.Consents = append(next.Consents, statement.PartConsent{Part: i + 1, Consent: consent})
	}
	return next
}

// point draws a point of a curve, in the form of a public key.
func point(tb testing.TB, curve pubkey.Curve) string {
	tb.Helper()
	if curve == pubkey.Secp256k1 {
		key, err := secp256k1.GeneratePrivateKey()
		if err != nil {
			tb.Fatal(err)
		}
		return pubkey.Encode(key.PubKey().SerializeCompressed())
	}
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return pubkey.Encode(pub)
}
