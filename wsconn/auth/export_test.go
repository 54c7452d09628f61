package auth

// CheckRedirect is the redirect rule of a JWKS's own client.
var CheckRedirect = checkRedirect

func (t *tokenCache) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.young) + len(t.old)
}
