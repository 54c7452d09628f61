package redisx

import (
	"context"
	"iter"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Script is a Lua script. It is immutable and safe for concurrent use.
//
// Redis is sent a script's hash, and its text only if it does not have the script
// (it has restarted or failed over), which therefore has not run yet. Loading
// scripts beforehand would, on Redis Cluster, need every server, including one that
// is down.
type Script struct {
	script *redis.Script
	text   string
}

// NewScript returns the script whose text is the concatenated sources: functions
// shared by several scripts precede the operation.
func NewScript(sources ...string) *Script {
	text := strings.Join(sources, "")
	return &Script{text: text, script: redis.NewScript(text)}
}

// Run carries out the script in a round trip of its own, or two. In a pipeline its
// text would not be sent; [RunCalls] and [Client.Do] do that.
func (s *Script) Run(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) *redis.Cmd {
	return s.script.Run(ctx, rdb, keys, args...)
}

// Call returns a run of the script with those keys and arguments, for [Client.Do]
// or [RunCalls].
func (s *Script) Call(keys []string, args ...any) *Call {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, "evalsha", s.script.Hash(), len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	return &Call{Cmd: command(context.Background(), append(all, args...)), script: s}
}

// Is reports whether cmd runs the script, by its hash or with its text.
func (s *Script) Is(cmd redis.Cmder) bool {
	args := cmd.Args()
	return len(args) > 1 && (args[1] == s.script.Hash() || args[1] == s.text)
}

// Call is a run of a script, to be carried out once. Its reply and error are those
// of the redis.Cmd. It is not safe for concurrent use.
type Call struct {
	*redis.Cmd
	script *Script
}

// isMissing reports whether err says that Redis did not have a script.
func isMissing(err error) bool { return redis.HasErrorPrefix(err, "NOSCRIPT") }

// withText changes a call to send the script's text.
func (c *Call) withText(ctx context.Context) {
	args := append([]any{"eval", c.script.text}, c.Args()[2:]...)
	c.Cmd = command(ctx, args)
}

// command is a script's run; its keys follow their count.
func command(ctx context.Context, args []any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetFirstKeyPos(3)
	return cmd
}

// RunCalls carries out calls in one pipeline of rdb, and in a second one those
// whose script Redis did not have. Each call has its own reply or error. With once,
// go-redis repeats none, and when a connection breaks answered calls keep their
// reply.
func RunCalls(ctx context.Context, rdb redis.UniversalClient, once bool, calls []*Call) {
	sendAll(ctx, rdb, once, func(yield func(redis.Cmder) bool) {
		for _, call := range calls {
			if !yield(call) {
				return
			}
		}
	})
}

// sendAll carries out cmds in one pipeline, and in a second one, with their text,
// calls whose script Redis did not have.
func sendAll(ctx context.Context, rdb redis.UniversalClient, once bool, cmds iter.Seq[redis.Cmder]) {
	pipe := rdb.Pipeline()
	add := func(cmd redis.Cmder) {
		if once {
			cmd = &onceCmd{Cmder: cmd}
		}
		_ = pipe.Process(ctx, cmd)
	}
	for cmd := range cmds {
		add(cmd)
	}
	_ = Exec(ctx, pipe) // each command has its own error
	for cmd := range cmds {
		if call, ok := cmd.(*Call); ok && isMissing(call.Err()) {
			call.withText(ctx)
			add(call)
		}
	}
	_ = Exec(ctx, pipe)
}
