package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster"
)

const (
	redisDialWithin = 2 * time.Second
	redisWithin     = 3 * time.Second // one command
	// How old go-redis's idea of which server has which slots may be. A master that
	// is gone cannot say who took over, so this is how long its shard stays out of
	// reach after that; go-redis's own choice is a minute.
	redisTopologyEvery = 500 * time.Millisecond
	// Connections to a server: what a crowd may take of them, and for those at work.
	redisPool = cluster.MaxCalls + 40
)

// go-redis prints what goes wrong inside its pool to standard error, in a form of
// its own. The same errors come back from the calls that suffer from them and
// are logged there.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// newRedis makes a client for a standalone server (redis://[user:pass@]host:port/db),
// for Sentinel (redis+sentinel://[user:pass@]host:port,host:port/master/db; the
// Sentinels' own user and password, if they have any, follow as ?sentinel_username=
// and sentinel_password=) or for Redis Cluster
// (redis+cluster://[user:pass@]host:port,host:port); with rediss in redis's place it
// speaks TLS, also to the Sentinels. An error repeats nothing of a URL that holds a
// password. Connections do not say which library made them: Redis before 7.2 has no
// such command, nor a right to it.
func newRedis(cfg Config) (redis.UniversalClient, error) {
	scheme, rest, ok := strings.Cut(cfg.Redis, "://")
	if !ok {
		return nil, errors.New("redis: not a URL; want redis://host:port/db, rediss://, redis+sentinel:// or redis+cluster://")
	}
	secure, err := redisTLS(cfg, strings.HasPrefix(scheme, "rediss"))
	if err != nil {
		return nil, err
	}
	if scheme == "redis" || scheme == "rediss" || scheme == "unix" {
		opt, err := redis.ParseURL(cfg.Redis)
		if err != nil {
			return nil, urlError(cfg.Redis, err)
		}
		if secure != nil {
			secure.ServerName, secure.InsecureSkipVerify = opt.TLSConfig.ServerName, opt.TLSConfig.InsecureSkipVerify
			opt.TLSConfig = secure
		}
		opt.ContextTimeoutEnabled, opt.DisableIdentity = true, true
		opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = redisDialWithin, redisWithin, redisWithin
		if opt.PoolSize == 0 { // pool_size in the URL is another
			opt.PoolSize = redisPool
		}
		conns := newFresh(redis.NewDialer(opt))
		opt.Dialer = conns.Dial
		return conns.watched(redis.NewClient(opt)), nil
	}
	opt, err := clusterOptions(rest)
	if err != nil {
		return nil, err
	}
	opt.TLSConfig = secure // each connection names the host it is to
	conns := newFresh(redis.NewDialer(&redis.Options{DialTimeout: redisDialWithin, TLSConfig: secure}))
	opt.Dialer = conns.Dial
	switch scheme {
	case "redis+sentinel", "rediss+sentinel":
		if opt.MasterName == "" {
			return nil, errors.New("redis: redis+sentinel:// needs the master's name as its path")
		}
		return conns.watched(redis.NewFailoverClient(opt.Failover())), nil
	case "redis+cluster", "rediss+cluster":
		if opt.MasterName != "" || opt.DB != 0 || opt.SentinelPassword != "" {
			return nil, errors.New("redis: redis+cluster:// takes no path and no Sentinel settings: a cluster has one database")
		}
		shards := opt.Cluster()
		shards.ClusterStateReloadInterval = redisTopologyEvery
		return conns.watched(redis.NewClusterClient(shards)), nil
	}
	return nil, errors.New("redis: unknown scheme; want redis, redis+sentinel or redis+cluster, or rediss in redis's place for TLS")
}

// redisTLS returns nil for a connection without TLS.
func redisTLS(cfg Config, secure bool) (*tls.Config, error) {
	switch {
	case !secure && cfg.RedisCA+cfg.RedisCert+cfg.RedisKey != "":
		return nil, errors.New("redis: a certificate or CA is set, but the URL does not use TLS (rediss://)")
	case !secure:
		return nil, nil
	case (cfg.RedisCert == "") != (cfg.RedisKey == ""):
		return nil, errors.New("redis: TLS needs both a certificate and a key, or neither")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.RedisCA != "" {
		pem, err := os.ReadFile(cfg.RedisCA)
		if err != nil {
			return nil, fmt.Errorf("redis: read authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redis: no certificate in %s", cfg.RedisCA)
		}
	}
	if cfg.RedisCert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.RedisCert, cfg.RedisKey)
			if err != nil {
				return nil, fmt.Errorf("redis: load certificate: %w", err)
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}

// clusterOptions reads [user:pass@]host:port,host:port[/master[/db]].
func clusterOptions(rest string) (*redis.UniversalOptions, error) {
	opt := &redis.UniversalOptions{
		ContextTimeoutEnabled: true, DisableIdentity: true,
		DialTimeout: redisDialWithin, ReadTimeout: redisWithin, WriteTimeout: redisWithin, PoolSize: redisPool,
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, pass, _ := strings.Cut(rest[:at], ":")
		var err1, err2 error
		opt.Username, err1 = url.PathUnescape(user)
		opt.Password, err2 = url.PathUnescape(pass)
		if err1 != nil || err2 != nil {
			return nil, errors.New("redis: user or password is not percent-encoded")
		}
		rest = rest[at+1:]
	}
	rest, query, _ := strings.Cut(rest, "?")
	if err := sentinelAuth(opt, query); err != nil {
		return nil, err
	}
	hosts, path, _ := strings.Cut(rest, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		if host == "" {
			return nil, errors.New("redis: an empty host in the URL")
		}
		opt.Addrs = append(opt.Addrs, host)
	}
	master, db, hasDB := strings.Cut(path, "/")
	opt.MasterName = master
	if hasDB {
		n, err := strconv.Atoi(db)
		if err != nil || n < 0 {
			return nil, errors.New("redis: the database must be a number")
		}
		opt.DB = n
	}
	return opt, nil
}

// sentinelAuth reads what follows the ? of a URL: who the Sentinels are to be told
// one is.
func sentinelAuth(opt *redis.UniversalOptions, query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("redis: the part after ? in the URL is not percent-encoded")
	}
	for name := range values {
		switch name {
		case "sentinel_username":
			opt.SentinelUsername = values.Get(name)
		case "sentinel_password":
			opt.SentinelPassword = values.Get(name)
		default: // its name may be a part of a password
			return errors.New("redis: the URL may have sentinel_username and sentinel_password after its ?, and nothing else")
		}
	}
	if opt.SentinelUsername != "" && opt.SentinelPassword == "" {
		return errors.New("redis: sentinel_username needs sentinel_password")
	}
	return nil
}

// urlError says what is wrong with a URL. Whatever it holds may be a part of a
// password that was not encoded: what parsers quote then is not repeated.
func urlError(text string, err error) error {
	if strings.Contains(text, "@") {
		return errors.New("redis: the URL cannot be read; it is redis://user:password@host:port/db, with / as %2F, @ as %40 and so on in user and password")
	}
	var u *url.Error
	if errors.As(err, &u) { // it repeats all of the URL
		err = u.Err
	}
	return fmt.Errorf("redis: %w", err)
}
