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
	// AdminAddr is the address, host:port, of a second, unauthenticated listener
	// that serves /metrics, profiles (to this machine only), /healthz and /readyz.
	// Zero value means no listener and no metrics.
	AdminAddr string
	// AdminHosts are Host names that listener accepts besides IP addresses, localhost
	// and AdminAddr's own, such as those that a Prometheus scrapes. Requests for any
	// other host are refused (DNS rebinding). Zero value means none.
	AdminHosts []string
	// OTLPEndpoint is the URL of an OpenTelemetry collector (OTLP over HTTP) for
	// traces of sessions. Zero value disables tracing.
	OTLPEndpoint string
	// TraceRatio is the fraction of sessions traced, from 0 to 1; it should be the
	// same on all nodes. Zero value means 1.
	TraceRatio float64
	// Redis is the URL of the store of all state: redis://, redis+sentinel:// or
	// redis+cluster://, and with TLS rediss://, rediss+sentinel:// or
	// rediss+cluster://. Zero value means redis://127.0.0.1:6379/0.
	Redis string
	// RedisCA is a PEM file with the authorities that must have issued Redis's
	// certificate. Zero value means the system's. RedisCert and RedisKey are PEM
	// files of the node's client certificate; both or neither. They are for TLS
	// only, and the certificate is reloaded for each new connection.
	RedisCA, RedisCert, RedisKey string
	// RedisPrefix begins every key. Zero value means "conclave:".
	RedisPrefix string
	// NodeID names the node: 1 to 128 letters, digits and _ . @ -, unique in the
	// cluster. Zero value means the host's name and a random suffix.
	NodeID string

	// JWTSecret verifies and issues tokens (HS256), at least 32 bytes. Its holder
	// can act as any user, but cannot sign with a key, since shares stay sealed to
	// their owners. Nil means that only JWKS tokens are accepted, and logins are
	// disabled.
	JWTSecret []byte
	// JWTSecretPrevious also verifies tokens, but issues none: the secret before
	// JWTSecret was changed, or the next one. Nil means none.
	JWTSecretPrevious []byte
	// JWKS is a file or an http(s) URL with the public keys of another issuer,
	// whose tokens are also accepted: it may name any user in any role. Zero value
	// means none.
	JWKS string
	// JWTIssuer and JWTAudience, if set, must be a token's iss and aud. JWKSIssuer
	// and JWKSAudience, if set, replace them for tokens verified by JWKS. With a
	// JWKS both are required, here or there: AnyClaim accepts any value.
	JWTIssuer, JWTAudience   string
	JWKSIssuer, JWKSAudience string
	// JWKSUserClaim and JWKSRolesClaim are the claims that name the user and its
	// roles in tokens by JWKS: a claim's name, or, beginning with /, a JSON pointer
	// to a nested one. Zero values mean sub, and role and roles. Subjects that are
	// not user ids are mapped by wire.UserOf.
	JWKSUserClaim, JWKSRolesClaim string
	// JWKSRoles maps the issuer's role names to coordinator, participant or admin;
	// all others are ignored. Nil means these three themselves.
	JWKSRoles map[string]string
	// TokenTTL is the lifetime of a token from POST /v1/login. Zero value means 12
	// hours.
	TokenTTL time.Duration
	// MaxTokenLife is the maximum lifetime of any token; longer ones are refused.
	// Zero value means 30 days, or TokenTTL if that is longer.
	MaxTokenLife time.Duration
	// RefreshTTL is how long after its last renewal a login can be renewed, with
	// the refresh token that POST /v1/login issues on request. Zero value means 30
	// days; negative means that none is issued.
	RefreshTTL time.Duration
	// RefreshMaxLife is how long after its beginning a login can be renewed at all.
	// Zero value means 366 days, the maximum.
	RefreshMaxLife time.Duration
	// ShareKEK is the share key-encryption key, 32 bytes. With it the node accepts
	// shares that their clients have not sealed and stores them encrypted: the
	// holder of it and of Redis has those shares. Nil means that they are refused.
	ShareKEK []byte

	// InviteTimeout is the time participants have to answer. Zero value means 2m.
	InviteTimeout time.Duration
	// KeygenTimeout is how long a keygen may run. Zero value means 5m.
	KeygenTimeout time.Duration
	// SignTimeout is how long one attempt of a signing may run. Zero value means 1m.
	SignTimeout time.Duration
	// AbsenceGrace is how long a needed party may be without a socket before the
	// session continues without it. Zero value means 20s.
	AbsenceGrace time.Duration
	// SessionRetention is how long a session is kept after its end. Zero value
	// means 72h.
	SessionRetention time.Duration

	// MaxMessageBytes limits a WebSocket frame and an HTTP body. Zero value means 1
	// MiB.
	MaxMessageBytes int
	// MaxParties is the largest committee. Zero value means 16.
	MaxParties int
	// RateLimit is the sustained number of messages a second from one connection,
	// and from one user over all connections, concurrent or successive; the burst is
	// twice that. A web API call counts as 10, an entry of a list as 1; bytes are
	// limited by RateLimitBytes. Zero value means 1000; negative means no limit.
	RateLimit float64
	// RateLimitBytes is the sustained number of bytes a second one user may send this
	// node, in messages and web call bodies; the burst is four times that. Its sockets
	// are read no faster, and calls beyond it are refused. Zero value means 2 MiB;
	// negative means no limit. At least 256 KiB, and a quarter of MaxMessageBytes.
	RateLimitBytes int
	// RequestLimit is the sustained number of keygens and signings a second one
	// user may request from this node, by WebSocket and web API together; the burst
	// is twice that. Zero value means 50; negative means no limit.
	RequestLimit float64
	// MaxOpenSessions limits the keygens and signings requested by one user that
	// are open in the cluster at one time. Zero value means 1024; negative means no
	// limit.
	MaxOpenSessions int
	// MaxOpenBytes limits the bytes of Redis these may take, including messages sent
	// and still to be sent to participants. It must have room for the largest that
	// MaxParties allows. Zero value means 64 MiB, or that; negative means no limit.
	MaxOpenBytes int64
	// MaxEndedBytes is how many bytes of one user's ended sessions, reserved key
	// ids and notes of idempotency keys are kept for SessionRetention and a week.
	// Four times as many beyond that are kept for 15 minutes; beyond those, new
	// requests are refused. Zero value means 8 MiB; negative means no limit.
	MaxEndedBytes int64
	// MaxKeyBytes limits the bytes of the keys, with their shares, that one user
	// has requested since this is counted. Zero value means 256 MiB; negative means
	// no limit.
	MaxKeyBytes int64
	// UnknownUsers sets how a request that names an unknown participant is treated:
	// UnknownRefuse, UnknownAllow or UnknownAuto, the zero value.
	UnknownUsers string
	// RegisterLimit is one user's sustained number of registrations a second on this
	// node; the burst is ten times that. Zero value means 10; negative means no limit.
	RegisterLimit float64
	// LoginLimit is how many logins to one account may fail from one address (for
	// IPv6, one /64) at once, and then as many an hour; from an address that the
	// account has logged in from in the last 90 days, as many each 10 minutes.
	// LoginAddressLimit is how many may fail from one address a minute, and at once,
	// on all accounts for which it is unknown. LoginAccountLimit is how many may
	// fail at one account a day, and a fifth of that at once, from all addresses
	// unknown to it. All apply to the whole cluster, and a successful login costs
	// nothing. Zero values mean 10, 100 and 1000; negative ones no limit.
	LoginLimit        int
	LoginAddressLimit int
	LoginAccountLimit int
	// TrustedProxies are the addresses, or networks in CIDR notation, of load
	// balancers that name the client's address in X-Forwarded-For, for
	// LoginAddressLimit. Without it all clients behind one share its address.
	TrustedProxies []string
	// MaxConnections limits this node's sockets. Zero value means the process's
	// limit of open files, less an eighth and 128; negative means no limit.
	MaxConnections int
	// MaxUnregistered limits those that have not begun to register; beyond it the
	// oldest is closed. Zero value means 16384.
	MaxUnregistered int
	// AllowedOrigins lists origins, besides the node's own, from which browsers
	// may connect.
	AllowedOrigins []string

	// TLSCert and TLSKey are PEM files; both or neither. They are reloaded when
	// they change.
	TLSCert, TLSKey string
	// RequireDurableRedis makes Start fail, rather than warn, when Redis may lose
	// confirmed writes.
	RequireDurableRedis bool
	// RedisMemoryReserve is the part of Redis's maxmemory, in percent, kept for
	// sessions in progress: with less left, new requests are refused (storage_full).
	// Zero value means 10; negative means none, so that only Redis itself refuses.
	RedisMemoryReserve int
	// RedisWaitReplicas is how many replicas must have a key, a share, a session's
	// step or a mailbox's message before it is acknowledged; with fewer reachable
	// the node answers "unavailable". Zero value means that the master alone is
	// enough, and that its failover may lose the newest writes.
	RedisWaitReplicas int
	// Webhook is a URL that receives each session's outcome, signed under
	// WebhookSecrets: several during a rotation. All nodes of a cluster should have
	// the same. Zero values disable it.
	Webhook        string
	WebhookSecrets [][]byte
	// DrainSpread is the time over which Stop closes the sockets. Zero value means 3s.
	DrainSpread time.Duration
	// Log receives the node's log. Nil means none.
	Log *zerolog.Logger

	proxies     []netip.Prefix // TrustedProxies
	certificate *certificate   // nil without TLS
}

// Defaults for Config's zero values.
const (
	DefaultListen          = "127.0.0.1:8080"
	DefaultAdminAddr       = "127.0.0.1:0" // conclaved's default; Config's zero value means no admin listener
	DefaultRedis           = "redis://127.0.0.1:6379/0"
	DefaultPrefix          = accounts.DefaultPrefix
	DefaultMaxMessageBytes = wire.DefaultMaxMessageBytes
	DefaultMaxParties      = wire.DefaultMaxParties
)

// ErrNoVerifier is returned by New for a Config without any key to verify tokens.
var ErrNoVerifier = errors.New("no key to verify tokens: set --jwt-secret (CONCLAVE_JWT_SECRET) to at least 32 bytes, " +
	"for example the output of: openssl rand -hex 32; or set --jwks to the keys of another issuer")

// complete checks cfg and sets defaults.
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

// defaultNodeID is unique even when a node restarts on the same host at once: a
// dead node's presence must not look live.
func defaultNodeID() string {
	host, err := os.Hostname()
	host = strings.ReplaceAll(host, " ", "-")
	if err != nil || !wire.ValidID(host) || len(host) > 100 {
		host = "node"
	}
	return host + "-" + strings.ToLower(rand.Text()[:8])
}
