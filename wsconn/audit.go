package wsconn

import (
	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func (c *Conn) audit(d audit.Decision) {
	if a := c.server.cfg.Audit; a != nil {
		a.Record(d)
	}
}

// auditRefusal records that m was refused with e: any register and any request for
// a keygen or signing, whatever the reason, and other messages only if they were
// well formed and their sender lacks permission. No name is recorded for a client
// whose token is invalid. A temporary failure is not a decision and is not
// recorded.
func (c *Conn) auditRefusal(m wire.Message, user string, e *wire.Error) {
	if !m.Type.FromClient() {
		return // a word chosen by the client
	}
	switch e.Code {
	case wire.CodeInternal, wire.CodeUnavailable, wire.CodeStorageFull:
		return
	case wire.CodeForbidden, wire.CodeInvalidSignature:
	default:
		switch m.Type {
		case wire.TypeRegister, wire.TypeKeygenRequest, wire.TypeSignRequest:
		default:
			return
		}
	}
	d := audit.Decision{Who: user, What: string(m.Type), Outcome: audit.Refused, Code: string(e.Code), Detail: e.Message}
	if e.Code == wire.CodeRateLimited {
		d.Outcome = audit.Throttled
	}
	d.Key, d.Session = subject(m, e)
	c.audit(d)
}
