package auth

// CheckRedirect is what a JWKS's own client follows redirects by.
var CheckRedirect = checkRedirect

func (t *tokenCache) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.young) + len(t.old)
}
