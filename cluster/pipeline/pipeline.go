// Package pipeline lets callers who talk to Redis at the same moment share a
// round trip, which costs both sides far more than most commands do.
//
// Whoever finds nothing under way goes at once, alone; what comes meanwhile goes
// together when that is back. So nobody waits for company, and the more there is
// to do, the less each costs. Callers know nothing of each other: each has its own
// answers and its own patience.
//
// The package does not decide what may be said twice: as with any other command,
// go-redis repeats what it sent when a connection breaks. It is not for what
// blocks, nor for long answers: others would wait for them.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	tripsAtOnce = 64              // callers of one round trip
	tripWithin  = 5 * time.Second // for a round trip of several callers, whatever their patience
)

// ErrLeft is returned by [Client.Do] when its caller's context has ended first.
// The commands may be carried out all the same and must not be looked at.
var ErrLeft = errors.New("pipeline: left before the answer")

// Client carries commands to one Redis. Safe for concurrent use.
type Client struct {
	rdb   redis.UniversalClient
	apart atomic.Bool
	trips Gatherer[*trip]
}

// New returns a Client on rdb, which it does not close. It starts nothing that
// outlives what it was asked to do.
func New(rdb redis.UniversalClient) *Client {
	c := &Client{rdb: rdb}
	if _, ok := rdb.(*redis.ClusterClient); ok {
		c.apart.Store(true)
	}
	c.trips = Gatherer[*trip]{Run: c.carry, Most: tripsAtOnce}
	return c
}

// Whole reports whether all keys are on one server: then the commands of one Do
// run in their order, but for scripts that were missing, which run behind the
// others, and a script may name keys of any slot. On Redis Cluster neither holds,
// and round trips are not shared: everybody would wait for the slowest server.
//
// A server that is Redis Cluster's, and to which rdb is a client of one server,
// refuses such a script, and has done nothing then. From the first such refusal on
// Whole is false; who was refused asks again.
func (c *Client) Whole() bool { return !c.apart.Load() }

// Do carries out cmds and returns the first error of theirs that is not
// redis.Nil, or ErrLeft with the context's error. Each has its own reply and
// error. A [Call] whose script Redis does not have is made again with its text.
//
// When ctx ends before the commands are on their way they are not carried out.
// After that only its deadline ends the wait, not a cancellation: as with go-redis,
// what is on its way is waited for.
func (c *Client) Do(ctx context.Context, cmds ...redis.Cmder) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrLeft, err)
	}
	t := &trip{ctx: ctx, cmds: cmds}
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
	select {
	case <-t.done:
		return t.err()
	case <-ctx.Done():
	}
	if !t.begun.CompareAndSwap(false, true) && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		<-t.done
		return t.err()
	}
	return fmt.Errorf("%w: %w", ErrLeft, ctx.Err())
}

// trip is one Do on its way.
type trip struct {
	ctx   context.Context
	cmds  []redis.Cmder
	done  chan struct{}
	begun atomic.Bool // it is carried, or its caller has left before
}

func (t *trip) err() error {
	for _, cmd := range t.cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}

// carry is the gatherer's work. Who has left by now is not carried.
func (c *Client) carry(trips []*trip) {
	ctx, cancel := context.WithTimeout(context.Background(), tripWithin)
	defer cancel()
	staying := make([]*trip, 0, len(trips))
	for _, t := range trips {
		if t.begun.CompareAndSwap(false, true) {
			staying = append(staying, t)
		}
	}
	c.run(ctx, staying...)
	for _, t := range staying {
		close(t.done)
	}
}

// run makes one round trip of trips, and another for the scripts that were not
// there. (To load scripts first would, on Redis Cluster, need every server, the
// dead one too.)
func (c *Client) run(ctx context.Context, trips ...*trip) {
	pipe := c.rdb.Pipeline()
	for _, t := range trips {
		for _, cmd := range t.cmds {
			_ = pipe.Process(ctx, cmd)
		}
	}
	c.exec(ctx, pipe)
	for _, t := range trips {
		for _, cmd := range t.cmds {
			if call, ok := cmd.(*Call); ok && redis.HasErrorPrefix(call.Err(), "NOSCRIPT") {
				call.withText(ctx)
				_ = pipe.Process(ctx, call)
			} else if ok && redis.HasErrorPrefix(call.Err(), "CROSSSLOT") {
				c.apart.Store(true)
			}
		}
	}
	c.exec(ctx, pipe)
}

func (c *Client) exec(ctx context.Context, pipe redis.Pipeliner) {
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
}

// Script is a Lua script.
type Script struct{ text, hash string }

// NewScript returns the script with that text.
func NewScript(text string) *Script {
	return &Script{text: text, hash: redis.NewScript(text).Hash()}
}

// Call is a run of a script, to be given to [Client.Do] once.
type Call struct {
	*redis.Cmd
	script *Script
}

// Call returns a run of the script with those keys and arguments.
func (s *Script) Call(keys []string, args ...any) *Call {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, "evalsha", s.hash, len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	return &Call{Cmd: command(context.Background(), append(all, args...)), script: s}
}

// withText makes of a call one that brings its script along.
func (c *Call) withText(ctx context.Context) {
	args := append([]any{"eval", c.script.text}, c.Args()[2:]...)
	c.Cmd = command(ctx, args)
}

// command is a script's run; its keys begin behind their number.
func command(ctx context.Context, args []any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetFirstKeyPos(3)
	return cmd
}
