package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"
)

const (
	requestLife  = time.Hour   // of a signed request without a limit of its own; it is not started after it
	timeoutSlack = time.Minute // for running work to end, and for clock differences
)

// timeoutError is a request without an outcome in time. Its outcome is unknown.
type timeoutError struct {
	after   time.Duration
	session string // "" if the servers have not reported one
}

// Error says how long the command waited, and where to look.
func (e *timeoutError) Error() string {
	if e.session == "" {
		return fmt.Sprintf("no answer within %s: the servers may or may not have accepted the request (see conclave sessions)", e.after)
	}
	return fmt.Sprintf("no outcome within %s; session %s may still be running (see conclave sessions %s)", e.after, e.session, e.session)
}

// timeoutFlag lets a command say how long it waits for a request's outcome, from the
// first attempt to connect. By default it waits until the request has expired for
// all who could carry it out.
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
