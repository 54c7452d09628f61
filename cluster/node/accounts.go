package node

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// operated is a cluster's accounts for its operator: changes are recorded in the
// audit.
type operated struct {
	*accounts.Store
	rdb    redis.UniversalClient
	prefix string
}

// audited records a change of an account, unless err says that it failed.
func (a operated) audited(ctx context.Context, what, user, detail string, err error) error {
	if err != nil {
		return err
	}
	return auditOperator(ctx, a.rdb, a.prefix, what, user, detail)
}

// withAccounts calls do with the accounts of the cluster whose Redis cfg names; of
// cfg only the Redis settings are needed.
func withAccounts(cfg Config, do func(operated) error) error {
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
	list, err := accounts.New(accounts.Config{Redis: rdb, Prefix: cfg.RedisPrefix})
	if err == nil {
		err = do(operated{list, rdb, cfg.RedisPrefix})
	}
	return errors.Join(err, rdb.Close())
}

// AddUser makes an account that may log in to the cluster whose Redis cfg names;
// nothing else of cfg is needed. With replace it sets the password and roles of an
// existing account, and ends its tokens.
func AddUser(ctx context.Context, cfg Config, user, password string, roles []string, replace bool) error {
	var list []wire.Role
	for _, r := range roles {
		list = append(list, wire.Role(r))
	}
	what := audit.UserAdd
	if replace {
		what = audit.UserReplace
	}
	return withAccounts(cfg, func(a operated) error {
		return a.audited(ctx, what, user, "roles "+strings.Join(roles, ","), a.Add(ctx, user, password, list, replace))
	})
}

// SetUserPassword sets an account's password and ends its tokens; every node closes
// their sockets within a second.
func SetUserPassword(ctx context.Context, cfg Config, user, password string) error {
	return withAccounts(cfg, func(a operated) error {
		return a.audited(ctx, audit.UserPassword, user, "password set", a.SetPassword(ctx, user, password))
	})
}

// SetUserDisabled disables or re-enables an account. Its tokens end: every node
// closes their sockets within a second.
func SetUserDisabled(ctx context.Context, cfg Config, user string, disabled bool) error {
	what := audit.UserEnable
	if disabled {
		what = audit.UserDisable
	}
	return withAccounts(cfg, func(a operated) error {
		return a.audited(ctx, what, user, "tokens revoked", a.SetDisabled(ctx, user, disabled))
	})
}

// SetUserRoles sets an account's roles and ends its tokens, which state the old
// ones.
func SetUserRoles(ctx context.Context, cfg Config, user string, roles []string) error {
	var list []wire.Role
	for _, r := range roles {
		list = append(list, wire.Role(r))
	}
	return withAccounts(cfg, func(a operated) error {
		return a.audited(ctx, audit.UserRoles, user, "roles "+strings.Join(roles, ","), a.SetRoles(ctx, user, list))
	})
}

// RemoveUser removes an account and ends its tokens; every node closes their sockets
// within a second. Its keys and sessions stay, under the name.
func RemoveUser(ctx context.Context, cfg Config, user string) error {
	return withAccounts(cfg, func(a operated) error {
		return a.audited(ctx, audit.UserRemove, user, "tokens revoked", a.Delete(ctx, user))
	})
}

// ListUsers returns the accounts that can log in.
func ListUsers(ctx context.Context, cfg Config) (list []auth.Account, err error) {
	err = withAccounts(cfg, func(a operated) (err error) {
		list, err = a.List(ctx)
		return err
	})
	return list, err
}
