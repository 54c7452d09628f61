package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// agree marks the secrets that all nodes of a cluster must have in common, for
// cluster.Config.Agree. A mark is 48 bits of an HMAC under the secret over the
// prefix: enough to detect a difference, and useless otherwise.
func (cfg *Config) agree() map[string][]string {
	mark := func(name string, secret []byte) string {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte("conclave: nodes agree: " + name + ": " + cfg.RedisPrefix))
		return hex.EncodeToString(mac.Sum(nil)[:6])
	}
	marks := map[string][]string{}
	if len(cfg.JWTSecret) > 0 {
		marks["jwt-secret"] = []string{mark("jwt", cfg.JWTSecret)}
		if len(cfg.JWTSecretPrevious) > 0 {
			marks["jwt-secret"] = append(marks["jwt-secret"], mark("jwt", cfg.JWTSecretPrevious))
		}
	}
	if len(cfg.ShareKEK) > 0 {
		marks["share-kek"] = []string{mark("kek", []byte(cfg.ShareKEK))}
	}
	return marks
}
