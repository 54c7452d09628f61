package main

import (
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cmd/internal/spell"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

const envPrefix = "CONCLAVE_"

// options is the command line with the environment behind it.
type options struct {
	flags *flag.FlagSet
	cfg   node.Config

	jwtSecret, jwtSecretFile     string
	jwtPrevious, jwtPreviousFile string
	shareKEK, shareKEKFile       string
	redisFile                    string
	origins, proxies, adminHosts string
	webhookSecretFile            string
	jwksRoles                    string
	logLevel                     string
	version                      bool
}

// newOptions declares every flag of the daemon.
func newOptions(stderr io.Writer) *options {
	o := &options{flags: flag.NewFlagSet("conclaved", flag.ContinueOnError)}
	f, cfg := o.flags, &o.cfg
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	o.declareRedis()
	o.declareSecretFiles()
	f.StringVar(&cfg.Listen, "listen", node.DefaultListen, "`address` to serve WebSocket and HTTP on; behind a load balancer, the one it reaches")
	f.StringVar(&cfg.AdminAddr, "admin-addr", node.DefaultAdminAddr, "`address` for /metrics, profiles and health, which asks nobody who they are; port 0 is a free one, which the log names; empty for none")
	f.StringVar(&o.adminHosts, "admin-hosts", "", "`names`, separated by commas, by which --admin-addr is asked besides IP addresses and localhost; others are refused")
	f.StringVar(&cfg.OTLPEndpoint, "otlp-endpoint", "", "`URL` of an OpenTelemetry collector (OTLP over HTTP) that gets traces of sessions (default none)")
	f.Float64Var(&cfg.TraceRatio, "trace-ratio", 1, "how many of the sessions are traced, from more than 0 to 1; the same on all nodes")
	f.StringVar(&cfg.NodeID, "node-id", "", "`name` of this node, unique in the cluster (default the host's name and a random suffix)")
	o.declareTokens()
	f.StringVar(&o.shareKEK, "share-kek", "", "share key-encryption key, 32 bytes in `base64`; needed only for clients that do not seal their shares")
	f.DurationVar(&cfg.InviteTimeout, "invite-timeout", 0, "how long participants have to answer (default 2m)")
	f.DurationVar(&cfg.KeygenTimeout, "keygen-timeout", 0, "how long a keygen may run (default 5m)")
	f.DurationVar(&cfg.SignTimeout, "sign-timeout", 0, "how long one attempt of a signing may run (default 1m)")
	f.DurationVar(&cfg.AbsenceGrace, "absence-grace", 0, "how long a party that is needed may be away before the session goes on without it (default 20s)")
	f.DurationVar(&cfg.SessionRetention, "session-retention", 0, "how long a session is kept after its end (default 72h)")
	f.IntVar(&cfg.MaxMessageBytes, "max-message-bytes", node.DefaultMaxMessageBytes, "longest WebSocket message and HTTP body")
	f.IntVar(&cfg.MaxParties, "max-parties", node.DefaultMaxParties, "largest committee")
	o.declareLimits()
	f.StringVar(&o.origins, "allowed-origins", "", "`origins` besides this server's own that browsers may connect from, separated by commas")
	f.StringVar(&cfg.TLSCert, "tls-cert", "", "PEM `file` with the certificate chain, read again when it changes; without it the listener is plain, for a load balancer that ends TLS")
	f.StringVar(&cfg.TLSKey, "tls-key", "", "PEM `file` with its key")
	f.BoolVar(&cfg.RequireDurableRedis, "require-durable-redis", false, "do not start on a Redis that may forget (appendonly no, or an eviction policy)")
	f.DurationVar(&cfg.DrainSpread, "drain-spread", 0, "over how long sockets are closed on SIGTERM (default 3s)")
	f.StringVar(&cfg.Webhook, "webhook", "", "`URL` that is told of each session's outcome, signed")
	f.StringVar(&o.webhookSecretFile, "webhook-secret-file", "", "`file` with the secret that this is signed with; several, one a line, while one is exchanged for another")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	return o
}

// declareLimits declares what one user, one account, one address and everybody
// together may do.
func (o *options) declareLimits() {
	f, cfg := o.flags, &o.cfg
	f.Float64Var(&cfg.RateLimit, "rate-limit", 0, "messages a second that one connection, and one user, may send for long; negative for no limit (default 1000)")
	f.IntVar(&cfg.RateLimitBytes, "rate-limit-bytes", 0, "`bytes` a second that one user may send for long; negative for no limit (default 2097152)")
	f.Float64Var(&cfg.RequestLimit, "request-limit", 0, "keygens and signings a second that one user may ask for, for long; negative for no limit (default 50)")
	f.IntVar(&cfg.MaxOpenSessions, "max-open-sessions", 0, "keygens and signings that one user has asked for and that may be open at a time; negative for no limit (default 1024)")
	f.Int64Var(&cfg.MaxOpenBytes, "max-open-bytes", 0, "`bytes` of Redis that these may take; negative for no limit (default 67108864, or what the largest takes)")
	f.Int64Var(&cfg.MaxEndedBytes, "max-ended-bytes", 0, "`bytes` of one user's ended sessions that are kept for --session-retention, four times as many for 15 minutes, then no more may begin; negative for no limit (default 8388608)")
	f.Int64Var(&cfg.MaxKeyBytes, "max-key-bytes", 0, "`bytes` of Redis that the keys may take that one user has asked for; negative for no limit (default 268435456)")
	f.StringVar(&cfg.UnknownUsers, "unknown-users", node.UnknownAuto, "refuse or allow participants of whom nothing is known here; auto refuses where the asker has an account and there is no --jwks")
	f.Float64Var(&cfg.RegisterLimit, "register-limit", 0, "how often a second one user may connect, for long; negative for no limit (default 10)")
	f.IntVar(&cfg.LoginLimit, "login-limit", 0, "failed logins to one account from one address, at once and again each hour; negative for no limit (default 10)")
	f.IntVar(&cfg.LoginAddressLimit, "login-address-limit", 0, "failed logins a minute from one address, to all accounts that do not know it; negative for no limit (default 100)")
	f.IntVar(&cfg.LoginAccountLimit, "login-account-limit", 0, "failed logins a day to one account, from all addresses that it does not know; negative for no limit (default 1000)")
	f.StringVar(&o.proxies, "trusted-proxies", "", "`addresses` or networks of load balancers, separated by commas, whose X-Forwarded-For is believed")
	f.IntVar(&cfg.MaxConnections, "max-connections", 0, "sockets that this node holds; negative for no limit (default by the limit of open files)")
	f.IntVar(&cfg.MaxUnregistered, "max-unregistered", 0, "how many of them may not have begun to register (default 16384)")
}

func (o *options) declareTokens() {
	f, cfg := o.flags, &o.cfg
	f.StringVar(&o.jwtSecret, "jwt-secret", "", "`secret` that signs and verifies tokens (HS256), at least 32 bytes, taken as it is; required, unless --jwks is given")
	f.StringVar(&o.jwtSecretFile, "jwt-secret-file", "", "`file` with that secret; one line break at its end does not count")
	f.StringVar(&o.jwtPrevious, "jwt-secret-previous", "", "`secret` that verifies tokens as well, and signs none: the one before, or the one to come")
	f.StringVar(&o.jwtPreviousFile, "jwt-secret-previous-file", "", "`file` with that secret")
	f.StringVar(&cfg.JWKS, "jwks", "", "`file or URL` with the public keys of another issuer, whose tokens are taken too (RS256, ES256, EdDSA)")
	f.StringVar(&cfg.JWTIssuer, "jwt-issuer", "", "`iss` that tokens must have (default any)")
	f.StringVar(&cfg.JWTAudience, "jwt-audience", "", "`aud` that tokens must have (default any)")
	f.StringVar(&cfg.JWKSIssuer, "jwks-issuer", "", "`iss` that tokens by --jwks must have, or * for any (default that of --jwt-issuer; one must be set)")
	f.StringVar(&cfg.JWKSAudience, "jwks-audience", "", "`aud` that tokens by --jwks must have, or * for any (default that of --jwt-audience; one must be set)")
	f.StringVar(&cfg.JWKSUserClaim, "jwks-user-claim", "", "`claim` that names the user in tokens by --jwks: its name, or a JSON pointer like /user/name (default sub)")
	f.StringVar(&cfg.JWKSRolesClaim, "jwks-roles-claim", "", "`claim` that names the roles in tokens by --jwks: its name, or a JSON pointer like /realm_access/roles (default role and roles)")
	f.StringVar(&o.jwksRoles, "jwks-roles", "", "`names` of the roles in that claim, like signers=participant,ops=admin; no others count then (default coordinator, participant and admin)")
	f.DurationVar(&cfg.TokenTTL, "token-ttl", 0, "how long a token from login is good (default 12h)")
	f.DurationVar(&cfg.RefreshTTL, "refresh-ttl", 0, "how long a login can be renewed after it was last, by its refresh token; negative for no refresh tokens (default 720h)")
	f.DurationVar(&cfg.RefreshMaxLife, "refresh-max-life", 0, "how long after its beginning a login can be renewed at all (default 8784h, which is the most)")
	f.DurationVar(&cfg.MaxTokenLife, "token-max-life", 0, "how long any token may live (default 720h, or --token-ttl if that is longer)")
}

func (o *options) declareRedis() {
	o.flags.StringVar(&o.cfg.Redis, "redis", node.DefaultRedis, "`URL` of Redis: redis://, redis+sentinel://host,host/master, redis+cluster://host,host; rediss in redis's place for TLS")
	o.flags.StringVar(&o.cfg.RedisCA, "redis-ca", "", "PEM `file` with the authorities that Redis's certificate must be from (default the system's)")
	o.flags.StringVar(&o.cfg.RedisCert, "redis-cert", "", "PEM `file` with the certificate that this node shows to Redis")
	o.flags.StringVar(&o.cfg.RedisKey, "redis-key", "", "PEM `file` with its key")
	o.flags.IntVar(&o.cfg.RedisWaitReplicas, "redis-wait-replicas", 0, "how many `replicas` must have what is acknowledged (default 0, which a failover may lose a little of)")
	o.flags.IntVar(&o.cfg.RedisMemoryReserve, "redis-memory-reserve", 0, "`percent` of Redis's maxmemory kept for what has begun: with less left nothing new is taken; negative for none (default 10)")
	o.flags.StringVar(&o.cfg.RedisPrefix, "redis-prefix", node.DefaultPrefix, "begins every key")
}

// parse reads the environment, then args over it.
func (o *options) parse(args []string, env func(string) (string, bool)) error {
	var bad error
	o.flags.VisitAll(func(f *flag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, ok := env(name); ok && bad == nil {
			if o.flags.Set(f.Name, v) != nil {
				bad = misuse("%s: not a valid value for --%s", name, f.Name)
			}
		}
	})
	if bad != nil {
		return bad
	}
	if err := o.flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		if like := spell.Flag(err, o.flags); like != "" {
			return misuse("%w; did you mean %s?", err, like)
		}
		return &usageError{err}
	}
	return o.readSecretFiles()
}

