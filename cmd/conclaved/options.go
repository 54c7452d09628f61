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

// options is the command line, with the environment as its defaults.
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
	f.StringVar(&cfg.Listen, "listen", node.DefaultListen, "`address` to serve WebSocket and HTTP on; behind a load balancer, an address that it can reach")
	f.StringVar(&cfg.AdminAddr, "admin-addr", node.DefaultAdminAddr, "`address` of the admin listener: unauthenticated /metrics, pprof and health; port 0 picks a free port, which is logged; empty disables it")
	f.StringVar(&o.adminHosts, "admin-hosts", "", "host `names`, separated by commas, that the admin listener accepts besides IP addresses and localhost; requests to other hosts are refused")
	f.StringVar(&cfg.OTLPEndpoint, "otlp-endpoint", "", "`URL` of an OpenTelemetry collector (OTLP over HTTP) for traces of sessions (default none)")
	f.Float64Var(&cfg.TraceRatio, "trace-ratio", 1, "`fraction` of the sessions to trace, above 0 and up to 1; must be the same on all nodes")
	f.StringVar(&cfg.NodeID, "node-id", "", "`name` of this node, unique in the cluster (default the host's name and a random suffix)")
	o.declareTokens()
	f.StringVar(&o.shareKEK, "share-kek", "", "share key-encryption key, 32 bytes in `base64`; needed only for clients that do not seal their shares")
	f.DurationVar(&cfg.InviteTimeout, "invite-timeout", 0, "`duration` that participants have to answer an invitation (default 2m)")
	f.DurationVar(&cfg.KeygenTimeout, "keygen-timeout", 0, "maximum `duration` of a keygen (default 5m)")
	f.DurationVar(&cfg.SignTimeout, "sign-timeout", 0, "maximum `duration` of one signing attempt (default 1m)")
	f.DurationVar(&cfg.AbsenceGrace, "absence-grace", 0, "`duration` for which a required party may be disconnected before the session continues without it (default 20s)")
	f.DurationVar(&cfg.SessionRetention, "session-retention", 0, "`duration` for which a session is kept after its end (default 72h)")
	f.IntVar(&cfg.MaxMessageBytes, "max-message-bytes", node.DefaultMaxMessageBytes, "maximum size of a WebSocket message and of an HTTP body, in `bytes`")
	f.IntVar(&cfg.MaxParties, "max-parties", node.DefaultMaxParties, "maximum number `n` of parties of a key")
	o.declareLimits()
	f.StringVar(&o.origins, "allowed-origins", "", "`origins`, separated by commas, from which browsers may connect, besides the server's own")
	f.StringVar(&cfg.TLSCert, "tls-cert", "", "PEM `file` with the TLS certificate chain, reloaded when it changes; without it --listen serves plain HTTP, for a load balancer that terminates TLS")
	f.StringVar(&cfg.TLSKey, "tls-key", "", "PEM `file` with the key of --tls-cert")
	f.BoolVar(&cfg.RequireDurableRedis, "require-durable-redis", false, "refuse to start if Redis may lose data (appendonly no, or an eviction policy)")
	f.DurationVar(&cfg.DrainSpread, "drain-spread", 0, "`duration` over which sockets are closed on SIGTERM (default 3s)")
	f.StringVar(&cfg.Webhook, "webhook", "", "`URL` that receives each session's outcome in a signed request")
	f.StringVar(&o.webhookSecretFile, "webhook-secret-file", "", "`file` with the secret that signs webhook requests; during a rotation several secrets, one per line")
	f.StringVar(&o.logLevel, "log-level", "info", "log `level`: debug, info, warn or error")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	return o
}

// declareLimits declares the limits of one user, one account, one address and all
// together.
func (o *options) declareLimits() {
	f, cfg := o.flags, &o.cfg
	f.Float64Var(&cfg.RateLimit, "rate-limit", 0, "sustained messages per second of one connection and of one user; negative for no limit (default 1000)")
	f.IntVar(&cfg.RateLimitBytes, "rate-limit-bytes", 0, "sustained `bytes` per second of one user; negative for no limit (default 2097152)")
	f.Float64Var(&cfg.RequestLimit, "request-limit", 0, "sustained keygen and sign requests per second of one user; negative for no limit (default 50)")
	f.IntVar(&cfg.MaxOpenSessions, "max-open-sessions", 0, "maximum open keygens and signings of one coordinator; negative for no limit (default 1024)")
	f.Int64Var(&cfg.MaxOpenBytes, "max-open-bytes", 0, "maximum `bytes` of Redis memory for the open sessions of one coordinator; negative for no limit (default 67108864, or the size of the largest session if more)")
	f.Int64Var(&cfg.MaxEndedBytes, "max-ended-bytes", 0, "`bytes` of one coordinator's ended sessions that are kept for --session-retention; up to four times as many are kept for 15 minutes, beyond that new sessions are refused; negative for no limit (default 8388608)")
	f.Int64Var(&cfg.MaxKeyBytes, "max-key-bytes", 0, "maximum `bytes` of Redis memory for the keys of one coordinator; negative for no limit (default 268435456)")
	f.StringVar(&cfg.UnknownUsers, "unknown-users", node.UnknownAuto, "`mode` for requests that name unknown participants: refuse, allow, or auto, which refuses them if the coordinator has an account and --jwks is not set")
	f.Float64Var(&cfg.RegisterLimit, "register-limit", 0, "sustained connections per second of one user; negative for no limit (default 10)")
	f.IntVar(&cfg.LoginLimit, "login-limit", 0, "failed logins to one account from one address: the burst, and the number per hour; negative for no limit (default 10)")
	f.IntVar(&cfg.LoginAddressLimit, "login-address-limit", 0, "failed logins per minute from one address, over all accounts without an earlier login from it; negative for no limit (default 100)")
	f.IntVar(&cfg.LoginAccountLimit, "login-account-limit", 0, "failed logins per day to one account, from all addresses without an earlier login to it; negative for no limit (default 1000)")
	f.StringVar(&o.proxies, "trusted-proxies", "", "`addresses` or networks of load balancers, separated by commas, whose X-Forwarded-For header is trusted")
	f.IntVar(&cfg.MaxConnections, "max-connections", 0, "maximum open sockets of this node; negative for no limit (default derived from the limit of open files)")
	f.IntVar(&cfg.MaxUnregistered, "max-unregistered", 0, "maximum open sockets that have not begun to register (default 16384)")
}

