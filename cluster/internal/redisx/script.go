package redisx

import (
	"context"

	"github.com/redis/go-redis/v9"
)

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
