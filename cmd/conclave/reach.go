package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// reachWithin is how long a command looks for a server that can serve. It is longer
// than a failover or the restart of a node takes.
const reachWithin = 12 * time.Second

// unreachedError ends a command that has found no server in that time. No request
// was sent.
type unreachedError struct {
	within time.Duration
	urls   []string
}

// Error names the servers that were tried.
func (e *unreachedError) Error() string {
	return fmt.Sprintf("no server was reached within %s: %s", e.within, strings.Join(e.urls, ", "))
}

// reach ends a command that finds no server. The time begins with the first attempt
// and not with the command, which may ask for a password first. A nil reach has no
// limit. Its methods are safe for concurrent use.
type reach struct {
	within time.Duration
	end    context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	found bool
}

// seek starts the time, unless it is running.
func (r *reach) seek(urls []string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil && !r.found {
		r.timer = time.AfterFunc(r.within, func() { r.end(&unreachedError{r.within, urls}) })
	}
}

// reached records that a server has answered: from then on the command has no limit.
func (r *reach) reached() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = true
	if r.timer != nil {
		r.timer.Stop()
	}
}

// reaching calls do. Its error is an *unreachedError if the time limit ended it.
func (c *cli) reaching(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.reach = &reach{within: c.reachWithin, end: cancel}
	defer c.reach.reached()
	err := do(ctx)
	var unreached *unreachedError
	if err != nil && errors.As(context.Cause(ctx), &unreached) {
		return unreached
	}
	return err
}
