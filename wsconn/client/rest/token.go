package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TokenSource returns a valid token, or an error. It is called often and should
// cache its token; it may wait for a new one until ctx ends. An error that is a
// *wire.Error and not temporary stops the client, any other is retried.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken is a source of one token.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// Subject reads the user id from a token without verifying it, which is the
// server's task: that of its sub, as in [wire.UserOf]. If the servers use another
// claim (--jwks-user-claim), it must be given as Config.User.
func Subject(token string) (string, error) {
	var claims struct {
		Subject string `json:"sub"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("the token is not a JWT")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(raw, &claims) != nil {
		return "", errors.New("the token is not a JWT")
	}
	if wire.StoredID(claims.Subject) && !strings.HasPrefix(claims.Subject, wire.SubjectPrefix) {
		return claims.Subject, nil
	}
	user, ok := wire.UserOf(claims.Subject)
	if !ok {
		return "", errors.New("the token does not name a user (sub)")
	}
	return user, nil
}
