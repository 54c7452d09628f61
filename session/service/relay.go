package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	relayCacheFor  = 2 * time.Second
	relayCacheSize = 4096
)

// Relay begins to pass a round message to its recipients: messages relayed in order by
// one goroutine arrive in order. It reads only the message's address, writes nothing to
// the session, and loads it at most every relayCacheFor while it runs: the parties
// check session and attempt themselves, by signature.
//
// A client that names a request_id may resend its message after a reconnect; it reaches
// each mailbox once.
func (v *Service) Relay(ctx context.Context, c Caller, m wire.Message, p *wire.TSSMessage) (*Relaying, error) {
	if !c.has(wire.RoleParticipant) {
		return nil, errRole(wire.RoleParticipant)
	}
	s, err := v.running(ctx, c, p)
	if err != nil {
		return nil, err
	}
	r := &Relaying{service: v, session: s, from: p.From, named: m.RequestID != ""}
	if !slices.Contains(s.Places(c.User), p.From) {
		if err := admits(s, &c, nil); err != nil {
			return nil, err
		}
		return nil, about(session.ErrNotParty, s)
	}
	switch {
	case s.Phase.Final():
		return nil, about(session.ErrEnded, s)
	case p.Attempt < s.Attempt:
		return r, nil // of an attempt that was given up: no party waits for it
	case s.Phase != session.Running || p.Attempt > s.Attempt:
		return nil, about(session.ErrNotYet, s)
	case !slices.Contains(s.Signers, p.From):
		return nil, about(session.ErrNotParty, s)
	case p.To != 0 && !slices.Contains(s.Signers, p.To):
		return nil, about(wire.Errorf(wire.CodeBadRequest, "to is not a party of this attempt"), s)
	}
	id := ""
	if r.named {
		id = s.ID + ":" + wire.Fingerprint("relay", strconv.Itoa(p.Attempt), strconv.Itoa(p.From), m.RequestID, p.Body)
	}
	r.deliveries, err = deliveries(s, p, id)
	if err != nil {
		return nil, err
	}
	r.ctx, r.end = v.cfg.Tracer.Begin(ctx, s.ID, partRelay)
	r.sending = v.cfg.Sender.Begin(r.ctx, r.deliveries...)
	return r, nil
}

// Relaying is a round message in transit.
type Relaying struct {
	service    *Service
	session    session.Session // with the fields that relaying needs
	from       int             // part index of its sender
	named      bool            // its sender awaits an ack
	deliveries []Delivery

	// Nil if there is no recipient.
	ctx     context.Context
	end     func(error)
	sending Sending
}

// Done is closed when every mailbox has taken or refused the message.
func (r *Relaying) Done() <-chan struct{} {
	if r.sending == nil {
		return isDone
	}
	return r.sending.Done()
}

// Answer returns the reply to the sender once Done is closed; call it once.
func (r *Relaying) Answer() (wire.Payload, error) {
	if r.sending != nil {
		err := r.failed()
		r.end(err)
		if err != nil {
			return nil, r.about(err)
		}
	}
	if !r.named {
		return nil, nil
	}
	return &wire.Ack{KeyID: r.session.KeyID, SessionID: r.session.ID}, nil
}

