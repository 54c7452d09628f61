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

// DefaultMaxTokenLife is how long a token may live, unless login gives longer ones.
const DefaultMaxTokenLife = 30 * 24 * time.Hour

// tokens is what a node believes tokens by.
type tokens struct {
	own      *auth.HS256 // nil: no tokens of this cluster's own
	other    *auth.JWKS  // nil: none of another issuer
	revoked  *accounts.Revocations
	renewals *accounts.Renewals // nil: no login can be renewed
	verifier auth.Verifier      // all of it
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

// or returns the first that is not empty.
func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// AnyClaim in [Config.JWKSIssuer] and [Config.JWKSAudience] takes whatever tokens
// say there.
const AnyClaim = "*"

// demanded is what a claim of a token by the JWKS must be; empty for anything.
func demanded(own, common string) string {
	if own == AnyClaim {
		return ""
	}
	return or(own, common)
}

// still returns an error for claims that were good once and are not any more.
func (t *tokens) still(c auth.Claims) error {
	if t.other != nil {
		if err := t.other.Check(c); err != nil {
			return err
		}
	}
	return t.revoked.Check(c)
}

// closeRevoked ends the sockets whose tokens are good no longer.
func (n *Node) closeRevoked() {
	if closed := n.sockets.CloseRevoked(); closed > 0 {
		n.log.Info().Int("connections", closed).Msg("closed sockets of revoked tokens")
	}
}

// issue adds to the web API what issues tokens, if this cluster does.
func (t *tokens) issue(cfg *httpapi.Config, users *accounts.Store) {
	cfg.Verifier, cfg.Revoker = t.verifier, users
	if t.own != nil {
		cfg.Logins, cfg.Issuer, cfg.Accounts = users, t.own, users
	}
	if t.renewals != nil { // and no nil pointer in an interface
		cfg.Renewals = t.renewals
	}
}

// assembleRenewals makes n.tokens.renewals, where logins can be renewed.
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

// load reads what tokens are verified by, before any is. A JWKS on a server that
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

// runTokens keeps up with both until ctx ends.
func (n *Node) runTokens(ctx context.Context) {
	n.running.Go(func() error { return n.tokens.revoked.Run(ctx) })
	if n.tokens.other != nil {
		n.running.Go(func() error { return n.tokens.other.Run(ctx) })
	}
}

// errOpenJWKS keeps a node from taking what another issuer has made for others
// unless that was asked for.
var errOpenJWKS = errors.New("an issuer and an audience must be required of tokens of the JWKS, or tokens that it issues " +
	"for other services are accepted here: set --jwks-issuer and --jwks-audience, or \"*\" for any")

// completeTokens checks and fills in what tokens are verified by.
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
