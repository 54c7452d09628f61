package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// lineageVerdict is the result of verify --key for a lineage.
type lineageVerdict struct {
	Good        bool         `json:"good"`
	KeyID       string       `json:"key_id"`
	Curve       pubkey.Curve `json:"curve"`
	AccountAddr string       `json:"account_addr"`
	PublicKey   string       `json:"public_key"`
	Origin      string       `json:"origin"`
	// Epoch is the current one, with the hash of its certificate.
	Epoch        int              `json:"epoch"`
	Certificate  string           `json:"certificate"`
	Threshold    int              `json:"threshold"`
	AttestedBy   []trust.Attestor `json:"attested_by"` // the current members
	Coordinators []string         `json:"coordinators"`
	Archived     bool             `json:"archived"`
	Destroyed    bool             `json:"destroyed"`
	Lineage      []lineageStep    `json:"lineage"`
}

// lineageStep is a certificate of a lineage.
type lineageStep struct {
	Number      int      `json:"number"`
	Type        string   `json:"type"` // epoch, or that of an entry
	Certificate string   `json:"certificate"`
	Threshold   int      `json:"threshold,omitempty"` // of an epoch
	Members     []string `json:"members,omitempty"`
	User        string   `json:"user_id,omitempty"` // a coordinator that is added or removed
	ConsentedBy []string `json:"consented_by,omitempty"`
	DeletedBy   []string `json:"deleted_by,omitempty"`
}

// readLineage reads the certificates of a file that is a list of them, or an object
// with such a list as items: each a text, or an object with the text as certificate.
// Rest reports whether the file says that there are more.
func readLineage(text []byte) (certificates []string, rest, ok bool) {
	var page struct {
		Items []json.RawMessage `json:"items"`
		Next  string            `json:"next"`
	}
	if json.Unmarshal(text, &page.Items) != nil && json.Unmarshal(text, &page) != nil || len(page.Items) == 0 {
		return nil, false, false
	}
	for _, item := range page.Items {
		var one struct {
			Certificate string `json:"certificate"`
		}
		if json.Unmarshal(item, &one.Certificate) != nil && json.Unmarshal(item, &one) != nil || one.Certificate == "" {
			return nil, false, false
		}
		certificates = append(certificates, one.Certificate)
	}
	return certificates, page.Next != "", true
}

// verifyLineage checks the certificates of a key, in any order, against the identities
// known here.
func (c *cli) verifyLineage(certificates []string, rest, pinnedOnly bool) error {
	known, err := c.knows()
	if err != nil {
		return err
	}
	first, err := statement.ParseAnyCertificate(certificates[0])
	if err != nil {
		return fmt.Errorf("the lineage proves nothing: %w", err)
	}
	keyID, address := first.Key()
	l, who, err := trust.Policy{Known: known, PinnedOnly: pinnedOnly}.CheckLineage(keyID, address, certificates)
	switch {
	case errors.Is(err, trust.ErrNotPinned), errors.Is(err, trust.ErrIdentityChanged):
		c.console.say("%s", c.console.bold("REFUSED: the members of the last epoch are not those known here"))
		return err
	case err != nil:
		return fmt.Errorf("the lineage proves nothing: %w", err)
	}
	if rest {
		c.console.say("warning: the file is not the whole list; there may be later certificates")
	}
	e := l.Epoch()
	v := lineageVerdict{
		Good: true, KeyID: e.KeyID, Curve: e.Curve, AccountAddr: e.AccountAddr, PublicKey: e.PublicKey, Origin: e.Origin,
		Epoch: e.Number, Certificate: l.Current().Hash().String(), Threshold: e.Threshold, AttestedBy: who,
		Coordinators: l.Coordinators(), Archived: l.Archived(), Destroyed: l.Destroyed(), Lineage: stepsOf(l),
	}
	rows := [][2]string{
		{"good", "key " + e.KeyID}, {"address", e.AccountAddr}, {"epoch", fmt.Sprintf("%d, %d of %d", e.Number, e.Threshold, len(e.Members))},
		{"certificate", v.Certificate}, {"attested", c.attested(who)}, {"origin", originOf(e.Origin)},
		{"coordinators", strings.Join(v.Coordinators, ", ")}, {"state", stateOf(l)},
	}
	for _, s := range v.Lineage {
		rows = append(rows, [2]string{fmt.Sprintf("number %d", s.Number), s.String()})
	}
	return c.print(v, rows...)
}

func stepsOf(l *statement.Lineage) []lineageStep {
	var steps []lineageStep
	var committee *statement.Epoch // that consents
	user := func(part int) string { return committee.Members[part-1].User }
	for _, one := range l.Certificates() {
		s := lineageStep{Number: one.Number(), Type: "epoch", Certificate: one.Hash().String()}
		for _, p := range one.Consents {
			s.ConsentedBy = append(s.ConsentedBy, user(p.Part))
		}
		for _, d := range one.Deletions {
			s.DeletedBy = append(s.DeletedBy, user(d.Part))
		}
		if one.Epoch == nil {
			s.Type, s.User = string(one.Entry.Type), one.Entry.User
		} else {
			committee, s.Threshold = one.Epoch, one.Epoch.Threshold
			for _, m := range one.Epoch.Members {
				s.Members = append(s.Members, m.User)
			}
		}
		steps = append(steps, s)
	}
	return steps
}

// String describes a certificate for a row.
func (s lineageStep) String() string {
	text := strings.ReplaceAll(s.Type, "_", " ")
	if s.Members != nil {
		text = fmt.Sprintf("%d of %d: %s", s.Threshold, len(s.Members), strings.Join(s.Members, ", "))
	}
	if s.User != "" {
		text += " " + s.User
	}
	if s.ConsentedBy != nil {
		text += "; consent of " + strings.Join(s.ConsentedBy, ", ")
	}
	if s.DeletedBy != nil {
		text += "; deleted by " + strings.Join(s.DeletedBy, ", ")
	}
	return text
}

func originOf(origin string) string {
	if origin == statement.Imported {
		return "imported: somebody knew this key before its committee did"
	}
	return origin
}

func stateOf(l *statement.Lineage) string {
	switch {
	case l.Destroyed():
		return "destroyed"
	case l.Archived():
		return "archived"
	}
	return "active"
}
