package participant

import (
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

func (p *participant) known(user string) (trust.Known, bool, error) {
	known, ok, err := p.cfg.Trust.Look(user)
	if err != nil {
		return known, false, p.local(err, "known identities cannot be read")
	}
	return known, ok, nil
}

// trusts decides about an identity, and lets the store remember it.
func (p *participant) trusts(user string, id identity.Public) error {
	known, ok, err := p.known(user)
	if err != nil {
		return err
	}
	if err := p.cfg.Trust.Admit(user, known, ok, id); err != nil {
		return err
	}
	return p.local(p.cfg.Trust.Trust(user, id), "known identities cannot be read")
}
