package redisx

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Exec runs a pipeline of go-redis and returns its first error that is not
// redis.Nil. Afterwards each command has a reply or an error, also one that was
// not sent: see [Spread]. Everything in this module runs its pipelines with it.
func Exec(ctx context.Context, pipe redis.Pipeliner) error {
	if pipe.Len() == 0 {
		return nil
	}
	cmds, err := pipe.Exec(ctx)
	Spread(cmds, err)
	if errors.Is(err, redis.Nil) { // of the first command that has one; a later one may have another
		return firstError(cmds)
	}
	return err
}

// Spread gives err, the error of a whole pipeline, to its commands where none of them
// has one. go-redis leaves commands without an error when Redis refuses the connection
// (the password has changed, there are too many clients), and so does a hook whose own
// command has failed. Callers would take such a command for one that found nothing.
func Spread(cmds []redis.Cmder, err error) {
	if err == nil {
		return
	}
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return
		}
	}
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}

// Failed reports whether err is a failure, for those who count or log failures: that
// there is nothing under a key is none, nor that Redis does not have a script, which
// it is then given with its text.
func Failed(err error) bool {
	return err != nil && !errors.Is(err, redis.Nil) && !isMissing(err)
}

func firstError(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}
