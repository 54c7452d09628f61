package redisx

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Exec runs a pipeline of go-redis and returns its first error that is not
// redis.Nil. Afterwards each command has a reply or an error, even if it was not
// sent: see [Spread]. Everything in this module runs its pipelines with it.
func Exec(ctx context.Context, pipe redis.Pipeliner) error {
	if pipe.Len() == 0 {
		return nil
	}
	cmds, err := pipe.Exec(ctx)
	Spread(cmds, err)
	if errors.Is(err, redis.Nil) { // the first command's error; a later one may have another
		return firstError(cmds)
	}
	return err
}

// Spread gives err, the error of a whole pipeline, to its commands if none of them
// has one. go-redis leaves commands without an error when Redis refuses the
// connection (the password has changed, too many clients), and so does a hook whose
// own command has failed. Callers would mistake that for an empty result.
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

// Failed reports whether err is a failure, for counting or logging. A missing key
// is not one, nor is a script that Redis does not have, since it is then sent as
// text.
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
