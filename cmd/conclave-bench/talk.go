package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// As a client of package wsconn/client acknowledges its mailbox.
const (
	ackEvery = 32
	ackAfter = 200 * time.Millisecond
)

// speaker is a scripted user: it computes nothing. Its socket has one reading
// goroutine, which calls hear.
type speaker struct {
	user string
	head []byte // of every frame: up to the type
	acks bool   // acknowledges, as Conclave's own client does; a seed client does not
	hear func(*wire.Message)
	ws   *websocket.Conn
	done chan struct{}

	mu    sync.Mutex // of writing, and of the fields below
	frame []byte
	took  uint64 // newest seq received
	told  uint64 // newest seq acknowledged
	timer *time.Timer
	err   error // why the socket ended
}

var dialer = websocket.Dialer{
	HandshakeTimeout: startWithin, ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10, WriteBufferPool: new(sync.Pool),
}

func dial(ctx context.Context, base string) (*websocket.Conn, error) {
	ws, _, err := dialer.DialContext(ctx, "ws"+strings.TrimPrefix(base, "http")+"/ws", nil)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return ws, nil
}

// speak registers a user with a node. hear may be nil.
func (c *clusterOf) speak(ctx context.Context, node int, user string, role wire.Role, acks bool, hear func(*wire.Message)) (*speaker, error) {
	token, err := c.lab.token(user, role)
	if err != nil {
		return nil, err
	}
	ws, err := dial(ctx, c.bases[node%len(c.bases)])
	if err != nil {
		return nil, err
	}
	s := &speaker{user: user, acks: acks, hear: hear, ws: ws, done: make(chan struct{})}
	s.head = fmt.Appendf(nil, `{"user_id":%q,"token":%q,"type":"`, user, token)
	reg := wire.Register{UserID: user, Role: role}
	if acks {
		reg.Resume = &wire.Resume{}
	}
	if err := s.send("", &reg); err != nil {
		_ = ws.Close()
		return nil, err
	}
	var answer wire.Message
	if err := ws.ReadJSON(&answer); err != nil || answer.Type != wire.TypeRegisterConfirm {
		_ = ws.Close()
		return nil, fmt.Errorf("register %s: %w: %s", user, errors.Join(err, errors.New("refused")), answer.Payload)
	}
	go s.read()
	return s, nil
}

func (s *speaker) read() {
	defer close(s.done)
	for {
		_, frame, err := s.ws.ReadMessage()
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
			return
		}
		h, err := wire.View(frame, len(frame))
		if err != nil {
			continue
		}
		if h.Seq > 0 && s.acks {
			s.take(h.Seq)
		}
		if s.hear != nil {
			s.hear(&h)
		}
	}
}

// send sends a payload.
func (s *speaker) send(requestID string, p wire.Payload) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.sendRaw(p.Type(), requestID, raw)
}

func (s *speaker) sendRaw(kind wire.Type, requestID string, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(kind, requestID, payload)
}

// write writes a frame. It requires s.mu.
func (s *speaker) write(kind wire.Type, requestID string, payload []byte) error {
	f := append(s.frame[:0], s.head...)
	f = append(f, kind...)
	if requestID != "" {
		f = append(append(f, `","request_id":"`...), requestID...)
	}
	f = append(append(f, `","payload":`...), payload...)
	s.frame = append(f, '}')
	return s.ws.WriteMessage(websocket.TextMessage, s.frame)
}

// take records a message of the mailbox, and acknowledges in time.
func (s *speaker) take(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = seq
	switch {
	case s.took-s.told >= ackEvery && s.told > 0:
		s.acknowledge()
	case s.timer == nil:
		s.timer = time.AfterFunc(ackAfter, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.timer = nil
			s.acknowledge()
		})
	}
}

// acknowledge sends ack. It requires s.mu. A failure shows in the reader.
func (s *speaker) acknowledge() {
	if s.told == s.took {
		return
	}
	s.told = s.took
	_ = s.write(wire.TypeAck, "", fmt.Appendf(nil, `{"seq":%d}`, s.took))
}

// close ends the socket, and returns why it had ended before, if it had.
func (s *speaker) close() error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	_ = s.ws.Close()
	<-s.done
	if err != nil {
		return fmt.Errorf("socket of %s: %w", s.user, err)
	}
	return nil
}

func closeAll(speakers []*speaker) error {
	var errs []error
	for _, s := range speakers {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
