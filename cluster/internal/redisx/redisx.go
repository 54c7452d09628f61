// Package redisx carries commands and Lua scripts to Redis. Only this package
// batches round trips and handles scripts that Redis does not have.
//
// Start here: [New] makes a [Client] on a go-redis client, [NewScript] a [Script],
// and Client.Do carries out commands and calls of scripts:
//
//	c, script := redisx.New(rdb), redisx.NewScript(source)
//	call := script.Call([]string{key}, 5)
//	err := c.Do(ctx, call, redis.NewStringCmd(ctx, "get", other))
//	n, err := call.Int64()
//
// # Contract of Client.Do
//
//   - Concurrent callers share a round trip. A caller that
//     finds none in flight starts one at once, alone; callers that arrive
//     meanwhile share the next one. So a caller never waits for others to join.
//   - Each command has its own reply and error, and Do returns the first error that is
//     not redis.Nil. One caller's error is never another's.
//   - Do ends with its caller's context before the commands are sent, and afterwards
//     only with the context's deadline: the error is [ErrLeft] then, and the commands
//     may still be carried out.
//   - A caller that has waited 100 ms for others (a dead connection, a slow Redis)
//     sends its commands alone.
//   - A broken connection loses no reply: only commands without a reply
//     are sent again, up to 3 times, as go-redis does for a single command. The package
//     does not decide which commands may be repeated; callers pass only those that
//     may.
//   - Commands of one Do run in their order while all keys are on one server
//     ([Client.Whole]), except scripts that Redis did not have: these run again, with
//     their text, after the others.
//   - On Redis Cluster round trips are not shared, since callers would wait for the
//     slowest server.
//
// The package is not for blocking commands or long replies: other callers would
// wait for them. [Gatherer], which makes the batches, is used by package cluster
// where a batch is more than a pipeline; [Exec] runs a pipeline of go-redis.
//
// # Goroutines and locks
//
// A Gatherer runs one goroutine while it has values; nothing else is started.
// Gatherer.mu guards its queue and is never held during I/O. Everything is safe for
// concurrent use, except a [Call], which belongs to its caller.
package redisx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	tripsAtOnce = 64                     // callers per round trip
	tripWithin  = 5 * time.Second        // for a shared round trip, independent of the callers' contexts
	waitAtMost  = 100 * time.Millisecond // for others, before going alone
	// How often commands without a reply are repeated, and the pause before, which
	// doubles; both are go-redis's own for a single command.
	retries    = 3
	retryFirst = 8 * time.Millisecond
)

// ErrLeft is returned by [Client.Do] when its caller's context has ended first. The
// commands may still be carried out and must not be read.
var ErrLeft = errors.New("redisx: left before the answer")

// Client carries commands to one Redis. Safe for concurrent use.
type Client struct {
	rdb   redis.UniversalClient
	apart atomic.Bool
	trips Gatherer[*trip]
}

// New returns a Client on rdb, which it does not close. It starts no goroutine that
// outlives its calls.
func New(rdb redis.UniversalClient) *Client {
	c := &Client{rdb: rdb}
	if _, ok := rdb.(*redis.ClusterClient); ok {
		c.apart.Store(true)
	}
	c.trips = Gatherer[*trip]{Run: c.carry, Most: tripsAtOnce}
	return c
}

// Whole reports whether all keys are on one server: then the commands of one Do run
// in their order, except missing scripts, which run after the others, and a script
// may name keys of any slot. On Redis Cluster neither holds, and round trips are
// not shared: all callers would wait for the slowest server.
//
// A Redis Cluster server reached through a client of one server refuses such a
// script without effect. From the first such refusal on Whole is false; the refused
// caller tries again.
func (c *Client) Whole() bool { return !c.apart.Load() }

// Do carries out cmds and returns their first error that is not redis.Nil, or
// ErrLeft with the context's error. Each has its own reply and error. A [Call]
// whose script Redis does not have is repeated with its text.
//
// When ctx ends before the commands are sent they are not carried out. After that
// only its deadline ends the wait, not a cancellation, as with go-redis.
func (c *Client) Do(ctx context.Context, cmds ...redis.Cmder) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrLeft, err)
	}
	t := &trip{cmds: cmds}
	if c.apart.Load() {
		c.run(ctx, t)
		return t.err()
	}
	if c.trips.Lead() {
		defer c.trips.Pass()
		c.run(ctx, t)
		return t.err()
	}
	t.done = make(chan struct{})
	c.trips.Add(t)
	enough := time.NewTimer(waitAtMost)
	defer enough.Stop()
	select {
	case <-t.done:
		return t.err()
	case <-ctx.Done():
		if t.begins() {
			return fmt.Errorf("%w: %w", ErrLeft, ctx.Err())
		}
	case <-enough.C:
		if t.begins() {
			c.run(ctx, t)
			return t.err()
		}
	}
	return c.arrive(ctx, t)
}

