package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// Defaults of [JWKSConfig].
	defaultURLEvery     = 5 * time.Minute
	defaultFileEvery    = 2 * time.Second
	defaultUnknownEvery = 10 * time.Second

	fetchWithin  = 5 * time.Second
	maxJWKSBytes = 512 << 10
	maxRedirects = 3
)

// JWKSConfig configures [NewJWKS].
type JWKSConfig struct {
	// Source is a file, or an http:// or https:// URL. Required.
	Source string
	// Issuer and Audience, where set, must be a token's iss and aud. Without an
	// audience, tokens that the issuer made for any other service are valid here.
	Issuer   string
	Audience string
	// UserClaim and RolesClaim are the claims that name the user and its roles: a
	// claim's name, or, beginning with /, a JSON pointer to a nested one, as
	// /realm_access/roles. Zero values mean sub, and role and roles. The user claim
	// is mapped by wire.UserOf.
	UserClaim, RolesClaim string
	// Roles maps the issuer's role names to this cluster's roles; no others count
	// then. Nil means that the names are the same.
	Roles map[string]string
	// MaxLife is the longest a token may live, from iat and from now.
	// Zero value means MaxTTL.
	MaxLife time.Duration

	// Every is how often the source is read again. Zero value means 5 minutes for
	// a URL and 2 seconds for a file.
	Every time.Duration
	// UnknownEvery is the minimum interval between extra reads of the source caused
	// by an unknown kid. Zero value means 10 seconds.
	UnknownEvery time.Duration
	// Client makes the requests. Nil means the package's own.
	Client *http.Client
	// Changed, where not nil, is called after the set has been replaced by another.
	Changed func()
	// Report, where not nil, gets errors for the operator: a source that cannot be
	// read, and each key that is skipped.
	Report func(error)
	// Now replaces time.Now where not nil.
	Now func() time.Time
}

// JWKS verifies tokens of another issuer by the public keys it publishes (RFC
// 7517): RS256, ES256 and EdDSA on Ed25519, each key for one of them. A token
// must name its key (kid).
//
// The set is read by [JWKS.Load], repeatedly by [JWKS.Run], and when a kid is
// unknown. While its source fails, the last valid set stays; a readable set
// replaces it whole, even if it has fewer keys or none.
type JWKS struct {
	cfg    JWKSConfig
	policy *policy
	remote bool

	set atomic.Pointer[keySet]
	raw []byte // source text of set; guarded by turn

	turn    chan struct{} // held while reading the source
	tried   time.Time     // last attempt; guarded by turn
	failing error         // of the last attempt, nil if it succeeded; guarded by turn
}

// NewJWKS checks cfg. It does no I/O: until [JWKS.Load] has succeeded once, it
// verifies nothing.
func NewJWKS(cfg JWKSConfig) (*JWKS, error) {
	j := &JWKS{turn: make(chan struct{}, 1)}
	if scheme, _, ok := strings.Cut(cfg.Source, "://"); ok {
		u, err := url.Parse(cfg.Source)
		if err != nil || u.Host == "" || scheme != "http" && scheme != "https" {
			return nil, errors.New("jwks: want a file, or an http:// or https:// URL")
		}
		j.remote = true
	} else if cfg.Source == "" {
		return nil, errors.New("jwks: no source")
	}
	preset := defaultFileEvery
	if j.remote {
		preset = defaultURLEvery
	}
	for field, preset := range map[*time.Duration]time.Duration{
		&cfg.Every: preset, &cfg.UnknownEvery: defaultUnknownEvery, &cfg.MaxLife: MaxTTL,
	} {
		if *field == 0 {
			*field = preset
		}
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: fetchWithin, CheckRedirect: checkRedirect}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Report == nil {
		cfg.Report = func(error) {}
	}
	j.cfg = cfg
	var err error
	if j.policy, err = newPolicy(jwksAlgorithms, cfg.Issuer, cfg.Audience, cfg.MaxLife, cfg.Now); err != nil {
		return nil, err
	}
	mapped, err := newMapping(cfg.UserClaim, cfg.RolesClaim, cfg.Roles)
	if err != nil {
		return nil, fmt.Errorf("jwks: %w", err)
	}
	j.policy.mapping = &mapped
	return j, nil
}

// Remote reports whether the source is a URL.
func (j *JWKS) Remote() bool { return j.remote }

// checkRedirect refuses redirects that would remove the encryption.
func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if via[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
		return errors.New("redirected from https to " + next.URL.Scheme)
	}
	return nil
}

// Load reads the source now.
func (j *JWKS) Load(ctx context.Context) error {
	select {
	case j.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-j.turn }()
	return j.load(ctx)
}

