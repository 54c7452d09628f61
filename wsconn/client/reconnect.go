package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// settledAfter is how long a connection must last for its end not to count as
	// another failure.
	settledAfter = 5 * time.Second
	// flaps is how many failures in a row count while connections succeed and end
	// early: with the default RetryMin the pause is then below a second.
	flaps = 4
	// haunts is how long an abandoned register may still take effect at a node that
	// was suspended.
	haunts = 2 * time.Minute
)

// stayConnected connects and reconnects until ctx ends, and then returns nil; or it
// returns an error after which a reconnect would not help.
func (c *Client) stayConnected(ctx context.Context) error {
	failures, superseded := 0, false
	for {
		url, lived, err := c.connection(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case lived >= settledAfter:
			failures, superseded = 0, false
		case lived > 0: // the server is reachable, whatever the network is like
			failures = min(failures, flaps)
		}
		if err := verdict(err); err != nil {
			// It may have been superseded by our own previous one, if this one is
			// young or a register was abandoned: that was in transit, or pending at
			// a hanging node. Another process would supersede it again.
			if !errors.Is(err, ErrSuperseded) || superseded || lived >= settledAfter && !c.haunted() {
				return err
			}
			superseded = true
		}
		pause := c.pause(failures)
		failures++
		c.log.Warn().Err(err).Str("url", url).Dur("dur", pause).Msg("not connected, will try again")
		c.emit(Reconnecting{URL: url, Err: err, In: pause})
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// haunted reports, once, whether an unanswered register may still take effect.
func (c *Client) haunted() bool {
	at := c.unanswered
	c.unanswered = time.Time{}
	return time.Since(at) < haunts
}

// pause grows with each failure, of all URLs or of a connection that did not last,
// and is spread, so that the clients of a dead node do not reconnect in step.
func (c *Client) pause(failures int) time.Duration {
	longest := min(c.cfg.RetryMin<<min(failures, 16), c.cfg.RetryMax)
	return longest/2 + rand.N(longest/2+1)
}

// verdict returns the error with which the client stops after err ended a
// connection, or nil if it should connect again.
func verdict(err error) error {
	var last *final
	if errors.As(err, &last) {
		return last.err
	}
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		switch code := closed.Code; {
		case code == wire.CloseSuperseded:
			return ErrSuperseded
		case code == wire.CloseBadToken, code == wire.CloseRevoked:
			return stopCode(wire.CodeUnauthenticated, closed)
		case code == wire.CloseForbidden:
			return stopCode(wire.CodeForbidden, closed)
		case code >= 4500 && code <= 4999, code == websocket.CloseProtocolError, code == websocket.CloseUnsupportedData,
			code == websocket.CloseInvalidFramePayloadData, code == websocket.ClosePolicyViolation, code == websocket.CloseMessageTooBig:
			// A repetition would end the same way.
			return fmt.Errorf("client: the server closed the connection for good: %w", err)
		}
		return nil
	}
	var told *wire.Error
	if errors.As(err, &told) && !told.Temporary && told.Code != wire.CodeTokenExpired && told.Code != wire.CodeInternal {
		return err
	}
	if errors.Is(err, ErrTokenExpired) {
		return err
	}
	return nil
}

// final is an error after which a reconnect would not help.
type final struct{ err error }

func (f *final) Error() string { return f.err.Error() }

func stopCode(code wire.Code, closed *websocket.CloseError) error {
	reason := closed.Text
	if reason == "" {
		reason = "the server refuses this client"
	}
	return &wire.Error{Code: code, Message: reason}
}

// noteExpiry remembers that the server reported the token as expired, so that it is
// not used again.
func (c *Client) noteExpiry(err error) error {
	var closed *websocket.CloseError
	var told *wire.Error
	if errors.As(err, &closed) && closed.Code == wire.CloseTokenExpired || errors.As(err, &told) && told.Code == wire.CodeTokenExpired {
		c.spend()
	}
	return err
}

func (c *Client) spend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spent = c.token
}

func (c *Client) tokenSpent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token != "" && c.spent == c.token
}
