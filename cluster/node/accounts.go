package node

import (
	"context"
	"errors"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// withAccounts calls do with the accounts of the cluster whose Redis cfg names;
// nothing but what says how to reach it is needed of cfg.
func withAccounts(cfg Config, do func(*auth.Accounts) error) error {
	if cfg.Redis == "" {
		cfg.Redis = DefaultRedis
	}
	rdb, err := newRedis(cfg)
	if err != nil {
		return err
	}
	if cfg.RedisWaitReplicas > 0 {
		waitForReplicas(rdb, cfg.RedisWaitReplicas)
	}
	accounts, err := auth.NewAccounts(auth.AccountsConfig{Redis: rdb, Prefix: cfg.RedisPrefix})
	if err == nil {
		err = do(accounts)
	}
	return errors.Join(err, rdb.Close())
}

// AddUser makes an account that may log in to the cluster whose Redis cfg
// names; nothing else of cfg is needed. With replace it sets the password and
// roles of an account that exists, and ends its tokens.
func AddUser(ctx context.Context, cfg Config, user, password string, roles []string, replace bool) error {
	var list []wire.Role
	for _, r := range roles {
		list = append(list, wire.Role(r))
	}
	return withAccounts(cfg, func(a *auth.Accounts) error { return a.Add(ctx, user, password, list, replace) })
}

// SetUserPassword gives an account another password and ends its tokens; every
// node closes their sockets within a second.
func SetUserPassword(ctx context.Context, cfg Config, user, password string) error {
	return withAccounts(cfg, func(a *auth.Accounts) error { return a.SetPassword(ctx, user, password) })
}

// SetUserDisabled bars an account, or lets it in again. Its tokens end: every
// node closes their sockets within a second.
func SetUserDisabled(ctx context.Context, cfg Config, user string, disabled bool) error {
	return withAccounts(cfg, func(a *auth.Accounts) error { return a.SetDisabled(ctx, user, disabled) })
}

// ListUsers returns the accounts that can log in.
func ListUsers(ctx context.Context, cfg Config) (list []auth.Account, err error) {
	err = withAccounts(cfg, func(a *auth.Accounts) (err error) {
		list, err = a.List(ctx)
		return err
	})
	return list, err
}
