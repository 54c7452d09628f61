package auth

// CheckRedirect is what a JWKS's own client follows redirects by.
var CheckRedirect = checkRedirect
