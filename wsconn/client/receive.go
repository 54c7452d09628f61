package client

import (
	"context"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// receive handles one frame. An error means that it could not be taken and that the
// connection must end.
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
		// It is broken or of a newer protocol; a retry would not help.
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
		c.ended(request.KindKeygen, m.RequestID, p.SessionID, p.KeyID, p)
		c.emitOutcome(request.Ended{Kind: request.KindKeygen, SessionID: p.SessionID, KeyID: p.KeyID, Status: p.Status, Reason: p.Reason, Culprits: p.Culprits})
	case *wire.SignComplete:
		c.ended(request.KindSign, m.RequestID, p.SessionID, p.KeyID, p)
		c.emitOutcome(request.Ended{Kind: request.KindSign, SessionID: p.SessionID, KeyID: p.KeyID, Status: p.Status, Reason: p.Reason, Culprits: p.Culprits})
	case *wire.ReshareConfirm:
		c.ended(request.KindReshare, m.RequestID, p.SessionID, p.KeyID, p)
		c.emitOutcome(request.Ended{Kind: request.KindReshare, SessionID: p.SessionID, KeyID: p.KeyID, Status: p.Status, Reason: p.Reason, Culprits: p.Culprits})
	case *wire.KeygenInvite, *wire.SignInvite, *wire.KeygenParams, *wire.SignParams, *wire.TSSMessage, *wire.SessionEnded,
		*wire.ReshareInvite, *wire.ReshareParams, *wire.ReshareAttested, *wire.EpochCertified:
		if c.service == nil {
			// It is for the same user's participant, which is not running. It must
			// find it in its mailbox when it does.
			c.inbox.holdAll(m.Seq)
			return nil
		}
		if err := c.service.Receive(ctx, m.Seq, p); err != nil {
			return &final{err}
		}
	case *wire.Ping, *wire.Pong, *wire.RegisterConfirm:
	default:
		c.log.Warn().Str("type", string(m.Type)).Msg("message is not one for a client")
	}
	return nil
}

// emitOutcome reports an end to a coordinator; a participant gets it from
// session_ended.
func (c *Client) emitOutcome(e request.Ended) {
	if c.service == nil {
		c.emit(e)
	}
}

// told handles an error message.
func (c *Client) told(requestID string, p *wire.ErrorPayload) error {
	e := wireError(p)
	c.log.Debug().Str("code", string(e.Code)).Str("session", e.SessionID).Str("request", string(p.RequestType)).Msg("server refuses")
	switch {
	case e.Code == wire.CodeTokenExpired:
		// The message is sent again on a new connection with a newer token.
		c.courier.putOff(requestID, time.Now())
		return e
	case requestID != "":
		c.courier.refused(requestID, e, time.Now())
	case e.Code == wire.CodeRateLimited:
		c.courier.putOff("", time.Now())
	}
	return nil
}