// Run reads the source repeatedly until ctx ends.
func (j *JWKS) Run(ctx context.Context) error {
	tick := time.NewTicker(j.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = j.Load(ctx) // reported by load
		}
	}
}

// load reads the source once it holds the turn.
func (j *JWKS) load(ctx context.Context) error {
	err := j.replace(ctx)
	j.tried = j.cfg.Now()
	// A missing file is reported once, not every 2 seconds.
	if err != nil && (j.failing == nil || j.failing.Error() != err.Error()) && ctx.Err() == nil {
		j.cfg.Report(err)
	}
	j.failing = err
	return err
}

// replace reads the source and installs a set that differs.
func (j *JWKS) replace(ctx context.Context) error {
	raw, err := j.read(ctx)
	if err != nil {
		return fmt.Errorf("read JWKS: %w", err)
	}
	if j.set.Load() != nil && bytes.Equal(raw, j.raw) {
		return nil
	}
	set, passedOver, err := parseKeySet(raw)
	if err != nil {
		return fmt.Errorf("read JWKS: %w", err)
	}
	for _, reason := range passedOver {
		j.cfg.Report(fmt.Errorf("jwks: passed over %w", reason))
	}
	if len(set.keys) == 0 {
		j.cfg.Report(errors.New("jwks: the set has no key that verifies tokens: all tokens of its issuer are refused"))
	}
	j.raw = raw
	if j.set.Swap(set) != nil {
		j.cfg.Changed()
	}
	return nil
}

func (j *JWKS) read(ctx context.Context) ([]byte, error) {
	if !j.remote {
		f, err := os.Open(j.cfg.Source)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readBounded(f)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.cfg.Source, nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := j.cfg.Client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // it repeats the URL, which may hold a password
			err = u.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %d", resp.StatusCode)
	}
	return readBounded(resp.Body)
}

func readBounded(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxJWKSBytes+1))
	if err == nil && len(raw) > maxJWKSBytes {
		err = fmt.Errorf("longer than %d bytes", maxJWKSBytes)
	}
	return raw, err
}

// Verify implements [Verifier]. It caches valid tokens, by their SHA-256, until
// they expire or the set changes.
func (j *JWKS) Verify(ctx context.Context, token string) (Claims, error) {
	if len(token) > wire.MaxTokenBytes {
		return Claims{}, errTokenTooLong()
	}
	sum := sha256.Sum256([]byte(token))
	set := j.set.Load()
	if set != nil {
		if c, ok := set.cache.get(sum); ok {
			return c.unexpired(j.cfg.Now())
		}
	}
	h, err := parseHeader(token)
	if err != nil {
		return Claims{}, err
	}
	if h.kid == "" {
		return Claims{}, badToken("header has no kid")
	}
	set, key, err := j.key(ctx, set, h.kid)
	if err != nil {
		return Claims{}, err
	}
	c, _, err := j.policy.verify(token, key.of)
	if err == nil {
		err = c.nameable()
	}
	if err != nil {
		return Claims{}, err
	}
	c.Key = key.thumbprint
	set.cache.put(sum, c)
	return c, nil
}

// key returns the key with that kid, and its set: the current one, nil for none, or
// a newer one. It reads the source for a kid that the set lacks, unless that was
// tried just now.
func (j *JWKS) key(ctx context.Context, set *keySet, kid string) (*keySet, publicKey, error) {
	if key, ok := set.find(kid); ok {
		return set, key, nil
	}
	select {
	case j.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, publicKey{}, fmt.Errorf("wait for the JWKS: %w: %w", errKeysUnavailable, ctx.Err())
	}
	defer func() { <-j.turn }()
	set = j.set.Load()
	key, ok := set.find(kid)
	if !ok && (j.tried.IsZero() || j.cfg.Now().Sub(j.tried) >= j.cfg.UnknownEvery) {
		// For all callers, not only this one, which may leave meanwhile.
		_ = j.load(context.WithoutCancel(ctx))
		set = j.set.Load()
		key, ok = set.find(kid)
	}
	switch {
	case ok:
		return set, key, nil
	case j.failing != nil:
		return nil, key, fmt.Errorf("%w: %w", errKeysUnavailable, j.failing)
	}
	return nil, key, badToken(whatNoKey)
}

var errKeysUnavailable = wire.Errorf(wire.CodeUnavailable, "the token issuer's keys cannot be read now; try again")

// Check returns an error for a token whose key is no longer in the set, so that
// sockets opened with it can be closed.
func (j *JWKS) Check(c Claims) error {
	if set := j.set.Load(); c.Key != "" && (set == nil || !set.holds(c.Key)) {
		return badToken(whatOldKey)
	}
	return nil
}