func (o *options) declareTokens() {
	f, cfg := o.flags, &o.cfg
	f.StringVar(&o.jwtSecret, "jwt-secret", "", "`secret` that signs and verifies tokens (HS256), at least 32 bytes, used verbatim; required unless --jwks is given")
	f.StringVar(&o.jwtSecretFile, "jwt-secret-file", "", "`file` with the secret of --jwt-secret; one trailing line break is ignored")
	f.StringVar(&o.jwtPrevious, "jwt-secret-previous", "", "second `secret` that verifies tokens but does not sign them: the previous or the next one during a rotation")
	f.StringVar(&o.jwtPreviousFile, "jwt-secret-previous-file", "", "`file` with the secret of --jwt-secret-previous")
	f.StringVar(&cfg.JWKS, "jwks", "", "`file or URL` with the public keys of another issuer, whose tokens are accepted too (RS256, ES256, EdDSA)")
	f.StringVar(&cfg.JWTIssuer, "jwt-issuer", "", "`iss` that tokens must have (default any)")
	f.StringVar(&cfg.JWTAudience, "jwt-audience", "", "`aud` that tokens must have (default any)")
	f.StringVar(&cfg.JWKSIssuer, "jwks-issuer", "", "`iss` that tokens verified by --jwks must have, or * for any (default --jwt-issuer; one of them is required)")
	f.StringVar(&cfg.JWKSAudience, "jwks-audience", "", "`aud` that tokens verified by --jwks must have, or * for any (default --jwt-audience; one of them is required)")
	f.StringVar(&cfg.JWKSUserClaim, "jwks-user-claim", "", "`claim` with the user in tokens verified by --jwks: its name, or a JSON pointer like /user/name (default sub)")
	f.StringVar(&cfg.JWKSRolesClaim, "jwks-roles-claim", "", "`claim` with the roles in tokens verified by --jwks: its name, or a JSON pointer like /realm_access/roles (default role and roles)")
	f.StringVar(&o.jwksRoles, "jwks-roles", "", "`mapping` of the issuer's role names to roles, like signers=participant,ops=admin; other names are ignored (default coordinator, participant and admin)")
	f.DurationVar(&cfg.TokenTTL, "token-ttl", 0, "`duration` for which a token from login is valid (default 12h)")
	f.DurationVar(&cfg.RefreshTTL, "refresh-ttl", 0, "`duration` for which a login can be renewed after its last renewal; negative disables refresh tokens (default 720h)")
	f.DurationVar(&cfg.RefreshMaxLife, "refresh-max-life", 0, "`duration` for which a login can be renewed after it began (default and maximum 8784h)")
	f.DurationVar(&cfg.MaxTokenLife, "token-max-life", 0, "maximum lifetime of any token, a `duration` (default 720h, or --token-ttl if that is longer)")
}

func (o *options) declareRedis() {
	o.flags.StringVar(&o.cfg.Redis, "redis", node.DefaultRedis, "`URL` of Redis: redis://, redis+sentinel://host,host/master or redis+cluster://host,host; with rediss instead of redis for TLS")
	o.flags.StringVar(&o.cfg.RedisCA, "redis-ca", "", "PEM `file` with the CA certificates for Redis's certificate (default the system's)")
	o.flags.StringVar(&o.cfg.RedisCert, "redis-cert", "", "PEM `file` with the client certificate that this node presents to Redis")
	o.flags.StringVar(&o.cfg.RedisKey, "redis-key", "", "PEM `file` with the key of --redis-cert")
	o.flags.IntVar(&o.cfg.RedisWaitReplicas, "redis-wait-replicas", 0, "number of `replicas` that must hold a write before it is acknowledged (default 0: a failover may lose the newest writes)")
	o.flags.IntVar(&o.cfg.RedisMemoryReserve, "redis-memory-reserve", 0, "`percent` of Redis's maxmemory reserved for running sessions: with less free memory new sessions are refused; negative for no reserve (default 10)")
	o.flags.StringVar(&o.cfg.RedisPrefix, "redis-prefix", node.DefaultPrefix, "`prefix` of every key in Redis")
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

// oneSecret returns a secret given directly or in a file, nil for neither.
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

// list splits a comma-separated list.
func list(text string) []string {
	var all []string
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}
