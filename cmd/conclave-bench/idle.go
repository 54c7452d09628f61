package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const dialers = 16 // connections made at a time

// idle compares the memory of a registered connection with that of a connection to a
// server that does nothing but hold it.
func idle(ctx context.Context, l *lab) error {
	n := pick(l, 10_000, 500)
	var ours, lean sample
	var rate float64
	for range pick(l, 3, 1) {
		base, err := leanMemory(ctx, l, n)
		if err != nil {
			return err
		}
		lean.add(base / 1024)
		held, err := idleMemory(ctx, l, n)
		if err != nil {
			return err
		}
		ours.add(held.perConn / 1024)
		rate = held.rate
		l.report.note(fmt.Sprintf("CPU of a node with %d idle connections", n), "% of a core", sample{held.busy * 100}, goal{})
	}
	l.report.compare(fmt.Sprintf("memory of an idle connection, of %d", n), "KB", ours, lean, goal{atMost: 1.5})
	l.report.note("the same, in itself", "KB", ours, goal{oursAtMost: 14})
	l.report.note("connected and registered", "/s", sample{rate}, goal{})
	return nil
}

// held is the cost of a node's idle connections.
type held struct {
	perConn float64 // bytes
	rate    float64 // connected and registered per second
	busy    float64 // of a core, while idle
}

func idleMemory(ctx context.Context, l *lab, n int) (held, error) {
	c, err := l.cluster(ctx, 1)
	if err != nil {
		return held{}, err
	}
	defer c.close()
	before, err := residentOf(c.nodes[0].pid())
	if err != nil {
		return held{}, err
	}
	speakers := make([]*speaker, n)
	defer func() {
		for _, s := range speakers {
			if s != nil {
				_ = s.ws.Close()
			}
		}
	}()
	begun := time.Now()
	err = each(n, func(i int) (err error) {
		speakers[i], err = c.speak(ctx, 0, fmt.Sprintf("user-%d", i), wire.RoleParticipant, true, nil)
		return err
	})
	if err != nil {
		return held{}, err
	}
	rate := float64(n) / time.Since(begun).Seconds()
	after, busy, err := l.settled(ctx, c.nodes[0].pid())
	return held{(after - before) / float64(n), rate, busy}, err
}

// settled waits until a process is idle and has released the memory it no longer needs, and
// returns its memory and its CPU use then.
func (l *lab) settled(ctx context.Context, pid int) (resident, busy float64, err error) {
	settleFor := l.measured(3*time.Second, 3*time.Second)
	var used [2]time.Duration
	for i := range used {
		if err := pause(ctx, settleFor); err != nil {
			return 0, 0, err
		}
		if used[i], err = cpuOf(pid); err != nil {
			return 0, 0, err
		}
	}
	resident, err = residentOf(pid)
	return resident, (used[1] - used[0]).Seconds() / settleFor.Seconds(), err
}

func leanMemory(ctx context.Context, l *lab, n int) (float64, error) {
	if err := l.open(ctx); err != nil {
		return 0, err
	}
	l.number++
	p, addr, err := spawnOwn(ctx, l.dir, fmt.Sprintf("%d-lean", l.number), "lean-server", nil)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	before, err := residentOf(p.pid())
	if err != nil {
		return 0, err
	}
	sockets := make([]*websocket.Conn, n)
	defer func() {
		for _, ws := range sockets {
			if ws != nil {
				_ = ws.Close()
			}
		}
	}()
	err = each(n, func(i int) (err error) {
		sockets[i], err = bareSocket(ctx, "http://"+addr, "user", nil)
		return err
	})
	if err != nil {
		return 0, err
	}
	after, _, err := l.settled(ctx, p.pid())
	if err == nil && after < before {
		err = errors.New("memory shrank under load: too few connections to measure")
	}
	return (after - before) / float64(n), err
}

// each calls do for 0 to n-1, some concurrently.
func each(n int, do func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(dialers)
	for i := range n {
		g.Go(func() error { return do(i) })
	}
	return g.Wait()
}
