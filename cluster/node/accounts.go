package node

import (
	"context"
	"errors"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// AddUser makes an account that may log in to the cluster whose Redis cfg
// names; nothing else of cfg is needed. With replace it sets the password and
// roles of an account that exists.
func AddUser(ctx context.Context, cfg Config, user, password string, roles []string, replace bool) error {
	var list []wire.Role
	for _, r := range roles {
		list = append(list, wire.Role(r))
	}
	if cfg.Redis == "" {
		cfg.Redis = DefaultRedis
	}
	rdb, err := newRedis(cfg.Redis)
	if err != nil {
		return err
	}
	accounts, err := auth.NewAccounts(auth.AccountsConfig{Redis: rdb, Prefix: cfg.RedisPrefix})
	if err == nil {
		err = accounts.Add(ctx, user, password, list, replace)
	}
	return errors.Join(err, rdb.Close())
}
