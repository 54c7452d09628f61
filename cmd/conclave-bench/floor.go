package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"
)

// The floor: a relay that checks nothing, stores nothing about acknowledged
// messages, and promises only that a message is in a stream before its sender is
// told so. Two nodes of it, with one Redis, show what WebSocket, Redis and Go cost
// by themselves.
//
// A client sends its name, and is answered "ok". Then it sends "<node> <user> <id>
// <payload>"; the relay answers "ok <id>" when the stream has it, and the user gets
// the payload from the relay that it is connected to.

const bareBatch = 256 // messages of one pipeline

// bareScript is one append: the stream, and the node that holds the socket.
//
// KEYS[1] stream of the user; ARGV[1] channel of the node, ARGV[2] user, ARGV[3] payload
var bareScript = redis.NewScript(`
redis.call('XADD', KEYS[1], 'MAXLEN', '~', 1000, '*', 'payload', ARGV[3])
redis.call('PUBLISH', ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 1`)

// bareRelay is a node of the floor. Each socket has a reading and a writing
// goroutine, as in gorilla's examples; one goroutine appends for all of them.
type bareRelay struct {
	prefix string
	rdb    *redis.Client
	ws     websocket.Upgrader
	queue  chan bareMessage

	mu    sync.RWMutex
	users map[string]chan []byte
}

type bareMessage struct {
	node, user, payload string
	confirm             chan []byte
	id                  string
}

func runBareRelay(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("bare-relay", flag.ContinueOnError)
	url := flags.String("redis", "", "")
	prefix := flags.String("redis-prefix", "", "")
	id := flags.String("node-id", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	opt, err := redis.ParseURL(*url)
	if err != nil {
		return err
	}
	r := &bareRelay{
		prefix: *prefix, rdb: redis.NewClient(opt), queue: make(chan bareMessage, bareBatch), users: map[string]chan []byte{},
		ws: websocket.Upgrader{ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10, WriteBufferPool: new(sync.Pool)},
	}
	defer r.rdb.Close()
	if err := bareScript.Load(ctx, r.rdb).Err(); err != nil {
		return err
	}
	sub := r.rdb.Subscribe(ctx, r.channel(*id))
	if _, err := sub.Receive(ctx); err != nil {
		return err
	}
	defer sub.Close()
	go r.deliver(ctx, sub)
	go r.append(ctx)
	return serve(ctx, r, stdin, stdout)
}

// serve listens until stdin ends.
func serve(ctx context.Context, h http.Handler, stdin io.Reader, stdout io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	fmt.Fprintln(stdout, "listening", l.Addr())
	untilEnd(ctx, stdin)
	return server.Close()
}

func (r *bareRelay) channel(node string) string { return r.prefix + "bare:" + node }

func (r *bareRelay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	ws, err := r.ws.Upgrade(w, req, nil)
	if err != nil {
		return
	}
	go r.read(ws)
}

func (r *bareRelay) read(ws *websocket.Conn) {
	defer ws.Close()
	_, name, err := ws.ReadMessage()
	if err != nil {
		return
	}
	out := make(chan []byte, bareBatch)
	r.mu.Lock()
	r.users[string(name)] = out
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.users, string(name))
		r.mu.Unlock()
		out <- nil
	}()
	go func() {
		for frame := range out {
			if frame == nil || ws.WriteMessage(websocket.TextMessage, frame) != nil {
				return
			}
		}
	}()
	out <- []byte("ok")
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		if m := strings.SplitN(string(frame), " ", 4); len(m) == 4 {
			r.queue <- bareMessage{m[0], m[1], m[3], out, m[2]}
		}
	}
}

// append takes all queued messages, without waiting for more, into one pipeline.
func (r *bareRelay) append(ctx context.Context) {
	batch := make([]bareMessage, 0, bareBatch)
	for first := range r.queue {
		batch = append(batch[:0], first)
		for len(batch) < bareBatch && len(r.queue) > 0 {
			batch = append(batch, <-r.queue)
		}
		pipe := r.rdb.Pipeline()
		for _, m := range batch {
			bareScript.EvalSha(ctx, pipe, []string{r.prefix + "bare:{" + m.user + "}"}, r.channel(m.node), m.user, m.payload)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return // the measurement fails because answers are missing
		}
		for _, m := range batch {
			m.confirm <- []byte("ok " + m.id)
		}
	}
}

func (r *bareRelay) deliver(ctx context.Context, sub *redis.PubSub) {
	for {
		got, err := sub.ReceiveMessage(ctx)
		if err != nil {
			return
		}
		user, payload, _ := strings.Cut(got.Payload, " ")
		r.mu.RLock()
		out := r.users[user]
		r.mu.RUnlock()
		if out != nil {
			out <- []byte(payload)
		}
	}
}

// bareSocket is a client of the floor; hear is called with each frame.
func bareSocket(ctx context.Context, base, user string, hear func(frame []byte)) (*websocket.Conn, error) {
	ws, err := dial(ctx, base)
	if err != nil {
		return nil, err
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte(user)); err != nil {
		return nil, errors.Join(err, ws.Close())
	}
	if _, _, err := ws.ReadMessage(); err != nil {
		return nil, errors.Join(err, ws.Close())
	}
	go func() {
		for {
			_, frame, err := ws.ReadMessage()
			if err != nil {
				return
			}
			if hear != nil {
				hear(frame)
			}
		}
	}()
	return ws, nil
}

// runLean is the server that an idle connection is compared to: gorilla used as
// sparingly as possible. The handler returns after the upgrade, so that the HTTP
// server's buffers are not held, and writing borrows its buffer.
func runLean(ctx context.Context, _ []string, stdin io.Reader, stdout io.Writer) error {
	upgrader := websocket.Upgrader{ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10, WriteBufferPool: new(sync.Pool)}
	return serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ws, err := upgrader.Upgrade(w, req, nil)
		if err != nil {
			return
		}
		go func() {
			defer ws.Close()
			for {
				if _, _, err := ws.ReadMessage(); err != nil {
					return
				}
				if err := ws.WriteMessage(websocket.TextMessage, []byte("ok")); err != nil {
					return
				}
			}
		}()
	}), stdin, stdout)
}
