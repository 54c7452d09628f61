package e2e_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

// link is the connection from one node to Redis: a TCP proxy that can be cut,
// slowed, held and made to lose connections. The zero fault passes everything.
type link struct {
	listen net.Listener
	target string
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	fault linkFault
	free  chan struct{} // closed when nothing is held
	conns map[net.Conn]struct{}
	tapes map[net.Conn]*bytes.Buffer // data sent by each connection; nil unless recording
	subs  map[net.Conn]struct{}      // ends, at Redis, of connections that subscribe
}

// record records all traffic from now on.
func (k *link) record() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tapes = map[net.Conn]*bytes.Buffer{}
}

// recorded returns it, each connection's two directions separately.
func (k *link) recorded() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all [][]byte
	for _, tape := range k.tapes {
		all = append(all, bytes.Clone(tape.Bytes()))
	}
	return all
}

// keep records one piece.
func (k *link) keep(from net.Conn, piece []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tapes == nil {
		return
	}
	if k.tapes[from] == nil {
		k.tapes[from] = &bytes.Buffer{}
	}
	k.tapes[from].Write(piece)
}

// linkFault is the fault of a link.
type linkFault struct {
	cut   bool          // refuse and close everything
	hold  bool          // pass nothing on, lose nothing: all of it arrives when the hold ends
	delay time.Duration // of each piece, each way
	lose  float64       // chance of each piece to be lost with its connection

	holdAt string // if not empty, hold begins when a request with this text passes
	loseAt string // if not empty, each request with this text in it is lost with its connection

	deaf  bool          // Redis's published messages do not arrive, and the connections stay
	clock time.Duration // offset added to Redis's clock in replies to the node
}

func newLink(tb testing.TB, target string) *link {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	k := &link{listen: l, target: target, free: make(chan struct{}), conns: map[net.Conn]struct{}{}, subs: map[net.Conn]struct{}{}}
	close(k.free)
	k.ctx, k.cancel = context.WithCancel(context.Background())
	k.wg.Go(k.accept)
	tb.Cleanup(func() {
		k.cancel()
		_ = l.Close()
		k.suffer(linkFault{cut: true})
		k.wg.Wait()
	})
	return k
}

func (k *link) url() string { return "redis://" + k.listen.Addr().String() + "/0" }

// suffer sets the link's fault; the zero value heals it.
func (k *link) suffer(f linkFault) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case f.hold && !k.fault.hold:
		k.free = make(chan struct{})
	case !f.hold && k.fault.hold:
		close(k.free)
	}
	k.fault = f
	if f.cut {
		for c := range k.conns {
			_ = c.Close()
		}
	}
}

func (k *link) accept() {
	for {
		in, err := k.listen.Accept()
		if err != nil {
			return
		}
		k.mu.Lock()
		target := k.target
		k.mu.Unlock()
		out, err := net.Dial("tcp", target)
		if err != nil {
			_ = in.Close()
			continue
		}
		k.mu.Lock()
		k.conns[in], k.conns[out] = struct{}{}, struct{}{}
		cut := k.fault.cut
		k.mu.Unlock()
		if cut {
			_, _ = in.Close(), out.Close()
		}
		k.wg.Go(func() { k.pass(in, out, true) })
		k.wg.Go(func() { k.pass(out, in, false) })
	}
}

func (k *link) pass(from, to net.Conn, requests bool) {
	defer func() {
		_, _ = from.Close(), to.Close()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.conns, from)
		delete(k.conns, to)
		delete(k.subs, from)
	}()
	piece := make([]byte, 64<<10)
	deafened := false // permanently: the lost data leaves a gap in the stream
	for {
		n, err := from.Read(piece)
		if n > 0 {
			k.keep(from, piece[:n])
			if requests {
				k.watch(piece[:n], to)
			} else if deafened = deafened || k.deafens(from); deafened {
				continue
			} else {
				k.tell(piece[:n])
			}
			if !k.transit() || requests && k.loses(piece[:n]) {
				return
			}
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// turn redirects new connections to another server. Open ones stay.
func (k *link) turn(target string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.target = target
}

// deafens reports whether data from Redis on this connection is lost.
func (k *link) deafens(from net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, subscribes := k.subs[from]
	return subscribes && k.fault.deaf
}

// timeReply is Redis's answer to TIME.
var timeReply = regexp.MustCompile(`\*2\r\n\$10\r\n(\d{10})\r\n\$\d\r\n\d{1,6}\r\n`)

// tell shifts the times in a piece by the fault's clock.
func (k *link) tell(piece []byte) {
	k.mu.Lock()
	off := k.fault.clock
	k.mu.Unlock()
	if off == 0 {
		return
	}
	for _, at := range timeReply.FindAllSubmatchIndex(piece, -1) {
		seconds, _ := strconv.ParseInt(string(piece[at[2]:at[3]]), 10, 64)
		copy(piece[at[2]:at[3]], strconv.FormatInt(seconds+int64(off/time.Second), 10))
	}
}

// watch begins to hold at the text of holdAt, and records subscribers.
func (k *link) watch(piece []byte, to net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if bytes.Contains(piece, []byte("\r\nsubscribe\r\n")) {
		k.subs[to] = struct{}{}
	}
	if k.fault.holdAt != "" && !k.fault.hold && bytes.Contains(piece, []byte(k.fault.holdAt)) {
		k.fault.hold = true
		k.free = make(chan struct{})
	}
}

// loses reports whether a piece contains a request to lose.
func (k *link) loses(piece []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault.loseAt != "" && bytes.Contains(piece, []byte(k.fault.loseAt))
}

// holding reports whether everything is held.
func (k *link) holding() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault.hold
}

// transit applies the fault to one piece; false means that it is lost.
func (k *link) transit() bool {
	k.mu.Lock()
	f, free := k.fault, k.free
	k.mu.Unlock()
	select {
	case <-free:
	case <-k.ctx.Done():
		return false
	}
	if f.delay > 0 && !waitFor(k.ctx, f.delay) {
		return false
	}
	return f.lose == 0 || rand.Float64() >= f.lose
}

// waitFor waits for d, and reports whether ctx still runs.
func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
