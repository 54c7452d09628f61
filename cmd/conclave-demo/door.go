package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// door is the load balancer of the demonstration: it accepts connections on one
// address and passes each to the next node that answers. A real cluster has HAProxy
// or similar here.
type door struct {
	listener net.Listener
	backends []string
	next     atomic.Uint64
	open     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func openDoor(backends []string) (*door, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &door{listener: listener, backends: backends, conns: make(map[net.Conn]struct{})}
	d.open.Go(d.accept)
	return d, nil
}

// URL is the base URL of the whole cluster.
func (d *door) URL() string { return "http://" + d.listener.Addr().String() }

func (d *door) accept() {
	for {
		client, err := d.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			d.open.Go(func() { d.pass(client) })
		}
	}
}

// pass copies both ways until either side ends.
func (d *door) pass(client net.Conn) {
	defer d.forget(client)
	server := d.dial()
	if server == nil {
		return
	}
	defer d.forget(server)
	if !d.keep(client) || !d.keep(server) {
		return
	}
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		d.open.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			done <- struct{}{}
		})
	}
	<-done
}

// dial tries each backend once, beginning with the next in turn.
func (d *door) dial() net.Conn {
	first := d.next.Add(1)
	for i := range d.backends {
		backend := d.backends[(int(first)+i)%len(d.backends)]
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", backend)
		cancel()
		if err == nil {
			return conn
		}
	}
	return nil
}

func (d *door) keep(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		return false
	}
	d.conns[c] = struct{}{}
	return true
}

func (d *door) forget(c net.Conn) {
	_ = c.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

// close ends all connections and waits for their goroutines.
func (d *door) close() {
	_ = d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
	d.mu.Unlock()
	d.open.Wait()
}
