package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Values of [Config.UnknownUsers].
const (
	// UnknownAuto refuses them if the requester has an account here that can log in
	// and there is no JWKS: then the others have accounts here too.
	UnknownAuto = "auto"
	// UnknownRefuse refuses them for all requesters.
	UnknownRefuse = "refuse"
	// UnknownAllow allows any name: the user may have tokens from another program
	// and never have connected.
	UnknownAllow = "allow"
)

const (
	userKnownFor = time.Minute // even after its account was removed
	usersKnown   = 8192
)

// users implements service.Users on the accounts. A user is known if it has an
// account, has registered with an identity, or has a socket now. Unknown users are
// looked up each time, so that a new account is found at once.
type users struct {
	accounts *accounts.Store
	present  func(ctx context.Context, users ...string) (map[string]bool, error)
	always   bool // even for requesters without an account that can log in

	mu     sync.Mutex
	known  map[string]time.Time // until when
	logsIn map[string]time.Time
}

// newUsers returns nil if unknown users are allowed.
func newUsers(cfg *Config, list *accounts.Store, p presence) service.Users {
	if cfg.UnknownUsers == UnknownAllow || cfg.UnknownUsers == UnknownAuto && cfg.JWKS != "" {
		return nil
	}
	return &users{
		accounts: list, present: p.Online, always: cfg.UnknownUsers == UnknownRefuse,
		known: map[string]time.Time{}, logsIn: map[string]time.Time{},
	}
}

// Unknown implements service.Users.
func (u *users) Unknown(ctx context.Context, asker string, list []string) (string, error) {
	if applies, err := u.applies(ctx, asker); err != nil || !applies {
		return "", err
	}
	var look []string
	for _, user := range list {
		if !u.remembered(u.known, user) {
			look = append(look, user)
		}
	}
	if len(look) == 0 {
		return "", nil
	}
	there, err := u.accounts.Exist(ctx, look...)
	if err != nil {
		return "", fmt.Errorf("look up users: %w", err)
	}
	var missing []string
	for _, user := range look {
		if there[user] {
			u.remember(u.known, user)
		} else {
			missing = append(missing, user)
		}
	}
	if len(missing) == 0 {
		return "", nil
	}
	online, err := u.present(ctx, missing...)
	if err != nil {
		return "", err
	}
	for _, user := range missing {
		if !online[user] {
			return user, nil
		}
	}
	return "", nil
}

// applies reports whether users named by asker must be known here.
func (u *users) applies(ctx context.Context, asker string) (bool, error) {
	if u.always || u.remembered(u.logsIn, asker) {
		return true, nil
	}
	account, err := u.accounts.Get(ctx, asker)
	if err != nil {
		if wire.AsError(err).Code == wire.CodeNotFound {
			return false, nil
		}
		return false, fmt.Errorf("look up the coordinator's account: %w", err)
	}
	if account.LogsIn {
		u.remember(u.logsIn, asker)
	}
	return account.LogsIn, nil
}

func (u *users) remembered(in map[string]time.Time, user string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return time.Now().Before(in[user])
}

func (u *users) remember(in map[string]time.Time, user string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(in) >= usersKnown {
		clear(in)
	}
	in[user] = time.Now().Add(userKnownFor)
}
