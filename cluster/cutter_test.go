package cluster

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// cutter is a proxy before Redis that can cut connections, or lose a reply.
type cutter struct {
	listen net.Listener
	target string
	cut    atomic.Bool // close the connection instead of forwarding the next reply
	down   atomic.Bool // refuse everything
	// swallow drops replies, with the connections open. A connection that has lost
	// one forwards none again, as TCP would not.
	swallow atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newCutter(t testing.TB, target string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listen: l, target: target, conns: map[net.Conn]bool{}}
	c.wg.Go(c.accept)
	t.Cleanup(func() {
		_ = l.Close()
		c.setDown(true)
		c.wg.Wait()
	})
	return c
}

func (c *cutter) addr() string { return c.listen.Addr().String() }

// cutNextReply loses Redis's next reply, with its connection.
func (c *cutter) cutNextReply() { c.cut.Store(true) }

// setDown drops every connection and refuses new ones, or accepts them again.
func (c *cutter) setDown(down bool) {
	c.down.Store(down)
	if !down {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		_ = conn.Close()
	}
}

func (c *cutter) accept() {
	for {
		in, err := c.listen.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		c.mu.Lock()
		c.conns[in], c.conns[out] = true, true
		c.mu.Unlock()
		if c.down.Load() {
			_ = in.Close()
			_ = out.Close()
		}
		c.wg.Go(func() { c.pass(in, out, false) })
		c.wg.Go(func() { c.pass(out, in, true) })
	}
}

func (c *cutter) pass(from, to net.Conn, replies bool) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
		c.mu.Lock()
		delete(c.conns, from)
		delete(c.conns, to)
		c.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	dead := false
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if replies && c.cut.CompareAndSwap(true, false) {
				return
			}
			if dead = dead || replies && c.swallow.Load(); dead {
				continue
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
