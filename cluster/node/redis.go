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
	// Maximum age of go-redis's map of slots to servers. A dead master cannot
	// report its successor, so this is how long its shard stays unreachable
	// afterwards; go-redis's default is a minute.
	redisTopologyEvery = 500 * time.Millisecond
	// Connections to a server: enough for a crowd, plus those for ordinary work.
	redisPool = cluster.MaxCalls + 40
)

// go-redis prints errors inside its pool to standard error, in its own format. The
// same errors are returned by the affected calls and logged there.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// newRedis makes a client for a standalone server
// (redis://[user:pass@]host:port/db), for Sentinel
// (redis+sentinel://[user:pass@]host:port,host:port/master/db; the Sentinels' own
// user and password, if any, follow as ?sentinel_username= and sentinel_password=)
// or for Redis Cluster (redis+cluster://[user:pass@]host:port,host:port); with
// rediss in place of redis it uses TLS, also to the Sentinels. An error repeats no
// part of a URL that holds a password. Connections do not send the library's name:
// Redis before 7.2 lacks the command and the permission for it.
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
		if opt.PoolSize == 0 { // unless the URL sets pool_size
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
	opt.TLSConfig = secure // each connection names its host
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

// clusterOptions parses [user:pass@]host:port,host:port[/master[/db]].
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

// sentinelAuth parses a URL's query: the user name and password for the Sentinels.
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
		default: // its name may be part of a password
			return errors.New("redis: the URL may have sentinel_username and sentinel_password after its ?, and nothing else")
		}
	}
	if opt.SentinelUsername != "" && opt.SentinelPassword == "" {
		return errors.New("redis: sentinel_username needs sentinel_password")
	}
	return nil
}

// urlError describes a URL's fault. Any part of it may belong to a password that
// was not encoded, so quotes in the parser's error are left out.
func urlError(text string, err error) error {
	if strings.Contains(text, "@") {
		return errors.New("redis: the URL cannot be read; it is redis://user:password@host:port/db, with / as %2F, @ as %40 and so on in user and password")
	}
	var u *url.Error
	if errors.As(err, &u) { // it repeats the whole URL
		err = u.Err
	}
	return fmt.Errorf("redis: %w", err)
}
