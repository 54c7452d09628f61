package cluster

import (
	_ "embed"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// One file per operation. generations.lua precedes those that read the stream's
// numbers, mailbox.lua those that may give others, usage.lua those that keep its
// account, owner.lua those that check the owner of a presence.
//
// A Redis that has reached its maxmemory refuses commands that need memory. Each
// script's header states its behaviour then. Scripts that keep the cluster alive,
// or free or end something, go on: Redis checks the first write of a script, and if
// that needs no memory it lets the script finish, whatever follows ("Memory limit"
// in Redis's page on eval). Such a script therefore begins with a write that frees,
// or does nothing. A script that begins something new, or stores much, begins with
// a write that is refused, and has then changed nothing.
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
	appendLua string
	//go:embed join.lua
	joinLua string
	//go:embed clock.lua
	clockLua string
	//go:embed read.lua
	readLua string
	//go:embed ack.lua
	ackLua string
	//go:embed leave.lua
	leaveLua string
	//go:embed check.lua
	checkLua string
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

	appendScript  = redisx.NewScript(usageLua, generationsLua, appendLua)
	joinScript    = redisx.NewScript(generationsLua, mailboxLua, joinLua)
	clockScript   = redisx.NewScript(clockLua)
	readScript    = redisx.NewScript(generationsLua, mailboxLua, ownerLua, readLua)
	ackScript     = redisx.NewScript(usageLua, generationsLua, ownerLua, ackLua)
	checkScript   = redisx.NewScript(generationsLua, ownerLua, checkLua)
	leaveScript   = redisx.NewScript(leaveLua)
	restoreScript = redisx.NewScript(ownerLua, restoreLua)
	retireScript  = redisx.NewScript(retireLua)
	beatScript    = redisx.NewScript(beatLua)
	enlistScript  = redisx.NewScript(enlistLua)
	lockScript    = redisx.NewScript(lockLua)
	unlockScript  = redisx.NewScript(unlockLua)
)
