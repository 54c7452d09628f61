package participant

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Round messages arrive in any order, possibly before the parameters of their run;
// this code assigns them to their run.

const (
	maxEarly      = 512     // round messages kept for a run that has not begun, and
	maxEarlyBytes = 8 << 20 // their size: four times that of the first round of 16 parties
	// Every session may keep this much; beyond it all sessions together may keep
	// maxEarlyTotal.
	sureEarlyBytes = 1 << 20
	maxEarlyTotal  = 64 << 20
)

// early is a round message that arrived before its run was ready.
type early struct {
	seq     uint64
	attempt int
	m       party.Message
}

// attach makes the runs of an attempt known to the reader, and passes them the early
// messages. It reports false if a newer attempt has begun.
func (p *participant) attach(t *task, a attempt) bool {
	p.mu.Lock()
	if t.record.Attempt != a.number {
		p.mu.Unlock()
		return false
	}
	t.runs = a.runs
	came := slices.Clone(t.early)
	t.keepLater(a.number)
	p.mu.Unlock()
	for _, e := range came {
		if e.attempt == a.number {
			p.accept(t, a.inv, a.number, a.runs, e.m)
		}
	}
	return true
}

// relay sends a round message to the other parties, through the server. This party's
// other run gets it at once.
func (p *participant) relay(t *task, a attempt, m party.Message) {
	others := maps.Clone(a.runs)
	delete(others, m.From)
	p.accept(t, a.inv, a.number, others, m)
	if others[m.To] != nil {
		return
	}
	p.send(a.inv.SessionID, &wire.TSSMessage{
		SessionID: a.inv.SessionID, Attempt: a.number, From: m.From, To: m.To,
		Body: base64.StdEncoding.EncodeToString(m.Body), Sig: base64.StdEncoding.EncodeToString(m.Sig),
	}, func(_ wire.Ack, e *wire.Error) {
		if e != nil && !errors.Is(e, errEnded) {
			p.giveUp(t, a.inv, a.number, fmt.Errorf("the server refuses a round message: %w", e))
		}
	})
}

// roundMessage handles a round message from another party.
func (p *participant) roundMessage(seq uint64, m *wire.TSSMessage) {
	body, err := base64.StdEncoding.DecodeString(m.Body)
	sig, err2 := base64.StdEncoding.DecodeString(m.Sig)
	if err != nil || err2 != nil {
		p.log.Warn().Str("session", m.SessionID).Int("party", m.From).Msg("round message is not base64")
		return
	}
	msg := party.Message{From: m.From, To: m.To, Body: body, Sig: sig}
	p.mu.Lock()
	t := p.sessions[m.SessionID]
	switch {
	case t == nil || t.record.Answer != Accepted || m.Attempt < t.record.Attempt, m.Attempt == t.record.Attempt && t.over:
		p.mu.Unlock() // of a session or attempt not run here
	case m.Attempt == t.record.Attempt && t.runs != nil:
		runs, inv := t.runs, t.record.Invitation
		p.mu.Unlock()
		p.accept(t, inv, m.Attempt, runs, msg)
	case !p.keeps(t, len(body)):
		p.mu.Unlock()
		p.log.Warn().Str("session", m.SessionID).Int("party", m.From).Msg("too many round messages before their run, one dropped")
	default:
		if m.Attempt > t.record.Attempt {
			p.link.Hold(seq) // a restart would still run this attempt
		}
		t.early = append(t.early, early{seq, m.Attempt, msg})
		t.bytes += len(body)
		p.mu.Unlock()
	}
}

// keeps reports whether a session may keep an early message of that size. p.mu is
// held.
func (p *participant) keeps(t *task, size int) bool {
	switch after := t.bytes + size; {
	case len(t.early) >= maxEarly || after > maxEarlyBytes:
		return false
	case after <= sureEarlyBytes:
		return true
	}
	all := size
	for _, other := range p.sessions {
		all += other.bytes
	}
	return all <= maxEarlyTotal
}

// accept passes a message to those of this party's runs that it is for. A run refuses
// one that claims to be its own.
func (p *participant) accept(t *task, inv Invitation, attempt int, runs map[int]*party.Run, m party.Message) {
	for place, run := range runs {
		if m.To == 0 || m.To == place {
			if inv.Reshare != nil {
				inv.PartIndex = place
			}
			p.acceptBy(t, inv, attempt, run, m)
		}
	}
}

func (p *participant) acceptBy(t *task, inv Invitation, attempt int, run *party.Run, m party.Message) {
	err := run.Accept(m)
	var fault *party.Error
	switch {
	case err == nil, errors.Is(err, party.ErrEnded):
	case errors.As(err, &fault):
		p.log.Warn().Str("session", inv.SessionID).Ints("culprits", fault.Culprits).Err(err).Msg("round message is at fault")
		if fault.Proof != nil {
			// The run could continue with the first message; but not with such a party.
			p.giveUp(t, inv, attempt, fault)
		}
	default:
		p.log.Debug().Str("session", inv.SessionID).Int("party", m.From).Err(err).Msg("round message refused")
	}
}

// current removes the early messages of attempts before the newest, and returns the
// mailbox numbers of all that need no longer be held.
func (t *task) current() []uint64 {
	var seqs []uint64
	for _, e := range t.early {
		if e.attempt <= t.record.Attempt {
			seqs = append(seqs, e.seq)
		}
	}
	t.keepLater(t.record.Attempt - 1)
	return seqs
}

// keepLater removes the early messages of that attempt and those before it.
func (t *task) keepLater(number int) {
	t.early = slices.DeleteFunc(t.early, func(e early) bool { return e.attempt <= number })
	t.bytes = 0
	for _, e := range t.early {
		t.bytes += len(e.m.Body)
	}
}
