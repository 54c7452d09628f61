package session

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Errors that a client sees when Step refuses its message.
var (
	ErrNotParty = wire.Errorf(wire.CodeForbidden, "you are not a party of this session with that part_index")
	ErrEnded    = wire.Errorf(wire.CodeSessionEnded, "the session has ended")
	ErrAnswered = wire.Errorf(wire.CodeConflict, "the invitation was answered otherwise before")
	ErrNotYet   = wire.Errorf(wire.CodeConflict, "the session is not running yet")
	ErrReported = wire.Errorf(wire.CodeConflict, "this party reported another result before")
	ErrNotMine  = wire.Errorf(wire.CodeForbidden, "only the session's coordinator or an admin may do this")
	ErrStoring  = wire.Errorf(wire.CodeConflict, "the key is complete and is being stored")
	ErrKind     = wire.Errorf(wire.CodeBadRequest, "the session is of the other kind")
)

// ErrTransition is returned by Step for a step outside the graph: a bug in this
// package, never a client's error.
var ErrTransition = errors.New("session: transition outside the graph")

// machine is one step in progress: a private copy of the session and the messages so
// far.
type machine struct {
	Session
	rules *rules // of the session's kind
	now   time.Time
	out   []Outgoing
	err   error
}

// Step applies ev to s at time now. It returns the next session and the messages to
// send, in order; the same session and no messages if ev has no effect (a repetition,
// or too late to matter); or an error, and then nothing has changed. Errors are
// *wire.Error except ErrTransition.
func Step(s Session, ev Event, now time.Time) (Session, []Outgoing, error) {
	if !s.Kind.Known() {
		return s, nil, fmt.Errorf("session: unknown kind %q", s.Kind)
	}
	m := machine{Session: s.clone(), rules: s.Kind.rules(), now: now}
	var err error
	switch ev := ev.(type) {
	case nil:
		err = errors.New("session: no event")
	case Responded:
		err = m.responded(ev)
	case PartyFailed:
		err = m.partyFailed(ev)
	case Cancel:
		err = m.cancel(ev)
	case Undeliverable:
		m.undeliverable(ev)
	case Tick:
		m.tick(ev)
	default:
		err = m.rules.own(&m, ev)
	}
	if err = errors.Join(err, m.err); err != nil {
		return s, nil, unjoin(err)
	}
	return m.Session, m.out, nil
}

// unjoin returns a join of one error as that error, so that its message is unchanged.
func unjoin(err error) error {
	if j, ok := err.(interface{ Unwrap() []error }); ok && len(j.Unwrap()) == 1 {
		return j.Unwrap()[0]
	}
	return err
}

// Begin returns a new session, inviting, with its invitations. The caller has
// checked the request. The session is of a known kind.
func Begin(s Session, now time.Time) (Session, []Outgoing) {
	m := machine{Session: s.clone(), rules: s.Kind.rules(), now: now}
	m.Phase = Inviting
	m.CreatedAt = now
	m.Deadline = earlier(m.ExpiresAt, now.Add(m.Terms.Invite))
	m.inviteAll()
	return m.Session, m.out
}

// inviteAll sends each invited user its invitation.
func (m *machine) inviteAll() {
	for _, user := range m.everyone() {
		m.say(user, m.rules.invite(m, m.PartIndex(user)))
	}
}

// everyone lists the invited users, each once.
func (m *machine) everyone() []string { return m.users() }

func (m *machine) say(user string, p wire.Payload) {
	m.out = append(m.out, Outgoing{To: user, Payload: p})
}

func (m *machine) move(to Phase) {
	if !m.Phase.leadsTo(to) {
		m.err = fmt.Errorf("%w: %s to %s", ErrTransition, m.Phase, to)
		return
	}
	m.Phase = to
}

// member checks that from is party index, and was invited.
func (m *machine) member(from string, index int) error {
	if index < 1 || index > len(m.Parties) || m.party(index).User != from || !m.party(index).Invited {
		return ErrNotParty
	}
	return nil
}

