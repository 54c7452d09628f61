package client

import (
	"context"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// freshToken gets a token from the source, and reports whether it is a new one.
func (c *Client) freshToken(ctx context.Context) (changed bool, err error) {
	if c.tokenSpent() {
		_, spent := c.credentials()
		ctx = rest.WithSpentToken(ctx, spent)
	}
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return false, err
	}
	token = strings.TrimSpace(token)
	user := c.cfg.User
	if user == "" {
		if user, err = rest.Subject(token); err != nil {
			return false, &wire.Error{Code: wire.CodeUnauthenticated, Message: err.Error()}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user != "" && c.user != user {
		return false, &wire.Error{Code: wire.CodeUnauthenticated, Message: "the token is now another user's"}
	}
	changed = token != c.token
	c.token, c.user = token, user
	return changed, nil
}

func (c *Client) credentials() (user, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user, c.token
}

// tokenEvery is how often the source is queried for a newer token: an eighth of the
// token's life if that is less than Config.TokenEvery.
func (c *Client) tokenEvery() time.Duration {
	_, token := c.credentials()
	from, until := rest.Token{Secret: token, ReceivedAt: time.Now()}.Life()
	if life := until.Sub(from); life > 0 {
		return max(min(c.cfg.TokenEvery, life/8), 50*time.Millisecond)
	}
	return c.cfg.TokenEvery
}
