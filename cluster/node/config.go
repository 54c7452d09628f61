package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/wsconn/webhook"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Config is a node's configuration. Only JWTSecret, or JWKS, is required.
type Config struct {
	// Listen is the address to serve on, host:port. Zero value means
	// 127.0.0.1:8080; port 0 takes a free one.
	Listen string
	// AdminAddr is the address, host:port, of a second listener that serves /metrics,
	// profiles (to this machine only), /healthz and /readyz, and asks nobody who they
	// are. Zero value means none, and that nothing is measured.
	AdminAddr string
	// AdminHosts are names by which that listener is asked besides IP addresses,
	// localhost and AdminAddr's own: those that a Prometheus scrapes by. Requests for
	// any other host are refused (DNS rebinding). Zero value means none.
	AdminHosts []string
	// OTLPEndpoint is the URL of an OpenTelemetry collector (OTLP over HTTP) that gets
	// traces of sessions. Zero value means that there are none.
	OTLPEndpoint string
	// TraceRatio is how many of the sessions are traced, from 0 to 1; it should be the
	// same on all nodes. Zero value means 1.
	TraceRatio float64
	// Redis is where all state is: redis://, redis+sentinel:// or redis+cluster://,
	// and with TLS rediss://, rediss+sentinel:// or rediss+cluster://. Zero value
	// means redis://127.0.0.1:6379/0.
	Redis string
	// RedisCA is a PEM file with the authorities that Redis's certificate must be
	// from. Zero value means the system's. RedisCert and RedisKey are PEM files with
	// what the node shows to Redis; both or neither. They are for TLS only, and the
	// certificate is read again for each new connection.
	RedisCA, RedisCert, RedisKey string
	// RedisPrefix begins every key. Zero value means "conclave:".
	RedisPrefix string
	// NodeID names the node: 1 to 128 letters, digits and _ . @ -, unique in the
	// cluster. Zero value means the host's name and a random suffix.
	NodeID string

	// JWTSecret verifies and issues tokens (HS256), at least 32 bytes. Whoever
	// has it can be any user; nobody can sign with a key by it, since shares stay
	// sealed to their owners. Nil means that only tokens by JWKS are taken, and
	// nobody can log in here.
	JWTSecret []byte
	// JWTSecretPrevious also verifies tokens, and issues none: the secret before
	// JWTSecret was changed, or the one that is to follow it. Nil means none.
	JWTSecretPrevious []byte
	// JWKS is a file or an http(s) URL with the public keys of another issuer, whose
	// tokens are taken as well: it may name any user in any role. Zero value means
	// none.
	JWKS string
	// JWTIssuer and JWTAudience, where set, must be a token's iss and aud.
	// JWKSIssuer and JWKSAudience, where set, must be in their place for tokens that
	// are verified by JWKS. With a JWKS there must be both, here or there: AnyClaim
	// says that anything shall do.
	JWTIssuer, JWTAudience   string
	JWKSIssuer, JWKSAudience string
	// JWKSUserClaim and JWKSRolesClaim are the claims that name the user and its roles
	// in tokens by JWKS: a claim's name, or, beginning with /, a JSON pointer to one
	// within others. Zero values mean sub, and role and roles. Subjects that are no
	// user ids are mapped by wire.UserOf.
	JWKSUserClaim, JWKSRolesClaim string
	// JWKSRoles are the issuer's names of the roles, each mapped to coordinator,
	// participant or admin; no others count then. Nil means these three themselves.
	JWKSRoles map[string]string
	// TokenTTL is how long a token from POST /v1/login is good. Zero value means
	// 12 hours.
	TokenTTL time.Duration
	// MaxTokenLife is how long any token may live; longer ones are refused. Zero
	// value means 30 days, or TokenTTL if that is longer.
	MaxTokenLife time.Duration
	// RefreshTTL is how long a login can be renewed after it was last, by the refresh
	// token that POST /v1/login gives to clients that ask for one. Zero value means 30
	// days; negative means that none is given.
	RefreshTTL time.Duration
	// RefreshMaxLife is how long after its beginning a login can be renewed at all.
	// Zero value means 366 days, which is the most.
	RefreshMaxLife time.Duration
	// ShareKEK is the share key-encryption key, 32 bytes. With it the node takes
	// shares that their clients have not sealed and stores them encrypted: whoever
	// has it and Redis has those shares. Nil means that they are refused.
	ShareKEK []byte

	// InviteTimeout is how long participants have to answer. Zero value means 2m.
	InviteTimeout time.Duration
	// KeygenTimeout is how long a keygen may run. Zero value means 5m.
	KeygenTimeout time.Duration
	// SignTimeout is how long one attempt of a signing may run. Zero value means 1m.
	SignTimeout time.Duration
	// AbsenceGrace is how long a needed party may be without a socket before the
	// session goes on without it. Zero value means 20s.
	AbsenceGrace time.Duration
	// SessionRetention is how long a session is kept after its end. Zero value
	// means 72h.
	SessionRetention time.Duration

	// MaxMessageBytes is the longest WebSocket frame and HTTP body. Zero value
	// means 1 MiB.
	MaxMessageBytes int
	// MaxParties is the largest committee. Zero value means 16.
	MaxParties int
	// RateLimit is how many messages a second one connection may send for long, and
	// also one user over all its connections, one after the other or at once; twice
	// that at once. A call of the web API counts as 10, an entry of a list as 1; bytes
	// are RateLimitBytes'. Zero value means 1000; negative means no limit.
	RateLimit float64
	// RateLimitBytes is how many bytes a second one user may send this node for long,
	// in messages and in bodies of web calls; four times that at once. Its sockets are
	// read no faster, and calls beyond it are refused. Zero value means 2 MiB; negative means
	// no limit. It must be at least 256 KiB, and a quarter of MaxMessageBytes.
	RateLimitBytes int
	// RequestLimit is how many keygens and signings a second one user may ask this
	// node for, by WebSocket and web API together, for long; twice that at once.
	// Zero value means 50; negative means no limit.
	RequestLimit float64
	// MaxOpenSessions is how many keygens and signings that one user has asked for
	// may be open in the cluster at a time. Zero value means 1024; negative means no
	// limit.
	MaxOpenSessions int
	// MaxOpenBytes is how many bytes of Redis these may take, with what they have
	// said and may still say to participants. It must have room for the largest that
	// MaxParties allows. Zero value means 64 MiB, or that; negative means no limit.
	MaxOpenBytes int64
	// MaxEndedBytes is how many bytes of one user's ended sessions, reserved key ids
	// and notes of idempotency keys are kept for SessionRetention and a week. Four
	// times as many beyond that are kept for 15 minutes, and beyond those nothing new may
	// begin. Zero value means 8 MiB; negative means no limit.
	MaxEndedBytes int64
	// MaxKeyBytes is how many bytes the keys, with their shares, may take that one
	// user has asked for since this is counted. Zero value means 256 MiB; negative
	// means no limit.
	MaxKeyBytes int64
	// UnknownUsers says what becomes of a request that names a participant of whom
	// nothing is known here: UnknownRefuse, UnknownAllow or UnknownAuto, which it is
	// with the zero value.
	UnknownUsers string
	// RegisterLimit is how often a second one user may register on this node for
	// long; ten times that at once. Zero value means 10; negative means no limit.
	RegisterLimit float64
	// LoginLimit is how many logins to one account may fail from one address (of
	// IPv6, one /64) at once, and as many an hour for long; from an address that the
	// account has been logged in to from in the last 90 days, as many each 10 minutes.
	// LoginAddressLimit is how many may fail from one address a minute, and at once, on
	// all accounts that do not know it. LoginAccountLimit is how many may fail at one
	// account a day, and a fifth of that at once, from all addresses that it does not
	// know. All are of the cluster, and a login that succeeds costs nothing. Zero values
	// mean 10, 100 and 1000; negative ones no limit.
	LoginLimit        int
	LoginAddressLimit int
	LoginAccountLimit int
	// TrustedProxies are the addresses, or networks in CIDR notation, of load
	// balancers that name the client's address in X-Forwarded-For, for
	// LoginAddressLimit. Without it everyone behind one has its address.
	TrustedProxies []string
	// MaxConnections is how many sockets this node holds. Zero value means as many
	// as the process may open files, less an eighth and 128; negative means no limit.
	MaxConnections int
	// MaxUnregistered is how many of them may not have begun to register; beyond it
	// the oldest is closed. Zero value means 16384.
	MaxUnregistered int
	// AllowedOrigins lists origins, besides the node's own, from which browsers
	// may connect.
	AllowedOrigins []string

	// TLSCert and TLSKey are PEM files; both or neither. They are read again when
	// they change.
	TLSCert, TLSKey string
	// RequireDurableRedis makes Start fail, rather than warn, when Redis may
	// forget what it was told.
	RequireDurableRedis bool
	// RedisMemoryReserve is how much of Redis's maxmemory, in percent, is kept for
	// what has begun: where less is left, nothing new is taken (storage_full). Zero
	// value means 10; negative means none, and that Redis itself refuses.
	RedisMemoryReserve int
	// RedisWaitReplicas is how many replicas must have a key, a share, a session's
	// step or a mailbox's message before it is acknowledged to anyone; with fewer in
	// reach the node answers "unavailable". Zero value means that the master alone
	// is enough, and that its failover may lose the newest of them.
	RedisWaitReplicas int
	// Webhook is a URL that is told of each session's outcome, signed under
	// WebhookSecrets: several while one is exchanged for another. All nodes of a
	// cluster should have the same. Zero values mean that nobody is told.
	Webhook        string
	WebhookSecrets [][]byte
	// DrainSpread is over how long Stop closes the sockets. Zero value means 3s.
	DrainSpread time.Duration
	// Log receives the node's log. Nil means none.
	Log *zerolog.Logger

	proxies     []netip.Prefix // TrustedProxies
	certificate *certificate   // nil without TLS
}

