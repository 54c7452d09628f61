package client

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Service takes part in sessions: it handles the servers' messages to a user except
// the answers to its own requests, that is invitations, the parameters of runs,
// round messages, and the ends of sessions. A client calls Start, then Receive from
// one goroutine, then Wait.
type Service interface {
	// Start is called once, before the first connection, for which messages sent through
	// the link wait. The context ends with the client. An error ends the client.
	Start(ctx context.Context, l *Link) error
	// Receive takes one message, with its number in the mailbox. An error ends the
	// client, and the message stays in the mailbox.
	Receive(ctx context.Context, seq uint64, p wire.Payload) error
	// Wait returns when all goroutines of the service have ended. It is called when
	// the context of Start has ended.
	Wait()
}

// Link is a [Service]'s interface to its client. Its methods are safe for
// concurrent use.
type Link struct{ c *Client }

// User returns the user id, "" before it is known from a token.
func (l *Link) User() string { return l.c.User() }

// AwaitUser waits until the user id is known.
func (l *Link) AwaitUser(ctx context.Context) error { return l.c.awaitUser(ctx) }

// Identity returns Config.Identity.
func (l *Link) Identity() *identity.Identity { return l.c.cfg.Identity }

// Log returns the client's logger, which suppresses floods of lines.
func (l *Link) Log() zerolog.Logger { return l.c.log }

// Emit passes an event to Config.OnEvent.
func (l *Link) Emit(e request.Event) { l.c.emit(e) }

// IdentityChanged logs and emits that a user came with another identity, if err is
// an [*IdentityError].
func (l *Link) IdentityChanged(err error, kind request.Kind, sessionID, keyID string) {
	l.c.changed(err, kind, sessionID, keyID)
}

// Connected reports whether the client is registered with a node now.
func (l *Link) Connected() bool { return l.c.isConnected() }

// Send queues a message, which is sent again on each new connection until the
// server has acknowledged or refused it, or until Drop. Session is the one that it
// is for, "" for none. done, if not nil, is called once: with the acknowledgement,
// or with the refusal.
func (l *Link) Send(session string, p wire.Payload, done func(wire.Ack, *wire.Error)) error {
	return l.c.courier.add(l.c.requestID(), p, session, done)
}

// Unanswered returns how many messages of these types the server has neither
// acknowledged nor refused.
func (l *Link) Unanswered(types ...wire.Type) int { return l.c.courier.count(types...) }

// Drop removes the unanswered messages of a session: all of them, or, with an
// attempt above 0, the round messages of earlier attempts.
func (l *Link) Drop(session string, before int) { l.c.courier.drop(session, before) }

// Hold prevents a message of the mailbox, and so all after it, from being acknowledged,
// so that a restart gets it again. It must be called before Receive returns.
func (l *Link) Hold(seq uint64) { l.c.inbox.hold(seq) }

// Release ends the Hold of messages.
func (l *Link) Release(seqs ...uint64) { l.c.inbox.release(seqs...) }