func (m *machine) responded(ev Responded) error {
	if ev.Kind != m.Kind {
		return ErrKind
	}
	if err := m.member(ev.From, ev.Party); err != nil {
		return err
	}
	p := m.party(ev.Party)
	answer := Declined
	if ev.Accept {
		answer = Accepted
	}
	switch {
	case p.Response == answer:
		return nil
	case m.Phase.Final():
		return ErrEnded
	case p.Response != Unanswered:
		return ErrAnswered
	}
	p.Response, p.Identity, p.NoRoom = answer, ev.Identity, false
	if answer == Accepted {
		m.rules.accepted(m)
		return nil
	}
	reason := fmt.Sprintf("%s declined", m.name(ev.Party))
	if ev.Reason != "" {
		reason += ": " + ev.Reason
	}
	m.rules.declined(m, reason)
	return nil
}

func (m *machine) partyFailed(ev PartyFailed) error {
	if err := m.member(ev.From, ev.Party); err != nil {
		return err
	}
	for _, c := range ev.Culprits {
		if c < 1 || c > len(m.Parties) {
			return wire.Errorf(wire.CodeBadRequest, "culprits names a part index that the session does not have")
		}
	}
	switch {
	case m.Phase.Final(), m.AllReported():
		return nil // too late: the outcome is decided
	case m.Phase == Inviting:
		return ErrNotYet
	case ev.Attempt != 0 && ev.Attempt != m.Attempt, !slices.Contains(m.Signers, ev.Party):
		return nil // of an attempt that was given up
	}
	culprits := slices.Compact(slices.Sorted(slices.Values(ev.Culprits)))
	culprits = slices.DeleteFunc(culprits, func(c int) bool { // only those of its own attempt
		return c == ev.Party || !slices.Contains(m.Signers, c)
	})
	reason := m.name(ev.Party) + " could not go on"
	if ev.Reason != "" {
		reason += ": " + ev.Reason
	}
	switch {
	case ev.Full:
		m.rules.hindered(m, reason+whileFull)
		return nil
	case ev.Moved:
		m.strike(ev.Party, 1) // others are tried first
		m.rules.hindered(m, reason)
		return nil
	}
	m.rules.failed(m, ev.Party, culprits, reason)
	return nil
}

// whileFull is added to the reason when no party is blamed.
const whileFull = ", while the cluster's storage was full"

func (m *machine) cancel(ev Cancel) error {
	if ev.From != m.Coordinator && !ev.Admin {
		return ErrNotMine
	}
	switch {
	case m.Phase == Cancelled:
		return nil
	case m.Phase.Final():
		return ErrEnded
	case m.AllReported():
		return ErrStoring
	}
	reason := "cancelled by " + ev.From
	if ev.Reason != "" {
		reason += ": " + ev.Reason
	}
	m.end(Cancelled, reason, nil)
	return nil
}

// undeliverable handles a mailbox without room. Its owner is not blamed: others may
// have filled it.
func (m *machine) undeliverable(ev Undeliverable) {
	if m.Phase.Final() || m.AllReported() || ev.Attempt != 0 && ev.Attempt != m.Attempt {
		return
	}
	reason := fmt.Sprintf("the mailbox of %s is full", ev.User)
	if ev.Payer != "" {
		reason = fmt.Sprintf("the share of %s of the mailbox of %s is used up", ev.Payer, ev.User)
	}
	m.rules.unreachable(m, ev, reason)
}

func (m *machine) tick(ev Tick) {
	if m.Phase.Final() || m.AllReported() {
		return
	}
	if !m.ExpiresAt.IsZero() && !m.now.Before(m.ExpiresAt) {
		m.expire("the request's time is over", ev.Full)
		return
	}
	switch m.Phase {
	case Inviting:
		if !m.now.Before(m.Deadline) {
			m.expire("the deadline for answers passed", ev.Full)
		}
	case Running:
		m.watch(ev)
		if !m.Phase.Final() && !m.now.Before(m.Deadline) {
			m.overdue(ev)
		}
	}
}

// expire ends a session after its deadline, and names the parties that owe something,
// unless messages may not have reached them.
func (m *machine) expire(reason string, full bool) {
	if full {
		m.end(Expired, reason+whileFull, nil)
		return
	}
	m.end(Expired, reason+m.owing(), m.silent())
}