// What Config's zero values mean.
const (
	DefaultListen          = "127.0.0.1:8080"
	DefaultAdminAddr       = "127.0.0.1:0" // of conclaved; Config's is none
	DefaultRedis           = "redis://127.0.0.1:6379/0"
	DefaultPrefix          = accounts.DefaultPrefix
	DefaultMaxMessageBytes = wire.DefaultMaxMessageBytes
	DefaultMaxParties      = wire.DefaultMaxParties
)

// ErrNoVerifier is returned by New for a Config without anything to verify
// tokens with.
var ErrNoVerifier = errors.New("no key to verify tokens: set --jwt-secret (CONCLAVE_JWT_SECRET) to at least 32 bytes, " +
	"for example the output of: openssl rand -hex 32; or set --jwks to the keys of another issuer")

// complete checks cfg and fills in what is left out.
func (cfg *Config) complete() error {
	if cfg.Log == nil {
		nop := zerolog.Nop()
		cfg.Log = &nop
	}
	for _, d := range []struct {
		field  *string
		preset string
	}{{&cfg.Listen, DefaultListen}, {&cfg.Redis, DefaultRedis}, {&cfg.RedisPrefix, DefaultPrefix}, {&cfg.NodeID, defaultNodeID()}} {
		if *d.field == "" {
			*d.field = d.preset
		}
	}
	if !wire.ValidID(cfg.NodeID) {
		return fmt.Errorf("node id %q: %s", cfg.NodeID, wire.IDRule)
	}
	if cfg.TraceRatio == 0 {
		cfg.TraceRatio = 1
	}
	if cfg.MaxMessageBytes == 0 {
		cfg.MaxMessageBytes = wire.DefaultMaxMessageBytes
	}
	for name, d := range map[string]time.Duration{
		"invite timeout": cfg.InviteTimeout, "keygen timeout": cfg.KeygenTimeout, "sign timeout": cfg.SignTimeout,
		"absence grace": cfg.AbsenceGrace, "session retention": cfg.SessionRetention, "token ttl": cfg.TokenTTL,
	} {
		if d < 0 {
			return fmt.Errorf("%s is negative", name)
		}
	}
	if err := cfg.completeTokens(); err != nil {
		return err
	}
	if cfg.MaxParties < 0 || cfg.MaxParties == 1 || cfg.MaxParties > wire.MaxParties {
		return fmt.Errorf("max parties must be from 2 to %d", wire.MaxParties)
	}
	if cfg.RedisMemoryReserve > 90 {
		return errors.New("redis memory reserve must be at most 90 percent")
	}
	if cfg.RedisWaitReplicas < 0 {
		return errors.New("redis wait replicas is negative")
	}
	if cfg.MaxMessageBytes < 64<<10 {
		return errors.New("max message bytes must be at least 65536: round messages of a keygen are tens of kilobytes")
	}
	if err := webhook.Check(cfg.Webhook, cfg.WebhookSecrets); err != nil {
		return err
	}
	if err := cfg.completeLimits(); err != nil {
		return err
	}
	return cfg.loadTLS()
}

// defaultNodeID is unique even when a node starts again on the same host at
// once: a dead node's presence must not look alive.
func defaultNodeID() string {
	host, err := os.Hostname()
	host = strings.ReplaceAll(host, " ", "-")
	if err != nil || !wire.ValidID(host) || len(host) > 100 {
		host = "node"
	}
	return host + "-" + strings.ToLower(rand.Text()[:8])
}
