package node

import (
	"context"
	"errors"
	"strings"

	"github.com/conclave-mpc/conclave/audit"
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
	if err == nil {
		what := audit.UserAdd
		if replace {
			what = audit.UserReplace
		}
		err = auditOperator(ctx, rdb, cfg.RedisPrefix, what, user, "roles "+strings.Join(roles, ","))
	}
	return errors.Join(err, rdb.Close())
}
