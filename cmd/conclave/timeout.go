package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"
)

const (
	requestLife  = time.Hour   // of a signed request that sets no limit itself; nobody begins anything after it
	timeoutSlack = time.Minute // for what has begun by then to end, and for clocks
)

// timeoutError is a request of which no outcome has come in time. What becomes of
// it is not known.
type timeoutError struct {
	after   time.Duration
	session string // "" if the servers have not told of one
}

// Error says how long was waited, and where to look.
func (e *timeoutError) Error() string {
	if e.session == "" {
		return fmt.Sprintf("no answer within %s: the servers may or may not have accepted the request (see conclave sessions)", e.after)
	}
	return fmt.Sprintf("no outcome within %s; session %s may still be running (see conclave sessions %s)", e.after, e.session, e.session)
}

// timeoutFlag lets a command say how long it waits for a request's outcome, from
// the first attempt to connect. By default that is until nobody would carry out
// the request any more.
func timeoutFlag(flags *flag.FlagSet) func(ctx context.Context, expiresIn time.Duration, do func(context.Context) error) error {
	given := flags.Duration("timeout", 0, "`duration` to wait for the outcome, after which the exit status is 4 (default: --expires-in, or 1h, plus a minute)")
	return func(ctx context.Context, expiresIn time.Duration, do func(context.Context) error) error {
		limit := *given
		switch {
		case limit < 0 || expiresIn < 0:
			return misuse("a duration must not be negative")
		case limit == 0 && expiresIn > 0:
			limit = expiresIn + timeoutSlack
		case limit == 0:
			limit = requestLife + timeoutSlack
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		err := do(ctx)
		var late *timeoutError
		switch {
		case errors.As(err, &late):
			late.after = limit
		case errors.Is(err, context.DeadlineExceeded) && errors.Is(ctx.Err(), context.DeadlineExceeded):
			err = &timeoutError{after: limit}
		}
		return err
	}
}
