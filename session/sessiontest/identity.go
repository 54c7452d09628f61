package sessiontest

import (
	"sync"

	"github.com/conclave-mpc/conclave/session/identity"
)

var identities = struct {
	sync.Mutex
	of map[string]*identity.Identity
}{of: map[string]*identity.Identity{}}

// Identity returns a user's identity, the same in every call of a process. It is safe for
// concurrent use.
func Identity(user string) *identity.Identity {
	identities.Lock()
	defer identities.Unlock()
	if identities.of[user] == nil {
		id, err := identity.New()
		if err != nil {
			panic(err)
		}
		identities.of[user] = id
	}
	return identities.of[user]
}
