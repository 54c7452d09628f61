package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/httpapi"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// DefaultMaxTokenLife is a token's maximum lifetime, unless login issues longer ones.
const DefaultMaxTokenLife = 30 * 24 * time.Hour

// tokens holds a node's means to verify and issue tokens.
type tokens struct {
	own      *auth.HS256 // nil: no own tokens
	other    *auth.JWKS  // nil: no other issuer
	revoked  *accounts.Revocations
	renewals *accounts.Renewals // nil: logins cannot be renewed
	verifier auth.Verifier      // all of the above
}

// assembleTokens makes n.tokens.
func (n *Node) assembleTokens() (err error) {
	cfg, t := &n.cfg, &n.tokens
	t.revoked, err = accounts.NewRevocations(accounts.RevocationsConfig{
		Redis: n.rdb, Durable: n.durable, Prefix: cfg.RedisPrefix,
		Changed: n.closeRevoked,
		Stale:   func() { n.sockets.Close(wire.CloseUnavailable) },
		Report:  func(err error) { n.log.Warn().Err(err).Msg("revoked tokens not read") },
	})
	if err != nil {
		return err
	}
	if len(cfg.JWTSecret) > 0 {
		options := []auth.Option{auth.WithMaxLife(cfg.MaxTokenLife), auth.WithIssueClock(func() time.Time { return n.cluster.Now() })}
		if len(cfg.JWTSecretPrevious) > 0 {
			options = append(options, auth.WithPrevious(cfg.JWTSecretPrevious))
		}
		if t.own, err = auth.NewHS256(cfg.JWTSecret, cfg.JWTIssuer, cfg.JWTAudience, options...); err != nil {
			return fmt.Errorf("tokens: %w", err)
		}
	}
	if cfg.JWKS != "" {
		t.other, err = auth.NewJWKS(auth.JWKSConfig{
			Source: cfg.JWKS, Issuer: demanded(cfg.JWKSIssuer, cfg.JWTIssuer), Audience: demanded(cfg.JWKSAudience, cfg.JWTAudience),
			UserClaim: cfg.JWKSUserClaim, RolesClaim: cfg.JWKSRolesClaim, Roles: cfg.JWKSRoles,
			MaxLife: cfg.MaxTokenLife, Changed: n.closeRevoked,
			Report: func(err error) { n.log.Warn().Err(err).Msg("jwks") },
		})
		if err != nil {
			return err
		}
	}
	switch {
	case t.own != nil && t.other != nil:
		t.verifier = auth.Issuers{Own: t.own, Other: t.other}
	case t.other != nil:
		t.verifier = t.other
	default:
		t.verifier = t.own
	}
	t.verifier = doubtGuard{auth.Guard(t.verifier, t.revoked), n.doubts, n.disagrees}
	return nil
}

// or returns the first non-empty argument.
func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// AnyClaim in [Config.JWKSIssuer] and [Config.JWKSAudience] accepts any value.
const AnyClaim = "*"

// demanded is the required value of a claim of a JWKS token; empty for any.
func demanded(own, common string) string {
	if own == AnyClaim {
		return ""
	}
	return or(own, common)
}

// still returns an error for claims that are no longer valid.
func (t *tokens) still(c auth.Claims) error {
	if t.other != nil {
		if err := t.other.Check(c); err != nil {
			return err
		}
	}
	return t.revoked.Check(c)
}

// closeRevoked ends the sockets whose tokens are no longer valid.
func (n *Node) closeRevoked() {
	if closed := n.sockets.CloseRevoked(); closed > 0 {
		n.log.Info().Int("connections", closed).Msg("closed sockets of revoked tokens")
	}
}

// issue adds token issuing to the web API, if this cluster does it.
func (t *tokens) issue(cfg *httpapi.Config, users *accounts.Store) {
	cfg.Verifier, cfg.Revoker = t.verifier, users
	if t.own != nil {
		cfg.Logins, cfg.Issuer, cfg.Accounts = users, t.own, users
	}
	if t.renewals != nil { // not a nil pointer in an interface
		cfg.Renewals = t.renewals
	}
}

