//go:build !unix

package secret

func noCore() error { return nil }
