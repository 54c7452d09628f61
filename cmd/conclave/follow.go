package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// followPoll is the interval for polling a server that does not support following,
// or that has nothing to report yet.
const followPoll = time.Second

// follow passes on the states of a session as the server reports them, until the
// session has ended.
func follow(ctx context.Context, api *rest.Client, id string, each func(rest.SessionInfo) error) error {
	for e, err := range api.Events(ctx, id) {
		if errors.Is(err, wire.ErrNotFound) || errors.Is(err, rest.ErrNotConclave) {
			// Or the server is an older one: then the session itself can be read.
			return poll(ctx, api, id, each)
		}
		if err != nil {
			return err
		}
		if err := each(e.Session); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// poll is follow by polling.
func poll(ctx context.Context, api *rest.Client, id string, each func(rest.SessionInfo) error) error {
	for {
		s, err := api.Session(ctx, id)
		if err != nil {
			return err
		}
		if err := each(s); err != nil {
			return err
		}
		if _, ended := outcome(s); ended {
			return nil
		}
		if err := pause(ctx, followPoll); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// narrateGrace is how long a follower waits for the end of a session that has ended.
const narrateGrace = 5 * time.Second

// accompany prints progress of the session that a coordinator requested, until it
// has ended and the returned function is called. It is only informative: the result
// reaches the coordinator on its own connection.
func (c *cli) accompany(ctx context.Context, d *display) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	started := make(chan string, 1)
	done := make(chan struct{})
	d.requested = func(id string) {
		select {
		case started <- id:
		default: // already reported
		}
	}
	go func() {
		defer close(done)
		select {
		case id := <-started:
			c.narrate(ctx, id)
		case <-ctx.Done():
		}
	}()
	return func() {
		if d.session() != "" {
			select {
			case <-done:
			case <-time.After(narrateGrace):
			}
		}
		cancel()
		<-done
	}
}

// narrate prints the responses, and shows what the session waits for.
func (c *cli) narrate(ctx context.Context, id string) {
	api, err := c.api()
	if err != nil {
		return
	}
	defer api.Close()
	var before rest.SessionInfo
	err = follow(ctx, api, id, func(now rest.SessionInfo) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, text := range told(before, now) {
			c.console.say("%s", text)
		}
		before = now
		if _, ended := outcome(now); !ended {
			c.console.show(fit(now.Kind, 8) + " · " + clean(pending(now)))
		}
		return nil
	})
	if err != nil && ctx.Err() == nil && c.verbose {
		c.console.say("the session cannot be followed: %s", clean(err.Error()))
	}
}

// told returns the changes to report to a coordinator, a line each.
func told(before, now rest.SessionInfo) []string {
	var list []string
	for _, s := range steps(before, now) {
		switch {
		case strings.HasSuffix(s.what, "_response"):
			list = append(list, clean(userOf(now, s.from-laneServer)+" "+s.note))
		case s.from == s.to:
			list = append(list, clean(s.note))
		}
	}
	if now.Attempt > before.Attempt && len(now.Signers) > 0 {
		var who []string
		for _, i := range now.Signers {
			who = append(who, userOf(now, i))
		}
		list = append(list, clean(fmt.Sprintf("attempt %d of %s", now.Attempt, strings.Join(who, ", "))))
	}
	return list
}
