package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn/client/internal/servers"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	dialWithin = 5 * time.Second
	// registerWithin is longer than the time after which a node refuses to complete
	// a register: see cluster's joinWithin.
	registerWithin = 5 * time.Second
	writeWithin    = 5 * time.Second
	goodbyeWithin  = time.Second
	maxFrameBytes  = 4 << 20 // of a server's frame; its own limit for others is lower
)

// connection is one socket's life: dial, register, talk. It returns its URL, "" if
// none was reached, how long it was registered, and the error that ended it.
func (c *Client) connection(ctx context.Context) (url string, lived time.Duration, err error) {
	if _, err := c.freshToken(ctx); err != nil {
		var told *wire.Error
		if errors.As(err, &told) && !told.Temporary {
			return "", 0, &final{err}
		}
		return "", 0, fmt.Errorf("get token: %w", err)
	}
	if c.tokenSpent() {
		return "", 0, ErrTokenExpired
	}
	// Only the first open socket registers: a user has one.
	ws, i, err := servers.Race(ctx, c.servers, servers.StaggerBy, func(ctx context.Context, i int) (*websocket.Conn, error) {
		return c.dial(ctx, c.sockets[i])
	}, func(late *websocket.Conn) { _ = late.Close() })
	if err != nil {
		return "", 0, err
	}
	url = c.sockets[i]
	lived, err = c.talk(ctx, url, ws)
	if lived >= settledAfter {
		c.servers.Answered(i)
	}
	c.servers.Failing(i, time.Now())
	return url, lived, c.noteExpiry(err)
}

// talk registers on a socket and serves it until it ends. It returns how long it
// was registered and the error that ended it.
func (c *Client) talk(ctx context.Context, url string, ws *websocket.Conn) (lived time.Duration, err error) {
	defer ws.Close()
	// The end of ctx must end a read or a write in progress.
	unblock := context.AfterFunc(ctx, func() { _ = ws.SetReadDeadline(time.Now()) })
	defer unblock()

	confirm, err := c.register(ctx, ws)
	if err != nil {
		return 0, err
	}
	c.log.Info().Str("url", url).Str("node", confirm.Node).Str("account", c.User()).Msg("registered")
	since := time.Now()
	if confirm.RolledBack {
		c.log.Warn().Str("url", url).Msg("the servers have lost messages that this client had; what they hold comes again")
	}
	c.inbox.reset(confirm.LastSeq, confirm.RolledBack)
	c.courier.reset()
	c.setConnected(true)
	c.emit(Connected{URL: url, Node: confirm.Node})

	writing, stop := context.WithCancel(ctx)
	var writer sync.WaitGroup
	var writeErr error
	writer.Go(func() {
		if writeErr = c.write(writing, ws); writeErr != nil {
			_ = ws.Close() // wakes the reader
		}
	})
	err = c.read(ctx, ws)
	stop()
	writer.Wait()
	c.setConnected(false)
	if ctx.Err() != nil {
		c.goodbye(ws)
	}
	if writeErr != nil {
		err = writeErr
	}
	return time.Since(since), err
}

func (c *Client) dial(ctx context.Context, url string) (*websocket.Conn, error) {
	// The end of ctx must also end the upgrade at a node that accepts and stays silent.
	var unblock func() bool
	dialer := websocket.Dialer{
		NetDialContext: func(dialing context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(dialing, network, addr)
			if err == nil {
				unblock = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			}
			return conn, err
		},
		Proxy:            http.ProxyFromEnvironment,
		HandshakeTimeout: dialWithin,
		TLSClientConfig:  c.cfg.TLS,
		ReadBufferSize:   4 << 10,
		WriteBufferSize:  4 << 10,
	}
	dialing, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	ws, resp, err := dialer.DialContext(dialing, url, nil)
	if unblock != nil && !unblock() && err == nil {
		_ = ws.Close()
		return nil, ctx.Err()
	}
	if err != nil {
		if resp == nil {
			return nil, fmt.Errorf("connect to %s: %w", url, err)
		}
		// The dialer has read the beginning of the body and closed it.
		body, _ := io.ReadAll(resp.Body)
		if resp.Request == nil {
			return nil, fmt.Errorf("connect to %s: it answers %s", url, resp.Status)
		}
		var told *wire.Error
		if err := servers.Problem(resp, body); errors.As(err, &told) && told.Code != wire.CodeNotFound {
			return nil, fmt.Errorf("connect to %s: %w", url, told)
		}
		return nil, fmt.Errorf("connect to %s: it answers %s", url, resp.Status)
	}
	ws.SetReadLimit(maxFrameBytes)
	return ws, nil
}