// failed returns why the message is not in all its mailboxes. If one has no room, the
// session gets Undeliverable: a party that misses a round message would hang.
func (r *Relaying) failed() error {
	v, s := r.service, r.session
	var failed []error
	for i, err := range r.sending.Errs() {
		switch {
		case err == nil:
			continue
		case noRoom(err):
			d, why := r.deliveries[i], err
			ev := session.Undeliverable{User: d.To, Attempt: s.Attempt}
			if errors.Is(err, ErrShareUsed) {
				ev.Payer, ev.Party = d.Payer, r.from
			}
			withSession(s, v.log.Warn()).Str("account", d.To).Str("from", d.Payer).AnErr("reason", why).Msg("no room in a mailbox")
			_, err = v.advance(r.ctx, change{target: target{id: s.ID}, ev: ev})
			if err == nil {
				err = why
			}
		case errors.Is(err, ErrStorageFull):
			err = fmt.Errorf("relay to %s: %w", r.deliveries[i].To, err)
		default:
			err = fmt.Errorf("relay to %s: %w: %w", r.deliveries[i].To, ErrUnavailable, err)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// about adds the session to the sender's error, because the message that names it is
// gone.
func (r *Relaying) about(err error) error {
	var e *wire.Error
	if !errors.As(err, &e) || e.SessionID != "" {
		return err
	}
	told := *e
	told.SessionID = r.session.ID
	return fmt.Errorf("%w: %w", &told, err)
}

// isDone is a closed channel.
var isDone = func() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}()

// deliveries addresses a round message: to one signer, or to all but its sender, who
// pays. A user with two places gets one copy.
func deliveries(s session.Session, p *wire.TSSMessage, id string) ([]Delivery, error) {
	from := s.Parties[p.From-1].User
	if p.To != 0 {
		user := s.Parties[p.To-1].User
		frame, err := wire.Frame(user, p, "")
		return []Delivery{{To: user, ID: id, Frame: frame, Payer: from, Group: s.ID}}, err
	}
	encoded, err := wire.EncodePayload(p)
	if err != nil {
		return nil, err
	}
	list := make([]Delivery, 0, len(s.Signers))
	for _, i := range s.Signers {
		user := s.Parties[i-1].User
		if user != from && !slices.ContainsFunc(list, func(d Delivery) bool { return d.To == user }) {
			list = append(list, Delivery{To: user, ID: id, Frame: encoded.Frame(user, ""), Payer: from, Group: s.ID})
		}
	}
	return list, nil
}

// running returns the session that p is for, from the cache if that is recent and of
// p's attempt. For a user without a part in the session it asks the store, as for a
// session that does not exist, so that both answers take equally long.
func (v *Service) running(ctx context.Context, c Caller, p *wire.TSSMessage) (session.Session, error) {
	if s, ok := v.relays.get(p.SessionID); ok && s.Attempt == p.Attempt && s.Phase == session.Running && admits(s, &c, nil) == nil {
		return s, nil
	}
	s, _, err := v.cfg.Store.Load(ctx, p.SessionID)
	if err != nil {
		return session.Session{}, err
	}
	v.relays.put(s)
	return s, nil
}

// route returns the fields of a session that relaying needs: the cache keeps no data,
// digests or identities.
func route(s session.Session) session.Session {
	r := session.Session{ID: s.ID, KeyID: s.KeyID, Kind: s.Kind, Coordinator: s.Coordinator, Phase: s.Phase, Attempt: s.Attempt, Signers: s.Signers}
	r.Parties = make([]session.Party, len(s.Parties))
	for i, p := range s.Parties {
		r.Parties[i] = session.Party{User: p.User, Invited: p.Invited}
	}
	return r
}

// relayCache caches running sessions briefly. The zero value is ready.
type relayCache struct {
	mu   sync.Mutex
	seen map[string]cachedSession
}

type cachedSession struct {
	session session.Session
	until   time.Time
}

func (c *relayCache) get(id string) (session.Session, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.seen[id]
	if !ok || time.Now().After(e.until) {
		delete(c.seen, id)
		return session.Session{}, false
	}
	return e.session, true
}

// put caches a running session and removes any other. A full cache drops expired
// entries, or else all: it is only a cache.
func (c *relayCache) put(s session.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Phase != session.Running {
		delete(c.seen, s.ID)
		return
	}
	if c.seen == nil {
		c.seen = make(map[string]cachedSession)
	}
	now := time.Now()
	if len(c.seen) >= relayCacheSize {
		for id, e := range c.seen {
			if now.After(e.until) {
				delete(c.seen, id)
			}
		}
		if len(c.seen) >= relayCacheSize {
			clear(c.seen)
		}
	}
	c.seen[s.ID] = cachedSession{session: route(s), until: now.Add(relayCacheFor)}
}