// assembleRenewals makes n.tokens.renewals, if logins can be renewed.
func (n *Node) assembleRenewals(users *accounts.Store) (err error) {
	if n.tokens.own == nil || n.cfg.RefreshTTL < 0 {
		return nil
	}
	n.tokens.renewals, err = accounts.NewRenewals(accounts.RenewalsConfig{
		Redis: n.durable, Prefix: n.cfg.RedisPrefix, Tokens: n.tokens.own, Accounts: users, Revoked: n.tokens.revoked,
		TokenTTL: n.cfg.TokenTTL, Idle: n.cfg.RefreshTTL, Longest: n.cfg.RefreshMaxLife,
	})
	return err
}

// load reads revocations and keys before any token is verified. A JWKS server that
// does not answer must not keep a node down: until it does, tokens of its issuer
// are answered "unavailable".
func (n *Node) loadTokens(ctx context.Context) error {
	if err := n.tokens.revoked.Load(ctx); err != nil {
		return err
	}
	j := n.tokens.other
	if j == nil {
		return nil
	}
	if n.cfg.JWKSAudience == AnyClaim {
		n.log.Warn().Msg("no audience is required of tokens of the JWKS: tokens for other services are accepted; see --jwks-audience")
	}
	if n.cfg.JWKSIssuer == AnyClaim {
		n.log.Warn().Msg("no issuer is required of tokens of the JWKS; see --jwks-issuer")
	}
	if err := j.Load(ctx); err != nil && !j.Remote() {
		return err
	}
	return nil
}

// runTokens refreshes both until ctx ends.
func (n *Node) runTokens(ctx context.Context) {
	n.running.Go(func() error { return n.tokens.revoked.Run(ctx) })
	if n.tokens.other != nil {
		n.running.Go(func() error { return n.tokens.other.Run(ctx) })
	}
}

// errOpenJWKS keeps a node from accepting tokens issued for other services unless
// configured to.
var errOpenJWKS = errors.New("an issuer and an audience must be required of tokens of the JWKS, or tokens that it issues " +
	"for other services are accepted here: set --jwks-issuer and --jwks-audience, or \"*\" for any")

// completeTokens checks the token settings and sets defaults.
func (cfg *Config) completeTokens() error {
	switch {
	case len(cfg.JWTSecret) == 0 && cfg.JWKS == "":
		return ErrNoVerifier
	case len(cfg.JWTSecret) == 0 && len(cfg.JWTSecretPrevious) > 0:
		return errors.New("a previous JWT secret needs a current one: it verifies tokens but does not sign them")
	case cfg.JWKS == "" && cfg.JWKSIssuer+cfg.JWKSAudience != "":
		return errors.New("an issuer or audience of the JWKS is set, and no JWKS")
	case cfg.JWKS == "" && (cfg.JWKSUserClaim+cfg.JWKSRolesClaim != "" || len(cfg.JWKSRoles) > 0):
		return errors.New("claims or roles of the JWKS are set, and no JWKS")
	case cfg.JWKS != "" && (or(cfg.JWKSIssuer, cfg.JWTIssuer) == "" || or(cfg.JWKSAudience, cfg.JWTAudience) == ""):
		return errOpenJWKS
	case cfg.MaxTokenLife < 0 || cfg.MaxTokenLife > auth.MaxTTL:
		return fmt.Errorf("the maximum lifetime of a token must be up to %s", auth.MaxTTL)
	}
	if cfg.TokenTTL == 0 {
		cfg.TokenTTL = httpapi.DefaultTokenTTL
	}
	if cfg.MaxTokenLife == 0 {
		cfg.MaxTokenLife = max(DefaultMaxTokenLife, cfg.TokenTTL)
	}
	if cfg.RefreshTTL == 0 {
		cfg.RefreshTTL = accounts.DefaultRefreshTTL
	}
	if cfg.RefreshMaxLife == 0 {
		cfg.RefreshMaxLife = auth.MaxTTL
	}
	if cfg.RefreshMaxLife < cfg.RefreshTTL || cfg.RefreshMaxLife > auth.MaxTTL {
		return fmt.Errorf("the maximum life of a login is %s, it must be from the refresh TTL, %s, to %s", cfg.RefreshMaxLife, cfg.RefreshTTL, auth.MaxTTL)
	}
	if cfg.TokenTTL > cfg.MaxTokenLife {
		return fmt.Errorf("tokens from login are valid for %s, but none may live longer than %s", cfg.TokenTTL, cfg.MaxTokenLife)
	}
	return nil
}
