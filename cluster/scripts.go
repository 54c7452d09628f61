package cluster

import (
	_ "embed"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// One file per operation; generations.lua stands before those that look at the
// stream's numbers, and mailbox.lua before those that may give others; usage.lua
// before those that keep its account, owner.lua before those that ask whose a
// presence is.
//
// A Redis that has reached its maxmemory refuses commands that need memory. Each
// script says in its header what becomes of it then. What keeps the cluster alive,
// frees or ends something goes on: Redis looks at the first write of a script, and
// when that needs no memory it lets the script finish, whatever follows ("Memory
// limit" in Redis's page on eval). Such a script therefore begins with a write that
// frees, or does nothing. What begins something new, or stores much, begins with one
// that is refused, and has then done nothing.
var (
	//go:embed usage.lua
	usageLua string
	//go:embed generations.lua
	generationsLua string
	//go:embed owner.lua
	ownerLua string
	//go:embed mailbox.lua
	mailboxLua string
	//go:embed append.lua
	appendOnlyLua string
	//go:embed join.lua
	joinOnlyLua string
	//go:embed clock.lua
	clockLua string
	//go:embed read.lua
	readLua string
	//go:embed ack.lua
	ackOnlyLua string
	//go:embed leave.lua
	leaveLua string
	//go:embed check.lua
	checkOnlyLua string
	//go:embed restore.lua
	restoreLua string
	//go:embed retire.lua
	retireLua string
	//go:embed beat.lua
	beatLua string
	//go:embed enlist.lua
	enlistLua string
	//go:embed lock.lua
	lockLua string
	//go:embed unlock.lua
	unlockLua string

	appendLua = usageLua + generationsLua + appendOnlyLua
	ackLua    = usageLua + generationsLua + ownerLua + ackOnlyLua
	checkLua  = generationsLua + ownerLua + checkOnlyLua
	joinLua   = generationsLua + mailboxLua + joinOnlyLua

	appendScript  = redis.NewScript(appendLua)
	joinScript    = redis.NewScript(joinLua)
	clockScript   = redis.NewScript(clockLua)
	readScript    = redis.NewScript(generationsLua + mailboxLua + ownerLua + readLua)
	ackScript     = redis.NewScript(ackLua)
	checkScript   = redis.NewScript(checkLua)
	leaveScript   = redis.NewScript(leaveLua)
	restoreScript = redis.NewScript(ownerLua + restoreLua)
	retireScript  = redis.NewScript(retireLua)
	beatScript    = redis.NewScript(beatLua)
	enlistScript  = redis.NewScript(enlistLua)
	lockScript    = redisx.NewScript(lockLua)
	unlockScript  = redisx.NewScript(unlockLua)
)

// runs are the two ways to run a script in a pipeline: by its hash, and, for what
// has met a Redis without it (that restarted, or failed over) and so did nothing
// there, with its text. (To load it first would, on Redis Cluster, need every
// server, the dead one too.)
func runs(s *redis.Script, text string) [2][2]string {
	return [2][2]string{{"evalsha", s.Hash()}, {"eval", text}}
}