// oneSecret returns what was given itself or in a file, nil for neither.
func oneSecret(name, text, file string) ([]byte, error) {
	if file == "" {
		return []byte(text), nil
	}
	if text != "" {
		return nil, misuse("--%s and --%s-file exclude each other", name, name)
	}
	read, err := secret.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return []byte(strings.TrimSuffix(strings.TrimSuffix(string(read), "\n"), "\r")), nil
}

// config is the node's configuration with its secrets.
func (o *options) config() (node.Config, error) {
	cfg := o.cfg
	var err error
	if cfg.JWTSecret, err = oneSecret("jwt-secret", o.jwtSecret, o.jwtSecretFile); err != nil {
		return cfg, err
	}
	if cfg.JWTSecretPrevious, err = oneSecret("jwt-secret-previous", o.jwtPrevious, o.jwtPreviousFile); err != nil {
		return cfg, err
	}
	if o.shareKEK != "" {
		kek, err := base64.StdEncoding.DecodeString(o.shareKEK)
		if err != nil || len(kek) != 32 {
			return cfg, misuse("--share-kek must be 32 bytes in base64, for example the output of: openssl rand -base64 32")
		}
		cfg.ShareKEK = kek
	}
	if o.webhookSecretFile != "" {
		text, err := secret.ReadFile(o.webhookSecretFile)
		if err != nil {
			return cfg, fmt.Errorf("webhook-secret-file: %w", err)
		}
		if cfg.WebhookSecrets, err = webhookSecrets(string(text)); err != nil {
			return cfg, fmt.Errorf("webhook-secret-file: %w", err)
		}
	}
	if !(cfg.TraceRatio > 0 && cfg.TraceRatio <= 1) {
		return cfg, misuse("--trace-ratio must be more than 0 and up to 1; leave --otlp-endpoint out for no traces")
	}
	for _, pair := range list(o.jwksRoles) {
		at := strings.LastIndexByte(pair, '=')
		if at <= 0 {
			return cfg, misuse("--jwks-roles: %q is not NAME=ROLE", pair)
		}
		if cfg.JWKSRoles == nil {
			cfg.JWKSRoles = map[string]string{}
		}
		cfg.JWKSRoles[pair[:at]] = pair[at+1:]
	}
	cfg.AllowedOrigins, cfg.TrustedProxies, cfg.AdminHosts = list(o.origins), list(o.proxies), list(o.adminHosts)
	return cfg, nil
}

// list takes apart what is separated by commas.
func list(text string) []string {
	var all []string
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}