// arrive waits for a trip in flight, or its caller's deadline.
func (c *Client) arrive(ctx context.Context, t *trip) error {
	ctx, cancel := onlyDeadline(ctx)
	defer cancel()
	select {
	case <-t.done:
		return t.err()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrLeft, ctx.Err())
	}
}

// onlyDeadline is ctx without its cancellation.
func onlyDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if at, ok := ctx.Deadline(); ok {
		return context.WithDeadline(context.WithoutCancel(ctx), at)
	}
	return context.WithoutCancel(ctx), func() {}
}

// trip is one Do in progress.
type trip struct {
	cmds  []redis.Cmder
	done  chan struct{} // closed by the batch that carries it
	begun atomic.Bool   // it is being carried, or its caller has left or sends it alone
}

// begins returns true to the first caller only.
func (t *trip) begins() bool { return t.begun.CompareAndSwap(false, true) }

// unanswered reports whether a command has no reply, or one that says "not now", so
// that the trip must be repeated.
func (t *trip) unanswered() bool {
	return slices.ContainsFunc(t.cmds, func(cmd redis.Cmder) bool {
		err := cmd.Err()
		return broken(err) || notNow(err)
	})
}

// postponed reports whether a command after the first was answered "not now". For
// the first go-redis has repeated the trip itself.
func (t *trip) postponed() bool {
	later := slices.ContainsFunc(t.cmds, func(cmd redis.Cmder) bool { return notNow(cmd.Err()) })
	return later && !notNow(t.cmds[0].Err())
}

// notNow reports whether an error is from a server that is starting or has lost its
// role, which go-redis also treats as temporary.
func notNow(err error) bool {
	return redis.IsLoadingError(err) || redis.IsReadOnlyError(err) || redis.IsMasterDownError(err) ||
		redis.IsClusterDownError(err) || redis.IsTryAgainError(err) || redis.IsNoReplicasError(err)
}

func (t *trip) err() error { return firstError(t.cmds) }

// carry is the gatherer's work function. It skips trips whose caller has left.
func (c *Client) carry(trips []*trip) {
	ctx, cancel := context.WithTimeout(context.Background(), tripWithin)
	defer cancel()
	staying := make([]*trip, 0, len(trips))
	for _, t := range trips {
		if t.begins() {
			staying = append(staying, t)
		}
	}
	if len(staying) == 1 {
		c.run(ctx, staying[0])
	} else {
		c.together(ctx, staying)
	}
	for _, t := range staying {
		close(t.done)
	}
}

// together makes one round trip of trips, and repeats those without a reply:
// go-redis would repeat all of them.
func (c *Client) together(ctx context.Context, trips []*trip) {
	pause := retryFirst
	for try := 0; len(trips) > 0; try++ {
		c.send(ctx, trips, true)
		trips = slices.DeleteFunc(slices.Clone(trips), func(t *trip) bool { return !t.unanswered() })
		if len(trips) == 0 || try == retries {
			return
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return
		}
	}
}

// run makes one trip. go-redis repeats it if the connection breaks.
func (c *Client) run(ctx context.Context, t *trip) {
	for try, pause := 0, retryFirst; ; try, pause = try+1, 2*pause {
		c.send(ctx, []*trip{t}, false)
		if try == retries || !t.postponed() {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// send makes one round trip of trips, and another for scripts that Redis did not
// have.
func (c *Client) send(ctx context.Context, trips []*trip, once bool) {
	cmds := func(yield func(redis.Cmder) bool) {
		for _, t := range trips {
			for _, cmd := range t.cmds {
				if !yield(cmd) {
					return
				}
			}
		}
	}
	sendAll(ctx, c.rdb, once, cmds)
	for cmd := range cmds {
		if _, ok := cmd.(*Call); ok && redis.HasErrorPrefix(cmd.Err(), "CROSSSLOT") {
			c.apart.Store(true)
		}
	}
}

// onceCmd is a command that go-redis must not repeat. When a connection breaks,
// go-redis sets the error on all commands of the pipeline; a command that has its
// reply keeps it.
type onceCmd struct {
	redis.Cmder
	answered bool
}

// NoRetry implements redis.Cmder.
func (c *onceCmd) NoRetry() bool { return true }

// SetErr implements redis.Cmder.
func (c *onceCmd) SetErr(err error) {
	if c.answered && broken(err) {
		return
	}
	c.answered = !broken(err)
	c.Cmder.SetErr(err)
}

// broken reports whether an error is a connection failure, not a reply.
func broken(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
}
