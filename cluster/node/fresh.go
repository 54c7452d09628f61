package node

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// fresh makes a client of Redis detect that an address now belongs to another
// server. An operator may demote a master behind a name, a load balancer or a
// virtual address and leave its connections open: it then answers writes with
// READONLY and reads with old data. So the first such answer retires every
// connection made before it: go-redis's pool finds them unhealthy when it takes
// them, and dials. A refused command was not executed and is sent once more.
// (go-redis itself drops only the connection that answered, and in a pipeline only
// if the first answer is one; the others stay in the pool.)
//
// Safe for concurrent use. It starts nothing.
type fresh struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu   sync.Mutex
	ages map[string]*age // by address
}

// age is that of the connections to one address.
type age struct {
	turns   int       // number of retirements
	retired time.Time // time of the last one
}

// retireEvery limits how often connections are retired for an answer that the right
// server may give for long: that it is loading its data, or has no replica.
const retireEvery = time.Second

func newFresh(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *fresh {
	return &fresh{dial: dial, ages: map[string]*age{}}
}

// Dial is a dialer for go-redis.
func (f *fresh) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	turn := f.turn(addr) // before dialling: a connection made during a retirement may be old
	conn, err := f.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &agedConn{Conn: conn, of: f, addr: addr, turn: turn}, nil
}

func (f *fresh) age(addr string) *age {
	a := f.ages[addr]
	if a == nil {
		a = &age{}
		f.ages[addr] = a
	}
	return a
}

func (f *fresh) turn(addr string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.age(addr).turns
}

// retire retires the connections to addr, or all if that is empty.
func (f *fresh) retire(addr string, often bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for of, a := range f.ages {
		if (addr == "" || addr == of) && (often || time.Since(a.retired) > retireEvery) {
			a.turns++
			a.retired = time.Now()
		}
	}
}

// watched lets f see the answers of rdb's servers, and returns rdb.
func (f *fresh) watched(rdb redis.UniversalClient) redis.UniversalClient {
	switch rdb := rdb.(type) {
	case *redis.ClusterClient:
		rdb.OnNewNode(func(one *redis.Client) { one.AddHook(freshHook{of: f, addr: one.Options().Addr}) })
	default:
		rdb.AddHook(freshHook{of: f, again: true})
	}
	return rdb
}

// displaced reports whether an error is from a server that is now a replica.
func displaced(err error) bool {
	return redis.IsReadOnlyError(err) || redis.IsMasterDownError(err) ||
		redis.HasErrorPrefix(err, "WAIT cannot be used with replica")
}

// heed retires connections if err calls for it, and reports whether the command
// with the error was not executed and may be repeated.
func (f *fresh) heed(addr string, err error) bool {
	switch {
	case err == nil:
	case displaced(err):
		f.retire(addr, true)
		return true
	case redis.IsLoadingError(err), redis.IsNoReplicasError(err):
		f.retire(addr, false)
	}
	return false
}

// freshHook is a redis.Hook.
type freshHook struct {
	of    *fresh
	addr  string // empty for a client that has one address, or whose master moves
	again bool   // repeats refused commands; a client of Redis Cluster does so itself
}

// DialHook implements redis.Hook.
func (h freshHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h freshHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if h.of.heed(h.addr, err) && h.again && ctx.Err() == nil {
			err = next(ctx, cmd)
			h.of.heed(h.addr, err)
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook. A pipeline is repeated if none of it
// was executed, or where go-redis itself would do so.
func (h freshHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if h.heed(cmds) && h.again && ctx.Err() == nil {
			for _, cmd := range cmds {
				cmd.SetErr(nil)
			}
			err = next(ctx, cmds)
			h.heed(cmds)
		}
		return err
	}
}

// heed reports whether none of a pipeline was executed, so that it may be repeated.
func (h freshHook) heed(cmds []redis.Cmder) bool {
	seen := false
	for _, cmd := range cmds {
		seen = h.of.heed(h.addr, cmd.Err()) || seen
	}
	return seen && !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return !refused(cmd) })
}

// refused reports whether a command was not executed because its server is a
// replica. EXECABORT is then the answer to the rest of a transaction; the commands
// that begin and end it show nothing.
func refused(cmd redis.Cmder) bool {
	err := cmd.Err()
	return displaced(err) || redis.IsExecAbortError(err) || err == nil && (cmd.Name() == "multi" || cmd.Name() == "exec")
}

// agedConn is a connection that may be retired.
type agedConn struct {
	net.Conn
	of   *fresh
	addr string
	turn int
}

// errRetired tells go-redis's pool to close a connection.
var errRetired = errors.New("redis: the address may be another server's by now")

// SyscallConn implements syscall.Conn, with which go-redis checks a connection
// before taking it from the pool.
func (c *agedConn) SyscallConn() (syscall.RawConn, error) {
	if c.of.turn(c.addr) != c.turn {
		return nil, errRetired
	}
	if conn, ok := c.Conn.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return opaque{}, nil
}

// opaque is a TLS connection, whose socket cannot be checked.
type opaque struct{}

// Control implements syscall.RawConn.
func (opaque) Control(func(fd uintptr)) error { return nil }

// Read implements syscall.RawConn.
func (opaque) Read(func(fd uintptr) bool) error { return nil }

// Write implements syscall.RawConn.
func (opaque) Write(func(fd uintptr) bool) error { return nil }