// register introduces the client and waits for the confirmation.
func (c *Client) register(ctx context.Context, ws *websocket.Conn) (*wire.RegisterConfirm, error) {
	role := c.cfg.Role
	switch {
	case role == "" && c.service != nil:
		role = wire.RoleParticipant
	case role == "":
		role = wire.RoleCoordinator
	}
	user, token := c.credentials()
	p := &wire.Register{UserID: user, Role: role, Resume: &wire.Resume{LastSeq: c.inbox.last()}}
	if c.cfg.Identity != nil {
		p.Identity = c.cfg.Identity.Public().String()
	}
	m, err := wire.New(user, p)
	if err != nil {
		return nil, err
	}
	m.Token, m.RequestID = token, c.requestID()
	before := c.unanswered
	// A node may read this after it was abandoned, and take it for a newer
	// connection: see stayConnected.
	c.unanswered = time.Now()
	if err := writeFrame(ws, m); err != nil {
		return nil, err
	}
	_ = ws.SetReadDeadline(time.Now().Add(registerWithin))
	for ctx.Err() == nil {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return nil, fmt.Errorf("register: %w", err)
		}
		answer, err := wire.Decode(frame, maxFrameBytes)
		if err != nil {
			return nil, fmt.Errorf("register: the server's answer: %s", err)
		}
		payload, err := answer.DecodePayload()
		switch p := payload.(type) {
		case *wire.RegisterConfirm:
			c.unanswered = before
			if p.Status != wire.StatusSuccess {
				return nil, fmt.Errorf("register: the server answers %s", p.Status)
			}
			return p, nil
		case *wire.ErrorPayload:
			c.unanswered = before
			return nil, fmt.Errorf("register: %w", wireError(p))
		case nil:
			return nil, fmt.Errorf("register: the server's answer: %s", err)
		}
	}
	return nil, ctx.Err()
}

func wireError(p *wire.ErrorPayload) *wire.Error {
	return &wire.Error{Code: p.Code, Message: p.Error, Temporary: p.Temporary, KeyID: p.KeyID, SessionID: p.SessionID}
}

func writeFrame(ws *websocket.Conn, m wire.Message) error {
	frame, err := m.Encode()
	if err != nil {
		return err
	}
	_ = ws.SetWriteDeadline(time.Now().Add(writeWithin))
	if err := ws.WriteMessage(websocket.TextMessage, frame); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// read passes on messages until the socket ends, ctx ends, or a message cannot be
// taken.
func (c *Client) read(ctx context.Context, ws *websocket.Conn) error {
	alive := func() {
		_ = ws.SetReadDeadline(time.Now().Add(c.cfg.PingEvery * 5 / 2))
		if ctx.Err() != nil { // keeps the deadline set at the end of ctx
			_ = ws.SetReadDeadline(time.Now())
		}
	}
	alive()
	ws.SetPongHandler(func(string) error { alive(); return nil })
	ws.SetPingHandler(func(data string) error {
		alive()
		// The reader notices a failed write soon enough.
		_ = ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeWithin))
		return nil
	})
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		alive()
		if err := c.receive(ctx, frame); err != nil {
			return err
		}
	}
}

// write sends the courier's messages, acknowledgements and pings, until ctx ends.
func (c *Client) write(ctx context.Context, ws *websocket.Conn) error {
	ping := time.NewTicker(c.cfg.PingEvery)
	defer ping.Stop()
	renew := time.NewTicker(c.tokenEvery())
	defer renew.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		at, err := c.writeDue(ws)
		if err != nil {
			return err
		}
		var later <-chan time.Time
		if !at.IsZero() {
			timer.Reset(time.Until(at))
			later = timer.C
		}
		select {
		case <-c.courier.wake:
		case <-c.inbox.wake:
		case <-later:
		case <-ping.C:
			if err := ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeWithin)); err != nil {
				return fmt.Errorf("ping: %w", err)
			}
		case <-renew.C:
			if err := c.renew(ctx, ws); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// writeDue writes all that may be written now and returns when to look again.
func (c *Client) writeDue(ws *websocket.Conn) (time.Time, error) {
	for {
		now := time.Now()
		seq, later := c.inbox.due(now, false)
		if seq > 0 {
			if err := c.writeAck(ws, seq); err != nil {
				return time.Time{}, err
			}
		}
		p, at, overdue := c.courier.next(now)
		if overdue {
			return time.Time{}, errors.New("the server has not answered a message in time")
		}
		if p == nil {
			if at.IsZero() || !later.IsZero() && later.Before(at) {
				at = later
			}
			return at, nil
		}
		user, token := c.credentials()
		err := writeFrame(ws, wire.Message{Type: p.kind, UserID: user, Token: token, Payload: p.payload, RequestID: p.requestID})
		if err != nil {
			return time.Time{}, err
		}
	}
}

func (c *Client) writeAck(ws *websocket.Conn, seq uint64) error {
	return c.writePlain(ws, &wire.Ack{Seq: seq})
}

// writePlain writes a message that needs no answer.
func (c *Client) writePlain(ws *websocket.Conn, p wire.Payload) error {
	user, token := c.credentials()
	m, err := wire.New(user, p)
	if err != nil {
		return err
	}
	m.Token = token
	return writeFrame(ws, m)
}

// renew requests a newer token and shows it to the server, which closes a socket
// when the newest token seen there expires.
func (c *Client) renew(ctx context.Context, ws *websocket.Conn) error {
	within, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	changed, err := c.freshToken(within)
	if err != nil {
		c.log.Warn().Err(err).Msg("no newer token, going on with the one there is")
		return nil
	}
	if !changed {
		return nil
	}
	return c.writePlain(ws, &wire.Ping{})
}

// goodbye acknowledges the messages taken, and closes cleanly, when the client
// ends.
func (c *Client) goodbye(ws *websocket.Conn) {
	deadline := time.Now().Add(goodbyeWithin)
	if seq, _ := c.inbox.due(time.Now(), true); seq > 0 {
		if c.writeAck(ws, seq) != nil {
			return
		}
	}
	// Nothing depends on its arrival.
	_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), deadline)
}
