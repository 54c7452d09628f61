package client

import (
	"context"
	"errors"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// errJournal is wrapped around what keeps a participant from writing down what
// it must remember. It stops the client: what was not written down must be told
// again, to this process or the next.
var errJournal = errors.New("client: the journal cannot be written")

// receive takes one frame. An error means that it could not be taken and that
// the connection must end.
func (c *Client) receive(ctx context.Context, frame []byte) error {
	m, err := wire.Decode(frame, maxFrameBytes)
	if err != nil {
		c.log.Warn().Err(err).Msg("frame is not understood")
		return nil
	}
	if m.Seq > 0 && !c.inbox.fresh(m.Seq) {
		return nil
	}
	p, err := m.DecodePayload()
	if err != nil {
		// Of a newer protocol, or broken; it will not get better.
		c.log.Warn().Err(err).Str("type", string(m.Type)).Msg("message is not understood")
	} else if err := c.take(ctx, m, p); err != nil {
		return err
	}
	if m.Seq > 0 {
		c.inbox.took(m.Seq)
	}
	return nil
}

func (c *Client) take(ctx context.Context, m wire.Message, p wire.Payload) error {
	switch p := p.(type) {
	case *wire.Ack:
		c.courier.acked(m.RequestID, *p)
	case *wire.ErrorPayload:
		return c.told(m.RequestID, p)
	case *wire.KeygenConfirm:
		c.ended(KindKeygen, m.RequestID, p.SessionID, p.KeyID, p)
		c.emitOutcome(Ended{KindKeygen, p.SessionID, p.KeyID, p.Status, p.Reason, p.Culprits})
	case *wire.SignComplete:
		c.ended(KindSign, m.RequestID, p.SessionID, p.KeyID, p)
		c.emitOutcome(Ended{KindSign, p.SessionID, p.KeyID, p.Status, p.Reason, p.Culprits})
	case *wire.KeygenInvite, *wire.SignInvite, *wire.KeygenParams, *wire.SignParams, *wire.TSSMessage, *wire.SessionEnded:
		if c.serving == nil {
			// It is for the same user's participant, which is not running. It must
			// find it in its mailbox when it does.
			c.inbox.holdAll(m.Seq)
			return nil
		}
		return c.serving.receive(ctx, m.Seq, p)
	case *wire.Ping, *wire.Pong, *wire.RegisterConfirm:
	default:
		c.log.Warn().Str("type", string(m.Type)).Msg("message is not one for a client")
	}
	return nil
}

// emitOutcome tells a coordinator of an end; a participant has it from
// session_ended.
func (c *Client) emitOutcome(e Ended) {
	if c.serving == nil {
		c.emit(e)
	}
}

// told takes an error message.
func (c *Client) told(requestID string, p *wire.ErrorPayload) error {
	e := wireError(p)
	c.log.Debug().Str("code", string(e.Code)).Str("session", e.SessionID).Str("request", string(p.RequestType)).Msg("server refuses")
	switch {
	case e.Code == wire.CodeTokenExpired:
		// The message is said again on a new connection with a newer token.
		c.courier.putOff(requestID, time.Now())
		return e
	case requestID != "":
		c.courier.refused(requestID, e, time.Now())
	case e.Code == wire.CodeRateLimited:
		c.courier.putOff("", time.Now())
	}
	return nil
}