// watch notes which needed parties have no socket, and gives up those without one for
// longer than the terms allow, without a break.
func (m *machine) watch(ev Tick) {
	var gone []int
	for _, i := range m.Signers {
		p := m.party(i)
		switch seen := ev.Seen[i]; {
		case p.Result != "" || !slices.Contains(ev.Offline, i):
			p.AbsentSince = time.Time{}
		case p.AbsentSince.IsZero():
			p.AbsentSince = m.now
		case seen.After(p.AbsentSince):
			p.AbsentSince = earlier(seen, m.now)
		case m.now.Sub(p.AbsentSince) >= m.Terms.Grace:
			gone = append(gone, i)
		}
	}
	if len(gone) == 0 {
		return
	}
	m.rules.gone(m, gone, m.names(gone)+" left and did not come back")
}

// overdue handles a deadline that passed while the session ran.
func (m *machine) overdue(ev Tick) {
	if ev.Full && len(m.Signers) > 0 {
		m.rules.hindered(m, "the deadline passed"+whileFull)
		return
	}
	m.rules.overdue(m, ev.Offline)
}

// silent lists the parties that owe something: an answer while inviting, a result while
// running.
func (m *machine) silent() []int {
	var list []int
	for i, p := range m.Parties {
		missing := m.Phase == Inviting && p.Invited && p.Response == Unanswered && !p.NoRoom ||
			m.Phase == Running && slices.Contains(m.Signers, i+1) && p.Result == ""
		if missing {
			list = append(list, i+1)
		}
	}
	return list
}

func (m *machine) owing() (text string) {
	if silent := m.silent(); len(silent) > 0 {
		text = " without a word from " + m.names(silent)
	}
	var unreached []int
	for i, p := range m.Parties {
		if p.NoRoom && p.Response == Unanswered {
			unreached = append(unreached, i+1)
		}
	}
	if len(unreached) > 0 {
		text += "; no room in the mailbox of " + m.names(unreached)
	}
	return text
}

// end moves to a final phase and notifies everyone involved.
func (m *machine) end(to Phase, reason string, culprits []int) {
	m.move(to)
	if m.err != nil {
		return
	}
	m.EndedAt = m.now
	m.Reason = truncate(reason, wire.MaxReasonBytes)
	m.blame(culprits...)
	m.out = append(m.out, Outgoing{To: m.Coordinator, Payload: Outcome(m.Session), RequestID: m.RequestID})
	m.SignedRequest = "" // no further invitations are sent, and it is the largest part of the record
	for i := range m.Parties {
		m.Parties[i].Identity = ""
	}
	if m.Old > 0 && to != Completed {
		m.forgetReports()
	}
	for _, user := range m.everyone() {
		m.say(user, &wire.SessionEnded{
			SessionID: m.ID, KeyID: m.KeyID, Kind: string(m.Kind),
			Status: m.Phase.Status(), Reason: m.Reason, Culprits: m.Culprits,
		})
	}
}

// blame adds to the culprits, which stay ascending and without repetition.
func (m *machine) blame(parts ...int) {
	m.Culprits = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(m.Culprits), parts...))))
}

// Outcome is the result message for the coordinator of an ended session; nil for an
// unknown kind.
func Outcome(s Session) wire.Payload {
	if !s.Kind.Known() {
		return nil
	}
	return s.Kind.rules().outcome(s)
}

func (m *machine) all(r Response) bool {
	for _, p := range m.Parties {
		if p.Response != r {
			return false
		}
	}
	return true
}

// names formats parties for people: "bob (part 2) and carol (part 3)".
func (m *machine) names(parts []int) string {
	text := ""
	for i, part := range parts {
		switch {
		case i > 0 && i == len(parts)-1:
			text += " and "
		case i > 0:
			text += ", "
		}
		text += m.name(part)
	}
	return text
}

func (m *machine) name(part int) string {
	return fmt.Sprintf("%s (%s)", m.party(part).User, m.describePlace(part))
}

// truncate shortens s to at most n bytes without splitting a rune.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const ellipsis = "…"
	cut := 0
	for i := range s {
		if i > n-len(ellipsis) {
			break
		}
		cut = i
	}
	return s[:cut] + ellipsis
}
