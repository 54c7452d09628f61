package trust

import (
	"fmt"

	"github.com/conclave-mpc/conclave/session/statement"
)

// CheckLineage verifies certificates of a key that a server has shown, in any order, and
// returns the lineage that counts among them. All members of its last epoch have attested
// that with their identities: those known must be the known ones, and with PinnedOnly all
// must be pinned. Who they are it returns too. The address is the key's as the caller
// knows it, "" to trust the members for it.
//
// A server can leave out the newest certificates. So the caller keeps those that it has
// seen, and passes them too.
func (p Policy) CheckLineage(keyID, accountAddr string, certificates []string) (*statement.Lineage, []Attestor, error) {
	list := make([]*statement.Certificate, len(certificates))
	for i, text := range certificates {
		var err error
		if list[i], err = statement.ParseAnyCertificate(text); err != nil {
			return nil, nil, err
		}
	}
	l, err := statement.Head(list)
	if err != nil {
		return nil, nil, err
	}
	e := l.Epoch()
	if e.KeyID != keyID || accountAddr != "" && e.AccountAddr != accountAddr {
		return nil, nil, fmt.Errorf("the certificates are of another key: %s with address %s", e.KeyID, e.AccountAddr)
	}
	who := make([]Attestor, len(e.Members))
	for i, m := range e.Members {
		known, ok, err := p.Look(m.User)
		if err != nil {
			return nil, nil, fmt.Errorf("known identities: %w", err)
		}
		if err := p.Admit(m.User, known, ok, m.Identity); err != nil {
			return nil, nil, fmt.Errorf("epoch %d of key %s: %w", e.Number, keyID, err)
		}
		who[i] = Attestor{
			PartIndex: m.Index, User: m.User, Fingerprint: m.Identity.Fingerprint(), Pinned: ok && known.Pinned, First: !ok, identity: m.Identity,
		}
	}
	return l, who, nil
}
